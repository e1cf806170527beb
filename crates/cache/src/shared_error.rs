//! An error as other processes get it: what it says, in bytes.

use secretlink_core::{Report, SqlState};
use std::fmt;

/// What a request for a secret failed with, be it that of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedError {
    sqlstate: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// What separates the parts; a text of Postgres cannot contain it.
const SEPARATOR: &str = "\0";

impl SharedError {
    /// An error as it is kept in shared memory.
    pub fn bytes_of(error: &dyn Report) -> Vec<u8> {
        let parts = [
            error.sqlstate().as_str().to_owned(),
            error.to_string(),
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default(),
        ];
        parts.map(|part| part.replace('\0', " ")).join(SEPARATOR).into_bytes()
    }

    /// The error from what [`SharedError::bytes_of`] made.
    pub fn from_bytes(bytes: &[u8]) -> SharedError {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.split(SEPARATOR);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let sqlstate = SqlState::from_wire(part().as_bytes()).unwrap_or(SqlState::new("XX000"));
        let message = part();
        let mut optional = || Some(part()).filter(|part| !part.is_empty());
        SharedError { sqlstate, message, detail: optional(), hint: optional() }
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SharedError {}

impl Report for SharedError {
    fn sqlstate(&self) -> SqlState {
        self.sqlstate
    }

    fn detail(&self) -> Option<String> {
        self.detail.clone()
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let error = SharedError {
            sqlstate: SqlState::new("42501"),
            message: "not authorized".into(),
            detail: None,
            hint: Some("Grant it.".into()),
        };
        assert_eq!(SharedError::from_bytes(&SharedError::bytes_of(&error)), error);
        assert_eq!(SharedError::from_bytes(b"\xff").sqlstate.as_str(), "XX000");
    }
}
