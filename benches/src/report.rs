//! The table and the JSON file.

use crate::measure::{Comparison, Unit};
use serde_json::{Value, json};

/// Everything measured in one run.
#[derive(Default)]
pub struct Report {
    outcomes: Vec<Comparison>,
}

impl Report {
    /// Adds what one subject measured, and says so.
    pub fn add(&mut self, outcome: Comparison) {
        eprintln!("measured: {}", outcome.title);
        self.outcomes.push(outcome);
    }

    /// Prints the table.
    pub fn print(&self) {
        for outcome in &self.outcomes {
            println!("\n{} ({} rounds, interleaved)", outcome.title, outcome.rounds);
            println!("  {:<52} {:>11} {:>11} {:>11}", "", "median", "min", "max");
            let show = |figure: f64| match outcome.unit {
                Unit::Seconds if figure.abs() < 1e-4 => format!("{:.2} us", figure * 1e6),
                Unit::Seconds => format!("{:.2} ms", figure * 1e3),
                Unit::Mebibytes => format!("{figure:.1} MB"),
                Unit::Count => format!("{figure}"),
            };
            for (name, figures) in &outcome.figures {
                let (min, max) = figures.range();
                println!("  {name:<52} {:>11} {:>11} {:>11}", show(figures.median()), show(min), show(max));
            }
            for (title, value) in &outcome.ratios {
                println!("  {title:<52} {value:>10.2}x");
            }
            for (title, value) in &outcome.differences {
                println!("  {title:<52} {:>11}", show(*value));
            }
        }
    }

    /// Writes the JSON file.
    pub fn write(&self, path: &str) {
        let subjects: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let unit = match outcome.unit {
                    Unit::Seconds => "s",
                    Unit::Mebibytes => "MiB",
                    Unit::Count => "1",
                };
                let figures: Vec<Value> = outcome
                    .figures
                    .iter()
                    .map(|(name, figures)| {
                        let (min, max) = figures.range();
                        json!({ "name": name, "median": figures.median(), "min": min, "max": max })
                    })
                    .collect();
                let titled = |values: &[(&str, f64)]| -> Vec<Value> {
                    values.iter().map(|(title, value)| json!({ "title": title, "value": value })).collect()
                };
                json!({ "title": outcome.title, "unit": unit, "rounds": outcome.rounds,
                    "figures": figures, "ratios": titled(&outcome.ratios), "differences": titled(&outcome.differences) })
            })
            .collect();
        let json = json!({ "subjects": subjects });
        std::fs::write(path, format!("{json:#}\n")).expect("cannot write the results");
        println!("\nwritten to {path}");
    }
}
