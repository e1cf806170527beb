//! Connecting: what a connection string says is done as libpq does it. Wherever libpq 15 knows the
//! keyword, contrib dblink is asked to do the same in the same backend.

use postgres::Client;
use postgres::error::DbError;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use secretlink_e2e::{
    Cluster, ClusterBuilder, NeverAnswers, OsUser, StopMode, TempDir, TlsFiles, db_error, eventually,
    free_port,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, SignatureScheme};

/// The Postgres that connects, with both extensions.
struct Lab {
    local: Cluster,
    client: Client,
}

/// The session one got: its user, and whether it is encrypted.
type Login = (String, bool);

const WHO: &str = "SELECT current_user::text, \
                   coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

impl Lab {
    fn new() -> Self {
        Self::with(|local| local)
    }

    fn with(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let local = build(Cluster::plain()).start();
        let mut client = local.connect("postgres", "postgres");
        client
            .batch_execute(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
                 SET statement_timeout = '60s'",
            )
            .unwrap();
        Self { local, client }
    }

    /// The same server, asked by somebody else.
    fn login(&mut self, user: &str) -> Client {
        self.client
            .batch_execute(&format!(
                "CREATE ROLE {user} LOGIN; GRANT USAGE ON SCHEMA contrib, secretlink TO {user}"
            ))
            .unwrap();
        self.local.connect(user, "postgres")
    }

    fn ours(&mut self, conninfo: &str) -> Result<Login, DbError> {
        attempt(&mut self.client, "secretlink", conninfo)
    }

    fn libpq(&mut self, conninfo: &str) -> Result<Login, DbError> {
        attempt(&mut self.client, "contrib", conninfo)
    }

    /// What we make of it, which must be what libpq makes of it.
    #[track_caller]
    fn both(&mut self, conninfo: &str) -> Result<Login, DbError> {
        let (ours, libpq) = (self.ours(conninfo), self.libpq(conninfo));
        match (&ours, &libpq) {
            (Ok(ours), Ok(libpq)) => assert_eq!(ours, libpq, "ours and libpq's for {conninfo}"),
            (Err(_), Err(_)) => {}
            _ => panic!("{conninfo}\nours:  {ours:?}\nlibpq: {libpq:?}"),
        }
        ours
    }

    /// One value of a query at the other end.
    #[track_caller]
    fn ask(&mut self, conninfo: &str, sql: &str) -> String {
        let query = "SELECT v FROM secretlink.dblink($1, $2) AS t(v text)";
        self.client
            .query_one(query, &[&conninfo, &sql])
            .unwrap_or_else(|e| panic!("{conninfo}: {e:?}"))
            .get(0)
    }
}

fn attempt(client: &mut Client, schema: &str, conninfo: &str) -> Result<Login, DbError> {
    let query = format!("SELECT u, s FROM {schema}.dblink($1, $2) AS t(u text, s bool)");
    match client.query_one(&query, &[&conninfo, &WHO]) {
        Ok(row) => Ok((row.get(0), row.get(1))),
        error @ Err(_) => Err(db_error(error)),
    }
}

/// The failure, as dblink words it: what happened is in the detail.
#[track_caller]
fn detail(outcome: Result<Login, DbError>) -> String {
    let error = outcome.expect_err("no connection was expected");
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    error.detail().expect("a detail").to_owned()
}

fn tcp(cluster: &Cluster) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres", cluster.port())
}

/// A cluster with TLS, everybody trusted but where `auth` says otherwise.
fn with_tls(tls: &TlsFiles) -> ClusterBuilder {
    Cluster::plain()
        .tcp()
        .conf("ssl = on")
        .conf(&format!("ssl_ca_file = '{}'", tls.ca.display()))
        .conf(&format!("ssl_cert_file = '{}'", tls.server_cert.display()))
        .conf(&format!("ssl_key_file = '{}'", tls.server_key.display()))
}

fn generate(directory: &TempDir, names: &[&str]) -> TlsFiles {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    TlsFiles::generate(directory.path(), &names, "certified")
}

fn roles(cluster: &Cluster, names: &[&str]) {
    let mut client = cluster.connect("postgres", "postgres");
    for name in names {
        client.batch_execute(&format!("CREATE ROLE {name} LOGIN")).unwrap();
    }
}

/// A file that only the server's user can read.
fn private(path: PathBuf, content: &str) -> PathBuf {
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    OsUser::for_servers().own(&path);
    path
}

#[test]
fn keywords_and_uris_say_the_same() {
    let remote = Cluster::plain().tcp().start();
    roles(&remote, &["app"]);
    let mut lab = Lab::new();
    let port = remote.port();
    let socket = remote.socket_dir().display().to_string();
    let socket_encoded = socket.replace('/', "%2F");
    for conninfo in [
        format!("host=127.0.0.1 port={port} user=app dbname=postgres"),
        format!("host = '127.0.0.1'  port= {port} user ='app' dbname=postgres"),
        format!("hostaddr=127.0.0.1 port={port} user=app dbname=postgres"),
        format!("host=no.such.host.invalid hostaddr=127.0.0.1 port={port} user=app dbname=postgres"),
        format!("postgresql://app@127.0.0.1:{port}/postgres"),
        format!("postgres://app@127.0.0.1:{port}/postgres?connect_timeout=10&application_name=x"),
        format!("postgresql://%61pp:any%40thing@127.0.0.1:{port}/postgres"),
        format!("postgresql:///postgres?host=127.0.0.1&port={port}&user=app"),
        format!("postgresql://app@{socket_encoded}:{port}/postgres"),
        format!("host={socket} port={port} user=app dbname=postgres"),
        format!("host={socket} port={port} user=app dbname=postgres sslmode=require"),
        format!("host=localhost port={port} user=app dbname=postgres"),
    ] {
        assert_eq!(lab.both(&conninfo).unwrap(), ("app".to_owned(), false), "{conninfo}");
    }
    // The names of the server's own environment count, as they do for contrib.
    let mut lab = Lab::with(|local| {
        local.env("PGHOST", "127.0.0.1").env("PGPORT", &port.to_string()).env("PGDATABASE", "postgres")
    });
    assert_eq!(lab.both("user=app").unwrap().0, "app");
}

#[test]
fn the_session_is_what_the_connection_string_asks_for() {
    let remote = Cluster::plain().tcp().start();
    let mut lab = Lab::new();
    let conninfo = tcp(&remote);
    for (more, setting, value) in [
        ("", "application_name", ""),
        ("application_name='it\\'s'", "application_name", "it's"),
        ("fallback_application_name=fallback", "application_name", "fallback"),
        ("application_name=first fallback_application_name=second", "application_name", "first"),
        ("options='-c search_path=a,b -c work_mem=3MB'", "search_path", "a,b"),
        ("options='-c search_path=a,b -c work_mem=3MB'", "work_mem", "3MB"),
        ("options='-c application_name=a\\\\ b'", "application_name", "a b"),
        ("client_encoding=LATIN1", "client_encoding", "UTF8"),
        ("", "client_encoding", "UTF8"),
        ("replication=false", "search_path", "\"$user\", public"),
    ] {
        let conninfo = format!("{conninfo} user=postgres {more}");
        assert_eq!(lab.ask(&conninfo, &format!("SHOW {setting}")), value, "{more}");
        assert!(lab.both(&conninfo).is_ok(), "{more}");
    }
    let uri =
        format!("postgresql://postgres@127.0.0.1:{}/postgres?options=-c%20work_mem%3D4MB", remote.port());
    assert_eq!(lab.ask(&uri, "SHOW work_mem"), "4MB");
    // What we cannot do is refused, not ignored.
    for more in ["replication=database", "gssencmode=require", "requirepeer=postgres"] {
        let told = detail(lab.ours(&format!("{conninfo} user=postgres {more}")));
        assert!(told.contains("is not supported"), "{told}");
    }
}

#[test]
fn several_hosts_are_tried_in_order() {
    let remote = Cluster::plain().tcp().auth("host", "unwanted", "reject").start();
    roles(&remote, &["unwanted"]);
    let mut lab = Lab::new();
    let (port, nobody) = (remote.port(), free_port());
    for conninfo in [
        format!("host=127.0.0.1,127.0.0.1 port={nobody},{port} user=postgres dbname=postgres"),
        format!("host=no.such.host.invalid,127.0.0.1 port={port} user=postgres dbname=postgres"),
        format!("host=/nonexistent,127.0.0.1 port={port} user=postgres dbname=postgres"),
        format!("postgresql://postgres@127.0.0.1:{nobody},127.0.0.1:{port}/postgres"),
    ] {
        assert_eq!(lab.both(&conninfo).unwrap().0, "postgres", "{conninfo}");
    }
    // Every attempt is told of.
    let refused =
        format!("host=127.0.0.1,localhost hostaddr=127.0.0.1,127.0.0.1 port={nobody} user=postgres");
    let (ours, libpq) = (detail(lab.ours(&refused)), detail(lab.libpq(&refused)));
    assert_eq!(ours.lines().count(), 2, "{ours}");
    for line in ours.lines() {
        assert!(libpq.contains(line), "not what libpq says:\n{ours}\n{libpq}");
    }
    // Being turned down is an answer: the next host is not asked.
    let conninfo =
        format!("host=127.0.0.1,{} port={port} user=unwanted dbname=postgres", remote.socket_dir().display());
    assert!(detail(lab.both(&conninfo)).contains("pg_hba.conf rejects connection"));
}

#[test]
fn a_server_of_the_kind_asked_for_is_found() {
    let primary = Cluster::plain().tcp().start();
    let read_only = Cluster::plain().tcp().conf("default_transaction_read_only = on").start();
    // Nobody to follow: it stays in recovery, and that is all it takes.
    let mut standby = Cluster::plain().tcp().start();
    standby.stop(StopMode::Fast);
    private(standby.data_dir().join("standby.signal"), "");
    standby.start();
    let mut lab = Lab::new();
    let ports = [primary.port(), read_only.port(), standby.port()];
    let names =
        |port: u16| ["primary", "read_only", "standby"][ports.iter().position(|p| *p == port).unwrap()];
    let found = |client: &mut Client, schema: &str, order: &[u16], wanted: &str| -> Result<&str, DbError> {
        let hosts = vec!["127.0.0.1"; order.len()].join(",");
        let list: Vec<String> = order.iter().map(u16::to_string).collect();
        let conninfo = format!(
            "host={hosts} port={} user=postgres dbname=postgres target_session_attrs={wanted}",
            list.join(",")
        );
        let query = format!("SELECT p FROM {schema}.dblink($1, 'SHOW port') AS t(p text)");
        match client.query_one(&query, &[&conninfo]) {
            Ok(row) => Ok(names(row.get::<_, String>(0).parse().unwrap())),
            error @ Err(_) => Err(db_error(error)),
        }
    };
    let [p, r, s] = ports;
    for (order, wanted, expected) in [
        (&[s, r, p][..], "any", Some("standby")),
        (&[s, r, p], "read-write", Some("primary")),
        (&[p, r, s], "read-only", Some("read_only")),
        (&[p, s, r], "read-only", Some("standby")),
        (&[s, r, p], "primary", Some("read_only")),
        (&[p, r, s], "standby", Some("standby")),
        (&[p, r, s], "prefer-standby", Some("standby")),
        (&[p, r], "prefer-standby", Some("primary")),
        (&[s, r], "read-write", None),
        (&[p], "read-only", None),
        (&[p, r], "standby", None),
        (&[s], "primary", None),
    ] {
        let ours = found(&mut lab.client, "secretlink", order, wanted);
        let libpq = found(&mut lab.client, "contrib", order, wanted);
        match expected {
            Some(expected) => {
                assert_eq!(ours.unwrap(), expected, "{wanted}");
                assert_eq!(libpq.unwrap(), expected, "{wanted}");
            }
            None => {
                let (ours, libpq) = (ours.unwrap_err(), libpq.unwrap_err());
                assert_eq!(ours.detail(), libpq.detail(), "{wanted}");
                assert_eq!(ours.code(), libpq.code());
            }
        }
    }
    // A server that is starting up or shutting down is passed over, too.
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={s},{p} user=postgres dbname=postgres target_session_attrs=read-write"
    );
    assert_eq!(lab.ask(&conninfo, "SHOW port"), p.to_string());
}

#[test]
fn connect_timeout_bounds_the_wait_for_each_host() {
    let nowhere = NeverAnswers::new();
    let remote = Cluster::plain().tcp().start();
    let mut lab = Lab::new();
    let began = Instant::now();
    let conninfo = format!("host=127.0.0.1 port={} user=postgres connect_timeout=2", nowhere.port());
    let told = detail(lab.ours(&conninfo));
    let took = began.elapsed();
    assert!(told.ends_with("timeout expired"), "{told}");
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    // Then it is the next one's turn. One second is as good as two: libpq says so.
    let began = Instant::now();
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres connect_timeout=1",
        nowhere.port(),
        remote.port()
    );
    assert_eq!(lab.ours(&conninfo).unwrap().0, "postgres");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    // A server that accepts and then says nothing, with and without TLS, is no better.
    let hole = secretlink_e2e::Proxy::black_hole();
    for mode in ["disable", "require"] {
        let began = Instant::now();
        let conninfo =
            format!("host=127.0.0.1 port={} user=postgres sslmode={mode} connect_timeout=2", hole.port());
        assert!(detail(lab.ours(&conninfo)).ends_with("timeout expired"));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn sslmode_means_what_it_means_to_libpq() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let other_directory = TempDir::new();
    let other = generate(&other_directory, &["localhost"]);
    let secure = with_tls(&tls)
        .auth("hostssl", "tls_only", "trust")
        .auth("hostnossl", "tls_only", "reject")
        .auth("hostssl", "plain_only", "reject")
        .auth("hostnossl", "plain_only", "trust")
        .start();
    let plain = Cluster::plain().tcp().start();
    for server in [&secure, &plain] {
        roles(server, &["tls_only", "plain_only", "anyone"]);
    }
    let mut lab = Lab::new();
    let roots = [
        String::new(),
        format!("sslrootcert={}", tls.ca.display()),
        format!("sslrootcert={}", other.ca.display()),
        "sslrootcert=/nonexistent/root.crt".to_owned(),
    ];
    let mut encrypted = 0;
    let mut failed = 0;
    for mode in [
        "",
        "sslmode=disable",
        "sslmode=allow",
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=verify-ca",
        "sslmode=verify-full",
    ] {
        for (server, users) in [(&secure, &["tls_only", "plain_only", "anyone"][..]), (&plain, &["anyone"])] {
            for user in users {
                for root in &roots {
                    for host in ["localhost", "db.example.com"] {
                        let conninfo = format!(
                            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user={user} {mode} {root}",
                            server.port()
                        );
                        match lab.both(&conninfo) {
                            Ok((_, tls)) => encrypted += i32::from(tls),
                            Err(_) => failed += 1,
                        }
                    }
                }
            }
        }
    }
    // Not all of one kind.
    assert!(encrypted > 30 && failed > 60, "{encrypted} encrypted, {failed} failed");

    let at = |mode: &str, host: &str, root: &TlsFiles, server: &Cluster| {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=anyone sslmode={mode} sslrootcert={}",
            server.port(),
            root.ca.display()
        )
    };
    let told = detail(lab.ours(&at("require", "localhost", &tls, &plain)));
    assert!(told.ends_with("server does not support SSL, but SSL was required"), "{told}");
    let told = detail(lab.ours(&at("verify-full", "db.example.com", &tls, &secure)));
    assert!(told.ends_with("server certificate does not match host name \"db.example.com\""), "{told}");
    let told = detail(lab.ours(&at("verify-ca", "localhost", &other, &secure)));
    // The other authority calls itself the same.
    assert!(told.ends_with("certificate verify failed: BadSignature"), "{told}");
    let missing = lab
        .ours(&format!("{} sslmode=verify-full sslrootcert=/nonexistent/root.crt", tcp(&secure)))
        .unwrap_err();
    assert!(
        missing.detail().unwrap().contains("root certificate file \"/nonexistent/root.crt\" does not exist")
    );
    assert!(missing.hint().unwrap().contains("sslrootcert=system"), "{missing:?}");
    // With prefer a refusal with and one without encryption are both told of.
    let remote = Cluster::remote().start();
    let told = detail(lab.both(&format!("{} user=nobody password=x sslmode=prefer", tcp(&remote))));
    assert_eq!(told.lines().filter(|line| line.contains("FATAL:")).count(), 2, "{told}");
}

#[test]
fn the_default_root_certificate_and_revocation_list_are_found_in_the_home_directory() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).start();
    let home = TempDir::new();
    let dot = home.path().join(".postgresql");
    fs::create_dir(&dot).unwrap();
    fs::set_permissions(&dot, fs::Permissions::from_mode(0o755)).unwrap();
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    let conninfo =
        format!("host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=postgres", server.port());
    assert!(lab.both(&format!("{conninfo} sslmode=require")).is_ok());
    assert!(lab.both(&format!("{conninfo} sslmode=verify-full")).is_err());
    private(dot.join("root.crt"), &fs::read_to_string(&tls.ca).unwrap());
    assert!(lab.both(&format!("{conninfo} sslmode=verify-full")).is_ok());
    // Another authority's: now require verifies as well, as libpq's documentation says.
    let other_directory = TempDir::new();
    private(dot.join("root.crt"), &fs::read_to_string(generate(&other_directory, &["x"]).ca).unwrap());
    assert!(lab.both(&format!("{conninfo} sslmode=require")).is_err());
    assert!(!lab.both(&format!("{conninfo} sslmode=prefer")).unwrap().1);
    assert!(lab.both(&format!("{conninfo} sslmode=require sslrootcert=/nonexistent")).is_ok());
}

#[test]
fn the_systems_trusted_roots_verify_in_full() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).start();
    let conninfo = |host: &str, more: &str| {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=postgres sslrootcert=system {more}",
            server.port()
        )
    };
    let mut trusting = Lab::with(|local| local.env("SSL_CERT_FILE", &tls.ca.display().to_string()));
    assert!(trusting.ours(&conninfo("localhost", "")).unwrap().1);
    assert!(trusting.ours(&conninfo("localhost", "sslmode=verify-full")).unwrap().1);
    assert!(detail(trusting.ours(&conninfo("db.example.com", ""))).contains("does not match host name"));
    let weak = detail(trusting.ours(&conninfo("localhost", "sslmode=require")));
    assert!(weak.contains("weak sslmode \"require\" may not be used with sslrootcert=system"), "{weak}");
    // The roots of this machine know nothing of our authority.
    let mut strict = Lab::new();
    let told = detail(strict.ours(&conninfo("localhost", "")));
    assert!(told.contains("the issuer is not trusted") || told.contains("no trusted certificates"), "{told}");
}

/// An authority to sign with.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// Has the server show another certificate.
fn present(server: &mut Cluster, directory: &Path, cert: &str, key: &str) {
    let cert = private(directory.join("shown.crt"), cert);
    let key = private(directory.join("shown.key"), key);
    server.append_conf(&[
        format!("ssl_cert_file = '{}'", cert.display()),
        format!("ssl_key_file = '{}'", key.display()),
    ]);
    server.restart(StopMode::Fast);
}

#[test]
fn certificates_are_judged_as_libpq_judges_them() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).auth("host", "scram", "scram-sha-256").start();
    server.create_login("scram", "pass", "scram-sha-256");
    let ca = authority("test root");
    let root = private(directory.path().join("root.crt"), &ca.pem());
    let mut lab = Lab::new();
    // Which hosts a certificate is good for, of localhost, db.example.com, a.db.example.com and 127.0.0.1.
    let hosts = ["localhost", "db.example.com", "a.db.example.com", "127.0.0.1", "127.0.0.2"];
    let judge = |lab: &mut Lab,
                 server: &Cluster,
                 what: &str,
                 root: &Path,
                 good_for: &[&str],
                 trusted: bool| {
        for host in hosts {
            for mode in ["require", "verify-ca", "verify-full"] {
                // Channel binding proves that the hash of this certificate is the one that the server means.
                let conninfo = format!(
                    "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass sslmode={mode} \
                     channel_binding=require sslrootcert={}",
                    server.port(),
                    root.display()
                );
                let accepted = lab.both(&conninfo).is_ok();
                let expected = trusted && (mode != "verify-full" || good_for.contains(&host));
                assert_eq!(accepted, expected, "{what}, sslmode={mode}, host={host}");
            }
        }
    };
    let sign = |params: &CertificateParams| {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };

    for (what, common_name, alternatives, good_for) in [
        ("a common name and nothing else", "db.example.com", &[][..], &["db.example.com"][..]),
        ("an address as common name", "127.0.0.1", &[], &["127.0.0.1"]),
        ("a wildcard as common name", "*.db.example.com", &[], &["a.db.example.com"]),
        ("a common name in capitals", "DB.Example.COM", &[], &["db.example.com"]),
        ("alternative names", "localhost", &["db.example.com"], &["db.example.com"]),
        (
            "an alternative name with a wildcard",
            "x",
            &["*.example.com", "*.db.example.com"],
            &["db.example.com", "a.db.example.com"],
        ),
        ("an address", "localhost", &["127.0.0.1"], &["localhost", "127.0.0.1"]),
        (
            "an address and a name",
            "localhost",
            &["127.0.0.1", "db.example.com"],
            &["127.0.0.1", "db.example.com"],
        ),
        ("no name at all that fits", "x", &["y"], &[]),
    ] {
        let (cert, key) = sign(&named(common_name, alternatives));
        present(&mut server, directory.path(), &cert, &key);
        judge(&mut lab, &server, what, &root, good_for, true);
    }

    let mut expired = named("localhost", &["localhost"]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let (cert, key) = sign(&expired);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "an expired certificate", &root, &[], false);

    let mut future = named("localhost", &["localhost"]);
    future.not_before = date_time_ymd(2090, 1, 1);
    future.not_after = date_time_ymd(2091, 1, 1);
    let (cert, key) = sign(&future);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "a certificate of the future", &root, &[], false);

    let mut for_clients = named("localhost", &["localhost"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (cert, key) = sign(&for_clients);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "a client's certificate", &root, &[], false);

    // An intermediate authority, sent along or not.
    let mut params = named("intermediate", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &ca).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = named("localhost", &["localhost"]).signed_by(&key, &between).unwrap().pem();
    present(&mut server, directory.path(), &format!("{leaf}{}", between.pem()), &key.serialize_pem());
    judge(&mut lab, &server, "a chain", &root, &["localhost"], true);
    present(&mut server, directory.path(), &leaf, &key.serialize_pem());
    judge(&mut lab, &server, "a chain with a gap", &root, &[], false);
    // With the intermediate among the roots, next to the true one.
    let roots = private(directory.path().join("roots.crt"), &format!("{}{}", ca.pem(), between.pem()));
    judge(&mut lab, &server, "a chain completed by the root file", &roots, &["localhost"], true);

    // Its own root: with and without the mark of an authority.
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::NoCa] {
        let mut params = named("localhost", &["localhost"]);
        params.is_ca = is_ca.clone();
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        present(&mut server, directory.path(), &cert, &key.serialize_pem());
        let own = private(directory.path().join("own.crt"), &cert);
        judge(&mut lab, &server, &format!("its own root, {is_ca:?}"), &own, &["localhost"], true);
        judge(&mut lab, &server, &format!("its own root, {is_ca:?}, not trusted"), &root, &[], false);
    }

    // Another key type, with another hash for channel binding.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cert = named("localhost", &["localhost"]).self_signed(&key).unwrap().pem();
    present(&mut server, directory.path(), &cert, &key.serialize_pem());
    let own = private(directory.path().join("own.crt"), &cert);
    judge(&mut lab, &server, "ECDSA P-384 with SHA-384", &own, &["localhost"], true);
}

/// The commands of PostgreSQL's documentation, "Creating Certificates", in `directory`.
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_made_as_the_documentation_says_work() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!(
            "skipped: there is no openssl program, and only with it the documentation's recipe can be followed"
        );
        return;
    }
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).auth("host", "scram", "scram-sha-256").start();
    server.create_login("scram", "pass", "scram-sha-256");
    let mut lab = Lab::new();
    let dir = directory.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();

    // A self-signed certificate, then a root, a server certificate by that root, and one by an
    // intermediate authority. The last two are of X.509 version 1.
    openssl(dir, "req -new -x509 -days 365 -nodes -text -out self.crt -keyout self.key -subj /CN=localhost");
    openssl(dir, "req -new -nodes -text -out root.csr -keyout root.key -subj /CN=root.example.com");
    openssl(
        dir,
        "x509 -req -in root.csr -text -days 3650 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey root.key -out root.crt",
    );
    openssl(dir, "req -new -nodes -text -out server.csr -keyout leaf.key -subj /CN=localhost");
    openssl(
        dir,
        "x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out leaf.crt",
    );
    openssl(
        dir,
        "req -new -nodes -text -out intermediate.csr -keyout intermediate.key -subj /CN=intermediate.example.com",
    );
    openssl(
        dir,
        "x509 -req -in intermediate.csr -text -days 1825 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -CA root.crt -CAkey root.key -CAcreateserial -out intermediate.crt",
    );
    openssl(
        dir,
        "x509 -req -in server.csr -text -days 365 -CA intermediate.crt -CAkey intermediate.key -CAcreateserial -out below.crt",
    );
    // And what the recipe would not make: version 1, self-signed; by somebody else; out of date.
    openssl(dir, "x509 -req -in server.csr -days 365 -signkey leaf.key -out own.crt");
    openssl(dir, "req -new -nodes -text -out other.csr -keyout other.key -subj /CN=root.example.com");
    openssl(
        dir,
        "x509 -req -in other.csr -days 365 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey other.key -out other.crt",
    );
    openssl(
        dir,
        "x509 -req -in server.csr -days -1 -CA root.crt -CAkey root.key -CAcreateserial -out old.crt",
    );
    openssl(
        dir,
        "x509 -req -in server.csr -days 365 -CA leaf.crt -CAkey leaf.key -CAcreateserial -out misuse.crt",
    );
    openssl(dir, "x509 -in leaf.crt -noout -text -out leaf.txt");
    assert!(
        read("leaf.txt").contains("Version: 1 (0x0)"),
        "the recipe makes version 3 now: nothing is tested here"
    );

    for (what, cert, key, root, works) in [
        ("self-signed", vec!["self.crt"], "self.key", "self.crt", true),
        ("by a root", vec!["leaf.crt"], "leaf.key", "root.crt", true),
        ("by an intermediate authority", vec!["below.crt", "intermediate.crt"], "leaf.key", "root.crt", true),
        ("by an intermediate authority that is not sent", vec!["below.crt"], "leaf.key", "root.crt", false),
        ("self-signed, version 1", vec!["own.crt"], "leaf.key", "own.crt", true),
        ("by another root of the same name", vec!["leaf.crt"], "leaf.key", "other.crt", false),
        ("out of date", vec!["old.crt"], "leaf.key", "root.crt", false),
        ("by a server's certificate", vec!["misuse.crt", "leaf.crt"], "leaf.key", "root.crt", false),
    ] {
        let chain: String = cert.iter().map(|name| read(name)).collect();
        present(&mut server, dir, &chain, &read(key));
        let root = private(dir.join("trusted.crt"), &read(root));
        for (host, version) in
            [("localhost", ""), ("localhost", "ssl_max_protocol_version=TLSv1.2"), ("db.example.com", "")]
        {
            for mode in ["require", "verify-ca", "verify-full"] {
                let conninfo = format!(
                    "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass \
                     channel_binding=require sslmode={mode} sslrootcert={} {version}",
                    server.port(),
                    root.display()
                );
                let expected = works && (mode != "verify-full" || host == "localhost");
                assert_eq!(
                    lab.both(&conninfo).is_ok(),
                    expected,
                    "{what}, sslmode={mode}, host={host} {version}"
                );
            }
        }
        // Nothing to verify with: any certificate will do.
        let conninfo = format!("{} user=scram password=pass sslmode=require", tcp(&server));
        assert!(lab.both(&conninfo).unwrap().1, "{what}");
    }
}

#[test]
fn revoked_certificates_are_refused() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).start();
    let mut lab = Lab::new();
    let ca = authority("test root");
    let root = private(directory.path().join("root.crt"), &ca.pem());
    let mut params = named("localhost", &["localhost"]);
    params.serial_number = Some(SerialNumber::from(4711u64));
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &ca).unwrap().pem();
    present(&mut server, directory.path(), &cert, &key.serialize_pem());

    let other = authority("another root");
    let list = |name: &str, issuer: &CertifiedIssuer<'static, KeyPair>, revoked: &[u64], year: i32| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(year + 1, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        private(directory.path().join(name), &params.signed_by(issuer).unwrap().pem().unwrap())
    };
    let this_year: i32 = Command::new("date")
        .arg("+%Y")
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().parse().unwrap())
        .unwrap();
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=postgres sslmode=verify-full sslrootcert={}",
        server.port(),
        root.display()
    );
    for (file, accepted) in [
        (list("clean.crl", &ca, &[1, 2, 3], this_year), true),
        (list("revoked.crl", &ca, &[1, 4711], this_year), false),
        (list("outdated.crl", &ca, &[], 2020), false),
        (list("of_another.crl", &other, &[], this_year), false),
    ] {
        let outcome = lab.both(&format!("{conninfo} sslcrl={}", file.display()));
        assert_eq!(outcome.is_ok(), accepted, "{}: {outcome:?}", file.display());
    }
    // In the place where libpq looks when it is not told.
    let home = TempDir::new();
    let dot = home.path().join(".postgresql");
    fs::create_dir(&dot).unwrap();
    fs::set_permissions(&dot, fs::Permissions::from_mode(0o755)).unwrap();
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    assert!(lab.both(&conninfo).is_ok());
    private(dot.join("root.crl"), &fs::read_to_string(directory.path().join("revoked.crl")).unwrap());
    assert!(lab.both(&conninfo).is_err());
    // libpq goes on without a list that is not there; whoever names one wants it checked.
    assert!(lab.ours(&format!("{conninfo} sslcrl=/nonexistent.crl")).is_err());
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).auth("hostssl", "certified", "cert").auth("hostssl", "app", "cert").start();
    roles(&server, &["certified", "app"]);
    let other_directory = TempDir::new();
    let other = generate(&other_directory, &["localhost"]);
    let mut lab = Lab::new();
    let conninfo = |user: &str, cert: &Path, key: &Path| {
        format!(
            "{} user={user} sslmode=require sslcert={} sslkey={}",
            tcp(&server),
            cert.display(),
            key.display()
        )
    };
    let (cert, key) = (&tls.client_cert, &tls.client_key);
    assert_eq!(lab.both(&conninfo("certified", cert, key)).unwrap(), ("certified".to_owned(), true));
    assert!(
        detail(lab.both(&conninfo("app", cert, key)))
            .contains("certificate authentication failed for user \"app\"")
    );
    let none = detail(lab.both(&format!("{} user=certified sslmode=require", tcp(&server))));
    assert!(none.contains("connection requires a valid client certificate"), "{none}");
    let foreign = detail(lab.both(&conninfo("certified", &other.client_cert, &other.client_key)));
    assert!(foreign.contains("SSL error: ") || foreign.contains("closed the connection"), "{foreign}");
    assert!(
        lab.both(&conninfo("certified", cert, &other.client_key)).is_err(),
        "a key of another certificate"
    );

    // The key is nobody else's business.
    let open = private(directory.path().join("open.key"), &fs::read_to_string(key).unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let error = lab.both(&conninfo("certified", cert, &open)).unwrap_err();
    assert!(error.detail().unwrap().contains("open.key\" has group or world access"), "{error:?}");
    assert!(error.hint().unwrap().contains("0600"), "{error:?}");
    for (cert, key, what) in [
        (Path::new("/nonexistent.crt"), key.as_path(), "certificate file \"/nonexistent.crt\""),
        (cert.as_path(), Path::new("/nonexistent.key"), "private key file \"/nonexistent.key\""),
        (cert.as_path(), cert.as_path(), "private key file"),
    ] {
        let told = lab.ours(&conninfo("certified", cert, key));
        if what == "certificate file \"/nonexistent.crt\"" {
            // libpq goes on without; the server then says what is missing.
            assert!(lab.libpq(&conninfo("certified", cert, key)).is_err());
        }
        assert!(detail(told).contains(what));
    }
    // `sslcertmode=require`: to a server that asks, and to none other.
    let required = format!("{} sslcertmode=require", conninfo("certified", cert, key));
    assert!(lab.ours(&required).unwrap().1);
    let no_ca = Cluster::plain()
        .tcp()
        .conf("ssl = on")
        .conf(&format!("ssl_cert_file = '{}'", tls.server_cert.display()))
        .conf(&format!("ssl_key_file = '{}'", tls.server_key.display()))
        .start();
    let asks_nobody = required
        .replace(&format!("port={}", server.port()), &format!("port={}", no_ca.port()))
        .replace("user=certified", "user=postgres");
    assert!(lab.ours(&asks_nobody.replace("sslcertmode=require", "")).unwrap().1);
    assert!(detail(lab.ours(&asks_nobody)).ends_with("server did not request an SSL certificate"));
    // In the home directory, as psql finds it.
    let home = TempDir::new();
    let dot = home.path().join(".postgresql");
    fs::create_dir(&dot).unwrap();
    fs::set_permissions(&dot, fs::Permissions::from_mode(0o755)).unwrap();
    private(dot.join("postgresql.crt"), &fs::read_to_string(cert).unwrap());
    private(dot.join("postgresql.key"), &fs::read_to_string(key).unwrap());
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    assert!(lab.both(&format!("{} user=certified sslmode=require", tcp(&server))).is_ok());
    assert!(
        lab.ours(&format!("{} user=certified sslmode=require sslcertmode=disable", tcp(&server))).is_err()
    );
}

/// A server with a role for each way to log in, named after it, whose password is `pass`.
fn with_every_method(tls: &TlsFiles) -> Cluster {
    let server = with_tls(tls)
        .auth("host", "scram", "scram-sha-256")
        .auth("host", "md5", "md5")
        .auth("host", "cleartext", "password")
        .auth("host", "trusted", "trust")
        .auth("hostssl", "certified", "cert")
        .auth("hostnossl", "certified", "reject")
        .start();
    for (name, encryption) in [
        ("scram", "scram-sha-256"),
        ("md5", "md5"),
        ("cleartext", "scram-sha-256"),
        ("trusted", "scram-sha-256"),
        ("certified", "scram-sha-256"),
    ] {
        server.create_login(name, "pass", encryption);
    }
    server
}

#[test]
fn every_method_of_authentication_works_where_it_is_safe() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    for user in ["scram", "md5", "cleartext", "trusted"] {
        for mode in ["disable", "require"] {
            for password in ["password=pass", "password=wrong", "password=''", ""] {
                let conninfo = format!("{} user={user} {password} sslmode={mode}", tcp(&server));
                if user == "cleartext" && mode == "disable" && password.ends_with(['s', 'g']) {
                    let error = lab.ours(&conninfo).unwrap_err();
                    assert!(error.detail().unwrap().ends_with(
                        "the server asked for the password in cleartext over an unencrypted connection"
                    ));
                    assert!(error.hint().unwrap().contains("scram-sha-256"));
                    continue;
                }
                let outcome = lab.both(&conninfo);
                let expected = user == "trusted" || password == "password=pass";
                assert_eq!(outcome.is_ok(), expected, "{conninfo}: {outcome:?}");
                match outcome {
                    Ok((who, encrypted)) => assert_eq!((who.as_str(), encrypted), (user, mode == "require")),
                    Err(error) => {
                        let wanted = if password == "password=wrong" {
                            format!("FATAL:  password authentication failed for user \"{user}\"")
                        } else {
                            "no password supplied".to_owned()
                        };
                        assert!(detail(Err(error)).ends_with(&wanted), "{conninfo}");
                    }
                }
            }
        }
    }
    // What libpq puts into SASLprep, and what it leaves alone.
    for (index, password) in [
        "p\u{e4}ss w\u{f6}rd",
        "\u{1F600}",
        "a'b\"c\\d$e",
        "\u{2168}",
        " ",
        &"long".repeat(200),
        "soft\u{ad}hyphen",
        "tab\t",
    ]
    .iter()
    .enumerate()
    {
        for encryption in ["scram-sha-256", "md5"] {
            let user = format!("{}{index}", &encryption[..3]);
            server.create_login(&user, password, encryption);
            fs::write(
                server.data_dir().join("pg_hba.conf"),
                "local all all trust\nhost all all 127.0.0.1/32 md5\n",
            )
            .unwrap();
            assert!(server.psql("SELECT pg_reload_conf()").success);
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let conninfo =
                format!("{} user={user} password='{quoted}' require_auth={encryption}", tcp(&server));
            let right = eventually("the new pg_hba.conf", Duration::from_secs(5), || {
                lab.ours(&conninfo).map_err(|e| format!("{e:?}"))
            });
            assert_eq!(right.0, user);
            assert!(
                lab.both(&conninfo.replace(&format!(" require_auth={encryption}"), "")).is_ok(),
                "{password:?}"
            );
            assert!(lab.ours(&format!("{} user={user} password='{quoted}x'", tcp(&server))).is_err());
        }
    }
}

#[test]
fn channel_binding_is_used_and_demanded() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    for user in ["scram", "md5", "cleartext", "trusted", "certified"] {
        for mode in ["disable", "require"] {
            for binding in ["disable", "prefer", "require"] {
                let certificate = if user == "certified" {
                    format!("sslcert={} sslkey={}", tls.client_cert.display(), tls.client_key.display())
                } else {
                    String::new()
                };
                let conninfo = format!(
                    "{} user={user} password=pass sslmode={mode} channel_binding={binding} {certificate}",
                    tcp(&server)
                );
                if user == "cleartext" && mode == "disable" {
                    assert!(lab.ours(&conninfo).is_err());
                    continue;
                }
                let outcome = lab.both(&conninfo);
                // With `require` it can only have been SCRAM-SHA-256-PLUS.
                let expected = (binding != "require" || (user == "scram" && mode == "require"))
                    && (user != "certified" || mode == "require");
                assert_eq!(outcome.is_ok(), expected, "{conninfo}: {outcome:?}");
                if binding == "require" && user != "certified" && !expected {
                    let told = detail(outcome);
                    assert!(told.contains("channel binding") && told.contains("required"), "{told}");
                }
            }
        }
    }
    // Somebody in between, with a certificate of his own: what only `prefer` and `require` notice.
    let other_directory = TempDir::new();
    let forged = generate(&other_directory, &["localhost"]);
    for (strip, words) in [(false, "channel binding check failed"), (true, "channel binding")] {
        let between = Relay::start(server.port(), &forged, strip);
        for (binding, works) in [("disable", true), ("prefer", false), ("require", false)] {
            let conninfo = format!(
                "host=127.0.0.1 port={} dbname=postgres user=scram password=pass sslmode=require channel_binding={binding}",
                between.port
            );
            let outcome = lab.both(&conninfo);
            assert_eq!(outcome.is_ok(), works, "{binding}, strip: {strip}, {outcome:?}");
            if !works {
                let told = detail(outcome);
                assert!(told.contains(words), "{told}");
            }
        }
    }
}

/// Somebody in the middle, who ends TLS with a certificate of his own and begins it anew to the
/// server. He may also strike SCRAM-SHA-256-PLUS from what the server offers.
struct Relay {
    port: u16,
}

impl Relay {
    fn start(upstream: u16, tls: &TlsFiles, strip: bool) -> Self {
        let certs = CertificateDer::pem_file_iter(&tls.server_cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&tls.server_key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnybody))
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Ends with the test's process; each connection with its client.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, client) = (Arc::clone(&server), Arc::clone(&client));
                thread::spawn(move || Self::serve(stream, upstream, server, client, strip));
            }
        });
        Self { port }
    }

    fn serve(
        mut near: TcpStream,
        upstream: u16,
        server: Arc<rustls::ServerConfig>,
        client: Arc<rustls::ClientConfig>,
        strip: bool,
    ) -> std::io::Result<()> {
        let (mut request, mut answer) = ([0; 8], [0; 1]);
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
        near.read_exact(&mut request)?;
        far.write_all(&request)?;
        far.read_exact(&mut answer)?;
        near.write_all(&answer)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        let mut near = rustls::StreamOwned::new(rustls::ServerConnection::new(server).unwrap(), near);
        let name = ServerName::try_from("localhost").unwrap();
        let mut far = rustls::StreamOwned::new(rustls::ClientConnection::new(client, name).unwrap(), far);
        near.flush()?;
        far.flush()?;
        for stream in [&near.sock, &far.sock] {
            stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        }
        let mut buffer = [0; 64 * 1024];
        loop {
            match near.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => far.write_all(&buffer[..n])?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            match far.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    let mut data = buffer[..n].to_vec();
                    let plus = b"SCRAM-SHA-256-PLUS\0";
                    if let Some(at) = data.windows(plus.len()).position(|w| w == plus)
                        && strip
                    {
                        data.drain(at..at + plus.len());
                        let length = u32::try_from(data.len() - 1).unwrap();
                        data[1..5].copy_from_slice(&length.to_be_bytes());
                    }
                    near.write_all(&data)?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[derive(Debug)]
struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn require_auth_lets_only_those_methods_through() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    let methods = [
        ("scram", "scram-sha-256"),
        ("md5", "md5"),
        ("cleartext", "password"),
        ("trusted", "none"),
        ("certified", "none"),
    ];
    for (user, method) in methods {
        for wanted in [
            "scram-sha-256",
            "md5",
            "password",
            "none",
            "md5,scram-sha-256",
            "!none",
            "!password,!md5",
            "!scram-sha-256",
            "gss,sspi",
            "",
        ] {
            let listed = wanted.split(',').any(|w| w.trim_start_matches('!') == method);
            let expected = wanted.is_empty() || listed != wanted.starts_with('!');
            let conninfo = format!(
                "{} user={user} password=pass sslmode=require require_auth='{wanted}' sslcert={} sslkey={}",
                tcp(&server),
                tls.client_cert.display(),
                tls.client_key.display()
            );
            let outcome = lab.ours(&conninfo);
            assert_eq!(outcome.is_ok(), expected, "{user}, require_auth={wanted}: {outcome:?}");
            if !expected {
                let told = detail(outcome);
                assert!(told.contains("authentication method requirement failed"), "{told}");
            }
        }
    }
}

#[test]
fn failures_are_told_in_libpqs_words() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    let nobody = free_port();
    for conninfo in [
        format!("host=127.0.0.1 port={nobody} user=x"),
        format!("host=localhost hostaddr=127.0.0.1 port={nobody} user=x"),
        "host=/nonexistent port=1 user=x".to_owned(),
        format!("{} user=scram password=wrong", tcp(&server)),
        format!("{} user=scram password=wrong sslmode=disable", tcp(&server)),
        format!("{} user=scram", tcp(&server)),
        format!("{} user=no_such_role", tcp(&server)),
        format!("host=127.0.0.1 port={} user=trusted dbname=no_such_database", server.port()),
        format!("{} user=trusted options='-c no_such_setting=1'", tcp(&server)),
        format!("{} user=trusted options='-c work_mem=nonsense'", tcp(&server)),
        format!("{} user=trusted sslmode=verify-full sslrootcert=/nonexistent", tcp(&server)),
        format!("{} user=md5 password=pass channel_binding=require sslmode=require", tcp(&server)),
        format!(
            "host={} port={} user=no_such_role dbname=postgres",
            server.socket_dir().display(),
            server.port()
        ),
        "nonsense=1".to_owned(),
        "host=127.0.0.1 port=70000".to_owned(),
        "host=127.0.0.1 port=x".to_owned(),
        "sslmode=sometimes".to_owned(),
        "channel_binding=maybe".to_owned(),
        "target_session_attrs=fast".to_owned(),
    ] {
        let (ours, libpq) = (detail(lab.ours(&conninfo)), detail(lab.libpq(&conninfo)));
        // libpq adds advice in a second line where we have a hint.
        let first = |text: &str| {
            text.lines().next().unwrap_or_default().replace('"', "").replace("fe_sendauth: ", "")
        };
        assert_eq!(first(&ours), first(&libpq), "{conninfo}");
    }
    // A name that cannot be found: the resolver's own words.
    let unknown = detail(lab.both("host=no.such.host.invalid user=x"));
    assert!(
        unknown.starts_with("could not translate host name \"no.such.host.invalid\" to address: "),
        "{unknown}"
    );
    // A server that has something to add.
    let full =
        Cluster::plain().tcp().conf("max_connections = 5").conf("superuser_reserved_connections = 0").start();
    roles(&full, &["app"]);
    let held: Vec<Client> = (0..5).map(|_| full.connect("postgres", "postgres")).collect();
    assert!(
        detail(lab.both(&format!("{} user=app", tcp(&full))))
            .ends_with("FATAL:  sorry, too many clients already")
    );
    drop(held);
}

#[test]
fn an_unknown_keyword_is_named() {
    let mut lab = Lab::new();
    for (conninfo, said) in [
        ("host=x pasword=hunter2", "invalid connection option \"pasword\""),
        ("postgresql://x/y?nonsense=1", "invalid URI query parameter: \"nonsense\""),
        ("host=x ssl_mode=require", "invalid connection option \"ssl_mode\""),
    ] {
        let error = lab.both(conninfo).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(detail(Err(error)), said);
    }
    let error = lab.ours("host=x pasword=hunter2").unwrap_err();
    assert_eq!(error.hint(), Some("Perhaps you meant the option \"password\"."));
}

#[test]
fn without_superuser_rights_a_password_must_be_given_and_be_used() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::with(|local| local.env("PGPASSWORD", "pass"));
    let mut plain = lab.login("ordinary");
    // What contrib says to the same, in every field.
    let mut same = |conninfo: &str| {
        let told = |outcome: Result<Login, DbError>| {
            outcome.map_err(|e| {
                (
                    e.code().code().to_owned(),
                    e.message().to_owned(),
                    e.detail().map(str::to_owned),
                    e.hint().map(str::to_owned),
                )
            })
        };
        let ours = told(attempt(&mut plain, "secretlink", conninfo));
        assert_eq!(ours, told(attempt(&mut plain, "contrib", conninfo)), "{conninfo}");
        for schema in ["secretlink", "contrib"] {
            let connected =
                plain.query_one(&format!("SELECT {schema}.dblink_connect('named', $1)"), &[&conninfo]);
            assert_eq!(connected.is_ok(), ours.is_ok(), "{schema}: {conninfo}");
            let names: Option<Vec<String>> =
                plain.query_one(&format!("SELECT {schema}.dblink_get_connections()"), &[]).unwrap().get(0);
            assert_eq!(names.is_some(), ours.is_ok(), "{schema}: {conninfo}");
            if ours.is_ok() {
                plain.execute(&format!("SELECT {schema}.dblink_disconnect('named')"), &[]).unwrap();
            }
        }
        ours
    };
    let not_given = Some("Non-superusers must provide a password in the connection string.".to_owned());
    let not_used = Some("Non-superuser cannot connect if the server does not request a password.".to_owned());
    let refusal = |detail: &Option<String>, hint: Option<&str>| {
        Err(("2F003".to_owned(), "password is required".to_owned(), detail.clone(), hint.map(str::to_owned)))
    };
    let name = "application_name=rule";
    for user in ["scram", "md5", "trusted"] {
        // PGPASSWORD is the server's, not the user's.
        for password in ["", "password=''"] {
            assert_eq!(
                same(&format!("{} user={user} {password} {name}", tcp(&server))),
                refusal(&not_given, None)
            );
        }
        let given = same(&format!("{} user={user} password=pass {name}", tcp(&server)));
        match user {
            "trusted" => assert_eq!(
                given,
                refusal(&not_used, Some("Target server's authentication method must be changed."))
            ),
            _ => assert_eq!(given, Ok((user.to_owned(), true))),
        }
    }
    assert_eq!(
        same(&format!("postgresql://scram@127.0.0.1:{}/postgres", server.port())),
        refusal(&not_given, None)
    );
    assert!(same(&format!("postgresql://scram:pass@127.0.0.1:{}/postgres", server.port())).is_ok());
    let certificate = format!(
        "{} user=certified password=pass sslmode=require sslcert={} sslkey={} {name}",
        tcp(&server),
        tls.client_cert.display(),
        tls.client_key.display()
    );
    assert_eq!(
        same(&certificate),
        refusal(&not_used, Some("Target server's authentication method must be changed."))
    );
    // Nobody's session stays.
    let mut witness = server.connect("postgres", "postgres");
    eventually("the end of all sessions", Duration::from_secs(5), || {
        let count: i64 = witness
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rule'", &[])
            .unwrap()
            .get(0);
        if count == 0 { Ok(()) } else { Err(format!("{count} sessions")) }
    });
    // A superuser may do all that.
    for user in ["scram", "md5", "trusted"] {
        assert!(lab.both(&format!("{} user={user} sslmode=require", tcp(&server))).is_ok(), "{user}");
    }
}

#[test]
fn a_password_file_is_the_superusers_and_private() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    let line = format!("127.0.0.1:{}:*:scram:pass\n", server.port());
    let file = private(directory.path().join("pgpass"), &line);
    let conninfo = format!("{} user=scram passfile={}", tcp(&server), file.display());
    assert!(lab.both(&conninfo).is_ok());
    let mut plain = lab.login("ordinary");
    assert_eq!(attempt(&mut plain, "secretlink", &conninfo).unwrap_err().code().code(), "2F003");
    // Not used when others can read it, and that is said.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let psql =
        lab.local.psql(&format!("SELECT * FROM secretlink.dblink('{conninfo}', 'SELECT 1') AS t(a int)"));
    assert!(!psql.success);
    assert!(
        psql.stderr.contains("WARNING:  password file \"pgpass\" has group or world access"),
        "{}",
        psql.stderr
    );
    assert!(psql.stderr.contains("no password supplied"), "{}", psql.stderr);
}

#[test]
fn keepalives_are_set_on_the_socket() {
    if Command::new("ss").arg("-V").output().is_err() {
        println!("skipped: there is no ss program to look at sockets with");
        return;
    }
    let remote = Cluster::plain().tcp().conf("tcp_keepalives_idle = 3000").start();
    let mut lab = Lab::new();
    let mut timer = |more: &str| {
        lab.client
            .execute(
                "SELECT secretlink.dblink_connect('k', $1)",
                &[&format!("{} user=postgres {more}", tcp(&remote))],
            )
            .unwrap();
        let output = Command::new("ss")
            .args(["-Htno", "dst", "127.0.0.1", "and", "dport", "=", &format!(":{}", remote.port())])
            .output()
            .unwrap();
        lab.client.execute("SELECT secretlink.dblink_disconnect('k')", &[]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("ESTAB")).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let by_default = timer("");
    assert!(by_default.contains("timer:(keepalive,"), "{by_default}");
    let soon = timer("keepalives_idle=77 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=9000");
    assert!(
        ["timer:(keepalive,1min1", "timer:(keepalive,76", "timer:(keepalive,77"]
            .iter()
            .any(|t| soon.contains(t)),
        "{soon}"
    );
    let off = timer("keepalives=0 keepalives_idle=77");
    assert!(!off.is_empty() && !off.contains("keepalive"), "{off}");
}
