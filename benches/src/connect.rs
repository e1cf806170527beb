//! Connecting and disconnecting: first in a new backend, and again and again, over TLS and with SCRAM.

use crate::measure::{Candidate, Ratio, Subject, Unit, timed};
use crate::{SECRET, Setting};

/// The first connection of a new backend.
pub fn first<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let conninfo = setting.conninfo();
    let candidate = |name, sql| in_new_backend(setting, name, sql);
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
        differences: Vec::new(),
    }
}

/// The first connection of a new backend with a secret that another one has read.
pub fn first_with_cached_secret<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let conninfo = setting.conninfo();
    Subject {
        title: "First connection in a new backend, secret cached".into(),
        unit: Unit::Seconds,
        repeats: 5,
        candidates: vec![
            in_new_backend(setting, CONTRIB, format!("SELECT contrib.dblink_connect('c', '{conninfo}')")),
            in_new_backend(setting, WITH_SECRET, format!("SELECT connect_with_secret('{SECRET}')")),
        ],
        ratios: vec![Ratio { title: "secretlink / contrib", over: WITH_SECRET, less: None, under: CONTRIB }],
        differences: Vec::new(),
    }
}

/// A new backend each time; getting one does not count.
pub fn in_new_backend<'a>(setting: &'a Setting<'a>, name: &'static str, sql: String) -> Candidate<'a> {
    Candidate {
        name,
        once: Box::new(move || {
            let mut client = setting.session();
            timed(|| client.batch_execute(&sql).expect("the statement works"))
        }),
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
        differences: Vec::new(),
    }
}

const CONTRIB: &str = "contrib dblink_connect";
const OURS: &str = "secretlink dblink_connect";
const WITH_SECRET: &str = "connect_with_secret";
const FETCH: &str = "get_secret_string";
