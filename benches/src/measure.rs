//! Measuring candidates in turn.

use std::time::{Duration, Instant};

/// One way of doing something.
pub struct Candidate<'a> {
    /// What the table calls it.
    pub name: &'static str,
    /// Does it once and says how long the part that counts took.
    pub once: Box<dyn FnMut() -> Duration + 'a>,
}

/// Candidates that do the same.
pub struct Subject<'a> {
    /// What they do.
    pub title: String,
    /// How often each does it in one round.
    pub repeats: usize,
    /// The ways of doing it.
    pub candidates: Vec<Candidate<'a>>,
    /// Ratios to state, each of two candidates' figures.
    pub ratios: Vec<Ratio>,
}

/// `over` candidate's median, less that of `less` if given, divided by `under`'s.
#[derive(Clone)]
pub struct Ratio {
    /// What it says.
    pub title: &'static str,
    /// The candidate above the line.
    pub over: &'static str,
    /// A candidate whose cost is taken off first.
    pub less: Option<&'static str>,
    /// The candidate below the line.
    pub under: &'static str,
}

/// What was measured.
pub struct Outcome {
    /// What was done.
    pub title: String,
    /// Candidate and its times, in order.
    pub times: Vec<(&'static str, Times)>,
    /// Title and value of each ratio.
    pub ratios: Vec<(&'static str, f64)>,
}

/// Times of one candidate, sorted.
pub struct Times(Vec<Duration>);

impl Times {
    /// The middle one.
    pub fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The shortest and the longest.
    pub fn range(&self) -> (Duration, Duration) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

impl Subject<'_> {
    /// Measures in `rounds` rounds, every candidate in each, in changing order, after one round that
    /// does not count.
    pub fn run(mut self, rounds: usize) -> Outcome {
        let count = self.candidates.len();
        let mut times = vec![Vec::new(); count];
        for round in 0..=rounds {
            for turn in 0..count {
                let index = (turn + round) % count;
                for _ in 0..self.repeats {
                    let taken = (self.candidates[index].once)();
                    if round > 0 {
                        times[index].push(taken);
                    }
                }
            }
        }
        let times: Vec<_> = self
            .candidates
            .iter()
            .zip(times)
            .map(|(candidate, mut times)| {
                times.sort();
                (candidate.name, Times(times))
            })
            .collect();
        let median = |name| {
            let (_, times) = times.iter().find(|(n, _)| *n == name).expect("a ratio names a candidate");
            times.median().as_secs_f64()
        };
        let ratios = self
            .ratios
            .iter()
            .map(|r| (r.title, (median(r.over) - r.less.map_or(0.0, median)) / median(r.under)))
            .collect();
        Outcome { title: self.title, times, ratios }
    }
}

/// How long `f` takes.
pub fn timed(f: impl FnOnce()) -> Duration {
    let began = Instant::now();
    f();
    began.elapsed()
}
