//! Every answer that Secrets Manager, or something in its place, can give: scripted over real HTTP.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{all_of, get, settings};
use secretlink_aws::{AwsError, Client, NewSecret, SecretBody, SecretId, Settings, VersionSelector};
use secretlink_core::{Report, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::matchers::{body_partial_json, header, header_regex, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// What must never be seen outside a `Secret`.
const MARKER: &str = "hunter2hunter2";

fn answer(status: u16, body: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body, "application/x-amz-json-1.1")
}

fn refusal(code: &str, message: &str) -> ResponseTemplate {
    answer(400, &format!(r#"{{"__type":"{code}","message":"{message}"}}"#))
}

async fn server(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(response).mount(&server).await;
    server
}

async fn get_error(response: ResponseTemplate) -> AwsError {
    let server = server(response).await;
    get(settings(&server.uri())).await.unwrap_err()
}

/// A server that reads a request, sends `response` as it stands and hangs up.
async fn raw_server(response: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 8192]).await;
                let _ = stream.write_all(response.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

const VALUE: &str = r#"{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AbCdEf","Name":"x",
    "VersionId":"11111111-2222-3333-4444-555555555555","VersionStages":["AWSCURRENT"],
    "CreatedDate":1.7e9,"SecretString":"{\"password\":\"hunter2hunter2\"}"}"#;

#[tokio::test]
async fn a_value() {
    let server = MockServer::start().await;
    Mock::given(header("x-amz-target", "secretsmanager.GetSecretValue"))
        .and(body_partial_json(serde_json::json!({"SecretId": "x"})))
        .and(header_regex("authorization", "AKIATEST/[0-9]+/us-east-1/secretsmanager"))
        .respond_with(answer(200, VALUE))
        .mount(&server)
        .await;
    let value = get(settings(&server.uri())).await.unwrap();
    assert_eq!((&*value.name, &*value.stages), ("x", &["AWSCURRENT".to_owned()][..]));
    assert!(value.created.is_some());
    assert_eq!(value.json().unwrap(), r#"{"password":"hunter2hunter2"}"#);
    assert!(matches!(value.bytes(), Err(AwsError::IsString { .. })));
    assert!(!format!("{value:?}").contains(MARKER));
}

#[tokio::test]
async fn a_binary_value() {
    let server = server(answer(
        200,
        r#"{"ARN":"arn","Name":"x","VersionId":"v","VersionStages":[],"SecretBinary":"AAH/"}"#,
    ))
    .await;
    let value = get(settings(&server.uri())).await.unwrap();
    assert!(matches!(&value.body, SecretBody::Binary(bytes) if bytes.expose() == [0, 1, 255]));
    assert_eq!(value.bytes().unwrap(), [0, 1, 255]);
    let error = value.json().unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("Use get_secret_binary."));
}

#[tokio::test]
async fn a_value_that_is_not_json() {
    let server = server(answer(
        200,
        r#"{"ARN":"arn","Name":"x","VersionId":"v","SecretString":"{\"a\": hunter2hunter2}"}"#,
    ))
    .await;
    let error = get(settings(&server.uri())).await.unwrap().json().unwrap_err();
    assert_eq!(error.to_string(), "secret \"x\" is not valid JSON");
    assert_eq!(error.sqlstate().as_str(), "22032");
    assert!(error.hint().unwrap().contains("get_secret_string"));
    assert!(!all_of(&error).contains(MARKER));
}

#[tokio::test]
async fn not_found() {
    let error =
        get_error(refusal("ResourceNotFoundException", "Secrets Manager can't find the specified secret."))
            .await;
    assert_eq!(error, AwsError::SecretNotFound { secret: "x".into(), region: "us-east-1".into() });
}

#[tokio::test]
async fn no_such_version() {
    let server = server(refusal(
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret value for staging label: AWSPENDING",
    ))
    .await;
    let version = VersionSelector { stage: Some("AWSPENDING".into()), version_id: None };
    let error = Client::new(settings(&server.uri()))
        .get_secret_value(&SecretId::parse("x").unwrap(), &version)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "secret \"x\" has no version with stage \"AWSPENDING\"");
    assert_eq!(error.sqlstate().as_str(), "42704");
}

#[tokio::test]
async fn access_denied() {
    let error = get_error(refusal(
        "AccessDeniedException",
        "User: arn:aws:sts::123456789012:assumed-role/db/i-0 is not authorized to perform: \
         secretsmanager:GetSecretValue on resource: x",
    ))
    .await;
    assert_eq!(error.to_string(), "not authorized to perform secretsmanager:GetSecretValue on secret \"x\"");
    assert_eq!(error.sqlstate().as_str(), "42501");
    assert!(error.detail().unwrap().contains("assumed-role/db"));
    assert!(error.hint().unwrap().contains("secretsmanager:GetSecretValue"));
    assert!(!error.is_unreachable() && !error.is_throttled());
}

#[tokio::test]
async fn kms() {
    for response in [
        refusal("AccessDeniedException", "Access to KMS is not allowed"),
        refusal("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text."),
    ] {
        let error = get_error(response).await;
        assert_eq!(error.to_string(), "KMS could not decrypt secret \"x\"");
        assert!(error.hint().unwrap().contains("kms:Decrypt"));
    }
}

#[tokio::test]
async fn throttled() {
    let error = get_error(refusal("ThrottlingException", "Rate exceeded")).await;
    assert!(error.is_throttled());
    assert_eq!(error.sqlstate().as_str(), "53400");
}

#[tokio::test]
async fn server_faults_are_tried_again() {
    let server = server(answer(500, r#"{"__type":"InternalServiceError","message":"oops"}"#)).await;
    let error = get(Settings { max_attempts: 3, ..settings(&server.uri()) }).await.unwrap_err();
    assert_eq!(error.to_string(), "Secrets Manager failed: InternalServiceError");
    assert!(error.is_unreachable());
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_fault_that_passes_is_not_noticed() {
    let server = MockServer::start().await;
    let fault = answer(503, "<html>no upstream</html>");
    Mock::given(method("POST")).respond_with(fault).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(answer(200, VALUE)).mount(&server).await;
    assert!(get(Settings { max_attempts: 2, ..settings(&server.uri()) }).await.is_ok());
}

#[tokio::test]
async fn marked_for_deletion() {
    for message in [
        "You can't perform this operation on the secret because it was marked for deletion.",
        "An error occurred (InvalidRequestException) when calling the GetSecretValue operation: You can't \
         perform this operation on the secret because it was deleted.",
    ] {
        let error = get_error(refusal("InvalidRequestException", message)).await;
        assert_eq!(error, AwsError::MarkedForDeletion { secret: "x".into() });
    }
}

#[tokio::test]
async fn refused_credentials() {
    for code in ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"] {
        let error = get_error(refusal(code, "x-amz-security-token:hunter2hunter2")).await;
        assert_eq!(error, AwsError::CredentialsRefused { code: code.into() });
        assert_eq!(error.sqlstate().as_str(), "28000");
    }
}

#[tokio::test]
async fn answers_of_something_else() {
    for response in [
        answer(200, "hunter2hunter2"),
        answer(200, ""),
        answer(200, "[1,2]"),
        answer(200, r#"{"Name":"x","SecretString":"hunter2hunter2"}"#),
        answer(200, r#"{"ARN":"a","Name":"x","VersionId":"v","SecretString":"hunter2hunter2"#),
        answer(200, r#"{"ARN":"a","Name":"x","VersionId":"v","SecretString":"hunter2hunter2\q"}"#),
        answer(200, r#"{"ARN":"a","Name":"x","VersionId":"v","SecretString":["hunter2hunter2"]}"#),
        answer(200, r#"{"ARN":"a","Name":"x","VersionId":"v","SecretBinary":"hunter2hunter2!"}"#),
        answer(403, "<html>hunter2hunter2</html>"),
        answer(404, r#"{"message":"hunter2hunter2"}"#),
    ] {
        let shown = format!("{response:?}");
        let error = get_error(response).await;
        assert!(matches!(error, AwsError::BadResponse { .. }), "{shown}: {error:?}");
        assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
    }
}

#[tokio::test]
async fn a_body_cut_short() {
    let endpoint = raw_server(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"Name\":\"x\",\"SecretString\":\"hunter2hunter2",
    )
    .await;
    let error = get(settings(&endpoint)).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
}

#[tokio::test]
async fn not_http_at_all() {
    for response in ["", "hunter2hunter2\r\n\r\n", "HTTP/1.1 hunter2hunter2\r\n\r\n"] {
        let error = get(settings(&raw_server(response).await)).await.unwrap_err();
        assert!(matches!(error, AwsError::Unreachable { .. }), "{error:?}");
        assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let started = Instant::now();
    let error =
        get(Settings { request_timeout: Duration::from_millis(500), max_attempts: 3, ..settings(&endpoint) })
            .await
            .unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(matches!(&error, AwsError::TimedOut { endpoint: Some(e), .. } if *e == endpoint), "{error:?}");
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn a_body_that_never_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 8192]).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"SecretString\":\"hunter2hunter2";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let settings = Settings { request_timeout: Duration::from_millis(300), ..settings(&endpoint) };
    let error = get(settings).await.unwrap_err();
    assert!(matches!(error, AwsError::TimedOut { endpoint: Some(_), .. }), "{error:?}");
    server.abort();
}

/// A connection that is kept keeps its read buffer, and with it the secret.
#[tokio::test]
async fn connections_are_not_kept() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let closed = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 8192]).await;
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{VALUE}", VALUE.len());
        stream.write_all(response.as_bytes()).await.unwrap();
        stream.read(&mut [0; 8192]).await
    });
    let manager = Client::new(settings(&endpoint));
    let id = SecretId::parse("x").unwrap();
    manager.get_secret_value(&id, &VersionSelector::default()).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(2), closed).await;
    assert_eq!(closed.expect("the client hangs up").unwrap().unwrap(), 0);
}

#[tokio::test]
async fn nobody_listens() {
    // Bound and dropped: nobody else is given this port for now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = get(Settings { max_attempts: 2, ..settings(&endpoint) }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("could not reach Secrets Manager at {endpoint}"));
    assert_eq!(error.sqlstate().as_str(), "08001");
    assert!(error.detail().unwrap().contains("refused"), "{error:?}");
}

#[tokio::test]
async fn nobody_accepts() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // With its queue full, Linux lets further connections wait instead of refusing them.
    let mut waiting = Vec::new();
    let more = || tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address));
    while let Ok(Ok(stream)) = more().await {
        waiting.push(stream);
    }
    let settings =
        Settings { connect_timeout: Duration::from_millis(200), ..settings(&format!("http://{address}")) };
    let error = get(settings).await.unwrap_err();
    assert!(matches!(&error, AwsError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.detail().as_deref(), Some("It did not accept the connection in time."));
}

#[tokio::test]
async fn no_such_host() {
    let error = get(settings("http://no-such-host.invalid")).await.unwrap_err();
    assert!(matches!(&error, AwsError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_with_somebody_who_does_not_speak_it() {
    let endpoint = raw_server("HTTP/1.1 400 Bad Request\r\n\r\n").await.replace("http:", "https:");
    let error = get(settings(&endpoint)).await.unwrap_err();
    assert!(matches!(&error, AwsError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn no_credentials() {
    let settings = Settings { profile: Some("empty".into()), ..settings("http://127.0.0.1:1") };
    let error = get(settings).await.unwrap_err();
    assert_eq!(error.to_string(), "no AWS credentials found");
    assert_eq!(error.sqlstate().as_str(), "28000");
    assert!(error.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
}

#[tokio::test]
async fn no_such_profile() {
    let settings = Settings { profile: Some("no-such".into()), ..settings("http://127.0.0.1:1") };
    let error = get(settings).await.unwrap_err();
    assert!(
        matches!(error, AwsError::CredentialsFailed { .. } | AwsError::NoCredentials { .. }),
        "{error:?}"
    );
    assert!(error.detail().unwrap().contains("no-such"), "{error:?}");
}

#[tokio::test]
async fn a_failing_credential_process_is_not_quoted() {
    let settings = Settings { profile: Some("failing-process".into()), ..settings("http://127.0.0.1:1") };
    let error = get(settings).await.unwrap_err();
    assert!(matches!(error, AwsError::CredentialsFailed { .. }), "{error:?}");
    assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
}

#[tokio::test]
async fn a_token_without_end_fails_its_own_profile_alone() {
    let in_profile = |name: &str| Settings { profile: Some(name.into()), ..settings("http://127.0.0.1:1") };
    let error = get(in_profile("token-without-end")).await.unwrap_err();
    assert!(matches!(error, AwsError::CredentialsFailed { .. }), "{error:?}");
    assert!(error.detail().unwrap().contains("/dev/zero is not a plain file"), "{error:?}");
    let error = get(in_profile("with-region")).await.unwrap_err();
    assert!(matches!(error, AwsError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn no_region() {
    let settings = Settings { region: None, ..settings("http://127.0.0.1:1") };
    let error = get(settings).await.unwrap_err();
    assert_eq!(error, AwsError::NoRegion);
    assert!(error.hint().unwrap().contains("secretlink.region"));
}

#[tokio::test]
async fn the_region_of_an_arn_comes_first() {
    let server = MockServer::start().await;
    let regions = ["ap-south-1", "us-east-1", "eu-central-1"];
    for region in regions {
        Mock::given(header_regex("authorization", &format!("/{region}/secretsmanager/")))
            .respond_with(answer(200, &VALUE.replace(r#""Name":"x""#, &format!(r#""Name":"{region}""#))))
            .mount(&server)
            .await;
    }
    let arn = SecretId::parse("arn:aws:secretsmanager:ap-south-1:123456789012:secret:x").unwrap();
    let name = SecretId::parse("x").unwrap();
    let any = VersionSelector::default();
    let mut found = Vec::new();
    let manager = Client::new(settings(&server.uri()));
    found.push(manager.get_secret_value(&arn, &any).await.unwrap().name);
    found.push(manager.get_secret_value(&name, &any).await.unwrap().name);
    let profile = Settings { region: None, profile: Some("with-region".into()), ..settings(&server.uri()) };
    found.push(Client::new(profile).get_secret_value(&name, &any).await.unwrap().name);
    assert_eq!(found, regions);
}

#[tokio::test]
async fn descriptions() {
    let server = MockServer::start().await;
    Mock::given(header("x-amz-target", "secretsmanager.DescribeSecret"))
        .respond_with(answer(
            200,
            r#"{"ARN":"arn","Name":"x","OwningService":"rds","RotationEnabled":true,"CreatedDate":1.7e9,
                "NextRotationDate":1.8e9,"VersionIdsToStages":{"a":["AWSCURRENT"]}}"#,
        ))
        .mount(&server)
        .await;
    let list = || Mock::given(header("x-amz-target", "secretsmanager.ListSecretVersionIds"));
    list()
        .and(body_partial_json(serde_json::json!({"NextToken": "2"})))
        .respond_with(answer(
            200,
            r#"{"Versions":[{"VersionId":"b","VersionStages":["AWSPREVIOUS"]}],"NextToken":""}"#,
        ))
        .with_priority(1)
        .mount(&server)
        .await;
    list()
        .and(body_partial_json(serde_json::json!({"IncludeDeprecated": false})))
        .respond_with(answer(
            200,
            r#"{"Versions":[{"VersionId":"a","VersionStages":["AWSCURRENT"],"CreatedDate":1.7e9}],"NextToken":"2"}"#,
        ))
        .mount(&server)
        .await;
    let manager = Client::new(settings(&server.uri()));
    let secret = manager.describe_secret(&SecretId::parse("x").unwrap()).await.unwrap();
    assert_eq!(secret.owning_service.as_deref(), Some("rds"));
    assert!(secret.rotation_enabled && secret.next_rotation.is_some() && secret.deleted.is_none());
    let ids: Vec<_> = secret.versions.iter().map(|v| (&*v.version_id, &*v.stages[0])).collect();
    assert_eq!(ids, [("a", "AWSCURRENT"), ("b", "AWSPREVIOUS")]);
    assert!(secret.versions[0].created.is_some());
}

#[tokio::test]
async fn writing() {
    let server = MockServer::start().await;
    let value = "\"'\\$ \né";
    Mock::given(header("x-amz-target", "secretsmanager.CreateSecret"))
        .and(body_partial_json(serde_json::json!({"Name": "new", "SecretString": value, "Description": "d"})))
        .respond_with(answer(200, r#"{"ARN":"arn:new","Name":"new","VersionId":"v"}"#))
        .mount(&server)
        .await;
    Mock::given(header("x-amz-target", "secretsmanager.PutSecretValue"))
        .and(body_partial_json(
            serde_json::json!({"SecretId": "new", "SecretString": value, "VersionStages": ["S"]}),
        ))
        .respond_with(answer(200, r#"{"ARN":"arn:new","Name":"new","VersionId":"v2","VersionStages":["S"]}"#))
        .mount(&server)
        .await;
    let manager = Client::new(settings(&server.uri()));
    let new = NewSecret {
        name: "new".into(),
        value: Secret::new(value),
        description: Some("d".into()),
        kms_key_id: None,
        version_id: None,
    };
    assert_eq!(manager.create_secret(new).await.unwrap(), "arn:new");
    let id = SecretId::parse("new").unwrap();
    let put = manager.put_secret_value(&id, Secret::new(value), vec!["S".into()], None).await;
    assert_eq!(put.unwrap(), "v2");
    let put = manager.put_secret_value(&id, Secret::new(value), vec![], None).await;
    assert!(matches!(put, Err(AwsError::InvalidParameter { .. })));
}

#[tokio::test]
async fn writing_fails_without_a_word_of_the_secret() {
    for (code, expected) in [
        ("ResourceExistsException", "42710"),
        ("ValidationException", "22023"),
        ("InvalidParameterException", "22023"),
        ("LimitExceededException", "54000"),
        ("EncryptionFailure", "42501"),
        ("SomethingElse", "58000"),
    ] {
        // Errors that are about the secret's text quote it; the others never do.
        let quotes = !matches!(code, "LimitExceededException" | "EncryptionFailure");
        let message = if quotes { "Value 'hunter2hunter2' at 'secretString' failed" } else { "Too many" };
        let server = server(refusal(code, message)).await;
        let manager = Client::new(settings(&server.uri()));
        let new = NewSecret {
            name: "new".into(),
            value: Secret::new(MARKER),
            description: None,
            kms_key_id: None,
            version_id: None,
        };
        let error = manager.create_secret(new).await.unwrap_err();
        assert_eq!(error.sqlstate().as_str(), expected, "{code}: {error:?}");
        assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
        let id = SecretId::parse("new").unwrap();
        let error =
            manager.put_secret_value(&id, Secret::new(MARKER), vec!["S".into()], None).await.unwrap_err();
        assert!(!all_of(&error).contains(MARKER), "{}", all_of(&error));
    }
}
