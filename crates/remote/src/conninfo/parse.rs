//! Either syntax of a connection string.

use super::error::ConnInfoError;
use super::options::{Options, check_bytes};
use super::value::without_designator;
use super::{string, uri};

impl Options {
    /// Parses a connection string of either syntax: a `postgresql://` or `postgres://` URI, or
    /// `keyword=value` pairs (PostgreSQL documentation, "Connection Strings").
    ///
    /// # Errors
    /// What [`ConnInfoError`] has to say about syntax and unknown keywords. Values are checked by
    /// [`Options::resolve`].
    pub fn parse(conninfo: &str) -> Result<Options, ConnInfoError> {
        check_bytes(conninfo.as_bytes())?;
        let mut options = Options::default();
        match without_designator(conninfo) {
            Some(rest) => uri::parse(conninfo.len(), rest, &mut options)?,
            None => string::parse(conninfo, &mut options)?,
        }
        Ok(options)
    }
}
