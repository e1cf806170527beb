//! Secrets that are not ours to change: told before anything changes.

use crate::ground::{Ground, api, ground};
use crate::synced_role::SyncedRole;
use postgres::error::DbError;
use secretlink_e2e::{Fault, random_password, unique};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// That a change is refused, and has changed nothing.
#[track_caller]
fn refused(role: &SyncedRole<'_>, sqlstate: &str, message: &str) -> DbError {
    let before = role.versions();
    let mut session = role.ground.session();
    let error = session.refused(&role.alter().0, sqlstate, &role.secret);
    assert!(error.detail().unwrap_or_default().contains(message), "{error:?}");
    assert_eq!(role.ground.relay.count(&role.secret, "PutSecretValue"), 0);
    assert_eq!(role.versions(), before);
    error
}

/// A synced role whose secret is made by `input`.
fn role_with<'a>(ground: &'a Ground, mut input: serde_json::Value) -> (SyncedRole<'a>, String) {
    let role = unique("refused").replace('-', "_");
    let (secret, password) = (format!("sync/{role}"), random_password());
    input["Name"] = json!(secret);
    input["SecretString"] = json!({ "username": role, "password": password }).to_string().into();
    api().call("CreateSecret", input).unwrap();
    (ground.labelled_role(&role, &secret, &password), password)
}

#[test]
fn a_secret_of_another_service_is_named_with_its_owner() {
    let owner = json!({ "Tags": [{ "Key": "aws:secretsmanager:owningService", "Value": "rds" }] });
    let (role, password) = role_with(ground(), owner);
    let error = refused(&role, "55000", "rds");
    assert!(error.hint().is_some(), "{error:?}");
    role.assert_password(&password);
    // Its name tells, too, whether it is there or not.
    let mut session = ground().session();
    let error = session.refused(&format!("SELECT sync_role('{}', 'rds!db-1')", role.name), "55000", "");
    assert_eq!(error.detail(), Some("Secret \"rds!db-1\" is managed by rds."));
}

#[test]
fn a_secret_marked_for_deletion() {
    let role = ground().synced_role("deleted");
    let password = role.password();
    api().delete_secret(&role.secret, false);
    let error = refused(&role, "55000", "marked for deletion");
    assert!(error.hint().unwrap_or_default().contains("RestoreSecret"), "{error:?}");
    api().call("RestoreSecret", json!({ "SecretId": role.secret })).unwrap();
    role.assert_password(&password);
    let (sql, password) = role.alter();
    role.ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn a_replica_is_named_with_its_primary_region() {
    let (role, password) = role_with(ground(), json!({ "AddReplicaRegions": [{ "Region": "eu-west-1" }] }));
    let mut session = role.ground.session();
    session.run("SET secretlink.region = 'eu-west-1'");
    let error = session.refused(&role.alter().0, "55000", &role.secret);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("replica") && detail.contains("us-east-1"), "{error:?}");
    assert_eq!(role.ground.relay.count(&role.secret, "PutSecretValue"), 0);
    role.assert_password(&password);
}

#[test]
fn somebody_elses_rotation_in_progress_is_not_disturbed() {
    let role = ground().synced_role("rotating");
    let password = role.password();
    let theirs = api().put_secret_value(
        &role.secret,
        &json!({ "username": role.name, "password": "theirs" }).to_string(),
        &["AWSPENDING"],
    );
    refused(&role, "55006", "AWSPENDING");
    assert_eq!(api().version_at(&role.secret, "AWSPENDING").as_ref(), Some(&theirs));
    assert_eq!(role.password(), password);
    role.try_log_in().unwrap();
    // The worker does not touch it either.
    std::thread::sleep(crate::ground::RECONCILE_INTERVAL * 2);
    assert_eq!(api().version_at(&role.secret, "AWSPENDING").as_ref(), Some(&theirs));

    // AWS leaves AWSPENDING on a version that has become AWSCURRENT: that rotation is over.
    let current = api().version_at(&role.secret, "AWSCURRENT").unwrap();
    api().move_label(&role.secret, "AWSCURRENT", Some(&current), Some(&theirs)).unwrap();
    // Nor is it in the way of later ones, of ours or of AWS's: the label goes when another version becomes current.
    for _ in 0..3 {
        let (sql, password) = role.alter();
        role.ground.session().run_quietly(&sql);
        assert_eq!(role.password(), password);
        role.try_log_in().unwrap();
        assert_eq!(api().version_at(&role.secret, "AWSPENDING"), None);
    }
    assert_eq!(role.check(), "in_sync");
}

#[test]
fn a_label_that_cannot_be_cleared_fails_no_change() {
    let role = ground().synced_role("label");
    let value = json!({ "username": role.name, "password": role.password() }).to_string();
    let rotated = api().put_secret_value(&role.secret, &value, &["AWSCURRENT", "AWSPENDING"]);
    role.ground.relay.rule(&role.secret, |request| match request.input["VersionStage"].as_str() {
        Some("AWSPENDING") => Fault::Refuse(400, "ThrottlingException"),
        _ => Fault::None,
    });
    let (sql, password) = role.alter();
    role.ground.session().run_quietly(&sql);
    assert_eq!(role.password(), password);
    role.try_log_in().unwrap();
    assert_eq!(api().version_at(&role.secret, "AWSPENDING"), Some(rotated));
    // The next change takes it away.
    role.ground.relay.pass(&role.secret);
    let (sql, password) = role.alter();
    role.ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn a_rotation_that_is_over_is_in_nobodys_way_whoever_makes_the_next_version() {
    // A version that is current and has AWSPENDING, as AWS leaves it.
    let rotated = |role: &SyncedRole<'_>| {
        let value = json!({ "username": role.name, "password": role.password(), "note": "rotated" });
        let labels = ["AWSCURRENT", "AWSPENDING"];
        api().put_secret_value(&role.secret, &value.to_string(), &labels)
    };
    let change = |role: &SyncedRole<'_>| {
        let (sql, password) = role.alter();
        role.ground.session().run_quietly(&sql);
        assert_eq!(role.password(), password);
        role.try_log_in().unwrap();
    };
    // A field is changed, twice.
    let role = ground().synced_role("field");
    rotated(&role);
    for note in ["first", "second"] {
        role.ground.session().run(&format!("SELECT put_secret_field('{}', 'note', '{note}')", role.secret));
    }
    change(&role);
    // Somebody has made another version current: that rotation is over all the same.
    let role = ground().synced_role("edited");
    let theirs = rotated(&role);
    let value = json!({ "username": role.name, "password": role.password() });
    let edited = api().put_secret_value(&role.secret, &value.to_string(), &["EDITED"]);
    api().move_label(&role.secret, "AWSCURRENT", Some(&theirs), Some(&edited)).unwrap();
    assert_eq!(api().version_at(&role.secret, "AWSPENDING"), Some(theirs));
    change(&role);
    assert_eq!(api().version_at(&role.secret, "AWSPENDING"), None);
    // A change that is rolled back changes nothing else; and one begins while the label goes.
    let role = ground().synced_role("overtaken");
    rotated(&role);
    role.ground.session().run(&format!("BEGIN; {}; ROLLBACK", role.alter().0));
    role.try_log_in().unwrap();
    let (secret, name) = (role.secret.clone(), role.name.clone());
    let begun = Arc::new(Mutex::new(None));
    role.ground.relay.rule(&role.secret, {
        let begun = Arc::clone(&begun);
        move |request| {
            if request.operation == "UpdateSecretVersionStage"
                && request.input["VersionStage"] == "AWSPENDING"
            {
                let value = json!({ "username": name, "password": "theirs" });
                let version = api().put_secret_value(&secret, &value.to_string(), &["AWSPENDING"]);
                *begun.lock().unwrap() = Some(version);
            }
            Fault::None
        }
    });
    change(&role);
    let begun = begun.lock().unwrap().take();
    assert!(begun.is_some());
    assert_eq!(api().version_at(&role.secret, "AWSPENDING"), begun, "a new rotation keeps its label");
}

#[test]
fn a_rotation_that_has_staged_this_very_password_goes_on() {
    // The steps of a rotation from outside: create the secret's version, set the password, finish.
    let role = ground().synced_role("rotation");
    let (sql, password) = role.alter();
    let value = json!({ "username": role.name, "password": password });
    let theirs = api().put_secret_value(&role.secret, &value.to_string(), &["AWSPENDING"]);
    role.ground.session().run_quietly(&sql);
    assert_eq!(role.password(), password);
    assert_eq!(api().version_at(&role.secret, "AWSCURRENT"), Some(theirs));
    assert_eq!(role.ground.relay.count(&role.secret, "PutSecretValue"), 0);
    role.try_log_in().unwrap();
}

#[test]
fn a_binary_secret_is_refused() {
    let role = unique("binary").replace('-', "_");
    let secret = format!("sync/{role}");
    api().call("CreateSecret", json!({ "Name": secret, "SecretBinary": "AAEC" })).unwrap();
    let role = ground().labelled_role(&role, &secret, &random_password());
    refused(&role, "42809", "binary");
}

#[test]
fn a_password_too_large_for_its_secret_is_refused() {
    let role = unique("large").replace('-', "_");
    let (secret, password) = (format!("sync/{role}"), random_password());
    let filler = "x".repeat(65_536 - 200);
    api().create_secret(
        &secret,
        &json!({ "username": role, "password": password, "filler": filler }).to_string(),
    );
    let role = ground().synced_role_with_secret(&role, &secret, &password);
    let mut session = role.ground.session();
    session.refused(&role.alter_to(&random_password().repeat(20)), "54000", &role.secret);
    role.assert_password(&password);
}
