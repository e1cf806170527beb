//! Connecting and disconnecting: first in a new backend, and again and again, over TLS and with SCRAM.

use crate::measure::{Candidate, Ratio, Subject, Unit, timed};
use crate::{SECRET, Setting};

/// The first connection of a new backend.
pub fn first<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let conninfo = setting.conninfo();
    let candidate = |name, sql: String| Candidate {
        name,
        once: Box::new(move || {
            // A new backend each time; getting one does not count.
            let mut client = setting.local.connect("postgres", "postgres");
            timed(|| client.batch_execute(&sql).expect("the statement works"))
        }),
    };
    Subject {
        title: format!("First connection in a new backend, TLS and SCRAM, library {}", setting.describe()),
        unit: Unit::Seconds,
        repeats: 5,
        candidates: vec![
            candidate(CONTRIB, format!("SELECT contrib.dblink_connect('c', '{conninfo}')")),
            candidate(OURS, format!("SELECT public.dblink_connect('c', '{conninfo}')")),
            candidate(WITH_SECRET, format!("SELECT connect_with_secret('{SECRET}')")),
            candidate(FETCH, format!("SELECT get_secret_string('{SECRET}')")),
        ],
        ratios: vec![
            Ratio { title: "dblink_connect: secretlink / contrib", over: OURS, less: None, under: CONTRIB },
            Ratio {
                title: "connect_with_secret, fetch apart / contrib",
                over: WITH_SECRET,
                less: Some(FETCH),
                under: CONTRIB,
            },
        ],
    }
}

/// Connecting and disconnecting in a backend that has done so before.
pub fn later<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let conninfo = setting.conninfo();
    let candidate = |name, schema: &str| {
        let mut client = setting.local.connect("postgres", "postgres");
        let sql = format!(
            "SELECT {schema}.dblink_connect('c', '{conninfo}'); SELECT {schema}.dblink_disconnect('c')"
        );
        Candidate {
            name,
            once: Box::new(move || timed(|| client.batch_execute(&sql).expect("the statement works"))),
        }
    };
    Subject {
        title: "Later connections of a backend, with their end".into(),
        unit: Unit::Seconds,
        repeats: 10,
        candidates: vec![candidate(CONTRIB, "contrib"), candidate(OURS, "public")],
        ratios: vec![Ratio { title: "secretlink / contrib", over: OURS, less: None, under: CONTRIB }],
    }
}

const CONTRIB: &str = "contrib dblink_connect";
const OURS: &str = "secretlink dblink_connect";
const WITH_SECRET: &str = "connect_with_secret";
const FETCH: &str = "get_secret_string";
