//! Files of certificates and keys, and what is wrong with them.

use std::path::Path;

use openssl::error::ErrorStack;

use crate::tls_error::TlsError;

/// Whether OpenSSL may be given a file to read: a device or a pipe could have it wait, or read, for ever.
pub(super) fn check_file(what: &'static str, path: &Path) -> Result<(), TlsError> {
    check_name(what, path)?;
    // Looked at before it is opened, since a pipe is not even opened until somebody writes to it.
    let is_file = std::fs::metadata(path).map(|file| file.is_file());
    match is_file.and_then(|is_file| is_file.then(|| std::fs::File::open(path)).transpose()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(file_error(what, path, "it is not a regular file")),
        Err(error) => Err(file_error(what, path, error)),
    }
}

/// The crate `openssl` takes names that are UTF-8 only.
pub(super) fn check_name(what: &'static str, path: &Path) -> Result<(), TlsError> {
    match path.to_str() {
        Some(name) if !name.contains('\0') => Ok(()),
        _ => Err(file_error(what, path, "its name is not UTF-8")),
    }
}

pub(super) fn file_error(what: &'static str, path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { what, path: path.display().to_string(), reason: reason.to_string() }
}

/// What OpenSSL says of a file's content.
pub(super) fn content_error(what: &'static str, path: &Path, errors: &ErrorStack) -> TlsError {
    file_error(what, path, secretlink_tls::reason(errors))
}
