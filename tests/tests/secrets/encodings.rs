//! Databases of another encoding.

use crate::session::{api, log_in, session, text};
use secretlink_e2e::{Stage, db_error, unique};
use serde_json::json;

#[test]
fn in_a_latin1_database_secrets_come_out_right_or_with_a_clear_error() {
    let local = &Stage::shared().local;
    let database = unique("latin").replace('-', "_");
    session()
        .batch_execute(&format!(
            "CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .unwrap();
    let mut client = local.connect("postgres", &database);
    client.batch_execute("CREATE EXTENSION secretlink").unwrap();

    let (remote, role) = (&Stage::shared().remote, "latin_accent");
    remote.create_login(role, "clé-ü", "scram-sha-256");
    let name = unique("latin1");
    let value = json!({ "username": role, "password": "clé-ü" }).to_string();
    text(&mut client, "SELECT create_secret($1, $2::text::json)", &[&name, &value]);
    assert_eq!(api().get_secret_value(&name).unwrap(), value, "AWS gets UTF-8");
    let password = "get_secret_value($1) ->> 'password'";
    assert_eq!(text(&mut client, &format!("SELECT {password}"), &[&name]), "clé-ü");
    assert_eq!(text(&mut client, &format!("SELECT octet_length({password})::text"), &[&name]), "5");
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), value);
    assert_eq!(log_in(&mut client, &name), role);

    // The euro sign came with LATIN9.
    let name = unique("euro");
    remote.create_login("latin_euro", "10 €", "scram-sha-256");
    api().create_login_secret(&name, "latin_euro", "10 €");
    for function in ["get_secret_value", "get_secret_string"] {
        let error = db_error(client.simple_query(&format!("SELECT {function}('{name}')")));
        assert_eq!(error.code().code(), "22P05", "{error:?}");
        assert!(error.message().contains("has no equivalent in encoding \"LATIN1\""), "{error:?}");
    }
    assert_eq!(log_in(&mut client, &name), "latin_euro", "a password on its way is never converted");

    // Errors carry names: these are fine in any encoding.
    let error = db_error(client.simple_query("SELECT get_secret_value('clé')"));
    assert_eq!(error.code().code(), "42704", "{error:?}");
}
