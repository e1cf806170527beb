//! What is done where hardly any memory is left. Each step of it may be the one that gets none.

use crate::ground::Ground;
use postgres::Client;
use secretlink_e2e::{Cluster, Moto};
use std::collections::BTreeMap;

/// Address space of each process, in MB: little, so that it is soon taken.
const LIMIT: u64 = 420;

/// How much is left, in MB.
const LEFT: [u64; 12] = [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 100];

/// Takes so many megabytes for as long as the session lasts.
fn take(megabytes: u64) -> String {
    format!(
        "DECLARE hog CURSOR WITH HOLD FOR SELECT repeat('x', 1000000) FROM generate_series(1, {megabytes})"
    )
}

/// The most that a session can take.
fn most(ground: &mut Ground) -> u64 {
    let fits = |ground: &mut Ground, megabytes| {
        let mut client = ground.connect();
        ground.try_run(&mut client, &take(megabytes), "taking memory").is_ok()
    };
    let (mut enough, mut too_much) = (1, LIMIT);
    while too_much - enough > 1 {
        let middle = (enough + too_much) / 2;
        *(if fits(ground, middle) { &mut enough } else { &mut too_much }) = middle;
    }
    enough
}

/// What is done, each in a session of its own: one statement after the other.
fn errands(remote: &Cluster) -> Vec<(&'static str, Vec<String>)> {
    let app = format!(
        "host=127.0.0.1 port={} dbname=testdb user=app password={} sslmode=require",
        remote.port(),
        remote.app_password()
    );
    let query = |sql: &str, columns: &str| {
        vec![
            format!("SELECT dblink_connect('h', '{app}')"),
            format!("SELECT count(*) FROM dblink('h', '{sql}') AS t({columns})"),
            "SELECT a FROM dblink('h', 'SELECT 1') AS t(a int)".to_owned(),
        ]
    };
    let many = |statements: &[&str]| statements.iter().map(|&sql| sql.to_owned()).collect::<Vec<_>>();
    vec![
        ("a query", query("SELECT 1", "a int")),
        ("rows", query("SELECT repeat(''x'', 1000) FROM generate_series(1, 10000)", "a text")),
        ("long rows", query("SELECT repeat(''x'', 3000000) FROM generate_series(1, 5)", "a text")),
        ("numbers", query("SELECT i, i, i FROM generate_series(1, 100000) i", "a int, b float8, c numeric")),
        ("an error", query("SELECT nonsense", "a text")),
        (
            "notices",
            query(
                "DO $d$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE ''%'', repeat(''x'', 1000); END LOOP; END $d$",
                "a text",
            ),
        ),
        (
            "a query that is read later",
            vec![
                format!("SELECT dblink_connect('h', '{app}')"),
                "SELECT dblink_send_query('h', 'SELECT repeat(''x'', 1000) FROM generate_series(1, 10000)')"
                    .into(),
                "SELECT count(*) FROM dblink_get_result('h') AS t(a text)".into(),
                "SELECT count(*) FROM dblink_get_result('h') AS t(a text)".into(),
                "SELECT dblink_disconnect('h')".into(),
            ],
        ),
        (
            "a cursor",
            vec![
                format!("SELECT dblink_connect('h', '{app}')"),
                "SELECT dblink_open('h', 'c', 'SELECT repeat(''x'', 1000) FROM generate_series(1, 10000)')"
                    .into(),
                "SELECT count(*) FROM dblink_fetch('h', 'c', 5000) AS t(a text)".into(),
                "SELECT dblink_close('h', 'c')".into(),
            ],
        ),
        ("a secret", many(&["SELECT get_secret_string('small')", "SELECT get_secret_string('large')"])),
        ("a new value", many(&["SELECT put_secret_string('small', repeat('y', 60000))"])),
        ("a list", many(&["SELECT count(*) FROM list_secrets()", "SELECT describe_secret('small')"])),
        (
            "a login with a secret",
            many(&["SELECT connect_with_secret('app')", "SELECT dblink_exec('app', 'SELECT 1')"]),
        ),
        ("a check", many(&["SELECT count(*) FROM secretlink_check()"])),
        ("a password", many(&["ALTER ROLE synced PASSWORD 'another'", "SELECT count(*) FROM role_sync"])),
        (
            "a role with a secret",
            many(&[
                "SELECT create_role_with_secret('made', 'made')",
                "DROP ROLE IF EXISTS made",
                "SELECT check_role_sync('synced')",
            ]),
        ),
    ]
}

#[test]
fn whatever_is_done_without_memory_is_an_error() {
    let moto = Moto::start();
    let remote = Cluster::remote().start();
    let secrets = moto.secrets();
    secrets.create_secret("small", "{\"a\": \"b\"}");
    secrets.create_secret("large", &"x".repeat(60_000));
    let login = format!(
        r#"{{"host": "127.0.0.1", "port": {}, "dbname": "testdb", "username": "app", "password": "{}"}}"#,
        remote.port(),
        remote.app_password()
    );
    secrets.create_secret("app", &login);
    secrets.create_secret("synced", r#"{"username": "synced", "password": "a password"}"#);
    let mut ground = Ground::at(LIMIT, &moto.endpoint());
    ground
        .connect()
        .batch_execute("CREATE ROLE synced LOGIN PASSWORD 'a password'; SELECT sync_role('synced', 'synced')")
        .unwrap();
    let most = most(&mut ground);
    println!("{most} MB can be taken");
    let mut seen: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    for left in LEFT {
        for (errand, statements) in errands(&remote) {
            let mut client: Client = ground.connect();
            let what = format!("{errand} with {left} MB left");
            client.batch_execute("SET work_mem = '1GB'").unwrap();
            if ground.try_run(&mut client, &take(most.saturating_sub(left)), &what).is_err() {
                continue;
            }
            for statement in statements {
                let outcome = ground.try_run(&mut client, &statement, &format!("{what}: {statement}"));
                let code = outcome.err().unwrap_or_else(|| "done".into());
                // 08003 is what comes of a connection that was not made.
                let expected =
                    ["done", "53200", "08003"].contains(&&*code) || (errand == "an error" && code == "42703");
                assert!(expected, "{what}: {statement}: {code}");
                *seen.entry(errand).or_default().entry(code).or_default() += 1;
            }
        }
    }
    println!("{seen:#?}");
    for (errand, codes) in seen {
        assert!(codes.contains_key("53200") && codes.contains_key("done"), "{errand}: {codes:?}");
    }
}
