//! The first connection of a new backend, over TLS and with SCRAM.

use crate::measure::{Candidate, Ratio, Subject, timed};
use crate::{SECRET, Setting};

pub fn subject<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let remote = setting.remote;
    let conninfo = format!(
        "host=127.0.0.1 port={} dbname=testdb user=app password={} sslmode=require",
        remote.port(),
        remote.app_password()
    );
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

const CONTRIB: &str = "contrib dblink_connect";
const OURS: &str = "secretlink dblink_connect";
const WITH_SECRET: &str = "connect_with_secret";
const FETCH: &str = "get_secret_string";
