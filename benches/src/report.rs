//! The table and the JSON file.

use crate::measure::Outcome;
use serde_json::{Value, json};
use std::time::Duration;

/// Everything measured in one run.
pub struct Report {
    rounds: usize,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// An empty one, of a run with this many rounds.
    pub fn new(rounds: usize) -> Report {
        Report { rounds, outcomes: Vec::new() }
    }

    /// Adds what one subject measured, and says so.
    pub fn add(&mut self, outcome: Outcome) {
        eprintln!("measured: {}", outcome.title);
        self.outcomes.push(outcome);
    }

    /// Prints the table.
    pub fn print(&self) {
        for outcome in &self.outcomes {
            println!("\n{} ({} rounds, interleaved)", outcome.title, self.rounds);
            println!("  {:<52} {:>10} {:>10} {:>10}", "", "median", "min", "max");
            for (name, times) in &outcome.times {
                let (min, max) = times.range();
                println!("  {name:<52} {:>10} {:>10} {:>10}", ms(times.median()), ms(min), ms(max));
            }
            for (title, value) in &outcome.ratios {
                println!("  {title:<52} {value:>9.2}x");
            }
        }
    }

    /// Writes the JSON file.
    pub fn write(&self, path: &str) {
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let times: Vec<Value> = outcome
                    .times
                    .iter()
                    .map(|(name, times)| {
                        let (min, max) = times.range();
                        json!({ "name": name, "median_s": times.median().as_secs_f64(),
                        "min_s": min.as_secs_f64(), "max_s": max.as_secs_f64() })
                    })
                    .collect();
                let ratios: Vec<Value> = outcome
                    .ratios
                    .iter()
                    .map(|(title, value)| json!({ "title": title, "value": value }))
                    .collect();
                json!({ "title": outcome.title, "times": times, "ratios": ratios })
            })
            .collect();
        let json = json!({ "rounds": self.rounds, "subjects": outcomes });
        std::fs::write(path, format!("{json:#}\n")).expect("cannot write the results");
        println!("\nwritten to {path}");
    }
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
