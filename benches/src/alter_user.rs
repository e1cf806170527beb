//! `ALTER USER ... PASSWORD`: what password sync adds to it.

use secretlink_e2e::{Cluster, Distance, Gateway, Moto};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

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

/// How long a message takes to AWS, or back.
const WAY: Duration = Duration::from_millis(10);

/// A synced role, with AWS as far away as it often is and beside the server: what the difference is in round trips. One
/// is for TCP, one for TLS, and one for each of the three calls that follow each other.
pub fn synced_over_tls<'a>(moto: &Moto) -> Subject<'a> {
    let gateway = Rc::new(Gateway::to(moto, &["localhost"]));
    let alter = |name, role: &'static str, way| {
        let distance = Distance::to(gateway.port(), way);
        let local = Cluster::local(moto)
            .preload(true)
            .conf(&format!("secretlink.endpoint_url = 'https://localhost:{}'", distance.port()))
            .conf(&format!("secretlink.ca_bundle = '{}'", gateway.ca().display()))
            .start();
        let mut client = local.connect("postgres", "postgres");
        client.batch_execute(&format!("CREATE ROLE {role}")).expect("there is no such role");
        client
            .batch_execute(&format!("SELECT sync_role('{role}', 'bench/{role}')"))
            .expect("the library is preloaded");
        // The first password makes the secret.
        client.batch_execute(&format!("ALTER USER {role} PASSWORD 'first'")).expect("moto is there");
        let (number, gateway) = (Cell::new(0), Rc::clone(&gateway));
        Candidate {
            name,
            once: Box::new(move || {
                let _ = (&gateway, &distance, &local);
                number.set(number.get() + 1);
                let sql = format!("ALTER USER {role} PASSWORD 'number {}'", number.get());
                timed(|| client.batch_execute(&sql).expect("moto is there"))
            }),
        }
    };
    let round_trip = Candidate { name: ROUND_TRIP, once: Box::new(|| 2.0 * WAY.as_secs_f64()) };
    Subject {
        title: "ALTER USER of a synced role, over TLS, 20 ms from AWS".into(),
        unit: Unit::Seconds,
        repeats: 5,
        candidates: vec![alter(NEAR, "near", Duration::ZERO), alter(FAR, "far", WAY), round_trip],
        ratios: vec![Ratio {
            title: "(far - near) / round trip",
            over: FAR,
            less: Some(NEAR),
            under: ROUND_TRIP,
        }],
        differences: Vec::new(),
    }
}

const NEAR: &str = "role synced, AWS beside the server";
const FAR: &str = "role synced, AWS 20 ms away";
const ROUND_TRIP: &str = "a round trip";
const WITHOUT: &str = "without the library";
const WITH: &str = "library preloaded";
const NOT_SYNCED: &str = "role not synced";
const SYNCED: &str = "role synced";
const FETCH: &str = "one call to AWS (get_secret_string)";
