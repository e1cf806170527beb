//! Secrets Manager cannot be asked, or refuses.

use crate::ground::{Ground, PATIENCE, connect, get, holds, login, put, remote, secret, stat};
use secretlink_e2e::{Fault, SecretsRequest, db_error, eventually, random_password};
use std::time::{Duration, Instant};

type Rule = fn(&SecretsRequest) -> Fault;

/// How Secrets Manager can be away, and the SQLSTATE of that.
const WAYS: [(Rule, &str); 4] = [
    (|_| Fault::Cut, "08001"),
    (|_| Fault::Refuse(500, "InternalServiceError"), "58000"),
    (|_| Fault::Refuse(503, "ServiceUnavailable"), "58000"),
    (|_| Fault::Refuse(400, "ThrottlingException"), "53400"),
];

#[test]
fn old_values_serve_for_a_time_and_then_it_is_an_error() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let value = login("app", &password);
    let names = WAYS.map(|_| secret(&value));
    let mut session = ground.session();
    for (name, (rule, _)) in names.iter().zip(WAYS) {
        holds(&mut session, name, &value);
        ground.relay.rule(name, rule);
    }
    ground.expire(&mut session);
    for name in &names {
        for _ in 0..3 {
            holds(&mut ground.session(), name, &value);
            let work = format!("{}; SELECT dblink_disconnect('c')", connect(name, remote.port()));
            session.batch_execute(&work).unwrap();
        }
        let state = "SELECT state, last_error IS NOT NULL FROM secret_cache WHERE secret_id = $1";
        let row = session.query_one(state, &[name]).unwrap();
        assert!(["stale", "asking"].contains(&row.get(0)), "{row:?}");
        assert!(row.get::<_, bool>(1));
    }
    assert!(stat(&mut session, "cache_stale_serves") > 0);
    // What is asked for now, whatever is cached, is an error.
    for (name, (_, code)) in names.iter().zip(WAYS) {
        let refresh = session.query("SELECT refresh_secret($1)", &[name]);
        assert_eq!(db_error(refresh).code().code(), code);
        holds(&mut session, name, &value);
    }

    ground.set(&mut session, "secretlink.cache_max_stale", "0");
    for (name, (_, code)) in names.iter().zip(WAYS) {
        let error = db_error(get(&mut session, name));
        assert_eq!(error.code().code(), code, "{error:?}");
        let error = db_error(session.batch_execute(&connect(name, remote.port())));
        assert_eq!(error.code().code(), code, "{error:?}");
    }
    // It is back: the next one who asks gets the value.
    ground.relay.pass_all();
    for name in &names {
        put(name, "new");
        holds(&mut session, name, "new");
    }
    let log = ground.local.log();
    for name in &names {
        for (message, times) in [
            (
                format!("LOG:  secret \"{name}\" could not be read again, and the value read before is used"),
                1,
            ),
            (format!("LOG:  secret \"{name}\" has a new version"), 1),
        ] {
            assert_eq!(log.matches(&message).count(), times, "{message}");
        }
    }
}

#[test]
fn the_log_tells_once_that_it_is_away_and_once_that_it_is_back() {
    let ground = Ground::start();
    let name = secret("one");
    let mut session = ground.session();
    holds(&mut session, &name, "one");
    ground.relay.rule(&name, |_| Fault::Cut);
    ground.expire(&mut session);
    let told = |text: &str| ground.local.log().matches(&format!("LOG:  secret \"{name}\" {text}")).count();
    let before = ground.asked(&name);
    eventually("it is asked for some more times", PATIENCE, || {
        holds(&mut session, &name, "one");
        if ground.asked(&name) >= before + 2 { Ok(()) } else { Err(ground.asked(&name).to_string()) }
    });
    assert_eq!(told("could not be read again"), 1);
    ground.relay.pass(&name);
    eventually("it is back", PATIENCE, || {
        holds(&mut session, &name, "one");
        if told("can be read again") == 1 { Ok(()) } else { Err(ground.local.log()) }
    });
    std::thread::sleep(Duration::from_secs(2));
    holds(&mut session, &name, "one");
    assert_eq!((told("could not be read again"), told("can be read again")), (1, 1));
}

#[test]
fn nobody_waits_long_for_an_answer_that_never_comes() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let ground = Ground::with(|local| local.conf("secretlink.request_timeout = '2s'"));
    let remote = remote(|remote| remote);
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let value = login("app", &password);
    let (name, never_read) = (secret(&value), secret(&value));
    let mut session = ground.session();
    holds(&mut session, &name, &value);
    for name in [&name, &never_read] {
        ground.relay.rule(name, |_| Fault::Delay(PATIENCE * 2));
    }
    ground.expire(&mut session);
    // Everybody gets the old value, after the time that one may ask at most.
    let sessions: Vec<_> = (0..8).map(|_| ground.session()).collect();
    std::thread::scope(|scope| {
        for mut session in sessions {
            let (name, value) = (&name, &value);
            scope.spawn(move || {
                let began = Instant::now();
                holds(&mut session, name, value);
                assert!(began.elapsed() < TIMEOUT * 3, "{:?}", began.elapsed());
            });
        }
    });
    // Now it is known: ten who waited would take twenty seconds.
    let began = Instant::now();
    for _ in 0..10 {
        holds(&mut session, &name, &value);
    }
    assert!(began.elapsed() < TIMEOUT * 5, "{:?}", began.elapsed());

    // What nobody has read is an error, for all at the same time.
    let sessions: Vec<_> = (0..8).map(|_| ground.session()).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for mut session in sessions {
            let never_read = &never_read;
            scope.spawn(move || {
                let error = db_error(get(&mut session, never_read));
                assert_eq!(error.code().code(), "58000", "{error:?}");
            });
        }
    });
    assert!(began.elapsed() < TIMEOUT * 4, "one after the other: {:?}", began.elapsed());

    // A login whose password is refused does not wait for that again and again.
    remote.connect("postgres", "postgres").batch_execute("ALTER ROLE app PASSWORD 'another'").unwrap();
    let began = Instant::now();
    for _ in 0..6 {
        let error = db_error(session.batch_execute(&connect(&name, remote.port())));
        assert!(error.detail().unwrap().contains("password authentication failed"), "{error:?}");
    }
    // That is twice the time for each; without a limit of its own it would be four times.
    assert!(began.elapsed() < TIMEOUT * 15, "{:?}", began.elapsed());
}

#[test]
fn a_refusal_is_felt_when_it_is_asked_again() {
    let ground = Ground::start();
    let ways: [(Rule, &str); 3] = [
        (|_| Fault::Refuse(400, "AccessDeniedException"), "42501"),
        (|_| Fault::Refuse(400, "ResourceNotFoundException"), "42704"),
        (|_| Fault::Refuse(400, "DecryptionFailure"), "42501"),
    ];
    let names = ways.map(|_| secret("one"));
    let mut session = ground.session();
    for (name, (rule, _)) in names.iter().zip(ways) {
        holds(&mut session, name, "one");
        ground.relay.rule(name, rule);
    }
    ground.expire(&mut session);
    for (name, (_, code)) in names.iter().zip(ways) {
        for _ in 0..2 {
            let error = db_error(get(&mut session, name));
            assert_eq!(error.code().code(), code, "{error:?}");
        }
        // The old value is gone for good.
        ground.relay.rule(name, |_| Fault::Cut);
        assert_eq!(db_error(get(&mut session, name)).code().code(), "08001");
        let entry = "SELECT state, version_id FROM secret_cache WHERE secret_id = $1";
        let row = session.query_one(entry, &[name]).unwrap();
        assert_eq!((row.get(0), row.get(1)), ("failed", None::<String>));
        let message = format!("LOG:  secret \"{name}\" could not be read again\n");
        assert_eq!(ground.local.log().matches(&message).count(), 1);
        ground.relay.pass(name);
        holds(&mut session, name, "one");
    }
}
