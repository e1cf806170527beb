//! The settings: defaults, units, ranges, and who may change them.

#[pgrx::pg_schema]
mod tests {
    use super::super::{as_nobody, failure, run, text, texts};
    use pgrx::prelude::*;

    #[pg_test]
    fn every_setting_is_as_documented() {
        let found = texts(
            "SELECT format('%s %s %s %s %s %s %s', name, vartype, context, coalesce(boot_val, 'NULL'),
                           coalesce(unit, '-'), coalesce(min_val, '-'), coalesce(max_val, '-'))
             FROM pg_settings WHERE name LIKE 'secretlink.%' ORDER BY name",
        );
        assert_eq!(
            found,
            [
                "secretlink.advertised_host string sighup NULL - - -",
                "secretlink.audit_interval integer sighup 3600 s 0 604800",
                "secretlink.ca_bundle string superuser NULL - - -",
                "secretlink.cache_max_stale integer sighup 86400 s 0 2592000",
                "secretlink.cache_size integer sighup 1024 kB 0 1048576",
                "secretlink.cache_ttl integer sighup 300 s 0 86400",
                "secretlink.cluster_name string sighup NULL - - -",
                "secretlink.connect_timeout integer user 3000 ms 1 3600000",
                "secretlink.create_missing_secrets bool superuser on - - -",
                "secretlink.database string sighup postgres - - -",
                "secretlink.endpoint_url string superuser NULL - - -",
                "secretlink.external_id string superuser NULL - - -",
                "secretlink.hashed_password enum superuser verify - - -",
                "secretlink.max_attempts integer user 3 - 1 10",
                "secretlink.max_synced_roles integer sighup 8192 - 16 262144",
                "secretlink.min_scram_iterations integer superuser 4096 - 1 2147483647",
                "secretlink.min_sslmode enum superuser disable - - -",
                "secretlink.password_sync enum superuser strict - - -",
                "secretlink.profile string superuser NULL - - -",
                "secretlink.promote_timeout integer superuser 5000 ms 1 60000",
                "secretlink.reconcile_interval integer sighup 60 s 1 86400",
                "secretlink.region string superuser NULL - - -",
                "secretlink.request_timeout integer user 10000 ms 1 3600000",
                "secretlink.role_arn string superuser NULL - - -",
                "secretlink.role_session_name string superuser NULL - - -",
                "secretlink.rotation_exclude_characters string sighup /@\"'\\ - - -",
                "secretlink.rotation_history_keep integer sighup 31536000 s 3600 2147483647",
                "secretlink.rotation_min_age integer sighup 1000 ms 0 3600000",
                "secretlink.rotation_password_length integer sighup 32 - 16 256",
                "secretlink.rotation_timeout integer sighup 300 s 1 86400",
                "secretlink.rotation_workers integer sighup 2 - 0 64",
                "secretlink.sync_secret_template string sighup NULL - - -",
                "secretlink.use_dualstack_endpoint bool superuser off - - -",
                "secretlink.use_fips_endpoint bool superuser off - - -",
            ]
        );
    }

    #[pg_test]
    fn every_setting_has_a_description() {
        let without = texts(
            "SELECT name FROM pg_settings WHERE name LIKE 'secretlink.%' AND coalesce(short_desc, '') = ''",
        );
        assert!(without.is_empty(), "{without:?}");
    }

    #[pg_test]
    fn times_have_units() {
        assert_eq!(text("SHOW secretlink.request_timeout").as_deref(), Some("10s"));
        run("SET secretlink.request_timeout = '1min'");
        assert_eq!(text("SHOW secretlink.request_timeout").as_deref(), Some("1min"));
        run("SET secretlink.connect_timeout = 250");
        assert_eq!(text("SHOW secretlink.connect_timeout").as_deref(), Some("250ms"));
    }

    #[pg_test]
    fn what_is_out_of_range_is_refused() {
        for setting in ["request_timeout", "connect_timeout", "max_attempts"] {
            for value in ["0", "-1", "3600001", "'x'"] {
                let error = failure(&format!("SET secretlink.{setting} = {value}"));
                assert_eq!(error.sqlstate, "22023", "{setting} = {value}");
            }
        }
        assert_eq!(failure("SET secretlink.max_attempts = 11").sqlstate, "22023");
    }

    #[pg_test]
    fn where_requests_go_is_for_superusers() {
        as_nobody(|| {
            for setting in [
                "region",
                "endpoint_url",
                "profile",
                "role_arn",
                "external_id",
                "role_session_name",
                "ca_bundle",
                "use_fips_endpoint",
                "use_dualstack_endpoint",
            ] {
                assert_eq!(
                    failure(&format!("SET secretlink.{setting} = 'on'")).sqlstate,
                    "42501",
                    "{setting}"
                );
            }
            for setting in ["request_timeout", "connect_timeout", "max_attempts"] {
                run(&format!("SET LOCAL secretlink.{setting} = 2"));
            }
        });
        run("SET LOCAL secretlink.region = 'eu-central-1'");
        run("SET LOCAL secretlink.use_fips_endpoint = on");
    }

    #[pg_test]
    fn an_external_id_is_not_for_everybody_to_see() {
        run("SET LOCAL secretlink.external_id = 'only-we-know'");
        as_nobody(|| {
            assert_eq!(failure("SHOW secretlink.external_id").sqlstate, "42501");
            let seen = texts("SELECT name FROM pg_settings WHERE name = 'secretlink.external_id'");
            assert!(seen.is_empty(), "{seen:?}");
        });
    }

    // PostgreSQL 14 has no reserved prefixes: it warns.
    #[cfg(not(feature = "pg14"))]
    #[pg_test]
    fn a_misspelt_setting_is_an_error() {
        assert_eq!(failure("SET secretlink.regoin = 'x'").sqlstate, "42602");
    }
}
