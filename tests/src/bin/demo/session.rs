//! One psql session, fed statement by statement.

use secretlink_e2e::Cluster;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// psql says this on its standard error once a statement is answered.
const ANSWERED: &str = "--answered--";

/// A running psql.
pub struct Session {
    psql: Child,
    output: Receiver<String>,
}

impl Session {
    /// Begin a session as the superuser.
    pub fn start(cluster: &Cluster) -> Self {
        // One pipe for results and errors keeps them in order.
        let (reader, writer) = std::io::pipe().expect("no pipe");
        let psql = cluster
            .psql_command(&cluster.conninfo("postgres", "postgres"))
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().expect("no pipe"))
            .stderr(writer)
            // A Ctrl-C is for the demo, which then ends psql.
            .process_group(0)
            .spawn()
            .expect("cannot run psql");
        let (lines, output) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Self { psql, output }
    }

    /// The answer to `statement`; `None` if psql has ended or `interrupted` became true.
    pub fn run(&mut self, statement: &str, interrupted: &AtomicBool) -> Option<String> {
        let input = self.psql.stdin.as_mut().expect("psql was started with a pipe for its input");
        writeln!(input, "{statement}\n\\warn {ANSWERED}").and_then(|()| input.flush()).ok()?;
        let mut answer = String::new();
        while !interrupted.load(Ordering::SeqCst) {
            match self.output.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line == ANSWERED => return Some(answer),
                Ok(line) => answer += &(line + "\n"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
