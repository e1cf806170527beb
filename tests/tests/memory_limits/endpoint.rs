//! What stands in AWS's place and answers without end.

use secretlink_e2e::{
    Cluster, ClusterBuilder, HostileServer, HostileSession, TempDir, Witness, backend_pid, db_error,
};
use std::io::Result;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\n";

/// How much a backend may grow by an answer, in bytes. Most of it is that of any first call.
const GROWTH: u64 = 64 << 20;

type Answer = fn(&mut HostileSession) -> Result<()>;

fn drip(session: &mut HostileSession, bytes: &[u8]) -> Result<()> {
    loop {
        session.say(bytes)?;
        sleep(Duration::from_millis(100));
    }
}

/// What is answered, and whether only time ends it.
const ANSWERS: [(&str, Answer, bool); 16] = [
    (
        "chunks",
        |s| {
            s.say(format!("{HEAD}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
            s.say_for_ever(&[b"1000\r\n", &[b' '; 4096][..], b"\r\n"].concat())
        },
        false,
    ),
    (
        "a body until the end",
        |s| {
            s.say(format!("{HEAD}\r\n{{\"Name\":\"").as_bytes())?;
            s.say_for_ever(b"xxxxxxxxxxxxxxxx")
        },
        false,
    ),
    (
        "a length of a terabyte",
        |s| {
            s.say(format!("{HEAD}content-length: 1099511627776\r\n\r\n").as_bytes())?;
            s.say_for_ever(b"                ")
        },
        false,
    ),
    (
        "compressed",
        |s| {
            s.say(format!("{HEAD}content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())?;
            s.say_for_ever(b"8\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\r\n")
        },
        false,
    ),
    (
        "an error without end",
        |s| {
            s.say(b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n")?;
            s.say_for_ever(b"4\r\nxxxx\r\n")
        },
        false,
    ),
    (
        "headers",
        |s| {
            s.say(HEAD.as_bytes())?;
            s.say_for_ever(b"x-more: of this\r\n")
        },
        false,
    ),
    (
        "a header",
        |s| {
            s.say(format!("{HEAD}x-long: ").as_bytes())?;
            s.say_for_ever(b"xxxxxxxxxxxxxxxx")
        },
        false,
    ),
    (
        "a chunk's extension",
        |s| {
            s.say(format!("{HEAD}transfer-encoding: chunked\r\n\r\n1;").as_bytes())?;
            s.say_for_ever(b"xxxxxxxxxxxxxxxx")
        },
        false,
    ),
    (
        "trailers",
        |s| {
            s.say(format!("{HEAD}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n").as_bytes())?;
            s.say_for_ever(b"x-more: of this\r\n")
        },
        false,
    ),
    (
        "answers before the answer",
        |s| s.say_for_ever(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        false,
    ),
    ("a first line", |s| s.say_for_ever(b"HTTP/1.1 200 OK "), false),
    (
        "another protocol",
        |s| {
            s.say(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")?;
            s.say_for_ever(b"xxxxxxxxxxxxxxxx")
        },
        false,
    ),
    ("nothing that is meant", |s| drip(s, b"HTTP/1.1 100 Continue\r\n\r\n"), true),
    ("silence", HostileSession::be_silent, true),
    (
        "headers in drips",
        |s| {
            s.say(HEAD.as_bytes())?;
            drip(s, b"x")
        },
        true,
    ),
    (
        "a body in drips",
        |s| {
            s.say(format!("{HEAD}\r\n").as_bytes())?;
            drip(s, b" ")
        },
        true,
    ),
];

#[test]
fn an_answer_without_end_is_an_error_in_time() {
    let limit = Duration::from_secs(2);
    for (what, answer, until_timeout) in ANSWERS {
        let server = HostileServer::start(move |session| {
            session.hear_some()?;
            answer(session)
        });
        let cluster = Cluster::local_with_endpoint(&format!("http://127.0.0.1:{}", server.port()))
            .conf("secretlink.request_timeout = '2s'")
            .conf("secretlink.max_attempts = 2")
            .start();
        let mut witness = Witness::of(&cluster);
        let mut client = cluster.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        for function in ["get_secret_value", "describe_secret"] {
            let began = Instant::now();
            let error = db_error(client.batch_execute(&format!("SELECT {function}('x')")));
            let took = began.elapsed();
            println!("{what}: {function} {took:?} {} {}", error.code().code(), error.message());
            assert!(["58000", "08001"].contains(&error.code().code()), "{what}: {error:?}");
            assert!(took < limit + Duration::from_secs(8), "{what}: took {took:?}");
            assert!(!until_timeout || took > limit / 2, "{what}: took {took:?}");
            client.batch_execute("SELECT 1").unwrap();
        }
        let peak = backend.peak_resident_bytes();
        assert!(peak < (40 << 20) + GROWTH, "{what}: {peak} bytes at most");
        witness.confirm(&cluster);
    }
}

/// An endpoint in front of the service that is asked for credentials.
#[test]
fn an_answer_without_end_to_who_asks_for_credentials_is_an_error_in_time() {
    type Ask = fn(ClusterBuilder, &str) -> ClusterBuilder;
    let sources: [(&str, Ask); 4] = [
        ("STS", |local, url| {
            local
                .env("AWS_ENDPOINT_URL_STS", url)
                .conf("secretlink.role_arn = 'arn:aws:iam::123456789012:role/r'")
        }),
        ("STS for a token", |local, url| {
            without_keys(local)
                .env("AWS_ENDPOINT_URL_STS", url)
                .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
                .env("AWS_WEB_IDENTITY_TOKEN_FILE", "/etc/hostname")
        }),
        ("instance metadata", |local, url| {
            without_keys(local)
                .env("AWS_EC2_METADATA_DISABLED", "false")
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        }),
        ("the container's credentials", |local, url| {
            without_keys(local).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/credentials"))
        }),
    ];
    let limit = Duration::from_secs(2);
    for (source, ask) in sources {
        let which = Arc::new(AtomicUsize::new(0));
        let server = HostileServer::start({
            let which = Arc::clone(&which);
            move |session| {
                session.hear_some()?;
                ANSWERS[which.load(Ordering::SeqCst)].1(session)
            }
        });
        let local = Cluster::local_with_endpoint("http://127.0.0.1:1")
            .conf("secretlink.request_timeout = '2s'")
            .conf("secretlink.max_attempts = 2");
        let cluster = ask(local, &format!("http://127.0.0.1:{}", server.port())).start();
        let mut witness = Witness::of(&cluster);
        for (number, (answer, ..)) in ANSWERS.iter().enumerate() {
            which.store(number, Ordering::SeqCst);
            let what = format!("{source}: {answer}");
            let mut client = cluster.connect("postgres", "postgres");
            let backend = backend_pid(&mut client);
            let began = Instant::now();
            let error = db_error(client.batch_execute("SELECT get_secret_value('x')"));
            let took = began.elapsed();
            println!("{what}: {took:?} {} {}", error.code().code(), error.message());
            assert!(["58000", "08001", "28000"].contains(&error.code().code()), "{what}: {error:?}");
            assert!(took < limit + Duration::from_secs(8), "{what}: took {took:?}");
            let peak = backend.peak_resident_bytes();
            assert!(peak < (40 << 20) + GROWTH, "{what}: {peak} bytes at most");
            client.batch_execute("SELECT 1").unwrap();
        }
        witness.confirm(&cluster);
    }
}

fn without_keys(local: ClusterBuilder) -> ClusterBuilder {
    local.without_env("AWS_ACCESS_KEY_ID").without_env("AWS_SECRET_ACCESS_KEY")
}

#[test]
fn files_without_end_are_errors() {
    for (variable, path) in [
        ("AWS_CA_BUNDLE", "/dev/zero"),
        ("SSL_CERT_FILE", "/dev/zero"),
        ("AWS_CONFIG_FILE", "/dev/zero"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/zero"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/dev/zero"),
    ] {
        let mut builder = Cluster::local_with_endpoint("https://127.0.0.1:1")
            .conf("secretlink.request_timeout = '3s'")
            .env(variable, path);
        if !["AWS_CA_BUNDLE", "SSL_CERT_FILE"].contains(&variable) {
            builder = builder.without_env("AWS_ACCESS_KEY_ID");
        }
        if variable == "AWS_WEB_IDENTITY_TOKEN_FILE" {
            builder = builder.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r");
        }
        let cluster = builder.start();
        let mut witness = Witness::of(&cluster);
        let mut client = cluster.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        let began = Instant::now();
        let error = db_error(client.batch_execute("SELECT get_secret_value('x')"));
        println!("{variable}: {:?} {error:?}", began.elapsed());
        assert!(["22023", "28000"].contains(&error.code().code()), "{variable}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{variable}");
        assert!(backend.peak_resident_bytes() < 128 << 20);
        witness.confirm(&cluster);
    }
}

/// The SDK reads this file whenever the credentials have to be new.
#[test]
fn a_token_file_of_a_profile_that_is_a_pipe_is_an_error() {
    let directory = TempDir::new();
    let (pipe, config) = (directory.path().join("pipe"), directory.path().join("config"));
    assert!(Command::new("mkfifo").arg("-m").arg("666").arg(&pipe).status().unwrap().success());
    for path in [pipe.display().to_string(), "/dev/zero".to_owned()] {
        let profile = format!(
            "[default]\nregion = eu-west-1\nrole_arn = arn:aws:iam::123456789012:role/r\nweb_identity_token_file = {path}\n"
        );
        std::fs::write(&config, profile).unwrap();
        let cluster = without_keys(Cluster::local_with_endpoint("http://127.0.0.1:1"))
            .conf("secretlink.request_timeout = '30s'")
            .env("AWS_CONFIG_FILE", &config.display().to_string())
            .start();
        let mut client = cluster.connect("postgres", "postgres");
        for _ in 0..2 {
            let began = Instant::now();
            let error = db_error(client.batch_execute("SELECT get_secret_value('x')"));
            assert_eq!(error.code().code(), "28000", "{path}: {error:?}");
            assert!(error.detail().unwrap_or_default().contains("is not a plain file"), "{path}: {error:?}");
            assert!(began.elapsed() < Duration::from_secs(20), "{path}: {:?}", began.elapsed());
        }
    }
}
