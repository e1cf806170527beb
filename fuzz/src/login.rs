//! What a server says until a session takes queries: the login ends, and no server gets a password
//! out of a client that must not send it.

use secretlink_remote::connection::Connection;
use secretlink_remote::conninfo::{ConnInfo, Environment, Options, SslMode};
use secretlink_remote::error::AttemptError;
use secretlink_remote::policy::{PasswordFrom, Policy};

use super::answer::{CHUNKS, ask};
use super::server;
use super::wire::{PASSWORD, Wire, server_final, server_first};

/// Bits of the first byte besides those of [`CHUNKS`].
const ENCRYPTED: u8 = 0x08;
const CERTIFICATE: u8 = 0x10;
const FROM_SECRET: u8 = 0x20;
const NO_PASSWORD: u8 = 0x40;

/// What else the user asks for, by the second byte.
const ASKED: [&str; 8] = [
    "",
    "channel_binding=require",
    "channel_binding=disable",
    "require_auth=scram-sha-256",
    "require_auth=none",
    "require_auth=!password,!md5",
    "target_session_attrs=read-write",
    "target_session_attrs=standby",
];

/// The first two bytes say what is asked for, the rest is what the server says: the login, and the
/// answer to a query after it.
pub fn run(data: &[u8]) {
    logs_in(data);
}

/// Plays what [`run`] plays; true if it came to a session.
pub fn logs_in(data: &[u8]) -> bool {
    let [how, asked, script @ ..] = data else { return false };
    let asked = ASKED[usize::from(asked & 7)];
    let encrypted = how & ENCRYPTED != 0;
    let certificate = (encrypted && how & CERTIFICATE != 0).then(|| vec![7; 32]);
    let policy = Policy {
        client_encoding: "UTF8".into(),
        password_from: if how & FROM_SECRET != 0 { PasswordFrom::Secret } else { PasswordFrom::Given },
        min_sslmode: SslMode::Disable,
        min_scram_iterations: 1,
    };
    let info = info(asked, how & NO_PASSWORD == 0);

    let wire = Wire::new(script, CHUNKS[usize::from(how & 7)]);
    let written = wire.written();
    let bound = certificate.is_some();
    let outcome = super::block_on(async {
        let mut connection =
            Connection::log_in_over(Box::new(wire), encrypted, certificate, &info, &policy).await?;
        let said = written.bytes();
        ask(&mut connection, 0, script.len()).await;
        let facts = connection.facts().clone();
        connection.close().await;
        Ok((said, facts))
    });

    let said = match &outcome {
        Ok((said, _)) => said.clone(),
        Err(_) => written.bytes(),
    };
    // The startup message carries its length in place of a tag; every later one of a login is an
    // answer to a request for a password, or a query for target_session_attrs.
    let startup = said.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let answered = said.get(startup) == Some(&b'p');
    assert!(!contains(&said[..startup], PASSWORD.as_bytes()), "a password in the startup message");
    if !encrypted {
        assert!(!contains(&said, PASSWORD.as_bytes()), "the password in the clear");
        assert!(
            !answered || policy.password_from == PasswordFrom::Given,
            "a secret's password used without TLS"
        );
    }
    if asked == "channel_binding=require" && !bound {
        assert!(!answered && outcome.is_err(), "no channel binding");
    }
    if asked == "require_auth=none" || how & NO_PASSWORD != 0 {
        assert!(!answered, "a password nobody gave or wanted to send");
    }
    let logged_in = outcome.is_ok();
    match outcome {
        Ok((_, facts)) => assert_eq!(facts.password_used, answered),
        Err(error) => {
            let error: AttemptError = error;
            let shown = format!("{error}\n{error:?}");
            // Unless the server knew it and put it there.
            assert!(contains(script, PASSWORD.as_bytes()) || !shown.contains(PASSWORD), "{shown}");
        }
    }
    logged_in
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn info(asked: &str, password: bool) -> ConnInfo {
    let password = if password { format!("password='{PASSWORD}'") } else { String::new() };
    Options::parse(&format!("host=db.example.com user=app {asked} {password}"))
        .and_then(|options| options.resolve(&Environment::for_tests(&[], None, "osuser")))
        .expect("a connection string of ours")
}

/// The server's side of SCRAM-SHA-256 and all that follows.
pub fn scram(mechanisms: &[&str]) -> Vec<u8> {
    [
        server::sasl(mechanisms),
        server::authentication(11, &server_first()),
        server::authentication(12, &server_final()),
        server::authentication(0, b""),
        server::session(),
    ]
    .concat()
}

/// Logins of every kind, each followed by the answer to a query.
pub fn seeds() -> Vec<Vec<u8>> {
    let ok = || [server::authentication(0, b""), server::session(), server::result()].concat();
    let rejected = || server::error("FATAL", "28P01", "password authentication failed");
    // A server older than 14 reports less, and is asked instead.
    let old_session = [server::authentication(0, b""), server::key(), server::ready()].concat();
    let off = [
        server::columns(&["setting"]),
        server::row(&[Some(b"off")]),
        server::complete("SHOW"),
        server::ready(),
    ]
    .concat();
    let logins: [(u8, Vec<u8>); 12] = [
        (0, ok()),
        (0, [server::authentication(5, b"salt"), ok()].concat()),
        (ENCRYPTED, [server::authentication(3, b""), ok()].concat()),
        (FROM_SECRET, [server::authentication(3, b""), ok()].concat()),
        (0, [scram(&["SCRAM-SHA-256"]), server::result()].concat()),
        (
            ENCRYPTED | CERTIFICATE | FROM_SECRET,
            [scram(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]), server::result()].concat(),
        ),
        (NO_PASSWORD, [scram(&["SCRAM-SHA-256"]), server::result()].concat()),
        (ENCRYPTED, [server::authentication(3, b""), rejected()].concat()),
        (0, [server::sasl(&["SCRAM-SHA-256"]), rejected()].concat()),
        (0, server::error("FATAL", "57P03", "the database system is starting up")),
        (0, [server::authentication(7, b""), ok()].concat()),
        (0, [old_session, off, server::result()].concat()),
    ];
    let mut seeds = Vec::new();
    for (how, login) in &logins {
        for asked in 0..ASKED.len() as u8 {
            seeds.push([&[*how, asked], &login[..]].concat());
            seeds.push([&[how | 1, asked], &login[..]].concat());
        }
    }
    seeds
}
