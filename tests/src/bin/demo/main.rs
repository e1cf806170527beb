//! `demo`: the extension's main job, typed and answered in one psql session.
//! `sandbox`: the same set-up left running, to try it oneself.
//!
//! Both run on throw-away servers and clean up, also on Ctrl-C.

mod company;
mod script;
mod session;

use company::Company;
use script::Step;
use secretlink_e2e::{PostgresBin, Stage};
use serde_json::json;
use session::Session;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

const SCRIPT: &str = include_str!("../../../demo.sql");
/// What the sandbox proposes, by use.
const FIRST_STEPS: &str = "  \
  -- Read a secret, and connect with it. The certificate of the other server is verified.
  SELECT get_secret_value('test-db-secret');
  SELECT connect_with_secret('test-db-secret', options => 'sslmode=verify-full sslrootcert={ca}');
  SELECT * FROM dblink('remote_conn', 'SELECT id, item, amount FROM orders') AS t(id int, item text, amount numeric);

  -- Keep a secret in step with the password of a role.
  CREATE ROLE report LOGIN;
  SELECT sync_role('report', 'prod/report');
  ALTER ROLE report PASSWORD 'changed here';
  SELECT get_secret_value('prod/report') ->> 'password';

  -- Give a role of the other server a new password, now and by a schedule.
  SELECT rotate_secret('test-db-secret');
  SELECT schedule_rotation('test-db-secret', 'rate(30 days)');
  SELECT * FROM rotation_schedule;

  -- Sign an IAM token. No server of the sandbox takes one.
  SELECT iam_auth_token('orders.cluster-abc.eu-west-1.rds.amazonaws.com', 'app');
";
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The first signal asks for an orderly end, the second ends at once; the guardians then
        // clean up.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            INTERRUPTED.into(),
            Arc::clone(&interrupted),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
        .expect("cannot handle signals");
    }
    match std::env::args().nth(1).as_deref() {
        Some("demo") => demo(&interrupted),
        Some("sandbox") => sandbox(&interrupted),
        _ => {
            eprintln!("usage: demo demo|sandbox");
            ExitCode::from(2)
        }
    }
}

fn start() -> Stage {
    println!("Starting two Postgres {} servers and a Secrets Manager stand-in …", PostgresBin::get().major());
    let stage = Stage::preloaded();
    println!("  Postgres with secretlink       {}", stage.local.conninfo("postgres", "postgres"));
    println!("  remote Postgres, TLS + SCRAM   host=127.0.0.1 port={} dbname=testdb", stage.remote.port());
    println!("  Secrets Manager (moto)         {}\n", stage.moto.endpoint());
    stage
}

fn demo(interrupted: &AtomicBool) -> ExitCode {
    let stage = start();
    let text = SCRIPT
        .replace("{app_password}", stage.remote.app_password())
        .replace("{remote_port}", &stage.remote.port().to_string());
    let steps = script::parse(&text);
    let mut company = Company::of(&stage);
    let mut session = Session::start(&stage.local);
    let mut missing = Vec::new();
    for step in &steps {
        missing.extend(step.actions.iter().filter_map(|action| company.act(*action).err()));
        print_as_typed(step);
        let Some(output) = session.run(&step.statement, interrupted) else {
            if interrupted.load(Ordering::SeqCst) {
                println!("\nInterrupted.");
                return ExitCode::from(INTERRUPTED);
            }
            println!("\npsql ended before its time. The server log says:\n{}", stage.local.log());
            return ExitCode::FAILURE;
        };
        // psql leaves an empty line after a table, not after an error.
        println!("{}\n", output.trim_end());
        missing.extend(step.missing_from(&output));
    }
    if missing.is_empty() {
        println!(
            "Shown: a secret created, read and described; a connection made with it over TLS; remote tables \
             queried and changed; the connection closed; the error for a wrong secret name; a password changed with \
             ALTER USER, its secret with it, and a login with that; a rollback that changed nothing; a role \
             with a password of its own; a role of the remote server that got new passwords while another \
             session logged in all the time; a new password that was not accepted, and taken back; a schedule."
        );
        ExitCode::SUCCESS
    } else {
        println!("The demo FAILED:\n{}", missing.join("\n"));
        ExitCode::FAILURE
    }
}

fn sandbox(interrupted: &AtomicBool) -> ExitCode {
    let stage = start();
    let secret = json!({
        "engine": "postgres", "host": "127.0.0.1", "port": stage.remote.port(), "dbname": "testdb",
        "username": "app", "password": stage.remote.app_password(),
    });
    stage.moto.secrets().create_secret("test-db-secret", &secret.to_string());
    println!(
        "Enter with\n\n  {} -h {} -p {} -U postgres\n\nand begin with\n\n{}\nCtrl-C stops and removes everything.",
        PostgresBin::get().program("psql").display(),
        stage.local.socket_dir().display(),
        stage.local.port(),
        FIRST_STEPS.replace("{ca}", &stage.remote.tls().ca.display().to_string()),
    );
    while !interrupted.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(100));
    }
    println!("\nStopping …");
    ExitCode::SUCCESS
}

/// The way it looks in an interactive psql; on a terminal, what is typed stands out.
fn print_as_typed(step: &Step) {
    let (bold, dim, normal) =
        if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    for line in &step.comments {
        println!("{dim}{line}{normal}");
    }
    for (number, line) in step.statement.lines().enumerate() {
        let prompt = if number == 0 { "postgres=# " } else { "postgres-# " };
        println!("{prompt}{bold}{line}{normal}");
    }
}
