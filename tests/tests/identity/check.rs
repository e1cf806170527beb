//! `check`.

use crate::ground::{moto, refused};
use postgres::Client;
use secretlink_e2e::{Cluster, Fault, Proxy, SecretsRelay, StopMode, eventually, private_file, unique};

type Row = (String, Option<bool>, String, Option<String>);

fn rows(client: &mut Client, sql: &str) -> Vec<Row> {
    let rows = client.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

fn ok(rows: &[Row]) -> Vec<(&str, Option<bool>)> {
    rows.iter().map(|(item, ok, ..)| (item.as_str(), *ok)).collect()
}

#[test]
fn all_is_well_on_a_server_that_is_set_up() {
    let local = Cluster::local(moto()).preload(true).env("AWS_ENDPOINT_URL_STS", &moto().endpoint()).start();
    let name = unique("checked");
    let api = moto().secrets();
    api.create_login_secret(&name, "app", "hunter2hunter2");
    let before = api.versions(&name);
    let mut client = local.connect("postgres", "postgres");
    eventually("the worker runs", std::time::Duration::from_secs(30), || {
        let found = rows(&mut client, "SELECT * FROM secretlink_check() WHERE item LIKE '%worker'");
        if found.iter().all(|row| row.1 == Some(true)) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let found = rows(&mut client, &format!("SELECT * FROM secretlink_check('{name}')"));
    assert_eq!(
        ok(&found),
        [
            ("version", Some(true)),
            ("preload", Some(true)),
            ("worker", Some(true)),
            ("cache worker", Some(true)),
            ("rotation worker", Some(true)),
            ("region", Some(true)),
            ("credentials", Some(true)),
            ("identity", Some(true)),
            ("endpoint", Some(true)),
            ("read", Some(true)),
            ("write", None),
        ],
        "{found:?}"
    );
    assert!(found[7].2.contains("account 123456789012"), "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    assert_eq!(api.versions(&name), before, "nothing was written");
}

#[test]
fn what_is_missing_is_a_row_and_no_error() {
    let away = Proxy::black_hole();
    let local = Cluster::local_with_endpoint(&away.endpoint())
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .start();
    let mut client = local.connect("postgres", "postgres");
    client.batch_execute("SET secretlink.request_timeout = '500ms'").unwrap();
    let found = rows(&mut client, "SELECT * FROM secretlink_check('x')");
    assert_eq!(
        ok(&found),
        [
            ("version", Some(true)),
            ("preload", Some(false)),
            ("worker", None),
            ("cache worker", None),
            ("rotation worker", None),
            ("region", Some(true)),
            ("credentials", Some(false)),
            ("identity", None),
            ("endpoint", Some(false)),
            ("read", Some(false)),
            ("write", Some(false)),
        ],
        "{found:?}"
    );
    for (item, ok, _, hint) in &found {
        assert!(*ok != Some(false) || hint.is_some(), "{item}: {found:?}");
    }
}

#[test]
fn a_standby_is_checked_too_and_nothing_is_written() {
    let mut local =
        Cluster::local(moto()).preload(true).env("AWS_ENDPOINT_URL_STS", &moto().endpoint()).start();
    let name = unique("standby");
    moto().secrets().create_login_secret(&name, "app", "hunter2hunter2");
    let all = format!("SELECT * FROM secretlink_check('{name}')");
    // A transaction id is used up by what writes, and by nothing else.
    let mut client = local.connect("postgres", "postgres");
    for sql in ["SELECT * FROM secretlink_check()", &all] {
        let mut transaction = client.transaction().unwrap();
        transaction.batch_execute(sql).unwrap();
        let id: Option<String> =
            transaction.query_one("SELECT pg_current_xact_id_if_assigned()::text", &[]).unwrap().get(0);
        assert_eq!(id, None, "{sql}");
        transaction.batch_execute(&format!("SET TRANSACTION READ ONLY; {sql}")).unwrap();
    }
    drop(client);
    local.stop(StopMode::Fast);
    private_file(local.data_dir().join("standby.signal"), "");
    local.start();
    let mut client = local.connect("postgres", "postgres");
    assert!(client.query_one("SELECT pg_is_in_recovery()", &[]).unwrap().get::<_, bool>(0));
    eventually("the cache worker runs", std::time::Duration::from_secs(30), || {
        let found = rows(&mut client, "SELECT * FROM secretlink_check() WHERE item = 'cache worker'");
        if found[0].1 == Some(true) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let found = rows(&mut client, &all);
    assert_eq!(
        ok(&found),
        [
            ("version", Some(true)),
            ("preload", Some(true)),
            ("worker", None),
            ("cache worker", Some(true)),
            ("rotation worker", None),
            ("region", Some(true)),
            ("credentials", Some(true)),
            ("identity", Some(true)),
            ("endpoint", Some(true)),
            ("read", Some(true)),
            ("write", None),
        ],
        "{found:?}"
    );
    assert_eq!(rows(&mut client, "SELECT * FROM secretlink_check()").len(), 9);
}

#[test]
fn who_only_reads_misses_no_right_to_write() {
    let relay = SecretsRelay::to(moto());
    let local = Cluster::local_with_endpoint(&relay.endpoint()).preload(true).start();
    let mut client = local.connect("postgres", "postgres");
    for denied in ["DescribeSecret", "UpdateSecretVersionStage"] {
        let name = unique("reader");
        moto().secrets().create_login_secret(&name, "app", "hunter2hunter2");
        relay.rule(&name, move |request| match request.operation.as_str() {
            operation if operation == denied => Fault::Refuse(400, "AccessDeniedException"),
            _ => Fault::None,
        });
        let sql = format!("SELECT * FROM secretlink_check('{name}') WHERE item IN ('read', 'write')");
        let found = rows(&mut client, &sql);
        assert_eq!(ok(&found), [("read", Some(true)), ("write", None)], "{found:?}");
        assert!(found[1].2.contains(denied), "{found:?}");
        assert!(found[1].3.as_deref().is_some_and(|hint| hint.contains("Reading")), "{found:?}");
        // Where a role is synced with it the right is missed.
        for sql in [
            "SET secretlink.password_sync = off",
            &format!("CREATE ROLE {denied} LOGIN PASSWORD 'x'"),
            &format!("SECURITY LABEL FOR secretlink ON ROLE {denied} IS '{name}'"),
            "RESET secretlink.password_sync",
        ] {
            client.batch_execute(sql).unwrap();
        }
        let found = rows(&mut client, &sql);
        assert_eq!(ok(&found), [("read", Some(true)), ("write", Some(false))], "{found:?}");
    }
}

#[test]
fn with_a_schema_of_its_own_it_is_called_as_its_name_says() {
    let local = Cluster::local(moto()).start();
    let mut client = local.connect("postgres", "postgres");
    client.batch_execute("DROP EXTENSION secretlink").unwrap();
    client.batch_execute("CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink").unwrap();
    assert!(rows(&mut client, "SELECT * FROM secretlink.secretlink_check()").len() >= 7);
}

#[test]
fn monitors_see_the_server_but_no_secret() {
    let local = Cluster::local(moto()).start();
    let mut client = local.connect("postgres", "postgres");
    client.batch_execute("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE plain LOGIN").unwrap();
    let mut watcher = local.connect("watcher", "postgres");
    assert!(rows(&mut watcher, "SELECT * FROM secretlink_check()").len() >= 7);
    let message = "permission denied for function secretlink_check";
    refused(&mut watcher, "SELECT * FROM secretlink_check('x')", "42501", message);
    let mut plain = local.connect("plain", "postgres");
    refused(&mut plain, "SELECT * FROM secretlink_check()", "42501", message);
}
