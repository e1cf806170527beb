//! The operating-system user that Postgres runs as: the server refuses to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The user to run servers as: `postgres` when this process is root, else the user who runs it.
#[derive(Clone, Copy, Debug)]
pub struct OsUser {
    /// User and group id to change to; `None` to stay as we are.
    change_to: Option<(u32, u32)>,
}

impl OsUser {
    /// The user that Postgres servers of this process run as.
    pub fn for_servers() -> Self {
        static USER: OnceLock<OsUser> = OnceLock::new();
        *USER.get_or_init(|| {
            // SAFETY: geteuid takes nothing, touches nothing and cannot fail.
            let root = unsafe { libc::geteuid() } == 0;
            Self { change_to: root.then(|| (id_of_postgres("-u"), id_of_postgres("-g"))) }
        })
    }

    /// Make `command` run as this user, without supplementary groups.
    pub fn apply(self, command: &mut Command) -> &mut Command {
        if let Some((user, group)) = self.change_to {
            // As root, std also drops the supplementary groups when the user id changes.
            command.uid(user).gid(group);
        }
        command
    }

    /// Give `path` to this user.
    pub fn own(self, path: &Path) {
        if let Some((user, group)) = self.change_to {
            chown(path, Some(user), Some(group))
                .unwrap_or_else(|e| panic!("cannot give {} to postgres: {e}", path.display()));
        }
    }
}

fn id_of_postgres(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output().expect("cannot run `id`");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("running as root needs an operating-system user `postgres` to run the servers as")
}
