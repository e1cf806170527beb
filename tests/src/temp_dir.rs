//! A directory that goes away with its value, and with the process if that dies first.

use crate::guardian::Guardian;
use crate::os_user::OsUser;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory under `/tmp`, with a name short enough for Unix sockets in it. It belongs to the
/// user that servers run as, and nobody else but root can look into it.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    guardian: Guardian,
}

impl TempDir {
    /// Make an empty directory.
    pub fn new() -> Self {
        let path = loop {
            let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(8).collect();
            let path = Path::new("/tmp").join(format!("sl-{name}"));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("cannot make {}: {e}", path.display()),
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("cannot set permissions");
        OsUser::for_servers().own(&path);
        let guardian = Guardian::of_directory(&path);
        Self { path, guardian }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is only litter: no reason to fail a test that passed.
        let _ = fs::remove_dir_all(&self.path);
        self.guardian.release();
    }
}
