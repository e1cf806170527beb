//! A session that asks for a secret ends early, or hangs, or is killed: the others go on.

use crate::ground::{Ground, PATIENCE, get, holds, put, secret, text};
use postgres::{Client, NoTls};
use secretlink_e2e::{Fault, Witness, backend_pid, eventually};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// The first request for a secret is answered that late, the others at once.
fn first_is_late(ground: &Ground, secret: &str, late: Duration) {
    let asked = AtomicUsize::new(0);
    ground.relay.rule(secret, move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Fault::Delay(late),
        _ => Fault::None,
    });
}

/// Asks in a thread of its own.
fn asking(mut client: Client, secret: &str) -> thread::JoinHandle<Result<String, postgres::Error>> {
    let secret = secret.to_owned();
    thread::spawn(move || get(&mut client, &secret))
}

#[test]
fn when_one_is_cancelled_or_ends_another_asks() {
    let ground = Ground::start();
    let mut witness = Witness::of(&ground.local);
    for way in ["cancel", "pg_cancel_backend", "pg_terminate_backend", "statement_timeout", "disconnect"] {
        let name = secret("one");
        first_is_late(&ground, &name, PATIENCE * 2);
        let mut first = ground.session();
        let (pid, cancel) = (backend_pid(&mut first).pid(), first.cancel_token());
        if way == "statement_timeout" {
            first.batch_execute("SET statement_timeout = '2s'").unwrap();
        }
        let first = asking(first, &name);
        ground.until_asked(&name, 1);
        let waiting: Vec<_> = (0..3).map(|_| asking(ground.session(), &name)).collect();
        // One of those who wait is interrupted, too, and another one ends.
        for end in ["pg_cancel_backend", "pg_terminate_backend"] {
            let mut other = ground.session();
            let pid = backend_pid(&mut other).pid();
            let other = asking(other, &name);
            eventually("it waits", PATIENCE, || {
                let sql = format!(
                    "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
                );
                let rows = ground.session().query(&sql, &[]).unwrap();
                if rows.iter().any(|row| row.get(0)) { Ok(()) } else { Err("not yet".to_owned()) }
            });
            text(&mut ground.session(), &format!("SELECT {end}({pid})"));
            other.join().unwrap().unwrap_err();
        }
        assert_eq!(ground.asked(&name), 1, "{way}");
        match way {
            "statement_timeout" => {}
            "cancel" | "disconnect" => cancel.cancel_query(NoTls).unwrap(),
            end => {
                text(&mut ground.session(), &format!("SELECT {end}({pid})"));
            }
        }
        first.join().unwrap().unwrap_err();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().unwrap(), "one", "{way}");
        }
        assert_eq!(ground.asked(&name), 2, "{way}");
    }
    witness.confirm(&ground.local);
}

#[test]
fn one_that_hangs_holds_nobody_up_for_long_and_changes_nothing_later() {
    let ground = Ground::with(|local| local.conf("secretlink.request_timeout = '3s'"));
    let name = secret("old");
    let mut hanging = ground.session();
    let process = backend_pid(&mut hanging);
    // It stops when the answer with the old value is there and it has not read it yet.
    let (stop, stopped) = mpsc::channel();
    let stop = Mutex::new(Some(stop));
    ground.relay.rule(&name, move |_| match stop.lock().unwrap().take() {
        Some(stop) => Fault::BeforeAnswer(Box::new(move || {
            process.pause();
            stop.send(()).unwrap();
        })),
        None => Fault::None,
    });
    let hung = asking(hanging, &name);
    stopped.recv_timeout(PATIENCE).unwrap();
    put(&name, "new");
    // Those who come a second later take over when its time is up.
    thread::sleep(Duration::from_millis(1_500));
    let waiting: Vec<_> = (0..4).map(|_| asking(ground.session(), &name)).collect();
    for waiting in waiting {
        assert_eq!(waiting.join().unwrap().unwrap(), "new");
    }
    assert_eq!(ground.asked(&name), 2);
    process.resume();
    // It has what was when it asked, or finds that its own time is up.
    match hung.join().unwrap() {
        Ok(value) => assert_eq!(value, "old"),
        Err(error) => assert_eq!(error.code().unwrap().code(), "58000", "{error:?}"),
    }
    holds(&mut ground.session(), &name, "new");
    assert_eq!(ground.asked(&name), 2);
}

#[test]
fn one_that_is_killed_leaves_an_empty_cache() {
    let ground = Ground::start();
    let (name, late) = (secret("one"), secret("late"));
    holds(&mut ground.session(), &name, "one");
    first_is_late(&ground, &late, PATIENCE * 2);
    let mut session = ground.session();
    let process = backend_pid(&mut session);
    let asked = asking(session, &late);
    ground.until_asked(&late, 1);
    process.kill();
    asked.join().unwrap().unwrap_err();
    let mut session = until_up(&ground);
    assert_eq!(text(&mut session, "SELECT count(*) FROM secret_cache"), "0");
    holds(&mut session, &late, "late");
    holds(&mut session, &name, "one");
    assert_eq!((ground.asked(&name), ground.asked(&late)), (2, 2));
}

fn until_up(ground: &Ground) -> Client {
    eventually("the server has recovered", PATIENCE, || {
        let mut client = ground.local.try_connect("postgres", "postgres").map_err(|e| e.to_string())?;
        client.batch_execute("SELECT pg_sleep(0.3)").map_err(|e| e.to_string())?;
        Ok(client)
    })
}

/// Sessions that read, renew and forget all the time. They come back when they are ended.
fn churn(ground: &Ground, names: &[String], stop: &AtomicBool) -> usize {
    let mut rounds = 0;
    let mut session = None;
    while !stop.load(Ordering::SeqCst) {
        let Some(client) = &mut session else {
            session = ground.local.try_connect("postgres", "postgres").ok();
            continue;
        };
        let name = &names[fastrand::usize(..names.len())];
        let sql = match fastrand::u8(..12) {
            0 => format!("SELECT refresh_secret('{name}') IS NOT NULL"),
            1 => format!("SELECT forget_secret('{name}') >= 0"),
            2 => "SELECT count(*) >= 0 FROM secret_cache".to_owned(),
            _ => format!("SELECT get_secret_string('{name}') LIKE '{name} %'"),
        };
        match client.query_one(&sql, &[]) {
            Ok(row) => assert!(row.get::<_, bool>(0), "{sql}"),
            // Nothing but its own end.
            Err(error) => {
                let is_end = error.code().is_none_or(|code| code.code().starts_with("57P"));
                assert!(is_end, "{sql}: {error:?}");
                session = None;
            }
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn ended_at_random_they_leave_the_cache_as_it_should_be() {
    let small = Ground::with(|local| local.conf("secretlink.cache_size = 64kB"));
    let mut witness = Witness::of(&small.local);
    let spared = backend_pid(&mut witness.client).pid();
    for (kill, times) in [(false, 60), (true, 5)] {
        let names: Vec<String> = (0..12)
            .map(|n| {
                let name = secret("?");
                put(&name, &format!("{name} {}", "x".repeat(n * 1_000)));
                name
            })
            .collect();
        let stop = AtomicBool::new(false);
        let rounds: usize = thread::scope(|scope| {
            let churning: Vec<_> = (0..5).map(|_| scope.spawn(|| churn(&small, &names, &stop))).collect();
            for _ in 0..times {
                let victim = format!(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid NOT IN (pg_backend_pid(), {spared}) ORDER BY random() LIMIT 1"
                );
                let mut session = if kill { until_up(&small) } else { small.session() };
                thread::sleep(Duration::from_micros(fastrand::u64(..30_000)));
                let Ok(Some(row)) = session.query_opt(&victim, &[]) else { continue };
                let pid: i32 = row.get(0);
                if kill {
                    secretlink_e2e::Process::new(pid.cast_unsigned()).kill();
                } else {
                    let _ = session.query("SELECT pg_terminate_backend($1)", &[&pid]);
                }
            }
            if kill {
                until_up(&small);
            }
            stop.store(true, Ordering::SeqCst);
            churning.into_iter().map(|churning| churning.join().unwrap()).sum()
        });
        assert!(rounds > 20, "{rounds}");
        if !kill {
            witness.confirm(&small.local);
        }
        let mut session = until_up(&small);
        for name in &names {
            assert!(get(&mut session, name).unwrap().starts_with(name.as_str()));
        }
        let asking = "SELECT count(*) FROM secret_cache WHERE state = 'asking'";
        assert_eq!(text(&mut session, asking), "0");
        assert!(text(&mut session, "SELECT count(*) FROM secret_cache").parse::<u32>().unwrap() > 0);
    }
    let log = small.local.log();
    assert!(!log.contains("panicked") && !log.contains("PANIC"), "{log}");
}
