//! Measuring candidates in turn.

use std::time::Instant;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Mebibytes.
    Mebibytes,
    /// How many.
    Count,
}

/// One way of doing something.
pub struct Candidate<'a> {
    /// What the table calls it.
    pub name: &'static str,
    /// Does it once and gives the figure that counts.
    pub once: Box<dyn FnMut() -> f64 + 'a>,
}

/// Candidates that do the same.
pub struct Subject<'a> {
    /// What they do.
    pub title: String,
    /// What is measured.
    pub unit: Unit,
    /// How often each does it in one round.
    pub repeats: usize,
    /// The ways of doing it.
    pub candidates: Vec<Candidate<'a>>,
    /// Ratios to state, each of two candidates' figures.
    pub ratios: Vec<Ratio>,
    /// Differences to state.
    pub differences: Vec<Difference>,
}

/// `of` candidate's median, less that of `less`.
pub struct Difference {
    /// What the ratio says.
    pub title: &'static str,
    /// The candidate that takes more.
    pub of: &'static str,
    /// The one that takes less.
    pub less: &'static str,
}

/// `over` candidate's median, less that of `less` if given, divided by `under`'s.
#[derive(Clone)]
pub struct Ratio {
    /// What the difference says.
    pub title: &'static str,
    /// The candidate above the line.
    pub over: &'static str,
    /// A candidate whose cost is taken off first.
    pub less: Option<&'static str>,
    /// The candidate below the line.
    pub under: &'static str,
}

/// What was measured.
pub struct Comparison {
    /// What was done.
    pub title: String,
    /// What was measured.
    pub unit: Unit,
    /// How many rounds were measured.
    pub rounds: usize,
    /// Candidate and its figures, in order.
    pub figures: Vec<(&'static str, Figures)>,
    /// Title and value of each ratio.
    pub ratios: Vec<(&'static str, f64)>,
    /// Title and value of each difference.
    pub differences: Vec<(&'static str, f64)>,
}

/// Figures of one candidate, sorted.
pub struct Figures(Vec<f64>);

impl Figures {
    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The smallest and the largest.
    pub fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

impl Subject<'_> {
    /// Measures in `rounds` rounds, every candidate in each, in changing order, after one round that
    /// does not count.
    pub fn run(mut self, rounds: usize) -> Comparison {
        let count = self.candidates.len();
        let mut figures = vec![Vec::new(); count];
        for round in 0..=rounds {
            for turn in 0..count {
                let index = (turn + round) % count;
                for _ in 0..self.repeats {
                    let figure = (self.candidates[index].once)();
                    if round > 0 {
                        figures[index].push(figure);
                    }
                }
            }
        }
        let figures: Vec<_> = self
            .candidates
            .iter()
            .zip(figures)
            .map(|(candidate, mut figures)| {
                figures.sort_by(f64::total_cmp);
                (candidate.name, Figures(figures))
            })
            .collect();
        let median = |name| {
            let (_, figures) =
                figures.iter().find(|(n, _)| *n == name).expect("a ratio or difference names a candidate");
            figures.median()
        };
        let ratios = self
            .ratios
            .iter()
            .map(|r| (r.title, (median(r.over) - r.less.map_or(0.0, median)) / median(r.under)))
            .collect();
        let differences = self.differences.iter().map(|d| (d.title, median(d.of) - median(d.less))).collect();
        Comparison { title: self.title, unit: self.unit, rounds, figures, ratios, differences }
    }
}

/// How many seconds `f` takes.
pub fn timed(f: impl FnOnce()) -> f64 {
    let began = Instant::now();
    f();
    began.elapsed().as_secs_f64()
}
