//! The first error of a new backend, with the library loaded and `RUST_BACKTRACE` in the server's environment.

use crate::Setting;
use crate::measure::{Candidate, Ratio, Subject, Unit, timed};

pub fn subject<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let candidate = |name, schema: &'static str| Candidate {
        name,
        once: Box::new(move || {
            let mut client = setting.session();
            let loads = format!("SELECT {schema}.dblink_get_connections()");
            client.batch_execute(&loads).expect("the library is loaded");
            let fails = format!("SELECT {schema}.dblink_disconnect('none')");
            timed(|| assert!(client.batch_execute(&fails).is_err(), "there is no such connection"))
        }),
    };
    Subject {
        title: "First error of a new backend".into(),
        unit: Unit::Seconds,
        repeats: 10,
        candidates: vec![candidate(CONTRIB, "contrib"), candidate(OURS, "public")],
        ratios: vec![Ratio { title: "secretlink / contrib", over: OURS, less: None, under: CONTRIB }],
        differences: Vec::new(),
    }
}

const CONTRIB: &str = "contrib dblink";
const OURS: &str = "secretlink dblink";
