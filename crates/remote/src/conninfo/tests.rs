//! Whole connection strings: what they resolve to, what their errors say, and what they must not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secretlink_core::{Report, Secret};

use super::hosts::default_host;
use super::*;

fn nothing() -> Environment {
    Environment::for_tests(&[], None, "osuser")
}

fn resolve_in(conninfo: &str, environment: &Environment) -> Result<ConnInfo, ConnInfoError> {
    Options::parse(conninfo)?.resolve(environment)
}

fn resolve(conninfo: &str) -> ConnInfo {
    resolve_in(conninfo, &nothing()).unwrap_or_else(|e| panic!("{conninfo}: {e}"))
}

fn error(conninfo: &str) -> ConnInfoError {
    resolve_in(conninfo, &nothing()).map(|info| panic!("{conninfo}: {info:?}")).unwrap_err()
}

fn passwords(info: &ConnInfo) -> Vec<Option<&str>> {
    info.hosts.iter().map(|h| h.password.as_ref().and_then(Secret::expose_str)).collect()
}

/// A directory that goes away again.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("secretlink-conninfo-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn file(&self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn defaults() {
    let info = resolve("");
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("osuser", "osuser"));
    assert_eq!(info.hosts.len(), 1);
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), (default_host(), 5432));
    assert_eq!(passwords(&info), [None]);
    assert_eq!((info.options, info.application_name), (None, None));
    assert_eq!(info.channel_binding, ChannelBinding::Prefer);
    assert_eq!(info.require_auth, None);
    assert_eq!(info.target_session_attrs, TargetSessionAttrs::Any);
    assert_eq!((info.connect_timeout, info.tcp_user_timeout), (None, None));
    let keepalives = Keepalives { enabled: true, idle: None, interval: None, count: None };
    assert_eq!(info.keepalives, keepalives);
    assert!(!info.load_balance_random);
    assert_eq!(info.require_peer, None);
    assert!(info.warnings.is_empty());
    let ssl = info.ssl;
    assert_eq!((ssl.mode, ssl.mode_given, ssl.negotiation_direct), (SslMode::Prefer, false, false));
    assert_eq!(ssl.root_cert, RootCert::DefaultFile(None));
    assert_eq!(
        (ssl.cert, ssl.key, ssl.default_cert_dir, ssl.crl, ssl.crl_dir),
        (None, None, None, None, None)
    );
    assert_eq!((ssl.min_protocol, ssl.max_protocol), (Some(TlsVersion::Tls12), None));
    assert_eq!((ssl.sni, ssl.cert_mode), (true, SslCertMode::Allow));
    assert_eq!(ssl.key_password, None);
}

#[test]
fn every_keyword_at_once() {
    let info = resolve(
        "user=u dbname=d host=h port=7 password=pw options='-c a=b' application_name=app \
         fallback_application_name=fallback client_encoding=UTF8 channel_binding=require \
         require_auth=scram-sha-256 target_session_attrs=prefer-standby connect_timeout=10 keepalives=0 \
         keepalives_idle=1 keepalives_interval=2 keepalives_count=3 tcp_user_timeout=1500 \
         load_balance_hosts=random requirepeer=postgres sslmode=verify-full sslnegotiation=direct \
         sslrootcert=/ca sslcert=/crt sslkey=/key sslpassword=kpw sslcrl=/crl sslcrldir=/crls sslsni=0 \
         ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version=TLSv1.3 sslcertmode=require \
         sslcompression=1 gssencmode=prefer krbsrvname=x gsslib=gssapi gssdelegation=1 replication=false \
         min_protocol_version=3.0 max_protocol_version=latest sslkeylogfile='' oauth_scope=''",
    );
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("u", "d"));
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), ("h", 7));
    assert_eq!(passwords(&info), [Some("pw")]);
    assert_eq!(info.options.as_deref(), Some("-c a=b"));
    assert_eq!(info.application_name.as_deref(), Some("app"));
    assert_eq!(info.channel_binding, ChannelBinding::Require);
    assert!(info.require_auth.is_some_and(|auth| !auth.allows(AuthMethod::Md5)));
    assert_eq!(info.target_session_attrs, TargetSessionAttrs::PreferStandby);
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(10)));
    let (idle, interval) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(2)));
    assert_eq!(info.keepalives, Keepalives { enabled: false, idle, interval, count: Some(3) });
    assert_eq!(info.tcp_user_timeout, Some(Duration::from_millis(1500)));
    assert!(info.load_balance_random);
    assert_eq!(info.require_peer.as_deref(), Some("postgres"));
    let ssl = info.ssl;
    assert_eq!((ssl.mode, ssl.mode_given, ssl.negotiation_direct), (SslMode::VerifyFull, true, true));
    assert_eq!(ssl.root_cert, RootCert::File("/ca".into()));
    assert_eq!((ssl.cert, ssl.key), (Some("/crt".into()), Some("/key".into())));
    assert_eq!((ssl.crl, ssl.crl_dir), (Some("/crl".into()), Some("/crls".into())));
    assert_eq!((ssl.min_protocol, ssl.max_protocol), (Some(TlsVersion::Tls13), Some(TlsVersion::Tls13)));
    assert_eq!((ssl.sni, ssl.cert_mode), (false, SslCertMode::Require));
    assert_eq!(ssl.key_password, Some(Secret::new("kpw")));
}

#[test]
fn empty_values_ask_for_the_built_in_default() {
    let variables =
        [("PGUSER", "e"), ("PGHOST", "e"), ("PGPORT", "9"), ("PGPASSWORD", "e"), ("PGAPPNAME", "e")];
    let environment = Environment::for_tests(&variables, None, "osuser");
    let info = resolve_in(
        "user='' host='' port='' password='' application_name='' dbname='' sslrootcert='' options=''",
        &environment,
    )
    .unwrap();
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("osuser", "osuser"));
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), (default_host(), 5432));
    assert_eq!((info.application_name, info.options), (None, None));
    assert_eq!(info.hosts[0].password, None);
}

#[test]
fn environment_fills_in() {
    let variables = [
        ("PGUSER", "eu"),
        ("PGHOST", "eh"),
        ("PGPORT", "9"),
        ("PGPASSWORD", "epw"),
        ("PGSSLMODE", "disable"),
        ("PGREQUIRESSL", "1"),
        ("PGAPPNAME", "app"),
        ("PGCONNECT_TIMEOUT", "5"),
    ];
    let environment = Environment::for_tests(&variables, Some("/home/me".into()), "osuser");
    let info = resolve_in("fallback_application_name=f", &environment).unwrap();
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("eu", "eu"));
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), ("eh", 9));
    assert_eq!(passwords(&info), [Some("epw")]);
    assert_eq!((info.ssl.mode, info.ssl.mode_given), (SslMode::Disable, false));
    assert_eq!(info.application_name.as_deref(), Some("app"));
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(5)));
    assert_eq!(info.ssl.default_cert_dir.as_deref(), Some(Path::new("/home/me/.postgresql")));
    assert_eq!(info.ssl.root_cert, RootCert::DefaultFile(Some("/home/me/.postgresql/root.crt".into())));

    let info = resolve_in("user=u host=h port=1 password=pw sslmode=require", &environment).unwrap();
    assert_eq!(info.user, "u");
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), ("h", 1));
    assert_eq!(passwords(&info), [Some("pw")]);
    assert_eq!((info.ssl.mode, info.ssl.mode_given), (SslMode::Require, true));

    let environment = Environment::for_tests(&[("PGREQUIRESSL", "1")], None, "osuser");
    assert_eq!(resolve_in("", &environment).unwrap().ssl.mode, SslMode::Require);

    let nobody = Environment::for_tests(&[], None, "");
    assert!(matches!(resolve_in("host=h", &nobody), Err(ConnInfoError::NoUser)));
    assert_eq!(resolve_in("user=u", &nobody).unwrap().user, "u");
}

#[test]
fn host_lists() {
    let ip = |text: &str| HostAddress::Ip(text.parse().unwrap());
    let name = |text: &str| HostAddress::Name(text.into());
    let unix = |text: &str| HostAddress::Unix(text.into());
    for (conninfo, expected) in [
        ("host=a", vec![("a", name("a"), 5432)]),
        ("host=10.0.0.1", vec![("10.0.0.1", name("10.0.0.1"), 5432)]),
        ("host=a,b port=1", vec![("a", name("a"), 1), ("b", name("b"), 1)]),
        ("host=a,b port=1,2", vec![("a", name("a"), 1), ("b", name("b"), 2)]),
        ("host=a,b port=,2", vec![("a", name("a"), 5432), ("b", name("b"), 2)]),
        ("hostaddr=::1,10.0.0.1", vec![("::1", ip("::1"), 5432), ("10.0.0.1", ip("10.0.0.1"), 5432)]),
        ("host=a,b hostaddr=10.0.0.1,", vec![("a", ip("10.0.0.1"), 5432), ("b", name("b"), 5432)]),
        ("host=/tmp/x port=1", vec![("/tmp/x", unix("/tmp/x/.s.PGSQL.1"), 1)]),
        ("host=@abs", vec![("@abs", unix("\0abs/.s.PGSQL.5432"), 5432)]),
        (
            "host=a,/d,@x",
            vec![
                ("a", name("a"), 5432),
                ("/d", unix("/d/.s.PGSQL.5432"), 5432),
                ("@x", unix("\0x/.s.PGSQL.5432"), 5432),
            ],
        ),
        ("postgres://[::1]:3,b/d", vec![("::1", name("::1"), 3), ("b", name("b"), 5432)]),
        ("postgres://%2Fd:2/d", vec![("/d", unix("/d/.s.PGSQL.2"), 2)]),
    ] {
        let info = resolve(conninfo);
        let found: Vec<_> = info.hosts.iter().map(|h| (h.name.as_str(), h.address.clone(), h.port)).collect();
        assert_eq!(found, expected, "{conninfo}");
    }

    let info = resolve("host=,b,");
    let names: Vec<_> = info.hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, [default_host(), "b", default_host()]);
}

#[test]
fn numbers_and_their_limits() {
    let timeout = |text: &str| resolve(&format!("connect_timeout={text}")).connect_timeout;
    for (text, seconds) in [("0", None), ("-5", None), ("1", Some(2)), ("2", Some(2)), ("' 3 '", Some(3))] {
        assert_eq!(timeout(text), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(resolve("keepalives_idle=0 keepalives_count=-1").keepalives.count, None);
    assert!(resolve("keepalives=2").keepalives.enabled);
    assert_eq!(resolve("tcp_user_timeout=0").tcp_user_timeout, None);
    assert_eq!(resolve("port=' +65535 '").hosts[0].port, 65535);
}

#[test]
fn tls_options() {
    let ssl = |conninfo: &str| resolve(conninfo).ssl;
    let system = ssl("host=h sslrootcert=system");
    assert_eq!((system.mode, system.mode_given), (SslMode::VerifyFull, false));
    assert_eq!(system.root_cert, RootCert::System);
    assert!(!ssl("sslsni=''").sni);
    assert!(ssl("sslsni=1").sni);
    for (range, expected) in [
        ("ssl_min_protocol_version=''", (None, None)),
        ("ssl_min_protocol_version=TLSv1", (Some(TlsVersion::Tls10), None)),
        (
            "ssl_min_protocol_version=TLSv1.1 ssl_max_protocol_version=tlsV1.2",
            (Some(TlsVersion::Tls11), Some(TlsVersion::Tls12)),
        ),
    ] {
        let ssl = ssl(range);
        assert_eq!((ssl.min_protocol, ssl.max_protocol), expected, "{range}");
    }
    assert!(!ssl("requiressl=1 sslrootcert=/x").negotiation_direct);
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        assert_eq!(ssl(&format!("host=h sslmode={mode}")).mode.name(), mode);
    }
}

#[test]
fn values_that_make_no_sense() {
    let many_hosts = format!("host={}", "a,".repeat(300));
    let long_socket = format!("host=/{}", "d".repeat(120));
    let long_host = format!("host={}", "h".repeat(10_000));
    for (conninfo, message) in [
        ("port=70000", "invalid port number: \"70000\""),
        ("port=0", "invalid port number: \"0\""),
        ("port=-1", "invalid port number: \"-1\""),
        ("port=x", "invalid integer value \"x\" for connection option \"port\""),
        ("port=1,x host=a,b", "invalid integer value \"x\" for connection option \"port\""),
        ("connect_timeout=''", "invalid integer value \"\" for connection option \"connect_timeout\""),
        ("connect_timeout=5s", "invalid integer value \"5s\" for connection option \"connect_timeout\""),
        ("keepalives=on", "invalid integer value \"on\" for connection option \"keepalives\""),
        ("keepalives_count=x", "invalid integer value \"x\" for connection option \"keepalives_count\""),
        ("host=a,b,c port=1,2", "could not match 2 port numbers to 3 hosts"),
        ("host=a,b hostaddr=10.0.0.1", "could not match 2 host names to 1 hostaddr values"),
        ("hostaddr=localhost", "could not parse network address \"localhost\""),
        ("hostaddr=1.2.3", "could not parse network address \"1.2.3\""),
        ("host='my host'", "host name number 1 contains a space"),
        ("host=a,b=c", "host name number 2 contains a character that no host name has"),
        (&long_host, "host name number 1 is too long (maximum 255 bytes)"),
        (&long_socket, "Unix-domain socket path is too long (maximum 107 bytes)"),
        (&many_hosts, "too many hosts in connection info string (maximum 256)"),
        ("sslmode=on", "invalid sslmode value: \"on\""),
        ("sslmode=", "invalid sslmode value: \"\""),
        ("sslmode='require x=y'", "invalid sslmode value"),
        ("sslcertmode=x", "invalid sslcertmode value: \"x\""),
        ("sslnegotiation=x", "invalid sslnegotiation value: \"x\""),
        ("channel_binding=x", "invalid channel_binding value: \"x\""),
        ("target_session_attrs=x", "invalid target_session_attrs value: \"x\""),
        ("load_balance_hosts=x", "invalid load_balance_hosts value: \"x\""),
        ("gssencmode=x", "invalid gssencmode value: \"x\""),
        ("require_auth=x", "invalid require_auth value: \"x\""),
        ("min_protocol_version=2", "invalid min_protocol_version value: \"2\""),
        ("ssl_min_protocol_version=SSLv3", "invalid ssl_min_protocol_version value: \"SSLv3\""),
        ("ssl_max_protocol_version=TLSv1.1", "invalid SSL protocol version range"),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "invalid SSL protocol version range",
        ),
        ("min_protocol_version=3.2 max_protocol_version=3.0", "invalid protocol version range"),
        (
            "sslmode=require sslrootcert=system",
            "weak sslmode \"require\" may not be used with sslrootcert=system (use \"verify-full\")",
        ),
        (
            "sslnegotiation=direct",
            "weak sslmode \"prefer\" may not be used with sslnegotiation=direct \
             (use \"require\", \"verify-ca\", or \"verify-full\")",
        ),
        (
            "hostaddr=10.0.0.1 sslmode=verify-full",
            "host name must be specified for a verified SSL connection",
        ),
        ("service=nowhere", "definition of service \"nowhere\" not found"),
        (
            "dbname='host=h password=x'",
            "value of connection option \"dbname\" contains a connection string with a password",
        ),
    ] {
        let error = error(conninfo);
        assert_eq!(error.to_string(), message, "{conninfo}");
        assert!(["22023", "54000"].contains(&error.sqlstate().as_str()), "{conninfo}");
    }
}

#[test]
fn demands_that_cannot_be_met() {
    for (conninfo, message) in [
        (
            "gssencmode=require",
            "connection option \"gssencmode\" is not supported with the value \"require\"",
        ),
        (
            "replication=database",
            "connection option \"replication\" is not supported with the value \"database\"",
        ),
        ("replication=on", "connection option \"replication\" is not supported with the value \"on\""),
        ("sslkeylogfile=/x", "connection option \"sslkeylogfile\" is not supported"),
        ("oauth_issuer=x", "connection option \"oauth_issuer\" is not supported"),
        ("oauth_client_secret=x", "connection option \"oauth_client_secret\" is not supported"),
        (
            "min_protocol_version=3.2",
            "connection option \"min_protocol_version\" is not supported with the value \"3.2\"",
        ),
    ] {
        let error = error(conninfo);
        assert_eq!(error.to_string(), message, "{conninfo}");
        assert_eq!(error.sqlstate().as_str(), "0A000", "{conninfo}");
    }
    for harmless in
        ["replication=off", "replication=''", "replication=0", "gssencmode=disable", "client_encoding=auto"]
    {
        resolve(harmless);
    }
}

#[test]
fn a_password_with_a_null_byte() {
    let mut options = Options::default();
    options.set_password(Secret::new(vec![b'a', 0]));
    assert!(matches!(options.resolve(&nothing()), Err(ConnInfoError::NullByte)));
}

#[test]
fn password_file() {
    let dir = TempDir::new();
    let content = b"# comment\n\
        one:5432:d:u:first\n\
        one:*:d:u:other port\r\n\
        *:*:d:w\\:eird:w\\:e\\\\ird:ignored\n\
        \\*:*:d:u:star\n\
        ::1:*:d:u:never\n\
        \\:\\:1:*:d:u:colons\n\
        localhost:*:d:u:local\n\
        /some/dir:*:d:u:dir\n\
        10.0.0.1:*:d:u:addr\n\
        broken\n\
        empty:*:*:*:\n\
        bytes:*:*:*:\xff\xfe\n\
        end:*:*:*:last\\";
    let path = dir.file(".pgpass", 0o600, content);
    let environment = Environment::for_tests(&[], Some(dir.0.clone()), "osuser");

    let first = |conninfo: &str| {
        let info = resolve_in(conninfo, &environment).unwrap();
        assert!(info.warnings.is_empty());
        info.hosts[0].password.as_ref().map(|p| p.expose().to_vec())
    };
    for (conninfo, expected) in [
        ("host=one dbname=d user=u", Some(&b"first"[..])),
        ("host=one port=1 dbname=d user=u", Some(b"other port")),
        ("host=one port=05432 dbname=d user=u", Some(b"other port")),
        ("host=any dbname=d user=w:eird", Some(b"w:e\\ird")),
        ("host=* dbname=d user=u", Some(b"star")),
        ("host=::1 dbname=d user=u", Some(b"colons")),
        ("dbname=d user=u", Some(b"local")),
        ("host=/some/dir dbname=d user=u", Some(b"dir")),
        ("hostaddr=10.0.0.1 dbname=d user=u", Some(b"addr")),
        ("host=localhost hostaddr=10.0.0.1 dbname=d user=u", Some(b"local")),
        ("host=empty", None),
        ("host=bytes", Some(b"\xff\xfe")),
        ("host=end", Some(b"last\\")),
        ("host=one dbname=x user=u", None),
        ("host=on dbname=d user=u", None),
        ("host=one1 dbname=d user=u", None),
        ("host=one dbname=d user=u password=''", Some(b"first")),
        ("host=one dbname=d user=u passfile=/nowhere", None),
    ] {
        assert_eq!(first(conninfo).as_deref(), expected, "{conninfo}");
    }

    let info = resolve_in("host=one,localhost,x dbname=d user=u", &environment).unwrap();
    assert_eq!(passwords(&info), [Some("first"), Some("local"), None]);
    let info = resolve_in("host=one dbname=d user=u password=given", &environment).unwrap();
    assert_eq!(passwords(&info), [Some("given")]);

    let conninfo = format!("host=one dbname=d user=u passfile={}", path.display());
    assert_eq!(passwords(&resolve(&conninfo)), [Some("first")]);

    dir.file(".pgpass", 0o640, "*:*:*:*:open");
    let info = resolve_in("host=one", &environment).unwrap();
    assert_eq!(passwords(&info), [None]);
    assert!(info.warnings[0].contains("has group or world access"), "{:?}", info.warnings);
    let info = resolve_in("host=one passfile=/dev", &environment).unwrap();
    assert!(info.warnings[0].contains("is not a plain file"), "{:?}", info.warnings);
    let zeros = dir.file("zeros", 0o600, vec![0; (4 << 20) + 1]);
    let info = resolve_in(&format!("host=one passfile={}", zeros.display()), &environment).unwrap();
    assert!(info.warnings[0].contains("is too large"), "{:?}", info.warnings);
    let info = resolve_in("host=one password=x", &environment).unwrap();
    assert!(info.warnings.is_empty(), "a file that is not needed is not looked at");
}

#[test]
fn service_file() {
    let dir = TempDir::new();
    let content = b"# comment \xff\n\
        [other]\nhost=wrong\n\n\
        [mine]\n  host=h  \nport=1\nport=2\npassword=pw=\\ x\nsslmode=disable\n\n[mine]\ndbname=never\n\
        [syntax]\nnonsense\n[unknown]\nfoo=bar\n[nested]\nservice=mine\n[ldap]\nldap://x\n\
        [utf8]\nuser=\xff\n[keys]\nscram_client_key=x\n";
    let path = dir.file(".pg_service.conf", 0o644, content);
    let home = Environment::for_tests(&[], Some(dir.0.clone()), "osuser");
    let info = resolve_in("service=mine", &home).unwrap();
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), ("h", 1));
    assert_eq!(info.dbname, "osuser");
    assert_eq!(passwords(&info), [Some("pw=\\ x")]);
    assert!(!info.ssl.mode_given);
    assert_eq!(info.ssl.mode, SslMode::Disable);

    let info = resolve_in("service=mine host=given password=x", &home).unwrap();
    assert_eq!((info.hosts[0].name.as_str(), info.hosts[0].port), ("given", 1));
    assert_eq!(passwords(&info), [Some("x")]);

    // A service comes before the environment, and all ways to name the file lead to it.
    let named = path.display().to_string();
    let by_variable = Environment::for_tests(
        &[("PGSERVICE", "mine"), ("PGSERVICEFILE", &named), ("PGPORT", "9")],
        None,
        "o",
    );
    assert_eq!(resolve_in("", &by_variable).unwrap().hosts[0].port, 1);
    assert_eq!(resolve(&format!("service=mine servicefile={named}")).hosts[0].port, 1);
    dir.file("pg_service.conf", 0o644, "[system]\nport=3\n");
    let system = dir.0.display().to_string();
    let environment = Environment::for_tests(&[("PGSYSCONFDIR", &system)], Some(dir.0.clone()), "o");
    assert_eq!(resolve_in("service=system", &environment).unwrap().hosts[0].port, 3);

    for (conninfo, message) in [
        ("service=syntax", format!("syntax error in service file \"{named}\", line 15")),
        ("service=unknown", format!("syntax error in service file \"{named}\", line 17")),
        (
            "service=nested",
            format!("unsupported nested service specification in service file \"{named}\", line 19"),
        ),
        ("service=ldap", format!("unsupported LDAP lookup in service file \"{named}\", line 21")),
        ("service=utf8", format!("invalid value in service file \"{named}\", line 23")),
        // They would pass for those of the role that connects.
        ("service=keys", "connection option \"scram_client_key\" is not supported".to_owned()),
        ("service=none", "definition of service \"none\" not found".to_owned()),
        ("service=mine servicefile=/no/where", "service file \"/no/where\" not found".to_owned()),
    ] {
        assert_eq!(resolve_in(conninfo, &home).unwrap_err().to_string(), message, "{conninfo}");
    }
    let error = resolve_in("service=mine servicefile=/", &home).unwrap_err();
    assert_eq!(error.sqlstate().as_str(), "58030");
}

/// All that a user could come to see.
fn visible(error: &ConnInfoError) -> String {
    format!("{error} {error:?} {:?} {:?}", error.detail(), error.hint())
}

/// Strings in which "hunTer2" is the password or a piece of it, written in every wrong way.
const NASTY: &[&str] = &[
    "hunTer2",
    "host=h password=my hunTer2",
    "host=h password=my hunTer2 user=u",
    "host=h password=my hunTer2=x user=u",
    "host=h password=my=hunTer2 hunTer2",
    "host=h password='hunTer2",
    "host=h password='hunTer2\\'",
    "host=h password=hunTer2' user='u",
    "host=h password='it's hunTer2' user=u",
    "host=h password=\"my hunTer2\"",
    "host=h password hunTer2",
    "host=h password:hunTer2",
    "host=h password==hunTer2 x",
    "host=h Password=hunTer2",
    "host=h PASSWORD=hunTer2",
    "host=h passwort=hunTer2",
    "host=h pw=hunTer2",
    "host=h; password=hunTer2",
    "host=h, password=hunTer2",
    "host=h,password=hunTer2",
    "host='h password=hunTer2",
    "host='h password=hunTer2'",
    "host='h' port='1 password=hunTer2'",
    "port=5432,password=hunTer2",
    "port='5432 password = hunTer2'",
    "hostaddr='1.2.3.4 password=hunTer2'",
    "hostaddr=1.2.3.4,password=hunTer2",
    "user='u password=hunTer2'",
    "sslmode='require password=hunTer2'",
    "sslmode='require' password=hunTer2 x",
    "sslmode=require;password=hunTer2",
    "connect_timeout='3 password=hunTer2'",
    "keepalives=1;password=hunTer2",
    "require_auth='md5 password=hunTer2'",
    "replication='on password=hunTer2'",
    "service='x password=hunTer2'",
    "servicefile='/x password=hunTer2' service=y",
    "application_name='x password=hunTer2'",
    "dbname='postgres://u:hunTer2@h/d'",
    "dbname=postgresql://u:hunTer2@h/d",
    "password=hunTer2 sslmode=x",
    "password=hunTer2 port=x",
    "password=hunTer2 foo=x",
    "sslpassword=hunTer2 foo=x",
    "scram_client_key=hunTer2",
    "oauth_client_secret=hunTer2",
    "u:hunTer2@h",
    "u:hunTer2@h/d?x=y",
    "jdbc:postgresql://u:hunTer2@h/d?sslmode=x",
    "postgresql:/u:hunTer2@h/d?sslmode=x",
    "POSTGRES://u:hunTer2@h/d?sslmode=x",
    " postgres://u:hunTer2@h/d",
    "postgres://u:hunTer2",
    "postgres://u:hunTer2/d",
    "postgres://u:hunTer2?sslmode=require",
    "postgres://u:hunTer2/x@h/d",
    "postgres://u:x/hunTer2@h/d",
    "postgres://u:1/hunTer2@h/d",
    "postgres://u:x@hunTer2@h/d",
    "postgres://u:hunTer2@x@h/d",
    "postgres://u:x@y/hunTer2@h/d",
    "postgres://u:hunTer2%@h/d",
    "postgres://u:%zzhunTer2@h/d",
    "postgres://u:%00hunTer2@h/d",
    "postgres://u:hunTer2@[::1/d",
    "postgres://u:hunTer2@[]/d",
    "postgres://u:hunTer2@[::1]x/d",
    "postgres://u:hunTer2@h:x/d",
    "postgres://u:hunTer2@h:70000/d",
    "postgres://u:hunTer2@h,g:1,2/d",
    "postgres://u:hunTer2@h/d?x",
    "postgres://u:hunTer2@h/d?x=y",
    "postgres://u:hunTer2@h/d?sslmode=x",
    "postgres://u:hunTer2@h/d?sslmode=a=b",
    "postgres://u:[hunTer2@h/d",
    "postgres://u:p[hunTer2/d",
    "postgres://h/d?password=hunTer2=x",
    "postgres://h/d?password=x&hunTer2",
    "postgres://h/d?password=x&hunTer2=y",
    "postgres://h/d?password=%hunTer2",
    "postgres://h/d?password=hunTer2&foo=x",
    "postgres://h/d?passwd=hunTer2",
    "postgres://h/d?password:hunTer2",
    "postgres://h?password=x@hunTer2",
];

#[test]
fn no_error_shows_a_password() {
    let mut refused = 0;
    for conninfo in NASTY {
        match Options::parse(conninfo) {
            Err(error) => {
                refused += 1;
                assert!(!visible(&error).contains("hunTer2"), "{conninfo}: {}", visible(&error));
            }
            Ok(options) => {
                assert!(!format!("{options:?}").contains("hunTer2"), "{conninfo}: {options:?}");
                match options.resolve(&nothing()) {
                    Err(error) => {
                        refused += 1;
                        assert!(!visible(&error).contains("hunTer2"), "{conninfo}: {}", visible(&error));
                    }
                    Ok(info) => assert!(!format!("{info:?}").contains("hunTer2"), "{conninfo}: {info:?}"),
                }
            }
        }
    }
    assert!(refused > NASTY.len() * 8 / 10, "only {refused} of {} are errors", NASTY.len());
}

#[test]
fn nothing_shows_a_valid_password() {
    for conninfo in [
        "host=h user=u password=hunTer2 sslpassword=hunTer2",
        "postgres://u:hunTer2@h/d?sslpassword=hunTer2",
        "postgres://u@h/d?password=hunTer2",
        "host=h password='hunTer2'",
    ] {
        let options = Options::parse(conninfo).unwrap();
        assert!(!format!("{options:?}").contains("hunTer2"));
        assert!(options.keywords().all(|k| options.get(k).is_none_or(|v| !v.contains("hunTer2"))));
        assert!(!format!("{:?}", options.resolve(&nothing()).unwrap()).contains("hunTer2"));
    }
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

#[test]
fn random_strings_do_no_harm() {
    const PIECES: &[&str] = &[
        "=",
        "'",
        "\\",
        " ",
        "\n",
        "%",
        "%00",
        "%2",
        "@",
        ":",
        "/",
        "?",
        "&",
        ",",
        "[",
        "]",
        "é",
        "\u{1F511}",
        "\0",
        "password=",
        "postgres://",
        "host=",
        "hostaddr=",
        "port=",
        "sslmode=",
        "-1",
        "99999999999",
        "!",
        "+",
        "=''",
    ];
    const SEEDS: &[&str] = &[
        "host=a,b port=1,2 user='u v' password='it\\'s' dbname=d",
        "postgresql://u:p%40w@h1:1,[::1]:2,/d?sslmode=require&connect_timeout=3",
        "hostaddr=10.0.0.1 require_auth=!none,!md5 keepalives_idle=3 ssl_min_protocol_version=TLSv1.2",
        "",
    ];
    let environment = nothing();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut bad) = (0, 0);
    for round in 0..20_000 {
        let seeds = [SEEDS, NASTY].concat();
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() + 1);
            let to = (at + random.below(8)).min(bytes.len());
            match random.below(4) {
                0 => drop(bytes.splice(at..to, PIECES[random.below(PIECES.len())].bytes())),
                1 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
                2 => drop(bytes.drain(at..to)),
                _ => bytes.insert(at, random.below(256) as u8),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match resolve_in(&text, &environment) {
            Ok(info) => {
                good += 1;
                assert!(!info.hosts.is_empty() && info.hosts.iter().all(|h| h.port > 0), "{text:?}");
                assert!(!format!("{info:?}").is_empty());
            }
            Err(error) => {
                bad += 1;
                assert!(!visible(&error).is_empty());
            }
        }
        let _ = Options::default().set(&text, &text);
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
}
