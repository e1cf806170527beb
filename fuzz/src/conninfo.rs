//! Connection strings: no panic, no secret shown, and what is parsed means the same when written
//! anew.

use secretlink_core::{Report, Secret};
use secretlink_remote::conninfo::{ConnInfoError, Environment, Options};

/// A password that no keyword, host or other word looks like.
const PLANTED: &str = "Pl4nted+S3cret";

/// The first byte says how the rest becomes a connection string: as it is, or in two parts, cut
/// where the second byte says, around a password in one of the places where one can be.
pub fn run(data: &[u8]) {
    let [how, cut, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Who writes the password elsewhere too shows it himself.
    if text.contains(PLANTED) {
        return;
    }
    // Service and password files there can block.
    if text.contains("/proc") || text.contains("/dev") || text.contains("/sys") {
        return;
    }
    let (before, after) = text.split_at(text.floor_char_boundary(usize::from(*cut).min(text.len())));
    let planted = match how % 9 {
        1 => format!("{before} password={PLANTED} {after}"),
        2 => format!("{before} password='{PLANTED}' {after}"),
        3 => format!("{before} password = '{PLANTED}{after}"),
        4 => {
            // Behind a "?" that begins the parameters the password would not be one.
            if before.contains('?') && before.contains(['/', '@']) {
                return;
            }
            format!("postgres://{before}:{PLANTED}@{after}")
        }
        5 => format!("postgresql://{before}?password={PLANTED}&{after}"),
        6 => format!("{before} sslpassword='{PLANTED}' {after}"),
        // Quotes forgotten: a password of two words, and a value that runs on into whatever follows.
        7 => format!("{before} password=two {PLANTED}{after}"),
        8 => format!("{before} port='5432 {PLANTED}{after}"),
        _ => return check(text),
    };
    for shown in check_and_show(&planted) {
        assert!(!shown.contains(PLANTED), "shown: {shown:?}\nof: {planted:?}");
    }
}

fn check(text: &str) {
    check_and_show(text);
}

/// Everything of the outcome that can reach a person.
fn check_and_show(text: &str) -> Vec<String> {
    let options = match Options::parse(text) {
        Ok(options) => options,
        Err(error) => return show(&error),
    };
    let mut shown = vec![format!("{options:?}")];
    assert_same_when_rewritten(&options);

    let environment = Environment::for_tests(&[("PGAPPNAME", "fuzz")], None, "osuser");
    match options.resolve(&environment) {
        Err(error) => shown.extend(show(&error)),
        Ok(info) => {
            assert!((1..=256).contains(&info.hosts.len()));
            assert!(info.hosts.iter().all(|host| host.port > 0));
            assert!(!info.user.is_empty() && !info.dbname.is_empty());
            assert!(info.hosts.iter().all(|host| host.password.as_ref().is_none_or(|p| !p.is_empty())));
            shown.push(format!("{info:?}"));
        }
    }
    shown
}

fn show(error: &ConnInfoError) -> Vec<String> {
    assert_eq!(error.sqlstate().as_str().len(), 5);
    let texts = [Some(error.to_string()), Some(format!("{error:?}")), error.detail(), error.hint()];
    texts.into_iter().flatten().collect()
}

fn assert_same_when_rewritten(options: &Options) {
    let mut text = String::new();
    let mut set = Options::default();
    for keyword in options.keywords() {
        let value = match options.get(keyword) {
            Some(value) => value,
            // The other secrets are for nobody to read, and a password may be any bytes.
            None if keyword != "password" => return,
            None => match options.password().and_then(Secret::expose_str) {
                Some(password) => password,
                None => return,
            },
        };
        text.push_str(&format!("{keyword}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'")));
        set.set(keyword, value).expect("a value that was parsed can be set");
    }
    assert!(set == *options, "{options:?} set anew");
    // Longer than the original by its quotes, it may be too long.
    if text.len() <= 32 * 1024 {
        assert!(Options::parse(&text).expect("what was parsed parses") == *options, "{options:?} rewritten");
    }
}

/// Strings of both kinds, whole and around a planted password.
pub fn seeds() -> Vec<Vec<u8>> {
    let pairs = [
        "host=db.example.com port=5432 dbname=orders user=app",
        "host='a,b,c' port=1,2,3 target_session_attrs=read-write load_balance_hosts=random",
        r"user='o\'brien' application_name='it\\s' options='-c statement_timeout=5min'",
        "hostaddr=127.0.0.1,::1 sslmode=verify-full sslrootcert=system connect_timeout=10",
        "host=/var/run/postgresql sslmode = require channel_binding= require require_auth=!md5,!password",
        "keepalives=1 keepalives_idle=30 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=1000",
        "ssl_min_protocol_version=TLSv1.2 sslcertmode=allow sslsni=1 gssencmode=disable requiressl=1",
        "service=orders servicefile=/nonexistent/pg_service.conf passfile=/nonexistent/.pgpass",
        "min_protocol_version=3.0 max_protocol_version=latest sslnegotiation=direct replication=no",
        "dbname='postgres://u@h' client_encoding=UTF8 host=@abstract",
        "user=ü dbname=\u{1F511} port=' 5432 '",
        // Behind the password these are the end of a word, or of a quote.
        "host=h =x",
        "host=h '",
    ];
    let uris = [
        "postgresql://app@db.example.com:5432/orders?sslmode=verify-full",
        "postgres://a:1,b:2,[::1]:3/db?target_session_attrs=standby&connect_timeout=3",
        "postgres://%2Fvar%2Frun/db?user=u%40x&ssl=true",
        "postgresql://h/?host=/path&options=-c%20a%3Db",
        "postgresql:///db?hostaddr=63.1.2.4",
    ];
    // The second part of a URI with a password in it: from the host on, and from a parameter on.
    let ends = ["app\0db.example.com:5432/orders?sslmode=require", "app@h/db\0connect_timeout=3"];
    let mut seeds = Vec::new();
    for text in pairs {
        for how in [0, 1, 2, 3, 6, 7, 8] {
            seeds.push([&[how, text.find(' ').unwrap_or(0) as u8], text.as_bytes()].concat());
        }
    }
    for text in uris {
        seeds.push([&[0, 0], text.as_bytes()].concat());
    }
    for (how, text) in [4, 5].into_iter().zip(ends) {
        let (before, after) = text.split_once('\0').unwrap_or_default();
        seeds.push([&[how, before.len() as u8], before.as_bytes(), after.as_bytes()].concat());
    }
    seeds
}
