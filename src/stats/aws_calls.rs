//! Calls to AWS by operation and outcome, and how long they took.

use secretlink_aws::{CallOutcome, Operation};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const OPERATIONS: usize = Operation::ALL.len();
const OUTCOMES: usize = CallOutcome::ALL.len();

/// The longest latency, in milliseconds, that counts in each bucket of the histogram but the last one,
/// which has no limit.
const LIMITS: [u32; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const BUCKETS: usize = LIMITS.len() + 1;

/// The latencies of all calls.
pub(crate) struct Calls([[Latencies; OUTCOMES]; OPERATIONS]);

/// The latencies of one operation with one outcome.
struct Latencies {
    /// How many calls were in each bucket; each call is in one.
    buckets: [AtomicU64; BUCKETS],
    /// Microseconds.
    total: AtomicU64,
    /// Microseconds.
    longest: AtomicU64,
}

/// The calls of one operation with one outcome, as they were at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AwsCalls {
    /// What was asked for.
    pub operation: Operation,
    /// How the calls ended.
    pub outcome: CallOutcome,
    /// How often.
    pub calls: u64,
    /// How long all of them took together, in milliseconds.
    pub total_ms: f64,
    /// How long the longest took, in milliseconds.
    pub max_ms: f64,
    /// How many took as long as [`AwsCalls::limits_ms`] or less: each has all before it in it.
    pub within: Vec<u64>,
}

impl AwsCalls {
    /// The limits of [`AwsCalls::within`]; the last one is infinite.
    pub(crate) fn limits_ms() -> Vec<f64> {
        LIMITS.iter().map(|&limit| f64::from(limit)).chain([f64::INFINITY]).collect()
    }
}

impl Calls {
    pub(crate) const fn new() -> Calls {
        Calls([const { [const { Latencies::new() }; OUTCOMES] }; OPERATIONS])
    }

    pub(crate) fn count(&self, operation: Operation, outcome: CallOutcome, took: Duration) {
        self.0[operation as usize][outcome as usize].count(took);
    }

    pub(crate) fn reset(&self) {
        for latencies in self.0.iter().flatten() {
            latencies.reset();
        }
    }

    pub(crate) fn all(&self) -> Vec<AwsCalls> {
        let pairs = Operation::ALL.into_iter().flat_map(|op| CallOutcome::ALL.map(|outcome| (op, outcome)));
        pairs
            .map(|(operation, outcome)| {
                let latencies = &self.0[operation as usize][outcome as usize];
                let within: Vec<u64> = latencies
                    .buckets
                    .iter()
                    .scan(0u64, |sum, bucket| {
                        *sum += bucket.load(Ordering::Relaxed);
                        Some(*sum)
                    })
                    .collect();
                AwsCalls {
                    operation,
                    outcome,
                    calls: within.last().copied().unwrap_or_default(),
                    total_ms: milliseconds(&latencies.total),
                    max_ms: milliseconds(&latencies.longest),
                    within,
                }
            })
            .filter(|calls| calls.calls > 0)
            .collect()
    }
}

impl Latencies {
    const fn new() -> Latencies {
        Latencies {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            total: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    fn count(&self, took: Duration) {
        let bucket = LIMITS.iter().take_while(|&&limit| took > Duration::from_millis(limit.into())).count();
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(microseconds, Ordering::Relaxed);
        self.longest.fetch_max(microseconds, Ordering::Relaxed);
    }

    fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.total.store(0, Ordering::Relaxed);
        self.longest.store(0, Ordering::Relaxed);
    }
}

fn milliseconds(microseconds: &AtomicU64) -> f64 {
    // Exact up to 2^53 microseconds, which is 285 years.
    microseconds.load(Ordering::Relaxed) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_all_are_in_order() {
        assert!(Operation::ALL.iter().enumerate().all(|(at, &operation)| operation as usize == at));
        assert!(CallOutcome::ALL.iter().enumerate().all(|(at, &outcome)| outcome as usize == at));
    }

    #[test]
    fn a_call_counts_where_its_time_fits() {
        let calls = Calls::new();
        assert_eq!(calls.all(), []);
        for microseconds in [0, 1_000, 1_001, 5_000_000, 5_000_001, 3_600_000_000] {
            calls.count(Operation::GetSecretValue, CallOutcome::Success, Duration::from_micros(microseconds));
        }
        calls.count(Operation::PutSecretValue, CallOutcome::Error, Duration::from_millis(20));
        let all = calls.all();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].calls, 6);
        assert_eq!(all[0].within, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 6]);
        assert_eq!(all[0].within.len(), AwsCalls::limits_ms().len());
        assert_eq!((all[0].total_ms, all[0].max_ms), (3_610_002.002, 3_600_000.0));
        assert_eq!((all[1].operation, all[1].outcome), (Operation::PutSecretValue, CallOutcome::Error));
        assert_eq!(all[1].within, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        calls.reset();
        assert_eq!(calls.all(), []);
    }
}
