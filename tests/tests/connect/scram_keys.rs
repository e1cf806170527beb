//! The keys that SCRAM makes of a password, in place of it: libpq 18's `scram_client_key` and
//! `scram_server_key`, by which PostgreSQL 18 passes a client's login on.

use crate::lab::{Lab, Login, Refusal, attempt, detail};
use crate::servers::{generate, tcp, with_every_method};
use secretlink_e2e::{Cluster, TempDir};

/// ClientKey and ServerKey in base64, made of the password by what is stored of it: salt and rounds.
fn keys(server: &Cluster, user: &str, password: &str) -> (String, String) {
    // RFC 5802, section 3, in SQL: nothing of this is our own code.
    let sql = format!(
        "CREATE EXTENSION IF NOT EXISTS pgcrypto;
         CREATE OR REPLACE FUNCTION hi(password bytea, salt bytea, rounds int) RETURNS bytea LANGUAGE plpgsql AS $$
         DECLARE
             last bytea := hmac(salt || '\\x00000001', password, 'sha256');
             sum bit(256) := ('x' || encode(last, 'hex'))::bit(256);
         BEGIN
             FOR i IN 2..rounds LOOP
                 last := hmac(last, password, 'sha256');
                 sum := sum # ('x' || encode(last, 'hex'))::bit(256);
             END LOOP;
             RETURN (SELECT string_agg(set_byte('\\x00', 0, substring(sum FROM n * 8 + 1 FOR 8)::bit(8)::int), '' ORDER BY n)
                     FROM generate_series(0, 31) AS n);
         END $$;
         SELECT encode(hmac('Client Key', salted, 'sha256'), 'base64') || ' ' || encode(hmac('Server Key', salted, 'sha256'), 'base64')
         FROM (SELECT hi('{password}', decode(part[3], 'base64'), part[2]::int) AS salted
               FROM (SELECT regexp_match(rolpassword, '^(SCRAM-SHA-256)\\$(\\d+):(.*)\\$') AS part
                     FROM pg_authid WHERE rolname = '{user}') AS stored) AS derived"
    );
    let psql = server.psql(&sql);
    assert!(psql.success, "{}", psql.stderr);
    let (client, server) = psql.stdout.lines().last().unwrap().split_once(' ').unwrap();
    (client.to_owned(), server.to_owned())
}

#[test]
fn keys_stand_in_for_a_password() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let (client_key, server_key) = keys(&server, "scram", "pass");
    let (_, other_key) = keys(&server, "scram", "other");
    let mut lab = Lab::with(|local| local.env("PGPASSWORD", "wrong"));
    let with = |client: &str, server_key: &str, more: &str| {
        format!("{} user=scram scram_client_key={client} scram_server_key={server_key} {more}", tcp(&server))
    };
    for mode in ["disable", "require"] {
        for binding in ["disable", "prefer"] {
            let more = format!("sslmode={mode} channel_binding={binding}");
            let (who, encrypted) = lab.ours(&with(&client_key, &server_key, &more)).unwrap();
            assert_eq!((who.as_str(), encrypted), ("scram", mode == "require"));
        }
    }
    lab.ours(&with(&client_key, &server_key, "sslmode=require channel_binding=require")).unwrap();
    // Keys come before a password.
    lab.ours(&with(&client_key, &server_key, "password=wrong")).unwrap();

    // Each side finds out the other.
    let refused = detail(lab.ours(&with(&other_key, &server_key, "sslmode=require")));
    assert!(refused.ends_with("FATAL:  password authentication failed for user \"scram\""), "{refused}");
    let refused = detail(lab.ours(&with(&client_key, &other_key, "sslmode=require")));
    assert!(refused.ends_with("SCRAM authentication failed: SCRAM verification error"), "{refused}");
    // They are of no use for anything else.
    let refused = detail(
        lab.ours(&with(&client_key, &server_key, "sslmode=require").replace("user=scram", "user=md5")),
    );
    assert!(refused.ends_with("password authentication failed for user \"md5\""), "{refused}");
    for wrong in ["x", "''", &client_key[4..]] {
        let refused = detail(lab.ours(&with(wrong, &server_key, "")));
        assert_eq!(
            refused,
            "value of connection option \"scram_client_key\" is not a key of 32 bytes in base64"
        );
    }
}

/// PostgreSQL 18 counts the keys as given if nothing but SCRAM will do, and then nothing but they can
/// have been used.
#[test]
fn who_gives_keys_and_insists_on_them_has_given_a_password() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let (client_key, server_key) = keys(&server, "scram", "pass");
    let mut lab = Lab::new();
    let mut plain = lab.login("ordinary");
    let mut ask = |user: &str, more: &str| -> Result<Login, Refusal> {
        let conninfo = format!(
            "{} user={user} scram_client_key={client_key} scram_server_key={server_key} {more}",
            tcp(&server)
        );
        attempt(&mut plain, "secretlink", &conninfo)
    };
    assert_eq!(ask("scram", "require_auth=scram-sha-256").unwrap().0, "scram");
    for more in ["", "require_auth=''", "require_auth=scram-sha-256,none", "require_auth=!none"] {
        let refused = ask("scram", more).unwrap_err();
        assert_eq!(
            (refused.code().code(), refused.detail()),
            ("2F003", Some("Non-superusers must provide a password in the connection string.")),
            "{more}"
        );
    }
    let refused = detail(ask("trusted", "require_auth=scram-sha-256"));
    assert!(refused.contains("server did not complete authentication"), "{refused}");
}
