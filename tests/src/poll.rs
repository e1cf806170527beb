//! Waiting for what comes soon.

use std::thread::sleep;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(2);

/// Ask until the answer is `Ok`, and give it back. Panics after `limit`, with `what` was waited for
/// and what was seen last.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if began.elapsed() > limit => panic!("not within {limit:?}: {what}; seen: {seen}"),
            Err(_) => sleep(PAUSE),
        }
    }
}
