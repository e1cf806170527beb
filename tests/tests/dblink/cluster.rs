//! The Postgres that has both extensions.

use secretlink_e2e::{Cluster, eventually};
use std::time::Duration;

/// One Postgres with both extensions in the database `local` (and in `latin1`, of that encoding),
/// and a remote database for each of them.
pub fn cluster() -> Cluster {
    let cluster = Cluster::plain().start();
    let mut client = cluster.connect("postgres", "postgres");
    for sql in [
        "CREATE DATABASE local",
        "CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        "CREATE DATABASE remote_contrib",
    ] {
        client.batch_execute(sql).unwrap();
    }
    cluster
        .connect("postgres", "remote_contrib")
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
             CREATE TYPE pair AS (a int, b text);
             CREATE TABLE t (id int PRIMARY KEY CONSTRAINT positive CHECK (id > 0), v text);
             CREATE FUNCTION complain(code text, detail text, hint text) RETURNS int LANGUAGE plpgsql AS $$
             BEGIN
                 RAISE 'caf\u{e9} %', code USING ERRCODE = code, DETAIL = detail, HINT = hint;
             END $$;
             CREATE FUNCTION plain_complaint() RETURNS int LANGUAGE plpgsql AS $$
             BEGIN RAISE 'just this'; END $$;
             CREATE PROCEDURE double(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n * 2; END $$;",
        )
        .unwrap();
    client.batch_execute("CREATE DATABASE remote_secretlink TEMPLATE remote_contrib").unwrap();
    for database in ["local", "latin1"] {
        cluster
            .connect("postgres", database)
            .batch_execute(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
                 CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
                 CREATE TYPE pair AS (a int, b text);",
            )
            .unwrap();
    }
    cluster
}

/// A session ends a moment after its client has gone. `application_name` is of the statement's own
/// choosing.
#[track_caller]
pub fn no_session_stays(cluster: &Cluster, like: &str) {
    let mut client = cluster.connect("postgres", "postgres");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1";
    eventually("no session stays", Duration::from_secs(5), || {
        match client.query_one(sql, &[&like]).unwrap().get::<_, i64>(0) {
            0 => Ok(()),
            count => Err(format!("{count} of {like}")),
        }
    });
}
