//! Many queries for one row each.

use crate::Setting;
use crate::measure::{Candidate, Ratio, Subject, Unit, timed};

pub fn subject<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let candidate = |name, schema: &str| {
        let mut client = setting.connected(schema);
        let sql = format!(
            "SELECT count(t.b) FROM generate_series(1, 5000) AS i,
             LATERAL {schema}.dblink('c', 'SELECT a, b FROM few WHERE a = ' || i) AS t(a int, b text)"
        );
        Candidate {
            name,
            once: Box::new(move || timed(|| client.batch_execute(&sql).expect("the statement works"))),
        }
    };
    Subject {
        title: "5,000 queries for one row".into(),
        unit: Unit::Seconds,
        repeats: 2,
        candidates: vec![candidate(CONTRIB, "contrib"), candidate(OURS, "public")],
        ratios: vec![Ratio { title: "secretlink / contrib", over: OURS, less: None, under: CONTRIB }],
        differences: Vec::new(),
    }
}

/// The remote table.
pub const MAKE: &str =
    "CREATE TABLE few AS SELECT i AS a, 'customer ' || i AS b FROM generate_series(1, 5000) AS i;
    ALTER TABLE few ADD PRIMARY KEY (a); GRANT SELECT ON few TO app";

const CONTRIB: &str = "contrib dblink";
const OURS: &str = "secretlink dblink";
