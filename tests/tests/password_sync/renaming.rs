//! `username` in the secret follows the role's name.

use crate::ground::{api, ground};
use serde_json::{Value, json};

#[test]
fn username_follows_a_rename() {
    let ground = ground();
    let mut role = ground.synced_role("before");
    let mut session = ground.session();
    let username = |secret: &str| {
        let current: Value = serde_json::from_str(&api().get_secret_value(secret).unwrap()).unwrap();
        current["username"].clone()
    };
    let password = role.password();

    // By itself.
    let (old, new) = (role.name.clone(), role.name.replace("before", "after"));
    session.run_quietly(&format!("ALTER ROLE {old} RENAME TO {new}"));
    role.name = new.clone();
    assert_eq!(username(&role.secret), json!(new));
    role.assert_password(&password);

    // Taken back.
    session.run_quietly(&format!("BEGIN; ALTER ROLE {new} RENAME TO {old}; ROLLBACK"));
    session
        .run_quietly(&format!("BEGIN; SAVEPOINT s; ALTER ROLE {new} RENAME TO {old}; ROLLBACK TO s; COMMIT"));
    session.run_quietly(&format!(
        "BEGIN; ALTER ROLE {new} RENAME TO {old}; ALTER ROLE {old} RENAME TO {new}; COMMIT"
    ));
    assert_eq!(username(&role.secret), json!(new));
    role.assert_password(&password);

    // Together with a password, in either order.
    let [(_, first), (_, second)] = [role.alter(), role.alter()];
    session.run_quietly(&format!(
        "BEGIN; ALTER ROLE {new} PASSWORD '{first}'; ALTER ROLE {new} RENAME TO {old}; COMMIT"
    ));
    role.name = old.clone();
    role.assert_password(&first);
    session.run_quietly(&format!(
        "BEGIN; ALTER ROLE {old} RENAME TO {new}; ALTER ROLE {new} PASSWORD '{second}'; COMMIT"
    ));
    role.name = new.clone();
    role.assert_password(&second);
    assert_eq!(username(&role.secret), json!(new));

    // Two roles that change names.
    let mut other = ground.synced_role("other");
    let swap = format!(
        "BEGIN; ALTER ROLE {0} RENAME TO swap_tmp; ALTER ROLE {1} RENAME TO {0}; ALTER ROLE swap_tmp RENAME TO {1}; COMMIT",
        role.name, other.name
    );
    session.run_quietly(&swap);
    std::mem::swap(&mut role.name, &mut other.name);
    role.assert_in_sync();
    other.assert_in_sync();
}

#[test]
fn a_rename_that_loses_the_password_says_so() {
    let ground = ground();
    let mut role = ground.synced_role("md5");
    let mut session = ground.session();
    let (sql, _) = role.alter();
    session.run_quietly(&format!("SET password_encryption = 'md5'; {sql}"));
    role.assert_in_sync();
    // An MD5 verifier depends on the name: Postgres clears it, with a NOTICE of its own.
    let new = format!("{}_2", role.name);
    session.run(&format!("ALTER ROLE {} RENAME TO {new}", role.name));
    role.name = new;
    assert_eq!(role.check(), "no_password");
}
