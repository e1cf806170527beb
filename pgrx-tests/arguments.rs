//! Arguments that cannot be: a clear error each, before anything is asked of anybody.

#[pgrx::pg_schema]
mod tests {
    use super::super::{as_nobody, failure, run, text};
    use pgrx::prelude::*;

    fn assert_fails(sql: &str, sqlstate: &str, message: &str) {
        let error = failure(sql);
        assert_eq!((error.sqlstate.as_str(), error.message.as_str()), (sqlstate, message), "{sql}");
    }

    #[pg_test]
    fn what_is_needed_may_not_be_null_or_empty() {
        for (call, name) in [
            ("get_secret_value(_)", "secret_id"),
            ("get_secret_string(_)", "secret_id"),
            ("get_secret_binary(_)", "secret_id"),
            ("describe_secret(_)", "secret_id"),
            ("create_secret(_, '{}')", "name"),
            ("put_secret_value(_, '{}')", "secret_id"),
            ("connect_with_secret(_)", "secret_name"),
            ("connect_with_secret('s', connection_name => _)", "connection_name"),
        ] {
            let with = |argument: &str| {
                let call =
                    call.replace("(_", &format!("({argument}")).replace("=> _", &format!("=> {argument}"));
                format!("SELECT {call}")
            };
            assert_fails(&with("NULL"), "22004", &format!("argument \"{name}\" must not be null"));
            assert_fails(&with("''"), "22023", &format!("argument \"{name}\" must not be empty"));
        }
        for (call, name) in [
            ("create_secret('s', NULL)", "secret"),
            ("put_secret_value('s', NULL)", "secret"),
            ("put_secret_value('s', '{}', NULL)", "version_stages"),
            ("put_secret_value('s', '{}', ARRAY['AWSCURRENT', NULL])", "version_stages"),
        ] {
            let message = format!("argument \"{name}\" must not be null");
            assert_fails(&format!("SELECT {call}"), "22004", &message);
        }
    }

    #[pg_test]
    fn a_value_that_is_not_json_is_refused() {
        for value in ["", "x", "{", "{\"a\": }"] {
            let error = failure(&format!("SELECT create_secret('s', '{value}')"));
            assert_eq!(error.sqlstate, "22P02", "{value}");
        }
    }

    #[pg_test]
    fn a_secret_id_that_is_too_long_is_refused() {
        let error = failure("SELECT get_secret_value(repeat('x', 10000))");
        assert_eq!(error.sqlstate, "22023", "{error:?}");
        assert!(error.message.len() < 1000, "a message of {} bytes", error.message.len());
    }

    #[pg_test]
    fn connect_with_secret_checks_before_it_asks() {
        for (arguments, sqlstate, message) in [
            ("remote_port => 70000", "22023", "port 70000 is out of range"),
            ("remote_port => 0", "22023", "port 0 is out of range"),
            ("remote_port => -1", "22023", "port -1 is out of range"),
            ("connection_name => repeat('x', 64)", "42622", "connection name is too long"),
            ("options => 'password=x'", "22023", "option \"password\" is not allowed here"),
            ("options => 'nonsense=1'", "22023", "invalid connection option \"nonsense\""),
            (
                "options => 'sslmode=''require'",
                "22023",
                "unterminated quoted string in connection info string",
            ),
            (
                "options => repeat('x', 100000)",
                "54000",
                "connection info string is too long (maximum 65536 bytes)",
            ),
        ] {
            let call = format!("connect_with_secret('s', {arguments})");
            assert_fails(&format!("SELECT {call}"), sqlstate, message);
            let returned = text(&format!("SELECT connect_with_secret('s', {arguments}, fail => false)"));
            let returned = returned.unwrap_or_default();
            assert!(returned.starts_with(&format!("Connection failed: {message}")), "{call}: {returned}");
        }
        assert_eq!(text("SELECT dblink_get_connections()::text"), None);
    }

    #[pg_test]
    fn dblink_answers_null_with_null() {
        for call in [
            "dblink_connect(NULL)",
            "dblink_connect('x', NULL)",
            "dblink_disconnect(NULL)",
            "dblink_exec(NULL::text)",
            "dblink_exec('x', NULL::text)",
            "dblink_get_connections()::text",
        ] {
            assert_eq!(text(&format!("SELECT {call}")), None, "{call}");
        }
        assert_eq!(
            text("SELECT count(*)::text FROM dblink(NULL, 'SELECT 1') AS t(a int)").as_deref(),
            Some("0")
        );
    }

    #[pg_test]
    fn dblink_names_what_is_missing() {
        assert_fails("SELECT dblink_disconnect()", "08003", "connection not available");
        assert_fails("SELECT dblink_disconnect('x')", "08003", "connection \"x\" not available");
        assert_fails("SELECT dblink_exec('SELECT 1')", "08003", "connection not available");
        assert_fails("SELECT * FROM dblink('SELECT 1') AS t(a int)", "08003", "connection not available");
    }

    /// contrib dblink takes an unknown name for a connection string.
    #[pg_test]
    fn dblink_says_why_a_connection_string_is_none() {
        for (conninfo, detail) in [
            ("host=a b", "missing \"=\" at byte 8, after the value of \"host\" in connection info string"),
            ("host=''x", "unterminated quoted string in connection info string"),
            ("hots=x", "invalid connection option \"hots\""),
            ("port=70000", "invalid port number: \"70000\""),
            ("host=''a b''", "host name number 1 contains a space"),
            ("postgresql://h:x", "invalid port number in URI, at byte 16"),
        ] {
            let error = failure(&format!("SELECT dblink_connect('{conninfo}')"));
            assert_eq!(
                (error.sqlstate.as_str(), error.message.as_str()),
                ("08001", "could not establish connection")
            );
            assert_eq!(error.detail, detail, "{conninfo}");
        }
        // One word is more likely a name.
        assert_fails("SELECT dblink_connect('nosuch')", "08001", "there is no foreign server of that name");
        let message = "there is no connection and no foreign server of that name";
        assert_fails("SELECT dblink_exec('nosuch', 'SELECT 1')", "08003", message);
    }

    #[pg_test]
    fn who_is_no_superuser_gives_a_password() {
        run("GRANT USAGE ON SCHEMA public TO PUBLIC");
        as_nobody(|| {
            let error = failure("SELECT dblink_connect('host=127.0.0.1')");
            assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("2F003", "password is required"));
            assert_eq!(error.detail, "Non-superusers must provide a password in the connection string.");
            assert_eq!(failure("SELECT get_secret_value('s')").sqlstate, "42501");
            assert_eq!(failure("SELECT connect_with_secret('s')").sqlstate, "42501");
        });
    }
}
