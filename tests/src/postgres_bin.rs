//! Where the Postgres under test is installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The programs of the Postgres under test: those of `PG_CONFIG`, else of the `pg_config` in
/// `PATH`, else of the newest one under `/usr/lib/postgresql`.
#[derive(Debug)]
pub struct PostgresBin {
    directory: PathBuf,
    major: u32,
}

impl PostgresBin {
    /// The one installation that this process uses.
    pub fn get() -> &'static Self {
        static INSTALLATION: OnceLock<PostgresBin> = OnceLock::new();
        INSTALLATION.get_or_init(|| {
            let pg_config = std::env::var("PG_CONFIG").ok().filter(|path| !path.is_empty());
            let candidates = match pg_config {
                Some(path) => vec![PathBuf::from(path)],
                None => std::iter::once("pg_config".into()).chain(installed_by_debian()).collect(),
            };
            candidates.iter().find_map(|path| Self::ask(path)).unwrap_or_else(|| {
                panic!("no Postgres found (tried {candidates:?}): set PG_CONFIG or run `make deps`")
            })
        })
    }

    /// The path of a program such as `initdb`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The major version, for example 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    fn ask(pg_config: &Path) -> Option<Self> {
        let answer = |flag| {
            let output = Command::new(pg_config).arg(flag).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = answer("--version")?; // "PostgreSQL 15.20 (Debian 15.20-0+deb12u1)", "PostgreSQL 19beta1"
        let digits = version.split(' ').nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse();
        Some(Self { directory: answer("--bindir")?.into(), major: digits.ok()? })
    }
}

/// Debian's installations, newest first.
fn installed_by_debian() -> Vec<PathBuf> {
    let mut majors: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        })
        .unwrap_or_default();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.iter().map(|major| format!("/usr/lib/postgresql/{major}/bin/pg_config").into()).collect()
}
