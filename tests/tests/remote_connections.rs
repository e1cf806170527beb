//! The view `remote_connections`.

use postgres::Client;
use secretlink_e2e::{Stage, eventually};
use serde_json::json;
use std::time::Duration;

fn value(client: &mut Client, sql: &str) -> Option<String> {
    let row = client.query_one(&format!("SELECT v::text FROM ({sql}) AS q(v)"), &[]);
    row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

#[test]
fn each_connection_of_the_session_is_shown_and_no_password() {
    let stage = Stage::start();
    let (port, password) = (stage.remote.port(), stage.remote.app_password());
    stage.moto.secrets().create_secret(
        "prod/orders",
        &json!({ "host": "127.0.0.1", "port": port, "dbname": "testdb", "username": "app", "password": password })
            .to_string(),
    );
    let mut client = stage.local.connect("postgres", "postgres");
    assert_eq!(value(&mut client, "SELECT count(*) FROM remote_connections").as_deref(), Some("0"));
    let conninfo =
        format!("host=localhost port={port} dbname=testdb user=app password={password} sslmode=require");
    client
        .batch_execute(&format!(
            "SELECT connect_with_secret('prod/orders');
             SELECT dblink_connect('{conninfo}');
             SELECT dblink_connect('', '{}')",
            stage.remote.conninfo("postgres", "postgres")
        ))
        .unwrap();
    let rows = client
        .query("SELECT name, host, port, database, username, secret, tls_version, tls_cipher IS NULL FROM remote_connections ORDER BY name", &[])
        .unwrap();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let text = |i| row.get::<_, Option<String>>(i);
            (
                text(0),
                text(1),
                row.get::<_, i32>(2),
                text(3),
                text(4),
                text(5),
                text(6),
                row.get::<_, bool>(7),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let socket = stage.remote.socket_dir().display().to_string();
    let port = i32::from(port);
    assert_eq!(
        shown,
        [
            (some(""), some(&socket), port, some("postgres"), some("postgres"), None, None, true),
            (
                some("remote_conn"),
                some("127.0.0.1"),
                port,
                some("testdb"),
                some("app"),
                some("prod/orders"),
                some("TLSv1.3"),
                false
            ),
            (None, some("localhost"), port, some("testdb"), some("app"), None, some("TLSv1.3"), false),
        ]
    );
    let all = value(&mut client, "SELECT json_agg(r) FROM remote_connections AS r").unwrap();
    assert!(!all.contains(password), "{all}");
    // It is the remote server's truth.
    let pid = value(&mut client, "SELECT backend_pid FROM remote_connections WHERE name = 'remote_conn'");
    assert_eq!(
        pid,
        value(&mut client, "SELECT pid FROM dblink('remote_conn', 'SELECT pg_backend_pid()') AS t(pid int)")
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT bool_and(connected_at BETWEEN now() - interval '1 min' AND now()) FROM remote_connections"
        )
        .as_deref(),
        Some("true")
    );
    // Another session has its own; any role may look.
    client.batch_execute("CREATE ROLE plain LOGIN; CREATE SCHEMA elsewhere").unwrap();
    let mut other = stage.local.connect("plain", "postgres");
    assert_eq!(value(&mut other, "SELECT count(*) FROM remote_connections").as_deref(), Some("0"));
    // Those closed are gone.
    client.batch_execute("SELECT dblink_disconnect(); SELECT dblink_disconnect('')").unwrap();
    assert_eq!(
        value(&mut client, "SELECT string_agg(name, ',') FROM remote_connections").as_deref(),
        Some("remote_conn")
    );
    // Each part says what it is.
    let silent =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'remote_connections'::regclass AND attnum > 0
                  AND col_description(attrelid, attnum) IS NULL";
    assert_eq!(value(&mut client, silent).as_deref(), Some("0"));
    assert!(value(&mut client, "SELECT obj_description('remote_connections'::regclass)").is_some());
}

#[test]
fn what_a_connection_does_is_shown() {
    let stage = Stage::start();
    let mut client = stage.local.connect("postgres", "postgres");
    let conninfo = stage.remote.conninfo("postgres", "postgres");
    client.batch_execute(&format!("SELECT dblink_connect('c', '{conninfo}')")).unwrap();
    let state = |client: &mut Client| {
        value(client, "SELECT state || ' ' || in_transaction FROM remote_connections").unwrap()
    };
    let counts = |client: &mut Client| {
        let row = client.query_one("SELECT queries, rows, bytes FROM remote_connections", &[]).unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    };
    assert_eq!((state(&mut client), counts(&mut client)), ("idle false".into(), (0, 0, 0)));
    client.batch_execute("SELECT dblink_exec('c', 'BEGIN')").unwrap();
    assert_eq!((state(&mut client), counts(&mut client)), ("idle true".into(), (1, 0, 0)));
    client.batch_execute("SELECT dblink_exec('c', 'SELECT 1/0', false)").unwrap();
    assert_eq!((state(&mut client), counts(&mut client).0), ("idle true".into(), 2));
    client.batch_execute("SELECT dblink_exec('c', 'ROLLBACK')").unwrap();
    assert_eq!((state(&mut client), counts(&mut client)), ("idle false".into(), (3, 0, 0)));
    client.batch_execute("SELECT * FROM dblink('c', 'SELECT generate_series(1, 1000)') AS t(a int)").unwrap();
    let (queries, rows, bytes) = counts(&mut client);
    assert_eq!((queries, rows), (4, 1000));
    assert!((11_000..20_000).contains(&bytes), "{bytes} bytes for a thousand numbers");

    client.batch_execute("SELECT dblink_send_query('c', 'SELECT 1 FROM pg_sleep(2)')").unwrap();
    assert_eq!(state(&mut client), "active false");
    let now = eventually("the result comes", Duration::from_secs(10), || match state(&mut client) {
        state if state == "active false" => Err(state),
        state => Ok(state),
    });
    assert_eq!(now, "pending false");
    client.batch_execute("SELECT * FROM dblink_get_result('c') AS t(a int); SELECT * FROM dblink_get_result('c') AS t(a int)").unwrap();
    assert_eq!(state(&mut client), "idle false");
    // From inside, while a result is being read.
    client
        .batch_execute(
            "CREATE FUNCTION seen(n int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('seen.state', state, false) FROM remote_connections; RETURN true; END$$;
             CREATE DOMAIN watched AS int CHECK (seen(VALUE));
             SELECT * FROM dblink('c', 'SELECT 1') AS t(a watched)",
        )
        .unwrap();
    assert_eq!(value(&mut client, "SELECT current_setting('seen.state')").as_deref(), Some("active"));
}
