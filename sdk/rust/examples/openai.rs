//! A load generator for llm-d-benchmark on std::net: OpenAI chat and completions over plain HTTP/1.1.
//!
//!     native: {command: [./openai]}

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use llm_d_loadgen::{now, serve, Call, ErrorClass, Failure, Generator, Hello, ALL_CAPABILITIES};
use serde::Deserialize;
use serde_json::Value;

fn main() {
    if let Err(message) = serve(OpenAI::default()) {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

#[derive(Default)]
struct OpenAI {
    address: String,
    base: String,
    headers: String,
    connect: Duration,
    idle: Mutex<Vec<TcpStream>>,
}

impl Generator for OpenAI {
    fn name(&self) -> &str {
        "openai-rust"
    }

    fn version(&self) -> &str {
        "1.0"
    }

    fn capabilities(&self) -> Vec<&'static str> {
        ALL_CAPABILITIES.into_iter().filter(|&name| name != "tls").collect()
    }

    fn open(&mut self, hello: &Hello) -> Result<(), String> {
        let rest = hello.endpoint.url.strip_prefix("http://").ok_or("only http:// is spoken here")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let has_port = host.rfind(':') > host.rfind(']');
        self.address = if has_port { host.to_string() } else { format!("{host}:80") };
        self.base = path.trim_end_matches('/').to_string();
        self.headers = format!("Host: {host}\r\nContent-Type: application/json\r\nAccept: */*\r\n");
        for (name, value) in &hello.headers {
            self.headers += &format!("{name}: {value}\r\n");
        }
        self.connect = Duration::from_secs_f64(hello.timeouts.connect_s);
        Ok(())
    }

    fn prepare(&self, connections: usize) {
        let missing = connections.saturating_sub(self.idle.lock().unwrap().len());
        let opened = (0..missing).map_while(|_| self.dial().ok()).collect::<Vec<_>>();
        self.idle.lock().unwrap().extend(opened);
    }

    fn send(&self, call: &mut Call) -> Result<(), Failure> {
        let body = call.body();
        let head = format!("POST {}{} HTTP/1.1\r\n{}", self.base, call.path(), self.headers);
        let mut request = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend(body);
        loop {
            let idle = self.idle.lock().unwrap().pop();
            let reused = idle.is_some();
            let connection = match idle {
                Some(connection) => connection,
                None => {
                    let began = Instant::now();
                    let connection = self.dial()?;
                    call.connected(began.elapsed());
                    connection
                }
            };
            let mut answer = Answer::default();
            match exchange(call, &connection, &request, &mut answer) {
                // the server had closed an idle connection: once more on another one
                Err(Failure::Failed { .. }) if reused && answer.untouched() && call.check().is_ok() => continue,
                outcome => outcome?,
            }
            if answer.keep_alive {
                self.idle.lock().unwrap().push(connection);
            }
            return answer.judge(call);
        }
    }
}

impl OpenAI {
    fn dial(&self) -> Result<TcpStream, Failure> {
        let no = |error: std::io::Error| match error.kind() {
            ErrorKind::TimedOut => Failure::new(ErrorClass::TimeoutConnect, "no connection in time"),
            kind => Failure::new(ErrorClass::Connect, format!("no connection: {kind}")),
        };
        let address = self.address.to_socket_addrs().map_err(no)?.next();
        let address = address.ok_or_else(|| Failure::new(ErrorClass::Connect, "the host has no address"))?;
        let connection = TcpStream::connect_timeout(&address, self.connect).map_err(no)?;
        connection.set_nodelay(true).map_err(no)?;
        connection.set_read_timeout(Some(Call::POLL)).map_err(no)?;
        Ok(connection)
    }
}

/// Send a request and read its whole response.
fn exchange(call: &mut Call, mut connection: &TcpStream, request: &[u8], answer: &mut Answer) -> Result<(), Failure> {
    call.mark_sent();
    let write = connection.write_all(request);
    let mut buffer = [0; 16 * 1024];
    write.map_err(|_| Failure::new(ErrorClass::Connect, "connection reset before any response"))?;
    while !answer.complete {
        let read = connection.read(&mut buffer);
        let at = now();
        match read {
            Ok(0) => return answer.closed(),
            Ok(n) => answer.feed(call, &buffer[..n], at)?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) if answer.status == 0 => {
                return Err(Failure::new(ErrorClass::Connect, "connection reset before any response"))
            }
            Err(_) => return Err(lost()),
        }
        call.check()?;
    }
    Ok(())
}

fn lost() -> Failure {
    Failure::new(ErrorClass::Truncated, "connection lost before the end of the response")
}

fn not_http() -> Failure {
    Failure::new(ErrorClass::Protocol, "not HTTP/1.1")
}

/// A response as it comes: HTTP/1.1 around events of a stream, or around one JSON object.
#[derive(Default)]
struct Answer {
    status: u16,
    keep_alive: bool,
    complete: bool,
    chunked: bool,
    length: Option<usize>,
    raw: Vec<u8>,
    body: Vec<u8>,
    whole: bool,
    content: bool,
}

impl Answer {
    fn untouched(&self) -> bool {
        self.status == 0 && self.raw.is_empty()
    }

    fn closed(&mut self) -> Result<(), Failure> {
        if self.status == 0 {
            return Err(Failure::new(ErrorClass::Truncated, "connection closed before any response"));
        }
        if self.chunked || self.length.is_some() {
            return Err(lost());
        }
        self.complete = true; // a body without a length ends with its connection
        Ok(())
    }

    fn feed(&mut self, call: &mut Call, data: &[u8], at: i64) -> Result<(), Failure> {
        self.raw.extend_from_slice(data);
        while !self.complete && !self.raw.is_empty() && self.step(call, at)? {}
        Ok(())
    }

    /// Take one piece off what has come; whether it was a whole one, so that another may follow.
    fn step(&mut self, call: &mut Call, at: i64) -> Result<bool, Failure> {
        if self.status == 0 {
            let Some(end) = find(&self.raw, b"\r\n\r\n") else {
                let n = self.raw.len().min(5);
                return if self.raw[..n] == b"HTTP/"[..n] { Ok(false) } else { Err(not_http()) };
            };
            let head: Vec<u8> = self.raw.drain(..end + 4).collect();
            self.head(call, &String::from_utf8_lossy(&head))?;
        } else if self.chunked {
            let Some(line) = find(&self.raw, b"\r\n") else { return Ok(false) };
            let size = std::str::from_utf8(&self.raw[..line]).ok().and_then(|text| text.split(';').next());
            let size = size.and_then(|text| usize::from_str_radix(text.trim(), 16).ok()).ok_or_else(not_http)?;
            let end = line + 2 + size;
            if self.raw.len() < end + 2 {
                return Ok(false);
            }
            let piece: Vec<u8> = self.raw.drain(..end + 2).skip(line + 2).take(size).collect();
            self.complete = size == 0;
            self.content(call, &piece, at)?;
        } else {
            let n = self.length.unwrap_or(usize::MAX).min(self.raw.len());
            let piece: Vec<u8> = self.raw.drain(..n).collect();
            self.length = self.length.map(|left| left - n);
            self.complete = self.length == Some(0);
            self.content(call, &piece, at)?;
        }
        Ok(true)
    }

    fn head(&mut self, call: &mut Call, head: &str) -> Result<(), Failure> {
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status: u16 = first.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(not_http)?;
        if !first.starts_with("HTTP/1.") {
            return Err(not_http());
        }
        if status < 200 {
            return Ok(()); // informational: the real one follows
        }
        self.status = status;
        self.keep_alive = true;
        call.http_status = Some(status);
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or_default();
            let value = value.trim().to_ascii_lowercase();
            match name.to_ascii_lowercase().as_str() {
                "transfer-encoding" => self.chunked = value.contains("chunked"),
                "content-length" => self.length = Some(value.parse().map_err(|_| not_http())?),
                "connection" if value.contains("close") => self.keep_alive = false,
                _ => {}
            }
        }
        self.complete = !self.chunked && self.length == Some(0);
        self.keep_alive &= self.chunked || self.length.is_some();
        Ok(())
    }

    /// Bytes of the body: events are taken up as soon as their line is whole.
    fn content(&mut self, call: &mut Call, piece: &[u8], at: i64) -> Result<(), Failure> {
        self.body.extend_from_slice(piece);
        if !call.stage.streaming || self.status != 200 {
            return Ok(());
        }
        let mut begin = 0;
        while let Some(length) = self.body[begin..].iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.body[begin..begin + length].to_vec();
            begin += length + 1;
            if let Some(data) = line.strip_prefix(b"data:") {
                self.event(call, data.trim_ascii(), at)?;
            }
        }
        self.body.drain(..begin);
        Ok(())
    }

    fn event(&mut self, call: &mut Call, data: &[u8], at: i64) -> Result<(), Failure> {
        if data == b"[DONE]" {
            self.whole = true;
            return Ok(());
        }
        let event: Event = serde_json::from_slice(data)
            .map_err(|_| Failure::new(ErrorClass::Protocol, "the response is not the JSON of the OpenAI API"))?;
        if event.error.is_some() || event.object.as_deref() == Some("error") {
            return Err(Failure::new(ErrorClass::ServerErrorEvent, "error event"));
        }
        if let Some(usage) = event.usage {
            (call.input_tokens, call.output_tokens) = (usage.prompt_tokens, usage.completion_tokens);
            call.cached_tokens = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        }
        for choice in event.choices {
            let delta = choice.delta.or(choice.message).unwrap_or_default();
            let text = delta.content.or(choice.text).unwrap_or_default();
            let tools = delta.tool_calls.and_then(|calls| calls.as_array().map(|list| !list.is_empty()));
            let thought = delta.reasoning_content.or(delta.reasoning).is_some_and(|text| !text.is_empty());
            if !text.is_empty() || thought || tools == Some(true) {
                self.content = true;
                if call.stage.streaming {
                    call.chunk(&text, at);
                } else {
                    call.text = text;
                }
            }
            call.finish_reason = choice.finish_reason.or(call.finish_reason.take());
        }
        Ok(())
    }

    /// An error for an answer that is not a whole, good one.
    fn judge(mut self, call: &mut Call) -> Result<(), Failure> {
        if self.status != 200 {
            return Err(Failure::new(class_of(self.status), format!("HTTP {}", self.status)));
        }
        if !call.stage.streaming {
            let body = std::mem::take(&mut self.body);
            self.event(call, &body, now())?;
            if !self.content {
                return Err(Failure::new(ErrorClass::NoContent, "the response has no content"));
            }
        } else if !self.whole && call.finish_reason.is_none() && call.output_tokens.is_none() {
            let text = "the stream ended without a finish reason or [DONE]";
            return Err(Failure::new(ErrorClass::Truncated, text));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
    object: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    message: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Value>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

fn class_of(status: u16) -> ErrorClass {
    match status {
        300..=399 => ErrorClass::Redirect,
        429 => ErrorClass::Http429,
        400..=499 => ErrorClass::Http4xx,
        500.. => ErrorClass::Http5xx,
        _ => ErrorClass::Protocol,
    }
}

fn find(data: &[u8], what: &[u8]) -> Option<usize> {
    data.windows(what.len()).position(|window| window == what)
}
