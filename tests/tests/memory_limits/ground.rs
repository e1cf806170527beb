//! A server whose processes have little room, and a witness that it never restarts.

use postgres::Client;
use secretlink_e2e::{Cluster, Witness};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Address space of each process, in MB. A backend that has done nothing yet has some 250.
pub const LIMITS: [u64; 2] = [480, 600];

/// Longer than anything here takes, on a busy machine, but for what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Ground {
    pub cluster: Cluster,
    witness: Witness,
    pub megabytes: u64,
}

impl Ground {
    /// One whose processes have so many megabytes. The library is there before any of them needs it.
    pub fn with(megabytes: u64) -> Ground {
        Ground::at(megabytes, "http://127.0.0.1:1")
    }

    /// As [`Ground::with`], with an endpoint for secrets.
    pub fn at(megabytes: u64, endpoint_url: &str) -> Ground {
        let cluster = Cluster::local_with_endpoint(endpoint_url)
            .preload(true)
            .conf("work_mem = '1GB'")
            // Not ERROR: some messages are long.
            .conf("log_min_messages = log")
            .address_space(megabytes << 20)
            .start();
        let witness = Witness::of(&cluster);
        Ground { cluster, witness, megabytes }
    }

    pub fn connect(&self) -> Client {
        self.cluster.connect("postgres", "postgres")
    }

    /// Runs a statement that may have no room. If it fails, then with an ERROR, whose SQLSTATE is returned;
    /// the session goes on.
    #[track_caller]
    pub fn try_run(&mut self, client: &mut Client, sql: &str, what: &str) -> Result<(), String> {
        let began = Instant::now();
        let outcome = client.batch_execute(sql);
        let took = began.elapsed();
        let what = format!("{what} with {} MB", self.megabytes);
        assert!(took < PATIENCE, "{what}: took {took:?}");
        let outcome = outcome.map_err(|error| match error.as_db_error() {
            Some(error) => {
                println!("{what}: {} {}", error.code().code(), error.message());
                error.code().code().to_owned()
            }
            None => panic!("{what}: the session ended: {error:?}\n{}", self.end_of_log()),
        });
        client
            .batch_execute("SELECT 1")
            .unwrap_or_else(|error| panic!("{what}: the session is lost: {error:?}"));
        self.witness.confirm(&self.cluster);
        outcome
    }

    /// What the server logged last, without its accounts of memory.
    fn end_of_log(&self) -> String {
        // The end of a process is logged after it.
        sleep(Duration::from_secs(1));
        let log = self.cluster.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains(" total in ")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}
