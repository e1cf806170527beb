//! An error as it is told to other processes.

use secretlink_core::{Report, SqlState};
use std::fmt;

/// What a request for a secret failed with, be it that of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    sqlstate: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// What separates the parts; a text of Postgres cannot contain it.
const SEPARATOR: &str = "\0";

impl Told {
    /// As it is kept in shared memory.
    pub fn bytes_of(error: &dyn Report) -> Vec<u8> {
        let parts = [
            error.sqlstate().as_str().to_owned(),
            error.to_string(),
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default(),
        ];
        parts.map(|part| part.replace('\0', " ")).join(SEPARATOR).into_bytes()
    }

    /// From what [`Told::bytes_of`] made.
    pub fn from_bytes(bytes: &[u8]) -> Told {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.split(SEPARATOR);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let sqlstate = SqlState::from_wire(part().as_bytes()).unwrap_or(SqlState::new("XX000"));
        let message = part();
        let mut optional = || Some(part()).filter(|part| !part.is_empty());
        Told { sqlstate, message, detail: optional(), hint: optional() }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Told {}

impl Report for Told {
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
        let told = Told {
            sqlstate: SqlState::new("42501"),
            message: "not authorized".into(),
            detail: None,
            hint: Some("Grant it.".into()),
        };
        assert_eq!(Told::from_bytes(&Told::bytes_of(&told)), told);
        assert_eq!(Told::from_bytes(b"\xff").sqlstate.as_str(), "XX000");
    }
}
