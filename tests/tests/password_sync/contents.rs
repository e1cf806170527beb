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
    for text in ["PASSWORD", "PASSWORD\n", "something else", "q83vEjRWeJCrze8SNFZ4kA==", "a=b"] {
        let (role, _) = role_with(ground(), text);
        let (sql, password) = role.alter();
        ground().session().run_quietly(&sql);
        assert_eq!(role.current(), password, "{text}");
        role.assert_in_sync();
    }
    // The role's own password is one, however it looks.
    for odd in ["{\"a\":", "[x", "\"PASSWORD\"", "password=x", "a://b"] {
        let (role, _) = role_with(ground(), "PASSWORD");
        for password in [odd, "plain-1"] {
            ground().session().run_quietly(&role.alter_to(password));
            assert_eq!(role.current(), password);
            ground().log_in(&role.name, password).unwrap();
            assert_eq!(role.check(), "in_sync", "{odd}");
        }
    }
}

#[test]
fn what_was_not_written_by_a_machine_is_not_replaced() {
    for text in [
        "\u{feff}{\"username\":\"ROLE\",\"password\":\"PASSWORD\"}",
        "{\"username\":\"ROLE\",\"password\":\"PASSWORD\",}",
        "{ \"not json\": PASSWORD",
        "{'username':'ROLE','password':'PASSWORD'}",
        "[{\"username\":\"ROLE\",\"password\":\"PASSWORD\"}]",
        "\"{\\\"username\\\":\\\"ROLE\\\",\\\"password\\\":\\\"PASSWORD\\\"}\"",
        "USERNAME=ROLE\nPASSWORD=PASSWORD\n",
        "host=db.example.com user=ROLE password=PASSWORD",
        "postgresql://ROLE:PASSWORD@db.example.com/app",
        "ROLE\nPASSWORD",
        "ROLE:PASSWORD",
        "ROLE\tPASSWORD",
        "db.example.com:5432:app:ROLE:PASSWORD",
        "<db user='ROLE' password='PASSWORD'/>",
        "eyJ1c2VybmFtZSI6ICJ1IiwgInBhc3N3b3JkIjogInAifQ==",
        "\u{200b}{\"username\":\"ROLE\",\"password\":\"PASSWORD\"}",
        "{\"username\":\"ROLE\",\"password\":[\"PASSWORD\"]}",
        "{\"username\":[\"ROLE\"],\"password\":\"PASSWORD\"}",
    ] {
        let role = unique("notes").replace('-', "_");
        let (secret, password) = (format!("sync/{role}"), random_password());
        let text = text.replace("ROLE", &role).replace("PASSWORD", &password);
        api().create_secret(&secret, &text);
        let role = ground().labelled_role(&role, &secret, &password);
        let mut session = ground().session();
        let (sql, _) = role.alter();
        let error = session.refused(&sql, "55000", &role.secret);
        assert!(error.hint().is_some_and(|hint| hint.contains("JSON object")), "{error:?}");
        assert!(!format!("{error:?}").contains(&password), "{error:?}");
        assert_eq!((role.current(), role.versions()), (text.clone(), 1));
        assert_eq!(ground().log_in(&role.name, &password).as_ref(), Ok(&role.name));
        assert_eq!(role.check(), "drifted", "{text}");
        let warning = session.warned(&format!("SELECT sync_role('{}', '{}')", role.name, role.secret));
        assert!(!format!("{warning:?}").contains(&password), "{warning:?}");

        session.run("SET secretlink.password_sync = warn");
        let (sql, password) = role.alter();
        session.warned(&sql);
        assert_eq!((role.current(), role.versions()), (text.clone(), 1));
        assert_eq!(ground().log_in(&role.name, &password).as_ref(), Ok(&role.name));
        session.run("RESET secretlink.password_sync");

        let right = json!({ "username": role.name, "password": "old" });
        api().put_secret_value(&role.secret, &right.to_string(), &["AWSCURRENT"]);
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        role.assert_password(&password);
    }
}

#[test]
fn a_field_that_nobody_asks_for_spoils_nothing() {
    let digits = "9".repeat(400);
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for odd in ["1e999", &digits, &nested, "\"\\ud800\"", "{\"\\udc00\":1}"] {
        let text = format!(
            r#"{{"username":"ROLE","x":{odd},"password":"somebody's","\ud800":0,"password":"PASSWORD"}}"#
        );
        let (role, old) = role_with(ground(), &text);
        assert_eq!(role.check(), "in_sync", "{odd}");
        let before = role.current();
        let (sql, password) = role.alter();
        ground().session().run_quietly(&sql);
        assert_eq!(role.current(), before.replace(&old, &password));
        role.until_state("in_sync");
        ground().log_in(&role.name, &password).unwrap();
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
