//! A local session that is slower than the remote server.

use crate::cluster::cluster;
use secretlink_e2e::{backend_pid, db_error, eventually};
use std::thread;
use std::time::Duration;

/// Of 20 GB that a server has to say, a backend that takes a row in a hundredth of a second holds next
/// to nothing: the server waits.
#[test]
fn a_slow_consumer_holds_back_the_server() {
    let cluster = cluster();
    let mut client = cluster.connect("postgres", "local");
    let conninfo = cluster.conninfo("postgres", "remote_secretlink") + " application_name=held_back";
    client
        .batch_execute(&format!(
            "CREATE FUNCTION slowly(text) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT pg_sleep(0.01) IS NOT NULL';
             CREATE DOMAIN slow AS text CHECK (slowly(VALUE));
             SELECT secretlink.dblink_connect('c', '{conninfo}');
             SELECT * FROM secretlink.dblink('c', 'SELECT 1, ''first''') AS t(n int, v slow);"
        ))
        .unwrap();
    let backend = backend_pid(&mut client);
    let before = backend.resident_bytes();
    let query = thread::spawn(move || {
        let sql = "SELECT count(v) FROM secretlink.dblink('c',
                   'SELECT i, repeat(''x'', 100000) FROM generate_series(1, 200000) AS i') AS t(n int, v slow)";
        db_error(client.simple_query(sql)).code().code().to_owned()
    });

    let mut witness = cluster.connect("postgres", "postgres");
    let held_back = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'held_back' AND wait_event = 'ClientWrite'";
    eventually("the server waits for us", Duration::from_secs(20), || {
        match witness.query_one(held_back, &[]).unwrap().get::<_, i64>(0) {
            1 => Ok(()),
            _ => Err("it does not".to_owned()),
        }
    });
    let mut most = 0;
    for _ in 0..100 {
        most = most.max(backend.resident_bytes().saturating_sub(before));
        thread::sleep(Duration::from_millis(10));
    }
    println!("{} kB at most", most / 1024);
    // work_mem, eight batches on their way and the next one, and some air.
    assert!(most < 24 << 20, "{most} bytes");

    let cancelled: bool =
        witness.query_one("SELECT pg_cancel_backend($1)", &[&(backend.pid() as i32)]).unwrap().get(0);
    assert!(cancelled);
    assert_eq!(query.join().unwrap(), "57014");
}
