//! More synced roles than the server keeps account of.

use crate::ground::{Ground, SETTLED, api};
use crate::session::Session;
use secretlink_e2e::{StopMode, eventually};

#[test]
fn of_more_roles_than_account_is_kept_of_those_in_doubt_come_first() {
    const LIMIT: usize = 32;
    const ROLES: usize = 2 * LIMIT;
    let ground = Ground::with(|cluster| {
        cluster
            .conf(&format!("secretlink.max_synced_roles = {LIMIT}"))
            .conf("secretlink.sync_secret_template = 'many/{role}'")
            // One transaction changes all of them, and a busy stand-in is slow.
            .conf("secretlink.request_timeout = '2min'")
    });
    let mut session = ground.session();
    let changes: Vec<_> = (0..ROLES).map(|n| format!("CREATE ROLE m{n} LOGIN PASSWORD 'p{n}'")).collect();
    session.run(&format!("BEGIN; {}; COMMIT", changes.join("; ")));
    let count = |session: &mut Session, what: &str| {
        let sql = format!("SELECT count(*) FROM role_sync WHERE role LIKE 'm%' AND {what}");
        session.text(&sql).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(count(&mut session, "true"), ROLES, "every role is shown");
    eventually("account is kept of as many as there is place for", SETTLED, || {
        match count(&mut session, "state = 'in_sync'") {
            LIMIT => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let unaccounted = "state = 'unknown' AND last_error LIKE '%max_synced_roles%'";
    assert_eq!(count(&mut session, unaccounted), ROLES - LIMIT);

    // Whichever drift, they are among those that are known, and known to be.
    for n in (0..ROLES).step_by(8) {
        api().put_secret_value(
            &format!("many/m{n}"),
            &format!(r#"{{"username":"m{n}","password":"edited"}}"#),
            &["AWSCURRENT"],
        );
        assert_eq!(session.text(&format!("SELECT check_role_sync('m{n}')")).as_deref(), Some("drifted"));
    }
    eventually("all that drifted are shown", SETTLED, || match count(&mut session, "state = 'drifted'") {
        8 => Ok(()),
        other => Err(other.to_string()),
    });
    let first =
        "SELECT count(*) FROM (SELECT state FROM role_sync LIMIT 8) AS first WHERE state <> 'in_sync'";
    assert_eq!(session.text(first).as_deref(), Some("8"), "they are shown first, too");
    // Changes go on, of those of which no account is kept, too.
    for n in 0..ROLES {
        session.run_quietly(&format!("ALTER ROLE m{n} PASSWORD 'q{n}'"));
    }
    assert_eq!(count(&mut session, "state = 'drifted'"), 0);
    assert!(count(&mut session, "state = 'in_sync'") > 0);

    // After a restart the log says why not all are known.
    let mut ground = ground;
    drop(session);
    ground.cluster.restart(StopMode::Fast);
    eventually("the log says so", SETTLED, || {
        let log = ground.cluster.log();
        let said =
            log.contains(&format!("{ROLES} roles are synced, and secretlink.max_synced_roles is {LIMIT}"));
        if said { Ok(()) } else { Err("not yet".to_owned()) }
    });
}
