//! The home directory, where libpq looks for files.

use secretlink_e2e::TempDir;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A home directory with libpq's own directory in it, which comes second.
pub fn home() -> (TempDir, PathBuf) {
    let home = TempDir::new();
    let dot = home.path().join(".postgresql");
    fs::create_dir(&dot).unwrap();
    fs::set_permissions(&dot, fs::Permissions::from_mode(0o755)).unwrap();
    (home, dot)
}
