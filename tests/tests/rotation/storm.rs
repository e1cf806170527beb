//! Rotations at random, with something going wrong in each: single and alternating, of roles of this server
//! and of another. `ROTATIONS` says how many, `SEED` which; `make storm` runs a thousand.

use crate::crashes::{BLOWS, MOMENTS, Moment, assert_settled, strike, until_recovered};
use crate::ground::{Ground, PATIENCE, Subject, api, major, master_of, rotate};
use secretlink_e2e::{Cluster, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// How many in an ordinary run of the tests.
const ROTATIONS: usize = 16;

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// A role of one of the two servers and its secret, with a master if it takes turns.
fn subject<'a>(ground: &'a Ground, server: &'a Cluster, alternating: bool) -> Subject<'a> {
    let subject = ground.subject_at(server, "storm");
    let mut value = subject.at("AWSCURRENT");
    let own = server.port() == ground.local.port();
    if own {
        // It has no TLS.
        value["ssl"] = json!(false);
    }
    if alternating {
        let master = master_of(server, (major() >= 16).then_some(&subject.role));
        if own {
            let mut plain: serde_json::Value =
                serde_json::from_str(&api().get_secret_value(&master).unwrap()).unwrap();
            plain["ssl"] = json!(false);
            api().put_secret_value(&master, &plain.to_string(), &["AWSCURRENT"]);
        }
        value["masterarn"] = json!(master);
    }
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    subject
}

#[test]
fn whatever_goes_wrong_the_secret_logs_in() {
    let rotations = number("ROTATIONS").unwrap_or(ROTATIONS);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed} ROTATIONS={rotations}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ground = Ground::with(|local| local.conf("secretlink.request_timeout = '1s'"));
    // A few secrets, rotated again and again.
    let mut known = Vec::new();
    for number in 0..4 {
        let server = if number & 1 == 0 { &ground.remote } else { &ground.local };
        let subject = subject(&ground, server, number & 2 != 0);
        known.push((number & 1 == 1, subject.secret, subject.role));
    }
    let mut fell = BTreeMap::<Moment, usize>::new();
    let mut missed = 0;
    for number in 0..rotations {
        let (own, secret, role) = random.choice(&known).unwrap().clone();
        let (moment, blow) = (*random.choice(&MOMENTS).unwrap(), *random.choice(&BLOWS).unwrap());
        let what = format!("SEED={seed}, rotation {number}: {blow:?} at {moment:?}, of {secret}");
        let fallen = strike(&ground, &secret, moment, blow);
        let _ = rotate(&mut ground.session(), &secret, None);
        until_recovered(&mut ground, blow);
        match fallen.load(Ordering::SeqCst) {
            true => *fell.entry(moment).or_default() += 1,
            false => missed += 1,
        }
        eventually("late requests have arrived", PATIENCE, || match ground.relay.open() {
            0 => Ok(()),
            open => Err(format!("{open}")),
        });
        ground.relay.pass_all();
        let server = if own { &ground.local } else { &ground.remote };
        assert_settled(&Subject { ground: &ground, server, secret, role }, &what);
    }
    println!("{rotations} rotations; {missed} blows did not fall; fell:");
    for (moment, count) in fell {
        println!("{count:6} {moment:?}");
    }
    assert!(!ground.local.log().contains("PANIC:"));
}
