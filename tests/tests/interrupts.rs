//! Cancel, timeout, terminate and shutdown: they act at once wherever a backend waits, and leave
//! everything behind them usable.

use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};
use secretlink_e2e::{
    Cluster, ClusterBuilder, Mode, Moto, NeverAnswers, PostgresBin, Process, Proxy, StopMode, Witness,
    backend_pid, eventually,
};
use std::fs;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What the extension promises.
const AT_ONCE: Duration = Duration::from_millis(100);
/// What it never exceeds, on however busy a machine.
const SOON: Duration = Duration::from_secs(2);
/// A machine that runs other things may take its time now and then: the best of so many tries.
const TRIES: usize = 3;
/// For what has no promise of its own, but is not to hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a backend waits for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A Secrets Manager that accepts and never answers.
    SecretsManager,
    /// A server whose address never answers.
    Connect,
    /// A remote query.
    Query,
}

const PLACES: [Place; 3] = [Place::SecretsManager, Place::Connect, Place::Query];

/// A server with the extension, and all it can wait for.
struct Scene {
    witness: Witness,
    remote_admin: Client,
    local: Cluster,
    remote: Cluster,
    nowhere: NeverAnswers,
    _hole: Proxy,
}

impl Scene {
    fn new() -> Self {
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

    fn client(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    /// A client with a connection `c` to the remote server, and the process that serves that.
    fn connected_client(&self) -> (Client, i32) {
        self.connected_client_through(self.remote.port())
    }

    fn connected_client_through(&self, port: u16) -> (Client, i32) {
        let mut client = self.client();
        client.batch_execute(&self.open_connection(port)).unwrap_or_else(|e| panic!("dblink_connect: {e:?}"));
        let pid = remote_pid(&mut client);
        (client, pid)
    }

    fn open_connection(&self, port: u16) -> String {
        format!(
            "SELECT dblink_connect('c', 'host=127.0.0.1 port={port} dbname=testdb user=app password={} \
             sslmode=require')",
            self.remote.app_password()
        )
    }

    /// What needs to be done before a client can wait in `place`.
    fn preparation(&self, place: Place) -> String {
        match place {
            Place::SecretsManager | Place::Connect => "SELECT 1".to_owned(),
            Place::Query => self.open_connection(self.remote.port()),
        }
    }

    /// A statement that waits in `place` for longer than any test.
    fn statement(&self, place: Place) -> String {
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
    fn wait_in(&mut self, place: Place) -> Waiting {
        let mut client = self.client();
        client.batch_execute(&self.preparation(place)).unwrap_or_else(|e| panic!("{place:?}: {e:?}"));
        let waiting = Waiting::start(client, &self.statement(place));
        self.until_waiting(waiting.backend.pid());
        waiting
    }

    /// Until the backend waits for the I/O thread.
    fn until_waiting(&mut self, pid: u32) {
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
    fn until_remote_runs(&mut self, pid: i32, text: &str) {
        eventually("the remote server runs the query", PATIENCE, || match self.remote_query(pid) {
            Some(query) if query.contains(text) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
    }

    /// Until the remote process runs nothing any more, be it idle or gone.
    fn until_remote_stopped(&mut self, pid: i32, limit: Duration) {
        eventually("the remote server stops the query", limit, || match self.remote_query(pid) {
            None => Ok(()),
            Some(query) => Err(format!("still running {query}")),
        });
    }

    /// What the remote process runs now.
    fn remote_query(&mut self, pid: i32) -> Option<String> {
        let sql = "SELECT query FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
        self.remote_admin.query_opt(sql, &[&pid]).unwrap().map(|row| row.get(0))
    }

    /// Until the role `app` has no session at the remote server.
    fn until_no_remote_session(&mut self, limit: Duration) {
        eventually("no session of app is left at the remote server", limit, || {
            let sql = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = 'app'";
            let rows = self.remote_admin.query(sql, &[]).unwrap();
            let sessions: Vec<(i32, Option<String>, String)> =
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
            if sessions.is_empty() { Ok(()) } else { Err(format!("{sessions:?}")) }
        });
    }

    /// `pg_cancel_backend` or `pg_terminate_backend`.
    fn order(&mut self, order: &str, backend: Process) {
        let sent: bool = self
            .witness
            .client
            .query_one(&format!("SELECT {order}({})", backend.pid()), &[])
            .unwrap_or_else(|e| panic!("{order}: {e:?}"))
            .get(0);
        assert!(sent, "{order} did not find the backend");
    }

    /// Cancels `waiting`, which is to raise 57014, and returns how long that took.
    fn cancel(&mut self, waiting: Waiting) -> (Client, Duration) {
        let ordered = Instant::now();
        self.order("pg_cancel_backend", waiting.backend);
        let end = waiting.end();
        assert_eq!(end.sqlstate(), Some(SqlState::QUERY_CANCELED), "{:?}", end.result);
        (end.client, end.at - ordered)
    }

    fn confirm(&mut self) {
        self.witness.confirm(&self.local);
    }
}

const SLEEP: &str = "SELECT * FROM dblink('c', 'SELECT pg_sleep(60)') AS t(x text)";

/// A client that runs a statement in a thread of its own.
struct Waiting {
    backend: Process,
    end: mpsc::Receiver<End>,
}

/// How the statement ended.
struct End {
    client: Client,
    result: Result<Vec<SimpleQueryMessage>, postgres::Error>,
    at: Instant,
}

impl Waiting {
    fn start(mut client: Client, sql: &str) -> Self {
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

    fn end(self) -> End {
        self.end
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("backend {} has not ended its statement", self.backend.pid()))
    }
}

impl End {
    /// Whether the statement ended because the backend was told to end, as the server log has it too:
    /// a client that reads the error and the end of the stream at once reports the end only.
    fn assert_terminated(&self, what: &str, backend: Process, server: &Cluster) {
        let error = self.result.as_ref().expect_err(what);
        let code = error.code();
        assert!(code == Some(&SqlState::ADMIN_SHUTDOWN) || error.is_closed(), "{what}: {error:?}");
        let process = format!("[{}]", backend.pid());
        let fatal = "FATAL:  terminating connection due to administrator command";
        let log = server.log();
        let logged = log.lines().any(|line| line.contains(&process) && line.ends_with(fatal));
        assert!(logged, "{what}: the server log does not tell why backend {process} ended:\n{log}");
    }

    fn sqlstate(&self) -> Option<SqlState> {
        self.result.as_ref().err().and_then(|e| e.code().cloned())
    }
}

fn remote_pid(client: &mut Client) -> i32 {
    client
        .query_one("SELECT p FROM dblink('c', 'SELECT pg_backend_pid()') AS t(p int)", &[])
        .unwrap_or_else(|e| panic!("the connection takes no query: {e:?}"))
        .get(0)
}

/// Runs `sql`, which must fail.
fn failure(client: &mut Client, sql: &str) -> postgres::error::DbError {
    match client.simple_query(sql) {
        Ok(rows) => panic!("{sql} did not fail but returned {rows:?}"),
        Err(e) => e.as_db_error().unwrap_or_else(|| panic!("{sql}: {e:?}")).clone(),
    }
}

/// Tries until it takes less than [`AT_ONCE`].
fn at_once(what: &str, mut attempt: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let took = attempt();
        assert!(took < SOON, "{what} took {took:?}");
        seen.push(took);
        if took < AT_ONCE {
            println!("{what}: {seen:?}");
            return;
        }
    }
    panic!("{what} took longer than {AT_ONCE:?} each time: {seen:?}");
}

fn until_gone(backend: Process, limit: Duration) {
    eventually("the backend's process is gone", limit, || {
        if backend.is_alive() { Err(format!("{backend:?} is alive")) } else { Ok(()) }
    });
}

#[test]
fn statement_timeout_acts_at_once_everywhere() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let mut scene = Scene::new();
    for place in PLACES {
        let mut client = scene.client();
        client.batch_execute(&scene.preparation(place)).unwrap();
        let statement = scene.statement(place);
        at_once(&format!("statement_timeout in {place:?}"), || {
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            let began = Instant::now();
            let error = failure(&mut client, &statement);
            let took = began.elapsed();
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{place:?}: {error:?}");
            assert!(error.message().contains("statement timeout"), "{place:?}: {error:?}");
            assert!(took >= TIMEOUT, "{place:?}: the timeout came after {took:?}");
            client.batch_execute("RESET statement_timeout").unwrap();
            took - TIMEOUT
        });
    }
    scene.confirm();
}

#[test]
fn cancel_acts_at_once_everywhere() {
    let mut scene = Scene::new();
    for place in PLACES {
        let mut client = Some(scene.wait_in(place)).map(|waiting| scene.cancel(waiting).0);
        at_once(&format!("cancel in {place:?}"), || {
            let waiting = Waiting::start(client.take().unwrap(), &scene.statement(place));
            scene.until_waiting(waiting.backend.pid());
            let (same, took) = scene.cancel(waiting);
            client = Some(same);
            took
        });
        // The backend goes on as if nothing had been.
        let mut client = client.unwrap();
        client.batch_execute("SELECT 1").unwrap();
        if place != Place::Query {
            client.batch_execute(&scene.open_connection(scene.remote.port())).unwrap();
        }
        remote_pid(&mut client);
    }
    scene.confirm();
}

#[test]
fn terminate_acts_at_once_everywhere() {
    let mut scene = Scene::new();
    for place in PLACES {
        at_once(&format!("terminate in {place:?}"), || {
            let waiting = scene.wait_in(place);
            let backend = waiting.backend;
            let ordered = Instant::now();
            scene.order("pg_terminate_backend", backend);
            until_gone(backend, SOON);
            let took = ordered.elapsed();
            let end = waiting.end();
            end.assert_terminated(&format!("terminate in {place:?}"), backend, &scene.local);
            // The remote session does not outlive the local one.
            scene.until_no_remote_session(Duration::from_secs(1));
            took.max(end.at.saturating_duration_since(ordered))
        });
    }
    scene.confirm();
}

#[test]
fn a_connection_survives_cancel() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();

    // Again and again, the remote query stops and the same session takes the next one.
    for _ in 0..5 {
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        client = scene.cancel(waiting).0;
        scene.until_remote_stopped(pid, Duration::from_secs(1));
        assert_eq!(remote_pid(&mut client), pid);
    }

    // Inside a remote transaction: it has failed, as after any error, and ends with ROLLBACK.
    client.batch_execute("SELECT dblink_exec('c', 'CREATE TABLE kept(a int)')").unwrap();
    client
        .batch_execute("SELECT dblink_exec('c', 'BEGIN'), dblink_exec('c', 'INSERT INTO kept VALUES (1)')")
        .unwrap();
    let waiting = Waiting::start(client, "SELECT dblink_exec('c', 'DO $$BEGIN PERFORM pg_sleep(60); END$$')");
    scene.until_remote_runs(pid, "pg_sleep(60)");
    client = scene.cancel(waiting).0;
    scene.until_remote_stopped(pid, Duration::from_secs(1));
    let error = failure(&mut client, "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)");
    assert_eq!(error.code(), &SqlState::IN_FAILED_SQL_TRANSACTION, "{error:?}");
    client.batch_execute("SELECT dblink_exec('c', 'ROLLBACK')").unwrap();
    let kept = client.query_one("SELECT n FROM dblink('c', 'SELECT count(*) FROM kept') AS t(n int)", &[]);
    assert_eq!(kept.unwrap().get::<_, i32>(0), 0);
    assert_eq!(remote_pid(&mut client), pid);

    // Inside a local transaction with a savepoint.
    client.batch_execute("BEGIN; SAVEPOINT s").unwrap();
    let waiting = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    client = scene.cancel(waiting).0;
    client.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(remote_pid(&mut client), pid);
    client.batch_execute("COMMIT").unwrap();
    scene.confirm();
}

#[test]
fn an_exception_block_may_catch_the_cancel() {
    let mut scene = Scene::new();
    let (client, pid) = scene.connected_client();
    let sql = "DO $do$
        DECLARE answer int;
        BEGIN
            PERFORM * FROM dblink('c', 'SELECT pg_sleep(60)') AS t(x text);
        EXCEPTION WHEN query_canceled THEN
            SELECT a INTO answer FROM dblink('c', 'SELECT 42') AS t(a int);
            PERFORM set_config('my.answer', answer::text, false);
        END $do$";
    let waiting = Waiting::start(client, sql);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    scene.order("pg_cancel_backend", waiting.backend);
    let End { mut client, result, .. } = waiting.end();
    result.unwrap_or_else(|e| panic!("the block did not catch the cancel: {e:?}"));
    let answer: String = client.query_one("SHOW my.answer", &[]).unwrap().get(0);
    assert_eq!(answer, "42");

    // The same with a timeout, which dblink's caller may set for the statement as a whole.
    client.batch_execute("SET statement_timeout = '100ms'").unwrap();
    client.batch_execute(sql).unwrap_or_else(|e| panic!("the block did not catch the timeout: {e:?}"));
    client.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(remote_pid(&mut client), pid);
    scene.confirm();
}

#[test]
fn a_large_result_can_be_cancelled_in_the_middle() {
    let mut scene = Scene::new();
    let (client, pid) = scene.connected_client();
    let mut client = Some(client);
    for work_mem in ["64kB", "1GB"] {
        at_once(&format!("cancel of a large result with work_mem = {work_mem}"), || {
            let mut asking = client.take().unwrap();
            asking.batch_execute(&format!("SET work_mem = '{work_mem}'")).unwrap();
            let waiting = Waiting::start(
                asking,
                "SELECT count(*) FROM dblink('c', 'SELECT generate_series(1, 100000000), 1') AS t(a int, b text)",
            );
            // In the middle: rows have arrived, and the server has more than it can send.
            scene.until_remote_runs(pid, "generate_series");
            let backend = waiting.backend;
            eventually("rows arrive", PATIENCE, || match backend.resident_bytes() >> 20 {
                megabytes if megabytes > 60 => Ok(()),
                _ if work_mem == "64kB" && temp_bytes(&mut scene.witness.client) > 1 << 20 => Ok(()),
                megabytes => Err(format!("{megabytes} MB resident")),
            });
            let (same, took) = scene.cancel(waiting);
            scene.until_remote_stopped(pid, Duration::from_secs(1));
            client = Some(same);
            took
        });
        assert_eq!(remote_pid(client.as_mut().unwrap()), pid);
    }
    assert_eq!(temp_bytes(&mut scene.witness.client), 0, "temporary files stay behind");
    scene.confirm();
}

fn temp_bytes(client: &mut Client) -> i64 {
    client.query_one("SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_tmpdir()", &[]).unwrap().get(0)
}

#[test]
fn a_local_error_in_the_middle_of_a_result_stops_the_remote_query() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();
    for (query, sqlstate) in [
        ("SELECT ''x'', 1", SqlState::INVALID_TEXT_REPRESENTATION),
        ("SELECT ''x'', generate_series(1, 100000000)", SqlState::INVALID_TEXT_REPRESENTATION),
        (
            "SELECT CASE WHEN a < 100000 THEN a::text ELSE ''x'' END, a FROM (SELECT generate_series(1, 100000000) a) s",
            SqlState::INVALID_TEXT_REPRESENTATION,
        ),
        ("SELECT 1, 2, generate_series(1, 100000000)", SqlState::DATATYPE_MISMATCH),
        (
            "SELECT 1 / (a - 100000), a FROM (SELECT generate_series(1, 100000000) a) s",
            SqlState::DIVISION_BY_ZERO,
        ),
    ] {
        for _ in 0..3 {
            let began = Instant::now();
            let error =
                failure(&mut client, &format!("SELECT * FROM dblink('c', '{query}') AS t(a int, b int)"));
            assert_eq!(error.code(), &sqlstate, "{query}: {error:?}");
            scene.until_remote_stopped(pid, Duration::from_secs(1));
            assert_eq!(remote_pid(&mut client), pid, "{query}");
            assert!(began.elapsed() < PATIENCE, "{query} took {:?}", began.elapsed());
        }
    }
    scene.confirm();
}

/// The cancel may overtake the query: the remote server, idle as far as it knows, then ignores it.
#[test]
fn a_cancel_that_overtakes_its_query_is_not_lost() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (mut client, pid) = scene.connected_client_through(proxy.port());
    // Slow enough that the query, a long one, arrives after the request to cancel it.
    proxy.set(Mode::Delay(Duration::from_millis(40)));
    let sql = "SELECT * FROM dblink('c', 'SELECT pg_sleep(60) --' || repeat('x', 2000000)) AS t(x text)";
    let waiting = Waiting::start(client, sql);
    scene.until_waiting(waiting.backend.pid());
    let took;
    (client, took) = scene.cancel(waiting);
    assert!(took < SOON, "{took:?}");
    let began = Instant::now();
    assert_eq!(remote_pid(&mut client), pid);
    println!("the query after a cancel that overtook its own had to wait {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    scene.confirm();
}

#[test]
fn a_cancel_at_the_very_beginning_is_not_lost() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();
    let mut slowest = Duration::ZERO;
    for round in 0..200 {
        client.batch_execute(&format!("SET statement_timeout = {}", 1 + round % 4)).unwrap();
        let began = Instant::now();
        let error = failure(&mut client, SLEEP);
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
        client.batch_execute("RESET statement_timeout").unwrap();
        assert_eq!(remote_pid(&mut client), pid, "round {round}");
        slowest = slowest.max(began.elapsed());
        assert!(slowest < SOON, "round {round}: the next query had to wait {:?}", began.elapsed());
    }
    println!("200 early cancels; the slowest, with the query after it, took {slowest:?}");
    scene.confirm();
}

#[test]
fn a_cancel_while_the_previous_one_still_drains() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (mut client, pid) = scene.connected_client_through(proxy.port());
    for _ in 0..3 {
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        // From here on the answer to a cancel takes its time, TLS handshake included.
        proxy.set(Mode::Delay(Duration::from_millis(150)));
        client = scene.cancel(waiting).0;
        for _ in 0..3 {
            let waiting = Waiting::start(client, SLEEP);
            scene.until_waiting(waiting.backend.pid());
            let took;
            (client, took) = scene.cancel(waiting);
            assert!(took < SOON, "a cancel while draining took {took:?}");
        }
        proxy.set(Mode::Pass);
        assert_eq!(remote_pid(&mut client), pid);
        assert_eq!(scene.remote_query(pid), None);
    }
    scene.confirm();
}

#[test]
fn a_remote_that_falls_silent_does_not_hold_the_backend() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (client, pid) = scene.connected_client_through(proxy.port());
    let waiting = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    proxy.set(Mode::BlackHole);
    let (client, took) = scene.cancel(waiting);
    println!("cancel with a silent remote: {took:?}");
    assert!(took < SOON, "{took:?}");
    let mut client = Some(client);

    // The next query cannot begin, but can be cancelled too, and at once.
    at_once("cancel behind a cancel that gets no answer", || {
        let waiting = Waiting::start(client.take().unwrap(), SLEEP);
        scene.until_waiting(waiting.backend.pid());
        let (same, took) = scene.cancel(waiting);
        client = Some(same);
        took
    });

    // Left alone it ends with an error, not never.
    let mut client = client.unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        let error = failure(&mut client, "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)");
        assert_eq!(error.code(), &SqlState::CONNECTION_FAILURE, "{error:?}");
        assert!(error.message().contains("could not be cancelled in time"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("connect again")), "{error:?}");
    }
    println!("a silent remote was given up after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
    client.batch_execute(&scene.open_connection(scene.remote.port())).unwrap();
    assert_ne!(remote_pid(&mut client), pid);
    scene.confirm();
}

#[test]
fn leaving_a_silent_remote_is_quick() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    for leave in ["disconnect", "exit"] {
        proxy.set(Mode::Pass);
        let (client, pid) = scene.connected_client_through(proxy.port());
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        proxy.set(Mode::BlackHole);
        let mut client = scene.cancel(waiting).0;
        let backend = backend_pid(&mut client);
        let began = Instant::now();
        if leave == "disconnect" {
            client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
        } else {
            client.close().unwrap();
            until_gone(backend, PATIENCE);
        }
        println!("{leave} with a silent remote: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{leave} took {:?}", began.elapsed());
    }
    scene.confirm();
}

fn until_remote_gone(scene: &mut Scene, pid: i32) {
    eventually("the remote session is gone", PATIENCE, || {
        let sql = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        match scene.remote_admin.query_opt(sql, &[&pid]).unwrap() {
            None => Ok(()),
            Some(row) => Err(format!("it is {:?}", row.get::<_, Option<String>>(0))),
        }
    });
}

#[test]
fn a_remote_session_that_dies_gives_clear_errors() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    #[derive(Debug, PartialEq)]
    enum Death {
        Terminated,
        TerminatedWhileIdle,
        Reset,
    }
    for death in [Death::Terminated, Death::TerminatedWhileIdle, Death::Reset] {
        proxy.set(Mode::Pass);
        let (client, pid) = scene.connected_client_through(proxy.port());
        let kill = |scene: &mut Scene| match death {
            Death::Reset => proxy.set(Mode::Refuse),
            _ => scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap(),
        };
        let end = if death == Death::TerminatedWhileIdle {
            kill(&mut scene);
            until_remote_gone(&mut scene, pid);
            Waiting::start(client, SLEEP).end()
        } else {
            let waiting = Waiting::start(client, SLEEP);
            scene.until_remote_runs(pid, "pg_sleep(60)");
            kill(&mut scene);
            waiting.end()
        };
        let End { mut client, result, at: _ } = end;
        let error = result.expect_err("the remote session is dead");
        let error = error.as_db_error().unwrap_or_else(|| panic!("{death:?}: {error:?}"));
        println!("{death:?}: {} {}", error.code().code(), error.message());
        let expected = [SqlState::ADMIN_SHUTDOWN, SqlState::CONNECTION_FAILURE];
        assert!(expected.contains(error.code()), "{death:?}: {error:?}");
        // The local session does not claim to be ended itself.
        assert_eq!(error.severity(), "ERROR", "{death:?}: {error:?}");

        for _ in 0..2 {
            let error = failure(&mut client, "SELECT dblink_exec('c', 'SELECT')");
            assert_eq!(error.code(), &SqlState::CONNECTION_FAILURE, "{death:?}: {error:?}");
        }
        // As with contrib dblink, the name stays taken until the user lets go of it.
        proxy.set(Mode::Pass);
        let error = failure(&mut client, &scene.open_connection(proxy.port()));
        assert_eq!(error.code(), &SqlState::DUPLICATE_OBJECT, "{death:?}: {error:?}");
        client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
        client.batch_execute(&scene.open_connection(proxy.port())).unwrap();
        assert_ne!(remote_pid(&mut client), pid);
        if death == Death::Reset {
            // The server looks at its socket only when its query is over.
            scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        }
    }
    scene.until_no_remote_session(SOON);
    scene.confirm();
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let mut scene = Scene::new();
    for place in PLACES {
        let conninfo = format!(
            "{} application_name=leaver options='-c client_connection_check_interval=100ms'",
            scene.local.conninfo("postgres", "postgres")
        );
        let mut psql = scene
            .local
            .psql_command(&conninfo)
            .args(["-c", &scene.preparation(place), "-c", &scene.statement(place)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let backend = eventually("psql waits", PATIENCE, || {
            let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'leaver'
                       AND state = 'active' AND wait_event_type = 'Extension' AND query = $1";
            let row = scene.witness.client.query_opt(sql, &[&scene.statement(place)]).unwrap();
            row.map(|row| Process::new(row.get::<_, i32>(0).cast_unsigned())).ok_or("no such backend".into())
        });
        // No goodbye: the socket just closes.
        psql.kill().unwrap();
        psql.wait().unwrap();
        let left = Instant::now();
        until_gone(backend, SOON);
        println!("the backend of a client that left {place:?} was gone after {:?}", left.elapsed());
        scene.until_no_remote_session(SOON);
    }
    scene.confirm();
}

#[test]
fn fast_shutdown_does_not_wait_for_others() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    // One that has nobody to say goodbye to, either.
    let (client, pid) = scene.connected_client_through(proxy.port());
    let silent = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    proxy.set(Mode::BlackHole);
    let mut waiting: Vec<Waiting> = PLACES.map(|place| scene.wait_in(place)).into();
    waiting.push(silent);

    let ordered = Instant::now();
    scene.local.stop(StopMode::Fast);
    let took = ordered.elapsed();
    println!("fast shutdown with backends that wait everywhere: {took:?}");
    assert!(took < Duration::from_secs(5), "fast shutdown took {took:?}");
    for one in waiting {
        let backend = one.backend;
        one.end().assert_terminated("fast shutdown", backend, &scene.local);
    }
    let log = scene.local.log();
    assert!(log.contains("database system is shut down") && !log.contains("terminated by signal"), "{log}");
    // The silent one could not be told.
    scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    scene.until_no_remote_session(SOON);
}

#[test]
fn backends_do_not_outlive_the_postmaster() {
    let mut scene = Scene::new();
    let waiting: Vec<Waiting> = PLACES.map(|place| scene.wait_in(place)).into();
    let postmaster = scene.local.postmaster_pid().cast_signed();
    // SAFETY: kill only sends a signal, to a child of ours that nobody has waited for yet.
    unsafe { libc::kill(postmaster, libc::SIGKILL) };
    let killed = Instant::now();
    for one in &waiting {
        until_gone(one.backend, Duration::from_secs(5));
    }
    println!("the backends followed their postmaster after {:?}", killed.elapsed());
    for one in waiting {
        assert!(one.end().result.is_err());
    }
    scene.until_no_remote_session(SOON);
    // Nobody holds the shared memory: the server comes up again, and removes what was left of it.
    scene.local.restart(StopMode::Immediate);
    scene.client().batch_execute("SELECT 1").unwrap();
}

#[test]
fn waits_are_seen() {
    let mut scene = Scene::new();
    for place in PLACES {
        let waiting = scene.wait_in(place);
        let sql = "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = $1";
        let row = scene.witness.client.query_one(sql, &[&waiting.backend.pid().cast_signed()]).unwrap();
        let seen: (String, String) = (row.get(0), row.get(1));
        let name = match place {
            _ if PostgresBin::get().major() < 17 => "Extension",
            Place::SecretsManager => "SecretlinkSecretsManager",
            Place::Connect => "SecretlinkConnect",
            Place::Query => "SecretlinkQuery",
        };
        assert_eq!((seen.0.as_str(), seen.1.as_str()), ("Extension", name), "{place:?}");
        scene.cancel(waiting);
    }
    scene.confirm();
}

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
        failure(&mut client, "SELECT get_secret_string('')");
        failure(&mut client, "SELECT dblink_connect('nonsense')");
        assert_eq!(backend.threads(), 1, "{:?}", threads(backend));
        let files = backend.open_files();

        client.batch_execute("SELECT get_secret_string('a-secret')").unwrap();
        // A name that has to be looked up, on a port where nobody listens.
        failure(&mut client, "SELECT dblink_connect('host=localhost port=1 user=u password=p')");
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
        until_gone(backend, SOON);
        witness.confirm(&local);
    }
}
