//! What `check_role_sync` and `check_all_role_sync` find, and that `role_sync` then shows it.

use crate::ground::{Ground, SETTLED, api};
use crate::session::Session;
use crate::visibility::refuse;
use secretlink_e2e::{Fault, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server whose worker looks at nothing by itself.
fn quiet() -> Ground {
    Ground::with(|cluster| cluster.conf("secretlink.reconcile_interval = 1d"))
}

fn rows(session: &mut Session, from: &str) -> BTreeMap<String, (String, Option<String>)> {
    let sql = format!("SELECT role::text, state, last_error FROM {from}");
    let rows = session.client.query(&sql, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

#[test]
fn the_view_shows_at_once_what_sync_role_finds() {
    let ground = quiet();
    let mut session = ground.session();
    for (role, secret, state) in [
        ("same", json!({ "username": "same", "password": "p" }).to_string(), "in_sync"),
        ("plain", "p".to_owned(), "in_sync"),
        ("other", json!({ "username": "other", "password": "q" }).to_string(), "drifted"),
        ("somebody", json!({ "username": "else", "password": "p" }).to_string(), "drifted"),
    ] {
        api().create_secret(&format!("at_once/{role}"), &secret);
        session.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'p'"));
        // In the same transaction and after it.
        session.run(&format!("BEGIN; SELECT sync_role('{role}', 'at_once/{role}')"));
        for end in ["COMMIT", "SELECT"] {
            let sql = format!("SELECT state || (last_error IS NULL) FROM role_sync WHERE role = '{role}'");
            let expected = format!("{state}{}", state == "in_sync");
            assert_eq!(session.text(&sql).as_deref(), Some(expected.as_str()), "{role}, before {end}");
            session.run(end);
        }
    }
    // A secret that is to be brought in step yet is a notice, and one that never can be a warning.
    let told: Vec<_> = session
        .told()
        .iter()
        .map(|told| (told.severity().to_owned(), told.code().code().to_owned(), told.message().to_owned()))
        .collect();
    assert_eq!(
        told,
        [
            ("NOTICE", "00000", r#"secret "at_once/other" does not hold the password of role "other""#),
            ("WARNING", "01000", r#"secret "at_once/somebody" cannot be that of role "somebody""#),
        ]
        .map(|(severity, code, message)| (severity.to_owned(), code.to_owned(), message.to_owned()))
    );
    session.run("CREATE ROLE without; SELECT sync_role('without', 'at_once/without')");
    session.run("CREATE ROLE missing PASSWORD 'p'");
    session.run("SELECT sync_role('missing', 'at_once/missing')");
    let seen = rows(&mut session, "role_sync");
    assert_eq!(seen["without"].0, "no_password");
    assert_eq!(seen["missing"], ("no_secret".into(), Some("The secret does not exist.".into())));

    // What was rolled back is not the last word.
    api().create_secret("at_once/second", r#"{"username":"same","password":"second"}"#);
    session.run("BEGIN; SELECT sync_role('same', 'at_once/second')");
    assert_eq!(rows(&mut session, "role_sync")["same"].0, "drifted");
    session.run("ROLLBACK");
    eventually("the worker has looked again", SETTLED, || {
        match rows(&mut session, "role_sync")["same"].0.as_str() {
            "in_sync" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

#[test]
fn the_view_shows_at_once_what_a_check_finds() {
    let ground = quiet();
    let role = ground.synced_role("checked");
    let password = role.password();
    let mut session = ground.session();
    let put = |username: &str, password: &str| {
        let value = json!({ "username": username, "password": password }).to_string();
        api().put_secret_value(&role.secret, &value, &["AWSCURRENT"]);
    };
    // The worker is kept from looking, so that nobody but the check can have found it.
    let only_for_checks = |session: &mut Session, check: &str, state: &str| {
        assert_eq!(session.text(check).as_deref(), Some(state), "{check}");
        let seen = role.seen();
        assert_eq!((seen.state.as_str(), seen.last_error.is_none()), (state, state == "in_sync"), "{seen:?}");
        if state == "in_sync" {
            assert_eq!(seen.version, api().version_at(&role.secret, "AWSCURRENT"));
        }
    };
    for check in [
        format!("SELECT check_role_sync('{}')", role.name),
        format!("SELECT state FROM check_all_role_sync() WHERE role = '{}'", role.name),
    ] {
        only_for_checks(&mut session, &check, "in_sync");
        put(&role.name, "another");
        only_for_checks(&mut session, &check, "drifted");
        put("somebody_else", &password);
        only_for_checks(&mut session, &check, "drifted");
        put(&role.name, &password);
        only_for_checks(&mut session, &check, "in_sync");
        // If AWS does not say, nothing was found, and what was known stays, with the reason.
        refuse(&ground, &role.secret, "GetSecretValue");
        // The worker may just be settling what it read before.
        eventually("the reason is shown", SETTLED, || {
            assert_eq!(session.text(&check).as_deref(), Some("unknown"));
            let seen = role.seen();
            assert_eq!(seen.state, "in_sync", "{seen:?}");
            if seen.last_error.is_some() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        ground.relay.pass(&role.secret);
        only_for_checks(&mut session, &check, "in_sync");
    }
}

#[test]
fn a_check_does_not_take_the_word_of_a_change_that_is_under_way() {
    let ground = quiet();
    let role = ground.synced_role("under_way");
    let mut session = ground.session();
    let (sql, _) = role.alter();
    session.run(&format!("BEGIN; {sql}"));
    // By this transaction's own sight the secret does not hold the password yet; by that of others it does.
    assert_eq!(session.text(&format!("SELECT check_role_sync('{}')", role.name)).as_deref(), Some("drifted"));
    assert_eq!(role.seen().state, "in_sync");
    assert_eq!(role.check(), "in_sync");
    session.run_quietly("COMMIT");
    assert_eq!((role.check().as_str(), role.seen().state.as_str()), ("in_sync", "in_sync"));
}

#[test]
fn all_roles_are_checked_some_at_a_time_and_a_monitor_may_ask() {
    const ROLES: usize = 40;
    let ground = Ground::with(|cluster| {
        cluster
            .conf("secretlink.reconcile_interval = 1d")
            .conf("secretlink.sync_secret_template = 'all/{role}'")
    });
    let mut session = ground.session();
    let roles: Vec<_> = (0..ROLES).map(|n| format!("CREATE ROLE r{n} PASSWORD 'p{n}'")).collect();
    session.run(&format!("BEGIN; {}; COMMIT", roles.join("; ")));
    session.run("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN");
    let mut watcher = ground.session_of("watcher", "postgres");
    let all = rows(&mut watcher, "check_all_role_sync()");
    assert_eq!(all.len(), ROLES, "{all:?}");
    assert!(all.values().all(|row| *row == ("in_sync".into(), None)), "{all:?}");
    assert_eq!(all, rows(&mut watcher, "role_sync"));
    assert_eq!(watcher.text("SELECT check_role_sync('r1')").as_deref(), Some("in_sync"));
    let mut nobody = ground.session_of("nobody", "postgres");
    for call in ["SELECT check_role_sync('r1')", "SELECT * FROM check_all_role_sync()"] {
        nobody.refused(call, "42501", "permission denied for function");
    }

    api().put_secret_value("all/r7", r#"{"username":"r7","password":"x"}"#, &["AWSCURRENT"]);
    session.run("ALTER ROLE r8 PASSWORD NULL; SECURITY LABEL FOR secretlink ON ROLE r8 IS 'all/r8'");
    session.run("SELECT unsync_role('r9'); ALTER ROLE r10 RENAME TO \"Ünïcode\"");
    let all = rows(&mut watcher, "check_all_role_sync()");
    assert_eq!(all.len(), ROLES - 1);
    assert_eq!((all["r7"].0.as_str(), all["r8"].0.as_str()), ("drifted", "no_password"));
    assert!(!all.contains_key("r9"));
    assert_eq!(all["Ünïcode"].0, "in_sync");
    assert_eq!(all, rows(&mut watcher, "role_sync"));

    // Without an answer for one lot, the next ones are not tried; and a session that waits can be stopped.
    watcher.run("SET secretlink.request_timeout = 1000");
    ground.relay.rule_for_others(|_| Fault::Delay(Duration::from_secs(60)));
    let began = Instant::now();
    let all = rows(&mut watcher, "check_all_role_sync()");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(all.iter().all(|(role, row)| role == "r8" || (row.0 == "unknown" && row.1.is_some())), "{all:?}");
    watcher.run("RESET secretlink.request_timeout");
    let began = Instant::now();
    watcher.run("SET statement_timeout = 500");
    watcher.refused("SELECT * FROM check_all_role_sync()", "57014", "");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    ground.relay.pass_all();
    watcher.run("SET statement_timeout = 0");
    assert_eq!(rows(&mut watcher, "check_all_role_sync()")["r1"].0, "in_sync");
}

#[test]
fn unsync_role_of_a_role_that_is_not_synced_is_a_notice() {
    let ground = quiet();
    let mut session = ground.session();
    session.run("CREATE ROLE plain PASSWORD 'p'");
    let unsync = |session: &mut Session| {
        session.told();
        session.run("SELECT unsync_role('plain')");
        session
            .told()
            .into_iter()
            .map(|told| (told.severity().to_owned(), told.message().to_owned()))
            .collect::<Vec<_>>()
    };
    let notice = vec![("NOTICE".to_owned(), "role \"plain\" is not synced".to_owned())];
    assert_eq!(unsync(&mut session), notice);
    session.run("SELECT sync_role('plain', 'unsync/plain')");
    assert_eq!(unsync(&mut session), Vec::new());
    assert_eq!(unsync(&mut session), notice);
    // With a template it is synced without a label, and excepted by an empty one.
    session.run("ALTER SYSTEM SET secretlink.sync_secret_template = 'unsync/{role}'");
    session.run("SELECT pg_reload_conf()");
    eventually("the template counts", SETTLED, || {
        let shown = "SELECT count(*) FROM role_sync WHERE role = 'plain'";
        if session.text(shown).as_deref() == Some("1") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(unsync(&mut session), Vec::new());
    assert_eq!(unsync(&mut session), notice);
}

/// `AWSPREVIOUS` may hold the role's password, as after any edit: what is said of the role is true then, too, and the
/// version can be made current again by hand.
#[test]
fn an_edit_can_be_taken_back() {
    let ground = quiet();
    let mut session = ground.session();
    session.run("CREATE ROLE edited LOGIN; SELECT sync_role('edited', 'at_once/edited')");
    session.run("ALTER ROLE edited PASSWORD 'p'");
    session.run("SELECT put_secret_field('at_once/edited', 'password', 'q')");
    assert_eq!(session.text("SELECT check_role_sync('edited')").as_deref(), Some("drifted"));
    assert_eq!(
        rows(&mut session, "role_sync")["edited"].1.as_deref(),
        Some(
            "AWSCURRENT does not hold the role's password, and no version that waits to become current does."
        )
    );
    session
        .run("SELECT put_secret_value('at_once/edited', get_secret_value('at_once/edited', 'AWSPREVIOUS'))");
    assert_eq!(session.text("SELECT check_role_sync('edited')").as_deref(), Some("in_sync"));
}
