//! Each call is told to the recorder, once, when it is over.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::settings;
use secretlink_aws::{CallOutcome, Client, Operation, Recorder, SecretId, Settings, VersionSelector};
use wiremock::matchers::header;
use wiremock::{Mock, MockServer, ResponseTemplate};

#[derive(Default)]
struct Heard(Mutex<Vec<(Operation, CallOutcome, Duration)>>);

impl Recorder for Heard {
    fn record(&self, operation: Operation, outcome: CallOutcome, took: Duration) {
        self.0.lock().unwrap().push((operation, outcome, took));
    }
}

impl Heard {
    fn take(&self) -> Vec<(Operation, CallOutcome)> {
        self.0.lock().unwrap().drain(..).map(|(operation, outcome, _)| (operation, outcome)).collect()
    }
}

const DELAY: Duration = Duration::from_secs(5);

/// Answers, refuses GetSecretValue, and takes its time with UpdateSecretVersionStage.
async fn server() -> MockServer {
    let server = MockServer::start().await;
    let answer = |status, body: &str| {
        ResponseTemplate::new(status).set_body_raw(body.to_owned(), "application/x-amz-json-1.1")
    };
    for (operation, response) in [
        ("DescribeSecret", answer(200, r#"{"ARN":"arn","Name":"x"}"#)),
        ("ListSecretVersionIds", answer(200, r#"{"Versions":[]}"#)),
        ("GetSecretValue", answer(400, r#"{"__type":"ThrottlingException"}"#)),
        ("UpdateSecretVersionStage", answer(200, "{}").set_delay(DELAY)),
    ] {
        Mock::given(header("x-amz-target", &*format!("secretsmanager.{operation}")))
            .respond_with(response)
            .mount(&server)
            .await;
    }
    server
}

#[tokio::test]
async fn whatever_its_end() {
    let heard: &Heard = Box::leak(Box::default());
    let server = server().await;
    let id = SecretId::parse("x").unwrap();
    let manager = Client::new(settings(&server.uri())).recorded_by(heard);
    manager.get_secret_value(&id, &VersionSelector::default()).await.unwrap_err();
    assert_eq!(heard.take(), [(Operation::GetSecretValue, CallOutcome::Throttled)]);
    manager.stages(&id).await.unwrap();
    assert_eq!(heard.take(), [(Operation::DescribeSecret, CallOutcome::Success)]);
    // Two calls side by side are two calls.
    manager.describe_secret(&id).await.unwrap();
    let mut both = heard.take();
    both.sort_by_key(|(operation, _)| operation.as_str());
    assert_eq!(
        both,
        [
            (Operation::DescribeSecret, CallOutcome::Success),
            (Operation::ListSecretVersionIds, CallOutcome::Success)
        ]
    );

    let impatient = Duration::from_millis(100);
    let hurried = Settings { request_timeout: impatient, ..settings(&server.uri()) };
    let hurried = Client::new(hurried).recorded_by(heard);
    hurried.update_secret_version_stage(&id, "AWSCURRENT", None, Some("v")).await.unwrap_err();
    let all = std::mem::take(&mut *heard.0.lock().unwrap());
    assert!(
        matches!(&all[..], [(Operation::UpdateSecretVersionStage, CallOutcome::TimedOut, took)] if *took >= impatient),
        "{all:?}"
    );

    let dropped = manager.update_secret_version_stage(&id, "AWSCURRENT", None, Some("v"));
    tokio::time::timeout(impatient, dropped).await.unwrap_err();
    assert_eq!(heard.take(), [(Operation::UpdateSecretVersionStage, CallOutcome::Cancelled)]);
}

#[test]
fn operations_have_the_names_that_aws_gives_them() {
    let names = Operation::ALL.map(Operation::as_str);
    assert_eq!(
        names,
        [
            "GetSecretValue",
            "DescribeSecret",
            "ListSecretVersionIds",
            "CreateSecret",
            "PutSecretValue",
            "UpdateSecretVersionStage",
            "RotateSecret",
            "ListSecrets"
        ]
    );
}
