//! A secret that others rotate, too: a function in AWS's four steps, another server, a copy of this one.

use crate::ground::{Ground, PATIENCE, Subject, api, ground, log_in, rotate};
use postgres::NoTls;
use secretlink_e2e::{SecretsApi, SecretsRelay, eventually, random_password, unique};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

/// What AWS does when it is asked to rotate, and what a rotation function for a single user does, by the
/// steps that AWS documents: no lock, no rollback, no look at what others do. Ends where a function would
/// fail; AWS calls it again later with the same token.
fn function(api: &SecretsApi, subject: &Subject<'_>, token: &str) -> Result<(), String> {
    let secret = &subject.secret;
    let read = |stage: &str| -> Result<Value, String> {
        let text = api.get_stage(secret, stage).map_err(|e| format!("{e:?}"))?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    };
    let is_ours = || api.version_at(secret, "AWSPENDING").as_deref() == Some(token);
    // RotateSecret is refused while AWSPENDING is elsewhere.
    let pending = api.version_at(secret, "AWSPENDING");
    if pending.is_some()
        && pending.as_deref() != Some(token)
        && pending != api.version_at(secret, "AWSCURRENT")
    {
        return Err("a rotation is in progress".into());
    }
    // createSecret
    let current = read("AWSCURRENT")?;
    if !is_ours() {
        let mut value = current.clone();
        value["password"] = json!(random_password());
        let input = json!({ "SecretId": secret, "ClientRequestToken": token, "SecretString": value.to_string(),
                            "VersionStages": ["AWSPENDING"] });
        api.call("PutSecretValue", input).map_err(|e| format!("{e:?}"))?;
    }
    // setSecret
    let pending = read("AWSPENDING")?;
    if !is_ours() {
        return Err("AWSPENDING has gone".into());
    }
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    if !log_in(subject.server, &text(&pending, "username"), &text(&pending, "password")) {
        let mut logins = vec![read("AWSCURRENT")?];
        logins.extend(read("AWSPREVIOUS"));
        let login =
            logins.into_iter().find(|login| log_in(subject.server, &subject.role, &text(login, "password")));
        let login = login.ok_or("no password logs in")?;
        let conninfo = format!(
            "host=127.0.0.1 port={} user={} password={} dbname=postgres",
            subject.server.port(),
            subject.role,
            text(&login, "password")
        );
        let sql = format!("ALTER ROLE {} PASSWORD '{}'", subject.role, text(&pending, "password"));
        if !subject.server.psql_with(&conninfo, &sql).success {
            return Err("the password could not be set".into());
        }
    }
    // testSecret
    let pending = read("AWSPENDING")?;
    if !is_ours() || !log_in(subject.server, &subject.role, &text(&pending, "password")) {
        return Err("the new password does not log in".into());
    }
    // finishSecret
    let current = api.version_at(secret, "AWSCURRENT").ok_or("no current version")?;
    if current != token {
        let input = json!({ "SecretId": secret, "VersionStage": "AWSCURRENT", "MoveToVersionId": token,
                            "RemoveFromVersionId": current });
        api.call("UpdateSecretVersionStage", input).map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

#[test]
fn a_rotation_function_rotates_the_same_secret() {
    let subject = ground().subject("rival");
    let over = AtomicBool::new(false);
    let rotations = std::env::var("ROTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let (mut ours, mut theirs) = (0, 0);
    std::thread::scope(|scope| {
        let rival = scope.spawn(|| {
            let (api, mut done, mut token) = (api(), 0, unique("rival-function-token"));
            while !over.load(Ordering::SeqCst) {
                match function(&api, &subject, &token) {
                    Ok(()) => {
                        done += 1;
                        token = unique("rival-function-token");
                    }
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
                }
            }
            // It is at rest when its last rotation is through.
            for _ in 0..100 {
                let pending = api.version_at(&subject.secret, "AWSPENDING");
                let current = api.version_at(&subject.secret, "AWSCURRENT");
                if pending.as_deref() != Some(&token) || pending == current {
                    break;
                }
                let _ = function(&api, &subject, &token);
            }
            done
        });
        for _ in 0..rotations {
            ours += usize::from(subject.rotate().is_ok());
            std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(0..300)));
        }
        over.store(true, Ordering::SeqCst);
        theirs = rival.join().unwrap();
    });
    println!("{ours} rotations of ours, {theirs} of the function");
    subject.assert_at_rest();
    eventually("every run has an end", PATIENCE, || {
        let open = subject.history().iter().filter(|(_, outcome, _)| outcome.is_none()).count();
        if open == 0 { Ok(()) } else { Err(format!("{open}")) }
    });
    subject.assert_at_rest();
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

#[test]
fn the_extension_is_dropped_in_the_middle() {
    let ground = Ground::start();
    let subject = ground.subject("dropped");
    let before = subject.at("AWSCURRENT");
    let conninfo = ground.local.conninfo("postgres", "postgres");
    let arn = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
    ground.relay.rule(arn["ARN"].as_str().unwrap(), move |request| {
        if request.operation == "PutSecretValue" {
            postgres::Client::connect(&conninfo, NoTls)
                .unwrap()
                .batch_execute("DROP EXTENSION secretlink")
                .unwrap();
        }
        secretlink_e2e::Fault::None
    });
    subject.rotate().unwrap_err();
    eventually("nothing is left", PATIENCE, || match api().version_at(&subject.secret, "AWSPENDING") {
        None => Ok(()),
        pending => Err(format!("{pending:?}")),
    });
    assert_eq!(subject.at("AWSCURRENT"), before);
    assert!(subject.current_logs_in());
}
