//! What a connection string says.

use crate::lab::{Lab, detail};
use crate::servers::{roles, tcp};
use secretlink_e2e::Cluster;

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
fn settings_in_the_servers_environment_are_those_of_the_session() {
    let remote = Cluster::plain().tcp().start();
    let conninfo = format!("{} user=postgres", tcp(&remote));
    let settings = ["datestyle", "timezone", "geqo"];
    let shown =
        |lab: &mut Lab, conninfo: &str| settings.map(|setting| lab.ask(conninfo, &format!("SHOW {setting}")));
    let mut plain = Lab::new();
    let default = shown(&mut plain, &conninfo);
    let environment = |values: [&str; 3]| {
        Lab::with(|local| local.env("PGDATESTYLE", values[0]).env("PGTZ", values[1]).env("PGGEQO", values[2]))
    };
    let mut lab = environment(["German, DMY", "America/Lima", "off"]);
    assert_eq!(shown(&mut lab, &conninfo), ["German, DMY", "America/Lima", "off"]);
    assert_eq!(lab.ask(&format!("{conninfo} options='-c geqo=on'"), "SHOW geqo"), "off", "as with libpq");
    let mut lab = environment(["default", "Default", "DEFAULT"]);
    assert_eq!(shown(&mut lab, &conninfo), default);
    // What the server cannot understand is an error, with either extension.
    let mut lab = environment(["default", "nonsense", "default"]);
    lab.both(&conninfo).unwrap_err();
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
