//! What every failure of AWS looks like.

use crate::session::{refused, session};
use secretlink_e2e::{Proxy, ScriptedEndpoint, db_error, free_port};
use std::time::{Duration, Instant};

#[test]
fn every_refusal_of_aws_has_its_own_line() {
    let endpoint = ScriptedEndpoint::start();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1",
            endpoint.url()
        ))
        .unwrap();
    let denied = "User: arn:aws:sts::1:assumed-role/db/i-0 is not authorized to perform: secretsmanager:GetSecretValue";
    for (code, said, sqlstate, message, hint) in [
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
            "42704",
            "secret \"x\" not found in region us-east-1",
            "secretlink.region",
        ),
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
            "42704",
            "secret \"x\" has no version with stage \"AWSCURRENT\"",
            "describe_secret",
        ),
        (
            "AccessDeniedException",
            denied,
            "42501",
            "not authorized to perform secretsmanager:GetSecretValue on secret \"x\"",
            "Grant secretsmanager:GetSecretValue",
        ),
        (
            "DecryptionFailure",
            "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            "42501",
            "KMS could not decrypt secret \"x\"",
            "kms:Decrypt",
        ),
        (
            "AccessDeniedException",
            "Access to KMS is not allowed",
            "42501",
            "KMS could not decrypt secret \"x\"",
            "kms:Decrypt",
        ),
        (
            "ThrottlingException",
            "Rate exceeded",
            "53400",
            "Secrets Manager throttled the request for secret \"x\"",
            "secretlink.max_attempts",
        ),
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "28000",
            "AWS refused the credentials: ExpiredTokenException",
            "clock",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "28000",
            "AWS refused the credentials: UnrecognizedClientException",
            "Check that the credentials exist",
        ),
        (
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
            "55000",
            "secret \"x\" is marked for deletion",
            "RestoreSecret",
        ),
        ("InvalidParameterException", "bad", "22023", "invalid parameter for secret \"x\"", ""),
    ] {
        endpoint.refuse(code, said);
        refused(&mut client, "SELECT get_secret_value('x')", sqlstate, message, hint);
    }
    let error = db_error({
        endpoint.refuse("AccessDeniedException", denied);
        client.simple_query("SELECT connect_with_secret('x', 'h')")
    });
    assert_eq!(error.detail(), Some(denied), "who was refused");
}

#[test]
fn answers_of_a_broken_or_foreign_server_have_their_own_lines() {
    let endpoint = ScriptedEndpoint::start();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 2",
            endpoint.url()
        ))
        .unwrap();
    let read = "SELECT get_secret_value('x')";

    endpoint.answer(
        500,
        r#"{"__type":"InternalServiceError","message":"An error occurred on the server side."}"#,
    );
    refused(&mut client, read, "58000", "Secrets Manager failed: InternalServiceError", "");
    assert_eq!(endpoint.requests().len(), 2, "a fault is tried again");
    endpoint.answer(503, "<html>Service Unavailable</html>");
    refused(&mut client, read, "58000", "Secrets Manager failed: HTTP status 503", "");

    let not_understood = "could not understand the answer of Secrets Manager";
    for (status, body) in
        [(200, "<html>Welcome</html>"), (200, ""), (200, "{}"), (200, "[1]"), (403, "no"), (404, "<p>")]
    {
        endpoint.answer(status, body);
        refused(&mut client, read, "58000", not_understood, "secretlink.endpoint_url");
    }
    // Nothing of HTTP.
    endpoint.answer_raw(b"SSH-2.0-OpenSSH_9.2\r\n");
    let message = format!("could not reach Secrets Manager at {}", endpoint.url());
    refused(&mut client, read, "08001", &message, "secretlink.endpoint_url");
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut client = session();
    client
        .batch_execute(&format!("SET secretlink.endpoint_url = '{url}'; SET secretlink.max_attempts = 1"))
        .unwrap();
    let message = format!("could not reach Secrets Manager at {url}");
    refused(&mut client, "SELECT get_secret_value('x')", "08001", &message, "secretlink.endpoint_url");
}

#[test]
fn request_timeout_bounds_the_whole_call() {
    let hole = Proxy::black_hole();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.request_timeout = 500",
            hole.endpoint()
        ))
        .unwrap();
    let began = Instant::now();
    let error = db_error(client.simple_query("SELECT get_secret_value('x')"));
    let took = began.elapsed();
    assert_eq!(error.code().code(), "58000", "{error:?}");
    assert!(error.message().starts_with("request to Secrets Manager timed out after 5"), "{error:?}");
    assert_eq!(error.detail(), Some(format!("{} was asked.", hole.endpoint()).as_str()));
    assert!(error.hint().unwrap().contains("secretlink.request_timeout"), "{error:?}");
    assert!((Duration::from_millis(490)..Duration::from_secs(3)).contains(&took), "{took:?}");
}
