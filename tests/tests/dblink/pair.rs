//! A session with each of the two extensions.

use crate::outcome::{Outcome, Told};
use postgres::error::SqlState;
use postgres::{Client, NoTls, SimpleQueryMessage};
use secretlink_e2e::Cluster;
use std::sync::{Arc, Mutex};

/// A session in which the dblink functions are those of one of the two extensions.
pub struct Side {
    client: Client,
    notices: Arc<Mutex<Vec<Told>>>,
    pub conninfo: String,
}

impl Side {
    pub fn new(cluster: &Cluster, user: &str, database: &str, schema: &str) -> Self {
        Self::log_in(cluster, user, "", database, schema)
    }

    pub fn log_in(cluster: &Cluster, user: &str, password: &str, database: &str, schema: &str) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&notices);
        let mut config = postgres::Config::new();
        config
            .host_path(cluster.socket_dir())
            .port(cluster.port())
            .user(user)
            .password(password)
            .dbname(database)
            .options(&format!("-c search_path={schema},public -c statement_timeout=60s"))
            .notice_callback(move |notice| collected.lock().unwrap().push(Told::from(&notice)));
        let client = config.connect(NoTls).unwrap();
        Self { client, notices, conninfo: cluster.conninfo("postgres", &format!("remote_{schema}")) }
    }

    /// Runs a statement, in which `{conn}` stands for how to connect to the remote database.
    pub fn run(&mut self, sql: &str) -> Outcome {
        let sql = sql.replace("{conn}", &self.conninfo);
        self.notices.lock().unwrap().clear();
        let answer = self.client.simple_query(&sql);
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let result = match answer {
            Ok(messages) => {
                for message in messages {
                    match message {
                        SimpleQueryMessage::RowDescription(description) => {
                            columns = description.iter().map(|c| c.name().to_owned()).collect();
                        }
                        SimpleQueryMessage::Row(row) => {
                            rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                        }
                        _ => {}
                    }
                }
                Ok(rows)
            }
            Err(error) => Err(Told::from(error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")))),
        };
        let notices = self.notices.lock().unwrap().clone();
        Outcome { notices, columns, result }
    }

    /// Runs a statement that ends the session.
    pub fn end(&mut self, sql: &str) {
        let error = self.client.simple_query(sql).expect_err("the session goes on");
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
    }

    /// What a statement that must work gives.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        self.run(sql).value().to_owned()
    }
}

/// The two of them, in one local database.
pub struct Pair {
    pub contrib: Side,
    pub ours: Side,
}

impl Pair {
    pub fn new(cluster: &Cluster, database: &str) -> Self {
        let side = |schema| Side::new(cluster, "postgres", database, schema);
        Self { contrib: side("contrib"), ours: side("secretlink") }
    }

    /// With a connection `c` and the unnamed one.
    pub fn connected(cluster: &Cluster, database: &str) -> Self {
        let mut pair = Self::new(cluster, database);
        pair.same("SELECT dblink_connect('c', '{conn}')");
        pair.same("SELECT dblink_connect('{conn}')");
        pair
    }

    /// What both say.
    #[track_caller]
    pub fn same(&mut self, sql: &str) -> Outcome {
        let (theirs, ours) = self.both(sql);
        assert_eq!(ours, theirs, "ours (left) differs from contrib's (right) for: {sql}");
        ours
    }

    /// What contrib says, and what we say.
    pub fn both(&mut self, sql: &str) -> (Outcome, Outcome) {
        (self.contrib.run(sql), self.ours.run(sql))
    }
}
