//! What `describe_secret` says.

use crate::session::{api, session};
use secretlink_e2e::{ScriptedEndpoint, db_error, unique};
use serde_json::{Value, json};

#[test]
fn describe_secret_has_one_row_for_each_version() {
    let (mut client, name) = (session(), unique("described"));
    let input =
        json!({ "Name": name, "SecretString": "1", "Description": "what for", "KmsKeyId": "alias/k" });
    let arn = api().call("CreateSecret", input).unwrap()["ARN"].as_str().unwrap().to_owned();
    let pending = api().put_secret_value(&name, "2", &["AWSPENDING"]);
    let rows = client
        .query(
            "SELECT arn, name, version_id, stages, description, kms_key_id, rotation_enabled,
                    created BETWEEN now() - interval '10 min' AND now() + interval '1 min' AS fresh,
                    owning_service IS NULL AND next_rotation IS NULL AND last_rotated IS NULL
                        AND deleted IS NULL AS nulls
             FROM describe_secret($1) ORDER BY stages",
            &[&name],
        )
        .unwrap();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.get::<_, String>("arn"), row.get::<_, String>("name")), (arn.clone(), name.clone()));
        assert_eq!((row.get("description"), row.get("kms_key_id")), (Some("what for"), Some("alias/k")));
        assert!(!row.get::<_, bool>("rotation_enabled"));
        assert!(row.get::<_, bool>("fresh") && row.get::<_, bool>("nulls"), "{row:?}");
    }
    assert_eq!(rows[0].get::<_, Vec<String>>("stages"), ["AWSCURRENT"]);
    assert_eq!(rows[1].get::<_, Vec<String>>("stages"), ["AWSPENDING"]);
    assert_eq!(rows[1].get::<_, String>("version_id"), pending);

    let columns: Vec<String> = client
        .query_one("SELECT proargnames FROM pg_proc WHERE proname = 'describe_secret'", &[])
        .unwrap()
        .get(0);
    let promised = [
        "arn",
        "name",
        "version_id",
        "stages",
        "created",
        "owning_service",
        "rotation_enabled",
        "next_rotation",
    ];
    assert_eq!(columns[1..9], promised, "the order is a contract");
}

#[test]
fn describe_secret_of_a_managed_and_rotated_secret() {
    let endpoint = ScriptedEndpoint::start();
    // One answer for both calls, DescribeSecret and ListSecretVersionIds: each takes its own fields.
    let answer = json!({
        "ARN": "arn:x", "Name": "rds!db-1", "OwningService": "rds", "RotationEnabled": true,
        "NextRotationDate": 1_800_000_000.5, "LastRotatedDate": 1_700_000_000, "DeletedDate": 1_750_000_000,
        "PrimaryRegion": "us-west-2",
        "Versions": [{ "VersionId": "v1", "VersionStages": ["AWSCURRENT", "MINE"], "CreatedDate": 1_700_000_000.25 }],
    });
    endpoint.answer(200, &answer.to_string());
    let mut client = session();
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", endpoint.url())).unwrap();
    let row =
        client.query_one("SELECT row_to_json(d)::text FROM describe_secret('rds!db-1') d", &[]).unwrap();
    let row: Value = serde_json::from_str(row.get(0)).unwrap();
    assert_eq!(row["owning_service"], "rds");
    assert_eq!(row["rotation_enabled"], true);
    assert_eq!(row["stages"], json!(["AWSCURRENT", "MINE"]));
    assert_eq!(row["primary_region"], "us-west-2");
    for (column, time) in [
        ("created", "2023-11-14T22:13:20.25+00:00"),
        ("last_rotated", "2023-11-14T22:13:20+00:00"),
        ("next_rotation", "2027-01-15T08:00:00.5+00:00"),
        ("deleted", "2025-06-15T15:06:40+00:00"),
    ] {
        assert_eq!(row[column], time, "{column}");
    }
}

#[test]
fn list_secrets_has_those_whose_name_begins_so() {
    let (mut client, prefix) = (session(), unique("list"));
    let names: Vec<String> = (0..120).map(|number| format!("{prefix}/{number:03}")).collect();
    for name in names.iter().rev() {
        api().create_secret(name, "1");
    }
    api().create_secret(&unique("other"), "1");
    api().call("DeleteSecret", json!({ "SecretId": names[3], "RecoveryWindowInDays": 7 })).unwrap();
    let rows = client
        .query(
            "SELECT name, arn LIKE 'arn:aws:secretsmanager:us-east-1:%' AS arn, deleted IS NOT NULL AS deleted,
                    created BETWEEN now() - interval '10 min' AND now() + interval '1 min' AS fresh,
                    rotation_enabled
             FROM list_secrets($1)",
            &[&prefix],
        )
        .unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get("name")).collect();
    assert_eq!(found, names, "sorted, on two pages, with the one whose deletion was asked for");
    for (number, row) in rows.iter().enumerate() {
        assert!(row.get::<_, bool>("arn") && row.get::<_, bool>("fresh"), "{row:?}");
        assert_eq!(row.get::<_, bool>("deleted"), number == 3);
        assert!(!row.get::<_, bool>("rotation_enabled"));
    }
    let all: i64 = client.query_one("SELECT count(*) FROM list_secrets()", &[]).unwrap().get(0);
    assert!(all > 120);
    let none: i64 =
        client.query_one("SELECT count(*) FROM list_secrets($1)", &[&prefix.to_uppercase()]).unwrap().get(0);
    assert_eq!(none, 0, "a name has capital and small letters");
}

#[test]
fn list_secrets_that_aws_refuses() {
    let endpoint = ScriptedEndpoint::start();
    endpoint.answer(400, r#"{"__type":"AccessDeniedException","Message":"no"}"#);
    let mut client = session();
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", endpoint.url())).unwrap();
    let error = db_error(client.simple_query("SELECT * FROM list_secrets('prod/')"));
    assert_eq!(error.code().code(), "42501");
    assert!(error.hint().unwrap().contains("secretsmanager:ListSecrets"), "{error:?}");
}
