//! `ALTER USER ... PASSWORD`: what password sync adds to it.

use secretlink_e2e::Cluster;
use std::cell::Cell;

use crate::measure::{Candidate, Ratio, Subject, Unit, timed};
use crate::{SECRET, Setting};

/// A role that is not synced, with the library and without. The password is hashed already: hashing one
/// takes a hundred times longer than what is measured here.
pub fn not_synced<'a>(setting: &'a Setting<'a>, without: &'a Cluster) -> Subject<'a> {
    let candidate = |name, cluster: &'a Cluster| {
        let mut client = cluster.connect("postgres", "postgres");
        client.batch_execute("CREATE ROLE not_synced").expect("there is no such role");
        Candidate {
            name,
            once: Box::new(move || {
                timed(|| {
                    // One by one: each is a transaction.
                    for _ in 0..1_000 {
                        client
                            .batch_execute(
                                "ALTER USER not_synced PASSWORD 'md50123456789abcdef0123456789abcdef'",
                            )
                            .expect("the role is there");
                    }
                })
            }),
        }
    };
    Subject {
        title: "1,000 x ALTER USER of a role that is not synced (ms: microseconds each)".into(),
        unit: Unit::Seconds,
        repeats: 2,
        candidates: vec![candidate(WITHOUT, without), candidate(WITH, setting.local)],
        ratios: vec![Ratio { title: "with / without", over: WITH, less: None, under: WITHOUT }],
        differences: Vec::new(),
    }
}

/// A synced role, in calls to AWS.
pub fn synced<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let alter = |name, role: &'static str| {
        let mut client = setting.session();
        client.batch_execute(&format!("CREATE ROLE {role}")).expect("there is no such role");
        if role == "synced" {
            client
                .batch_execute("SELECT sync_role('synced', 'bench/synced')")
                .expect("the library is preloaded");
        }
        // Another password each time: the same one would have to be stored only once.
        let number = Cell::new(0);
        Candidate {
            name,
            once: Box::new(move || {
                number.set(number.get() + 1);
                let sql = format!("ALTER USER {role} PASSWORD 'number {}'", number.get());
                timed(|| client.batch_execute(&sql).expect("moto is there"))
            }),
        }
    };
    let mut client = setting.session();
    let fetch = Candidate {
        name: FETCH,
        once: Box::new(move || {
            timed(|| {
                client
                    .batch_execute(&format!("SELECT get_secret_string('{SECRET}')"))
                    .expect("the secret is there");
            })
        }),
    };
    Subject {
        title: "ALTER USER of a synced role, over HTTP to moto".into(),
        unit: Unit::Seconds,
        repeats: 10,
        candidates: vec![alter(NOT_SYNCED, "unsynced"), alter(SYNCED, "synced"), fetch],
        ratios: vec![Ratio {
            title: "(synced - not synced) / one call to AWS",
            over: SYNCED,
            less: Some(NOT_SYNCED),
            under: FETCH,
        }],
        differences: Vec::new(),
    }
}

const WITHOUT: &str = "without the library";
const WITH: &str = "library preloaded";
const NOT_SYNCED: &str = "role not synced";
const SYNCED: &str = "role synced";
const FETCH: &str = "one call to AWS (get_secret_string)";
