//! A server without a postmaster.

use super::Cluster;
use crate::guardian::Guardian;
use crate::os_user::OsUser;
use crate::postgres_bin::PostgresBin;
use std::io::Write;
use std::process::{Command, Stdio};

/// What `postgres --single` did.
#[derive(Debug)]
pub struct SingleUser {
    /// Everything that the server said, errors included.
    pub output: String,
    /// Whether the server ended in order.
    pub success: bool,
}

impl Cluster {
    /// Run statements, each on a line of its own, as `postgres --single` does, with more options if any are
    /// given. The cluster must be stopped.
    pub fn single_user(&self, options: &[&str], statements: &[&str]) -> SingleUser {
        assert!(self.server.is_none(), "the server is running");
        let mut command = Command::new(PostgresBin::get().program("postgres"));
        command
            .args(["--single", "-D"])
            .arg(self.data_dir())
            .args(options)
            .arg("postgres")
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut server =
            OsUser::for_servers().apply(&mut command).spawn().expect("cannot run postgres --single");
        let mut guardian = Guardian::of_process(server.id(), "QUIT");
        let mut input = server.stdin.take().expect("a pipe");
        // Both of them are far below what a pipe holds, so that nobody waits for nobody.
        input.write_all((statements.join("\n") + "\n").as_bytes()).expect("postgres --single reads nothing");
        drop(input);
        let output = server.wait_with_output().expect("cannot wait for postgres --single");
        guardian.release();
        SingleUser {
            output: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            success: output.status.success(),
        }
    }
}
