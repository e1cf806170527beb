//! `secretlink.min_sslmode`: no caller goes below it, whatever he connects by.

use crate::lab::Lab;
use crate::servers::{generate, roles, with_tls};
use postgres::error::DbError;
use secretlink_e2e::{Cluster, Moto, TempDir, db_error, unique};

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Asserts that a connection was refused since this mode is too weak, in dblink's words or in ours.
#[track_caller]
fn assert_weak(error: &DbError, mode: &str) {
    assert!(["08001", "22023"].contains(&error.code().code()), "{error:?}");
    let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
    assert!(told.contains(&format!("sslmode \"{mode}\" is weaker than")), "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("secretlink.min_sslmode"), "{error:?}");
}

#[test]
fn no_connection_string_goes_below_it() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).auth("host", "anyone", "trust").start();
    roles(&server, &["anyone"]);
    let plain = Cluster::plain().tcp().start();
    roles(&plain, &["anyone"]);
    let mut lab = Lab::new();
    let host = |server: &Cluster| {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=anyone sslrootcert={}",
            server.port(),
            tls.ca.display()
        )
    };
    for (min, weakest) in MODES.iter().enumerate() {
        lab.client.batch_execute(&format!("SET secretlink.min_sslmode = '{weakest}'")).unwrap();
        for (mode, asked) in MODES.iter().enumerate() {
            for written in [
                format!("{} sslmode={asked}", host(&server)),
                format!(
                    "postgresql://anyone@localhost:{}/postgres?hostaddr=127.0.0.1&sslrootcert={}&sslmode={asked}",
                    server.port(),
                    tls.ca.display()
                ),
            ] {
                match lab.ours(&written) {
                    Ok((_, encrypted)) => {
                        assert!(mode >= min && (encrypted || mode < 2), "{weakest}: {written}")
                    }
                    Err(error) => {
                        assert!(mode < min, "{weakest}: {written}: {error:?}");
                        assert_weak(&error, asked);
                    }
                }
            }
        }
        // What nobody asks for is raised.
        let (_, encrypted) = lab.ours(&host(&server)).unwrap();
        assert!(encrypted || min < 2, "{weakest}");
        // A server without TLS is none.
        let without = lab.ours(&host(&plain));
        assert_eq!(without.is_ok(), min < 3, "{weakest}: {without:?}");
        // Nor does the environment go below it, nor a false name, nor another authority.
        let named = host(&server).replace("host=localhost", "host=db.example.com");
        assert_eq!(lab.ours(&named).is_ok(), min < 5, "{weakest}");
        // A Unix socket has no TLS, and is of this machine; but that it is to have none may not be asked for.
        let socket = server.conninfo("postgres", "postgres");
        lab.ours(&socket).unwrap_or_else(|e| panic!("{weakest}: {e:?}"));
        assert_eq!(lab.ours(&format!("{socket} sslmode=disable")).is_ok(), min == 0, "{weakest}");
    }
}

#[test]
fn no_environment_service_or_foreign_server_goes_below_it() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).auth("host", "anyone", "trust").start();
    roles(&server, &["anyone"]);
    let mut lab = Lab::with(|local| local.env("PGSSLMODE", "disable"));
    let conninfo = format!("host=127.0.0.1 port={} dbname=postgres user=anyone", server.port());
    assert!(!lab.ours(&conninfo).unwrap().1);
    lab.client
        .batch_execute(&format!(
            "SET secretlink.min_sslmode = 'require';
             SET search_path = secretlink;
             CREATE SERVER unsaid FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (host '127.0.0.1', port '{port}', dbname 'postgres');
             CREATE SERVER disabled FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (host '127.0.0.1', port '{port}', dbname 'postgres', sslmode 'disable');
             CREATE USER MAPPING FOR postgres SERVER unsaid OPTIONS (user 'anyone');
             CREATE USER MAPPING FOR postgres SERVER disabled OPTIONS (user 'anyone');",
            port = server.port()
        ))
        .unwrap();
    assert!(lab.ours(&conninfo).unwrap().1);
    assert!(lab.ours("unsaid").unwrap().1);
    assert_weak(&lab.ours("disabled").unwrap_err(), "disable");

    let file = directory.path().join("services");
    std::fs::write(&file, format!("[weak]\nhost=127.0.0.1\nport={}\nsslmode=disable\n", server.port()))
        .unwrap();
    let service = format!("servicefile={} service=weak user=anyone dbname=postgres", file.display());
    assert!(lab.ours(&service).unwrap().1, "what a file says is raised");
}

#[test]
fn no_secret_goes_below_it() {
    let moto = Moto::start();
    let remote = Cluster::remote().start();
    let local = Cluster::local(&moto).conf("secretlink.min_sslmode = 'verify-full'").start();
    let name = unique("min-sslmode");
    let secret = format!(
        r#"{{"host": "localhost", "port": {}, "dbname": "testdb", "username": "app", "password": "{}"}}"#,
        remote.port(),
        remote.app_password()
    );
    moto.secrets().create_secret(&name, &secret);
    let mut client = local.connect("postgres", "postgres");
    let mut connect = |options: &str| {
        client
            .query_one(&format!("SELECT connect_with_secret('{name}', options => '{options}')"), &[])
            .map(drop)
    };
    for weaker in &MODES[..5] {
        let error = db_error(connect(&format!("sslmode={weaker}")));
        assert_weak(&error, weaker);
    }
    let ca = format!("sslrootcert={}", remote.tls().ca.display());
    connect(&ca).unwrap();
    connect(&format!("{ca} sslmode=verify-full")).unwrap();
    let encrypted: String = client
        .query_one("SELECT v FROM dblink('remote_conn', 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()') AS t(v text)", &[])
        .unwrap()
        .get(0);
    assert_eq!(encrypted, "t");
}

#[test]
fn nobody_but_a_superuser_sets_it() {
    let server = Cluster::plain().tcp().auth("host", "anyone", "md5").start();
    server.create_login("anyone", "x", "md5");
    let mut lab = Lab::with(|local| local.conf("secretlink.min_sslmode = 'require'"));
    let mut client = lab.login("somebody");
    let query = format!(
        "SELECT secretlink.dblink_connect('host=127.0.0.1 port={} dbname=postgres user=anyone password=x sslmode=disable')",
        server.port()
    );
    // Before the library is loaded anybody can set anything: it does not count.
    client.batch_execute("SET secretlink.min_sslmode = 'disable'").unwrap();
    assert_weak(&db_error(client.simple_query(&query)), "disable");
    assert_eq!(
        db_error(client.simple_query("SET secretlink.min_sslmode = 'disable'")).code().code(),
        "42501"
    );
    assert_eq!(
        db_error(client.simple_query("SET secretlink.min_scram_iterations = 1")).code().code(),
        "42501"
    );
    // Given at the start of the session, it hides what the server's owner has said.
    let conninfo =
        format!("{} options='-c secretlink.min_sslmode=disable'", lab.local.conninfo("somebody", "postgres"));
    let mut client = conninfo.parse::<postgres::Config>().unwrap().connect(postgres::NoTls).unwrap();
    let error = db_error(client.simple_query(&query));
    assert_eq!(error.code().code(), "42501", "{error:?}");
    assert!(error.message().contains("secretlink.min_sslmode"), "{error:?}");
}

/// What makes a password easy to guess for a server that does not know it.
#[test]
fn a_server_with_few_iterations_gets_no_proof() {
    let server = Cluster::plain().tcp().auth("host", "few", "scram-sha-256").start();
    // The hash of "pencil" with 1000 iterations.
    let hash = "SCRAM-SHA-256$1000:W22ZaJ0SNY7soEsUEjb6gQ==$A7Cm0NrG3AFMNXYvoYKO3pDoaPPmqMJvmB38BNQzecg=:kyhP+VzX9vuGpnNS4by3UyHkedgzBWv0ceFzKMuu+74=";
    server
        .connect("postgres", "postgres")
        .batch_execute(&format!("CREATE ROLE few LOGIN PASSWORD '{hash}'"))
        .unwrap();
    let mut lab = Lab::new();
    let conninfo = format!("host=127.0.0.1 port={} dbname=postgres user=few password=pencil", server.port());
    let error = lab.ours(&conninfo).unwrap_err();
    let detail = error.detail().unwrap();
    assert!(detail.ends_with("the server asks for 1000 iterations, fewer than 4096"), "{detail}");
    assert!(error.hint().unwrap().contains("secretlink.min_scram_iterations"), "{error:?}");
    lab.client.batch_execute("SET secretlink.min_scram_iterations = 1001").unwrap();
    assert!(lab.ours(&conninfo).is_err());
    lab.client.batch_execute("SET secretlink.min_scram_iterations = 1000").unwrap();
    lab.ours(&conninfo).unwrap();
}
