//! What sessions cannot do to each other by way of the cache.

use postgres::Client;
use secretlink_e2e::{
    Cluster, ClusterBuilder, Fault, Moto, SecretsApi, SecretsRelay, Stage, eventually, unique,
};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// By when what happens on its own has happened, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// The Secrets Manager of all tests. Never dropped: guardians end it with the process.
fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

fn api() -> SecretsApi {
    moto().secrets()
}

/// A server with a cache, and its way to Secrets Manager.
struct Ground {
    local: Cluster,
    relay: SecretsRelay,
}

impl Ground {
    fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let relay = SecretsRelay::to(moto());
        let local = adjust(Cluster::local_with_endpoint(&relay.endpoint()).preload(true)).start();
        Self { local, relay }
    }

    /// A session whose entries in the cache the refresh worker leaves alone: it asks under another name.
    fn session(&self) -> Client {
        let mut client = self.local.connect("postgres", "postgres");
        client
            .batch_execute("SET secretlink.role_session_name = 'test'; SET statement_timeout = '60s'")
            .unwrap();
        client
    }
}

fn get(client: &mut Client, secret: &str) -> String {
    client.query_one("SELECT get_secret_string($1)", &[&secret]).unwrap_or_else(|e| panic!("{e:?}")).get(0)
}

#[test]
fn who_hardly_tries_does_not_make_others_use_an_old_value() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 1"));
    let secret = unique("hardly");
    api().create_secret(&secret, "old");
    let (mut hasty, mut thorough) = (ground.session(), ground.session());
    hasty.batch_execute("SET secretlink.max_attempts = 1; SET secretlink.request_timeout = '1h'").unwrap();
    assert_eq!((get(&mut hasty, &secret), get(&mut thorough, &secret)), ("old".into(), "old".into()));
    api().put_secret_value(&secret, "new", &["AWSCURRENT"]);
    let asked = AtomicUsize::new(0);
    ground.relay.rule(&secret, move |_| match asked.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Fault::Refuse(400, "ThrottlingException"),
        _ => Fault::None,
    });
    eventually("it is too old", PATIENCE, || {
        let age = "SELECT state FROM secret_cache WHERE secret_id = $1";
        let state: String = thorough.query_one(age, &[&secret]).unwrap().get(0);
        if state == "stale" { Ok(()) } else { Err(state) }
    });
    assert_eq!(get(&mut hasty, &secret), "old", "once is not often enough");
    // Within the second for which nobody would try again.
    ground.relay.pass(&secret);
    assert_eq!(get(&mut thorough, &secret), "new");
}

#[test]
fn a_cache_that_is_too_small_for_all_serves_all() {
    // Room for two.
    let ground = Ground::with(|local| local.conf("secretlink.cache_size = 2"));
    let secrets: Vec<_> = (0..8).map(|_| unique("crowd")).collect();
    for secret in &secrets {
        api().create_secret(secret, secret);
        ground.relay.rule(secret, |_| Fault::Delay(Duration::from_millis(300)));
    }
    thread::scope(|scope| {
        for secret in &secrets {
            let mut session = ground.session();
            scope.spawn(move || assert_eq!(get(&mut session, secret), *secret));
        }
    });
    for secret in &secrets {
        assert_eq!(ground.relay.count(secret, "GetSecretValue"), 1, "pushed out is not asked for again");
    }
}

#[test]
fn a_session_without_the_servers_cache_sleeps_while_it_waits() {
    let stage = Stage::shared();
    let secret = unique("wrong");
    let value = serde_json::json!({
        "username": "app", "password": "wrong", "host": "127.0.0.1", "port": stage.remote.port(), "dbname": "testdb",
    });
    stage.moto.secrets().create_secret(&secret, &value.to_string());
    let ground = Cluster::local(&stage.moto).start();
    let mut client = ground.connect("postgres", "postgres");
    let process = secretlink_e2e::backend_pid(&mut client);
    // Until it is asked for again, a wrong password is thought to be right for longer and longer.
    thread::scope(|scope| {
        let trying = scope.spawn(|| {
            for _ in 0..5 {
                let sql = format!("SELECT connect_with_secret('{secret}')");
                assert!(client.simple_query(&sql).is_err());
            }
        });
        let mut watcher = ground.connect("postgres", "postgres");
        let sql = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1";
        let (mut busy, mut waiting) = (0, 0);
        while !trying.is_finished() {
            let row = watcher.query_one(sql, &[&process.pid().cast_signed()]).unwrap();
            match row.get::<_, Option<String>>(0) {
                None => busy += 1,
                Some(_) => waiting += 1,
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(busy < waiting, "{busy} times busy, {waiting} times waiting");
    });
}
