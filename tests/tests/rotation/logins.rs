//! Sessions that log in all the time while a secret is rotated.

use crate::ground::{Ground, Subject, api, ground, major, master_of};
use secretlink_e2e::Cluster;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many of each kind there are, how many rotations, and how many seconds apart those of two users are, in an
/// ordinary run of the tests; `SESSIONS`, `ROTATIONS` and `MIN_AGE` say otherwise. A
/// client that is slow, on a busy machine, has as long as this from reading the secret to its login.
const SESSIONS: usize = 4;
const ROTATIONS: usize = 5;
const MIN_AGE: usize = 3;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the sessions saw.
#[derive(Default)]
struct Seen {
    by_secret: AtomicUsize,
    by_secret_failed: AtomicUsize,
    plain: AtomicUsize,
    plain_failed: AtomicUsize,
}

/// A plain client: reads `AWSCURRENT`, then logs in.
fn plain(server: &Cluster, secret: &str) -> bool {
    let login: Value = serde_json::from_str(&api().get_secret_value(secret).unwrap()).unwrap();
    let (user, password) = (login["username"].as_str().unwrap(), login["password"].as_str().unwrap());
    crate::ground::log_in(server, user, password)
}

fn watch(ground: &Ground, subject: &Subject<'_>, min_age: Duration) -> (Seen, Duration) {
    let (sessions, rotations) = (number("SESSIONS", SESSIONS), number("ROTATIONS", ROTATIONS));
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                let mut session = ground.session();
                let sql = "SELECT connect_with_secret($1, connection_name => 'c'), dblink_disconnect('c')";
                while !over.load(Ordering::SeqCst) {
                    seen.by_secret.fetch_add(1, Ordering::SeqCst);
                    if let Err(error) = session.query(sql, &[&subject.secret]) {
                        eprintln!("by secret: {error:?}");
                        seen.by_secret_failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    seen.plain.fetch_add(1, Ordering::SeqCst);
                    if !plain(subject.server, &subject.secret) {
                        seen.plain_failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        // One client measures for how long what is at AWSCURRENT does not log in.
        let measure = scope.spawn(|| {
            let (mut longest, mut since) = (Duration::ZERO, None);
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                match plain(subject.server, &subject.secret) {
                    true => {
                        if let Some(since) = since.take() {
                            longest = longest.max(began - since);
                        }
                    }
                    false => {
                        since.get_or_insert(began);
                    }
                }
            }
            longest
        });
        for _ in 0..rotations {
            let rotated = subject.rotate();
            if rotated.is_err() {
                over.store(true, Ordering::SeqCst);
            }
            rotated.unwrap();
            std::thread::sleep(min_age / 4);
        }
        over.store(true, Ordering::SeqCst);
        measure.join().unwrap()
    });
    println!(
        "{rotations} rotations: {} logins by secret, {} failed; {} plain logins, {} failed; AWSCURRENT did not log in for {longest:?} at most",
        seen.by_secret.load(Ordering::SeqCst),
        seen.by_secret_failed.load(Ordering::SeqCst),
        seen.plain.load(Ordering::SeqCst),
        seen.plain_failed.load(Ordering::SeqCst),
    );
    (seen, longest)
}

#[test]
fn by_secret_none_fails_with_a_single_user() {
    let ground = ground();
    let subject = ground.subject("watched");
    let (seen, _) = watch(ground, &subject, Duration::from_millis(400));
    assert_eq!(seen.by_secret_failed.load(Ordering::SeqCst), 0);
    assert!(seen.by_secret.load(Ordering::SeqCst) > 0);
    subject.assert_at_rest();
}

#[test]
fn none_fails_at_all_with_alternating_users() {
    let min_age = number("MIN_AGE", MIN_AGE);
    let ground = Ground::with(|local| local.conf(&format!("secretlink.rotation_min_age = '{min_age}s'")));
    let min_age = Duration::from_secs(min_age as u64);
    let subject = ground.subject("turns");
    let mut value = subject.at("AWSCURRENT");
    value["masterarn"] = json!(master_of(&ground.remote, (major() >= 16).then_some(&subject.role)));
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    let (seen, _) = watch(&ground, &subject, min_age);
    assert_eq!(seen.by_secret_failed.load(Ordering::SeqCst), 0);
    assert_eq!(seen.plain_failed.load(Ordering::SeqCst), 0);
    subject.assert_at_rest();
}
