//! The raw keywords and values of a connection.

use std::collections::BTreeMap;
use std::fmt;

use secretlink_core::Secret;

use super::error::ConnInfoError;
use super::keywords::{self, Keyword};
use super::value::without_designator;

/// The longest connection string, and the longest single value, in bytes.
pub(super) const MAX_LENGTH: usize = 64 * 1024;

/// Keywords with their values as given: valid keywords, unchecked values. What is set later
/// overrides what was set before.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    values: BTreeMap<&'static str, Value>,
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Secret(Secret),
}

impl Options {
    /// Sets one keyword.
    ///
    /// # Errors
    /// An unknown keyword; a value that is over 64 KiB or contains a zero byte or a connection
    /// string with a password.
    pub fn set(&mut self, keyword: &str, value: &str) -> Result<(), ConnInfoError> {
        check_bytes(value.as_bytes())?;
        let (name, value) = without_requiressl(keyword, value.as_bytes());
        match keywords::find(name) {
            Some(keyword) => self.store(keyword, value),
            None if keywords::looks_like_one(name) => {
                Err(ConnInfoError::UnknownKeyword { name: name.to_owned() })
            }
            None => Err(ConnInfoError::UnknownName),
        }
    }

    /// The value as given, `None` when absent. Never for keywords whose value is a secret
    /// (`password`, `sslpassword`, `scram_client_key`, `scram_server_key`, `oauth_client_secret`):
    /// see [`Options::password`].
    pub fn get(&self, keyword: &str) -> Option<&str> {
        match self.values.get(keyword) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Sets the password, which may be any bytes but zero.
    pub fn set_password(&mut self, password: Secret) {
        self.set_secret("password", password);
    }

    /// The password as given, `None` when absent.
    pub fn password(&self) -> Option<&Secret> {
        self.secret("password")
    }

    /// Whether a keyword was given and is not empty.
    pub fn has(&self, keyword: &str) -> bool {
        self.values.get(keyword).is_some_and(|value| match value {
            Value::Text(text) => !text.is_empty(),
            Value::Secret(secret) => !secret.is_empty(),
        })
    }

    /// Whether a password was given and is not empty: what contrib dblink asks of users who are not
    /// superusers (dblink.c, `dblink_connstr_check`).
    pub fn has_password(&self) -> bool {
        self.has("password")
    }

    /// Whether the options prove who connects: a password or its keys.
    pub fn has_credentials(&self) -> bool {
        self.has_password() || self.insists_on_scram_keys()
    }

    /// Whether any value is a secret.
    pub fn has_secrets(&self) -> bool {
        self.values.values().any(|value| matches!(value, Value::Secret(_)))
    }

    /// The keywords that have a value, in alphabetical order.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.values.keys().copied()
    }

    /// Takes from `other` what is absent here.
    pub fn merge_missing(&mut self, other: Options) {
        for (keyword, value) in other.values {
            self.values.entry(keyword).or_insert(value);
        }
    }

    /// Sets a keyword whose value is a secret.
    pub(super) fn set_secret(&mut self, keyword: &'static str, secret: Secret) {
        self.values.insert(keyword, Value::Secret(secret));
    }

    /// Takes a keyword out whose value is a secret.
    pub(super) fn remove_secret(&mut self, keyword: &str) -> Option<Secret> {
        match self.values.remove(keyword) {
            Some(Value::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    /// Takes a keyword out.
    pub(super) fn remove(&mut self, keyword: &str) {
        self.values.remove(keyword);
    }

    pub(super) fn contains(&self, keyword: &Keyword) -> bool {
        self.values.contains_key(keyword.name)
    }

    pub(super) fn secret(&self, keyword: &str) -> Option<&Secret> {
        match self.values.get(keyword) {
            Some(Value::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    /// Sets a keyword from bytes that a parser took out of its input.
    pub(super) fn store(&mut self, keyword: &'static Keyword, value: &[u8]) -> Result<(), ConnInfoError> {
        let value = if keyword.secret {
            Value::Secret(Secret::new(value))
        } else {
            let text =
                std::str::from_utf8(value).map_err(|_| ConnInfoError::NotUtf8 { keyword: keyword.name })?;
            if embeds_password(text) {
                return Err(ConnInfoError::EmbeddedPassword { keyword: keyword.name });
            }
            Value::Text(text.to_owned())
        };
        self.values.insert(keyword.name, value);
        Ok(())
    }
}

/// Keywords only: a value may hold a password that its writer put in the wrong place.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options ")?;
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// `requiressl` is the name that `sslmode` had before 8.0 (fe-connect.c, `conninfo_storeval`).
pub(super) fn without_requiressl<'a>(name: &'a str, value: &'a [u8]) -> (&'a str, &'a [u8]) {
    match (name, value) {
        ("requiressl", [b'1', ..]) => ("sslmode", b"require"),
        ("requiressl", _) => ("sslmode", b"prefer"),
        _ => (name, value),
    }
}

pub(super) fn check_bytes(bytes: &[u8]) -> Result<(), ConnInfoError> {
    if bytes.len() > MAX_LENGTH {
        return Err(ConnInfoError::TooLong { maximum: MAX_LENGTH });
    }
    if bytes.contains(&0) {
        return Err(ConnInfoError::NullByte);
    }
    Ok(())
}

/// Whether a value that is going to be shown, in errors, in `pg_stat_activity` or by the remote
/// server, carries a password along: `password=…` behind a forgotten quote, or a whole connection
/// string where a database name should be.
fn embeds_password(value: &str) -> bool {
    let assigns = |rest: &str| rest.trim_start().starts_with('=');
    let starts_word = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
    let lower = value.to_ascii_lowercase();
    let pair = ["password", "sslpassword"].iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let (before, rest) = lower.split_at(at);
            starts_word(before) && rest.strip_prefix(word).is_some_and(assigns)
        })
    });
    pair || without_designator(&lower).is_some_and(|rest| rest.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    #[test]
    fn set_get_and_override() {
        let mut options = Options::default();
        options.set("host", "a").unwrap();
        options.set("host", "b").unwrap();
        options.set("password", "pw").unwrap();
        options.set("requiressl", "1").unwrap();
        assert_eq!(options.get("host"), Some("b"));
        assert_eq!(options.get("sslmode"), Some("require"));
        assert_eq!(options.get("password"), None);
        assert_eq!(options.get("port"), None);
        assert_eq!(options.get("no such"), None);
        assert_eq!(options.password().map(Secret::expose), Some(&b"pw"[..]));
        assert_eq!(options.keywords().collect::<Vec<_>>(), ["host", "password", "sslmode"]);
    }

    #[test]
    fn unknown_keywords() {
        let mut options = Options::default();
        let error = options.set("sslmod", "x").unwrap_err();
        assert_eq!(error.to_string(), "invalid connection option \"sslmod\"");
        assert_eq!(error.hint().as_deref(), Some("Perhaps you meant the option \"sslmode\"."));
        assert_eq!(error.sqlstate().as_str(), "22023");
        let error = options.set("My Password 1", "x").unwrap_err();
        assert_eq!(error.to_string(), "invalid connection option");
        assert_eq!(options, Options::default());
    }

    #[test]
    fn an_empty_password_is_none() {
        assert!(!Options::default().has_password());
        assert!(!Options::parse("password=''").unwrap().has_password());
        assert!(Options::parse("password=x").unwrap().has_password());
        let mut options = Options::default();
        options.set_password(Secret::new(vec![0xff, 0xfe]));
        assert!(options.has_password());
    }

    #[test]
    fn merging_keeps_what_is_there() {
        let mut options = Options::parse("host=a password=''").unwrap();
        options.merge_missing(Options::parse("host=b port=1 password=x").unwrap());
        assert_eq!((options.get("host"), options.get("port")), (Some("a"), Some("1")));
        assert!(!options.has_password(), "an empty value is a value");
    }

    #[test]
    fn debug_shows_no_values() {
        let options = Options::parse("user=bob password=pw sslpassword=pw").unwrap();
        assert_eq!(format!("{options:?}"), r#"Options {"password", "sslpassword", "user"}"#);
    }

    #[test]
    fn limits() {
        let long = "x".repeat(MAX_LENGTH + 1);
        let mut options = Options::default();
        assert!(matches!(Options::parse(&long), Err(ConnInfoError::TooLong { .. })));
        assert!(matches!(options.set("dbname", &long), Err(ConnInfoError::TooLong { .. })));
        assert!(matches!(Options::parse("host=a\0b"), Err(ConnInfoError::NullByte)));
        assert!(matches!(options.set("dbname", "a\0b"), Err(ConnInfoError::NullByte)));
        Options::parse(&format!("dbname={}", "x".repeat(10_000))).unwrap();
    }

    #[test]
    fn finds_passwords_in_values() {
        for value in [
            "host=a password=x",
            "a PASSWORD = x",
            "password=x",
            "x sslpassword=x",
            "postgres://u:x@host",
            "POSTGRESQL://u:x@host",
            "-c a=b'password=x",
            "postgresql://h?password=x",
        ] {
            assert!(embeds_password(value), "{value}");
        }
        for value in [
            "password",
            "password reset",
            "-c app.password=x",
            "my_password=x",
            "-c password_encryption=md5",
            "a@b",
            "",
        ] {
            assert!(!embeds_password(value), "{value}");
        }
    }
}
