//! The memory of a backend that reads very many rows.

use crate::Setting;
use crate::measure::{Candidate, Ratio, Subject, Unit};
use secretlink_e2e::backend_pid;

pub fn subject<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let candidate = |name, schema: &'static str| Candidate {
        name,
        once: Box::new(move || {
            // A new backend each time: what counts is its peak.
            let mut client = setting.connected(schema);
            let sql = format!(
                "SELECT count(*) FROM {schema}.dblink('c',
                 'SELECT i, ''row '' || i FROM generate_series(1, 10000000) AS i') AS t(a int, b text)"
            );
            client.batch_execute(&sql).expect("the statement works");
            backend_pid(&mut client).peak_resident_bytes() as f64 / f64::from(1 << 20)
        }),
    };
    Subject {
        title: "Peak memory of a backend that reads 10,000,000 rows".into(),
        unit: Unit::Mebibytes,
        repeats: 1,
        candidates: vec![candidate(CONTRIB, "contrib"), candidate(OURS, "public")],
        ratios: vec![Ratio { title: "secretlink / contrib", over: OURS, less: None, under: CONTRIB }],
        differences: Vec::new(),
    }
}

const CONTRIB: &str = "contrib dblink";
const OURS: &str = "secretlink dblink";
