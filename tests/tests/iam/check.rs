//! `secretlink_check` of a login with an IAM token.

use crate::ground::{Ground, HOST, local, refusal, text};
use postgres::Client;
use secretlink_e2e::{Cluster, NeverAnswers, free_port};

type Row = (String, Option<bool>, String, Option<String>);

/// What `secretlink_check` says with these arguments, without what it says of every server.
#[track_caller]
fn check(client: &mut Client, arguments: &str) -> Vec<Row> {
    let sql = format!("SELECT * FROM secretlink_check({arguments})");
    let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows: Vec<Row> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert!(!format!("{rows:?}").contains("X-Amz-Signature"), "{rows:?}");
    assert_eq!(rows[0].0, "version");
    let begin = rows.iter().position(|(item, ..)| item == "region").unwrap();
    rows[begin..].to_vec()
}

/// The row of an item.
#[track_caller]
fn row<'a>(rows: &'a [Row], item: &str) -> &'a Row {
    rows.iter().find(|row| row.0 == item).unwrap_or_else(|| panic!("{item}: {rows:?}"))
}

fn arguments(ground: &Ground, user: &str, options: &str) -> String {
    format!(
        "host => '{HOST}', username => '{user}', port => {}, options => '{options}'",
        ground.remote.port()
    )
}

#[test]
fn all_is_well() {
    let ground = Ground::start();
    let mut client = ground.session();
    let rows = check(&mut client, &arguments(&ground, "app", &ground.options()));
    let items: Vec<_> = rows.iter().map(|(item, ok, ..)| (item.as_str(), *ok)).collect();
    assert_eq!(
        items,
        [
            ("region", Some(true)),
            ("credentials", Some(true)),
            ("identity", None),
            ("token", Some(true)),
            ("tls", Some(true)),
            ("authentication", Some(true)),
        ],
        "{rows:?}"
    );
    assert_eq!(row(&rows, "region").2, "us-east-1, from the host name");
    let place = format!("rds-db:connect as app@{HOST}:{}", ground.remote.port());
    assert!(row(&rows, "token").2.contains(&place), "{rows:?}");
    assert!(row(&rows, "tls").2.contains(&format!("proved to be {HOST}")), "{rows:?}");
    assert!(ground.verifier.verdicts().is_empty(), "no token has left");
    assert_eq!(text(&mut client, "SELECT count(*) FROM secret_cache"), "0");
    assert_eq!(text(&mut client, "SELECT iam_tokens_signed FROM secretlink_stats"), "0");
    // By position, too.
    let by_position = format!("'{HOST}', 'app', {}, NULL, '{}'", ground.remote.port(), ground.options());
    assert_eq!(check(&mut client, &by_position).len(), rows.len());
}

#[test]
fn where_the_region_is_from() {
    let local = local(|local| local.env("AWS_REGION", "eu-north-1"));
    let mut client = local.connect("postgres", "postgres");
    let options = format!("port => {}, options => 'hostaddr=127.0.0.1'", free_port());
    let mut region = |host: &str, more: &str| {
        let rows = check(&mut client, &format!("'{host}', 'u', {options}{more}"));
        row(&rows, "region").2.clone()
    };
    let own = "db.abc.eu-west-1.rds.amazonaws.com";
    assert_eq!(region(own, ""), "eu-west-1, from the host name");
    assert_eq!(region(own, ", region => 'eu-west-1'"), "eu-west-1, from the host name");
    assert_eq!(
        region(own, ", region => 'us-west-2'"),
        "eu-west-1, from the host name, and not us-west-2 as given"
    );
    assert_eq!(region("db.example", ", region => 'us-west-2'"), "us-west-2, from the argument region");
    assert_eq!(region("db.example", ""), "us-east-1, from secretlink.region");
    client.batch_execute("SET secretlink.region = ''").unwrap();
    let rows = check(&mut client, &format!("'db.example', 'u', {options}"));
    assert_eq!(row(&rows, "region").2, "eu-north-1, from AWS_REGION");
}

#[test]
fn what_is_missing_is_a_row() {
    let local = local(|local| local.conf("secretlink.region = ''").without_env("AWS_ACCESS_KEY_ID"));
    let mut client = local.connect("postgres", "postgres");
    let nobody = format!("port => {}, options => 'hostaddr=127.0.0.1'", free_port());
    let rows = check(&mut client, &format!("'db.example', 'u', {nobody}"));
    let (_, ok, detail, hint) = row(&rows, "region");
    assert_eq!(
        (*ok, detail.starts_with("AWS region of host \"db.example\" is not known")),
        (Some(false), true)
    );
    assert!(hint.as_deref().unwrap().starts_with("Pass region"), "{hint:?}");
    for item in ["credentials", "identity", "token", "authentication"] {
        assert_eq!(row(&rows, item).1, None, "{rows:?}");
    }
    let (_, ok, detail, hint) = row(&rows, "tls");
    assert_eq!((*ok, detail.contains("Connection refused")), (Some(false), true), "{rows:?}");
    assert!(hint.as_deref().unwrap().contains("security group"), "{hint:?}");

    let rows = check(&mut client, &format!("'{HOST}', 'u', {nobody}"));
    for item in ["credentials", "token"] {
        let (_, ok, detail, _) = row(&rows, item);
        assert_eq!((*ok, detail.starts_with("no AWS credentials found")), (Some(false), true), "{rows:?}");
    }
    let rows = check(&mut client, &format!("'h/x', 'u', {nobody}, region => 'us-east-1'"));
    assert_eq!(row(&rows, "token").1, Some(false), "{rows:?}");
    let rows = check(&mut client, &format!("'h', 'u', {nobody}, region => 'US EAST'"));
    assert!(row(&rows, "region").2.starts_with("AWS region is not valid"), "{rows:?}");
    let rows = check(&mut client, "'no-such-host.invalid', 'u', region => 'us-east-1'");
    assert!(row(&rows, "tls").2.contains("could not translate host name"), "{rows:?}");
}

#[test]
fn a_server_that_is_another_one() {
    let ground = Ground::with_other_logins();
    let mut client = ground.session();
    for (user, detail, hint) in [
        ("scrammer", "asked for a SCRAM password", "lacks rds_iam"),
        ("digester", "asked for an MD5 password", "lacks rds_iam"),
        ("trusted", "without asking for a password", "another server"),
        ("rejected", "pg_hba.conf rejects connection", ""),
    ] {
        let rows = check(&mut client, &arguments(&ground, user, &ground.options()));
        assert_eq!(row(&rows, "tls").1, Some(true), "{rows:?}");
        let (_, ok, found, help) = row(&rows, "authentication");
        assert_eq!((*ok, found.contains(detail)), (Some(false), true), "{rows:?}");
        assert!(help.as_deref().unwrap_or_default().contains(hint), "{rows:?}");
    }

    // The certificate of somebody else, or of an authority that is not known.
    for (host, options) in
        [(HOST, "hostaddr=127.0.0.1"), ("db.xyz.us-east-1.rds.amazonaws.com", &*ground.options())]
    {
        let port = ground.remote.port();
        let rows = check(&mut client, &format!("'{host}', 'app', {port}, options => '{options}'"));
        let (_, ok, _, hint) = row(&rows, "tls");
        assert_eq!(*ok, Some(false), "{rows:?}");
        assert!(hint.as_deref().unwrap().contains("truststore.pki.rds.amazonaws.com"), "{rows:?}");
        assert_eq!(row(&rows, "authentication").1, None, "{rows:?}");
    }
    // Asked for by name, less is looked at.
    let rows = check(&mut client, &arguments(&ground, "app", "hostaddr=127.0.0.1 sslmode=require"));
    let (_, ok, _, hint) = row(&rows, "tls");
    assert_eq!((*ok, hint.is_some()), (None, true), "{rows:?}");
    assert_eq!(row(&rows, "authentication").1, Some(true), "{rows:?}");
    assert!(ground.verifier.verdicts().is_empty(), "no token has left");
}

#[test]
fn a_server_without_tls_and_one_that_never_answers() {
    let local = local(|local| local);
    let plain = Cluster::plain().tcp().start();
    let mut client = local.connect("postgres", "postgres");
    let port = plain.port();
    let rows = check(&mut client, &format!("'{HOST}', 'u', {port}, options => 'hostaddr=127.0.0.1'"));
    let (_, ok, detail, hint) = row(&rows, "tls");
    assert_eq!((*ok, detail.contains("does not support SSL")), (Some(false), true), "{rows:?}");
    assert!(!hint.as_deref().unwrap().contains("sslmode=disable"), "{rows:?}");
    // A login says so, too.
    let connect =
        format!("SELECT connect_with_iam('{HOST}', 'd', 'u', {port}, options => 'hostaddr=127.0.0.1')");
    let hint = refusal(&mut client, &connect).hint().map(str::to_owned);
    assert_eq!(hint.as_deref(), Some("A token is sent inside TLS only. Turn on ssl at the server."));

    let silent = NeverAnswers::new();
    client.batch_execute("SET secretlink.request_timeout = 300").unwrap();
    let port = silent.port();
    let rows = check(&mut client, &format!("'{HOST}', 'u', {port}, options => 'hostaddr=127.0.0.1'"));
    assert!(row(&rows, "tls").2.ends_with("timeout expired"), "{rows:?}");
}

#[test]
fn what_cannot_be() {
    let local = local(|local| local);
    let mut client = local.connect("postgres", "postgres");
    for (arguments, code, message) in [
        ("NULL, 'u'", "22004", "argument \"host\" must not be null"),
        ("'', 'u'", "22023", "argument \"host\" must not be empty"),
        ("'h', NULL", "22004", "argument \"username\" must not be null"),
        ("'h', ''", "22023", "argument \"username\" must not be empty"),
        ("'h', 'u', NULL", "22004", "argument \"port\" must not be null"),
        ("'h', 'u', 65536", "22023", "port 65536 is out of range"),
        ("'h', 'u', options => 'password=x'", "22023", "option \"password\" is not allowed here"),
        ("'h', 'u', options => 'hots=x'", "22023", "invalid connection option \"hots\""),
        (
            "'h', 'u', options => 'sslmode=prefer'",
            "22023",
            "sslmode value \"prefer\" is too weak to send an IAM token",
        ),
    ] {
        let error = refusal(&mut client, &format!("SELECT secretlink_check({arguments})"));
        assert_eq!((error.code().code(), error.message()), (code, message), "{arguments}");
    }
    client.batch_execute("CREATE ROLE plain LOGIN").unwrap();
    let error = refusal(&mut local.connect("plain", "postgres"), "SELECT secretlink_check('h', 'u')");
    assert_eq!(
        (error.code().code(), error.message()),
        ("42501", "permission denied for function secretlink_check")
    );
}
