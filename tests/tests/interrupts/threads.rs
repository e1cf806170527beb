//! The I/O thread and its signals.

use crate::limits::SOON;
use secretlink_e2e::{Cluster, Moto, Process, Witness, backend_pid, db_error};
use std::fs;

/// One thread of a process: its name, and the signals it blocks.
#[derive(Debug)]
struct Thread {
    name: String,
    is_main: bool,
    blocked: u64,
}

fn threads(process: Process) -> Vec<Thread> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap() {
        let entry = entry.unwrap();
        // A thread may have ended in between.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        threads.push(Thread {
            name: field("Name"),
            is_main: entry.file_name().to_str() == Some(&process.pid().to_string()),
            blocked: u64::from_str_radix(&field("SigBlk"), 16).unwrap(),
        });
    }
    threads
}

/// The bit of a signal in a mask of `/proc`.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn threads_start_at_first_use_and_leave_signals_alone() {
    let moto = Moto::start();
    moto.secrets().create_secret("a-secret", "its value");
    for preload in [false, true] {
        let local = Cluster::local(&moto).preload(preload).start();
        let mut witness = Witness::of(&local);
        let mut client = local.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        client.batch_execute("LOAD 'secretlink'; SHOW secretlink.region; SELECT 1").unwrap();
        let before = threads(backend);
        assert_eq!(before.len(), 1, "before the first use: {before:?}");
        // An error in the arguments is no use either.
        db_error(client.simple_query("SELECT get_secret_string('')"));
        db_error(client.simple_query("SELECT dblink_connect('nonsense')"));
        assert_eq!(backend.threads(), 1, "{:?}", threads(backend));
        let files = backend.open_files();

        client.batch_execute("SELECT get_secret_string('a-secret')").unwrap();
        // A name that has to be looked up, on a port where nobody listens.
        db_error(client.simple_query("SELECT dblink_connect('host=localhost port=1 user=u password=p')"));
        let after = threads(backend);
        println!("preload = {preload}: {after:#x?}, {} files instead of {files}", backend.open_files());
        assert!((2..=4).contains(&after.len()), "after the first use: {after:?}");
        assert!(after.iter().any(|thread| thread.name.starts_with("secretlink-io")), "{after:?}");
        for thread in after {
            for signal in 1..=31 {
                let blocked = thread.blocked & bit(signal) != 0;
                if thread.is_main {
                    let ours = [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGALRM, libc::SIGQUIT];
                    assert!(!(ours.contains(&signal) && blocked), "signal {signal} is blocked: {thread:?}");
                } else if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                    assert!(blocked, "signal {signal} may hit {thread:?}");
                }
            }
        }
        // The postmaster never has a second one.
        assert_eq!(Process::new(local.postmaster_pid()).threads(), 1);

        // Backends share nothing: a new one starts with one thread again.
        let mut other = local.connect("postgres", "postgres");
        other.batch_execute("SELECT 1").unwrap();
        assert_eq!(backend_pid(&mut other).threads(), 1);
        client.close().unwrap();
        backend.until_gone(SOON);
        witness.confirm(&local);
    }
}
