//! A look into a server process from outside.

use crate::poll::eventually;
use std::fs;
use std::net::SocketAddr;
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

    /// The process that has the client's end of a TCP connection over IPv4 loopback, if it still has it.
    pub fn of_client(client: SocketAddr, server: SocketAddr) -> Option<Self> {
        let hex = |end: SocketAddr| format!("0100007F:{:04X}", end.port());
        let (client, server) = (hex(client), hex(server));
        let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = sockets.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_it = fields.get(1) == Some(&client.as_str()) && fields.get(2) == Some(&server.as_str());
            is_it.then(|| fields.get(9).copied()).flatten()
        })?;
        let socket = format!("socket:[{inode}]");
        let processes = fs::read_dir("/proc").ok()?;
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .map(|pid| Self { pid })
            .find(|process| process.has_open(&socket))
    }

    /// The process's id.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Whether the process runs. One that has ended but that nobody has waited for does not.
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

    /// The process that has started it.
    pub fn parent(self) -> Option<Self> {
        Some(Self { pid: self.status_field("PPid")?.parse().ok()? })
    }

    /// What the process calls itself: for a server process what `ps` shows, such as `postgres: secretlink`.
    pub fn title(self) -> String {
        let title = fs::read(self.file("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&title).trim_end_matches(['\0', ' ']).to_owned()
    }

    /// End it at once, with SIGKILL. Does nothing if it has ended already.
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
    }

    /// Ask it to end, as `pg_terminate_backend` does.
    pub fn terminate(self) {
        self.signal(libc::SIGTERM);
    }

    /// Stop it where it is, with SIGSTOP, all its threads.
    pub fn pause(self) {
        self.signal(libc::SIGSTOP);
    }

    /// Let it go on.
    pub fn resume(self) {
        self.signal(libc::SIGCONT);
    }

    /// For a postmaster: what `pg_ctl stop --mode=immediate` does, without waiting for the end.
    pub fn quit(self) {
        self.signal(libc::SIGQUIT);
    }

    /// End it and every process that it has started, with SIGKILL: of a postmaster, the whole server.
    pub fn kill_with_children(self) {
        // It is to start no other. The signal may take a moment on a busy machine.
        self.pause();
        eventually("the process has stopped", Duration::from_secs(60), || match self.status_field("State") {
            Some(state) if !state.starts_with(['T', 't', 'Z', 'X']) => Err(state),
            _ => Ok(()),
        });
        let all = fs::read_dir("/proc").into_iter().flatten();
        let processes = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let children: Vec<Self> =
            processes.map(|pid| Self { pid }).filter(|process| process.parent() == Some(self)).collect();
        for child in &children {
            child.kill();
        }
        // A test that starts the server again when it has gone finds none of them.
        for child in children {
            child.until_gone(Duration::from_secs(60));
        }
        self.kill();
    }

    fn signal(self, signal: libc::c_int) {
        // SAFETY: kill only sends a signal. Should the process have ended and its id have been given
        // to another just now, only a test on a throw-away machine would notice.
        unsafe { libc::kill(self.pid.cast_signed(), signal) };
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(self) -> u64 {
        self.status_bytes("VmRSS")
    }

    /// Resident memory that is neither a file nor shared, in bytes: the heap above all.
    pub fn anonymous_bytes(self) -> u64 {
        self.status_bytes("RssAnon")
    }

    /// Resident memory that it has written to and shares with nobody, in bytes.
    pub fn private_bytes(self) -> u64 {
        let rollup = fs::read_to_string(self.file("smaps_rollup")).unwrap_or_default();
        bytes_of(&rollup, "Private_Dirty")
            .unwrap_or_else(|| panic!("cannot see the memory of process {}", self.pid))
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_resident_bytes(self) -> u64 {
        self.status_bytes("VmHWM")
    }

    fn status_bytes(self, name: &str) -> u64 {
        let status = fs::read_to_string(self.file("status")).unwrap_or_default();
        bytes_of(&status, name).unwrap_or_else(|| panic!("no process {}", self.pid))
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

    fn has_open(self, target: &str) -> bool {
        let Ok(files) = fs::read_dir(self.file("fd")) else { return false };
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == target))
    }

    fn status_field(self, name: &str) -> Option<String> {
        field(&fs::read_to_string(self.file("status")).ok()?, name).map(str::to_owned)
    }
}

/// A field of a file of `/proc`: a line with its name, a colon and its value.
fn field<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A field of a file of `/proc` that is in kB, in bytes.
fn bytes_of(file: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 = field(file, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The server process of a connection.
pub fn backend_pid(client: &mut postgres::Client) -> Process {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("no answer").get(0);
    Process::new(pid.cast_unsigned())
}
