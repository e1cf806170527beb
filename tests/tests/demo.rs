//! `make demo` and `make sandbox`, as a person runs them.

use secretlink_e2e::{Process, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn start(subcommand: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_demo")).arg(subcommand).stdout(Stdio::piped()).spawn().unwrap()
}

/// The directory of the local server's cluster, from the announcement of its socket.
fn directory_in(line: &str) -> Option<PathBuf> {
    let socket_dir = line.split("host=").nth(1)?.split(' ').next()?;
    Some(PathBuf::from(socket_dir.strip_suffix("/s")?))
}

#[test]
fn the_demo_shows_what_it_promises() {
    let output = start("demo").wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    // The demo checks its answers itself; this is to see that it does show them.
    for shown in [
        "postgres=# SELECT create_secret('test-db-secret'",
        "Connection established successfully",
        "analytical engine",
        "INSERT 0 1",
        "secret \"no-such-secret\" not found",
        "logins failed",
        "rolled_back",
        "cron(0 2 ? * SUN#1 *) | waiting",
        "Shown: ",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in\n{text}");
    }
    let directory = text.lines().find_map(directory_in).expect("no announcement of the local server");
    assert!(!directory.exists(), "the demo left {} behind", directory.display());
}

#[test]
fn the_sandbox_runs_until_told_to_stop_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let mut sandbox = start("sandbox");
        let mut output = BufReader::new(sandbox.stdout.take().unwrap());
        let (mut directory, mut psql, mut proposed) = (None, None, String::new());
        let mut line = String::new();
        while !line.starts_with("Ctrl-C stops") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the sandbox ended by itself");
            directory = directory.or_else(|| directory_in(&line));
            psql = psql.or_else(|| line.contains("/psql -h").then(|| line.clone()));
            if line.trim_end().ends_with(';') {
                proposed += &line;
            }
        }
        let directory = directory.expect("no announcement of the local server");
        let postmaster = postmaster_of(&directory);
        assert!(postmaster.is_alive());
        let answers = answers(&psql.expect("no announcement of psql"), &proposed);
        for shown in
            ["Connection established", "moth tape", "changed here", "slrotate-", "waiting", "X-Amz-Signature"]
        {
            assert!(answers.contains(shown), "{shown:?} is not in\n{answers}");
        }

        let pid = sandbox.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -s $0 $1", signal, &pid]).status().unwrap().success());
        eventually(&format!("the sandbox ends after SIG{signal}"), Duration::from_secs(30), || {
            sandbox.try_wait().unwrap().ok_or("it goes on".to_owned())
        });
        assert!(sandbox.wait().unwrap().success(), "an orderly end was asked for");
        assert!(!postmaster.is_alive() && !directory.exists(), "left behind after SIG{signal}");
        output.read_to_string(&mut line).unwrap();
    }
}

fn postmaster_of(directory: &std::path::Path) -> Process {
    let state = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    Process::new(state.lines().next().unwrap().parse().unwrap())
}

/// What psql, called as the sandbox says, answers to the statements that the sandbox proposes.
fn answers(psql: &str, statements: &str) -> String {
    let mut psql = Command::new("sh")
        .args(["-c", &format!("{} --no-psqlrc --set ON_ERROR_STOP=1 2>&1", psql.trim())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}
