//! Walsenders and parallel workers run SQL, too.

use secretlink_e2e::{Cluster, Moto, PostgresBin, unique};
use std::process::Command;

#[test]
fn a_walsender_runs_sql_as_any_backend() {
    let moto = Moto::start();
    let name = unique("walsender");
    moto.secrets().create_secret(&name, "seventeen");
    for preload in [true, false] {
        let cluster = Cluster::local(&moto).preload(preload).start();
        let conninfo = cluster.conninfo("postgres", "postgres");
        let walsender = format!("{conninfo} replication=database");
        let told = cluster.psql_with(&walsender, &format!("SELECT get_secret_string('{name}')"));
        assert_eq!(told.stdout.trim(), "seventeen", "{told:?}");
        let sql = format!(
            "SELECT 'sum', sum(i) FROM dblink('{conninfo}', 'SELECT generate_series(1, 200000)') t(i int)"
        );
        let told = cluster.psql_with(&walsender, &sql);
        assert!(told.stdout.contains("20000100000"), "{told:?}");
        let told = cluster.psql_with(&walsender, "SELECT get_secret_string('not-there')");
        assert!(told.stderr.contains("not-there"), "{told:?}");
        assert!(cluster.connect("postgres", "postgres").batch_execute("SELECT 1").is_ok());
    }
}

/// A function that its owner has marked as PARALLEL SAFE although it is not.
#[test]
fn a_parallel_worker_is_no_danger() {
    let moto = Moto::start();
    let name = unique("parallel");
    moto.secrets().create_secret(&name, "seventeen");
    for preload in [true, false] {
        let cluster = Cluster::local(&moto).preload(preload).start();
        let mut client = cluster.connect("postgres", "postgres");
        let conninfo = cluster.conninfo("postgres", "postgres");
        client
            .batch_execute(&format!(
                "CREATE TABLE numbers AS SELECT generate_series(1, 20) AS i;
                 CREATE FUNCTION read(int) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS $$
                 BEGIN RETURN get_secret_string('{name}'); END $$;
                 CREATE FUNCTION query(int) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS $$
                 BEGIN RETURN (SELECT a FROM dblink('{conninfo}', 'SELECT ' || $1) AS t(a text)); END $$;
                 CREATE FUNCTION named(int) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS $$
                 BEGIN RETURN (SELECT a FROM dblink('named', 'SELECT ' || $1) AS t(a text)); END $$;
                 SELECT dblink_connect('named', '{conninfo}');
                 SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
                 SET {} = on; SET parallel_leader_participation = off; ANALYZE numbers;",
                if PostgresBin::get().major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" }
            ))
            .unwrap();
        let mut texts = |sql: &str| -> Vec<String> {
            client
                .query(sql, &[])
                .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
                .iter()
                .map(|row| row.get(0))
                .collect()
        };
        assert!(texts("EXPLAIN SELECT read(i) FROM numbers").join("\n").contains("Workers Planned"));
        assert_eq!(texts("SELECT read(i) FROM numbers"), vec!["seventeen"; 20]);
        assert_eq!(texts("SELECT DISTINCT query(i) FROM numbers").len(), 20);
        // The session's connections are the session's.
        let error = client.query("SELECT named(i) FROM numbers", &[]).unwrap_err();
        assert!(["08003", "08001"].contains(&error.code().unwrap().code()), "{error:?}");
        assert_eq!(
            client.query("SELECT * FROM dblink('named', 'SELECT 1') AS t(i int)", &[]).unwrap().len(),
            1
        );
    }
}

/// The size of shared memory can be asked for before a server is started.
#[test]
fn a_server_tells_what_it_would_need() {
    if PostgresBin::get().major() < 15 {
        return;
    }
    let mut cluster = Cluster::plain().preload(true).start();
    cluster.stop(secretlink_e2e::StopMode::Fast);
    let mut command = Command::new(PostgresBin::get().program("postgres"));
    command.arg("-D").arg(cluster.data_dir()).args(["-C", "shared_memory_size"]).current_dir("/");
    let told = secretlink_e2e::OsUser::for_servers().apply(&mut command).output().unwrap();
    let size: u32 =
        String::from_utf8_lossy(&told.stdout).trim().parse().unwrap_or_else(|_| panic!("{told:?}"));
    assert!(size > 16, "{told:?}");
}
