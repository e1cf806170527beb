//! The first fetch of a new backend, and the ones after it.

use crate::measure::{Candidate, Ratio, Subject, Unit, timed};
use crate::{SECRET, Setting};

pub fn subject<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let fetch = format!("SELECT get_secret_string('{SECRET}')");
    let (first, mut later) = (fetch.clone(), setting.local.connect("postgres", "postgres"));
    Subject {
        title: format!("Fetching a secret over HTTP from moto, library {}", setting.describe()),
        unit: Unit::Seconds,
        repeats: 5,
        candidates: vec![
            Candidate {
                name: FIRST,
                once: Box::new(move || {
                    let mut client = setting.local.connect("postgres", "postgres");
                    timed(|| client.batch_execute(&first).expect("the secret is there"))
                }),
            },
            Candidate {
                name: LATER,
                once: Box::new(move || timed(|| later.batch_execute(&fetch).expect("the secret is there"))),
            },
        ],
        ratios: vec![Ratio { title: "first / later", over: FIRST, less: None, under: LATER }],
        differences: Vec::new(),
    }
}

const FIRST: &str = "first fetch in a new backend";
const LATER: &str = "later fetch";
