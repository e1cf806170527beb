//! The stand-in for AWS Secrets Manager.

use crate::guardian::Guardian;
use crate::port::free_port;
use crate::secrets_api::SecretsApi;
use crate::temp_dir::TempDir;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A moto server on loopback, stopped when dropped. Secrets live in its memory only.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    guardian: Guardian,
    port: u16,
    directory: TempDir,
}

impl Moto {
    /// The Python that has moto: `MOTO_PYTHON`, else that of the project's own virtual environment.
    pub fn python() -> PathBuf {
        std::env::var_os("MOTO_PYTHON").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/moto-venv/bin/python3"),
            PathBuf::from,
        )
    }

    /// The Moto of all tests of this process. It is never dropped: guardians end it with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Start one and wait until it answers.
    pub fn start() -> Self {
        for _ in 0..5 {
            let moto = Self::launch();
            match moto {
                Ok(moto) => return moto,
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("moto_server ended instead of serving; it said:\n{log}"),
            }
        }
        panic!("no free port for moto_server");
    }

    /// Moto's URL: what `secretlink.endpoint_url` wants.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Moto's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A client to prepare and inspect its secrets with, for the region us-east-1.
    pub fn secrets(&self) -> SecretsApi {
        SecretsApi::new(&self.endpoint())
    }

    /// Everything that Moto has logged so far: one line for each request.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Start it on a free port; the error is what it logged before it ended.
    fn launch() -> Result<Self, String> {
        let directory = TempDir::new();
        let port = free_port();
        let program = Self::python();
        let log = File::create(directory.path().join("log")).expect("cannot make moto's log");
        let process = Command::new(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("moto_server.py"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cannot open moto's log twice"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {} (`make deps` installs it): {e}", program.display()));
        let guardian = Guardian::of_process(process.id(), "KILL");
        let mut moto = Self { process, guardian, port, directory };

        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if moto.process.try_wait().expect("cannot wait for moto_server").is_some() {
                return Err(moto.log());
            }
            assert!(Instant::now() < deadline, "moto_server does not answer; it said:\n{}", moto.log());
            sleep(Duration::from_millis(10));
        }
        // The first request makes moto load its Secrets Manager: have that behind us. If somebody else has
        // taken the port in the meantime, it is not moto that answers.
        match moto.secrets().try_reset() {
            Ok(()) => Ok(moto),
            Err(problem) => Err(format!("port {port} is in use: {problem}; {}", moto.log())),
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.guardian.release();
    }
}
