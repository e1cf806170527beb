//! `secretlink.sync_secret_template`: secrets for roles without a label.

use crate::ground::{Ground, api};
use crate::synced_role::{SyncedRole, password_in};
use secretlink_e2e::{Fault, random_password};
use serde_json::{Value, json};

#[test]
fn the_template_names_a_secret_for_every_role_and_creates_it() {
    let ground = Ground::with(|cluster| {
        cluster
            .conf("cluster_name = 'Main/1'")
            .conf("secretlink.sync_secret_template = 'pg/{cluster}/{role}'")
            .conf("secretlink.advertised_host = 'db.example.com'")
    });
    let mut session = ground.session();
    for (role, encoded) in [
        ("app", "app"),
        ("App_2+x.y@z-9", "App_2+x.y@z-9"),
        ("odd name/with=all", "odd=20name=2Fwith=3Dall"),
        ("clé", "cl=C3=A9"),
        ("{role}", "=7Brole=7D"),
        ("a\"b'c", "a=22b=27c"),
    ] {
        let password = random_password();
        let secret = format!("pg/Main=2F1/{encoded}");
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        session.run_quietly(&format!("CREATE ROLE {quoted} LOGIN PASSWORD '{password}'"));
        let current = api().get_secret_value(&secret).unwrap_or_else(|e| panic!("{secret}: {e:?}"));
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&current).unwrap();
        assert!(fields.remove("dbname").is_some_and(|dbname| dbname.is_string()), "{current}");
        let port = fields.remove("port").unwrap();
        assert_eq!(port.to_string().trim_matches('"'), ground.cluster.port().to_string());
        let expected =
            json!({ "engine": "postgres", "host": "db.example.com", "username": role, "password": password });
        assert_eq!(Value::Object(fields), expected);
        assert_eq!(ground.log_in(role, &password).as_deref(), Ok(role));

        // From then on it is a secret as any other.
        let password = random_password();
        session.run_quietly(&format!("ALTER ROLE {quoted} PASSWORD '{password}'"));
        assert_eq!(password_in(&api().get_secret_value(&secret).unwrap()), password);
        assert_eq!(ground.relay.count(&secret, "CreateSecret"), 1);
        assert_eq!(
            session.text(&format!(
                "SELECT secret_id FROM role_sync WHERE role = '{}'",
                role.replace('\'', "''")
            )),
            Some(secret)
        );
    }

    // A label goes before the template, and the empty one exempts.
    let labelled = ground.synced_role("labelled");
    let (sql, password) = labelled.alter();
    session.run_quietly(&sql);
    labelled.assert_password(&password);
    session.run("CREATE ROLE exempt LOGIN; SECURITY LABEL FOR secretlink ON ROLE exempt IS ''");
    session.run_quietly("ALTER ROLE exempt PASSWORD 'x'");
    assert_eq!(api().get_secret_value("pg/Main=2F1/exempt").unwrap_err().kind, "ResourceNotFoundException");

    // So does unsync_role: who says that a role is not synced means it.
    session.run("SELECT unsync_role('app')");
    let before = api().get_secret_value("pg/Main=2F1/app").unwrap();
    session.run_quietly("ALTER ROLE app PASSWORD 'x'");
    assert_eq!(api().get_secret_value("pg/Main=2F1/app").unwrap(), before);

    // A rename leads to another secret.
    let password = random_password();
    session.run(&format!("CREATE ROLE moving LOGIN PASSWORD '{password}'"));
    session.run("ALTER ROLE moving RENAME TO moved");
    let password = random_password();
    session.run(&format!("ALTER ROLE moved PASSWORD '{password}'"));
    let moved =
        SyncedRole { ground: &ground, name: "moved".to_owned(), secret: "pg/Main=2F1/moved".to_owned() };
    moved.assert_password(&password);
}

#[test]
fn where_the_secret_of_the_former_name_cannot_be_read_a_rename_fails_or_warns_as_any_change() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'former/{role}'"));
    let mut session = ground.session();
    session.run(&format!("CREATE ROLE former LOGIN PASSWORD '{}'", random_password()));
    ground.relay.rule("former/former", |_| Fault::Refuse(403, "AccessDeniedException"));
    let error = session.fails("ALTER ROLE former RENAME TO latter");
    assert_eq!(error.message(), "password of role \"latter\" cannot be stored in secret \"former/latter\"");
    assert_eq!(error.code().code(), "42501", "{error:?}");
    session.run("SET secretlink.password_sync = warn");
    let warning = session.warned("ALTER ROLE former RENAME TO latter");
    assert!(warning.message().contains("latter"), "{warning:?}");
    assert_eq!(
        session.text("SELECT rolname FROM pg_roles WHERE rolname = 'latter'").as_deref(),
        Some("latter")
    );
}

#[test]
fn the_cluster_of_a_template_may_have_another_name_than_the_node() {
    let ground = Ground::with(|cluster| {
        cluster
            .conf("cluster_name = 'node-2'")
            .conf("secretlink.cluster_name = 'main'")
            .conf("secretlink.sync_secret_template = 'named/{cluster}/{role}'")
    });
    let password = random_password();
    ground.session().run_quietly(&format!("CREATE ROLE app LOGIN PASSWORD '{password}'"));
    assert_eq!(password_in(&api().get_secret_value("named/main/app").unwrap()), password);
}

#[test]
fn a_template_that_cannot_name_secrets_is_refused() {
    let ground = crate::ground::ground();
    let mut session = ground.session();
    for wrong in ["no-role-in-it", "has space/{role}", "{role}/{nonsense}"] {
        // What may be set in a session is set there, else in the server's file.
        let error = session.fails(&format!("ALTER SYSTEM SET secretlink.sync_secret_template = '{wrong}'"));
        assert_eq!(error.code().code(), "22023", "{wrong}: {error:?}");
    }
}
