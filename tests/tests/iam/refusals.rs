//! Logins that are refused, and what is said of them.

use crate::ground::{Ground, refusal, signed, text, who};
use std::time::Duration;

#[test]
fn a_user_whom_no_policy_lets_in() {
    let ground = Ground::start();
    let mut client = ground.session();
    ground.role("nobody");
    ground.verifier.forbid("nobody");
    let error = refusal(&mut client, &ground.connect("nobody"));
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    let hint = error.hint().unwrap();
    for part in ["rds-db:connect", "dbuser:RESOURCE_ID/USER", "rds_iam", "clock"] {
        assert!(hint.contains(part), "{hint}");
    }
    assert!(!format!("{error:?}").contains("X-Amz"), "{error:?}");
    // A token that was signed for this login is not signed again: it would be the same.
    assert_eq!(ground.verifier.take("nobody").len(), 1);
    assert_eq!(signed(&mut client), 1);
    // With fail => false it is told.
    let told = ground.connect("nobody").replace("options =>", "fail => false, options =>");
    assert!(text(&mut client, &told).starts_with("Connection failed: could not establish connection: "));
    text(&mut client, &ground.connect("app"));
    assert_eq!(who(&mut client), "app");
}

#[test]
fn a_token_that_was_kept_and_is_refused_is_signed_anew_once() {
    let ground = Ground::start();
    let mut client = ground.session();
    text(&mut client, &ground.connect("app"));
    let first = ground.verifier.take("app").remove(0).token;
    // The database's clock runs away: what was signed a moment ago has expired there.
    ground.verifier.set_clock_ahead(Duration::from_secs(3_600));
    std::thread::sleep(Duration::from_millis(1_100));
    let error = refusal(&mut client, &ground.connect("app"));
    assert!(error.hint().unwrap().contains("clock"), "{error:?}");
    let tried = ground.verifier.take("app");
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert_eq!(tried[0].token, first);
    assert_ne!(tried[1].token, first);
    assert!(tried.iter().all(|verdict| verdict.refusal.as_deref() == Some("it has expired")), "{tried:?}");
    // Put right, everybody gets in.
    ground.verifier.set_clock_ahead(Duration::ZERO);
    text(&mut client, &ground.connect("app"));
    assert_eq!(ground.verifier.take("app").len(), 1);
    assert_eq!(signed(&mut client), 2);
}

#[test]
fn a_token_that_expired_at_the_database_is_replaced_and_the_login_succeeds() {
    let ground = Ground::start();
    let mut client = ground.session();
    text(&mut client, &ground.connect("app"));
    ground.verifier.trust("test", "other", None);
    let error = refusal(&mut client, &ground.connect("app"));
    assert_eq!(error.code().code(), "08001");
    ground.verifier.trust("test", "test", None);
    // What the database refused a moment ago it takes now.
    text(&mut client, &ground.connect("app"));
    assert_eq!(who(&mut client), "app");
}

#[test]
fn a_clock_that_is_behind() {
    let ground = Ground::start();
    let mut client = ground.session();
    ground.verifier.set_clock_back(Duration::from_secs(3_600));
    let error = refusal(&mut client, &ground.connect("app"));
    assert!(error.hint().unwrap().contains("clock"), "{error:?}");
    assert_eq!(ground.verifier.take("app")[0].refusal.as_deref(), Some("it is of the future"));
}

#[test]
fn a_role_with_a_password_lacks_rds_iam() {
    let ground = Ground::with_other_logins();
    let mut client = ground.session();
    for (user, asked) in [("scrammer", "a SCRAM password"), ("digester", "an MD5 password")] {
        let error = refusal(&mut client, &ground.connect(user));
        assert!(error.detail().unwrap().contains(&format!("the server asked for {asked}")), "{error:?}");
        assert!(error.hint().unwrap().contains("lacks rds_iam"), "{error:?}");
    }
    // A superuser may connect where nobody asks, somebody else may not.
    text(&mut client, &ground.connect("trusted"));
    client
        .batch_execute("CREATE ROLE someone LOGIN; GRANT EXECUTE ON FUNCTION connect_with_iam TO someone")
        .unwrap();
    let mut someone = ground.local.connect("someone", "postgres");
    let error = refusal(&mut someone, &ground.connect("trusted"));
    assert_eq!((error.code().code(), error.message()), ("2F003", "password is required"));
    text(&mut someone, &ground.connect("app"));
    assert_eq!(who(&mut someone), "app");
    assert_eq!(ground.verifier.verdicts().len(), 1);
}

#[test]
fn what_cannot_be() {
    let ground = Ground::start();
    let mut client = ground.session();
    for (arguments, code, message) in [
        ("NULL, 'd', 'u'", "22004", "argument \"remote_host\" must not be null"),
        ("'h', NULL, 'u'", "22004", "argument \"remote_db\" must not be null"),
        ("'h', 'd', NULL", "22004", "argument \"remote_user\" must not be null"),
        ("'', 'd', 'u'", "22023", "argument \"remote_host\" must not be empty"),
        ("'h', '', 'u'", "22023", "argument \"remote_db\" must not be empty"),
        ("'h', 'd', ''", "22023", "argument \"remote_user\" must not be empty"),
        ("'h', 'd', 'u', NULL", "22004", "argument \"remote_port\" must not be null"),
        ("'h', 'd', 'u', 0", "22023", "port 0 is out of range"),
        ("'h', 'd', 'u', region => 'US EAST'", "22023", "AWS region is not valid"),
        ("'h', 'd', 'u', connection_name => NULL", "22004", "argument \"connection_name\" must not be null"),
        ("'h', 'd', 'u', options => 'password=x'", "22023", "option \"password\" is not allowed here"),
        ("'h', 'd', 'u', options => 'hots=x'", "22023", "invalid connection option \"hots\""),
        ("'/tmp', 'd', 'u'", "22023", "an IAM token is not sent over a Unix-domain socket"),
        ("'h x', 'd', 'u'", "22023", "host name number 1 contains a space"),
    ] {
        let error = refusal(&mut client, &format!("SELECT connect_with_iam({arguments})"));
        assert_eq!((error.code().code(), error.message()), (code, message), "{arguments}");
    }
}

#[test]
fn no_credentials_no_login() {
    let ground = Ground::with(|local| local.without_env("AWS_ACCESS_KEY_ID"), |remote| remote);
    let mut client = ground.session();
    let error = refusal(&mut client, &ground.connect("app"));
    assert_eq!((error.code().code(), error.message()), ("28000", "no AWS credentials found"));
    assert!(ground.verifier.verdicts().is_empty());
}
