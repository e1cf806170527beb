//! In-backend tests, by subject. Each is a transaction of its own, rolled back at its end, in a
//! throw-away server: what happens at commit or takes other servers is tested in `tests/`.

mod arguments;
mod catalog;
mod dblink_loopback;
mod foreign_server;
mod report;
mod settings;
mod text;

use pgrx::prelude::*;

/// The one value of a query, as text.
fn text(sql: &str) -> Option<String> {
    Spi::get_one::<String>(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// The rows of a query with one text column.
fn texts(sql: &str) -> Vec<String> {
    Spi::connect(|client| {
        let rows = client.select(sql, None, &[]).unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.map(|row| row.get::<String>(1).ok().flatten().unwrap_or_else(|| "NULL".into())).collect()
    })
}

fn run(sql: &str) {
    Spi::run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// A text as a SQL literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a caller in PL/pgSQL sees of an error.
#[derive(Debug, Clone, PartialEq)]
struct Failure {
    sqlstate: String,
    message: String,
    detail: String,
    hint: String,
    context: String,
}

/// The error of a statement, caught in PL/pgSQL, that is, in a subtransaction.
fn failure(sql: &str) -> Failure {
    run(r"
        CREATE OR REPLACE FUNCTION pg_temp.failure(statement text) RETURNS text[] LANGUAGE plpgsql AS $$
        DECLARE state text; message text; detail text; hint text; context text;
        BEGIN
            EXECUTE statement;
            RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
            RETURN ARRAY[state, message, detail, hint, context];
        END $$");
    let call = format!("SELECT pg_temp.failure({})", quoted(sql));
    let fields = Spi::get_one::<Vec<String>>(&call).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let fields = fields.unwrap_or_else(|| panic!("no error: {sql}"));
    let [sqlstate, message, detail, hint, context] = <[String; 5]>::try_from(fields).expect("five fields");
    Failure { sqlstate, message, detail, hint, context }
}

/// A connection string for this very server and database, as the user who runs the tests.
fn loopback() -> String {
    let sql = "SELECT format('host=%s port=%s dbname=%s user=%s',
        trim(split_part(current_setting('unix_socket_directories'), ',', 1)),
        current_setting('port'), current_database(), session_user)";
    text(sql).unwrap_or_else(|| panic!("no socket directory"))
}

/// A connection to this server under a name.
fn connect(name: &str) {
    let sql = format!("SELECT dblink_connect({}, {})", quoted(name), quoted(&loopback()));
    assert_eq!(text(&sql).as_deref(), Some("OK"));
}

/// Runs `test` as a user with no rights but those of PUBLIC.
fn as_nobody(test: impl FnOnce()) {
    run("CREATE ROLE nobody_special NOSUPERUSER");
    run("GRANT USAGE, CREATE ON SCHEMA tests TO nobody_special");
    run("SET LOCAL ROLE nobody_special");
    test();
    run("RESET ROLE");
}
