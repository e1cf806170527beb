//! Reading a secret.

use crate::session::{api, log_in, refused, session, text};
use secretlink_e2e::{Stage, unique};
use serde_json::json;

#[test]
fn a_secret_is_read_by_its_name_its_arn_and_its_partial_arn() {
    let name = unique("prod/orders");
    let arn = api().create_secret(&name, r#"{"password": "p", "n": [1, 2]}"#);
    let (partial, _) = arn.rsplit_once('-').unwrap();
    let mut client = session();
    for id in [name.as_str(), &arn, partial] {
        let value = text(&mut client, "SELECT get_secret_value($1)::text", &[id]);
        assert_eq!(value, r#"{"password": "p", "n": [1, 2]}"#, "{id}: as it is stored, to the space");
        assert_eq!(text(&mut client, "SELECT get_secret_value($1) -> 'n' ->> 1", &[id]), "2");
        assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[id]), value);
        assert_eq!(text(&mut client, "SELECT name FROM describe_secret($1)", &[id]), name);
    }
}

#[test]
fn a_version_is_chosen_by_stage_and_by_id() {
    let (api, name) = (api(), unique("versions"));
    api.create_secret(&name, "one");
    let two = api.put_secret_value(&name, "two", &["AWSCURRENT"]);
    let three = api.put_secret_value(&name, "three", &["AWSPENDING"]);
    let mut client = session();
    let mut read = |stage: Option<&str>, id: Option<&str>| -> String {
        client.query_one("SELECT get_secret_string($1, $2, $3)", &[&name, &stage, &id]).unwrap().get(0)
    };
    assert_eq!(read(None, None), "two");
    assert_eq!(read(Some("AWSCURRENT"), None), "two");
    assert_eq!(read(Some("AWSPREVIOUS"), None), "one");
    assert_eq!(read(Some("AWSPENDING"), None), "three");
    assert_eq!(read(None, Some(&two)), "two");
    assert_eq!(read(Some("AWSPENDING"), Some(&three)), "three");

    let lacks = |what: &str| format!("secret \"{name}\" has no version with {what}");
    let none = "00000000-0000-0000-0000-000000000000";
    for (arguments, message) in [
        (format!("version_id => '{none}'"), lacks(&format!("id \"{none}\""))),
        (
            format!("version_stage => 'AWSPENDING', version_id => '{two}'"),
            lacks(&format!("id \"{two}\" and stage \"AWSPENDING\"")),
        ),
    ] {
        let sql = format!("SELECT get_secret_string('{name}', {arguments})");
        refused(&mut client, &sql, "42704", &message, "describe_secret");
    }
}

#[test]
fn a_full_arn_is_asked_for_in_its_own_region() {
    let name = unique("regional");
    let irish =
        api().in_region("eu-west-1").create_login_secret(&name, "app", Stage::shared().remote.app_password());
    assert!(irish.contains(":eu-west-1:"), "{irish}");
    let mut client = session();
    client.batch_execute("SET secretlink.region = 'us-east-1'").unwrap();
    assert_eq!(text(&mut client, "SELECT get_secret_value($1) ->> 'username'", &[&irish]), "app");
    assert_eq!(text(&mut client, "SELECT arn FROM describe_secret($1)", &[&irish]), irish);
    assert_eq!(log_in(&mut client, &irish), "app");
    text(&mut client, r#"SELECT put_secret_value($1, '"new"')"#, &[&irish]);
    assert_eq!(api().in_region("eu-west-1").get_secret_value(&name).unwrap(), "\"new\"");

    let sql = format!("SELECT get_secret_value('{name}')");
    let message = format!("secret \"{name}\" not found in region us-east-1");
    refused(&mut client, &sql, "42704", &message, "secretlink.region");
    let gone = irish.replace("eu-west-1", "eu-north-1");
    let message = format!("secret \"{gone}\" not found in region eu-north-1");
    refused(&mut client, &format!("SELECT get_secret_value('{gone}')"), "42704", &message, "");
}

#[test]
fn a_value_that_is_not_json_is_an_error_that_names_get_secret_string() {
    let mut client = session();
    for value in ["plain text", "{\"a\": }", "", "'", "{} {}", "\u{feff}{}", "{'a': 1}", "nul", "\"a\nb\""] {
        if value.is_empty() {
            continue; // Secrets Manager stores no empty value.
        }
        let name = unique("not-json");
        api().create_secret(&name, value);
        let message = format!("secret \"{name}\" is not valid JSON");
        let sql = format!("SELECT get_secret_value('{name}')");
        refused(&mut client, &sql, "22032", &message, "get_secret_string");
        assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), value);
        let sql = format!("SELECT connect_with_secret('{name}', '127.0.0.1')");
        refused(&mut client, &sql, "22032", &message, "");
    }
}

#[test]
fn a_binary_secret_is_read_as_bytes_and_only_so() {
    let name = unique("binary");
    let input = json!({ "Name": name, "SecretBinary": "AAH/IidcJA==" });
    api().call("CreateSecret", input).unwrap();
    let mut client = session();
    let bytes: Vec<u8> = client.query_one("SELECT get_secret_binary($1)", &[&name]).unwrap().get(0);
    assert_eq!(bytes, b"\x00\x01\xff\"'\\$");
    for function in ["get_secret_string", "get_secret_value", "connect_with_secret"] {
        let message = format!("secret \"{name}\" is binary");
        let sql = format!("SELECT {function}('{name}')");
        refused(&mut client, &sql, "42809", &message, "get_secret_binary");
    }
    let name = unique("not-binary");
    api().create_secret(&name, "text");
    let sql = format!("SELECT get_secret_binary('{name}')");
    refused(&mut client, &sql, "42809", &format!("secret \"{name}\" is not binary"), "get_secret_string");
}

#[test]
fn a_deleted_secret_is_marked_for_deletion() {
    let (mut client, name) = (session(), unique("deleted"));
    api().create_login_secret(&name, "app", "p");
    api().delete_secret(&name, false);
    let message = format!("secret \"{name}\" is marked for deletion");
    for call in ["get_secret_value", "get_secret_string", "connect_with_secret"] {
        let sql = format!("SELECT {call}('{name}')");
        refused(&mut client, &sql, "55000", &message, "RestoreSecret");
    }
    let deleted = text(&mut client, "SELECT count(deleted)::text FROM describe_secret($1)", &[&name]);
    assert_eq!(deleted, "1", "describe_secret says when");
}
