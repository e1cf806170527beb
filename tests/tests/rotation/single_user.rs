//! A role changes its own password.

use crate::ground::{Subject, api, ground, rotate};
use secretlink_e2e::{Fault, db_error, eventually};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

/// Run `work` when the n-th request for `operation` arrives, once.
fn at(subject: &Subject<'_>, operation: &'static str, nth: usize, work: impl Fn() + Send + Sync + 'static) {
    let relay = &subject.ground.relay;
    let seen = std::sync::atomic::AtomicUsize::new(0);
    relay.rule(&arn(subject), move |request| {
        if request.operation == operation && seen.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            work();
        }
        Fault::None
    });
}

/// What a run calls the secret, once it knows.
fn arn(subject: &Subject<'_>) -> String {
    let answer = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
    answer["ARN"].as_str().unwrap().to_owned()
}

#[test]
fn a_role_elsewhere_gets_a_new_password() {
    let subject = ground().subject("single");
    let (before, first) =
        (subject.at("AWSCURRENT"), api().version_at(&subject.secret, "AWSCURRENT").unwrap());
    let version = subject.rotate().unwrap();
    assert!(version.starts_with("slrotate-"), "{version}");
    assert_eq!(api().version_at(&subject.secret, "AWSCURRENT"), Some(version.clone()));
    assert_eq!(api().version_at(&subject.secret, "AWSPREVIOUS"), Some(first));
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
    let mut after = subject.at("AWSCURRENT");
    assert_ne!(after["password"], before["password"]);
    assert_eq!(after["password"].as_str().unwrap().len(), 32);
    assert!(!subject.logs_in(&before), "the old password is over");
    after["password"] = before["password"].clone();
    assert_eq!(after, before, "nothing else has changed");

    // Nobody has seen the new password.
    let password = subject.password();
    for log in [subject.server.log(), subject.ground.local.log()] {
        assert!(!log.contains(&password));
    }
    assert!(subject.server.log().contains("PASSWORD 'SCRAM-SHA-256$4096:"));
    assert!(
        subject.ground.local.log().contains(&format!("rotation of secret \"{}\" succeeded", subject.secret))
    );

    // And again, several times.
    // A rotation that has been answered is in nobody's way.
    for _ in 0..5 {
        let next = subject.rotate().unwrap();
        assert_ne!(next, version);
        assert!(subject.current_logs_in());
    }
    assert!(subject.history().iter().all(|(step, outcome, error)| {
        step == "finishSecret" && outcome.as_deref() == Some("succeeded") && error.is_none()
    }));
}

#[test]
fn it_takes_seven_calls() {
    let subject = ground().subject("calls");
    let relay = &subject.ground.relay;
    relay.forget(&subject.secret);
    subject.rotate().unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    let mut operations = relay.operations(&subject.secret);
    operations.extend(relay.operations(&arn(&subject)));
    assert_eq!(
        operations,
        [
            "DescribeSecret",
            "GetSecretValue",
            "PutSecretValue",
            "UpdateSecretVersionStage",
            "DescribeSecret",
            "UpdateSecretVersionStage",
            "UpdateSecretVersionStage"
        ]
    );
}

#[test]
fn a_role_of_this_server() {
    let ground = ground();
    let subject = ground.subject_at(&ground.local, "own");
    let mut value = subject.at("AWSCURRENT");
    // It has no TLS.
    value["ssl"] = json!(false);
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    subject.rotate().unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
    assert!(!subject.logs_in(&value));
}

#[test]
fn what_is_cached_is_the_new_password_at_once() {
    let subject = ground().subject("cached");
    let mut session = subject.ground.session();
    let mut cached = || -> serde_json::Value {
        let row = session.query_one("SELECT get_secret_value($1)::text", &[&subject.secret]).unwrap();
        serde_json::from_str(row.get(0)).unwrap()
    };
    let before = cached();
    subject.rotate().unwrap();
    assert_ne!(cached(), before);
    assert_eq!(cached(), subject.at("AWSCURRENT"));
}

#[test]
fn the_previous_password_is_tried() {
    let subject = ground().subject("previous");
    let before = subject.at("AWSCURRENT");
    // Somebody has stored a password that is not the role's.
    api().put_secret_value(&subject.secret, &subject.value("wrong").to_string(), &["AWSCURRENT"]);
    assert!(!subject.current_logs_in() && subject.logs_in(&before));
    subject.rotate().unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
}

/// No password of the role logs in any more, from the moment on when a run has looked at everything: under the
/// lock.
fn expire_before_set(subject: &Subject<'_>) {
    let superuser = subject.server.conninfo("postgres", "postgres");
    let done = AtomicBool::new(false);
    let expire = format!("ALTER ROLE {} VALID UNTIL '2000-01-01'", subject.role);
    let psql = std::sync::Mutex::new(subject.server.psql_command(&superuser));
    at(subject, "DescribeSecret", 1, move || {
        if !done.swap(true, Ordering::SeqCst) {
            let mut psql = psql.lock().unwrap();
            assert!(psql.args(["--command", &expire]).status().unwrap().success());
        }
    });
}

#[test]
fn a_password_that_is_not_accepted_is_taken_back() {
    let subject = ground().subject("back");
    let before = subject.at("AWSCURRENT");
    let (role, server) = (subject.role.clone(), subject.server);
    expire_before_set(&subject);
    let (code, message) = subject.refused();
    assert_eq!(
        (code.as_str(), message),
        ("28P01", format!("the server does not accept the new password of role \"{role}\""))
    );
    assert_eq!(subject.last_outcome(), "rolled_back");
    assert!(server.psql(&format!("ALTER ROLE {role} VALID UNTIL 'infinity'")).success);
    subject.assert_untouched(&before);
    // The next one goes through.
    subject.rotate().unwrap();
    subject.assert_at_rest();
}

#[test]
fn an_edit_in_the_middle_survives() {
    let subject = ground().subject("edited");
    let mut edited = subject.at("AWSCURRENT");
    edited["host"] = json!("localhost");
    edited["note"] = json!("by hand");
    let (secret, text) = (subject.secret.clone(), edited.to_string());
    // AWSPENDING is taken first, then AWSCURRENT moves.
    at(&subject, "UpdateSecretVersionStage", 2, move || {
        api().put_secret_value(&secret, &text, &["AWSCURRENT"]);
    });
    subject.rotate().unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
    let mut after = subject.at("AWSCURRENT");
    assert_ne!(after["password"], edited["password"]);
    after["password"] = edited["password"].clone();
    assert_eq!(after, edited);
}

/// The secret is marked for deletion at different moments: nobody can say then that the new password is right.
#[test]
fn a_secret_that_is_deleted_in_the_middle() {
    for (operation, nth, outcome) in [
        ("PutSecretValue", 1, "failed"),
        ("UpdateSecretVersionStage", 1, "failed"),
        ("DescribeSecret", 1, "failed"),
        ("UpdateSecretVersionStage", 2, "rolled_back"),
        ("UpdateSecretVersionStage", 3, "succeeded"),
    ] {
        let subject = ground().subject("deleted");
        let before = subject.at("AWSCURRENT");
        let secret = subject.secret.clone();
        at(&subject, operation, nth, move || api().delete_secret(&secret, false));
        let rotated = subject.rotate();
        assert_eq!(subject.last_outcome(), outcome, "{operation} {nth}");
        match rotated {
            Ok(_) => assert_eq!(outcome, "succeeded", "{operation} {nth}"),
            Err(_) => assert!(subject.logs_in(&before), "{operation} {nth}"),
        }
        api().call("RestoreSecret", json!({ "SecretId": subject.secret })).unwrap();
        assert!(subject.current_logs_in(), "{operation} {nth}");
        // Nothing is in the way of the next one.
        subject.rotate().unwrap();
        subject.assert_at_rest();
    }
    // For good, with the new password set: nothing is left to be done.
    let subject = ground().subject("deleted_for_good");
    let secret = subject.secret.clone();
    at(&subject, "UpdateSecretVersionStage", 2, move || api().delete_secret(&secret, true));
    subject.rotate().unwrap_err();
    assert_eq!(subject.last_outcome(), "failed");
}

/// With the new password set, the worker dies, and the secret is marked for deletion: it goes on when the secret
/// is restored.
#[test]
fn a_secret_that_is_deleted_and_restored() {
    let ground = ground();
    let subject = ground.subject("restored");
    let relay = &ground.relay;
    let (secret, done) = (subject.secret.clone(), AtomicBool::new(false));
    relay.rule(&arn(&subject), move |request| {
        let moves =
            request.operation == "UpdateSecretVersionStage" && request.input["VersionStage"] == "AWSCURRENT";
        if !moves || done.swap(true, Ordering::SeqCst) {
            return Fault::None;
        }
        if let Some(worker) = request.sender() {
            worker.terminate();
            worker.until_gone(crate::ground::PATIENCE);
        }
        api().delete_secret(&secret, false);
        Fault::Cut
    });
    let rotated = std::thread::scope(|scope| {
        let rotating = scope.spawn(|| subject.rotate());
        eventually("the run waits for the secret", crate::ground::PATIENCE, || {
            match subject.history().last() {
                Some((_, None, Some(error))) if error.contains("deletion") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        api().call("RestoreSecret", json!({ "SecretId": subject.secret })).unwrap();
        rotating.join().unwrap()
    });
    rotated.unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
}

#[test]
fn one_that_is_under_way_is_waited_for_by_nobody_else() {
    let subject = ground().subject("twice");
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    at(&subject, "PutSecretValue", 1, move || {
        let _ = begun.send(());
        let _ = may_go.lock().unwrap().recv_timeout(crate::ground::PATIENCE);
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| subject.rotate());
        has_begun.recv_timeout(crate::ground::PATIENCE).unwrap();
        let (code, message) = subject.refused();
        assert_eq!(code, "55006", "{message}");
        go.send(()).unwrap();
        first.join().unwrap().unwrap();
    });
    subject.assert_at_rest();
}

#[test]
fn whoever_has_asked_may_go() {
    let subject = ground().subject("gone");
    let before = subject.at("AWSCURRENT");
    let mut session = subject.ground.session();
    let cancel = session.cancel_token();
    at(&subject, "UpdateSecretVersionStage", 1, move || {
        cancel.cancel_query(postgres::NoTls).unwrap();
    });
    let error = db_error(rotate(&mut session, &subject.secret, None));
    assert_eq!(error.code().code(), "57014");
    assert_eq!(subject.last_outcome(), "succeeded");
    subject.assert_at_rest();
    assert!(!subject.logs_in(&before));
}

/// Password sync neither promotes the rotation's version, which was not yet seen to log in, nor keeps it from
/// putting the former password back.
#[test]
fn a_synced_role_gets_its_former_password_back() {
    let ground = ground();
    let subject = ground.subject_at(&ground.local, "synced_back");
    let mut value = subject.at("AWSCURRENT");
    value["ssl"] = json!(false);
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    let mut session = ground.session();
    session.execute("SELECT sync_role($1::name, $2)", &[&subject.role, &subject.secret]).unwrap();
    expire_before_set(&subject);
    assert_eq!(subject.refused().0, "28P01");
    assert_eq!(subject.last_outcome(), "rolled_back");
    session.batch_execute(&format!("ALTER ROLE {} VALID UNTIL 'infinity'", subject.role)).unwrap();
    subject.assert_untouched(&value);
    let state: String =
        session.query_one("SELECT check_role_sync($1::name)", &[&subject.role]).unwrap().get(0);
    assert_eq!(state, "in_sync");
}

/// Password sync meets the rotation's ALTER ROLE, takes its hash, and leaves its version alone.
#[test]
fn a_synced_role_of_this_server() {
    let ground = ground();
    let subject = ground.subject_at(&ground.local, "synced");
    let mut value = subject.at("AWSCURRENT");
    value["ssl"] = json!(false);
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    let mut session = ground.session();
    session.execute("SELECT sync_role($1::name, $2)", &[&subject.role, &subject.secret]).unwrap();
    for _ in 0..3 {
        let version = subject.rotate().unwrap();
        assert_eq!(subject.last_outcome(), "succeeded");
        subject.assert_at_rest();
        let state: String =
            session.query_one("SELECT check_role_sync($1::name)", &[&subject.role]).unwrap().get(0);
        assert_eq!(state, "in_sync");
        assert_eq!(api().version_at(&subject.secret, "AWSCURRENT"), Some(version));
    }
    // And a change of the password afterwards.
    session.batch_execute(&format!("ALTER ROLE {} PASSWORD 'by-hand-1234'", subject.role)).unwrap();
    assert_eq!(subject.password(), "by-hand-1234");
    subject.rotate().unwrap();
    subject.assert_at_rest();
}
