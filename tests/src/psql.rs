//! Running psql, the way a person reaches a server.

use crate::postgres_bin::PostgresBin;
use std::process::{Command, Output, Stdio};

/// What one run of psql did.
#[derive(Debug)]
pub struct PsqlOutput {
    /// Whether psql ended with status 0.
    pub success: bool,
    /// What psql wrote to its standard output.
    pub stdout: String,
    /// What psql wrote to its standard error: errors, warnings, notices.
    pub stderr: String,
}

impl From<Output> for PsqlOutput {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// psql for `conninfo`, untouched by the caller's `.psqlrc` and `PG*` variables, and asking nobody
/// for a password.
pub(crate) fn command(conninfo: &str) -> Command {
    let mut command = Command::new(PostgresBin::get().program("psql"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .args(["--no-psqlrc", "--no-password", "--dbname", conninfo])
        .env("PAGER", "")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// Run `sql` for `conninfo`; unaligned output without headers, stopping at the first error.
pub(crate) fn run(conninfo: &str, sql: &str) -> PsqlOutput {
    command(conninfo)
        .args(["--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--command", sql])
        .output()
        .expect("cannot run psql")
        .into()
}
