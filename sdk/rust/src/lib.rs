//! Write a load generator for llm-d-benchmark in Rust: implement [`Generator`] and call [`serve`].
//!
//! The kit speaks the protocol, releases requests when they are due, keeps the concurrency and the time limits, and
//! accounts for every request. Each request runs in a thread of its own, so blocking I/O is all you need.

mod call;
mod messages;
mod report;
mod serve;
mod stage;

pub use call::{Call, ErrorClass, Failure};
pub use messages::{now, Hello, Session, Stage, Turn, ALL_CAPABILITIES, PROTOCOL};
pub use serve::{serve, Generator};
