//! How an error becomes what a Postgres user sees.

use std::fmt;

/// A five-character SQLSTATE (PostgreSQL documentation, Appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// A SQLSTATE known when this was written.
    ///
    /// # Panics
    /// At compile time (in a `const`) if `code` is not five bytes long.
    pub const fn new(code: &'static str) -> SqlState {
        let b = code.as_bytes();
        assert!(b.len() == 5, "an SQLSTATE has five characters");
        SqlState([b[0], b[1], b[2], b[3], b[4]])
    }

    /// A SQLSTATE that a remote server sent; `None` unless it is five digits or upper-case letters.
    pub fn from_wire(code: &[u8]) -> Option<SqlState> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).then_some(SqlState(code))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        // Both constructors admit ASCII only, save for a literal in our own source.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The code packed as in an `ErrorData`: six bits a character (`MAKE_SQLSTATE`, elog.h).
    pub fn packed(&self) -> i32 {
        self.0.iter().rev().fold(0, |packed, b| (packed << 6) | ((i32::from(*b) - 0x30) & 0x3f))
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with everything Postgres reports besides the message, which is its `Display`.
///
/// Messages are in Postgres's style (PostgreSQL documentation, "Error Message Style Guide"): the
/// primary message in lower case without a full stop, detail and hint as whole sentences.
pub trait Report: std::error::Error {
    /// The SQLSTATE.
    fn sqlstate(&self) -> SqlState;

    /// The DETAIL line.
    fn detail(&self) -> Option<String> {
        None
    }

    /// The HINT line.
    fn hint(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_like_make_sqlstate() {
        // errcodes.h: ERRCODE_SUCCESSFUL_COMPLETION is 0; 08006 is
        // '0' | '8' << 6 | '0' << 12 | '0' << 18 | '6' << 24, each less '0'.
        assert_eq!(SqlState::new("00000").packed(), 0);
        assert_eq!(SqlState::new("08006").packed(), (8 << 6) | (6 << 24));
        assert_eq!(SqlState::new("XX000").packed(), 40 | (40 << 6));
    }

    #[test]
    fn accepts_only_five_upper_case_or_digits() {
        assert_eq!(SqlState::from_wire(b"SL001").map(|s| s.to_string()), Some("SL001".into()));
        assert_eq!(SqlState::from_wire(b"sl001"), None);
        assert_eq!(SqlState::from_wire(b"0800"), None);
        assert_eq!(SqlState::from_wire(b"080060"), None);
    }
}
