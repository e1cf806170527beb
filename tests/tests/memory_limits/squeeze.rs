//! What is done where hardly any memory is left. Each step of it may be the one that gets none.

use crate::ground::Ground;
use postgres::Client;
use secretlink_e2e::{Cluster, Gateway, Moto, TempDir, private_file};
use std::collections::BTreeMap;
use std::fs;

/// Address space of each process, in MB: little, so that it is soon taken.
const LIMIT: u64 = 420;

/// How much is left, in MB.
const LEFT: [u64; 12] = [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 100, 150];

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
    squeeze(&mut ground, &errands(&remote));
}

/// Does each of them with less and less memory left. Some must fail for that, and some must work.
fn squeeze(ground: &mut Ground, errands: &[(&'static str, Vec<String>)]) {
    let most = most(ground);
    println!("{most} MB can be taken");
    let mut seen: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    let mut unexpected = Vec::new();
    for left in LEFT {
        for (errand, statements) in errands {
            let mut client: Client = ground.connect();
            let what = format!("{errand} with {left} MB left");
            client.batch_execute("SET work_mem = '1GB'").unwrap();
            if ground.try_run(&mut client, &take(most.saturating_sub(left)), &what).is_err() {
                continue;
            }
            for statement in statements {
                let shown: String = statement.chars().take(200).collect();
                let outcome = ground.try_run(&mut client, statement, &format!("{what}: {shown}"));
                let code = outcome.err().unwrap_or_else(|| "done".into());
                // 08003 is what comes of a connection that was not made.
                let expected = ["done", "53200", "08003"].contains(&&*code)
                    || (*errand == "an error" && code == "42703");
                if !expected {
                    unexpected.push(format!("{what}: {shown}: {code}"));
                }
                *seen.entry(errand).or_default().entry(code).or_default() += 1;
            }
        }
    }
    println!("{seen:#?}");
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for (errand, codes) in seen {
        assert!(codes.contains_key("53200") && codes.contains_key("done"), "{errand}: {codes:?}");
    }
}

/// Files of many megabytes, AWS by TLS, and texts that are just short enough to be copied or just not.
#[test]
fn large_files_and_texts_without_memory_are_errors() {
    let moto = Moto::start();
    let gateway = Gateway::to(&moto, &["localhost"]);
    moto.secrets().create_secret("small", "{\"a\": \"b\"}");
    let remote = Cluster::remote().start();
    let directory = TempDir::new();
    let app = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname=testdb user=app sslmode=require",
        remote.port()
    );
    let password = remote.app_password();
    let file =
        |name: &str, content: &str| private_file(directory.path().join(name), content).display().to_string();
    let ca = fs::read_to_string(&remote.tls().ca).unwrap();
    let authority_of_aws = fs::read_to_string(gateway.ca()).unwrap();
    let comments = "# a comment of some length, which is of no use\n".repeat(400_000);
    let roots = file("roots.pem", &format!("{comments}{ca}"));
    let bundle = file("bundle.pem", &format!("{}\n{authority_of_aws}", &comments[..6 << 20]));
    let passwords = file("passwords", &format!("{}\n*:*:*:*:{password}\n", &comments[..3 << 20]));
    let services = file("services", &format!("{}\n[s]\ndbname=testdb\n", &comments[..1_000_000]));
    let connect = |more: &str| {
        vec![
            format!("SELECT dblink_connect('h', '{app} {more}')"),
            "SELECT a FROM dblink('h', 'SELECT 1') AS t(a int)".to_owned(),
        ]
    };
    let aws = |bundle: &str| {
        vec![
            format!("SET secretlink.endpoint_url = 'https://localhost:{}'", gateway.port()),
            format!("SET secretlink.ca_bundle = '{bundle}'"),
            "SELECT get_secret_value('small')".to_owned(),
            "SELECT describe_secret('small')".to_owned(),
        ]
    };
    let query = |length: usize| {
        let text = "x".repeat(length);
        vec![
            format!("SELECT dblink_connect('h', '{app} password={password}')"),
            format!("SELECT length(a) FROM dblink('h', 'SELECT $${text}$$') AS t(a text)"),
            format!("SELECT dblink_exec('h', 'SET a.b = $${text}$$')"),
            format!("SELECT dblink_open('h', 'c', 'SELECT $${text}$$')"),
            "SELECT a FROM dblink('h', 'SELECT 1') AS t(a int)".to_owned(),
        ]
    };
    let settings = [
        &*format!("SELECT dblink_connect('h', '{app} password={password}')"),
        "SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'",
        "SELECT a FROM dblink('h', 'SELECT now(), interval $$1 day$$') AS t(a timestamptz, b interval)",
        "SET extra_float_digits = 0; SET DateStyle = 'SQL, DMY'",
        "SELECT a FROM dblink('h', 'SELECT now(), 1.5::float8') AS t(a timestamptz, b float8)",
    ]
    .map(str::to_owned)
    .to_vec();
    let errands = [
        ("roots behind comments", connect(&format!("password={password} sslrootcert={roots}"))),
        ("a password file", connect(&format!("passfile={passwords}"))),
        ("a service", connect(&format!("password={password} service=s servicefile={services}"))),
        ("AWS by TLS", aws(&gateway.ca().display().to_string())),
        ("AWS by TLS with a large bundle", aws(&bundle)),
        ("a short text", query(7_900)),
        ("a longer text", query(8_300)),
        ("settings", settings),
    ];
    let mut ground = Ground::at(LIMIT, &moto.endpoint());
    squeeze(&mut ground, &errands);
}
