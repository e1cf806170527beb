//! What libpq reads from its surroundings.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use secretlink_core::Secret;

use super::ssl_mode::SslMode;

/// A snapshot of what libpq would read from its surroundings: the environment variables whose name
/// starts with `PG`, the home directory, and the operating system's name for the user.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    password: Option<Secret>,
    home: Option<PathBuf>,
    os_user: Option<String>,
    min_sslmode: Option<SslMode>,
}

impl Environment {
    /// The environment where no connection is made with a weaker `sslmode`: what nobody has asked for by name is
    /// raised to it.
    pub fn with_min_sslmode(self, min_sslmode: SslMode) -> Environment {
        Environment { min_sslmode: Some(min_sslmode), ..self }
    }

    /// The weakest `sslmode` with which a connection is made.
    pub fn min_sslmode(&self) -> SslMode {
        self.min_sslmode.unwrap_or(SslMode::Disable)
    }

    /// Takes the snapshot of this process. Variables that are not UTF-8 are left out.
    pub fn from_process() -> Environment {
        let account = Account::of_process();
        let mut environment = Environment {
            // libpq prefers HOME to what the account says (fe-connect.c, pqGetHomeDirectory).
            home: std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(PathBuf::from)
                .or(account.home),
            os_user: account.name,
            ..Environment::default()
        };
        for (name, value) in std::env::vars_os() {
            match name.to_str() {
                Some("PGPASSWORD") => environment.password = Some(Secret::new(value.into_vec())),
                Some(name) if name.starts_with("PG") => {
                    if let Ok(value) = value.into_string() {
                        environment.variables.insert(name.to_owned(), value);
                    }
                }
                _ => {}
            }
        }
        environment
    }

    /// An environment made up for a test. An empty `os_user` stands for an account without a name.
    pub fn for_tests(vars: &[(&str, &str)], home: Option<PathBuf>, os_user: &str) -> Environment {
        let password = vars.iter().rev().find(|(name, _)| *name == "PGPASSWORD");
        let others = vars.iter().filter(|(name, _)| *name != "PGPASSWORD");
        Environment {
            variables: others.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            password: password.map(|(_, value)| Secret::new(*value)),
            home,
            os_user: Some(os_user.to_owned()).filter(|name| !name.is_empty()),
            min_sslmode: None,
        }
    }

    /// The value of a variable whose name starts with `PG`; never that of `PGPASSWORD`.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The value of `PGPASSWORD`.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn os_user(&self) -> Option<&str> {
        self.os_user.as_deref()
    }
}

/// Names of variables only: their values are not ours to show.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("password", &self.password)
            .field("home", &self.home)
            .field("os_user", &self.os_user)
            .finish()
    }
}

/// What the operating system says about the user the process runs as.
#[derive(Default)]
struct Account {
    name: Option<String>,
    home: Option<PathBuf>,
}

impl Account {
    fn of_process() -> Account {
        // Ample for any entry of a password database; without a name the user must be given.
        let mut buffer = vec![0u8; 16 * 1024];
        // SAFETY: passwd is plain data, for which all zeroes is a value. getpwuid_r gets a valid
        // passwd, a buffer with its length and a place for its answer. If that answer is not null,
        // the two pointers read here are C strings inside the buffer, which outlives this block.
        unsafe {
            let mut entry: libc::passwd = std::mem::zeroed();
            let mut found: *mut libc::passwd = std::ptr::null_mut();
            let result = libc::getpwuid_r(
                libc::geteuid(),
                &mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut found,
            );
            if result != 0 || found.is_null() {
                return Account::default();
            }
            let home = CStr::from_ptr(entry.pw_dir).to_bytes();
            Account {
                name: CStr::from_ptr(entry.pw_name).to_str().ok().map(str::to_owned),
                home: Some(PathBuf::from(std::ffi::OsStr::from_bytes(home))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_a_user_and_a_home() {
        let environment = Environment::from_process();
        assert!(environment.os_user().is_some());
        assert!(environment.home().is_some());
    }

    #[test]
    fn debug_and_var_keep_the_password() {
        let environment =
            Environment::for_tests(&[("PGPASSWORD", "hunter2"), ("PGHOST", "hunter2")], None, "me");
        assert_eq!(environment.var("PGPASSWORD"), None);
        assert_eq!(environment.var("PGHOST"), Some("hunter2"));
        assert_eq!(environment.password().map(Secret::expose), Some(&b"hunter2"[..]));
        assert!(!format!("{environment:?}").contains("hunter2"));
    }
}
