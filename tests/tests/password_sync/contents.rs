//! What a change leaves of the rest of the secret.

use crate::ground::{Ground, api, ground};
use crate::synced_role::SyncedRole;
use secretlink_e2e::{random_password, unique};
use serde_json::json;

/// A synced role whose secret is `text`, in which ROLE and PASSWORD stand for themselves.
fn role_with<'a>(ground: &'a Ground, text: &str) -> (SyncedRole<'a>, String) {
    let role = unique("content").replace('-', "_");
    let secret = format!("sync/{role}");
    let password = random_password();
    api().create_secret(&secret, &text.replace("ROLE", &role).replace("PASSWORD", &password));
    (ground.synced_role_with_secret(&role, &secret, &password), password)
}

#[test]
fn every_other_field_stays_as_it_is() {
    for text in [
        r#"{"engine":"postgres","host":"db.example.com","username":"ROLE","password":"PASSWORD","dbname":"app","port":5432}"#,
        // Numbers that no float holds, fields in no order, names and values that need care.
        r#"{"z":123456789012345678901234567890,"a":0.10000000000000000000000000001,"m":1E+22,"username":"ROLE","password":"PASSWORD","M":-0,"":null}"#,
        r#"{"password":"PASSWORD","nested":{"password":"not this","username":["nor","this"]},"username":"ROLE","text":"\"password\":\"no\"","é":"€🔑","slash":"a/b"}"#,
        r#"{"username":"ROLE","password":"PASSWORD"}"#,
    ] {
        let (role, old) = role_with(ground(), text);
        let before = role.current();
        let (sql, password) = role.alter();
        ground().session().run_quietly(&sql);
        assert_eq!(role.current(), before.replace(&old, &password));
        role.assert_in_sync();
    }
}

#[test]
fn a_secret_made_by_hand_with_spaces_and_lines_stays_the_same_json() {
    let (role, old) = role_with(
        ground(),
        "{\n  \"username\": \"ROLE\",\n  \"big\": 18446744073709551617,\n  \"password\": \"PASSWORD\"\n}\n",
    );
    let before = role.current();
    let (sql, password) = role.alter();
    ground().session().run_quietly(&sql);
    let plain = |text: &str| text.replace([' ', '\n'], "");
    assert_eq!(plain(&role.current()), plain(&before).replace(&old, &password));
    role.assert_in_sync();
}

#[test]
fn a_secret_that_is_a_plain_string_is_replaced() {
    for text in ["PASSWORD", "\"PASSWORD", "{ \"not json\": PASSWORD"] {
        let (role, _) = role_with(ground(), text);
        let (sql, password) = role.alter();
        ground().session().run_quietly(&sql);
        assert_eq!(role.current(), password, "{text}");
        role.assert_in_sync();
    }
}

#[test]
fn fields_that_are_missing_are_added() {
    let (role, _) = role_with(ground(), r#"{"host":"db.example.com"}"#);
    let (sql, password) = role.alter();
    ground().session().run_quietly(&sql);
    let current: serde_json::Value = serde_json::from_str(&role.current()).unwrap();
    assert_eq!((&current["host"], &current["password"]), (&json!("db.example.com"), &json!(password)));
    role.assert_in_sync();
}
