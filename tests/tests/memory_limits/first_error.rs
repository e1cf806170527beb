//! What an ERROR costs: no backtrace, whatever the server's environment says.

use secretlink_e2e::{Cluster, backend_pid, db_error};

/// What the symbols of the library take, read for one backtrace.
const SYMBOLS: u64 = 1 << 20;

#[test]
fn no_error_takes_a_backtrace() {
    for (name, value) in [("RUST_BACKTRACE", "full"), ("RUST_LIB_BACKTRACE", "1"), ("LANG", "C")] {
        let cluster = Cluster::local_with_endpoint("http://127.0.0.1:1").env(name, value).start();
        let mut client = cluster.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        client.batch_execute("SELECT dblink_get_connections()").unwrap();
        let before = backend.anonymous_bytes();
        // One of ours, one of core's that passes through Rust.
        for sql in ["SELECT dblink_disconnect('none')", "SELECT dblink_get_pkey('none')"] {
            let error = db_error(client.batch_execute(sql));
            assert_eq!(error.detail(), None, "{name}: {error:?}");
        }
        let grown = backend.anonymous_bytes().saturating_sub(before);
        assert!(grown < SYMBOLS, "{name}: two errors took {grown} bytes");
        assert!(!cluster.log().contains("panicked at"), "{}", cluster.log());
    }
}
