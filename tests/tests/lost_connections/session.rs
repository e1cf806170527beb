//! A session that notes what it is told, and the remote sessions that it loses.

use postgres::error::DbError;
use postgres::{Client, NoTls};
use secretlink_e2e::{Cluster, Stage, db_error, eventually};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub const PID: &str = "SELECT pg_backend_pid()";

/// A session of the local server that notes what it is told besides.
pub struct Session {
    pub client: Client,
    told: Arc<Mutex<Vec<DbError>>>,
}

impl Session {
    pub fn new(local: &Cluster) -> Session {
        Session::of("postgres", local)
    }

    pub fn of(user: &str, local: &Cluster) -> Session {
        let told = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&told);
        let mut config = postgres::Config::new();
        config.host_path(local.socket_dir()).port(local.port()).user(user).dbname("postgres");
        config
            .options("-c statement_timeout=60s")
            .notice_callback(move |n| collected.lock().unwrap().push(n));
        Session { client: config.connect(NoTls).unwrap(), told }
    }

    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The one value of a query.
    pub fn value(&mut self, sql: &str) -> String {
        let row = self.client.query_one(&format!("SELECT v::text FROM ({sql}) AS q(v)"), &[]);
        row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    /// The answer of a remote server to a query for one value.
    pub fn ask(&mut self, connection: &str, sql: &str) -> String {
        self.value(&format!("SELECT v FROM dblink('{connection}', $q${sql}$q$) AS t(v text)"))
    }

    /// The error of a statement: SQLSTATE and message.
    #[track_caller]
    pub fn fails(&mut self, sql: &str) -> (String, String) {
        let error = db_error(self.client.simple_query(sql));
        (error.code().code().to_owned(), error.message().to_owned())
    }

    /// That a statement says the connection is lost, and goes on saying so.
    #[track_caller]
    pub fn stays_lost(&mut self, connection: &str) {
        for sql in [
            format!("SELECT dblink_exec('{connection}', 'SET work_mem = 64')"),
            format!("SELECT * FROM dblink('{connection}', 'SELECT 1') AS t(a int)"),
            format!("SELECT dblink_open('{connection}', 'cur', 'SELECT 1')"),
            format!("SELECT * FROM dblink_get_result('{connection}') AS t(a int)"),
        ] {
            let error = db_error(self.client.simple_query(&sql));
            assert_eq!(error.code().code(), "08006", "{sql}: {error:?}");
            assert!(error.message().starts_with("connection to the remote server was lost: "), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("connect again")), "{error:?}");
        }
        assert_eq!(self.value(&format!("SELECT dblink_send_query('{connection}', 'SELECT 1')")), "0");
        assert_eq!(self.state(connection), "lost");
    }

    pub fn state(&mut self, connection: &str) -> String {
        self.value(&format!("SELECT state FROM remote_connections WHERE name = '{connection}'"))
    }

    /// Until the loss has been noticed, which takes a moment.
    pub fn until_lost(&mut self, connection: &str) {
        eventually("the loss is noticed", PATIENCE, || match self.state(connection) {
            state if state == "lost" => Ok(()),
            state => Err(state),
        });
    }

    pub fn told(&mut self) -> Vec<DbError> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    /// That the user is told of one connection made again, because it was lost.
    #[track_caller]
    pub fn told_of(&mut self, connection: &str) {
        let about = format!("connection \"{connection}\"");
        let told = self.told_once(&format!("{about} was lost and has been made again"));
        assert!(told.detail().unwrap().starts_with("It was lost while it was idle: "), "{told:?}");
    }

    /// That the user is told of one connection made again, with this message.
    #[track_caller]
    pub fn told_once(&mut self, message: &str) -> DbError {
        let told = self.told();
        let [told] = &told[..] else { panic!("{told:?}") };
        assert_eq!((told.severity(), told.message()), ("NOTICE", message));
        assert!(told.hint().unwrap().contains("temporary tables"), "{told:?}");
        told.clone()
    }
}

/// A secret with everything in it, and a session connected with it as `c`.
pub fn connected(stage: &Stage, secret: &str) -> Session {
    put(stage, secret, "app", stage.remote.app_password(), stage.remote.port(), true);
    let mut session = Session::new(&stage.local);
    session.run(&format!("SELECT connect_with_secret('{secret}', connection_name => 'c')"));
    session
}

pub fn put(stage: &Stage, secret: &str, username: &str, password: &str, port: u16, new: bool) {
    let value = json!({ "host": "127.0.0.1", "port": port, "dbname": "testdb", "username": username, "password": password }).to_string();
    let api = stage.moto.secrets();
    if new {
        api.create_secret(secret, &value);
    } else {
        api.call("PutSecretValue", json!({ "SecretId": secret, "SecretString": value })).unwrap();
    }
}

/// Ends a remote session from the other side.
pub fn kill(stage: &Stage, pid: &str) {
    let mut admin = stage.remote.connect("postgres", "postgres");
    admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
}
