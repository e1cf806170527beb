//! The background worker.

use crate::ground::{Ground, SETTLED, api, ground};
use crate::session::Session;
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, Process, Witness, eventually, unique};
use std::time::Duration;

/// The one worker's process.
fn worker(session: &mut Session) -> Process {
    eventually("one worker runs", SETTLED, || {
        let rows = session
            .client
            .query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'secretlink'", &[])
            .map_err(|e| e.to_string())?;
        match rows.as_slice() {
            [row] => Ok(Process::new(row.get::<_, i32>(0).cast_unsigned())),
            rows => Err(format!("{} workers", rows.len())),
        }
    })
}

#[test]
fn the_worker_survives_whatever_aws_says() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = 500"));
    let mut session = ground.session();
    let mut witness = Witness::of(&ground.cluster);
    let before = worker(&mut session);
    for fault in [
        (|| Fault::Refuse(500, "InternalServiceError")) as fn() -> Fault,
        || Fault::Refuse(400, "ThrottlingException"),
        || Fault::Refuse(403, "AccessDeniedException"),
        || Fault::Refuse(404, "ResourceNotFoundException"),
        || Fault::Refuse(200, "not what it should be"),
        || Fault::Cut,
        || Fault::Delay(Duration::from_secs(2)),
    ] {
        let role = ground.synced_role("trouble");
        ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Cut,
            _ => Fault::None,
        });
        let (sql, password) = role.alter();
        session.warned(&sql);
        // From here on only the worker asks.
        ground.relay.rule(&role.secret, move |_| fault());
        let asked = ground.relay.requests(&role.secret).len();
        eventually("the worker has tried", SETTLED, || {
            let now = ground.relay.requests(&role.secret).len();
            if now > asked + 1 { Ok(()) } else { Err(format!("{now} requests")) }
        });
        assert_eq!(worker(&mut session), before, "the worker is still the same");
        ground.relay.pass(&role.secret);
        role.until_in_sync();
        assert_eq!(role.password(), password);
    }
    // A secret that is gone for good holds up nobody else.
    let (gone, other) = (ground.synced_role("gone"), ground.synced_role("other"));
    api().delete_secret(&gone.secret, true);
    ground.relay.rule(&other.secret, |request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => Fault::Cut,
        _ => Fault::None,
    });
    session.warned(&other.alter().0);
    ground.relay.pass(&other.secret);
    other.until_in_sync();
    witness.confirm(&ground.cluster);
}

#[test]
fn the_worker_does_not_block_drop_database() {
    let ground = Ground::start();
    let mut session = ground.session();
    worker(&mut session);
    let database = unique("short_lived").replace('-', "_");
    for _ in 0..3 {
        session.run(&format!("CREATE DATABASE {database}"));
        session.run(&format!("DROP DATABASE {database}"));
    }
    // Even the database that notifications go to, and one may also be made from it.
    drop(session);
    let mut session = ground.session_in("template1");
    session.run(&format!("CREATE DATABASE {database} TEMPLATE postgres"));
    session.run(&format!("DROP DATABASE {database}"));
    session.run("DROP DATABASE postgres");
    let role = {
        // Without it the worker goes on with its work.
        session.run("CREATE EXTENSION secretlink; CREATE ROLE still LOGIN PASSWORD 'x'");
        let secret = unique("still");
        api().create_login_secret(&secret, "still", "x");
        session.run(&format!("SELECT sync_role('still', '{secret}')"));
        ground.relay.rule(&secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Cut,
            _ => Fault::None,
        });
        session.warned("ALTER ROLE still PASSWORD 'new-password'");
        secret
    };
    ground.relay.pass_all();
    eventually("the worker promotes", SETTLED, || {
        let current = api().get_secret_value(&role).unwrap();
        if current.contains("new-password") { Ok(()) } else { Err("not current".to_owned()) }
    });
}

#[test]
fn the_worker_comes_back() {
    let ground = Ground::start();
    let mut session = ground.session();
    let first = worker(&mut session);
    session.run(&format!("SELECT pg_terminate_backend({})", first.pid()));
    first.until_gone(SETTLED);
    let second = worker(&mut session);
    assert_ne!(first, second);
    drop(session);
    second.kill();
    eventually("the server recovers", SETTLED, || {
        ground.cluster.try_connect("postgres", "postgres").map(|_| ()).map_err(|e| e.to_string())
    });
    let mut session = eventually("sessions start", SETTLED, || {
        ground
            .cluster
            .try_connect("postgres", "postgres")
            .map(|_| ground.session())
            .map_err(|e| e.to_string())
    });
    assert_ne!(worker(&mut session), second);
}

#[test]
fn the_worker_stops_with_the_server_even_while_aws_keeps_silent() {
    let mut ground = Ground::with(|cluster| {
        cluster.conf("secretlink.request_timeout = '5min'").conf("secretlink.promote_timeout = 300")
    });
    let secret = {
        let role = ground.synced_role("silent");
        ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Cut,
            _ => Fault::None,
        });
        ground.session().warned(&role.alter().0);
        ground.relay.rule(&role.secret, |_| Fault::Delay(Duration::from_secs(60)));
        role.secret.clone()
    };
    let asked = ground.relay.requests(&secret).len();
    eventually("the worker waits for an answer", SETTLED, || {
        if ground.relay.requests(&secret).len() > asked { Ok(()) } else { Err(String::new()) }
    });
    let began = std::time::Instant::now();
    ground.cluster.stop(secretlink_e2e::StopMode::Fast);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    ground.relay.pass_all();
    ground.cluster.start();
}

#[test]
fn a_change_of_the_interval_counts_after_a_reload() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.reconcile_interval = 3600"));
    let role = ground.synced_role("reloaded");
    // In doubt by what nobody here has done, so that nothing but time wakes the worker.
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = off");
    let (sql, password) = role.alter();
    session.run(&sql);
    let value = serde_json::json!({ "username": role.name, "password": password }).to_string();
    let token = "secretlink-01234567-89ab-cdef-0123-456789abcdef";
    api()
        .call("PutSecretValue", serde_json::json!({ "SecretId": role.secret, "SecretString": value, "ClientRequestToken": token, "VersionStages": ["AWSPENDING"] }))
        .unwrap();
    ground.cluster.append_conf(&["secretlink.reconcile_interval = 1".to_owned()]);
    session.run("SELECT pg_reload_conf()");
    role.until_in_sync();
    role.assert_password(&password);
}

/// Nothing but the doorbell wakes the worker within a day.
#[test]
fn what_ends_while_the_worker_looks_at_others_is_looked_at_next() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.reconcile_interval = 1d"));
    let (slow, other) = (ground.synced_role("slow"), ground.synced_role("other"));
    let mut session = ground.session();
    let mut leave_in_doubt = |role: &SyncedRole| {
        ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Cut,
            _ => Fault::None,
        });
        session.warned(&role.alter().0);
    };
    for _ in 0..3 {
        leave_in_doubt(&slow);
        ground.relay.rule(&slow.secret, |_| Fault::Delay(Duration::from_millis(1500)));
        let asked = ground.relay.requests(&slow.secret).len();
        eventually("the worker waits for an answer", SETTLED, || {
            if ground.relay.requests(&slow.secret).len() > asked { Ok(()) } else { Err(String::new()) }
        });
        leave_in_doubt(&other);
        ground.relay.pass_all();
        other.until_in_sync();
        slow.until_in_sync();
    }
}

#[test]
fn the_worker_asks_little_of_aws_when_all_is_well() {
    let ground = ground();
    let role = ground.synced_role("quiet");
    let (sql, _) = role.alter();
    ground.session().run_quietly(&sql);
    let before = ground.relay.requests(&role.secret).len();
    std::thread::sleep(crate::ground::RECONCILE_INTERVAL * 4);
    let asked = ground.relay.requests(&role.secret).len() - before;
    println!("requests in four quiet intervals: {asked}");
    assert!(asked <= 10, "{asked}");
}
