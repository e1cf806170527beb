//! A server on a real socket that stops, lies about lengths, shuffles or garbles what it says, at
//! each place of a login and a query. Whatever it does, the client ends with an error in time and
//! does not use the connection again.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use secretlink_remote::connection::Connection;
use secretlink_remote::conninfo::{ConnInfo, Environment, Options, SslMode};
use secretlink_remote::policy::{PasswordFrom, Policy};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code)] // each test uses its part
mod targets;

use targets::wire::{PASSWORD, Scram};
use targets::{answer, login, server};

/// A client that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a server that has lied waits for a client that may be waiting for the rest of the lie.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a server says in answer to each message of the client.
type Script = Vec<Vec<u8>>;

/// A login and a query.
struct Conversation {
    name: &'static str,
    script: Script,
    /// How many answers belong to the login.
    login: usize,
    /// How [`answer::ask`] asks.
    how: u8,
}

impl Conversation {
    /// The number of bytes before the answer to the query.
    fn login_length(&self) -> usize {
        self.script[..self.login].iter().map(Vec::len).sum()
    }
}

fn conversations() -> [Conversation; 3] {
    let trust = [server::authentication(0, b""), server::session()].concat();
    let mut scram = server::split(&login::scram(&["SCRAM-SHA-256"]));
    let scram_end = scram.drain(2..).collect::<Vec<_>>().concat();
    scram.push(scram_end);
    scram.push(query());
    let binary = server::split(&server::binary_result());
    let (described, executed) = (binary[..3].concat(), binary[3..].concat());
    let silent = Vec::new;
    let binary = vec![
        trust.clone(),
        // Parse, Describe, Flush; Bind, Execute, Close, Sync.
        silent(),
        silent(),
        described,
        silent(),
        silent(),
        silent(),
        executed,
    ];
    [
        Conversation { name: "trust", script: vec![trust, query()], login: 1, how: 0 },
        Conversation { name: "scram", script: scram, login: 3, how: 0 },
        Conversation { name: "binary", script: binary, login: 1, how: answer::BINARY },
    ]
}

fn query() -> Vec<u8> {
    [server::notice("a notice"), server::result()].concat()
}

/// How it went.
#[derive(Debug, PartialEq)]
enum Outcome {
    NoSession,
    /// Whether the query had its result, and whether the connection is of use.
    Queried {
        answered: bool,
        usable: bool,
    },
}

const GOOD: Outcome = Outcome::Queried { answered: true, usable: true };
const BROKEN: Outcome = Outcome::Queried { answered: false, usable: false };

/// Logs in and queries, while a server says what `script` has for it and then closes.
async fn play(listener: &TcpListener, script: Script, how: u8, patience: Duration) -> Outcome {
    let info = info(listener.local_addr().unwrap());
    let policy = Policy {
        client_encoding: "UTF8".into(),
        password_from: PasswordFrom::Given,
        min_sslmode: SslMode::Disable,
        min_scram_iterations: 1,
    };
    let length = script.iter().map(Vec::len).sum();
    let client = async {
        let Ok(mut connection) = Connection::connect(&info, &policy).await else { return Outcome::NoSession };
        let answered = answer::ask(&mut connection, how, length).await;
        let usable = connection.broken().is_none();
        if !usable {
            assert!(!answer::ask(&mut connection, 0, length).await, "a broken connection gave an answer");
        }
        connection.close().await;
        Outcome::Queried { answered, usable }
    };
    let both = async { tokio::join!(client, serve(listener, script, patience)).0 };
    tokio::time::timeout(LIMIT, both).await.expect("the client hangs")
}

async fn serve(listener: &TcpListener, script: Script, patience: Duration) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut scram = Scram::default();
    let lengths: Vec<usize> = script.iter().map(Vec::len).collect();
    let mut all = script.concat();
    let mut said = 0;
    for (number, length) in lengths.into_iter().enumerate() {
        let heard = tokio::time::timeout(patience, hear(&mut stream, number == 0)).await;
        let Ok(Some(heard)) = heard else { return };
        scram.follow(&heard, &mut all);
        if stream.write_all(&all[said..said + length]).await.is_err() {
            return;
        }
        said += length;
    }
}

/// A whole message of the client.
async fn hear(stream: &mut TcpStream, startup: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if startup { 4 } else { 5 }];
    stream.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(*message.last_chunk::<4>()?) as usize - 4;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    message.extend(body);
    Some(message)
}

fn info(server: SocketAddr) -> ConnInfo {
    let (ip, port) = (server.ip(), server.port());
    Options::parse(&format!("host={ip} port={port} user=app password='{PASSWORD}' sslmode=disable"))
        .and_then(|options| options.resolve(&Environment::for_tests(&[], None, "osuser")))
        .unwrap()
}

/// Plays `faulty` versions of all conversations and gives every outcome to `judge`.
fn each(
    patience: Duration,
    faulty: impl Fn(&Script) -> Vec<(String, Script)>,
    judge: impl Fn(&str, &Conversation, Outcome),
) {
    targets::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for conversation in conversations() {
            let Conversation { name, ref script, how, .. } = conversation;
            assert_eq!(play(&listener, script.clone(), how, LIMIT).await, GOOD, "{name}");
            for (what, faulty) in faulty(script) {
                let outcome = play(&listener, faulty, how, patience).await;
                judge(&format!("{name}, {what}"), &conversation, outcome);
            }
        }
    });
}

/// `script` with other bytes, cut into the same answers as far as they reach.
fn with_bytes(script: &Script, bytes: &[u8]) -> Script {
    let mut rest = bytes;
    let mut answers = Script::new();
    for (number, answer) in script.iter().enumerate() {
        let last = number + 1 == script.len();
        let (now, later) = rest.split_at(if last { rest.len() } else { answer.len().min(rest.len()) });
        answers.push(now.to_vec());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    answers
}

#[test]
fn cut_at_each_byte() {
    each(
        LIMIT,
        |script| {
            let all = script.concat();
            (0..all.len()).map(|at| (format!("{at} bytes"), with_bytes(script, &all[..at]))).collect()
        },
        |what, conversation, outcome| {
            let at: usize = what.split(' ').nth(1).unwrap().parse().unwrap();
            let expected = if at < conversation.login_length() { Outcome::NoSession } else { BROKEN };
            assert_eq!(outcome, expected, "{what}");
        },
    );
}

/// The messages of a script, each with the number of the answer it is part of.
fn messages(script: &Script) -> Vec<(usize, Vec<u8>)> {
    let numbered = |(number, answer): (usize, &Vec<u8>)| {
        server::split(answer).into_iter().map(move |message| (number, message))
    };
    script.iter().enumerate().flat_map(numbered).collect()
}

fn assemble(messages: &[(usize, Vec<u8>)]) -> Script {
    let mut script = Script::new();
    for (number, message) in messages {
        script.resize((number + 1).max(script.len()), Vec::new());
        script[*number].extend(message);
    }
    script
}

#[test]
fn each_length_a_lie() {
    each(
        PATIENCE,
        |script| {
            let messages = messages(script);
            let mut scripts = Vec::new();
            for at in 0..messages.len() {
                let length = u32::from_be_bytes(*messages[at].1[1..].first_chunk().unwrap());
                let lies =
                    [0, 1, 3, length - 1, length + 1, length + 4, 29_999, 30_001, 0x3fff_ffff, u32::MAX];
                for lie in lies {
                    let mut messages = messages.clone();
                    messages[at].1[1..5].copy_from_slice(&lie.to_be_bytes());
                    let tag = char::from(messages[at].1[0]);
                    scripts.push((format!("message {at} ({tag}) of {lie} bytes"), assemble(&messages)));
                }
            }
            scripts
        },
        |what, _, outcome| assert!(matches!(outcome, Outcome::NoSession | BROKEN), "{what}: {outcome:?}"),
    );
}

/// What is out of order need not be wrong (two parameters), or not to be seen from here (two rows).
/// It has to end, that is all.
#[test]
fn neighbours_swapped_and_messages_missing_or_twice() {
    each(
        PATIENCE,
        |script| {
            let messages = messages(script);
            let mut scripts = Vec::new();
            for at in 0..messages.len() {
                if at + 1 < messages.len() {
                    let mut swapped = messages.clone();
                    let (a, b) = (swapped[at].1.clone(), swapped[at + 1].1.clone());
                    (swapped[at].1, swapped[at + 1].1) = (b, a);
                    scripts.push((format!("{at} and the next swapped"), assemble(&swapped)));
                }
                let mut missing = messages.clone();
                missing[at].1.clear();
                scripts.push((format!("{at} missing"), assemble(&missing)));
                let mut twice = messages.clone();
                twice[at].1 = [&messages[at].1[..]; 2].concat();
                scripts.push((format!("{at} twice"), assemble(&twice)));
            }
            scripts
        },
        |what, _, outcome| {
            // Without the last word, a query has no answer.
            if matches!(outcome, Outcome::Queried { answered: false, usable: true }) {
                panic!("{what}: {outcome:?}");
            }
        },
    );
}

#[test]
fn each_byte_garbled() {
    each(
        PATIENCE,
        |script| {
            let all = script.concat();
            let mut scripts = Vec::new();
            for at in 0..all.len() {
                for garble in [0x01, 0x80] {
                    let mut bytes = all.clone();
                    bytes[at] ^= garble;
                    scripts.push((format!("byte {at} ^ {garble:#x}"), with_bytes(script, &bytes)));
                }
            }
            scripts
        },
        // Most bytes are names and values, and any will do.
        |_, _, _| {},
    );
}
