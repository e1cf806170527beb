//! Roles, servers with secrets, and a host that is not theirs.

use postgres::Client;
use secretlink_e2e::{Proxy, SecretsApi, Stage, db_error, unique};
use serde_json::json;

/// A remote session's role, database, and whether it is encrypted.
pub const WHO: &str = "SELECT concat_ws(' ', current_user, current_database(), (SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()))";

pub fn api() -> SecretsApi {
    Stage::shared().moto.secrets()
}

pub fn admin() -> Client {
    Stage::shared().local.connect("postgres", "postgres")
}

pub fn execute(sql: &str) {
    admin().batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// A name that is an identifier.
pub fn name(start: &str) -> String {
    unique(start).replace('-', "_")
}

/// A role that can log in and has no right besides, and a session of it.
pub fn role(start: &str) -> (String, Client) {
    let role = name(start);
    execute(&format!("CREATE ROLE {role} LOGIN"));
    let client = log_in(&role);
    (role, client)
}

pub fn log_in(role: &str) -> Client {
    let mut client = Stage::shared().local.connect(role, "postgres");
    // The library is loaded at its first use, and only then knows its settings.
    client.batch_execute("SET statement_timeout = '60s'; SELECT dblink_get_connections()").unwrap();
    client
}

/// A secret with all there is to know of the remote database.
pub fn secret() -> String {
    let (remote, name) = (&Stage::shared().remote, name("secret"));
    let value = json!({ "host": "127.0.0.1", "port": remote.port(), "dbname": "testdb", "username": "app",
                        "password": remote.app_password() });
    api().create_secret(&name, &value.to_string());
    name
}

/// A server with a secret, both of this name.
pub fn server() -> String {
    let name = secret();
    execute(&format!(
        "CREATE SERVER {name} FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{name}')"
    ));
    name
}

/// Somewhere else, where nobody may connect to.
pub fn elsewhere() -> Proxy {
    Proxy::to(Stage::shared().remote.port())
}

/// That each statement fails with its SQLSTATE and message.
#[track_caller]
pub fn all_fail(client: &mut Client, attacks: &[(&str, &str, &str)], replace: &[(&str, &str)]) {
    for (attack, code, message) in attacks {
        let fill =
            |text: &str| replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let outcome = client.simple_query(&fill(attack));
        assert!(outcome.is_err(), "it worked: {attack}");
        let error = db_error(outcome);
        assert_eq!(error.code().code(), *code, "{attack}: {error:?}");
        assert!(error.message().contains(&fill(message)), "{attack}: {error:?}");
        let password = Stage::shared().remote.app_password();
        assert!(!format!("{error:?}").contains(password), "{attack}: {error:?}");
    }
}

/// Where a server or connection leads.
pub fn ask(client: &mut Client, server: &str) -> String {
    let row = client.query_one("SELECT v FROM dblink($1, $2) AS t(v text)", &[&server, &WHO]);
    row.unwrap_or_else(|e| panic!("{server}: {e:?}")).get(0)
}
