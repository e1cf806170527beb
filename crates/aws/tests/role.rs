//! `secretlink.role_arn`, with an STS that answers as told.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use common::{all_of, get, settings};
use secretlink_aws::{AwsError, Client, SecretId, Settings, VersionSelector};
use secretlink_core::Report;
use wiremock::matchers::{body_string_contains, header, header_regex, method};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// What must never be seen.
const MARKER: &str = "hunter2hunter2";

/// The STS of this process, since its place is in the environment. Each test has a role of its own there.
async fn sts() -> &'static MockServer {
    static STS: OnceLock<MockServer> = OnceLock::new();
    static START: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = START.lock().await;
    if STS.get().is_none() {
        let server = MockServer::start().await;
        settings(&server.uri());
        // SAFETY: under the lock that every test takes before it reads the environment.
        unsafe { std::env::set_var("AWS_ENDPOINT_URL_STS", server.uri()) };
        let _ = STS.set(server);
    }
    STS.get().unwrap()
}

/// What STS says if it gives credentials for so many seconds.
fn credentials(id: &str, seconds: u64) -> ResponseTemplate {
    let ends = SystemTime::now() + Duration::from_secs(seconds);
    let ends = aws_smithy_types::DateTime::from(ends);
    let ends = ends.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap();
    ResponseTemplate::new(200).set_body_raw(
        format!(
            r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <AssumedRoleUser><AssumedRoleId>AROA:secretlink</AssumedRoleId>
            <Arn>arn:aws:sts::123456789012:assumed-role/x/secretlink</Arn></AssumedRoleUser>
            <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{MARKER}</SecretAccessKey>
            <SessionToken>token-of-{id}</SessionToken><Expiration>{ends}</Expiration></Credentials>
            </AssumeRoleResult></AssumeRoleResponse>"#
        ),
        "text/xml",
    )
}

fn refusal(status: u16, code: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(
        format!(
            r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
            <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"#
        ),
        "text/xml",
    )
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// What STS answers about this role.
async fn answers(name: &str, answer: ResponseTemplate) -> &'static MockServer {
    let sts = sts().await;
    Mock::given(method("POST"))
        .and(body_string_contains("Action=AssumeRole&"))
        .and(body_string_contains(format!("role%2F{name}&")))
        .respond_with(answer)
        .mount(sts)
        .await;
    sts
}

/// The requests about this role.
async fn requests(sts: &MockServer, name: &str) -> Vec<String> {
    let requests = sts.received_requests().await.unwrap();
    let bodies = requests.iter().map(|r| {
        let scope = r.headers.get("authorization").and_then(|h| h.to_str().ok()).unwrap_or_default();
        format!("{scope} {}", String::from_utf8_lossy(&r.body))
    });
    bodies.filter(|body| body.contains(&format!("role%2F{name}&"))).collect()
}

/// A Secrets Manager that answers those who come with the credentials `id`, and says `id`.
async fn secrets_for(server: &MockServer, id: &str) {
    let value = format!(r#"{{"ARN":"arn","Name":"x","VersionId":"{id}","SecretString":"s"}}"#);
    Mock::given(header_regex("authorization", &format!("Credential={id}/[0-9]+/us-east-1/secretsmanager/")))
        .and(header("x-amz-security-token", format!("token-of-{id}").as_str()))
        .respond_with(ResponseTemplate::new(200).set_body_raw(value, "application/x-amz-json-1.1"))
        .mount(server)
        .await;
}

async fn error_as(name: &str, answer: ResponseTemplate) -> AwsError {
    answers(name, answer).await;
    get(Settings { role_arn: Some(role(name)), ..settings("http://127.0.0.1:1") }).await.unwrap_err()
}

#[tokio::test]
async fn the_role_is_assumed() {
    let sts = answers("good", credentials("ASIAGOOD", 3600)).await;
    let server = MockServer::start().await;
    secrets_for(&server, "ASIAGOOD").await;
    let settings = Settings {
        role_arn: Some(role("good")),
        external_id: Some("between-us".into()),
        role_session_name: Some("secretlink-main".into()),
        ..settings(&server.uri())
    };
    let manager = Client::new(settings);
    let id = SecretId::parse("x").unwrap();
    for _ in 0..3 {
        let value = manager.get_secret_value(&id, &VersionSelector::default()).await.unwrap();
        assert_eq!(value.version_id, "ASIAGOOD");
    }
    let requests = requests(sts, "good").await;
    assert_eq!(requests.len(), 1, "kept: {requests:?}");
    for part in [
        "Credential=AKIATEST/",
        "/us-east-1/sts/",
        "ExternalId=between-us",
        "RoleSessionName=secretlink-main",
    ] {
        assert!(requests[0].contains(part), "{part}: {}", requests[0]);
    }
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed() {
    let said = "User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on resource: x";
    let error = error_as("denied", refusal(403, "AccessDenied", said)).await;
    assert_eq!(error.to_string(), format!("could not assume role \"{}\": AccessDenied", role("denied")));
    assert_eq!(error.sqlstate().as_str(), "28000");
    assert_eq!(error.detail().as_deref(), Some(said));
    let hint = error.hint().unwrap();
    assert!(hint.contains("trust policy") && hint.contains("sts:AssumeRole"), "{hint}");
    assert!(hint.contains("external_id"), "{hint}");
    assert!(!error.is_unreachable());
}

#[tokio::test]
async fn a_session_token_is_not_quoted_back() {
    let said = format!("The Canonical String: x-amz-security-token:{MARKER}");
    let error = error_as("signature", refusal(403, "SignatureDoesNotMatch", &said)).await;
    assert!(matches!(error, AwsError::RoleRefused { .. }), "{error:?}");
    assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
}

#[tokio::test]
async fn an_sts_that_fails_or_throttles_says_nothing_about_the_secret() {
    for (name, answer) in [
        ("failing", refusal(500, "InternalFailure", MARKER)),
        ("throttled", refusal(400, "Throttling", "Rate exceeded")),
        ("html", ResponseTemplate::new(200).set_body_raw(format!("<html>{MARKER}"), "text/html")),
    ] {
        let error = error_as(name, answer).await;
        assert!(matches!(error, AwsError::RoleNotAssumed { .. }), "{error:?}");
        assert!(error.is_unreachable());
        assert_eq!(error.sqlstate().as_str(), "08001");
        assert!(error.to_string().contains(&role(name)), "{error}");
        assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
    }
}

#[tokio::test]
async fn a_role_of_a_profile_that_could_not_be_assumed_says_nothing_about_the_secret_either() {
    let answers = [
        (refusal(500, "InternalFailure", "no"), true),
        (refusal(400, "Throttling", "Rate exceeded"), true),
        (refusal(403, "AccessDenied", "no"), false),
    ];
    let now = Arc::new(AtomicUsize::new(0));
    let (at, answer) = (now.clone(), answers.clone());
    Mock::given(body_string_contains("by-profile"))
        .respond_with(move |_: &Request| answer[at.load(SeqCst)].0.clone())
        .mount(sts().await)
        .await;
    for (place, (_, is_unreachable)) in answers.iter().enumerate() {
        now.store(place, SeqCst);
        let settings = Settings { profile: Some("assumes-a-role".into()), ..settings("http://127.0.0.1:1") };
        let error = get(settings).await.unwrap_err();
        assert!(matches!(error, AwsError::CredentialsFailed { .. }), "{error:?}");
        assert_eq!(error.is_unreachable(), *is_unreachable, "{error:?}");
        assert_eq!(error.sqlstate().as_str(), "28000");
    }
}

#[tokio::test]
async fn without_credentials_there_is_nobody_to_assume_it() {
    sts().await;
    let settings = Settings {
        profile: Some("empty".into()),
        role_arn: Some(role("nobody")),
        ..settings("http://127.0.0.1:1")
    };
    let error = get(settings).await.unwrap_err();
    assert_eq!(error.to_string(), "no AWS credentials found");
}

/// The call that finds them near their end gets them all the same, while STS takes its time.
#[tokio::test]
async fn nobody_waits_while_credentials_are_renewed() {
    let sts = sts().await;
    let one_role = || Mock::given(body_string_contains("role%2Fshort&"));
    one_role().respond_with(credentials("ASIAONE", 8)).up_to_n_times(1).with_priority(1).mount(sts).await;
    let second = credentials("ASIATWO", 3600).set_delay(Duration::from_millis(500));
    one_role().respond_with(second).mount(sts).await;
    let server = MockServer::start().await;
    secrets_for(&server, "ASIAONE").await;
    secrets_for(&server, "ASIATWO").await;
    let manager = Client::new(Settings { role_arn: Some(role("short")), ..settings(&server.uri()) });
    let id = SecretId::parse("x").unwrap();
    let mut with_the_old_ones_after_asking = 0;
    let mut last = String::new();
    while last != "ASIATWO" {
        let asked = requests(sts, "short").await.len();
        last = manager.get_secret_value(&id, &VersionSelector::default()).await.unwrap().version_id;
        if asked == 2 && last == "ASIAONE" {
            with_the_old_ones_after_asking += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(with_the_old_ones_after_asking > 0);
    assert_eq!(requests(sts, "short").await.len(), 2);
}
