//! Files that programs refuse when others can read them: keys, password files.

use crate::os_user::OsUser;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Write a file that only the user servers run as can read; gives its path back.
pub fn private_file(path: PathBuf, content: &str) -> PathBuf {
    fs::write(&path, content).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("cannot set permissions");
    OsUser::for_servers().own(&path);
    path
}
