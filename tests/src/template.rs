//! The empty data directory that every cluster of this process starts as a copy of.

use crate::os_user::OsUser;
use crate::postgres_bin::PostgresBin;
use crate::temp_dir::TempDir;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Make `data` a freshly initialised data directory. `initdb` runs once per process, the rest is
/// copying, which is several times faster.
pub(crate) fn copy_to(data: &Path) {
    // Never dropped: its guardian removes it when the process ends.
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(initdb);
    run(Command::new("cp").arg("-a").arg(template.path().join("data")).arg(data));
}

fn initdb() -> TempDir {
    let directory = TempDir::new();
    run(Command::new(PostgresBin::get().program("initdb"))
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg(directory.path().join("data")));
    directory
}

fn run(command: &mut Command) {
    let output = OsUser::for_servers()
        .apply(command)
        .current_dir("/")
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
