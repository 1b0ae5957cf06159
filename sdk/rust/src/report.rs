//! What a stage tells the tool while it runs.

use std::io::Write;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{json, Value};

use crate::call::ErrorClass;

/// Writes one message a line, from any thread.
#[derive(Clone)]
pub(crate) struct Say(Arc<Mutex<Box<dyn Write + Send>>>);

impl Say {
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Say(Arc::new(Mutex::new(out)))
    }

    pub fn say(&self, message: &impl Serialize) {
        let mut line = serde_json::to_vec(message).expect("messages are JSON");
        line.push(b'\n');
        let mut out = self.0.lock().unwrap();
        let _ = out.write_all(&line).and_then(|()| out.flush()); // a tool that is gone shows at the end of stdin
    }
}

/// The record of one request, in the protocol's columns.
#[derive(Serialize)]
pub(crate) struct Row {
    pub request_id: u64,
    pub status: &'static str,
    pub sent: i64,
    pub end: i64,
    pub ready: i64,
    pub first_token: Option<i64>,
    pub last_token: Option<i64>,
    pub connect: Option<i64>,
    pub chunk_times: Vec<i64>,
    pub chunk_tokens: Vec<u64>,
    pub input_tokens: Option<u64>,
    pub input_source: Option<&'static str>,
    pub output_tokens: Option<u64>,
    pub output_source: Option<&'static str>,
    pub cached_tokens: Option<u64>,
    pub finish_reason: Option<String>,
    pub error_class: Option<ErrorClass>,
    pub error: Option<String>,
    pub http_status: Option<u16>,
}

#[derive(Serialize)]
struct Records {
    r#type: &'static str,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Waiting {
    ids: Vec<u64>,
    times: Vec<i64>,
    rows: Vec<Row>,
}

/// Collects what is to be told, and tells it in batches.
pub(crate) struct Report {
    say: Say,
    chunks: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Report {
    pub fn new(say: Say) -> Self {
        Report { say, chunks: AtomicU64::new(0), waiting: Mutex::default() }
    }

    pub fn chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sent(&self, id: u64, at: i64) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.ids.push(id);
        waiting.times.push(at);
    }

    pub fn row(&self, row: Row) {
        self.waiting.lock().unwrap().rows.push(row);
    }

    /// Tells what was sent before what has ended: both are taken at once.
    fn flush(&self) {
        let Waiting { ids, times, rows } = take(&mut *self.waiting.lock().unwrap());
        if !ids.is_empty() {
            self.say.say(&json!({"type": "sent", "requests": ids, "times": times}));
        }
        if !rows.is_empty() {
            self.say.say(&Records { r#type: "records", rows });
        }
    }

    fn progress(&self, lags: &mut Vec<f64>) {
        lags.sort_by(f64::total_cmp);
        let lag = match lags.len() {
            0 => Value::Null,
            n => json!({"p50_us": lags[n / 2], "p99_us": lags[n * 99 / 100], "max_us": lags[n - 1], "ticks": n}),
        };
        lags.clear();
        self.say.say(&json!({"type": "progress", "chunks": self.chunks.swap(0, Ordering::Relaxed), "lag": lag}));
    }

    /// Sees every 10 ms how late timers are, tells every 100 ms of requests and every second of progress, until `done`.
    pub fn run(&self, done: &Receiver<()>) {
        const TICK: Duration = Duration::from_millis(10);
        let mut lags = Vec::new();
        let (mut flushed, mut progressed) = (Instant::now(), Instant::now());
        loop {
            let due = Instant::now() + TICK;
            if done.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            lags.push(due.elapsed().as_nanos() as f64 / 1e3);
            if flushed.elapsed() >= TICK * 10 {
                flushed = Instant::now();
                self.flush();
            }
            if progressed.elapsed() >= TICK * 100 {
                progressed = Instant::now();
                self.progress(&mut lags);
            }
        }
        self.flush();
        self.progress(&mut lags);
    }
}
