//! Files of certificates and keys, and what is wrong with them.

use std::io::ErrorKind;
use std::path::Path;

use openssl::error::ErrorStack;
use secretlink_core::file;

use crate::tls_error::{TlsError, os_error};

/// The largest file that OpenSSL is given. Some authorities publish lists of many megabytes.
const MAX_FILE: usize = 64 << 20;

/// Whether OpenSSL may be given a file to read: a device or a pipe could have it wait, or read, for ever.
pub(super) fn check_file(what: &'static str, path: &Path) -> Result<(), TlsError> {
    check_name(what, path)?;
    file::check(path, MAX_FILE).map_err(|error| file_error(what, path, os_error(&error)))
}

/// Whether OpenSSL may be given a directory in which to look for files by the hashes of names, such as
/// `5ed36f99.r0`. It reads them whenever it needs them, and would wait for a pipe among them for ever.
pub(super) fn check_hashed_names(what: &'static str, directory: &Path) -> Result<(), TlsError> {
    let entries = std::fs::read_dir(directory);
    for entry in entries.map_err(|error| file_error(what, directory, os_error(&error)))?.flatten() {
        if !is_hashed(entry.file_name().as_encoded_bytes()) {
            continue;
        }
        check_if_opened(what, &entry.path())?;
    }
    Ok(())
}

/// As [`check_file`], for a file without which OpenSSL goes on if it cannot be opened.
pub(super) fn check_if_opened(what: &'static str, path: &Path) -> Result<(), TlsError> {
    match file::check(path, MAX_FILE) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge) => {
            Err(file_error(what, path, os_error(&error)))
        }
        _ => Ok(()),
    }
}

/// Whether OpenSSL looks for this name in a directory: eight digits of a hash, and a number.
fn is_hashed(name: &[u8]) -> bool {
    let Some((hash, [b'.', number @ ..])) = name.split_at_checked(8) else { return false };
    let number = number.strip_prefix(b"r").unwrap_or(number);
    hash.iter().all(u8::is_ascii_hexdigit) && number.iter().all(u8::is_ascii_digit)
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
