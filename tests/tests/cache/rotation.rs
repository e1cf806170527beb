//! Passwords that change while sessions log in with them.

use crate::ground::{Ground, PATIENCE, api, connect, get, login, remote, requests, secret, stat, text};
use crate::load::Load;
use secretlink_e2e::{
    Cluster, Fault, Mode, Proxy, SecretsApi, db_error, eventually, random_password, unique,
};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROTATIONS: usize = 4;

/// What all sessions together may ask for during a rotation, on a machine that is slow: each time that it is
/// looked whether the refused version is still the current one, which gets rarer and rarer, and once each
/// for the pending one and the new one.
const PER_ROTATION: i64 = 12;

/// Waits until everybody has logged in some more times.
fn go_on(load: &Load, sessions: usize) {
    let before = load.good();
    eventually("the load goes on", PATIENCE, || match load.good() {
        good if good >= before + sessions => Ok(()),
        good => Err(format!("{good} after {before}")),
    });
}

/// One rotation, as AWS's own functions do it. It goes through the relay, which has moto do one thing at a
/// time.
fn rotate(api: &SecretsApi, secret: &str, remote: &Cluster, mut between: impl FnMut()) {
    let password = random_password();
    let before = api.version_at(secret, "AWSCURRENT").unwrap();
    let pending = api.put_secret_value(secret, &login("app", &password), &["AWSPENDING"]);
    between();
    remote
        .connect("postgres", "postgres")
        .batch_execute(&format!("ALTER ROLE app PASSWORD '{password}'"))
        .unwrap();
    between();
    api.move_label(secret, "AWSCURRENT", Some(&before), Some(&pending)).unwrap();
    between();
}

/// How many requests a rotation has cost with so many sessions.
fn cost_of_rotations(sessions: usize) -> i64 {
    let ground = Ground::with(|local| local.conf("max_connections = 120"));
    let remote = remote(|remote| remote.conf("max_connections = 120"));
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let name = secret(&login("app", &password));
    let mut session = ground.session();
    get(&mut session, &name).unwrap();
    let before = requests(&mut session);
    let load = Load::start(&ground, sessions, &name, remote.port());
    let api = SecretsApi::new(&ground.relay.endpoint());
    for _ in 0..ROTATIONS {
        rotate(&api, &name, &remote, || {
            thread::sleep(Duration::from_millis(200));
            go_on(&load, sessions);
        });
    }
    let (good, errors) = load.stop();
    assert!(errors.is_empty(), "{} of {good}: {:?}", errors.len(), errors.first());
    let retried = stat(&mut session, "connections_retried");
    assert!(retried >= ROTATIONS as i64, "the load has felt the rotations: {retried}");
    let cost = requests(&mut session) - before;
    println!("{sessions} sessions: {good} logins, {retried} with another password, {cost} requests");
    cost
}

#[test]
fn a_rotation_under_load_fails_nobody_and_costs_as_much_for_many_as_for_few() {
    let few = cost_of_rotations(5);
    let many = cost_of_rotations(40);
    let most = PER_ROTATION * ROTATIONS as i64;
    assert!(few <= most && many <= most, "{few} {many}");
}

#[test]
fn password_sync_under_load_fails_nobody() {
    const SESSIONS: usize = 20;
    let ground = Ground::start();
    // The server that is logged in to has its passwords synced, by the same Secrets Manager.
    let remote = Cluster::local_with_endpoint(&ground.relay.endpoint())
        .preload(true)
        .tcp()
        .auth("host", "all", "scram-sha-256")
        .conf("secretlink.max_attempts = 1")
        .start();
    let (role, name) = (unique("synced").replace('-', "_"), unique("synced"));
    let first = random_password();
    api().create_secret(&name, &login(&role, &first));
    let mut admin = remote.connect("postgres", "postgres");
    admin
        .batch_execute(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {role} LOGIN PASSWORD '{first}';
             SELECT sync_role('{role}', '{name}')"
        ))
        .unwrap();
    let mut session = ground.session();
    get(&mut session, &name).unwrap();
    let before = requests(&mut session);
    let load = Load::start(&ground, SESSIONS, &name, remote.port());
    for _ in 0..ROTATIONS {
        let alter = format!("ALTER ROLE {role} PASSWORD '{}'", random_password());
        admin.batch_execute(&alter).unwrap();
        go_on(&load, SESSIONS);
    }
    let (good, errors) = load.stop();
    assert!(errors.is_empty(), "{} of {good}: {:?}", errors.len(), errors.first());
    let cost = requests(&mut session) - before;
    println!("{good} logins, {cost} requests");
    assert!(cost <= PER_ROTATION * ROTATIONS as i64, "{cost}");
    assert!(stat(&mut session, "connections_retried") > 0);
}

#[test]
fn a_wrong_password_does_not_cost_a_request_for_each_attempt() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    remote.create_login("app", &random_password(), "scram-sha-256");
    let wrong = secret(&login("app", "wrong"));
    let unusable = secret(r#"{"username":"app"}"#);
    for (name, code) in [(&wrong, "08001"), (&unusable, "2203A")] {
        let mut session = ground.session();
        let error = db_error(session.batch_execute(&connect(name, remote.port())));
        assert_eq!(error.code().code(), code, "{error:?}");
        let (began, asked) = (Instant::now(), ground.asked(name));
        let load = Load::start(&ground, 12, name, remote.port());
        thread::sleep(Duration::from_secs(3));
        let (good, errors) = load.stop();
        let (seconds, asked) = (began.elapsed().as_secs() as usize + 1, ground.asked(name) - asked);
        println!("{} attempts in {seconds} s, {asked} requests", errors.len());
        // Once a second for each of the two labels, and some more at first.
        assert!(asked <= 2 * seconds + 8, "{asked} in {seconds} s");
        assert!(good == 0 && errors.len() > 12);
    }
    // It is put right, and felt at once.
    let right = random_password();
    remote
        .connect("postgres", "postgres")
        .batch_execute(&format!("ALTER ROLE app PASSWORD '{right}'"))
        .unwrap();
    for name in [&wrong, &unusable] {
        crate::ground::put(name, &login("app", &right));
        ground.session().batch_execute(&connect(name, remote.port())).unwrap();
    }
}

#[test]
fn a_rotation_is_followed_though_one_answer_is_an_error() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let name = secret(&login("app", &password));
    let mut session = ground.session();
    for fault in [|| Fault::Refuse(400, "ThrottlingException"), || Fault::Cut] {
        get(&mut session, &name).unwrap();
        // Already over, and not by way of AWSPENDING.
        let password = random_password();
        let alter = format!("ALTER ROLE app PASSWORD '{password}'");
        remote.connect("postgres", "postgres").batch_execute(&alter).unwrap();
        crate::ground::put(&name, &login("app", &password));
        let first = AtomicBool::new(true);
        ground
            .relay
            .rule(&name, move |_| if first.swap(false, Ordering::SeqCst) { fault() } else { Fault::None });
        session
            .batch_execute(&format!("{}; SELECT dblink_disconnect('c')", connect(&name, remote.port())))
            .unwrap();
    }
}

#[test]
fn without_preloading_it_works_too() {
    let ground = Ground::with(|local| local.preload(false));
    let remote = remote(|remote| remote);
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let name = secret(&login("app", &password));
    let mut session = ground.session();
    let connect = connect(&name, remote.port());
    let api = SecretsApi::new(&ground.relay.endpoint());
    for _ in 0..2 {
        rotate(&api, &name, &remote, || {
            session_connects(&ground, &connect);
        });
    }
    let work = format!("{connect}; SELECT dblink_disconnect('c')");
    session.batch_execute(&work).unwrap();
    let (asked, mut retried) = (ground.asked(&name), 0);
    let retries = |session: &mut postgres::Client| stat(session, "connections_retried");
    rotate(&api, &name, &remote, || {
        session.batch_execute(&work).unwrap();
    });
    retried += retries(&mut session);
    assert_eq!(retried, 2, "once with the pending one, once with the new one");
    assert!(ground.asked(&name) > asked);
    // With a wrong password: a session that waits until it may ask again can be interrupted.
    remote.connect("postgres", "postgres").batch_execute("ALTER ROLE app PASSWORD 'another'").unwrap();
    for _ in 0..4 {
        db_error(session.batch_execute(&connect));
    }
    session.batch_execute("SET statement_timeout = '150ms'").unwrap();
    assert_eq!(db_error(session.batch_execute(&connect)).code().code(), "57014");
}

fn session_connects(ground: &Ground, connect: &str) {
    ground.session().batch_execute(connect).unwrap();
}

#[test]
fn an_error_of_the_network_is_no_reason_to_ask() {
    let ground = Ground::start();
    let mut remote = remote(|remote| remote);
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let name = secret(&login("app", &password));
    let proxy = Proxy::to(remote.port());
    let connect = connect(&name, proxy.port());
    let mut session = ground.session();
    let work = format!("{connect}; SELECT dblink_disconnect('c')");
    session.batch_execute(&work).unwrap();
    // In the middle of the exchange of SCRAM messages, too, which takes some 200 bytes.
    for mode in [1, 9, 24, 60, 100, 130, 150].map(Mode::CutAfter).into_iter().chain([Mode::Refuse]) {
        proxy.set(mode);
        db_error(session.batch_execute(&connect));
        proxy.set(Mode::Pass);
        session.batch_execute(&work).unwrap();
    }
    session.batch_execute("SET statement_timeout = '300ms'").unwrap();
    proxy.set(Mode::BlackHole);
    assert_eq!(db_error(session.batch_execute(&connect)).code().code(), "57014");
    proxy.set(Mode::Pass);
    session.batch_execute("RESET statement_timeout").unwrap();
    remote.stop(secretlink_e2e::StopMode::Fast);
    db_error(session.batch_execute(&connect));
    remote.start();
    session.batch_execute(&work).unwrap();
    // Nor is what the server says before it has looked at the password.
    remote.connect("postgres", "postgres").batch_execute("ALTER ROLE app CONNECTION LIMIT 0").unwrap();
    assert!(db_error(session.batch_execute(&connect)).detail().unwrap().contains("too many connections"));
    assert_eq!(ground.asked(&name), 1);
    assert_eq!(text(&mut session, "SELECT connections_retried FROM secretlink_stats"), "0");
}

/// A port at which nobody listens.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_database_that_has_moved_is_found_at_once() {
    let ground = Ground::start();
    let after = remote(|remote| remote);
    let password = random_password();
    after.create_login("app", &password, "scram-sha-256");
    let at = |host: &str, port: u16| {
        json!({ "username": "app", "password": password, "host": host, "port": port, "dbname": "postgres" })
            .to_string()
    };
    let gone = [
        ("127.0.0.1", closed_port()),
        ("no-such-host.invalid", 5432),
        // Several hosts in one secret: all have to be gone.
        ("127.0.0.1,127.0.0.2", closed_port()),
        ("127.0.0.1,no-such-host.invalid", closed_port()),
    ];
    for (host, port) in gone {
        let name = secret(&at(host, port));
        let mut session = ground.session();
        let connect = format!(
            "SELECT connect_with_secret('{name}', connection_name => 'c', options => 'sslmode=disable')"
        );
        get(&mut session, &name).unwrap();
        // It is gone, and the secret does not say where to: asked once, and not by everybody who tries.
        for _ in 0..5 {
            let error = db_error(session.batch_execute(&connect));
            assert_eq!(error.code().code(), "08001", "{host}: {error:?}");
        }
        let asked = ground.asked(&name);
        assert!((2..=4).contains(&asked), "{host}: {asked}");
        crate::ground::put(&name, &at("127.0.0.1", after.port()));
        eventually("the new place is known", PATIENCE, || {
            session
                .batch_execute(&format!("{connect}; SELECT dblink_disconnect('c')"))
                .map_err(|e| format!("{host}: {e:?}"))
        });
    }
}

/// A host that does not answer may be there and slow, or behind a network that is down: AWS would be asked by everybody
/// who waits for it.
#[test]
fn a_database_that_does_not_answer_is_no_reason_to_ask() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    // Nobody accepts, and the kernel does.
    let silent = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    for (host, port, is_good) in [
        ("127.0.0.2", silent_port, false),
        ("127.0.0.3,127.0.0.2", silent_port, false),
        // One of several hosts is gone, which the others make up for.
        ("127.0.0.3,127.0.0.1", remote.port(), true),
    ] {
        let value = json!({ "username": "app", "password": password, "host": host, "port": port, "dbname": "postgres" });
        let name = secret(&value.to_string());
        let mut session = ground.session();
        get(&mut session, &name).unwrap();
        let connected = session.batch_execute(&format!(
            "SELECT connect_with_secret('{name}', connection_name => 'c',
                                        options => 'sslmode=disable connect_timeout=2')"
        ));
        assert_eq!(connected.is_ok(), is_good, "{host} {port}: {connected:?}");
        assert_eq!(ground.asked(&name), 1, "{host} {port}");
    }
}

/// What happens before a label is looked at for the n-th time: which password the server has then, and which versions
/// are at `AWSCURRENT` and at `AWSPENDING`.
type Happening = (&'static str, usize, usize, [usize; 2]);

/// Rotations that follow each other quickly, as seen by a session that looks at the labels while they move: a version
/// that was tried before its password was set is tried again.
#[test]
fn a_version_that_was_tried_too_early_is_tried_again() {
    // The first is finished between the two looks; or the second goes on after each look.
    let first: &[Happening] = &[("AWSCURRENT", 1, 1, [1, 2])];
    let second: &[Happening] = &[("AWSPENDING", 0, 1, [1, 2]), ("AWSCURRENT", 1, 2, [1, 2])];
    for script in [first, second] {
        let ground = Ground::start();
        let remote = remote(|remote| remote);
        let passwords: Vec<_> = (0..3).map(|_| random_password()).collect();
        let name = secret(&login("app", &passwords[0]));
        let mut session = ground.session();
        get(&mut session, &name).unwrap();
        // The server is at a password that nobody knows any more.
        remote.create_login("app", &random_password(), "scram-sha-256");
        let mut versions = vec![api().version_at(&name, "AWSCURRENT").unwrap()];
        for (password, label) in passwords[1..].iter().zip(["AWSPENDING", "LATER"]) {
            versions.push(api().put_secret_value(&name, &login("app", password), &[label]));
        }
        let looks = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let admin = Mutex::new(remote.connect("postgres", "postgres"));
        ground.relay.rule(&name, move |request| {
            let label = request.input["VersionStage"].as_str().unwrap_or("AWSCURRENT");
            let Some(place) = ["AWSCURRENT", "AWSPENDING"].iter().position(|known| *known == label) else {
                return Fault::None;
            };
            let look = looks[place].fetch_add(1, Ordering::SeqCst);
            for (_, _, set, at) in script.iter().filter(|(its, nth, ..)| *its == label && *nth == look) {
                let alter = format!("ALTER ROLE app PASSWORD '{}'", passwords[*set]);
                admin.lock().unwrap().batch_execute(&alter).unwrap();
                for (label, to) in ["AWSCURRENT", "AWSPENDING"].into_iter().zip(at) {
                    let from = api().version_at(&request.secret, label);
                    api().move_label(&request.secret, label, from.as_deref(), Some(&versions[*to])).unwrap();
                }
            }
            Fault::None
        });
        let error = session.batch_execute(&connect(&name, remote.port())).err();
        assert!(error.is_none(), "{script:?}: {error:?}, {:?}", ground.relay.operations(&name));
    }
}

/// Looking at labels that do not move costs as many logins and requests as before.
#[test]
fn a_password_that_is_simply_wrong_is_tried_once_a_version() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    let relay = Proxy::to(remote.port());
    remote.create_login("app", &random_password(), "scram-sha-256");
    let name = secret(&login("app", "wrong"));
    let mut session = ground.session();
    get(&mut session, &name).unwrap();
    let asked = ground.asked(&name);
    db_error(session.batch_execute(&connect(&name, relay.port())));
    assert_eq!(relay.accepted(), 1, "AWSCURRENT");
    let asked = ground.asked(&name) - asked;
    assert!(asked <= 6, "three labels, twice: {asked}");
    api().put_secret_value(&name, &login("app", "wrong, too"), &["AWSPENDING"]);
    eventually("the one that is pending is seen", PATIENCE, || {
        let before = relay.accepted();
        db_error(session.batch_execute(&connect(&name, relay.port())));
        match relay.accepted() - before {
            2 => Ok(()),
            other => Err(format!("{other} logins")),
        }
    });
    db_error(session.batch_execute(&connect(&name, relay.port())));
    let before = relay.accepted();
    db_error(session.batch_execute(&connect(&name, relay.port())));
    assert_eq!(relay.accepted() - before, 2, "AWSCURRENT and AWSPENDING");
}
