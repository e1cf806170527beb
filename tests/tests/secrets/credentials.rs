//! Where credentials and the region come from.

use crate::session::{api, refused, session, text};
use secretlink_e2e::{Cluster, OsUser, ScriptedEndpoint, Stage, db_error, unique};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn without_credentials_the_error_says_where_they_are_looked_for() {
    let local = Cluster::local(&Stage::shared().moto)
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .start();
    let mut client = local.connect("postgres", "postgres");
    refused(
        &mut client,
        "SELECT get_secret_value('x')",
        "28000",
        "no AWS credentials found",
        "AWS_ACCESS_KEY_ID",
    );
}

#[test]
fn without_a_region_the_error_names_the_setting() {
    let name = unique("no-region");
    let arn = api().create_secret(&name, "1");
    let mut client = session();
    client.batch_execute("SET secretlink.region = ''").unwrap();
    let sql = format!("SELECT get_secret_value('{name}')");
    refused(&mut client, &sql, "55000", "no AWS region is set", "secretlink.region");
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&arn]), "1", "an ARN names a region");
}

/// A server whose only credentials are in profile files.
fn with_profiles(endpoint: &ScriptedEndpoint) -> Cluster {
    let local = Cluster::local_with_endpoint(&endpoint.url())
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .start();
    let home = local.socket_dir().with_file_name("home");
    let aws = home.join(".aws");
    fs::create_dir(&aws).unwrap();
    let process = home.join("give-credentials");
    let answer =
        r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}"#;
    fs::write(&process, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&process, fs::Permissions::from_mode(0o755)).unwrap();
    let credentials = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
                       [other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\n";
    fs::write(aws.join("credentials"), credentials).unwrap();
    let config = format!(
        "[profile other]\nregion = eu-west-3\n[profile process]\ncredential_process = {}\n",
        process.display()
    );
    fs::write(aws.join("config"), config).unwrap();
    for path in [&aws, &aws.join("credentials"), &aws.join("config"), &process] {
        OsUser::for_servers().own(path);
    }
    local
}

#[test]
fn credentials_come_from_a_profile_file_and_from_credential_process() {
    let endpoint = ScriptedEndpoint::start();
    let answer = json!({ "ARN": "arn:x", "Name": "x", "VersionId": "v", "SecretString": "1" });
    endpoint.answer(200, &answer.to_string());
    let local = with_profiles(&endpoint);
    let mut client = local.connect("postgres", "postgres");
    for (profile, region, scope) in [
        ("", "us-east-1", "Credential=AKIADEFAULT/"),
        ("other", "us-east-1", "Credential=AKIAOTHER/"),
        ("process", "us-east-1", "Credential=AKIAPROCESS/"),
        // The profile's own region counts when the setting is empty.
        ("other", "", "/eu-west-3/secretsmanager/aws4_request"),
    ] {
        client
            .batch_execute(&format!(
                "SET secretlink.profile = '{profile}'; SET secretlink.region = '{region}'"
            ))
            .unwrap();
        assert_eq!(text(&mut client, "SELECT get_secret_string('x')", &[]), "1");
        let request = endpoint.requests().pop().unwrap();
        assert!(request.contains(scope), "profile {profile:?}: {request}");
    }
    client.batch_execute("SET secretlink.profile = 'no-such'; SET secretlink.region = 'us-east-1'").unwrap();
    let error = db_error(client.simple_query("SELECT get_secret_string('x')"));
    assert_eq!(error.code().code(), "28000", "{error:?}");
    assert!(format!("{error:?}").contains("no-such"), "{error:?}");
}
