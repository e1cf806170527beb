//! A client that waits for the end of its statement.

use crate::limits::PATIENCE;
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};
use secretlink_e2e::{Cluster, Process, backend_pid};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// A client that runs a statement in a thread of its own.
pub struct Waiting {
    pub backend: Process,
    end: mpsc::Receiver<End>,
}

/// How the statement ended.
pub struct End {
    pub client: Client,
    pub result: Result<Vec<SimpleQueryMessage>, postgres::Error>,
    pub at: Instant,
}

impl Waiting {
    pub fn start(mut client: Client, sql: &str) -> Self {
        let backend = backend_pid(&mut client);
        let (sender, end) = mpsc::channel();
        let sql = sql.to_owned();
        thread::spawn(move || {
            let result = client.simple_query(&sql);
            let at = Instant::now();
            // Nobody listens if the test has failed already.
            let _ = sender.send(End { client, result, at });
        });
        Self { backend, end }
    }

    pub fn end(self) -> End {
        self.end
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("backend {} has not ended its statement", self.backend.pid()))
    }
}

impl End {
    /// Whether the statement ended because the backend was told to end, as the server log has it too:
    /// a client that reads the error and the end of the stream at once reports the end only.
    pub fn assert_terminated(&self, what: &str, backend: Process, server: &Cluster) {
        let error = self.result.as_ref().expect_err(what);
        let code = error.code();
        assert!(code == Some(&SqlState::ADMIN_SHUTDOWN) || error.is_closed(), "{what}: {error:?}");
        let process = format!("[{}]", backend.pid());
        let fatal = "FATAL:  terminating connection due to administrator command";
        let log = server.log();
        let logged = log.lines().any(|line| line.contains(&process) && line.ends_with(fatal));
        assert!(logged, "{what}: the server log does not tell why backend {process} ended:\n{log}");
    }

    pub fn sqlstate(&self) -> Option<SqlState> {
        self.result.as_ref().err().and_then(|e| e.code().cloned())
    }
}
