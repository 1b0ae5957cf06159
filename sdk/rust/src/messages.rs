//! What the tool says, as types. Members that a later version of the tool adds are passed over.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The version this kit speaks.
pub const PROTOCOL: &str = "llm-d-benchmark.loadgen/1";

/// Everything the kit drives; leave out what your `send` cannot do. Retries are not part of the kit.
pub const ALL_CAPABILITIES: [&str; 9] = [
    "chat",
    "completions",
    "token_ids",
    "open_loop",
    "closed_loop",
    "streaming",
    "non_streaming",
    "conversations",
    "tls",
];

/// What holds for the whole run.
#[derive(Deserialize)]
pub struct Hello {
    pub protocol: String,
    pub endpoint: Endpoint,
    /// Request parameters of the user; [`crate::Call::body`] has them.
    pub parameters: Map<String, Value>,
    pub timeouts: Timeouts,
    /// `native.config` of the user's configuration.
    pub config: Map<String, Value>,
    /// Every header to send, secrets in the clear: never log them.
    #[serde(skip)]
    pub headers: HashMap<String, String>,
}

#[derive(Deserialize)]
pub struct Endpoint {
    pub url: String,
    pub model: Option<String>,
    pub headers_env: String,
    pub tls: Tls,
}

#[derive(Deserialize)]
pub struct Tls {
    pub verify: bool,
    pub ca_file: Option<String>,
}

/// Seconds. The kit keeps the last two.
#[derive(Deserialize)]
pub struct Timeouts {
    pub connect_s: f64,
    pub first_token_s: f64,
    pub total_s: f64,
}

/// One piece of load; `concurrency` is this generator's own share of it.
#[derive(Deserialize)]
pub struct Stage {
    pub stage: u64,
    pub name: String,
    pub endpoint: String,
    pub streaming: bool,
    pub open_loop: bool,
    pub concurrency: Option<usize>,
    pub rate: Option<f64>,
    pub ramp_s: f64,
    pub load_s: Option<f64>,
    pub drain_s: f64,
}

/// One request: exactly one of `text`, `token_ids` and `messages` is there.
#[derive(Deserialize)]
pub struct Turn {
    pub text: Option<String>,
    pub token_ids: Option<Vec<u64>>,
    pub messages: Option<Vec<Value>>,
    pub output_asked: Option<u64>,
    #[serde(default)]
    pub think_s: f64,
    #[serde(default)]
    pub params: Map<String, Value>,
}

/// Turns that follow one another; turn t has the request id `request_id` + t.
#[derive(Deserialize)]
pub struct Session {
    pub session: u64,
    pub request_id: u64,
    pub model: String,
    pub turns: Vec<Turn>,
    pub offset_ns: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct Schedule {
    pub stage: u64,
    pub sessions: Vec<Session>,
    pub last: bool,
}

#[derive(Deserialize)]
pub(crate) struct Start {
    pub stage: u64,
    pub at: i64,
}

/// Epoch nanoseconds that never jump: the monotonic clock, set once.
pub fn now() -> i64 {
    static BEGAN: OnceLock<(Instant, i64)> = OnceLock::new();
    let (instant, epoch) = BEGAN.get_or_init(|| (0..9).map(|_| both_clocks()).min_by_key(|read| read.0).unwrap().1);
    epoch + instant.elapsed().as_nanos() as i64
}

/// Both clocks as close together as they can be read, and how close that was.
fn both_clocks() -> (Duration, (Instant, i64)) {
    let before = Instant::now();
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let gap = before.elapsed();
    (gap, (before + gap / 2, epoch.as_nanos() as i64))
}

pub(crate) fn until(at: i64) -> Duration {
    Duration::from_nanos((at - now()).max(0) as u64)
}

pub(crate) fn ns(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}
