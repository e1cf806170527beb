//! A server with the extension, and all it can wait for.

use crate::limits::PATIENCE;
use crate::waiting::Waiting;
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{Cluster, ClusterBuilder, NeverAnswers, Process, Proxy, StopMode, Witness, eventually};
use std::time::{Duration, Instant};

/// Where a backend waits for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Secrets Manager that accepts and never answers.
    SecretsManager,
    /// A server whose address never answers.
    Connect,
    /// A remote query.
    Query,
}

pub const PLACES: [Place; 3] = [Place::SecretsManager, Place::Connect, Place::Query];

/// A server with the extension, and all it can wait for.
pub struct Scene {
    pub witness: Witness,
    pub remote_admin: Client,
    pub local: Cluster,
    pub remote: Cluster,
    nowhere: NeverAnswers,
    _hole: Proxy,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(|local| local)
    }

    fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let hole = Proxy::black_hole();
        let local = Cluster::local_with_endpoint(&hole.endpoint())
            .conf("secretlink.request_timeout = '10min'")
            .conf("secretlink.max_attempts = 1");
        let local = adjust(local).start();
        let remote = Cluster::remote().start();
        let witness = Witness::of(&local);
        let remote_admin = remote.connect("postgres", "postgres");
        Self { witness, remote_admin, local, remote, nowhere: NeverAnswers::new(), _hole: hole }
    }

    pub fn client(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    /// A client with a connection `c` to the remote server, and the process that serves that.
    pub fn connected_client(&self) -> (Client, i32) {
        self.connected_client_through(self.remote.port())
    }

    pub fn connected_client_through(&self, port: u16) -> (Client, i32) {
        let mut client = self.client();
        client.batch_execute(&self.open_connection(port)).unwrap_or_else(|e| panic!("dblink_connect: {e:?}"));
        let pid = remote_pid(&mut client);
        (client, pid)
    }

    pub fn open_connection(&self, port: u16) -> String {
        format!(
            "SELECT dblink_connect('c', 'host=127.0.0.1 port={port} dbname=testdb user=app password={} \
             sslmode=require')",
            self.remote.app_password()
        )
    }

    /// What needs to be done before a client can wait in `place`.
    pub fn preparation(&self, place: Place) -> String {
        match place {
            Place::SecretsManager | Place::Connect => "SELECT 1".to_owned(),
            Place::Query => self.open_connection(self.remote.port()),
        }
    }

    /// A statement that waits in `place` for longer than any test.
    pub fn statement(&self, place: Place) -> String {
        match place {
            Place::SecretsManager => "SELECT get_secret_string('a-secret')".to_owned(),
            Place::Connect => format!(
                "SELECT dblink_connect('host=127.0.0.1 port={} user=app password=x')",
                self.nowhere.port()
            ),
            Place::Query => SLEEP.to_owned(),
        }
    }

    /// A client whose backend waits in `place`.
    pub fn wait_in(&mut self, place: Place) -> Waiting {
        let mut client = self.client();
        client.batch_execute(&self.preparation(place)).unwrap_or_else(|e| panic!("{place:?}: {e:?}"));
        let waiting = Waiting::start(client, &self.statement(place));
        self.until_waiting(waiting.backend.pid());
        waiting
    }

    /// Until the backend waits for the I/O thread.
    pub fn until_waiting(&mut self, pid: u32) {
        let pid = pid.cast_signed();
        eventually("the backend waits for the I/O thread", PATIENCE, || {
            let sql = "SELECT state, wait_event_type FROM pg_stat_activity WHERE pid = $1";
            let row = self.witness.client.query_opt(sql, &[&pid]).unwrap();
            let seen: Option<(Option<String>, Option<String>)> = row.map(|row| (row.get(0), row.get(1)));
            match &seen {
                Some((Some(state), Some(wait))) if state == "active" && wait == "Extension" => Ok(()),
                _ => Err(format!("{seen:?}")),
            }
        });
    }

    /// Until the remote process runs a query that contains `text`.
    pub fn until_remote_runs(&mut self, pid: i32, text: &str) {
        eventually("the remote server runs the query", PATIENCE, || match self.remote_query(pid) {
            Some(query) if query.contains(text) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
    }

    /// Until the remote process runs nothing any more, be it idle or gone.
    pub fn until_remote_stopped(&mut self, pid: i32, limit: Duration) {
        eventually("the remote server stops the query", limit, || match self.remote_query(pid) {
            None => Ok(()),
            Some(query) => Err(format!("still running {query}")),
        });
    }

    /// What the remote process runs now.
    pub fn remote_query(&mut self, pid: i32) -> Option<String> {
        let sql = "SELECT query FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
        self.remote_admin.query_opt(sql, &[&pid]).unwrap().map(|row| row.get(0))
    }

    /// Stops what the remote process runs, on the remote server's own order.
    pub fn remote_cancel(&mut self, pid: i32) {
        self.remote_admin.execute("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
    }

    /// Until there is this table in the remote database.
    pub fn until_remote_table(&mut self, table: &str, limit: Duration) {
        let mut client = self.remote.connect("postgres", "testdb");
        eventually("the table is there", limit, || {
            let sql = "SELECT FROM pg_tables WHERE tablename = $1";
            match client.query_opt(sql, &[&table]).unwrap() {
                Some(_) => Ok(()),
                None => Err(table.to_owned()),
            }
        });
    }

    /// Until the role `app` has no session at the remote server.
    pub fn until_no_remote_session(&mut self, limit: Duration) {
        eventually("no session of app is left at the remote server", limit, || {
            let sql = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = 'app'";
            let rows = self.remote_admin.query(sql, &[]).unwrap();
            let sessions: Vec<(i32, Option<String>, String)> =
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
            if sessions.is_empty() { Ok(()) } else { Err(format!("{sessions:?}")) }
        });
    }

    /// `pg_cancel_backend` or `pg_terminate_backend`.
    pub fn order(&mut self, order: &str, backend: Process) {
        let sent: bool = self
            .witness
            .client
            .query_one(&format!("SELECT {order}({})", backend.pid()), &[])
            .unwrap_or_else(|e| panic!("{order}: {e:?}"))
            .get(0);
        assert!(sent, "{order} did not find the backend");
    }

    /// Cancels `waiting`, which is to raise 57014, and returns how long that took.
    pub fn cancel(&mut self, waiting: Waiting) -> (Client, Duration) {
        let ordered = Instant::now();
        self.order("pg_cancel_backend", waiting.backend);
        let end = waiting.end();
        assert_eq!(end.sqlstate(), Some(SqlState::QUERY_CANCELED), "{:?}", end.result);
        (end.client, end.at - ordered)
    }

    pub fn confirm(&mut self) {
        self.witness.confirm(&self.local);
    }

    /// The server can be stopped, whatever its backends are at.
    pub fn can_be_stopped(&mut self) {
        self.confirm();
        let ordered = Instant::now();
        self.local.stop(StopMode::Fast);
        assert!(ordered.elapsed() < Duration::from_secs(10), "{:?}", ordered.elapsed());
    }
}

pub const SLEEP: &str = "SELECT * FROM dblink('c', 'SELECT pg_sleep(60)') AS t(x text)";

pub fn remote_pid(client: &mut Client) -> i32 {
    client
        .query_one("SELECT p FROM dblink('c', 'SELECT pg_backend_pid()') AS t(p int)", &[])
        .unwrap_or_else(|e| panic!("the connection takes no query: {e:?}"))
        .get(0)
}
