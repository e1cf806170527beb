//! What a secret holds, and what Secrets Manager says of it.

use crate::ground::{api, ground};
use crate::trial::Trial;
use secretlink_e2e::{Mode, Proxy, ScriptedEndpoint, unique};
use serde_json::json;

#[test]
fn a_secret_that_is_no_login_shows_nothing_of_itself() {
    let mut trial = Trial::new();
    for (value, expected) in [
        (r#"{"password": "MARKER"#, "is not valid JSON"),
        (r#"{"password": "MARKER""#, "is not valid JSON"),
        (r#"{"password": MARKER}"#, "is not valid JSON"),
        (r#"{"password": "MARKER\q"}"#, "is not valid JSON"),
        (r#"{"password": "MARKER"} MARKER"#, "is not valid JSON"),
        ("MARKER", "is not valid JSON"),
        (r#"["MARKER"]"#, "is not a JSON object"),
        (r#"{"username": "u", "host": "h", "password": ["MARKER"]}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": {"MARKER": 1}}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": "MARKER\u0000"}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": "MARKER", "port": "MARKER"}"#, "field \"port\""),
        (r#"{"username": ["MARKER"], "host": "h", "password": "MARKER"}"#, "field \"username\""),
        (r#"{"username": "u", "host": "h", "pasword": "MARKER"}"#, "has no password field"),
        (r#"{"username": "u", "password": "MARKER"}"#, "has no host field"),
        (r#"{"host": "h", "password": "MARKER"}"#, "has no username field"),
        // A password in the place of something else, but still to be seen as one.
        (
            r#"{"username": "u", "host": "h password=MARKER", "password": "x"}"#,
            "contains a connection string",
        ),
        (r#"{"username": "u", "host": "u:MARKER@h", "password": "x"}"#, "host name number 1"),
        (
            r#"{"username": "u", "dbname": "postgres://u:MARKER@h", "host": "h", "password": "x"}"#,
            "contains a connection string",
        ),
    ] {
        let secret = trial.secret(value);
        trial.fails(&format!("SELECT connect_with_secret('{secret}')"), expected);
        if expected == "is not valid JSON" {
            trial.fails(&format!("SELECT get_secret_value('{secret}')"), expected);
        }
    }
    let input = json!({ "Name": unique("binary"), "SecretBinary": "AAAA" });
    let binary = api().call("CreateSecret", input).unwrap()["Name"].as_str().unwrap().to_owned();
    trial.fails(&format!("SELECT get_secret_string('{binary}')"), "is binary");
    let text = trial.secret("MARKER");
    trial.fails(&format!("SELECT get_secret_binary('{text}')"), "is not binary");
    trial.end();
}

/// Refusals that quote what they refuse, as validation does, and answers that break off in the
/// middle of the secret.
#[test]
fn an_answer_of_aws_that_repeats_the_secret_is_not_repeated() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let endpoint = ScriptedEndpoint::start();
    let set = format!("SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1", endpoint.url());
    trial.client.batch_execute(&set).unwrap();

    let value = format!(r#"{{"password": "{marker}"}}"#);
    let quoted = format!(
        "1 validation error detected: Value '{value}' at 'secretString' failed to satisfy constraint"
    );
    for code in [
        "ValidationException",
        "InvalidParameterException",
        "InternalServiceError",
        "SomethingNew",
        "InvalidSignatureException",
        "ResourceExistsException",
    ] {
        endpoint.refuse(code, &quoted);
        trial.fails_with("SELECT create_secret('x', $1::text::json)", &[&value]);
        trial.fails_with("SELECT put_secret_value('x', $1::text::json)", &[&value]);
    }
    assert!(endpoint.requests().iter().all(|request| request.contains(&marker)), "it was sent");

    let answer = json!({ "ARN": "a", "Name": "x", "VersionId": "v", "SecretString": value }).to_string();
    for body in [
        &answer[..answer.len() - 1],
        &answer[..answer.find(&marker).unwrap() + marker.len() + 2],
        &answer.replace("\"Name\":\"x\",", ""),
        &answer.replace("\"VersionId\":\"v\"", &format!("\"VersionId\":\"{marker}")),
        &answer.replace("SecretString", "SecretStrings"),
        &answer.replace("\"a\"", &format!("[\"{marker}\"]")),
        &format!("<html>{marker}</html>"),
    ] {
        for status in [200, 400, 500] {
            endpoint.answer(status, body);
            trial.fails_with("SELECT get_secret_value('x')", &[]);
            trial.fails_with("SELECT connect_with_secret('x', 'h')", &[]);
        }
    }
    endpoint.answer_raw(format!("HTTP/1.1 200 OK\r\nx: {marker}\0\r\n\r\n").as_bytes());
    trial.fails_with("SELECT get_secret_value('x')", &[]);
    endpoint.answer_raw(marker.as_bytes());
    trial.fails_with("SELECT get_secret_value('x')", &[]);
    trial.end();
}

#[test]
fn a_secret_that_cannot_be_stored_is_not_shown() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let value = format!(r#"{{"password": "{marker}"}}"#);
    let there = trial.secret("MARKER");
    trial.fails_with("SELECT create_secret($1, $2::text::json)", &[&there, &value]);
    trial.fails_with("SELECT create_secret('not a name', $1::text::json)", &[&value]);
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json)", &[&value]);
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json, '{}')", &[&value]);
    let long = json!(marker.repeat(3000)).to_string();
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json)", &[&long]);
    trial.client.batch_execute("SET secretlink.endpoint_url = 'http://127.0.0.1:1'").unwrap();
    trial.fails_with("SELECT create_secret('x', $1::text::json)", &[&value]);
    trial.end();
}

#[test]
fn an_answer_of_aws_cut_at_any_byte_shows_nothing() {
    let mut trial = Trial::new();
    let secret = trial.login("app");
    let proxy = Proxy::to(ground().moto.port());
    let set =
        format!("SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1", proxy.endpoint());
    trial.client.batch_execute(&set).unwrap();
    let get = format!("SELECT get_secret_string('{secret}')");
    let connect = format!("SELECT connect_with_secret('{secret}', '127.0.0.1', remote_port => 1)");
    let mut cut = 0;
    for length in (1..1000).step_by(37) {
        proxy.set(Mode::CutAfter(length));
        // The answer is somewhat longer than 400 bytes: beyond, the secret itself may arrive.
        if trial.client.query_one(&get, &[]).is_err() {
            cut += 1;
        }
        trial.fails_with(&connect, &[]);
    }
    assert!((8..25).contains(&cut), "{cut}: some answers are cut and some are not");
    trial.end();
}
