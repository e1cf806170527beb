//! `check`, with a Secrets Manager and an STS that answer as told. One test, since where STS is stands in
//! the environment.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::settings;
use secretlink_aws::{Check, Client, Settings};
use wiremock::matchers::{body_string_contains, header, header_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

const MARKER: &str = "hunter2hunter2";

fn json(status: u16, body: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body, "application/x-amz-json-1.1")
}

fn refusal(code: &str) -> ResponseTemplate {
    json(400, &format!(r#"{{"__type":"{code}","message":"no"}}"#))
}

/// A Secrets Manager that answers each of these operations so.
async fn secrets_manager(answers: &[(&str, ResponseTemplate)]) -> MockServer {
    let server = MockServer::start().await;
    for (operation, answer) in answers {
        Mock::given(header("x-amz-target", format!("secretsmanager.{operation}").as_str()))
            .respond_with(answer.clone())
            .mount(&server)
            .await;
    }
    Mock::given(header_regex("authorization", "Credential=AKIASECRETLINKCHECK0/"))
        .respond_with(refusal("UnrecognizedClientException"))
        .with_priority(1)
        .mount(&server)
        .await;
    server
}

fn find<'a>(checks: &'a [Check], item: &str) -> &'a Check {
    checks.iter().find(|check| check.item == item).unwrap_or_else(|| panic!("{item}: {checks:?}"))
}

const VALUE: &str = r#"{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:x","Name":"x","VersionId":"v1",
    "VersionStages":["AWSCURRENT"],"SecretString":"{\"password\":\"hunter2hunter2\"}"}"#;

fn described(more: &str) -> ResponseTemplate {
    json(
        200,
        &format!(
            r#"{{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:x","Name":"x",
                "VersionIdsToStages":{{"v1":["AWSCURRENT"]}}{more}}}"#
        ),
    )
}

#[tokio::test]
async fn each_thing_on_its_own() {
    let sts = MockServer::start().await;
    settings("http://127.0.0.1:1");
    // SAFETY: the only test of this binary, and nothing else runs in it yet that reads the environment.
    unsafe { std::env::set_var("AWS_ENDPOINT_URL_STS", sts.uri()) };
    Mock::given(body_string_contains("Action=GetCallerIdentity"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(
            r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
               <GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/db</Arn><UserId>AIDA</UserId>
               <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"#,
            "text/xml",
        ))
        .mount(&sts)
        .await;
    Box::pin(all_is_well()).await;
    Box::pin(secrets_that_cannot_be_written()).await;
    Box::pin(nobody_answers()).await;
    Box::pin(no_credentials()).await;
    Box::pin(a_setting_that_makes_no_sense()).await;
    Box::pin(sts_is_away(sts)).await;
}

async fn all_is_well() {
    let server = secrets_manager(&[
        ("GetSecretValue", json(200, VALUE)),
        ("DescribeSecret", described("")),
        ("UpdateSecretVersionStage", refusal("InvalidParameterException")),
    ])
    .await;
    let checks = Client::new(settings(&server.uri())).check(Some("x"), true).await;
    let items: Vec<_> = checks.iter().map(|check| (check.item, check.ok)).collect();
    assert_eq!(
        items,
        [
            ("region", Some(true)),
            ("credentials", Some(true)),
            ("identity", Some(true)),
            ("endpoint", Some(true)),
            ("read", Some(true)),
            ("write", None),
        ],
        "{checks:?}"
    );
    assert_eq!(find(&checks, "region").detail, "us-east-1, from secretlink.region");
    assert_eq!(find(&checks, "credentials").detail, "from a profile; access key ending in TEST");
    assert_eq!(find(&checks, "identity").detail, "account 123456789012, arn:aws:iam::123456789012:user/db");
    assert!(find(&checks, "endpoint").detail.starts_with(&format!("{} answered in ", server.uri())));
    assert_eq!(find(&checks, "read").detail, "version v1; it has what connect_with_secret needs");
    assert!(find(&checks, "write").detail.contains("UpdateSecretVersionStage is permitted"));
    assert!(!format!("{checks:?}").contains(MARKER));
    for request in server.received_requests().await.unwrap() {
        let target = request.headers["x-amz-target"].to_str().unwrap();
        assert!(!target.contains("Put") && !target.contains("Create"), "{target}");
        if target.contains("Update") {
            let body: serde_json::Value = request.body_json().unwrap();
            assert_eq!(body["MoveToVersionId"], "secretlink-check-no-such-version-exists");
            assert_eq!(body["VersionStage"], "secretlink-check");
            assert!(body.get("RemoveFromVersionId").is_none());
        }
    }
}

async fn secrets_that_cannot_be_written() {
    for (describe, update, ok, told) in [
        (
            described(r#","DeletedDate":1.7e9"#),
            "InvalidParameterException",
            Some(false),
            "marked for deletion",
        ),
        (described(r#","OwningService":"rds""#), "InvalidParameterException", Some(false), "managed by rds"),
        (described(r#","PrimaryRegion":"eu-west-1""#), "InvalidParameterException", Some(false), "replica"),
        (described(r#","PrimaryRegion":"us-east-1""#), "InvalidParameterException", None, "is permitted"),
        (described(""), "AccessDeniedException", Some(false), "UpdateSecretVersionStage"),
        (refusal("AccessDeniedException"), "InvalidParameterException", Some(false), "DescribeSecret"),
        (described(""), "InternalServiceError", Some(false), "InternalServiceError"),
    ] {
        let answers = [
            ("GetSecretValue", json(200, VALUE)),
            ("DescribeSecret", describe),
            ("UpdateSecretVersionStage", refusal(update)),
        ];
        let server = secrets_manager(&answers).await;
        let checks = Client::new(settings(&server.uri())).check(Some("x"), true).await;
        let write = find(&checks, "write");
        assert_eq!(write.ok, ok, "{told}: {write:?}");
        assert!(write.detail.contains(told), "{told}: {write:?}");
        assert_eq!(find(&checks, "read").ok, Some(true), "{checks:?}");
        // A right that only writing needs is not missed where nothing is written.
        let checks = Client::new(settings(&server.uri())).check(Some("x"), false).await;
        let write = find(&checks, "write");
        let ok = if write.detail.contains("not authorized") { None } else { ok };
        assert_eq!(write.ok, ok, "{told}: {write:?}");
        assert!(write.detail.contains(told), "{told}: {write:?}");
    }
    let pending = described("").set_body_raw(
        r#"{"ARN":"a","Name":"x","VersionIdsToStages":{"v1":["AWSCURRENT"],"v2":["AWSPENDING"]}}"#,
        "application/x-amz-json-1.1",
    );
    let update = refusal("InvalidParameterException");
    let server = secrets_manager(&[("DescribeSecret", pending), ("UpdateSecretVersionStage", update)]).await;
    let checks = Client::new(settings(&server.uri())).check(Some("x"), true).await;
    assert!(find(&checks, "write").detail.contains("AWSPENDING is at version v2"), "{checks:?}");
    assert_eq!(find(&checks, "read").ok, Some(false), "{checks:?}");
}

async fn nobody_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let limits = Settings { request_timeout: Duration::from_millis(500), ..settings(&endpoint) };
    let start = Instant::now();
    let checks = Client::new(limits).check(Some("x"), true).await;
    assert!(start.elapsed() < Duration::from_secs(3), "side by side: {:?}", start.elapsed());
    let ok: Vec<_> = checks.iter().map(|check| (check.item, check.ok)).collect();
    assert_eq!(
        ok,
        [
            ("region", Some(true)),
            ("credentials", Some(true)),
            ("identity", Some(true)),
            ("endpoint", Some(false)),
            ("read", Some(false)),
            ("write", Some(false)),
        ],
        "{checks:?}"
    );
    assert!(find(&checks, "endpoint").detail.contains("timed out"), "{checks:?}");
}

async fn no_credentials() {
    let server = secrets_manager(&[]).await;
    let without = Settings { profile: Some("empty".into()), ..settings(&server.uri()) };
    let checks = Client::new(without).check(None, false).await;
    assert_eq!(find(&checks, "credentials").ok, Some(false));
    assert!(find(&checks, "credentials").detail.starts_with("no AWS credentials found"));
    assert!(find(&checks, "credentials").hint.is_some());
    assert_eq!(find(&checks, "identity").ok, None, "{checks:?}");
    assert_eq!(find(&checks, "endpoint").ok, Some(true), "it needs none: {checks:?}");
}

async fn a_setting_that_makes_no_sense() {
    let bad = Settings { region: Some("us east 1".into()), ..settings("http://127.0.0.1:1") };
    let checks = Client::new(bad).check(Some("x"), true).await;
    assert_eq!(find(&checks, "region").ok, Some(false));
    assert!(find(&checks, "region").detail.contains("secretlink.region"), "{checks:?}");
    assert_eq!(find(&checks, "endpoint").ok, None);
    assert_eq!(find(&checks, "read").ok, Some(false));
    let checks = Client::new(settings("http://127.0.0.1:1")).check(Some("a b"), true).await;
    assert_eq!(find(&checks, "read").ok, Some(false), "{checks:?}");
}

async fn sts_is_away(sts: MockServer) {
    // It says 404 now, with nothing that STS would say.
    sts.reset().await;
    let server = secrets_manager(&[]).await;
    let checks = Client::new(settings(&server.uri())).check(None, false).await;
    let identity = find(&checks, "identity");
    assert_eq!(identity.ok, None, "{identity:?}");
    assert!(identity.detail.starts_with("STS could not be asked."), "{identity:?}");
    assert_eq!(find(&checks, "endpoint").ok, Some(true), "{checks:?}");
}
