//! `secretlink.profile` beside credentials in the environment. A file of its own, because the
//! environment is the process's.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use common::{get, settings};
use secretlink_aws::Settings;
use wiremock::matchers::header_regex;
use wiremock::{Mock, MockServer, ResponseTemplate};

const VALUE: &str = r#"{"ARN":"arn","Name":"x","VersionId":"v","SecretString":"s"}"#;

#[tokio::test]
async fn a_profile_asked_for_by_name_comes_before_the_environment() {
    let server = MockServer::start().await;
    for (key, region) in [("AKIAENVIRONMENT", "us-east-1"), ("AKIATEST", "us-east-1")] {
        Mock::given(header_regex("authorization", &format!("Credential={key}/[0-9]+/{region}/")))
            .respond_with(
                ResponseTemplate::new(200).set_body_raw(
                    VALUE.replace("\"v\"", &format!("\"{key}\"")),
                    "application/x-amz-json-1.1",
                ),
            )
            .mount(&server)
            .await;
    }
    let without = settings(&server.uri());
    // SAFETY: the only test of this binary, and nothing else runs in it yet that reads the environment.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "x");
    }
    let with = Settings { profile: Some("with-region".into()), ..without.clone() };
    assert_eq!(get(without).await.unwrap().version_id, "AKIAENVIRONMENT");
    assert_eq!(get(with).await.unwrap().version_id, "AKIATEST");
}
