//! Statements that are interrupted.

use crate::ground::{at_port, ground};
use crate::trial::Trial;
use secretlink_e2e::{Mode, NeverAnswers, Proxy, backend_pid};
use std::thread::{self};
use std::time::Duration;

#[test]
fn an_interrupt_at_any_stage_shows_nothing() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    let secret = trial.login(&role);
    let (aws, hole, nowhere) = (Proxy::to(ground().moto.port()), Proxy::black_hole(), NeverAnswers::new());
    let slow = Proxy::to(ground().remote.port());
    let set = format!("SET statement_timeout = 300; SET secretlink.endpoint_url = '{}'", aws.endpoint());
    trial.client.batch_execute(&set).unwrap();
    let timed_out = "canceling statement due to statement timeout";
    let connect_at = |port: u16| format!("SELECT connect_with_secret('{secret}', {})", at_port(port));

    for mode in [Mode::BlackHole, Mode::Delay(Duration::from_millis(200))] {
        aws.set(mode);
        trial.fails(&connect_at(slow.port()), timed_out);
    }
    aws.set(Mode::Pass);
    trial.fails(&connect_at(nowhere.port()), timed_out);
    trial.fails(&connect_at(hole.port()), timed_out);
    // TLS and SCRAM take some exchanges: each pause ends in another one.
    for pause in [40, 60, 90, 130, 200] {
        slow.set(Mode::Delay(Duration::from_millis(pause)));
        trial.fails(&connect_at(slow.port()), timed_out);
    }
    slow.set(Mode::Pass);
    trial.client.query_one(&connect_at(slow.port()), &[]).unwrap();
    trial.fails("SELECT dblink_exec('remote_conn', 'DO $$BEGIN PERFORM pg_sleep(9); END$$')", timed_out);

    trial.client.batch_execute("SET statement_timeout = 0; SET secretlink.request_timeout = 300").unwrap();
    trial.client.query_one(&format!("SELECT forget_secret('{secret}')"), &[]).unwrap();
    aws.set(Mode::BlackHole);
    trial.fails(&connect_at(slow.port()), "request to Secrets Manager timed out");
    aws.set(Mode::Pass);
    let options = format!("{}, options => 'connect_timeout=2'", at_port(hole.port()));
    trial.fails(&format!("SELECT connect_with_secret('{secret}', {options})"), "timeout expired");

    // Ended from outside, in the middle of it.
    let pid = backend_pid(&mut trial.client).pid().cast_signed();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let mut client = ground().local.connect("postgres", "postgres");
        client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    });
    let error = trial.client.simple_query(&connect_at(hole.port())).unwrap_err();
    // The client library may notice the end of the connection before it hands out the server's last
    // word: that is in the log in any case.
    trial.told.lock().unwrap().push(format!("{error:?}"));
    trial.errors.push("57P01: terminating connection due to administrator command".into());
    killer.join().unwrap();
    trial.end();
}
