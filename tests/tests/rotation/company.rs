//! A secret that others rotate, too: a function in AWS's four steps, another server, a copy of this one.

use crate::ground::{Ground, PATIENCE, Subject, api, ground, major, master_of, rotate};
use crate::rival::Rival;
use secretlink_e2e::{SecretsRelay, eventually, random_password};
use serde_json::json;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often each of the two rotates the secret in an ordinary run of the tests; `ROTATIONS` says otherwise.
const ROTATIONS: usize = 4;

/// A rotation function and a server rotate the same secret at random moments, each so often.
fn rotate_in_turn(subject: &Subject<'_>, strategy: &str) {
    let rotations = std::env::var("ROTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROTATIONS);
    let mut rival = Rival::of(subject);
    // What a function leaves behind can be rotated here.
    rival.rotate().unwrap();
    assert_checks(subject, strategy);
    let (done, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pause = || std::thread::sleep(Duration::from_millis(fastrand::u64(0..300)));
    let mut ours = 0;
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            while !enough.load(Ordering::SeqCst) {
                let began = Instant::now();
                if rival.rotate().is_ok() {
                    done.fetch_add(1, Ordering::SeqCst);
                    // The other one is to have its chance on a busy machine, too.
                    std::thread::sleep(began.elapsed().mul_f64(fastrand::f64()));
                }
                pause();
            }
            rival.come_to_rest();
        });
        let deadline = Instant::now() + PATIENCE + Duration::from_secs(10) * rotations as u32;
        while (ours < rotations || done.load(Ordering::SeqCst) < rotations)
            && !theirs.is_finished()
            && Instant::now() < deadline
        {
            let mut session = subject.ground.session();
            ours += usize::from(rotate(&mut session, &subject.secret, Some(strategy)).is_ok());
            pause();
        }
        enough.store(true, Ordering::SeqCst);
    });
    let theirs = done.load(Ordering::SeqCst);
    println!("{strategy}: {ours} rotations of ours, {theirs} of the function");
    subject.assert_at_rest();
    eventually("every run has an end", PATIENCE, || {
        let open = subject.history().iter().filter(|(_, outcome, _)| outcome.is_none()).count();
        if open == 0 { Ok(()) } else { Err(format!("{open}")) }
    });
    subject.assert_at_rest();
    assert!(ours >= rotations && theirs >= rotations, "each has come to its turn: {ours}, {theirs}");
    assert_checks(subject, strategy);
    rotate(&mut subject.ground.session(), &subject.secret, Some(strategy)).unwrap();
    subject.assert_at_rest();
    let mut rival = Rival::of(subject);
    rival.rotate().unwrap();
    subject.assert_at_rest();
}

/// Nothing stands in the way of a rotation.
fn assert_checks(subject: &Subject<'_>, strategy: &str) {
    let sql = "SELECT item, detail, hint FROM check_rotation($1, $2) WHERE NOT ok";
    let rows = subject.ground.session().query(sql, &[&subject.secret, &strategy]).unwrap();
    let wrong: Vec<(String, Option<String>, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// AWS's functions go on without TLS where a certificate cannot be verified.
fn beside_a_function() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        Ground::with_both(|local| local, |remote| remote.auth("hostnossl", "all", "scram-sha-256"))
    })
}

#[test]
fn a_rotation_function_rotates_the_same_secret() {
    let subject = beside_a_function().subject("rival");
    let mut value = subject.at("AWSCURRENT");
    value["ssl"] = json!("false");
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    rotate_in_turn(&subject, "single_user");
}

#[test]
fn a_rotation_function_rotates_the_same_pair() {
    let subject = beside_a_function().subject("rivals");
    let mut value = subject.at("AWSCURRENT");
    value["masterarn"] = json!(master_of(subject.server, (major() >= 16).then_some(&subject.role)));
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    rotate_in_turn(&subject, "alternating_users");
}

#[test]
fn another_server_rotates_the_same_secret() {
    let ground = ground();
    let relay = SecretsRelay::to(crate::ground::moto());
    let other = secretlink_e2e::Cluster::local_with_endpoint(&relay.endpoint())
        .preload(true)
        .conf("secretlink.max_attempts = 1")
        .conf("secretlink.rotation_min_age = 0")
        .conf("secretlink.reconcile_interval = 1")
        .start();
    let subject = ground.subject("shared");
    let (mut ours, mut theirs) = (0, 0);
    for _ in 0..6 {
        std::thread::scope(|scope| {
            let rival = scope
                .spawn(|| rotate(&mut other.connect("postgres", "postgres"), &subject.secret, None).is_ok());
            ours += usize::from(subject.rotate().is_ok());
            theirs += usize::from(rival.join().unwrap());
        });
        subject.assert_at_rest();
    }
    println!("{ours} rotations of ours, {theirs} of the other server");
    assert!(ours + theirs >= 6, "one of the two got through each time");
}

/// A server that comes back from an earlier day, or from a disk's snapshot, is the same to itself.
#[test]
fn a_version_of_a_server_that_was_promoted_is_left_alone() {
    let subject = ground().subject("superseded");
    let version = subject.rotate().unwrap();
    let before = subject.at("AWSCURRENT");
    // As a standby of this cluster makes it after its promotion.
    let mut parts: Vec<&str> = version.split('-').collect();
    parts[2] = "0000000f";
    let later = parts.join("-");
    let input = json!({ "SecretId": subject.secret, "ClientRequestToken": later, "SecretString": before.to_string(),
                        "VersionStages": ["AWSCURRENT"] });
    api().call("PutSecretValue", input).unwrap();
    let (code, message) = subject.refused();
    assert_eq!(code, "55000");
    assert!(message.starts_with("this server has been superseded"), "{message}");
    assert_eq!(api().version_at(&subject.secret, "AWSCURRENT"), Some(later));
    assert_eq!(subject.at("AWSCURRENT"), before);
}

#[test]
fn a_version_that_nobody_remembers_is_brought_to_its_end() {
    let subject = ground().subject("forgotten");
    // The server had the new password already, or not.
    for is_set in [false, true] {
        let version = subject.rotate().unwrap();
        let random = format!("{:016x}", fastrand::u64(..));
        let forgotten = format!("{}-{random}", version.rsplit_once('-').unwrap().0);
        let mut value = subject.at("AWSCURRENT");
        value["password"] = json!(random_password());
        let input = json!({ "SecretId": subject.secret, "ClientRequestToken": forgotten, "SecretString": value.to_string(),
                            "VersionStages": ["AWSPENDING"] });
        api().call("PutSecretValue", input).unwrap();
        if is_set {
            let sql =
                format!("ALTER ROLE {} PASSWORD '{}'", subject.role, value["password"].as_str().unwrap());
            assert!(subject.server.psql(&sql).success);
        }
        assert_eq!(subject.rotate().unwrap(), forgotten);
        subject.assert_at_rest();
        assert_eq!(subject.at("AWSCURRENT"), value);
    }
}
