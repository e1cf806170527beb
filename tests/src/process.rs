//! A look into a server process from outside.

use crate::poll::eventually;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A process, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process with this id.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// Its id.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Whether it runs. One that has ended but that nobody has waited for does not.
    pub fn is_alive(self) -> bool {
        self.status_field("State").is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    /// Wait until it runs no more; panics after `limit`.
    #[track_caller]
    pub fn until_gone(self, limit: Duration) {
        eventually("the process is gone", limit, || {
            if self.is_alive() { Err(format!("{self:?} is alive")) } else { Ok(()) }
        });
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(self) -> u64 {
        self.status_bytes("VmRSS")
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_resident_bytes(self) -> u64 {
        self.status_bytes("VmHWM")
    }

    fn status_bytes(self, name: &str) -> u64 {
        let text = self.status_field(name).unwrap_or_else(|| panic!("no process {}", self.pid));
        let kilobytes: u64 = text.trim_end_matches("kB").trim().parse().expect("a number of kB");
        kilobytes * 1024
    }

    /// How many threads it has.
    pub fn threads(self) -> usize {
        let text = self.status_field("Threads").unwrap_or_else(|| panic!("no process {}", self.pid));
        text.parse().expect("Threads is a number")
    }

    /// How many file descriptors it has open.
    pub fn open_files(self) -> usize {
        fs::read_dir(self.file("fd")).unwrap_or_else(|e| panic!("no process {}: {e}", self.pid)).count()
    }

    /// A file of its directory in `/proc`.
    pub(crate) fn file(self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid).into()
    }

    fn status_field(self, name: &str) -> Option<String> {
        let status = fs::read_to_string(self.file("status")).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    }
}

/// The server process of a connection.
pub fn backend_pid(client: &mut postgres::Client) -> Process {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("no answer").get(0);
    Process::new(pid.cast_unsigned())
}
