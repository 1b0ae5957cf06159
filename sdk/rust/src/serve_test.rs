//! Both sides of the protocol in one process: the tool's lines are written here, the generator's are read.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, sleep, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{serve_on, Generator};
use crate::{now, Call, Failure, Hello, ALL_CAPABILITIES};

enum Fake {
    Answers,
    Never,
    Panics,
}

impl Generator for Fake {
    fn name(&self) -> &str {
        "fake"
    }
    fn version(&self) -> &str {
        "1"
    }
    fn capabilities(&self) -> Vec<&'static str> {
        ALL_CAPABILITIES.to_vec()
    }
    fn open(&mut self, _: &Hello) -> Result<(), String> {
        Ok(())
    }
    fn prepare(&self, _: usize) {}
    fn send(&self, call: &mut Call) -> Result<(), Failure> {
        call.mark_sent();
        match self {
            Fake::Answers => call.chunk("hi", now()),
            Fake::Panics => panic!("a bug"),
            Fake::Never => loop {
                call.check()?;
                sleep(Duration::from_millis(5));
            },
        }
        call.http_status = Some(200);
        Ok(())
    }
}

struct Tool {
    say: UnixStream,
    lines: BufReader<UnixStream>,
    served: JoinHandle<Result<(), String>>,
}

const HELLO: &str = r#"{"type":"hello","protocol":"llm-d-benchmark.loadgen/1","later":1,"endpoint":{"url":"http://x",
"model":"m","headers_env":"NONE","tls":{"verify":true,"ca_file":null}},"parameters":{"seed":1152921504606846977},
"timeouts":{"connect_s":1,"first_token_s":0.2,"total_s":1},"config":{}}"#;

const SESSIONS: &str = r#"[{"session":0,"request_id":0,"model":"m","turns":[{"messages":[{"role":"user","content":"a"}]}]},
{"session":1,"request_id":1,"model":"m","turns":[{"messages":[{"role":"user","content":"b"}]}]}]"#;

impl Tool {
    fn new(fake: Fake) -> Self {
        let (say, theirs) = UnixStream::pair().unwrap();
        let output = Box::new(theirs.try_clone().unwrap());
        let served = thread::spawn(move || serve_on(fake, theirs, output));
        let lines = BufReader::new(say.try_clone().unwrap());
        Tool { say, lines, served }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.say, "{}", text.replace('\n', "")).unwrap();
    }

    /// Reads up to a message of this type, and gives it with all rows on the way.
    fn until(&mut self, kind: &str) -> (Value, Vec<Value>) {
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "no {kind}");
            let message: Value = serde_json::from_str(&line).unwrap();
            rows.extend(message["rows"].as_array().cloned().unwrap_or_default());
            if message["type"] == kind {
                return (message, rows);
            }
        }
    }

    fn stage(&mut self, last: bool) {
        self.say(HELLO);
        self.until("ready");
        self.say(
            r#"{"type":"stage","stage":0,"name":"s","endpoint":"chat","streaming":true,"open_loop":false,
            "concurrency":2,"rate":null,"ramp_s":0,"load_s":null,"drain_s":5}"#,
        );
        self.until("stage_ready");
        self.say(&format!(r#"{{"type":"schedule","stage":0,"sessions":{SESSIONS},"last":{last}}}"#));
        self.say(r#"{"type":"start","stage":0,"at":1}"#);
    }
}

#[test]
fn every_request_is_reported_once() {
    let mut tool = Tool::new(Fake::Answers);
    tool.stage(true);
    let (end, rows) = tool.until("stage_end");
    assert_eq!((end["reason"].as_str(), rows.len()), (Some("exhausted"), 2));
    for row in rows {
        assert_eq!((row["status"].as_str(), row["output_tokens"].as_u64()), (Some("ok"), Some(1)));
        let times = ["ready", "sent", "first_token", "last_token", "end"].map(|name| row[name].as_i64().unwrap());
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{row}");
    }
    tool.say(r#"{"type":"quit"}"#);
    tool.until("done");
    assert_eq!(tool.served.join().unwrap(), Ok(()));
}

#[test]
fn stop_cancels_what_is_in_flight() {
    let mut tool = Tool::new(Fake::Never);
    tool.stage(false);
    tool.until("sent");
    let began = Instant::now();
    tool.say(r#"{"type":"stop"}"#);
    let (end, rows) = tool.until("stage_end");
    assert_eq!((end["reason"].as_str(), rows.len()), (Some("interrupted"), 2));
    assert!(rows.iter().all(|row| row["status"] == "cancelled"));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_time_limit_fails_the_request() {
    let mut tool = Tool::new(Fake::Never);
    tool.stage(true);
    let (_, rows) = tool.until("stage_end");
    assert_eq!(rows[0]["error_class"], "timeout_first_token");
}

#[test]
fn a_panic_ends_the_run_and_says_so() {
    let mut tool = Tool::new(Fake::Panics);
    tool.stage(true);
    let (error, _) = tool.until("error");
    assert!(error["message"].as_str().unwrap().contains("panicked"));
    assert!(tool.served.join().unwrap().is_err());
}

#[test]
fn another_protocol_is_refused() {
    let mut tool = Tool::new(Fake::Answers);
    tool.say(&HELLO.replace("loadgen/1", "loadgen/2"));
    let (error, _) = tool.until("error");
    assert!(error["message"].as_str().unwrap().contains("loadgen/2"));
}

#[test]
fn the_end_of_stdin_ends_it() {
    let tool = Tool::new(Fake::Answers);
    tool.say.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(tool.served.join().unwrap(), Err("the tool is gone".to_string()));
}
