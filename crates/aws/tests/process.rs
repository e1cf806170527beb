//! Credentials from a child process, and what that does to the process it runs in.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{get, settings};
use secretlink_aws::{AwsError, Settings};
use wiremock::matchers::header_regex;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// What this process does on SIGCHLD.
fn sigchld() -> libc::sighandler_t {
    // SAFETY: sigaction is plain data, and a null second argument only reads into the third.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action), 0);
        action.sa_sigaction
    }
}

/// One test, so that nothing else in this process starts a child.
#[tokio::test]
async fn no_signal_handler_is_installed() {
    assert_eq!(sigchld(), libc::SIG_DFL);
    let server = MockServer::start().await;
    Mock::given(header_regex("authorization", "AKIAPROCESS/"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(
            r#"{"ARN":"a","Name":"x","VersionId":"v","SecretString":"s"}"#,
            "application/x-amz-json-1.1",
        ))
        .mount(&server)
        .await;
    get(Settings { profile: Some("process".into()), ..settings(&server.uri()) }).await.unwrap();
    assert_eq!(sigchld(), libc::SIG_DFL, "after a process that ended");

    let started = Instant::now();
    let error = get(Settings {
        profile: Some("hanging-process".into()),
        request_timeout: Duration::from_millis(300),
        ..settings(&server.uri())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, AwsError::TimedOut { endpoint: None, .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    // The runtime looks for orphans whenever it goes to sleep.
    for _ in 0..35 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sigchld(), libc::SIG_DFL, "after a process that outlived its call");
    }
}
