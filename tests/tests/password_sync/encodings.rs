//! Databases of another encoding than the secret's, which is always UTF-8.

use crate::ground::{Ground, SETTLED, api, ground};
use crate::synced_role::password_in;
use crate::visibility::{refuse, until_notified};
use secretlink_e2e::{eventually, unique};

#[test]
fn a_password_set_in_a_database_of_another_encoding_logs_in_or_is_refused() {
    let ground = ground();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let database = unique("encoded").replace('-', "_");
        ground.session().run(&format!(
            "CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ));
        let mut session = ground.session_in(&database);
        let role = ground.synced_role("encoded");
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        role.assert_password(&password);

        // Postgres hashes the bytes as this database has them, and no client whose password is in
        // UTF-8, as the secret's is, can ever send those. In SQL_ASCII they are UTF-8 already.
        let strange = if encoding == "EUC_JP" { "秘密の言葉" } else { "clé-très-longue" };
        match session.client.batch_execute(&role.alter_to(strange)) {
            Ok(()) => role.assert_password(strange),
            Err(error) => {
                assert_ne!(encoding, "SQL_ASCII", "{error:?}");
                let error = error.as_db_error().expect("an error of the server");
                assert!(error.message().contains(&role.name) && error.hint().is_some(), "{error:?}");
                assert!(!error.to_string().contains(strange), "{error:?}");
                role.assert_password(&password);
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let ground = ground();
    let database = unique("bytes").replace('-', "_");
    ground.session().run(&format!(
        "CREATE DATABASE {database} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ));
    let role = ground.synced_role("bytes");
    let mut session = ground.session_in(&database);
    let error = session.fails(&format!("ALTER ROLE {} PASSWORD E'long\\xff\\xfepassword'", role.name));
    assert!(error.message().contains(&role.name) || error.message().contains("UTF"), "{error:?}");
    role.assert_in_sync();
}

#[test]
fn a_role_whose_name_is_in_another_encoding_is_synced_like_any_other() {
    let ground = Ground::start();
    ground
        .session()
        .run("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let mut session = ground.session_in("latin");
    session.run("CREATE EXTENSION secretlink");
    let secret = unique("latin");
    api().create_login_secret(&secret, "clé", "old");
    session.run(&format!("CREATE ROLE \"clé\" LOGIN PASSWORD 'old'; SELECT sync_role('clé', '{secret}')"));
    session.run_quietly("ALTER ROLE \"clé\" PASSWORD 'first-password'");
    assert_eq!(password_in(&api().get_secret_value(&secret).unwrap()), "first-password");
    let state = "SELECT state FROM role_sync WHERE role = 'clé'";
    assert_eq!(session.text(state).as_deref(), Some("in_sync"));

    // What is told after the commit must not fail for want of a conversion.
    refuse(&ground, &secret, "UpdateSecretVersionStage");
    let warning = session.warned("ALTER ROLE \"clé\" PASSWORD 'second-password'");
    assert!(warning.message().contains(&secret), "{warning:?}");
    ground.relay.pass(&secret);
    eventually("the worker promotes it", SETTLED, || match session.text(state).as_deref() {
        Some("in_sync") => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!(password_in(&api().get_secret_value(&secret).unwrap()), "second-password");

    // Nor what the worker tells, in a database of a third encoding.
    refuse(&ground, &secret, "PutSecretValue");
    let mut listener = ground.session();
    listener.run("LISTEN secretlink");
    session.run("SET secretlink.password_sync = warn");
    session.warned("ALTER ROLE \"clé\" PASSWORD 'third-password'");
    until_notified(&mut listener, |payload| {
        payload["secret"] == secret.as_str() && payload["state"] == "drifted"
    });
    ground.relay.pass(&secret);
    session.run_quietly("ALTER ROLE \"clé\" RENAME TO \"clef\"; ALTER ROLE clef PASSWORD 'fourth-password'");
    assert_eq!(ground.log_in("clef", "fourth-password").as_deref(), Ok("clef"));
    assert_eq!(password_in(&api().get_secret_value(&secret).unwrap()), "fourth-password");
    session.run("DROP ROLE clef");
    assert!(!ground.cluster.log().contains("PANIC:"), "an error after the commit has become a PANIC");
}
