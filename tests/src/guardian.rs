//! Cleaning up even when the process that should do it is killed.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A small shell that waits on a pipe from this process. Released, it just ends. If the pipe closes
/// without that, this process is dead (Ctrl-C in a test run, SIGKILL, a panic that aborts), and the
/// shell cleans up in its place.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    pipe: Option<ChildStdin>,
}

/// Stop process `$1` with signal `$2`; after five seconds, kill it.
const STOP_PROCESS: &str = r#"
read -r released && exit
kill -s "$2" "$1" 2>/dev/null || exit
for round in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "$1" 2>/dev/null || exit; done
kill -s KILL "$1""#;

/// Remove directory `$1`, after those who guard processes that use it had time to stop them.
const REMOVE_DIRECTORY: &str = r#"
read -r released && exit
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do rm -rf "$1" 2>/dev/null; sleep 0.5; [ -e "$1" ] || exit; done"#;

impl Guardian {
    /// Send `signal` (a name such as `QUIT`) to process `pid` if this process dies.
    pub fn of_process(pid: u32, signal: &str) -> Self {
        Self::start(STOP_PROCESS, &[&pid.to_string(), signal])
    }

    /// Remove `directory` if this process dies.
    pub fn of_directory(directory: &Path) -> Self {
        Self::start(REMOVE_DIRECTORY, &[directory.to_str().expect("a path in UTF-8")])
    }

    /// The danger is over: do nothing, ever.
    pub fn release(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // If the shell is gone already, there is nobody left to tell.
            let _ = pipe.write_all(b"released\n");
        }
        let _ = self.shell.wait();
    }

    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script, "guardian"])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C in the terminal must not end it too.
            .process_group(0)
            .spawn()
            .expect("cannot run /bin/sh");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.release();
    }
}
