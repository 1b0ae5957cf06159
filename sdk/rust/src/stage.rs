//! One stage: releases sessions when they are due, keeps the concurrency, and accounts for every request.

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{json, Value};

use crate::call::{Call, ErrorClass, Failure};
use crate::messages::{now, ns, until, Hello, Session, Stage, Turn};
use crate::report::{Report, Say};
use crate::serve::Generator;

/// Sessions in store: at 1000 requests a second, half a second's worth.
pub(crate) const WINDOW: usize = 512;
/// Sessions asked for at once.
const BLOCK: usize = 64;
/// How long the place of a refused connection stays empty: a server that is gone must not busy the client.
const PAUSE_NS: i64 = 50_000_000;
const STACK: usize = 256 * 1024;

#[derive(Default)]
struct State {
    store: VecDeque<Session>,
    last: bool,
    start: Option<i64>,
    stopped: bool,
    over: bool,
    /// Free places, since when each is free (a time to come: free from then on).
    free: VecDeque<i64>,
    in_flight: usize,
    /// Sessions with turns still to send.
    to_follow: usize,
    bug: bool,
}

pub(crate) struct StageLoad {
    pub stage: Stage,
    hello: Arc<Hello>,
    say: Say,
    report: Report,
    state: Mutex<State>,
    /// Something changed that the releasing thread waits for.
    news: Condvar,
    /// The load is over: whoever thinks about a next turn need not go on.
    over: Condvar,
    cancel: AtomicBool,
}

impl StageLoad {
    pub fn new(stage: Stage, hello: Arc<Hello>, say: Say) -> Self {
        let report = Report::new(say.clone());
        let (news, over, cancel) = (Condvar::new(), Condvar::new(), AtomicBool::new(false));
        StageLoad { stage, hello, say, report, state: Mutex::default(), news, over, cancel }
    }

    /// How many connections to have open before the load: one a stream, or a second's worth of an open loop, at most 256.
    pub fn connections(&self) -> usize {
        let most = self.stage.concurrency.unwrap_or(256);
        self.stage.rate.map_or(most, |rate| most.min((rate as usize).max(1)))
    }

    pub fn feed(&self, sessions: Vec<Session>, last: bool) {
        self.change(|state| {
            state.store.extend(sessions);
            state.last |= last;
        });
    }

    pub fn start(&self, at: i64) {
        self.change(|state| state.start = Some(at));
    }

    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.news.notify_all();
    }

    /// Run the stage to its end; false where `send` panicked.
    pub fn run<G: Generator>(self: &Arc<Self>, generator: &Arc<G>) -> bool {
        let number = self.stage.stage;
        self.say.say(&json!({"type": "credit", "stage": number, "sessions": WINDOW}));
        self.say.say(&json!({"type": "stage_ready", "stage": number}));
        let waiting = self.state.lock().unwrap();
        let state = self.news.wait_while(waiting, |s| s.start.is_none() && !s.stopped).unwrap();
        let start = if state.stopped { None } else { state.start };
        drop(state);
        let Some(start) = start else {
            self.end(now(), "interrupted");
            return true;
        };
        let (done, reporting) = mpsc::channel();
        let reporter = {
            let this = self.clone();
            thread::spawn(move || this.report.run(&reporting))
        };
        let reason = self.load(generator, start);
        let load_end = now();
        self.drain();
        drop(done);
        reporter.join().expect("the report does not panic");
        let bug = self.state.lock().unwrap().bug;
        if !bug {
            self.end(load_end, reason);
        }
        !bug
    }

    fn end(&self, load_end: i64, reason: &str) {
        let number = self.stage.stage;
        self.say
            .say(&json!({"type": "stage_end", "stage": number, "load_end": load_end, "end": now(), "reason": reason}));
    }

    /// Release until the end of the load; why it ended.
    fn load<G: Generator>(self: &Arc<Self>, generator: &Arc<G>, start: i64) -> &'static str {
        let limit = self.stage.load_s.map_or(i64::MAX, |s| start + ns(s));
        self.place(start);
        let mut taken = 0;
        let mut state = self.state.lock().unwrap();
        loop {
            if state.stopped {
                return "interrupted";
            }
            if now() >= limit {
                return "duration";
            }
            let Some(first) = state.store.front() else {
                if state.last && state.to_follow == 0 {
                    return "exhausted";
                }
                state = self.wait(state, limit);
                continue;
            };
            let due = first.offset_ns.map_or(start, |offset| start + offset);
            let free = if self.stage.concurrency.is_some() { state.free.front().copied() } else { Some(start) };
            let at = free.map_or(i64::MAX, |free| due.max(free));
            if now() < at || at >= limit {
                state = self.wait(state, limit.min(at));
                continue;
            }
            let session = state.store.pop_front().expect("it was there");
            state.free.pop_front();
            state.in_flight += 1;
            state.to_follow += usize::from(session.turns.len() > 1);
            drop(state);
            taken += 1;
            if taken % BLOCK == 0 {
                self.say.say(&json!({"type": "credit", "stage": self.stage.stage, "sessions": BLOCK}));
            }
            self.begin(generator, session, at);
            state = self.state.lock().unwrap();
        }
    }

    /// Wait for news, until this time at most.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, at: i64) -> MutexGuard<'a, State> {
        let left = until(at).min(Duration::from_secs(60));
        self.news.wait_timeout(state, left).unwrap().0
    }

    /// The streams of a closed loop or of a capped open one, started over `ramp_s`.
    fn place(&self, start: i64) {
        let count = self.stage.concurrency.unwrap_or(0) as i64;
        let ramp = if self.stage.open_loop { 0 } else { ns(self.stage.ramp_s) };
        self.change(|state| state.free.extend((0..count).map(|k| start + ramp * k / count)));
    }

    fn begin<G: Generator>(self: &Arc<Self>, generator: &Arc<G>, session: Session, ready: i64) {
        let (this, generator) = (self.clone(), generator.clone());
        let work = move || {
            let mut following = session.turns.len() > 1;
            let run = AssertUnwindSafe(|| this.session(&*generator, &session, ready, &mut following));
            let outcome = catch_unwind(run); // what panicked is on stderr
            let pause = if matches!(outcome, Ok(true)) { PAUSE_NS } else { 0 };
            this.change(|state| {
                state.in_flight -= 1;
                state.to_follow -= usize::from(following);
                state.bug |= outcome.is_err();
                state.stopped |= outcome.is_err();
                if this.stage.concurrency.is_some() {
                    // kept in the order in which they become free
                    let at = now() + pause;
                    let behind = state.free.iter().rposition(|&t| t <= at).map_or(0, |k| k + 1);
                    state.free.insert(behind, at);
                }
            });
        };
        thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread can be started");
    }

    /// All turns of a session; whether its connection was refused.
    fn session<G: Generator>(&self, generator: &G, session: &Session, mut ready: i64, following: &mut bool) -> bool {
        let (mut history, mut said) = (Vec::<Value>::new(), String::new());
        for (number, turn) in session.turns.iter().enumerate() {
            if number > 0 {
                ready = now() + ns(turn.think_s);
                if self.over_before(ready) {
                    return false;
                }
                if number + 1 == session.turns.len() {
                    *following = false;
                    self.change(|state| state.to_follow -= 1);
                }
            }
            let mut call = self.call(session, turn, number, ready, &history, &said);
            let mut outcome = generator.send(&mut call);
            if outcome.is_ok() && self.stage.streaming && call.chunks.is_empty() {
                outcome = Err(Failure::new(ErrorClass::NoContent, "the stream carried no content"));
            }
            self.report.row(call.row(&outcome));
            if let Err(failure) = outcome {
                return matches!(failure, Failure::Failed { class: ErrorClass::Connect | ErrorClass::Tls, .. });
            }
            let answer = std::mem::take(&mut call.text);
            if self.stage.endpoint == "chat" {
                history.extend(turn.messages.iter().flatten().cloned());
                history.push(json!({"role": "assistant", "content": answer}));
            } else {
                said += turn.text.as_deref().unwrap_or_default();
                said += &answer;
            }
        }
        false
    }

    fn call<'a>(
        &'a self,
        session: &'a Session,
        turn: &'a Turn,
        number: usize,
        ready: i64,
        history: &'a [Value],
        said: &'a str,
    ) -> Call<'a> {
        Call {
            hello: &self.hello,
            stage: &self.stage,
            session,
            turn,
            request_id: session.request_id + number as u64,
            http_status: None,
            finish_reason: None,
            input_tokens: None,
            output_tokens: None,
            cached_tokens: None,
            chunk_tokens: Vec::new(),
            text: String::new(),
            history,
            said,
            report: &self.report,
            cancel: &self.cancel,
            began: now(),
            ready,
            sent: None,
            connect: None,
            chunks: Vec::new(),
        }
    }

    /// Think until this time; whether the load was over before that.
    fn over_before(&self, ready: i64) -> bool {
        let state = self.state.lock().unwrap();
        self.over.wait_timeout_while(state, until(ready), |s| !s.over).unwrap().0.over
    }

    /// Wait for what is in flight, for `drain_s` at most, then cancel it; at once when stopped.
    fn drain(&self) {
        let mut state = self.state.lock().unwrap();
        state.over = true;
        self.over.notify_all();
        let limit = Duration::from_secs_f64(self.stage.drain_s);
        state = self.news.wait_timeout_while(state, limit, |s| s.in_flight > 0 && !s.stopped).unwrap().0;
        self.cancel.store(true, Ordering::Relaxed);
        drop(self.news.wait_while(state, |s| s.in_flight > 0).unwrap());
    }
}
