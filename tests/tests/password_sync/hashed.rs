//! Passwords that come as a hash, which nobody can turn into a secret.

use crate::ground::ground;
use crate::session::Session;
use secretlink_e2e::{random_password, unique};

/// A verifier of some password, which Postgres takes in its place.
fn verifier(session: &mut Session, encryption: &str) -> String {
    let role = unique("hash").replace('-', "_");
    session.run(&format!(
        "SET password_encryption = '{encryption}'; CREATE ROLE {role} PASSWORD '{}'",
        random_password()
    ));
    session.run("RESET password_encryption");
    session.text(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).unwrap()
}

#[test]
fn a_hash_is_rejected_for_a_synced_role() {
    let ground = ground();
    let role = ground.synced_role("hashed");
    let mut session = ground.session();
    for encryption in ["scram-sha-256", "md5"] {
        let hash = verifier(&mut session, encryption);
        let error = session.fails(&role.alter_to(&hash));
        assert!(error.hint().is_some_and(|hint| hint.contains("the password itself")), "{error:?}");
        assert!(error.message().contains(&role.name), "{error:?}");
        for said in [error.message(), error.detail().unwrap_or_default(), error.hint().unwrap_or_default()] {
            assert!(!said.contains(&hash), "{error:?}");
        }
        role.assert_in_sync();
        // Nobody else's business.
        let other = unique("other").replace('-', "_");
        session.run_quietly(&format!("CREATE ROLE {other} PASSWORD '{hash}'"));
    }
    assert_eq!(ground.relay.operations(&role.secret), Vec::<String>::new());
}

#[test]
fn a_hash_may_be_taken_with_a_warning() {
    let ground = ground();
    let role = ground.synced_role("warned");
    let mut session = ground.session();
    let before = role.current();
    let hash = verifier(&mut session, "scram-sha-256");
    session.run("SET secretlink.hashed_password = 'warn'");
    let warning = session.warned(&role.alter_to(&hash));
    assert!(warning.message().contains(&role.name), "{warning:?}");
    assert_eq!(role.current(), before);
    assert_eq!(role.check(), "drifted");
    role.until_state("drifted");
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    role.until_state("in_sync");
}

#[test]
fn a_hash_followed_by_a_password_in_one_transaction_is_what_the_password_says() {
    let ground = ground();
    let role = ground.synced_role("mixed");
    let mut session = ground.session();
    session.run("SET secretlink.hashed_password = 'warn'");
    let hash = verifier(&mut session, "scram-sha-256");
    let (sql, password) = role.alter();
    session.run(&format!("BEGIN; {}; {sql}; COMMIT", role.alter_to(&hash)));
    role.assert_password(&password);
    // The other way round, the secret is not told a password that nobody has.
    let (sql, _) = role.alter();
    session.warned(&format!("BEGIN; {sql}; {}; COMMIT", role.alter_to(&hash)));
    assert_eq!(role.password(), password);
    role.until_state("drifted");
}
