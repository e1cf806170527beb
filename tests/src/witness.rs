//! Proof that a server was not restarted behind a test's back.

use crate::cluster::Cluster;
use postgres::Client;

/// A connection that is opened before something drastic happens. If a backend crashes, the
/// postmaster ends every other one too, and with them this one.
pub struct Witness {
    /// A client to look around with, for example in `pg_stat_activity`.
    pub client: Client,
    before: (String, i32),
    /// Up to where the log was seen.
    log_read: u64,
}

/// What a server logs when one of its processes crashed.
const CRASH: [&str; 4] = [
    "was terminated by signal",
    "terminating any other active server processes",
    "PANIC:",
    "FailedAssertion",
];

impl Witness {
    /// Connect and note which server and which backend this is.
    pub fn of(cluster: &Cluster) -> Self {
        let mut client = cluster.connect("postgres", "postgres");
        let before = identity(&mut client).expect("no answer to the witness");
        Self { client, before, log_read: 0 }
    }

    /// Fails unless the backend that answered at the beginning answers now, too, and the log of `cluster`
    /// tells of no crash.
    pub fn confirm(&mut self, cluster: &Cluster) {
        // Not all of it each time: where memory runs out it gets long.
        let log = cluster.log_from(self.log_read);
        self.log_read += log.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end as u64 + 1);
        let log = String::from_utf8_lossy(&log);
        if let Some(line) = log.lines().find(|line| CRASH.iter().any(|crash| line.contains(crash))) {
            panic!("the server log tells of a crash: {line}");
        }
        let now =
            identity(&mut self.client).unwrap_or_else(|e| panic!("the witness lost its backend: {e:?}"));
        assert_eq!(now, self.before, "the witness speaks with another server or backend");
    }
}

/// When the server started, and the process that serves the connection.
fn identity(client: &mut Client) -> Result<(String, i32), postgres::Error> {
    let row = client.query_one("SELECT pg_postmaster_start_time()::text, pg_backend_pid()", &[])?;
    Ok((row.get(0), row.get(1)))
}
