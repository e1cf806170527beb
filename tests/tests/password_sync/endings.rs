//! Roles that are dropped, and roles without a password.

use crate::ground::ground;
use secretlink_e2e::eventually;
use std::time::Duration;

#[test]
fn a_dropped_role_leaves_its_secret_alone_and_says_so() {
    let ground = ground();
    let role = ground.synced_role("dropped");
    let before = role.current();
    let mut session = ground.session();
    session.run(&format!("DROP ROLE {}", role.name));
    let told = session.told();
    assert!(
        told.iter().any(|notice| notice.severity() == "NOTICE" && notice.message().contains(&role.secret)),
        "{told:?}"
    );
    assert_eq!((role.current(), role.versions()), (before, 1));
    let gone = session.text(&format!("SELECT count(*) FROM role_sync WHERE role = '{}'", role.name));
    assert_eq!(gone.as_deref(), Some("0"));
    let labels = session.text(&format!("SELECT count(*) FROM pg_shseclabel WHERE label = '{}'", role.secret));
    assert_eq!(labels.as_deref(), Some("0"));
}

#[test]
fn the_pending_change_of_a_dropped_role_is_forgotten() {
    let ground = ground();
    let role = ground.synced_role("forgotten");
    let before = role.current();
    let (sql, _) = role.alter();
    ground.session().run(&format!("BEGIN; {sql}; DROP ROLE {}; COMMIT", role.name));
    assert_eq!((role.current(), role.versions()), (before, 1));
    assert_eq!(ground.relay.count(&role.secret, "PutSecretValue"), 0);

    // Dropped and made again in one transaction: the new one's password counts.
    let role = ground.synced_role("again");
    let [(old, _), (_, new)] = [role.alter(), role.alter()];
    let sync = format!("SELECT sync_role('{}', '{}')", role.name, role.secret);
    ground.session().run(&format!(
        "BEGIN; {old}; DROP ROLE {0}; CREATE ROLE {0} LOGIN PASSWORD '{new}'; {sync}; COMMIT",
        role.name
    ));
    role.assert_password(&new);

    // A drop that is taken back changes nothing.
    let (sql, password) = role.alter();
    ground
        .session()
        .run(&format!("BEGIN; {sql}; SAVEPOINT s; DROP ROLE {}; ROLLBACK TO s; COMMIT", role.name));
    role.assert_password(&password);
}

#[test]
fn a_role_without_a_password_is_reported() {
    let ground = ground();
    let mut session = ground.session();
    for (none, notice) in [("NULL", false), ("''", true)] {
        let role = ground.synced_role("none");
        let before = role.current();
        let warning = session.warned(&format!("ALTER ROLE {} PASSWORD {none}", role.name));
        assert!(warning.message().contains(&role.name), "{none}: {warning:?}");
        let told = session.told();
        assert_eq!(
            told.iter().any(|n| n.severity() == "NOTICE"),
            notice && !told.is_empty(),
            "{none}: {told:?}"
        );
        assert_eq!(role.check(), "no_password", "{none}");
        assert_eq!(role.until_state("no_password").secret.as_deref(), Some(role.secret.as_str()));
        assert_eq!((role.current(), role.versions()), (before, 1), "{none}");

        // Rolled back, it is as if nothing had been said.
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        role.assert_password(&password);
        session.run(&format!("BEGIN; ALTER ROLE {} PASSWORD {none}; ROLLBACK", role.name));
        role.assert_password(&password);
        assert_eq!(role.check(), "in_sync");
        eventually("role_sync follows", Duration::from_secs(10), || {
            let seen = role.seen();
            if seen.state == "in_sync" { Ok(()) } else { Err(format!("{seen:?}")) }
        });

        // First one, then none: the secret is left alone.
        let (sql, _) = role.alter();
        session.run(&format!("BEGIN; {sql}; ALTER ROLE {} PASSWORD {none}; COMMIT", role.name));
        assert_eq!(role.password(), password);
        assert_eq!(role.left_over(), None);
        // First none, then one.
        let (sql, password) = role.alter();
        session.run(&format!("BEGIN; ALTER ROLE {} PASSWORD {none}; {sql}; COMMIT", role.name));
        role.assert_password(&password);
    }
}
