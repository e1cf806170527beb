//! A session, and what it says.

use postgres::Client;
use secretlink_e2e::{SecretsApi, Stage, db_error, unique};

pub fn api() -> SecretsApi {
    Stage::shared().moto.secrets()
}

/// A session of the superuser.
pub fn session() -> Client {
    Stage::shared().local.connect("postgres", "postgres")
}

pub fn text(client: &mut Client, sql: &str, parameters: &[&str]) -> String {
    let parameters: Vec<_> = parameters.iter().map(|p| p as &(dyn postgres::types::ToSql + Sync)).collect();
    client.query_one(sql, &parameters).unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// That `sql` is refused with this SQLSTATE and message, and a hint that contains `hint`.
#[track_caller]
pub fn refused(client: &mut Client, sql: &str, sqlstate: &str, message: &str, hint: &str) {
    let error = db_error(client.simple_query(sql));
    assert_eq!((error.code().code(), error.message()), (sqlstate, message), "{sql}: {error:?}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{sql}: {error:?}");
}

/// Log in on the remote with a secret, and say who is there.
pub fn log_in(client: &mut Client, secret: &str) -> String {
    let connected = text(
        client,
        "SELECT connect_with_secret($1, '127.0.0.1', 'testdb', remote_port => $2::text::int)",
        &[secret, &Stage::shared().remote.port().to_string()],
    );
    assert_eq!(connected, "Connection established successfully");
    let user = text(client, "SELECT u FROM dblink('remote_conn', 'SELECT current_user') AS t(u text)", &[]);
    text(client, "SELECT dblink_disconnect('remote_conn')", &[]);
    user
}

/// A role without any right but to log in.
pub fn plain_role() -> String {
    let role = unique("plain").replace('-', "_");
    session().batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    role
}
