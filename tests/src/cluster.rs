//! Throw-away Postgres clusters.

mod builder;
mod copy;
mod single_user;

pub use builder::ClusterBuilder;
pub use single_user::SingleUser;

use crate::guardian::Guardian;
use crate::os_user::OsUser;
use crate::port::free_port;
use crate::postgres_bin::PostgresBin;
use crate::psql::{self, PsqlOutput};
use crate::temp_dir::TempDir;
use crate::tls::TlsFiles;
use postgres::{Client, NoTls};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A Postgres server with its own data directory, port and socket directory. It is stopped and
/// removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// `None` while stopped.
    server: Option<Server>,
    port: u16,
    listen_on_tcp: bool,
    address_space: Option<u64>,
    environment: Vec<(String, String)>,
    tls: Option<TlsFiles>,
    app_password: Option<String>,
    directory: TempDir,
}

#[derive(Debug)]
struct Server {
    postmaster: Child,
    guardian: Guardian,
}

/// How to stop a server: what `pg_ctl stop --mode` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Wait until every client has left.
    Smart,
    /// Roll back and disconnect everybody, then shut down in order.
    Fast,
    /// Drop everything at once, as in a crash: the next start recovers.
    Immediate,
}

impl StopMode {
    fn signal(self) -> libc::c_int {
        match self {
            Self::Smart => libc::SIGTERM,
            Self::Fast => libc::SIGINT,
            Self::Immediate => libc::SIGQUIT,
        }
    }
}

impl Cluster {
    /// The port, which is also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket: what `host` is in a conninfo.
    pub fn socket_dir(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificates of a remote cluster.
    pub fn tls(&self) -> &TlsFiles {
        self.tls.as_ref().expect("only a remote cluster has TLS")
    }

    /// The password of the role `app` of a remote cluster.
    pub fn app_password(&self) -> &str {
        self.app_password.as_deref().expect("only a remote cluster has the role app")
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        // A line may be cut inside a character if the server crashed: never a reason to fail here.
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// What the server has logged from this byte on.
    pub fn log_from(&self, offset: u64) -> Vec<u8> {
        let mut log = Vec::new();
        if let Ok(mut file) = File::open(self.log_path())
            && file.seek(SeekFrom::Start(offset)).is_ok()
        {
            // What could be read is what there is.
            let _ = file.read_to_end(&mut log);
        }
        log
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> u32 {
        self.server.as_ref().expect("the server is stopped").postmaster.id()
    }

    /// A conninfo for the Unix socket.
    pub fn conninfo(&self, user: &str, database: &str) -> String {
        format!("host={} port={} user={user} dbname={database}", self.socket_dir().display(), self.port)
    }

    /// Connect over the Unix socket.
    pub fn try_connect(&self, user: &str, database: &str) -> Result<Client, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(self.socket_dir()).port(self.port).user(user).dbname(database);
        config.connect_timeout(Duration::from_secs(10)).connect(NoTls)
    }

    /// Connect over the Unix socket, where that must work.
    pub fn connect(&self, user: &str, database: &str) -> Client {
        self.try_connect(user, database)
            .unwrap_or_else(|e| panic!("cannot connect as {user}: {e}\nserver log:\n{}", self.log()))
    }

    /// Run `sql` in psql as the superuser, in the database `postgres`.
    pub fn psql(&self, sql: &str) -> PsqlOutput {
        psql::run(&self.conninfo("postgres", "postgres"), sql)
    }

    /// Run `sql` in psql with a conninfo of its own, as for a connection over TCP.
    pub fn psql_with(&self, conninfo: &str, sql: &str) -> PsqlOutput {
        psql::run(conninfo, sql)
    }

    /// A psql for `conninfo` with nothing else said yet: no input, no output options.
    pub fn psql_command(&self, conninfo: &str) -> Command {
        psql::command(conninfo)
    }

    /// Make a role that can log in, its password kept as `encryption` (`scram-sha-256` or `md5`) says.
    pub fn create_login(&self, name: &str, password: &str, encryption: &str) {
        let mut client = self.connect("postgres", "postgres");
        client
            .batch_execute(&format!(
                "SET password_encryption = '{encryption}'; CREATE ROLE \"{name}\" LOGIN PASSWORD '{}'",
                password.replace('\'', "''")
            ))
            .unwrap_or_else(|e| panic!("cannot create the role {name}: {e}"));
    }

    /// Stop the server and wait until it is gone.
    pub fn stop(&mut self, mode: StopMode) {
        let Some(mut server) = self.server.take() else { return };
        let deadline = Instant::now() + STOP_TIMEOUT;
        let pid = server.postmaster.id().cast_signed();
        // SAFETY: kill only sends a signal. The pid is that of our own child, which has not been
        // waited for, so it cannot have become somebody else's.
        unsafe { libc::kill(pid, mode.signal()) };
        while server.postmaster.try_wait().expect("cannot wait for the postmaster").is_none() {
            if Instant::now() > deadline {
                server.postmaster.kill().expect("cannot kill the postmaster");
                let _ = server.postmaster.wait();
                server.guardian.release();
                panic!("the server did not stop in {STOP_TIMEOUT:?}; its log:\n{}", self.log());
            }
            sleep(POLL);
        }
        server.guardian.release();
    }

    /// Start a stopped server, on its old port.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        if !self.try_start() {
            panic!("the server did not start; its log:\n{}", self.log());
        }
    }

    /// Stop and start again.
    pub fn restart(&mut self, mode: StopMode) {
        self.stop(mode);
        self.start();
    }

    /// Add lines to `postgresql.conf`; for a running server they count after a reload or restart.
    pub fn append_conf(&self, lines: &[String]) {
        let path = self.data_dir().join("postgresql.conf");
        let mut conf = fs::read_to_string(&path).expect("cannot read postgresql.conf");
        for line in lines {
            conf.push_str(line);
            conf.push('\n');
        }
        fs::write(&path, conf).expect("cannot write postgresql.conf");
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Start on a port that is free, which only a TCP server has to search for.
    fn start_on_free_port(&mut self) {
        for _ in 0..5 {
            self.port = free_port();
            if self.try_start() {
                return;
            }
            if !self.log().contains("could not bind") {
                break;
            }
        }
        panic!("the server did not start; its log:\n{}", self.log());
    }

    /// Whether the server came up.
    fn try_start(&mut self) -> bool {
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("cannot open the log");
        // What the last run left: its "ready" must not be taken for this one's.
        let pid_file = self.data_dir().join("postmaster.pid");
        let _ = fs::remove_file(&pid_file);

        let mut command = Command::new(PostgresBin::get().program("postgres"));
        command
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(self.socket_dir())
            .args(["-h", if self.listen_on_tcp { "127.0.0.1" } else { "" }])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cannot open the log twice"))
            .stderr(log)
            // Its own group: a Ctrl-C in the terminal must not stop it before its clients.
            .process_group(0);
        if let Some(bytes) = self.address_space {
            limit_address_space(&mut command, bytes);
        }
        let mut postmaster =
            OsUser::for_servers().apply(&mut command).spawn().expect("cannot run the postgres program");
        let guardian = Guardian::of_process(postmaster.id(), "QUIT");

        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            // The last line of the file is the server's state; that of a hot standby is never "ready".
            if fs::read_to_string(&pid_file)
                .is_ok_and(|state| ["ready", "standby"].iter().any(|up| state.trim_end().ends_with(up)))
            {
                self.server = Some(Server { postmaster, guardian });
                return true;
            }
            if postmaster.try_wait().expect("cannot wait for the postmaster").is_some() {
                return false;
            }
            if Instant::now() > deadline {
                let _ = postmaster.kill();
                let _ = postmaster.wait();
                return false;
            }
            sleep(POLL);
        }
    }
}

fn limit_address_space(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: between fork and exec only what is safe in a signal handler may be called; setrlimit is a
    // plain system call, and reading errno is nothing.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last lines of the server log of port {}:", self.port);
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
        self.stop(StopMode::Immediate);
    }
}
