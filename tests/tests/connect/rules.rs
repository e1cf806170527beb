//! What the rules for ordinary users forbid.

use crate::lab::{Lab, Login, Refusal, attempt};
use crate::servers::{generate, tcp, with_every_method};
use secretlink_e2e::{PostgresBin, TempDir, db_error, eventually, private_file};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn without_superuser_rights_a_password_must_be_given_and_be_used() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::with(|local| local.env("PGPASSWORD", "pass"));
    let mut plain = lab.login("ordinary");
    // What contrib says to the same, in every field.
    let mut same = |conninfo: &str| {
        let told = |outcome: Result<Login, Refusal>| {
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
        let contribs = told(attempt(&mut plain, "contrib", conninfo));
        // From 16 on contrib's words also allow for delegated GSSAPI credentials, which we have none of.
        match (&ours, &contribs, PostgresBin::get().major()) {
            (Err((ours, ..)), Err((contribs, ..)), 16..) => assert_eq!(ours, contribs, "{conninfo}"),
            _ => assert_eq!(ours, contribs, "{conninfo}"),
        }
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
    let file = private_file(directory.path().join("pgpass"), &line);
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
fn dblink_connect_u_lifts_the_rule_for_those_it_is_granted_to() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    let mut plain = lab.login("ordinary");
    let trusted = format!("{} user=trusted", tcp(&server));
    for schema in ["secretlink", "contrib"] {
        let connect = format!("SELECT {schema}.dblink_connect_u('u', $1)");
        let refused = db_error(plain.query_one(&connect, &[&trusted]));
        assert_eq!(refused.code().code(), "42501", "{schema}");
        lab.client
            .batch_execute(&format!(
                "GRANT EXECUTE ON FUNCTION {schema}.dblink_connect_u(text, text) TO ordinary"
            ))
            .unwrap();
        let ok: String = plain.query_one(&connect, &[&trusted]).unwrap().get(0);
        assert_eq!(ok, "OK", "{schema}");
        // The right ends with the function: the connection is the ordinary user's like any other.
        let ask = format!("SELECT * FROM {schema}.dblink('u', 'SELECT current_user::text') AS t(who text)");
        let who: String = plain.query_one(&ask, &[]).unwrap().get(0);
        assert_eq!(who, "trusted", "{schema}");
        let rule =
            db_error(plain.query_one(&format!("SELECT {schema}.dblink_connect('v', $1)"), &[&trusted]));
        assert_eq!(rule.code().code(), "2F003", "{schema}");
    }
}
