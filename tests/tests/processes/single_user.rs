//! `postgres --single`, which has no postmaster, no background workers and nobody to share memory with.

use postgres::{Config, NoTls};
use secretlink_e2e::{Cluster, ClusterBuilder, Moto, Proxy, StopMode, random_password};

fn moto() -> &'static Moto {
    Moto::shared()
}

/// A stopped server of which every role is synced.
fn synced(endpoint: &str) -> Cluster {
    synced_with(endpoint, |cluster| cluster)
}

fn synced_with(endpoint: &str, more: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Cluster {
    let cluster = Cluster::local_with_endpoint(endpoint)
        .preload(true)
        .tcp()
        .auth("host", "all", "scram-sha-256")
        .conf("secretlink.sync_secret_template = 'single/{cluster}/{role}'")
        .conf(&format!("cluster_name = '{}'", random_password()))
        .conf("secretlink.max_attempts = 1");
    let mut cluster = more(cluster).start();
    cluster.stop(StopMode::Fast);
    cluster
}

fn secret_of_postgres(cluster: &Cluster) -> String {
    let shown = cluster.single_user(&[], &["SHOW cluster_name"]).output;
    let name = shown.split('"').nth(1).unwrap_or_else(|| panic!("{shown}"));
    format!("single/{name}/postgres")
}

fn logs_in(cluster: &mut Cluster, password: &str) {
    cluster.start();
    Config::new()
        .host("127.0.0.1")
        .port(cluster.port())
        .user("postgres")
        .password(password)
        .dbname("postgres")
        .connect(NoTls)
        .unwrap_or_else(|e| panic!("{e:?}"));
}

#[test]
fn a_superusers_password_can_be_reset_and_its_secret_follows() {
    let mut cluster = synced(&moto().endpoint());
    let secret = secret_of_postgres(&cluster);
    for _ in 0..2 {
        let password = random_password();
        let done = cluster.single_user(&[], &[&format!("ALTER ROLE postgres PASSWORD '{password}'")]);
        assert!(done.success && !done.output.contains("ERROR"), "{done:?}");
        assert!(!done.output.contains(&password), "{done:?}");
        let value = moto().secrets().get_secret_value(&secret).unwrap();
        assert!(value.contains(&password), "{done:?}");
        logs_in(&mut cluster, &password);
        cluster.stop(StopMode::Fast);
    }
}

#[test]
fn without_secrets_manager_the_error_says_how_to_go_on() {
    let away = Proxy::black_hole();
    let mut cluster = synced_with(&away.endpoint(), |c| c.conf("secretlink.request_timeout = '300ms'"));
    let password = random_password();
    let alter = format!("ALTER ROLE postgres PASSWORD '{password}'");
    let refused = cluster.single_user(&[], &[&alter]);
    assert!(refused.output.contains("ERROR"), "{refused:?}");
    let hint = refused.output.lines().find(|line| line.contains("HINT")).unwrap_or_default();
    assert!(hint.contains("secretlink.password_sync = off"), "{refused:?}");

    let done = cluster.single_user(&["-c", "secretlink.password_sync=off"], &[&alter]);
    assert!(done.success && !done.output.contains("ERROR"), "{done:?}");
    logs_in(&mut cluster, &password);
    cluster.stop(StopMode::Fast);

    let password = random_password();
    let alter = format!("ALTER ROLE postgres PASSWORD '{password}'");
    let warned = cluster.single_user(&[], &["SET secretlink.password_sync = warn", &alter]);
    assert!(warned.success && warned.output.contains("WARNING"), "{warned:?}");
    logs_in(&mut cluster, &password);
}

/// With everything preloaded, and with nothing.
#[test]
fn secrets_and_remote_servers_are_reached() {
    let remote = Cluster::remote().demo_tables().start();
    let value = format!(
        r#"{{"host":"127.0.0.1","port":{},"username":"app","password":"{}","dbname":"testdb"}}"#,
        remote.port(),
        remote.app_password()
    );
    let name = secretlink_e2e::unique("single");
    moto().secrets().create_secret(&name, &value);
    for preload in [true, false] {
        let mut cluster = Cluster::local(moto()).preload(preload).start();
        cluster.stop(StopMode::Fast);
        let connect = format!("SELECT connect_with_secret('{name}')");
        let read = format!("SELECT length(get_secret_string('{name}')) AS read");
        let done = cluster.single_user(
            &[],
            &[
                &read,
                &read,
                &connect,
                "SELECT * FROM dblink('remote_conn', 'SELECT name FROM customers ORDER BY id') AS t(name text)",
                "SELECT sum(i) FROM dblink('remote_conn', 'SELECT generate_series(1, 300000)') AS t(i int)",
                "SELECT dblink_send_query('remote_conn', 'SELECT pg_sleep(0.3), 17 AS later')",
                "SELECT later FROM dblink_get_result('remote_conn') AS t(slept text, later int)",
                "SELECT * FROM dblink_get_result('remote_conn') AS t(slept text, later int)",
                "SELECT item FROM secretlink_check() WHERE NOT ok",
                "SELECT count(*) AS rows FROM role_sync, secret_cache",
                "SELECT count(*) AS statistics FROM secretlink_stats",
                "SET statement_timeout = '300ms'",
                "SELECT * FROM dblink('remote_conn', 'SELECT pg_sleep(60)') AS t(s text)",
                "RESET statement_timeout",
                "SELECT * FROM dblink('remote_conn', 'SELECT 42') AS t(after_timeout int)",
                "SELECT refresh_secret('x')",
                "DO $$ BEGIN PERFORM dblink_exec('remote_conn', 'SELECT 1/0');
                 EXCEPTION WHEN division_by_zero THEN RAISE WARNING 'caught'; END $$".replace('\n', " ").as_str(),
                "SELECT state FROM check_all_role_sync()",
                // Nobody is there to do it.
                &format!("SELECT rotate_secret('{name}')"),
                &format!("SELECT schedule_rotation('{name}', 'rate(1 day)')"),
                // Left as it is, in the middle of a query.
                "SELECT dblink_send_query('remote_conn', 'SELECT pg_sleep(60)')",
            ],
        );
        assert!(done.success, "{done:?}");
        for expected in [
            "Grace",
            "45000150000",
            "later = \"17\"",
            "statistics",
            "canceling statement due to statement timeout",
            "after_timeout = \"42\"",
            "caught",
        ] {
            assert!(done.output.contains(expected), "{expected}: {done:?}");
        }
        assert_eq!(
            done.output.matches("ERROR").count(),
            4,
            "the timeout, a secret that is not there, and two without a worker: {done:?}"
        );
        assert!(!done.output.contains(remote.app_password()), "{done:?}");
        assert!(!done.output.contains("PANIC") && !done.output.contains("internal error"), "{done:?}");
        // Nothing is broken for those who come after.
        cluster.start();
        cluster.connect("postgres", "postgres").batch_execute(&connect).unwrap();
    }
}
