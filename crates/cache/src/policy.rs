//! How long things hold.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in microseconds of a clock that never goes back and is the same for all processes. Zero is
/// before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The settings of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long a value is used without asking.
    pub ttl: Duration,
    /// For how long after that it is used if nobody can be asked.
    pub max_stale: Duration,
}

/// The time in which a value is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// When the value was asked for.
    pub(crate) asked: Moment,
    /// When the value ends by itself, as a token does. Other values grow old as [`Timing`] says.
    pub(crate) ends: Option<Moment>,
}

impl Life {
    /// Whether the value has ended by itself.
    pub(crate) fn is_over(self, now: Moment) -> bool {
        self.ends.is_some_and(|ends| now >= ends)
    }
}

/// A value that ends by itself is renewed after this time, or after two thirds of its time.
const RENEWED_AFTER: Duration = Duration::from_secs(10 * 60);

impl Timing {
    /// Whether a value need not be asked for again.
    pub(crate) fn is_fresh(&self, life: Life, now: Moment) -> bool {
        now < life.ends.unwrap_or(life.asked + self.ttl)
    }

    /// Whether a value may be used when nobody can be asked.
    pub(crate) fn is_usable(&self, life: Life, now: Moment) -> bool {
        now < life.ends.unwrap_or(life.asked + self.ttl + self.max_stale)
    }

    /// When a value is renewed that is in use, before anybody has to wait for that. One that grows old is
    /// renewed after four fifths of its time.
    pub(crate) fn renewal(&self, life: Life) -> Moment {
        match life.ends {
            Some(ends) => life.asked + RENEWED_AFTER.min((ends - life.asked) / 3 * 2),
            None => life.asked + self.ttl / 5 * 4,
        }
    }

    /// Whether a value is in use. A value that grows old is if somebody wanted it not long ago, be it less
    /// often than it expires. One that ends by itself is made in no time, so somebody must have wanted it since.
    pub(crate) fn is_in_use(&self, life: Life, used: Moment, now: Moment) -> bool {
        match life.ends {
            Some(_) => used > life.asked,
            None => now < used + self.ttl * 2,
        }
    }
}

/// The pause after so many failures in a row to reach the other side: 1 s, doubling up to 30 s.
pub(crate) fn pause_after_failures(failures: u32) -> Duration {
    doubled(Duration::from_secs(1), failures, Duration::from_secs(30))
}

/// The pause until a value is asked for once more that was doubted, so many times in a row in vain:
/// 100 ms, doubling up to 1 s. A password that is simply wrong must not cost a request for each attempt.
pub(crate) fn pause_after_confirmations(confirmations: u32) -> Duration {
    doubled(Duration::from_millis(100), confirmations, Duration::from_secs(1))
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let seconds = [1, 2, 3, 6, 100, u32::MAX].map(|n| pause_after_failures(n).as_secs());
        assert_eq!(seconds, [1, 2, 4, 30, 30, 30]);
        let millis = [1, 2, 8, 40].map(|n| pause_after_confirmations(n).as_millis());
        assert_eq!(millis, [100, 200, 1_000, 1_000]);
    }

    #[test]
    fn what_ends_by_itself_does_not_grow_old() {
        let timing = Timing { ttl: Duration::ZERO, max_stale: Duration::from_secs(5) };
        let at = |seconds: u64| Moment(seconds * 1_000_000);
        let life = |ends| Life { asked: at(0), ends: Some(at(ends)) };
        assert!(timing.is_fresh(life(840), at(839)) && !timing.is_fresh(life(840), at(840)));
        assert!(timing.is_usable(life(840), at(839)) && !timing.is_usable(life(840), at(840)));
        assert_eq!(timing.renewal(life(840)), at(560));
        assert_eq!(timing.renewal(life(1200)), at(600));
        assert_eq!(timing.renewal(life(30)), at(20));
        assert!(timing.is_in_use(life(840), at(1), at(800)) && !timing.is_in_use(life(840), at(0), at(1)));
    }

    #[test]
    fn ages() {
        let timing = Timing { ttl: Duration::from_secs(10), max_stale: Duration::from_secs(5) };
        let at = |seconds: u64| Moment(seconds * 1_000_000);
        let life = Life { asked: at(1), ends: None };
        assert!(timing.is_fresh(life, at(10)) && !timing.is_fresh(life, at(11)));
        assert!(timing.is_usable(life, at(15)) && !timing.is_usable(life, at(16)));
        assert_eq!(timing.renewal(life), at(9));
        assert!(timing.is_in_use(life, at(1), at(20)) && !timing.is_in_use(life, at(1), at(21)));
        assert_eq!(at(3) - at(5), Duration::ZERO);
        assert_eq!(Moment(u64::MAX) + Duration::MAX, Moment(u64::MAX));
    }
}
