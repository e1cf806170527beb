//! How fast the worker asks Secrets Manager.

use crate::ground::{Ground, SETTLED};
use crate::session::Session;
use secretlink_e2e::{Fault, StopMode, eventually};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server with roles that a template covers, which have secrets.
fn ground_with(roles: usize, interval: u32, audit_interval: u32) -> Ground {
    let ground = Ground::with(|cluster| {
        cluster
            .conf("secretlink.sync_secret_template = 'paced/{cluster}/{role}'")
            .conf(&format!("secretlink.cluster_name = '{}'", secretlink_e2e::unique("pace")))
            .conf(&format!("secretlink.reconcile_interval = {interval}"))
            .conf(&format!("secretlink.audit_interval = {audit_interval}"))
    });
    let each: Vec<_> = (0..roles).map(|n| format!("CREATE ROLE p{n} LOGIN PASSWORD 'p{n}'")).collect();
    ground.session().run(&format!("BEGIN; {}; COMMIT", each.join("; ")));
    ground
}

fn until_in_sync(session: &mut Session, roles: usize) {
    let sql =
        "SELECT count(*) FROM role_sync WHERE role LIKE 'p%' AND role <> 'postgres' AND state = 'in_sync'";
    eventually("every role is in sync", SETTLED, || match session.text(sql).as_deref() {
        Some(count) if count == roles.to_string() => Ok(()),
        other => {
            let seen = "SELECT string_agg(concat_ws(' ', role, state, last_error), '; ') FROM role_sync";
            Err(format!("{other:?}: {:?}", session.text(seen)))
        }
    });
}

#[test]
fn all_of_the_worker_rests_when_it_is_throttled_whoever_rings() {
    const ROLES: usize = 40;
    let mut ground = ground_with(ROLES, 60, 3600);
    ground.session().run("CREATE ROLE ringing");
    ground.relay.rule_for_others(|_| Fault::Refuse(400, "ThrottlingException"));
    ground.cluster.restart(StopMode::Fast);
    let (before, began) = (ground.relay.total(), Instant::now());
    let mut session = ground.session();
    for n in 0..30 {
        // A session that ties a role to a secret rings.
        session.run(&format!("SECURITY LABEL FOR secretlink ON ROLE ringing IS 'paced/ring/{n}'"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let asked = ground.relay.total() - before;
    // After one second, two more, four more and so on; each time sixteen secrets at most, of two calls each, before the
    // first has its answer.
    let passes = 2 + (began.elapsed().as_secs() + 1).ilog2() as usize;
    println!("throttled: {asked} calls in {:?}", began.elapsed());
    assert!(asked > 0 && asked <= passes * 32, "{asked} in {:?}", began.elapsed());
    ground.relay.pass_all();
    until_in_sync(&mut session, ROLES);
}

#[test]
fn each_rest_is_longer_than_the_one_before_with_nobody_in_doubt() {
    const ROLES: usize = 24;
    let mut ground = ground_with(ROLES, 60, 1);
    // Then the worker has verified them all.
    ground.cluster.restart(StopMode::Fast);
    until_in_sync(&mut ground.session(), ROLES);
    ground.relay.rule_for_others(|_| Fault::Refuse(400, "ThrottlingException"));
    let (before, began) = (ground.relay.total(), Instant::now());
    let asked = || ground.relay.total() - before;
    eventually("the worker asks", SETTLED, || if asked() > 0 { Ok(()) } else { Err("nothing".to_owned()) });
    while began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    // After one second, two more, four more and so on; each time sixteen secrets, of one call each.
    let steps = 2 + (began.elapsed().as_secs() + 1).ilog2() as usize;
    println!("throttled: {} calls in {:?}", asked(), began.elapsed());
    assert!(asked() <= steps * 16, "{} in {:?}", asked(), began.elapsed());
    ground.relay.pass_all();
}

#[test]
fn a_role_that_is_held_has_nobody_elses_secret_read_again_and_again() {
    const ROLES: usize = 6;
    let ground = ground_with(ROLES, 60, 3600);
    let mut session = ground.session();
    session.run("CREATE ROLE ringing");
    for n in 0..ROLES {
        session.run(&format!("SET secretlink.password_sync = off; ALTER ROLE p{n} PASSWORD 'r{n}'"));
        assert_eq!(session.text(&format!("SELECT check_role_sync('p{n}')")).as_deref(), Some("drifted"));
    }
    session.run("RESET secretlink.password_sync");
    let prefix = format!("paced/{}", session.text("SHOW secretlink.cluster_name").unwrap());
    let looked_at = |n: usize| ground.relay.count(&format!("{prefix}/p{n}"), "DescribeSecret");
    let mut holder = ground.session();
    holder.run("BEGIN; ALTER ROLE p0 PASSWORD 'held'");
    let before: Vec<usize> = (0..ROLES).map(looked_at).collect();
    session.run(&format!("SECURITY LABEL FOR secretlink ON ROLE ringing IS '{prefix}/ringing'"));
    let now = |n: usize| looked_at(n) - before[n];
    eventually("the one that is held is looked at again and again", SETTLED, || match now(0) {
        5.. => Ok(()),
        few => Err(few.to_string()),
    });
    let others: Vec<usize> = (1..ROLES).map(now).collect();
    assert!(others.iter().all(|looks| (1..=2).contains(looks)), "{others:?}");
    // And it is found out about soon after it is let go.
    holder.run("ROLLBACK");
    let looks = now(0);
    eventually("it is looked at once more", SETTLED, || {
        if now(0) > looks { Ok(()) } else { Err(String::new()) }
    });
    session.run("ALTER ROLE p0 PASSWORD 'settled'");
    let sql = "SELECT state FROM role_sync WHERE role = 'p0'";
    eventually("it is in sync", SETTLED, || match session.text(sql).as_deref() {
        Some("in_sync") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn what_is_written_leaves_half_of_the_quota_to_others() {
    const ROLES: usize = 12;
    let ground = ground_with(ROLES, 1, 3600);
    let mut session = ground.session();
    until_in_sync(&mut session, ROLES);
    ground.relay.rule_for_others(|request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => Fault::Refuse(500, "InternalServiceError"),
        _ => Fault::None,
    });
    let each: Vec<_> = (0..ROLES).map(|n| format!("ALTER ROLE p{n} PASSWORD 'q{n}'")).collect();
    session.run(&format!("BEGIN; {}; COMMIT", each.join("; ")));
    let calls = Arc::new(Mutex::new(Vec::new()));
    ground.relay.rule_for_others({
        let calls = Arc::clone(&calls);
        move |request| {
            if request.operation == "UpdateSecretVersionStage" {
                calls.lock().unwrap().push(Instant::now());
            }
            Fault::None
        }
    });
    until_in_sync(&mut session, ROLES);
    let calls = calls.lock().unwrap().clone();
    assert!(calls.len() >= ROLES, "{}", calls.len());
    let (first, last) = (calls[0], calls[ROLES - 1]);
    let took = last - first;
    println!("{ROLES} roles promoted in {took:?}");
    assert!(took >= Duration::from_millis(70) * (ROLES as u32 - 1), "{took:?}");
}
