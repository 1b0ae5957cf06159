//! `serve`: the protocol from hello to done, around a generator of yours.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{mpsc, Arc};
use std::thread;

use serde::Deserialize;
use serde_json::json;

use crate::call::{Call, Failure};
use crate::messages::{Hello, Schedule, Stage, Start, PROTOCOL};
use crate::report::Say;
use crate::stage::StageLoad;

/// Yours to write. `send` does one request; the kit calls it when the schedule and the concurrency say so, each call in
/// a thread of its own.
pub trait Generator: Send + Sync + 'static {
    fn name(&self) -> &str;
    fn version(&self) -> &str;
    /// See [`crate::ALL_CAPABILITIES`].
    fn capabilities(&self) -> Vec<&'static str>;
    /// Once, before anything else. An error ends the run with its text.
    fn open(&mut self, hello: &Hello) -> Result<(), String>;
    /// Before each stage: open about so many connections, so that set-up is not part of the load.
    fn prepare(&self, connections: usize);
    /// Send `call.body()` to the URL and `call.path()`; return when the answer is complete. A panic is a bug and ends
    /// the run.
    fn send(&self, call: &mut Call) -> Result<(), Failure>;
}

enum News {
    Line(Vec<u8>),
    Ended(bool),
    Gone,
}

/// Speak the protocol on stdin and stdout until the tool says quit. stdout is the protocol's alone: log to stderr.
pub fn serve<G: Generator>(generator: G) -> Result<(), String> {
    serve_on(generator, std::io::stdin(), Box::new(std::io::stdout()))
}

pub(crate) fn serve_on<G: Generator>(
    generator: G,
    input: impl Read + Send + 'static,
    output: Box<dyn Write + Send>,
) -> Result<(), String> {
    let say = Say::new(output);
    let (tell, news) = mpsc::channel();
    let lines = tell.clone();
    thread::spawn(move || read(input, &lines));
    let outcome = Server { say: say.clone(), tell, hello: None, current: None }.run(generator, &news);
    if let Err(message) = &outcome {
        say.say(&json!({"type": "error", "message": message.chars().take(2000).collect::<String>()}));
    }
    outcome
}

fn read(input: impl Read, tell: &mpsc::Sender<News>) {
    let mut lines = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        if tell.send(News::Line(std::mem::take(&mut line))).is_err() {
            return;
        }
    }
    let _ = tell.send(News::Gone);
}

struct Server {
    say: Say,
    tell: mpsc::Sender<News>,
    hello: Option<Arc<Hello>>,
    current: Option<Arc<StageLoad>>,
}

impl Server {
    fn run<G: Generator>(mut self, mut generator: G, news: &mpsc::Receiver<News>) -> Result<(), String> {
        // hello comes first: until it is answered, the generator is not shared with any thread
        loop {
            match news.recv() {
                Ok(News::Line(line)) if kind(&line)? == "hello" => break self.greet(&mut generator, &line)?,
                Ok(News::Line(_)) => continue,
                _ => return Err("the tool is gone".into()),
            }
        }
        let generator = Arc::new(generator);
        loop {
            match news.recv() {
                Ok(News::Line(line)) => match kind(&line)?.as_str() {
                    "quit" => {
                        self.say.say(&json!({"type": "done"}));
                        return Ok(());
                    }
                    "stage" => self.begin(&generator, parse(&line)?)?,
                    other => self.pass_on(other, &line)?,
                },
                Ok(News::Ended(true)) => {}
                Ok(News::Ended(false)) => return Err("send panicked; see the log".into()),
                _ => return Err("the tool is gone".into()), // nobody wants this load any more
            }
        }
    }

    fn greet<G: Generator>(&mut self, generator: &mut G, line: &[u8]) -> Result<(), String> {
        let mut hello: Hello = parse(line)?;
        if hello.protocol != PROTOCOL {
            return Err(format!("the tool speaks {:?}, this generator {PROTOCOL:?}", hello.protocol));
        }
        if let Ok(headers) = std::env::var(&hello.endpoint.headers_env) {
            hello.headers = serde_json::from_str(&headers).map_err(|_| "the headers are not a JSON object")?;
        }
        generator.open(&hello)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.say.say(&json!({
            "type": "ready", "protocol": PROTOCOL, "name": generator.name(), "version": generator.version(),
            "capabilities": generator.capabilities(), "cores": cores,
        }));
        self.hello = Some(Arc::new(hello));
        Ok(())
    }

    fn begin<G: Generator>(&mut self, generator: &Arc<G>, stage: Stage) -> Result<(), String> {
        let hello = self.hello.clone().ok_or("a stage before hello")?;
        let load = Arc::new(StageLoad::new(stage, hello, self.say.clone()));
        self.current = Some(load.clone());
        let (generator, tell) = (generator.clone(), self.tell.clone());
        thread::spawn(move || {
            generator.prepare(load.connections());
            let _ = tell.send(News::Ended(load.run(&generator)));
        });
        Ok(())
    }

    /// A stage's own messages go to it; those of a stage that is over, or of a later version, are void.
    fn pass_on(&self, kind: &str, line: &[u8]) -> Result<(), String> {
        let Some(load) = &self.current else { return Ok(()) };
        match kind {
            "stop" => load.stop(),
            "schedule" => {
                let schedule: Schedule = parse(line)?;
                if schedule.stage == load.stage.stage {
                    load.feed(schedule.sessions, schedule.last);
                }
            }
            "start" => {
                let start: Start = parse(line)?;
                if start.stage == load.stage.stage {
                    load.start(start.at);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn kind(line: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: String,
    }
    parse::<Kind>(line).map(|kind| kind.r#type)
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| format!("a message cannot be understood: {error}"))
}

#[cfg(test)]
#[path = "serve_test.rs"]
mod tests;
