//! A thousand backends that come, work and leave, each in its own way, and leave nothing behind.

use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{Cluster, Process, Stage, Witness, backend_pid, eventually};
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const BACKENDS: usize = 1000;
/// After so many the server has touched whatever memory it needs.
const WARM_UP: usize = 100;
const AT_A_TIME: usize = 20;
/// Far more than one backend needs; it hangs.
const STUCK: Duration = Duration::from_secs(60);
/// By when the last traces are gone after the last client has left. The extension gives remote
/// servers a second to hear of the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leave {
    /// Disconnects from the remote server, then from its own.
    Politely,
    /// Leaves the connection to the remote server to the extension.
    Carelessly,
    /// Is killed itself, and so drops its socket without goodbye.
    Dead,
    /// Has its backend terminated.
    Terminated,
}

/// What became of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Finished,
    Interrupted,
}

/// The servers, as the threads that play the clients know them.
struct Servers {
    stage: Stage,
    next: AtomicUsize,
    plan: Vec<(Leave, Duration)>,
}

#[test]
fn a_thousand_backends_leave_nothing_behind() {
    let seed = std::env::var("SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let stage = Stage::start();
    stage.moto.secrets().create_login_secret("app-login", "app", stage.remote.app_password());
    let mut witness = Witness::of(&stage.local);
    let mut remote_witness = Witness::of(&stage.remote);
    // Its workers come and go as they like, and are processes too.
    witness.client.batch_execute("ALTER SYSTEM SET autovacuum = off").unwrap();
    witness.client.batch_execute("SELECT pg_reload_conf()").unwrap();

    // The warm-up also shows how long one backend takes, and so what "in the middle" is.
    let warm_up = (0..WARM_UP).map(|_| (Leave::Politely, Duration::ZERO)).collect();
    let (stage, spent, fates) = run(stage, warm_up);
    assert_eq!(fates[&(Leave::Politely, Fate::Finished)], WARM_UP, "{fates:?}");
    let typical = spent / u32::try_from(WARM_UP).unwrap();
    until_nobody_is_left(&stage, &mut witness, &mut remote_witness);
    let before = Footprint::of(&stage.local, &mut witness.client);

    let plan = (0..BACKENDS)
        .map(|_| {
            let leave = match random.u32(0..10) {
                0 => Leave::Terminated,
                1 => Leave::Dead,
                n if n % 2 == 0 => Leave::Politely,
                _ => Leave::Carelessly,
            };
            (leave, typical.mul_f64(random.f64() * 1.1))
        })
        .collect();
    let began = Instant::now();
    let (stage, _, fates) = run(stage, plan);
    println!("{BACKENDS} backends in {:?}, one typically in {typical:?}: {fates:?}", began.elapsed());
    let left = Instant::now();
    until_nobody_is_left(&stage, &mut witness, &mut remote_witness);
    println!("all traces were gone {:?} after the last client", left.elapsed());

    let of = |leave, fate| fates.get(&(leave, fate)).copied().unwrap_or(0);
    for leave in [Leave::Terminated, Leave::Dead] {
        let hit = of(leave, Fate::Interrupted);
        assert!(hit >= 10, "too few were interrupted in the middle to prove anything: {fates:?}");
    }
    let finished = of(Leave::Politely, Fate::Finished) + of(Leave::Carelessly, Fate::Finished);
    assert!(finished > BACKENDS / 2, "{fates:?}");
    assert_eq!(of(Leave::Politely, Fate::Interrupted) + of(Leave::Carelessly, Fate::Interrupted), 0);

    let after = Footprint::of(&stage.local, &mut witness.client);
    println!("before: {before:?}\nafter:  {after:?}");
    after.assert_no_larger_than(&before);
    witness.confirm(&stage.local);
    remote_witness.confirm(&stage.remote);
}

/// Plays every client of `plan`, some at a time. Returns the time they took, added up, and how many
/// met which fate.
fn run(stage: Stage, plan: Vec<(Leave, Duration)>) -> (Stage, Duration, BTreeMap<(Leave, Fate), usize>) {
    let clients = plan.len();
    let servers = Arc::new(Servers { stage, next: AtomicUsize::new(0), plan });
    let (sender, results) = mpsc::channel();
    let threads: Vec<_> = (0..AT_A_TIME)
        .map(|_| {
            let (servers, sender) = (Arc::clone(&servers), sender.clone());
            thread::spawn(move || {
                let mut killer = servers.stage.local.connect("postgres", "postgres");
                while let Some(&(leave, after)) =
                    servers.plan.get(servers.next.fetch_add(1, Ordering::SeqCst))
                {
                    let began = Instant::now();
                    let fate = servers.play(leave, after, &mut killer);
                    // Nobody listens if the test has failed already.
                    let _ = sender.send((leave, fate, began.elapsed()));
                }
            })
        })
        .collect();
    drop(sender);

    let mut spent = Duration::ZERO;
    let mut fates = BTreeMap::new();
    for done in 0..clients {
        // Not `join`: a client that hangs must fail the test, not hang it.
        let (leave, fate, took) = results.recv_timeout(STUCK).unwrap_or_else(|e| {
            panic!("client threads failed or hang ({e}) after {done} of {clients}: {fates:?}")
        });
        assert!(took < STUCK, "a client ({leave:?}) took {took:?}");
        spent += took;
        *fates.entry((leave, fate)).or_insert(0) += 1;
    }
    for thread in threads {
        thread.join().expect("its results are all there");
    }
    let servers = Arc::into_inner(servers).expect("every thread has ended");
    (servers.stage, spent, fates)
}

impl Servers {
    /// The whole life of one client.
    fn play(&self, leave: Leave, after: Duration, killer: &mut Client) -> Fate {
        match leave {
            Leave::Dead => self.play_dead(after),
            Leave::Terminated => self.play_terminated(after, killer),
            Leave::Politely | Leave::Carelessly => {
                let mut client = self.stage.local.connect("postgres", "postgres");
                for sql in self.work(leave) {
                    let result = client.simple_query(&sql);
                    result.unwrap_or_else(|e| panic!("{leave:?}: {sql}: {e:?}\n{}", self.stage.local.log()));
                }
                client.close().expect("cannot say goodbye");
                Fate::Finished
            }
        }
    }

    fn play_terminated(&self, after: Duration, killer: &mut Client) -> Fate {
        let mut client = self.stage.local.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                // The random moment.
                thread::sleep(after);
                let sql = format!("SELECT pg_terminate_backend({})", backend.pid());
                killer.batch_execute(&sql).expect("cannot terminate a backend");
            });
            self.work(Leave::Terminated).iter().try_for_each(|sql| client.simple_query(sql).map(drop))
        });
        match result {
            // It had nothing to do any more when it was terminated.
            Ok(()) => Fate::Finished,
            // Between two statements the client just finds its socket closed.
            Err(e) if e.as_db_error().is_none_or(|e| *e.code() == SqlState::ADMIN_SHUTDOWN) => {
                Fate::Interrupted
            }
            Err(e) => panic!("a terminated backend said {e:?}"),
        }
    }

    fn play_dead(&self, after: Duration) -> Fate {
        let local = &self.stage.local;
        let mut psql = local.psql_command(&local.conninfo("postgres", "postgres"));
        for sql in self.work(Leave::Dead) {
            psql.args(["-c", &sql]);
        }
        let mut psql = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cannot run psql");
        // The random moment; psql itself takes a while to start.
        thread::sleep(after + Duration::from_millis(10));
        let finished = psql.try_wait().expect("cannot wait for psql").is_some();
        psql.kill().expect("cannot kill psql");
        psql.wait().expect("cannot wait for psql");
        if finished { Fate::Finished } else { Fate::Interrupted }
    }

    fn work(&self, leave: Leave) -> Vec<String> {
        let port = self.stage.remote.port();
        let mut work = vec![
            "SELECT get_secret_value('app-login') ->> 'username'".to_owned(),
            format!("SELECT connect_with_secret('app-login', '127.0.0.1', 'testdb', 'app', {port})"),
            "SELECT count(*) FROM dblink('remote_conn', 'SELECT id, item FROM orders, generate_series(1, 100)')
                 AS t(id int, item text)"
                .to_owned(),
            "SELECT * FROM dblink('remote_conn', 'SELECT pg_sleep(0.01)') AS t(x text)".to_owned(),
        ];
        if leave == Leave::Politely {
            work.push("SELECT dblink_disconnect('remote_conn')".to_owned());
        }
        work
    }
}

/// Until only the witnesses are left, at the local server and at the remote one.
fn until_nobody_is_left(stage: &Stage, witness: &mut Witness, remote_witness: &mut Witness) {
    for (cluster, witness) in [(&stage.local, witness), (&stage.remote, remote_witness)] {
        eventually("no client but the witness is left", PATIENCE, || {
            let sql = "SELECT pid, usename::text, state, query FROM pg_stat_activity
                       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            let rows = witness.client.query(sql, &[]).unwrap();
            let seen: Vec<(i32, Option<String>, Option<String>, String)> =
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
            if seen.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        // A backend leaves the view before its process ends, and loses its title before the postmaster
        // has buried it.
        eventually("no process of a client is left", PATIENCE, || {
            let clients: Vec<String> = children(cluster.postmaster_pid())
                .into_iter()
                .filter(|title| title.is_empty() || title.contains("[local]") || title.contains("127.0.0.1"))
                .collect();
            if clients.len() <= 1 { Ok(()) } else { Err(format!("{clients:?}")) }
        });
    }
}

/// The titles of the processes that a postmaster has started and not yet buried.
fn children(postmaster: u32) -> Vec<String> {
    let parent = format!("PPid:\t{postmaster}");
    let processes = fs::read_dir("/proc").expect("no /proc");
    let mut titles = Vec::new();
    for path in processes.flatten().map(|entry| entry.path()) {
        // What is no process, or has ended meanwhile, has no status.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        if status.lines().any(|line| line == parent) {
            let title = fs::read(path.join("cmdline")).unwrap_or_default();
            titles.push(String::from_utf8_lossy(&title).replace('\0', " ").trim().to_owned());
        }
    }
    titles.sort();
    titles
}

/// What a server holds.
#[derive(Debug)]
struct Footprint {
    processes: Vec<String>,
    files: usize,
    mappings: usize,
    resident: u64,
    shared: i64,
    witness_resident: u64,
}

impl Footprint {
    fn of(cluster: &Cluster, witness: &mut Client) -> Self {
        let postmaster = Process::new(cluster.postmaster_pid());
        let maps = fs::read_to_string(format!("/proc/{}/maps", postmaster.pid())).expect("cannot read maps");
        let shared = "SELECT sum(allocated_size)::bigint FROM pg_shmem_allocations WHERE name IS NOT NULL";
        Self {
            processes: children(postmaster.pid()),
            files: postmaster.open_files(),
            mappings: maps.lines().count(),
            resident: postmaster.resident_bytes(),
            shared: witness.query_one(shared, &[]).expect("no answer to the witness").get(0),
            witness_resident: backend_pid(witness).resident_bytes(),
        }
    }

    fn assert_no_larger_than(&self, before: &Self) {
        const MEGABYTE: u64 = 1 << 20;
        assert!(self.processes.len() <= before.processes.len(), "processes: {before:?} {self:?}");
        assert!(self.files <= before.files, "the postmaster's files: {before:?} {self:?}");
        assert!(self.mappings <= before.mappings + 2, "the postmaster's mappings: {before:?} {self:?}");
        assert!(self.resident <= before.resident + MEGABYTE, "the postmaster's memory: {before:?} {self:?}");
        assert!(self.shared <= before.shared, "shared memory: {before:?} {self:?}");
        // It touches a little more of the shared buffers with each look.
        assert!(
            self.witness_resident <= before.witness_resident + 4 * MEGABYTE,
            "the witness's memory: {before:?} {self:?}"
        );
    }
}
