//! `iam_auth_token`, and what the cache shows of tokens.

use crate::ground::{local, text};
use secretlink_e2e::db_error;

#[test]
fn one_token_for_all_until_it_is_forgotten() {
    let local = local(|local| local);
    let mut client = local.connect("postgres", "postgres");
    let sql = "SELECT iam_auth_token('db.abc.eu-west-1.rds.amazonaws.com', 'a&b')";
    let token = text(&mut client, sql);
    let start = "db.abc.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=a%26b&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=test%2F";
    assert!(token.starts_with(start), "{token}");
    assert!(token.contains("%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date="), "{token}");
    let mut other = local.connect("postgres", "postgres");
    assert_eq!(text(&mut other, sql), token);
    assert_eq!(text(&mut other, "SELECT iam_tokens_signed FROM secretlink_stats"), "1");
    let seen = "SELECT concat_ws(' ', kind, secret_id, stage, version_id, state, region, expires - now() < '14 min', hits) FROM secret_cache";
    let date = token.split("X-Amz-Date=").nth(1).unwrap().split('&').next().unwrap();
    assert_eq!(
        text(&mut other, seen),
        format!("iam_token a&b@db.abc.eu-west-1.rds.amazonaws.com:5432 {date} fresh eu-west-1 t 1")
    );
    assert!(!text(&mut other, "SELECT json_agg(s) FROM secret_cache s").contains("X-Amz"));

    // Another identity, user, port or region has a token of its own.
    for (number, other_sql) in [
        "SELECT iam_auth_token('db.abc.eu-west-1.rds.amazonaws.com', 'a')",
        "SELECT iam_auth_token('db.abc.eu-west-1.rds.amazonaws.com', 'a&b', 5433)",
        "SELECT iam_auth_token('db.example', 'a&b', region => 'eu-west-1')",
        "SELECT iam_auth_token('db.example', 'a&b', region => 'eu-west-2')",
        "SET secretlink.role_session_name = 'x2'; SELECT iam_auth_token('db.abc.eu-west-1.rds.amazonaws.com', 'a&b')",
    ]
    .iter()
    .enumerate()
    {
        text(&mut other, other_sql);
        let signed = text(&mut client, "SELECT iam_tokens_signed FROM secretlink_stats");
        assert_eq!(signed, (number + 2).to_string(), "{other_sql}");
    }
    assert_eq!(text(&mut client, "SELECT forget_all_secrets()"), "6");
    text(&mut client, sql);
    assert_eq!(text(&mut client, "SELECT iam_tokens_signed FROM secretlink_stats"), "7");
    let forget = "SELECT forget_secret('a&b@db.abc.eu-west-1.rds.amazonaws.com:5432')";
    assert_eq!(text(&mut client, forget), "1");
}

#[test]
fn the_region_is_that_of_the_host_then_of_the_argument_then_of_the_settings() {
    let local = local(|local| local.env("AWS_REGION", "eu-north-1"));
    let mut client = local.connect("postgres", "postgres");
    let mut region = |call: &str| {
        let token = text(&mut client, &format!("SELECT iam_auth_token({call})"));
        let scope = token.split("X-Amz-Credential=").nth(1).unwrap();
        scope.split("%2F").nth(2).unwrap().to_owned()
    };
    assert_eq!(region("'db.abc.eu-west-1.rds.amazonaws.com', 'u', region => 'eu-west-2'"), "eu-west-1");
    assert_eq!(region("'db.cluster-abc.rds.cn-north-1.amazonaws.com.cn', 'u'"), "cn-north-1");
    assert_eq!(region("'db.global-abc.global.rds.amazonaws.com', 'u', region => 'eu-west-2'"), "eu-west-2");
    assert_eq!(region("'db.example', 'u', region => 'eu-west-2'"), "eu-west-2");
    assert_eq!(region("'db.example.', 'u'"), "us-east-1", "secretlink.region");
    assert_eq!(region("'abc.dsql-x1.us-west-2.on.aws', 'admin'"), "us-west-2");
    let id = "kiabtryygvodbuwxtb7lljaxae";
    client.batch_execute("SET secretlink.region = ''").unwrap();
    let token = text(&mut client, &format!("SELECT iam_auth_token('{id}', 'admin')"));
    assert!(token.starts_with(&format!("{id}.dsql.eu-north-1.on.aws/?Action=DbConnectAdmin&")), "{token}");
    let token = text(&mut client, &format!("SELECT iam_auth_token('{id}', 'u', 5432, 'us-east-2')"));
    assert!(token.starts_with(&format!("{id}.dsql.us-east-2.on.aws/?Action=DbConnect&")), "{token}");
}

/// Hosts and users as people write them: what is signed is the host as given, and for every user of RDS `connect`.
#[test]
fn odd_hosts_and_users() {
    let local = local(|local| local);
    let mut client = local.connect("postgres", "postgres");
    for (arguments, start) in [
        (
            "'DB.Abc.EU-West-1.RDS.AmazonAWS.com', 'u'",
            "DB.Abc.EU-West-1.RDS.AmazonAWS.com:5432/?Action=connect&DBUser=u&",
        ),
        ("'db.abc.eu-west-1.rds.amazonaws.com.', 'u'", "db.abc.eu-west-1.rds.amazonaws.com:5432/?"),
        (
            "'db.abc.eu-west-1.rds.amazonaws.com', 'admin', '6432'",
            "db.abc.eu-west-1.rds.amazonaws.com:6432/?Action=connect&DBUser=admin&",
        ),
        (
            "'p.proxy-abc.eu-west-1.rds.amazonaws.com', ' '",
            "p.proxy-abc.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=%20&",
        ),
        ("'::1', 'a=b'", "[::1]:5432/?Action=connect&DBUser=a%3Db&"),
        (
            "'[2001:DB8::7]', U&'\\00e9 \\4e2d'",
            "[2001:DB8::7]:5432/?Action=connect&DBUser=%C3%A9%20%E4%B8%AD&",
        ),
        ("'192.0.2.7', E'\\t+%'", "192.0.2.7:5432/?Action=connect&DBUser=%09%2B%25&"),
        ("'localhost', 'Admin'", "localhost:5432/?Action=connect&DBUser=Admin&"),
        ("'X.dsql.us-east-1.on.aws', 'admin', 1", "X.dsql.us-east-1.on.aws/?Action=DbConnectAdmin&X-Amz"),
        ("'x.dsql-fnh4.us-east-1.on.aws', 'Admin'", "x.dsql-fnh4.us-east-1.on.aws/?Action=DbConnect&X-Amz"),
        (
            "'kiabtryygvodbuwxtb7lljaxae', 'a&b'",
            "kiabtryygvodbuwxtb7lljaxae.dsql.us-east-1.on.aws/?Action=DbConnect&X-Amz",
        ),
        // Neither is one: a letter too few, and a domain of somebody else's.
        ("'kiabtryygvodbuwxtb7lljaxa', 'u'", "kiabtryygvodbuwxtb7lljaxa:5432/?Action=connect&"),
        (
            "'x.dsql.us-east-1.on.aws.evil.example', 'admin'",
            "x.dsql.us-east-1.on.aws.evil.example:5432/?Action=connect&",
        ),
    ] {
        let token = text(&mut client, &format!("SELECT iam_auth_token({arguments})"));
        assert!(token.starts_with(start), "{arguments}: {token}");
    }
}

#[test]
fn what_cannot_be() {
    let local = local(|local| local.conf("secretlink.region = ''"));
    let mut client = local.connect("postgres", "postgres");
    for (call, code, message) in [
        ("NULL, 'u'", "22004", "argument \"host\" must not be null"),
        ("'', 'u'", "22023", "argument \"host\" must not be empty"),
        ("'h', NULL", "22004", "argument \"username\" must not be null"),
        ("'h', ''", "22023", "argument \"username\" must not be empty"),
        ("'h', 'u', NULL", "22004", "argument \"port\" must not be null"),
        ("'h', 'u', 0", "22023", "port 0 is out of range"),
        ("'h', 'u', 65536", "22023", "port 65536 is out of range"),
        ("'h/x', 'u', region => 'us-east-1'", "22023", "host name of the database is not valid"),
        ("'h,i', 'u', region => 'us-east-1'", "22023", "host name of the database is not valid"),
        ("'h', 'u', region => 'US'", "22023", "AWS region is not valid"),
        ("'h', 'u', region => ''", "22023", "argument \"region\" must not be empty"),
        ("'h', 'u'", "22023", "AWS region of host \"h\" is not known"),
        (
            "'d.global-a.global.rds.amazonaws.com', 'u'",
            "22023",
            "AWS region of host \"d.global-a.global.rds.amazonaws.com\" is not known",
        ),
    ] {
        let error = db_error(client.simple_query(&format!("SELECT iam_auth_token({call})")));
        assert_eq!((error.code().code(), error.message()), (code, message), "{call}");
    }
    let error = db_error(client.simple_query("SELECT iam_auth_token('h', 'u')"));
    assert!(error.hint().unwrap().starts_with("Pass region, or set"), "{error:?}");
}

#[test]
fn without_credentials_there_is_no_token() {
    let local = local(|local| local.without_env("AWS_ACCESS_KEY_ID"));
    let mut client = local.connect("postgres", "postgres");
    let error = db_error(client.simple_query("SELECT iam_auth_token('h', 'u')"));
    assert_eq!((error.code().code(), error.message()), ("28000", "no AWS credentials found"));
}
