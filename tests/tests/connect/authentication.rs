//! The ways to log in.

use crate::lab::{Lab, detail};
use crate::relay::Relay;
use crate::servers::{generate, tcp, with_every_method};
use secretlink_e2e::{TempDir, eventually};
use std::fs;
use std::time::Duration;

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
