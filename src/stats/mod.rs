//! What has been done since the last reset: of the whole server if the library was preloaded, else of
//! this backend.
//!
//! Counting is one atomic addition, without a lock: it cannot fail, and may be done after a commit and
//! on the I/O thread.

mod aws_calls;

use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub(crate) use self::aws_calls::AwsCalls;
use self::aws_calls::Calls;
use crate::backend::process::server;
use crate::backend::process::shared_memory::{self, LockFree, SharedAtomics};

/// What is counted besides calls to AWS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    /// Secrets that the cache had.
    CacheHits,
    /// Secrets that had to be asked for.
    CacheMisses,
    /// Secrets that somebody else was asking for already.
    CacheWaits,
    /// Secrets that the cache gave out after their time, as AWS could not be asked.
    CacheStaleServes,
    /// Secrets asked for again before their time was over.
    CacheRenewals,
    /// IAM tokens signed.
    IamTokensSigned,
    /// Connections made.
    ConnectionsOpened,
    /// Connections that could not be made.
    ConnectionsFailed,
    /// Connections tried again with another password after a rotation.
    ConnectionsRetried,
    /// Rows received from remote servers.
    RowsReceived,
    /// Bytes that these rows came as, before encryption.
    BytesReceived,
    /// Rotations that gave a secret a new password.
    RotationsSucceeded,
    /// Rotations that did not.
    RotationsFailed,
}

/// How many counters there are.
const COUNTERS: usize = Counter::RotationsFailed as usize + 1;

struct Stats {
    counters: [AtomicU64; COUNTERS],
    calls: Calls,
    /// When all this was last zero, as a TimestampTz.
    reset: AtomicI64,
}

// SAFETY: atomics only, for which all bits zero is zero.
unsafe impl SharedAtomics for Stats {}

static STATS: LockFree<Stats> = LockFree::new(
    c"secretlink stats",
    Stats {
        counters: [const { AtomicU64::new(0) }; COUNTERS],
        calls: Calls::new(),
        reset: AtomicI64::new(0),
    },
);

/// Begins to count. To be called when the library is loaded, but by `pg_upgrade`.
pub(crate) fn init() {
    if server::is_preloading() {
        shared_memory::install(|| STATS.request(), attach);
    } else {
        note_reset();
    }
}

fn attach() {
    STATS.attach();
    note_reset();
}

fn note_reset() {
    STATS.get().reset.store(server::clock(), Ordering::Relaxed);
}

/// Counts one.
pub(crate) fn count(counter: Counter) {
    add(counter, 1);
}

/// Counts `n`.
pub(crate) fn add(counter: Counter, n: u64) {
    STATS.get().counters[counter as usize].fetch_add(n, Ordering::Relaxed);
}

/// How often so far.
pub(crate) fn get(counter: Counter) -> u64 {
    STATS.get().counters[counter as usize].load(Ordering::Relaxed)
}

/// When everything was last zero.
pub(crate) fn last_reset() -> pg_sys::TimestampTz {
    STATS.get().reset.load(Ordering::Relaxed)
}

/// Makes everything zero.
pub(crate) fn reset() {
    let stats = STATS.get();
    for counter in &stats.counters {
        counter.store(0, Ordering::Relaxed);
    }
    stats.calls.reset();
    note_reset();
}

/// The calls to AWS, by operation and outcome, as far as there were any.
pub(crate) fn aws_calls() -> Vec<AwsCalls> {
    STATS.get().calls.all()
}

/// Who is to be told of each call to AWS.
pub(crate) fn recorder() -> &'static dyn secretlink_aws::Recorder {
    &STATS
}

// Called on the I/O thread, also while this process ends: it touches nothing but atomics, and calls no
// Postgres.
impl secretlink_aws::Recorder for LockFree<Stats> {
    fn record(
        &self,
        operation: secretlink_aws::Operation,
        outcome: secretlink_aws::CallOutcome,
        took: std::time::Duration,
    ) {
        self.get().calls.count(operation, outcome, took);
    }
}
