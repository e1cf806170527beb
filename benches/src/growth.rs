//! What a backend grows by.

use crate::boto3::Boto3;
use crate::measure::{Candidate, Ratio, Subject, Unit};
use crate::{SECRET, Setting};
use secretlink_e2e::{Process, backend_pid};

/// How memory is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The resident memory as a whole, with what other processes have, too, such as the code of libraries.
    Resident,
    /// What no other process has.
    Private,
}

impl Memory {
    fn of(self, backend: Process) -> f64 {
        let bytes = match self {
            Memory::Resident => backend.resident_bytes(),
            Memory::Private => backend.private_bytes(),
        };
        bytes as f64 / f64::from(1 << 20)
    }

    fn name(self) -> &'static str {
        match self {
            Memory::Resident => "resident memory",
            Memory::Private => "memory that is its own alone",
        }
    }
}

/// Measures the growth in one new backend each.
pub fn subject<'a>(setting: &'a Setting<'a>, boto3: Option<&Boto3>, memory: Memory) -> Subject<'a> {
    let conninfo = setting.conninfo();
    let candidate = |name, sql: String| Candidate {
        name,
        once: Box::new(move || {
            let mut client = setting.session();
            // Whatever comes first in a session loads parts of the catalogs: no merit of what is measured.
            client.batch_execute("SELECT count(current_setting(name)) FROM pg_settings").expect("it works");
            let backend = backend_pid(&mut client);
            let before = memory.of(backend);
            client.batch_execute(&sql).expect("the statement works");
            memory.of(backend) - before
        }),
    };
    let mut candidates = vec![
        candidate(CONTRIB, format!("SELECT contrib.dblink_connect('c', '{conninfo}')")),
        candidate(CACHED, format!("SELECT get_secret_value('{SECRET}')")),
        candidate(OURS, format!("SELECT public.dblink_connect('c', '{conninfo}')")),
        candidate(
            BOTH,
            format!("SELECT get_secret_value('{SECRET}'); SELECT connect_with_secret('{SECRET}')"),
        ),
    ];
    if let Some(boto3) = boto3 {
        candidates.push(candidate(PYTHON, format!("SELECT {}", boto3.call())));
    }
    Subject {
        title: format!("What a backend grows by: {}", memory.name()),
        unit: Unit::Mebibytes,
        repeats: 1,
        candidates,
        ratios: vec![Ratio {
            title: "(cached secret and connect_with_secret) / contrib dblink_connect",
            over: BOTH,
            less: None,
            under: CONTRIB,
        }],
        differences: Vec::new(),
    }
}

const CONTRIB: &str = "contrib dblink_connect";
const CACHED: &str = "get_secret_value, cached";
const OURS: &str = "secretlink dblink_connect";
const BOTH: &str = "get_secret_value, cached, and connect_with_secret";
const PYTHON: &str = "boto3 in PL/Python";
