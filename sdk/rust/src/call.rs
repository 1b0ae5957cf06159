//! One request on its way: what to send, and what your `send` tells of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{json, Map, Value};

use crate::messages::{now, ns, Hello, Session, Stage, Turn};
use crate::report::{Report, Row};

/// Why a request failed, as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    Connect,
    Tls,
    #[serde(rename = "http_4xx")]
    Http4xx,
    #[serde(rename = "http_429")]
    Http429,
    #[serde(rename = "http_5xx")]
    Http5xx,
    Redirect,
    TimeoutConnect,
    TimeoutFirstToken,
    TimeoutTotal,
    Protocol,
    Truncated,
    ServerErrorEvent,
    NoContent,
}

/// What became of a request that was not answered well. `message` never holds prompt or response text.
#[derive(Debug)]
pub enum Failure {
    Failed {
        class: ErrorClass,
        message: String,
    },
    /// The load is over; [`Call::check`] says so.
    Cancelled,
}

impl Failure {
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Failure::Failed { class, message: message.into() }
    }
}

/// One request. `send` reads [`path`](Call::path) and [`body`](Call::body), calls [`connected`](Call::connected),
/// [`mark_sent`](Call::mark_sent) and [`chunk`](Call::chunk) when these happen, and sets what the response told.
/// While it waits it calls [`check`](Call::check) every [`Call::POLL`] and passes its error on.
pub struct Call<'a> {
    pub hello: &'a Hello,
    pub stage: &'a Stage,
    pub session: &'a Session,
    pub turn: &'a Turn,
    pub request_id: u64,
    pub http_status: Option<u16>,
    pub finish_reason: Option<String>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    /// Tokens of each chunk, where the server tells.
    pub chunk_tokens: Vec<u64>,
    /// The text of an answer that was not streamed.
    pub text: String,
    pub(crate) history: &'a [Value],
    pub(crate) said: &'a str,
    pub(crate) report: &'a Report,
    pub(crate) cancel: &'a AtomicBool,
    pub(crate) began: i64,
    pub(crate) ready: i64,
    pub(crate) sent: Option<i64>,
    pub(crate) connect: Option<i64>,
    pub(crate) chunks: Vec<i64>,
}

impl Call<'_> {
    /// How long to wait for bytes at most before the next [`check`](Call::check).
    pub const POLL: Duration = Duration::from_millis(50);

    /// Comes behind the base URL.
    pub fn path(&self) -> &'static str {
        match self.stage.endpoint.as_str() {
            "chat" => "/v1/chat/completions",
            _ => "/v1/completions",
        }
    }

    /// The JSON body, the same as the native generator sends.
    pub fn body(&self) -> Vec<u8> {
        let turn = self.turn;
        let mut fields = Map::new();
        fields.insert("model".into(), json!(self.session.model));
        if self.stage.endpoint == "chat" {
            let added = turn.messages.iter().flatten();
            fields.insert("messages".into(), self.history.iter().chain(added).cloned().collect());
        } else if let Some(ids) = &turn.token_ids {
            fields.insert("prompt".into(), json!(ids));
        } else {
            let text = turn.text.as_deref().unwrap_or_default();
            fields.insert("prompt".into(), Value::String(format!("{}{text}", self.said)));
        }
        if let Some(tokens) = turn.output_asked {
            fields.insert("max_tokens".into(), json!(tokens));
        }
        fields.insert("stream".into(), json!(self.stage.streaming));
        if self.stage.streaming {
            fields.insert("stream_options".into(), json!({"include_usage": true}));
        }
        fields.extend(self.hello.parameters.clone());
        fields.extend(turn.params.clone());
        Value::Object(fields).to_string().into_bytes()
    }

    /// A connection had to be set up for this request, which took so long: not the client's own delay.
    pub fn connected(&mut self, took: Duration) {
        let took = took.as_nanos() as i64;
        self.connect = Some(took);
        if self.sent.is_none() {
            self.ready += took;
        }
    }

    /// Call just before the first byte is written; the first call counts.
    pub fn mark_sent(&mut self) {
        if self.sent.is_none() {
            let at = now();
            self.sent = Some(at);
            self.report.sent(self.request_id, at);
        }
    }

    /// A piece of the answer that carries content came at this time.
    pub fn chunk(&mut self, text: &str, at: i64) {
        self.chunks.push(at);
        self.report.chunk();
        if self.session.turns.len() > 1 {
            self.text.push_str(text);
        }
    }

    /// An error where the load is over or a time limit has passed: return it from `send`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Failure::Cancelled);
        }
        let Some(sent) = self.sent else { return Ok(()) };
        let (limits, waited) = (&self.hello.timeouts, now() - sent);
        if waited > ns(limits.total_s) {
            let text = format!("no end within {} s", limits.total_s);
            return Err(Failure::new(ErrorClass::TimeoutTotal, text));
        }
        if self.stage.streaming && self.chunks.is_empty() && waited > ns(limits.first_token_s) {
            let text = format!("no content within {} s", limits.first_token_s);
            return Err(Failure::new(ErrorClass::TimeoutFirstToken, text));
        }
        Ok(())
    }

    pub(crate) fn row(&self, outcome: &Result<(), Failure>) -> Row {
        let sent = self.sent.unwrap_or(self.began);
        let counted = self.output_tokens.is_some();
        let by_chunks = !counted && outcome.is_ok() && !self.chunks.is_empty();
        let (status, error_class, error) = match outcome {
            Ok(()) => ("ok", None, None),
            Err(Failure::Cancelled) => ("cancelled", None, None),
            Err(Failure::Failed { class, message }) => {
                ("failed", Some(*class), Some(message.chars().take(300).collect()))
            }
        };
        Row {
            request_id: self.request_id,
            status,
            sent,
            end: now(),
            ready: self.ready,
            first_token: self.chunks.first().copied(),
            last_token: self.chunks.last().copied(),
            connect: self.connect,
            chunk_times: self.chunks.iter().map(|at| (at - sent) / 1000).collect(),
            chunk_tokens: if self.chunk_tokens.len() == self.chunks.len() { self.chunk_tokens.clone() } else { vec![] },
            input_tokens: self.input_tokens,
            input_source: self.input_tokens.map(|_| "usage"),
            output_tokens: if by_chunks { Some(self.chunks.len() as u64) } else { self.output_tokens },
            output_source: if by_chunks { Some("chunks") } else { self.output_tokens.map(|_| "usage") },
            cached_tokens: self.cached_tokens,
            finish_reason: self.finish_reason.clone(),
            error_class,
            error,
            http_status: self.http_status,
        }
    }
}
