//! Foreign servers and the options they may have, with the server of the test itself at both ends.

#[pgrx::pg_schema]
mod tests {
    use super::super::{as_nobody, failure, loopback, run, text};
    use pgrx::prelude::*;

    const WHO: &str = "SELECT u FROM dblink('loop', 'SELECT current_user') AS t(u text)";

    /// A server `loop` of a wrapper, which is this very server.
    fn server(wrapper: &str, more: &str) {
        let options: Vec<String> = loopback()
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(keyword, _)| *keyword != "user")
            .map(|(keyword, value)| format!("{keyword} '{value}'"))
            .collect();
        run(&format!(
            "CREATE SERVER loop FOREIGN DATA WRAPPER {wrapper} OPTIONS ({}{more})",
            options.join(", ")
        ));
    }

    #[pg_test]
    fn a_server_stands_for_a_connection_string() {
        server("secretlink_fdw", ", application_name 'by server'");
        run("CREATE USER MAPPING FOR CURRENT_USER SERVER loop");
        assert_eq!(text(WHO), text("SELECT session_user::text"));
        assert_eq!(text("SELECT dblink_connect('c', 'loop')").as_deref(), Some("OK"));
        let name = "SELECT n FROM dblink('c', 'SHOW application_name') AS t(n text)";
        assert_eq!(text(name).as_deref(), Some("by server"));
    }

    #[pg_test]
    fn a_wrapper_without_a_validator_has_no_secrets() {
        run("CREATE FOREIGN DATA WRAPPER open");
        server("open", ", secret_id 'x', nonsense 'y'");
        run("CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (nonsense 'z')");
        assert_eq!(text(WHO), text("SELECT session_user::text"));
    }

    #[pg_test]
    fn a_mapping_is_needed() {
        server("secretlink_fdw", "");
        let refused = failure(WHO);
        assert_eq!(refused.sqlstate, "42704", "{refused:?}");
    }

    #[pg_test]
    fn usage_and_a_password_are_needed() {
        server("secretlink_fdw", "");
        run("CREATE USER MAPPING FOR PUBLIC SERVER loop");
        as_nobody(|| {
            let refused = failure(WHO);
            assert_eq!(
                (refused.sqlstate.as_str(), refused.message.as_str()),
                ("42501", "permission denied for foreign server loop")
            );
        });
        run("GRANT USAGE ON FOREIGN SERVER loop TO nobody_special");
        run("SET LOCAL ROLE nobody_special");
        let refused = failure(WHO);
        assert_eq!((refused.sqlstate.as_str(), refused.message.as_str()), ("2F003", "password is required"));
    }

    #[pg_test]
    fn options_are_checked_when_they_are_set() {
        let refused = failure("CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secretid 'x')");
        assert_eq!(
            (refused.sqlstate.as_str(), refused.message.as_str(), refused.hint.as_str()),
            ("HV00J", "invalid option \"secretid\"", "Perhaps you meant the option \"secret_id\".")
        );
        let refused = failure("CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (port '70000')");
        assert_eq!(
            (refused.sqlstate.as_str(), refused.message.as_str()),
            ("22023", "invalid port number: \"70000\"")
        );
    }

    #[pg_test]
    fn what_decides_about_secrets_is_set_by_superusers() {
        run("CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
             OPTIONS (secret_id 'x', region 'eu-west-1', role_arn 'arn:aws:iam::123456789012:role/x', external_id 'id')");
        run("CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (secret_id 'y')");
        let of_server = ["secret_id", "region", "role_arn", "external_id"].map(|o| (o, "pg_foreign_server"));
        as_nobody(|| {
            for (option, catalog) in of_server.into_iter().chain([("secret_id", "pg_user_mapping")]) {
                let refused = failure(&format!(
                    "SELECT secretlink_fdw_validator('{{{option}=x}}', '{catalog}'::regclass)"
                ));
                assert_eq!(
                    (refused.sqlstate.as_str(), refused.message),
                    ("42501", format!("permission denied to set option \"{option}\""))
                );
            }
        });
        let misplaced = failure("ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (region 'eu-west-1')");
        assert_eq!(misplaced.hint, "It is an option of the foreign server.");
        let wrong = failure("ALTER SERVER s OPTIONS (SET region 'nowhere.example.com')");
        assert_eq!(
            (wrong.sqlstate.as_str(), wrong.message.as_str()),
            ("22023", "invalid value for option \"region\"")
        );
    }

    #[pg_test]
    fn a_mappings_secret_is_not_for_a_server_of_somebody_else() {
        server("secretlink_fdw", "");
        run("CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (secret_id 'x')");
        as_nobody(|| {});
        run("ALTER SERVER loop OWNER TO nobody_special");
        let refused = failure(WHO);
        assert_eq!(
            (refused.sqlstate.as_str(), refused.message.as_str()),
            ("42501", "secret of the user mapping may not be used with server \"loop\"")
        );
    }

    /// Only PostgreSQL 18 has the client's keys.
    #[pg_test]
    fn scram_pass_through_is_an_option_of_18() {
        let set =
            "SELECT secretlink_fdw_validator('{use_scram_passthrough=on}', 'pg_user_mapping'::regclass)";
        if cfg!(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17"))) {
            run(set);
            let wrong = failure(&set.replace("=on", "=1"));
            assert_eq!(
                (wrong.sqlstate.as_str(), wrong.message.as_str()),
                ("42601", "use_scram_passthrough requires a Boolean value")
            );
        } else {
            assert_eq!(failure(set).message, "invalid option \"use_scram_passthrough\"");
        }
    }
}
