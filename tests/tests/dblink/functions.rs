//! The functions as SQL sees them: overloads, declarations, parallel queries.

use crate::cluster::cluster;
use crate::pair::Pair;
use secretlink_e2e::db_error;

#[test]
fn each_overload_of_dblink_and_dblink_exec_does_what_contribs_does() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for sql in [
        "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', true) AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', false) AS t(a int)",
        "SELECT * FROM dblink('SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('SELECT 1', true) AS t(a int)",
        "SELECT * FROM dblink('SELECT 1', false) AS t(a int)",
        "SELECT * FROM dblink('{conn}', 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('{conn}', 'SELECT 1', false) AS t(a int)",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (1)')",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (2)', true)",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (3)', false)",
        "SELECT dblink_exec('INSERT INTO t VALUES (4)')",
        "SELECT dblink_exec('INSERT INTO t VALUES (5)', true)",
        "SELECT dblink_exec('INSERT INTO t VALUES (6)', false)",
        "SELECT dblink_exec('{conn}', 'INSERT INTO t VALUES (7)')",
        "SELECT dblink_exec('{conn}', 'INSERT INTO t VALUES (8)', false)",
    ] {
        assert_eq!(pair.same(sql).rows().len(), 1, "{sql}");
    }
    let kept = pair
        .same("SELECT string_agg(id::text, ',' ORDER BY id) FROM dblink('SELECT id FROM t') AS t(id int)");
    assert_eq!(kept.value(), "1,2,3,4,5,6,7,8");
    // STRICT: no argument, no call.
    for sql in [
        "SELECT * FROM dblink(NULL, 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('c', NULL::text) AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', NULL) AS t(a int)",
        "SELECT dblink_exec(NULL::text)",
        "SELECT dblink_connect(NULL, NULL)",
        "SELECT dblink_disconnect(NULL)",
    ] {
        pair.same(sql);
    }
}

#[test]
fn in_a_parallel_query_the_leader_asks() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let mut client = cluster.connect("postgres", "local");
    client.batch_execute("CREATE TABLE big AS SELECT i FROM generate_series(1, 100000) AS i; ALTER TABLE big SET (parallel_workers = 2); ANALYZE big").unwrap();
    pair.same("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2");
    pair.same("SET datestyle = 'German'"); // to be changed in the middle of a parallel query
    for sql in [
        "SELECT n, d FROM (SELECT count(*) AS n FROM big WHERE i % 7 = 0) AS b, dblink('c', $$SELECT '2024-03-04'::date$$) AS t(d date)",
        "SELECT count(*) FROM big, dblink('c', 'SELECT generate_series(1, 10)') AS t(a int) WHERE i = a",
        "SELECT sum(i), (SELECT dblink_exec('c', 'SET work_mem = ''1MB''')) FROM big",
    ] {
        pair.same(sql);
        let plan = pair.same(&format!("EXPLAIN (COSTS off) {sql}"));
        assert!(format!("{plan:?}").contains("Gather"), "{plan:?}");
    }
    // Not in a worker, even where one is forced.
    pair.same("SET force_parallel_mode = on");
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    let declared = pair.same("SELECT string_agg(DISTINCT proparallel::text || provolatile::text, ',') FROM pg_proc WHERE proname IN ('dblink', 'dblink_exec', 'dblink_connect', 'dblink_disconnect', 'dblink_get_connections') AND pronamespace = current_schema()::regnamespace");
    assert_eq!(declared.value(), "rv");
}

#[test]
fn the_functions_are_declared_as_contribs() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    let signature = "SELECT p.proname, p.proargtypes::regtype[], pg_get_function_result(p.oid), proisstrict AND pronargs > 0, proretset, provolatile, proparallel
         FROM pg_proc AS p WHERE pronamespace = current_schema()::regnamespace
         AND proname IN ('dblink', 'dblink_exec', 'dblink_connect', 'dblink_disconnect', 'dblink_get_connections') ORDER BY 1, 2";
    assert_eq!(pair.same(signature).rows().len(), 13);
    assert_eq!(
        db_error(
            cluster.connect("postgres", "local").batch_execute("CREATE EXTENSION dblink SCHEMA secretlink")
        )
        .code()
        .code(),
        "42710"
    );
}
