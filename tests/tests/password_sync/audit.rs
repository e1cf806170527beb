//! Drift that nobody asks for, who has written what, and secrets that keep the worker waiting.

use crate::ground::{Ground, SETTLED, api, new_password};
use crate::synced_role::SyncedRole;
use crate::visibility::until_notified;
use secretlink_e2e::{Fault, ScriptedEndpoint, StopMode, eventually, unique};
use serde_json::json;
use std::time::{Duration, Instant};

/// A server whose worker looks at nobody for long without a reason, and at everybody within a moment.
fn audited() -> Ground {
    Ground::with(|cluster| cluster.conf("secretlink.audit_interval = 2"))
}

/// Somebody else writes the secret.
fn edit(role: &SyncedRole<'_>, password: &str) -> String {
    let value = json!({ "username": role.name, "password": password }).to_string();
    api().put_secret_value(&role.secret, &value, &["AWSCURRENT"])
}

#[test]
fn an_edited_secret_is_found_without_asking() {
    let ground = audited();
    let role = ground.synced_role("edited");
    let right = role.password();
    let mut listener = ground.session();
    listener.run("LISTEN secretlink");
    edit(&role, &new_password());
    let seen = role.until_state("drifted");
    assert!(seen.last_error.is_some(), "{seen:?}");
    until_notified(&mut listener, |payload| {
        payload["role"] == role.name.as_str() && payload["state"] == "drifted"
    });
    assert!(ground.cluster.log().contains("have drifted apart"));
    edit(&role, &right);
    role.until_state("in_sync");
    // Nor is a role's password that others have changed.
    ground.session().run(&format!("SET secretlink.password_sync = off; {}", role.alter().0));
    role.until_state("drifted");
    ground.session().run(&format!("SET secretlink.password_sync = off; {}", role.alter_to(&right)));
    role.until_state("in_sync");
    // Nor one that is gone.
    api().delete_secret(&role.secret, true);
    role.until_state("no_secret");
}

#[test]
fn what_has_not_changed_is_not_read() {
    let ground = audited();
    let role = ground.synced_role("quiet");
    ground.session().run_quietly(&role.alter().0);
    let asked = |operation| ground.relay.count(&role.secret, operation);
    eventually("the worker has verified it", SETTLED, || {
        if asked("GetSecretValue") > 1 { Ok(()) } else { Err(asked("GetSecretValue").to_string()) }
    });
    let (described, read) = (asked("DescribeSecret"), asked("GetSecretValue"));
    eventually("it is looked at three times more", SETTLED, || {
        let now = asked("DescribeSecret") - described;
        if now >= 3 { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(asked("GetSecretValue"), read);
    role.until_state("in_sync");
}

#[test]
fn each_state_has_a_word() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'words/{role}'"));
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = off");
    session.run("CREATE ROLE before LOGIN PASSWORD 'x'");
    session.run("RESET secretlink.password_sync");
    let state = |role: &str| {
        ground
            .session()
            .text(&format!("SELECT state FROM role_sync WHERE role = '{role}'"))
            .unwrap_or_default()
    };
    let until = |role: &str, word: &str| {
        eventually(&format!("{role} is {word}"), SETTLED, || match state(role) {
            now if now == word => Ok(()),
            other => Err(other),
        });
    };
    until("before", "never_set");
    assert_eq!(session.text("SELECT check_role_sync('before')").as_deref(), Some("never_set"));
    session.run("ALTER ROLE before PASSWORD 'y'");
    until("before", "in_sync");
    api().delete_secret("words/before", true);
    assert_eq!(session.text("SELECT check_role_sync('before')").as_deref(), Some("no_secret"));
    until("before", "no_secret");

    // Tied, and nobody has looked, since AWS does not answer.
    let role = ground.synced_role("words");
    ground.relay.rule(&role.secret, |_| Fault::Delay(Duration::from_secs(60)));
    session.run(&format!("SECURITY LABEL FOR secretlink ON ROLE \"{}\" IS '{}'", role.name, role.secret));
    assert_eq!(state(&role.name), "tied");
    ground.relay.pass_all();
    role.until_state("in_sync");
}

#[test]
fn who_rewrites_a_secret_again_and_again_is_named_once() {
    let ground = audited();
    let role = ground.synced_role("rewritten");
    let version = (0..6)
        .map(|_| {
            let version = edit(&role, &new_password());
            eventually("it is noticed", SETTLED, || {
                ground.session().run(&format!("SELECT check_role_sync('{}')", role.name));
                role.until_state("drifted");
                let read = ground.relay.requests(&role.secret).len();
                if read > 0 { Ok(()) } else { Err(read.to_string()) }
            });
            std::thread::sleep(crate::ground::RECONCILE_INTERVAL * 2);
            version
        })
        .nth(2)
        .unwrap();
    let log = ground.cluster.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("drift apart again and again")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("WARNING"), "{warnings:?}");
    let writer = format!("Version {version} was written by somebody else than secretlink.");
    assert!(log.contains(&writer), "{log}");
}

#[test]
fn secrets_without_an_answer_hold_up_nobody() {
    let mut ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '4s'"));
    let names: Vec<(String, String)> = (0..30)
        .map(|n| {
            let role = ground.synced_role(&format!("silent{n}"));
            (role.name.clone(), role.secret.clone())
        })
        .collect();
    ground.cluster.stop(StopMode::Fast);
    // All but a few.
    for (_, secret) in &names[..26] {
        ground.relay.rule(secret, |_| Fault::Delay(Duration::from_secs(120)));
    }
    ground.cluster.start();
    let began = Instant::now();
    for (name, secret) in &names[26..] {
        let role = SyncedRole { ground: &ground, name: name.clone(), secret: secret.clone() };
        role.until_state("in_sync");
    }
    println!("settled beside 26 silent secrets in {:?}", began.elapsed());
    // And what comes up later does not wait for them again.
    let (name, secret) = names[29].clone();
    let role = SyncedRole { ground: &ground, name, secret };
    for _ in 0..3 {
        ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Cut,
            _ => Fault::None,
        });
        ground.session().warned(&role.alter().0);
        ground.relay.pass(&role.secret);
        let began = Instant::now();
        role.until_in_sync();
        println!("promoted beside 26 silent secrets in {:?}", began.elapsed());
    }
    ground.relay.pass_all();
}

/// Every secret has one answer, which serves DescribeSecret and GetSecretValue: the worker's own pace is what is seen.
#[test]
#[ignore = "takes a minute; for figures"]
fn five_thousand_roles_are_settled_after_a_restart() {
    let roles: usize = std::env::var("ROLES").ok().and_then(|n| n.parse().ok()).unwrap_or(5000);
    let aws = ScriptedEndpoint::start();
    let version = unique("version-of-every-secret");
    let value = json!({
        "ARN": "arn:aws:secretsmanager:us-east-1:1:secret:crowd-abcdef", "Name": "crowd", "VersionId": version,
        "VersionIdsToStages": { version.clone(): ["AWSCURRENT"] }, "VersionStages": ["AWSCURRENT"],
        "SecretString": json!({ "password": "p" }).to_string(), "CreatedDate": 1.7e9,
    });
    aws.answer(200, &value.to_string());
    let mut ground = Ground::with(|cluster| {
        cluster
            .conf("secretlink.sync_secret_template = 'crowd/{role}'")
            .conf(&format!("secretlink.endpoint_url = '{}'", aws.url()))
    });
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = off");
    session.run(&format!(
        "DO $do$ BEGIN FOR n IN 1..{roles} LOOP
             EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', 'c' || n, 'md5' || md5('p' || 'c' || n));
         END LOOP; END $do$"
    ));
    drop(session);
    let settled = |ground: &Ground| {
        let sql = "SELECT count(*) FROM role_sync WHERE state = 'in_sync' AND role LIKE 'c%'";
        ground.session().text(sql).unwrap().parse::<usize>().unwrap()
    };
    let before = aws.requests().len();
    ground.cluster.restart(StopMode::Fast);
    let began = Instant::now();
    while settled(&ground) < roles {
        assert!(began.elapsed() < Duration::from_secs(600), "{}", settled(&ground));
        std::thread::sleep(Duration::from_millis(200));
    }
    let took = began.elapsed();
    let calls = aws.requests().len() - before;
    println!("{roles} roles settled in {took:?}: {:.0} calls a second", calls as f64 / took.as_secs_f64());
    assert!(took >= Duration::from_millis(2) * u32::try_from(roles).unwrap(), "{took:?}");
}
