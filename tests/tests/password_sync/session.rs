//! A session, and what it was told.

use postgres::error::DbError;
use postgres::{Client, NoTls};
use secretlink_e2e::db_error;
use std::sync::{Arc, Mutex};

pub struct Session {
    pub client: Client,
    told: Arc<Mutex<Vec<DbError>>>,
}

impl Session {
    pub fn start(conninfo: &str) -> Self {
        let mut config: postgres::Config = conninfo.parse().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        config.notice_callback({
            let told = Arc::clone(&told);
            move |notice| told.lock().unwrap().push(notice)
        });
        let client = config.connect(NoTls).unwrap_or_else(|e| panic!("cannot connect: {e:?}"));
        Self { client, told }
    }

    /// Run what must work.
    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Run what must work and tell nothing worse than a NOTICE.
    #[track_caller]
    pub fn run_quietly(&mut self, sql: &str) {
        self.told();
        self.run(sql);
        let told = self.told();
        assert!(told.iter().all(|notice| notice.severity() != "WARNING"), "{sql}: {told:?}");
    }

    /// Run what must work but with a warning, which is the answer.
    #[track_caller]
    pub fn warned(&mut self, sql: &str) -> DbError {
        self.told();
        self.run(sql);
        let mut told = self.told();
        told.retain(|notice| notice.severity() == "WARNING");
        assert_eq!(told.len(), 1, "{sql}: {told:?}");
        told.remove(0)
    }

    /// Run what must fail.
    #[track_caller]
    pub fn fails(&mut self, sql: &str) -> DbError {
        db_error(self.client.simple_query(sql))
    }

    /// Run what must fail with this SQLSTATE and something of its message.
    #[track_caller]
    pub fn refused(&mut self, sql: &str, sqlstate: &str, message: &str) -> DbError {
        let error = self.fails(sql);
        assert!(error.code().code() == sqlstate && error.message().contains(message), "{sql}: {error:?}");
        error
    }

    /// The one value of a query, as text.
    #[track_caller]
    pub fn text(&mut self, sql: &str) -> Option<String> {
        let rows = self.client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows.iter().find_map(|row| match row {
            postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })?
    }

    /// Notices and warnings since the last look.
    pub fn told(&mut self) -> Vec<DbError> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}
