//! The settings, and who may change them.

use crate::session::{api, plain_role, refused, session, text};
use postgres::NoTls;
use secretlink_e2e::{
    Cluster, Moto, PostgresBin, ScriptedEndpoint, Stage, StopMode, db_error, eventually, unique,
};
use serde_json::json;
use std::time::Duration;

#[test]
fn who_may_decide_where_requests_go_is_a_superuser() {
    let mut client = Stage::shared().local.connect(&plain_role(), "postgres");
    client.batch_execute("LOAD 'secretlink'").unwrap_err(); // Not theirs to load,
    let _ = client.simple_query("SELECT dblink_get_connections()").unwrap(); // but loaded at first use.
    for setting in [
        "region",
        "endpoint_url",
        "profile",
        "role_arn",
        "external_id",
        "role_session_name",
        "ca_bundle",
        "use_fips_endpoint",
        "use_dualstack_endpoint",
    ] {
        let message = format!("permission denied to set parameter \"secretlink.{setting}\"");
        refused(&mut client, &format!("SET secretlink.{setting} = 'on'"), "42501", &message, "");
        refused(
            &mut client,
            &format!("SELECT set_config('secretlink.{setting}', 'on', false)"),
            "42501",
            &message,
            "",
        );
    }
    for (setting, too_low, too_high) in
        [("request_timeout", "0", "2h"), ("connect_timeout", "0", "2h"), ("max_attempts", "0", "11")]
    {
        client.batch_execute(&format!("SET secretlink.{setting} = 2")).unwrap();
        for value in [too_low, too_high] {
            let error = db_error(client.simple_query(&format!("SET secretlink.{setting} = '{value}'")));
            assert_eq!(error.code().code(), "22023", "{setting} = {value}: {error:?}");
        }
    }
}

#[test]
fn a_setting_made_before_the_library_is_loaded_is_nobodys_way_around() {
    let role = plain_role();
    let name = unique("around");
    api().create_secret(&name, "1");
    session().batch_execute(&format!("GRANT EXECUTE ON FUNCTION get_secret_string TO {role}")).unwrap();
    let evil = ScriptedEndpoint::start();
    let answer = json!({ "ARN": "arn:x", "Name": name, "VersionId": "v", "SecretString": "false" });
    evil.answer(200, &answer.to_string());

    let mut client = Stage::shared().local.connect(&role, "postgres");
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", evil.url())).unwrap();
    assert_eq!(
        text(&mut client, "SELECT get_secret_string($1)", &[&name]),
        "1",
        "the server's value is back"
    );

    // Given at the start of the session, it takes the place of the server's value for good: asking
    // the public endpoint, or as another identity, is not what the server's owner has said.
    for (setting, value) in [
        ("endpoint_url", evil.url()),
        ("region", "eu-west-1".into()),
        ("endpoint_url", "".into()),
        ("role_arn", "arn:aws:iam::123456789012:role/evil".into()),
        ("external_id", "evil".into()),
        ("role_session_name", "evil".into()),
        ("ca_bundle", "/tmp/evil.pem".into()),
        ("use_fips_endpoint", "on".into()),
        ("use_fips_endpoint", "off".into()),
        ("use_dualstack_endpoint", "off".into()),
    ] {
        let conninfo = Stage::shared().local.conninfo(&role, "postgres");
        let conninfo = format!("{conninfo} options='-c secretlink.{setting}={value}'");
        let mut client = conninfo.parse::<postgres::Config>().unwrap().connect(NoTls).unwrap();
        let message = format!("permission denied to set parameter \"secretlink.{setting}\"");
        let sql = format!("SELECT get_secret_string('{name}')");
        refused(&mut client, &sql, "42501", &message, "Start a session");
    }
    assert!(evil.requests().is_empty());

    // A superuser may.
    let mut client = session();
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", evil.url())).unwrap();
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), "false");
}

#[test]
fn with_the_library_preloaded_such_a_session_does_not_even_start() {
    let local = Cluster::local(&Stage::shared().moto).preload(true).start();
    local.connect("postgres", "postgres").batch_execute("CREATE ROLE plain LOGIN").unwrap();
    let mut client = local.connect("plain", "postgres");
    let message = "permission denied to set parameter \"secretlink.region\"";
    refused(&mut client, "SET secretlink.region = 'x'", "42501", message, "");
    let conninfo = format!("{} options='-c secretlink.region=x'", local.conninfo("plain", "postgres"));
    let error = db_error(conninfo.parse::<postgres::Config>().unwrap().connect(NoTls).map(|_| ()));
    assert_eq!((error.code().code(), error.message()), ("42501", message), "{error:?}");
}

#[test]
fn an_unknown_setting_is_rejected() {
    let mut client = session();
    client.simple_query("SELECT dblink_get_connections()").unwrap();
    let outcome = client.simple_query("SET secretlink.no_such = 1");
    if PostgresBin::get().major() >= 15 {
        let error = db_error(outcome);
        assert_eq!(error.code().code(), "42602", "{error:?}");
        assert!(error.message().contains("secretlink.no_such"), "{error:?}");
    } else {
        outcome.unwrap();
    }
}

#[test]
fn a_changed_setting_counts_in_the_same_session() {
    let name = unique("changed");
    api().create_secret(&name, "american");
    api().in_region("eu-west-1").create_secret(&name, "irish");
    let other = Moto::start();
    other.secrets().create_secret(&name, "of the other endpoint");
    let mut client = session();
    let mut read = |set: &str| {
        client.batch_execute(set).unwrap();
        text(&mut client, "SELECT get_secret_string($1)", &[&name])
    };
    assert_eq!(read(""), "american");
    assert_eq!(read("SET secretlink.region = 'eu-west-1'"), "irish");
    assert_eq!(read("RESET secretlink.region"), "american");
    let set = format!("BEGIN; SET LOCAL secretlink.endpoint_url = '{}'", other.endpoint());
    assert_eq!(read(&set), "of the other endpoint");
    assert_eq!(read("ROLLBACK"), "american");
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let mut client = session();
    client.batch_execute("LOAD 'secretlink'").unwrap();
    for (setting, value) in [
        ("region", "nonsense"),
        ("region", "us-east"),
        ("region", "us east 1"),
        ("region", "x.evil.example/#"),
        ("endpoint_url", "localhost:5000"),
        ("endpoint_url", "ftp://x"),
        ("role_arn", "arn:aws:iam::123456789012:user/x"),
        ("external_id", "a b"),
        ("role_session_name", "a/b"),
    ] {
        let message = format!("invalid value for parameter \"secretlink.{setting}\": \"{value}\"");
        for sql in
            ["SET", "SET LOCAL", "ALTER SYSTEM SET", "ALTER ROLE postgres SET", "ALTER DATABASE postgres SET"]
        {
            let sql = format!("{sql} secretlink.{setting} = '{value}'");
            refused(&mut client, &sql, "22023", &message, "");
            let error = db_error(client.simple_query(&sql));
            assert!(error.detail().unwrap_or_default().starts_with("It must "), "{error:?}");
        }
        // Empty means unset.
        client.batch_execute(&format!("SET secretlink.{setting} = ''; RESET secretlink.{setting}")).unwrap();
    }
}

/// A server starts in spite of it, and asks nobody in the place of whom it should ask.
#[test]
fn a_wrong_setting_in_the_file_is_told_and_can_be_corrected() {
    let moto = &Stage::shared().moto;
    let name = unique("wrong");
    api().create_secret(&name, "right");
    let read = format!("SELECT get_secret_string('{name}')");
    for preload in [true, false] {
        let mut local = Cluster::local(moto).preload(preload).start();
        local.append_conf(&["secretlink.region = 'nonsense'".into(), "secretlink.role_arn = 'me'".into()]);
        // A running server keeps what it has.
        if preload {
            local.connect("postgres", "postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
            eventually("the error is logged", Duration::from_secs(30), || {
                match local.log().contains("invalid value for parameter \"secretlink.region\": \"nonsense\"")
                {
                    true => Ok(()),
                    false => Err(local.log()),
                }
            });
            assert_eq!(text(&mut local.connect("postgres", "postgres"), &read, &[]), "right");
        }
        local.restart(StopMode::Fast);
        let mut client = local.connect("postgres", "postgres");
        for (setting, right) in [("region", "us-east-1"), ("role_arn", "")] {
            let message = format!("invalid value for setting \"secretlink.{setting}\"");
            refused(&mut client, &read, "22023", &message, "pg_reload_conf");
            let checked = "SELECT detail FROM secretlink_check() WHERE item = 'settings'";
            assert!(text(&mut client, checked, &[]).contains(&message));
            local.append_conf(&[format!("secretlink.{setting} = '{right}'")]);
            client.batch_execute("SELECT pg_reload_conf()").unwrap();
            eventually("the setting is seen", Duration::from_secs(30), || match client.simple_query(&read) {
                Err(error) if error.as_db_error().is_some_and(|e| e.message() == message) => {
                    Err("not yet".to_owned())
                }
                _ => Ok(()),
            });
        }
        assert_eq!(text(&mut client, &read, &[]), "right");
        assert_eq!(text(&mut local.connect("postgres", "postgres"), &read, &[]), "right");
    }
}

/// A word that is none is no matter of permission.
#[test]
fn a_wrong_word_in_the_file_is_told_and_the_server_starts() {
    let moto = &Stage::shared().moto;
    let name = unique("word");
    api().create_secret(&name, "right");
    let read = format!("SELECT get_secret_string('{name}')");
    let connect = "SELECT dblink_connect('x', 'host=127.0.0.1 port=9')".to_owned();
    for preload in [true, false] {
        for (setting, value, sql, detail) in [
            ("min_sslmode", "required", &connect, "It must be one of disable, allow, prefer"),
            ("min_sslmode", "", &connect, "It must be one of "),
            ("use_fips_endpoint", "yess", &read, "It must be on or off."),
            ("use_dualstack_endpoint", "2", &read, "It must be on or off."),
        ] {
            let mut local = Cluster::local(moto).preload(preload).start();
            // What an earlier release had, and this one does not know: the default counts.
            local.append_conf(&["secretlink.hashed_password = reject".into()]);
            local.append_conf(&[format!("secretlink.{setting} = '{value}'")]);
            local.restart(StopMode::Fast);
            let mut client = local.connect("postgres", "postgres");
            let message = format!("invalid value for setting \"secretlink.{setting}\"");
            refused(&mut client, sql, "22023", &message, "pg_reload_conf");
            let error = db_error(client.simple_query(sql));
            assert!(error.detail().unwrap_or_default().starts_with(detail), "{error:?}");
            assert_eq!(text(&mut client, "SHOW secretlink.hashed_password", &[]), "verify");
            if preload {
                let log = local.log();
                for name in [setting, "hashed_password"] {
                    let told = |line: &str| {
                        line.contains("WARNING:  ") && line.contains(&format!("\"secretlink.{name}\""))
                    };
                    assert!(log.lines().any(told), "{log}");
                }
            }
        }
    }
}
