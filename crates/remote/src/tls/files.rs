//! Files of certificates and keys, and what is wrong with them.

use std::path::Path;

use openssl::error::ErrorStack;
use secretlink_core::file;
use secretlink_tls::{MAX_FILE, UnfitFile};

use crate::tls_error::{TlsError, os_error};

/// Whether OpenSSL may be given a file to read: a device or a pipe could have it wait, or read, for ever.
pub(super) fn check_file(what: &'static str, path: &Path) -> Result<(), TlsError> {
    check_name(what, path)?;
    file::check(path, MAX_FILE).map_err(|error| file_error(what, path, os_error(&error)))
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

/// A file that OpenSSL finds by itself, and could read, or wait for, for ever.
pub(super) fn unfit(what: &'static str, file: &UnfitFile) -> TlsError {
    file_error(what, &file.path, os_error(&file.error))
}

/// What OpenSSL says of a file's content.
pub(super) fn content_error(what: &'static str, path: &Path, errors: &ErrorStack) -> TlsError {
    file_error(what, path, secretlink_tls::reason(errors))
}
