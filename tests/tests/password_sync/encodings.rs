//! Databases of another encoding than the secret's, which is always UTF-8.

use crate::ground::ground;
use secretlink_e2e::unique;

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
