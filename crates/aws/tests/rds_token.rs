//! Tokens, beside those of AWS's own SDKs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use secretlink_aws::{
    TokenAction, TokenError, TokenSubject, dsql_cluster_host, is_aws_database_host, region_of_host,
};

/// 2024-08-26 22:00:00.
const AUGUST: u64 = 1_724_709_600;

/// 2024-11-07 17:39:33.
const NOVEMBER: u64 = 1_731_001_173;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn token(
    (host, port, user): (&str, u16, &str),
    region: &str,
    (key, secret, session): (&str, &str, Option<&str>),
    seconds: u64,
) -> String {
    let credentials = Credentials::new(key, secret, session.map(str::to_owned), None, "test");
    let subject = TokenSubject::new(host, port, user).unwrap();
    let token = subject.sign(region, &credentials, at(seconds)).unwrap();
    token.expose_str().unwrap().to_owned()
}

/// From the tests of aws-sdk-rds, aws-sdk-dsql and botocore.
#[test]
fn those_of_the_sdks() {
    let host = "prod-instance.us-east-1.rds.amazonaws.com";
    let akid = ("akid", "secret", None);
    for (port, user, encoded, signature) in [
        (3306, "peccy", "peccy", "dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"),
        (5432, "peccy", "peccy", "dc7de6e5814cb2ff0266bab598537cc731af493196e19acab412781b68143f7b"),
        (5432, "u&x", "u%26x", "7dda3cb6460a12ca02498d174eee7512b20f22c61607b03d8802474cd16cd798"),
    ] {
        assert_eq!(
            token((host, port, user), "us-east-1", akid, AUGUST),
            format!(
                "{host}:{port}/?Action=connect&DBUser={encoded}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
                 &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
                 &X-Amz-Signature={signature}"
            )
        );
    }

    let session = ("ACCESS_KEY", "SECRET_KEY", Some("SESSION_TOKEN"));
    for (user, action, signature) in [
        ("app", "DbConnect", "57fe03e060348aaa21405c239bf02572bbc911076e94dcd65c12ae569dd8fcf4"),
        ("admin", "DbConnectAdmin", "5ac084bc7cabccc19a52a5d1b5c24b50d3ce143f43b659bd484c91aaf555e190"),
    ] {
        assert_eq!(
            token(("test.dsql.us-east-1.on.aws", 5432, user), "us-east-1", session, NOVEMBER),
            format!(
                "test.dsql.us-east-1.on.aws/?Action={action}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=ACCESS_KEY%2F20241107%2Fus-east-1%2Fdsql%2Faws4_request\
                 &X-Amz-Date=20241107T173933Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
                 &X-Amz-Security-Token=SESSION_TOKEN&X-Amz-Signature={signature}"
            )
        );
    }
}

/// What botocore makes of the same, for each line of what it is given.
const BOTOCORE: &str = r#"
import datetime, json, sys
import botocore.auth, botocore.session
# The pinned version asks this for the time.
assert hasattr(botocore.auth, "get_current_datetime")
now = None
botocore.auth.get_current_datetime = lambda: now
session = botocore.session.get_session()
for line in sys.stdin:
    case = json.loads(line)
    now = datetime.datetime.fromtimestamp(case["time"], datetime.timezone.utc).replace(tzinfo=None)
    client = session.create_client(
        "dsql" if case["dsql"] else "rds", region_name=case["region"], aws_access_key_id=case["key"],
        aws_secret_access_key=case["secret"], aws_session_token=case["session"])
    if not case["dsql"]:
        token = client.generate_db_auth_token(case["host"], case["port"], case["user"], case["region"])
    elif case["user"] == "admin":
        token = client.generate_db_connect_admin_auth_token(case["host"], case["region"])
    else:
        token = client.generate_db_connect_auth_token(case["host"], case["region"])
    print(json.dumps(token))
"#;

/// The Python that has botocore, as the end-to-end tests find it.
fn python() -> PathBuf {
    std::env::var_os("MOTO_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/moto-venv/bin/python3"),
        PathBuf::from,
    )
}

/// Asks botocore for the tokens of many cases.
fn botocore(cases: &[serde_json::Value]) -> Vec<String> {
    let mut process = Command::new(python())
        .args(["-c", BOTOCORE])
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make deps` installs botocore");
    let mut input = process.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn those_of_botocore_whatever_the_host_user_and_credentials() {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let pick = |random: &mut fastrand::Rng, from: &[&str]| from[random.usize(..from.len())].to_owned();
    let text = |random: &mut fastrand::Rng, alphabet: &str, length: std::ops::RangeInclusive<usize>| {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..random.usize(length)).map(|_| alphabet[random.usize(..alphabet.len())]).collect::<String>()
    };
    const HOST: &str = "abcdefghijklmnopqrstuvwxyz0123456789-";
    const USER: &str = "abcXYZ019_-.~ !\"#$%&'()*+,/:;<=>?@[\\]^`{|}\u{e9}\u{df}\u{4e2d}\u{1f600}\t\n\u{1}";
    const KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..300 {
        let region =
            pick(&mut random, &["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "ap-southeast-4"]);
        let name = format!("x{}", text(&mut random, HOST, 0..=20));
        let dsql = random.u8(..4) == 0;
        let host = match (dsql, random.u8(..6)) {
            (true, _) => format!("{name}.dsql.{region}.on.aws"),
            (false, 0) => format!("{}.Example.COM", name.to_uppercase()),
            (false, 1) => "192.0.2.7".to_owned(),
            (false, 2) => "[2001:db8::7]".to_owned(),
            (false, 3) => format!("{name}.cluster-ro-abc.rds.{region}.amazonaws.com.cn"),
            _ => format!("{name}.abc.{region}.rds.amazonaws.com"),
        };
        let port = match random.u8(..5) {
            0 => 443,
            1 => 80,
            2 => 5432,
            _ => random.u16(1..),
        };
        let user = match random.u8(..6) {
            0 => "admin".to_owned(),
            _ => text(&mut random, USER, 1..=63),
        };
        let key = text(&mut random, KEY, 16..=32);
        let secret = text(&mut random, BASE64, 1..=60);
        let session = (random.bool()).then(|| text(&mut random, BASE64, 1..=2000));
        let time = random.u64(0..4_000_000_000);
        ours.push(token((&host, port, &user), &region, (&key, &secret, session.as_deref()), time));
        cases.push(serde_json::json!({
            "host": host, "port": port, "user": user, "region": region, "dsql": dsql,
            "key": key, "secret": secret, "session": session, "time": time,
        }));
    }
    let theirs = botocore(&cases);
    assert_eq!(theirs.len(), cases.len());
    for ((ours, theirs), case) in ours.iter().zip(theirs).zip(cases) {
        assert_eq!(*ours, theirs, "{case}");
    }
}

#[test]
fn the_region_is_in_the_names_that_aws_gives() {
    for (host, region) in [
        ("db.abc.us-east-1.rds.amazonaws.com", Some("us-east-1")),
        ("db.us-east-1.rds.amazonaws.com", Some("us-east-1")),
        ("DB.abc.EU-West-1.RDS.AmazonAWS.com", Some("eu-west-1")),
        ("db.cluster-abc.us-gov-west-1.rds.amazonaws.com", Some("us-gov-west-1")),
        ("db.cluster-ro-abc.eu-central-2.rds.amazonaws.com", Some("eu-central-2")),
        ("db.cluster-custom-abc.ap-south-1.rds.amazonaws.com", Some("ap-south-1")),
        ("db.proxy-abc.us-west-2.rds.amazonaws.com", Some("us-west-2")),
        ("db.endpoint.proxy-abc.us-west-2.rds.amazonaws.com", Some("us-west-2")),
        ("db.shardgrp-abc.us-west-2.rds.amazonaws.com", Some("us-west-2")),
        ("db.abc.cn-north-1.rds.amazonaws.com.cn", Some("cn-north-1")),
        ("db.abc.rds.cn-northwest-1.amazonaws.com.cn", Some("cn-northwest-1")),
        ("db.cluster-abc.rds.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("db.abc.us-iso-east-1.rds.c2s.ic.gov", Some("us-iso-east-1")),
        ("db.abc.rds.us-isob-east-1.sc2s.sgov.gov", Some("us-isob-east-1")),
        ("db.abc.eu-isoe-west-1.rds.cloud.adc-e.uk", Some("eu-isoe-west-1")),
        ("db.abc.us-isof-south-1.rds.csp.hci.ic.gov", Some("us-isof-south-1")),
        ("db.abc.eusc-de-east-1.rds.amazonaws.eu", Some("eusc-de-east-1")),
        ("abc.dsql.us-east-2.on.aws", Some("us-east-2")),
        ("abc.dsql-fnh4.us-east-1.on.aws", Some("us-east-1")),
        // These are AWS's, too, and have none.
        ("db.global-abc.global.rds.amazonaws.com", None),
    ] {
        assert!(is_aws_database_host(host), "{host}");
        assert_eq!(region_of_host(host).as_deref(), region, "{host}");
    }
    for host in [
        "",
        "localhost",
        "db.example.com",
        "192.0.2.1",
        "::1",
        "rds.amazonaws.com",
        "us-east-1.rds.amazonaws.com",
        "db.abc.us-east-1.rds.amazonaws.com.evil.example",
        "db.abc.us-east-1.rds.amazonaws.comx",
        "dbusxeast-1xrds.amazonaws.com",
        "db.us-east-1.elb.amazonaws.com",
        "db.us_east_1.rds.amazonaws.com",
        ".us-east-1.rds.amazonaws.com",
        "dsql.us-east-1.on.aws",
        ".dsql.us-east-1.on.aws",
        "abc.dsql.us-east-1.on.aws.example.com",
        "abc.lambda-url.us-east-1.on.aws",
    ] {
        assert!(!is_aws_database_host(host), "{host}");
        assert_eq!(region_of_host(host), None, "{host}");
    }
}

#[test]
fn a_bare_cluster_id_becomes_a_host() {
    let id = "kiabtryygvodbuwxtb7lljaxae";
    let host = dsql_cluster_host(id, "us-east-1");
    assert_eq!(host.as_deref(), Some("kiabtryygvodbuwxtb7lljaxae.dsql.us-east-1.on.aws"));
    for other in
        ["", "localhost", "Kiabtryygvodbuwxtb7lljaxae", "kiabtryygvodbuwxtb7lljaxa.", &"a".repeat(27)]
    {
        assert_eq!(dsql_cluster_host(other, "us-east-1"), None, "{other}");
    }
}

#[test]
fn who_may_do_what() {
    let action = |host, user| TokenSubject::new(host, 5432, user).unwrap().action();
    let dsql = "abc.dsql.us-east-1.on.aws";
    assert_eq!(action(dsql, "admin"), TokenAction::DbConnectAdmin);
    assert_eq!(action(dsql, "Admin"), TokenAction::DbConnect);
    assert_eq!(action("db.abc.us-east-1.rds.amazonaws.com", "admin"), TokenAction::Connect);
    assert_eq!(action("localhost", "admin"), TokenAction::Connect);
}

#[test]
fn a_host_is_nothing_that_could_end_a_url_early() {
    for host in [
        "",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a:1",
        "a,b",
        "a%41",
        "a\\b",
        "a\nb",
        "é.example",
        "[::1",
        "::1]",
        "[a]",
        "[::1]x",
        "-a",
        ".a",
        "a..b",
        "fe80::1%eth0",
        "a&b",
        &"a".repeat(254),
    ] {
        let error = TokenSubject::new(host, 5432, "u").unwrap_err();
        assert!(matches!(error, TokenError::InvalidHost { .. }), "{host}");
    }
    assert_eq!(TokenSubject::new("a", 5432, ""), Err(TokenError::NoUser));
}

#[test]
fn from_its_text_and_back() {
    for (host, user) in [("a.example", "u"), ("::1", "u@x:1"), ("[::1]", "\u{e9}@"), ("A_b.example", " ")] {
        let subject = TokenSubject::new(host, 6543, user).unwrap();
        assert_eq!(TokenSubject::parse(&subject.to_string()), Some(subject));
    }
    for text in ["", "u", "u@h", "u@h:x", "u@h:70000", "@h:1", "u@:1"] {
        assert_eq!(TokenSubject::parse(text), None, "{text}");
    }
}

/// A time that no date has, and a region that no scope has: the caller gets an error, never a panic.
#[test]
fn what_cannot_be_signed() {
    let subject = TokenSubject::new("a.example", 5432, "u").unwrap();
    let credentials = Credentials::new("k", "s", None, None, "test");
    for region in ["", "us-east-1", "\u{e9}/ &"] {
        let _ = subject.sign(region, &credentials, at(0));
    }
}
