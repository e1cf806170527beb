//! Every way to change a password.

use crate::ground::{Ground, api, ground};
use secretlink_e2e::{random_password, unique};
use serde_json::json;

#[test]
fn every_statement_that_sets_a_password_reaches_the_secret() {
    let ground = ground();
    let role = ground.synced_role("statement");
    let mut session = ground.session();
    let name = role.name.clone();
    for (statement, by_itself) in [
        (format!("ALTER USER {name} PASSWORD 'PW'"), false),
        (format!("ALTER ROLE {name} PASSWORD 'PW'"), false),
        (format!("ALTER ROLE {name} WITH ENCRYPTED PASSWORD 'PW' VALID UNTIL 'infinity'"), false),
        (
            format!(
                "ALTER GROUP {name} RENAME TO {name}_2; ALTER USER {name}_2 PASSWORD 'PW'; ALTER USER {name}_2 RENAME TO {name}"
            ),
            false,
        ),
        (format!("DO $$BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', '{name}', 'PW'); END$$"), false),
        (format!("SET ROLE {name}; ALTER ROLE CURRENT_USER PASSWORD 'PW'; RESET ROLE"), false),
        ("ALTER USER CURRENT_USER PASSWORD 'PW'".to_owned(), true),
        (format!("ALTER USER {name} PASSWORD 'PW'"), true),
        (
            format!(
                "SET password_encryption = 'md5'; ALTER USER {name} PASSWORD 'PW'; RESET password_encryption"
            ),
            false,
        ),
        (format!("ALTER USER {name} PASSWORD 'PW'"), false),
    ] {
        let password = random_password();
        let statement = statement.replace("PW", &password);
        if by_itself {
            ground.session_of(&name, "postgres").run_quietly(&statement);
        } else {
            session.run_quietly(&statement);
        }
        assert_eq!(role.password(), password, "{statement}");
        role.assert_in_sync();
    }
}

#[test]
fn a_new_role_is_synced_from_its_first_password_on() {
    let ground = ground();
    let mut session = ground.session();
    for order in ["create, sync", "create, sync, alter", "create without, sync, alter"] {
        let role = unique("new").replace('-', "_");
        let secret = format!("sync/{role}");
        api().create_secret(&secret, &json!({ "username": role, "password": "?" }).to_string());
        let (create, sync) =
            (format!("CREATE ROLE {role} LOGIN"), format!("SELECT sync_role('{role}', '{secret}')"));
        let (first, last) = (random_password(), random_password());
        let (transaction, password) = match order {
            "create, sync" => (format!("{create} PASSWORD '{first}'; {sync}"), first),
            "create, sync, alter" => {
                (format!("{create} PASSWORD '{first}'; {sync}; ALTER ROLE {role} PASSWORD '{last}'"), last)
            }
            _ => (format!("{create}; {sync}; ALTER ROLE {role} PASSWORD '{last}'"), last),
        };
        session.run_quietly(&format!("BEGIN; {transaction}; COMMIT"));
        let current: serde_json::Value =
            serde_json::from_str(&api().get_secret_value(&secret).unwrap()).unwrap();
        assert_eq!(current, json!({ "username": role, "password": password }), "{order}");
        assert_eq!(ground.log_in(&role, &password), Ok(role), "{order}");
    }
}

#[test]
fn every_database_of_the_cluster_counts() {
    let ground = ground();
    let role = ground.synced_role("database");
    let database = unique("without").replace('-', "_");
    ground.session().run(&format!("CREATE DATABASE {database} TEMPLATE template0"));
    let mut session = ground.session_in(&database);
    assert_eq!(
        session.text("SELECT count(*) FROM pg_extension WHERE extname = 'secretlink'").as_deref(),
        Some("0")
    );
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    let (sql, _) = role.alter();
    session.run_quietly(&format!("BEGIN; {sql}; ROLLBACK"));
    role.assert_password(&password);
}

#[test]
fn a_password_may_hold_any_character() {
    let ground = ground();
    let role = ground.synced_role("characters");
    let mut session = ground.session();
    for password in [
        "it's",
        r#"say "hi""#,
        r"back\slash\n",
        "tab\tand\nline",
        "clé €  🔑",
        " spaces ",
        "{\"password\":1}",
        "${x}%s",
        "'';--",
    ] {
        session.run_quietly(&role.alter_to(&password.replace('\'', "''")));
        role.assert_password(password);
    }
}

#[test]
fn a_change_costs_four_calls_and_one_version() {
    // Without the worker, which now and then looks at a role just when it is being changed.
    let ground = Ground::with(|cluster| cluster.conf("secretlink.reconcile_interval = 3600"));
    let role = ground.synced_role("wire");
    let before = api().version_at(&role.secret, "AWSCURRENT").unwrap();
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);

    let mut operations = ground.relay.operations(&role.secret);
    operations[..2].sort();
    assert_eq!(
        operations,
        ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]
    );
    let requests = ground.relay.requests(&role.secret);
    let (put, promote) = (&requests[2].input, &requests[3].input);
    let version = put["ClientRequestToken"].as_str().unwrap();
    assert!(
        version.starts_with("secretlink-") && version.len() == "secretlink-".len() + 16 + 1 + 8 + 1 + 16,
        "{version}"
    );
    assert_eq!(put["VersionStages"], json!(["SECRETLINK"]));
    assert_eq!(promote["VersionStage"], "AWSCURRENT");
    assert_eq!(
        (&promote["MoveToVersionId"], &promote["RemoveFromVersionId"]),
        (&json!(version), &json!(before))
    );
    assert_eq!(api().version_at(&role.secret, "AWSCURRENT").as_deref(), Some(version));
    assert_eq!(api().version_at(&role.secret, "AWSPREVIOUS"), Some(before));
    assert_eq!(role.versions(), 2);
}

#[test]
fn a_role_that_is_not_synced_costs_nothing() {
    let ground = ground();
    let role = unique("unsynced").replace('-', "_");
    let mut session = ground.session();
    let hole = secretlink_e2e::Proxy::black_hole();
    session.run(&format!("SET secretlink.endpoint_url = '{}'", hole.endpoint()));
    session
        .run_quietly(&format!("CREATE ROLE {role} LOGIN PASSWORD 'one'; ALTER ROLE {role} PASSWORD 'two'"));
    session.run_quietly(&format!(
        "ALTER ROLE {role} RENAME TO {role}_2; ALTER ROLE {role}_2 PASSWORD NULL; DROP ROLE {role}_2"
    ));
    assert!(session.told().iter().all(|notice| !notice.message().contains("secret")));
    assert_eq!(hole.accepted(), 0);
}

#[test]
fn a_change_of_something_else_costs_nothing() {
    let ground = ground();
    let role = ground.synced_role("else");
    let mut session = ground.session();
    session.run_quietly(&format!(
        "ALTER ROLE {0} CONNECTION LIMIT 7; ALTER ROLE {0} SET work_mem = '8MB'; GRANT pg_monitor TO {0}",
        role.name
    ));
    session.run_quietly(&format!(
        "COMMENT ON ROLE {0} IS 'x'; ALTER ROLE {0} VALID UNTIL 'infinity'",
        role.name
    ));
    assert_eq!(ground.relay.operations(&role.secret), Vec::<String>::new());
    role.assert_in_sync();
}
