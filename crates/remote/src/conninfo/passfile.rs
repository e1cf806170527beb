//! The password file (PostgreSQL documentation, "The Password File"; fe-connect.c,
//! `passwordFromFile`).

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secretlink_core::{Secret, file};

use super::value::harmless;

/// The largest password file that is used.
const MAX_SIZE: usize = 4 * 1024 * 1024;

/// A password file read into memory. What cannot be used is as good as empty.
pub(super) struct PassFile {
    content: Secret,
    /// Why the file exists and is not used.
    pub warning: Option<String>,
}

impl PassFile {
    /// Reads the file.
    pub(super) fn read(path: Option<PathBuf>) -> PassFile {
        match path.as_deref().map_or(Ok(Vec::new()), read_private) {
            Ok(content) => PassFile { content: Secret::new(content), warning: None },
            Err(warning) => PassFile { content: Secret::new(Vec::new()), warning },
        }
    }

    /// The password of the first line that fits, unless it is empty.
    pub(super) fn password(&self, host: &str, port: &str, dbname: &str, user: &str) -> Option<Secret> {
        let rest = self.content.expose().split(|b| *b == b'\n').find_map(|line| {
            if line.starts_with(b"#") {
                return None;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            [host, port, dbname, user].iter().try_fold(line, |rest, wanted| match_field(rest, wanted))
        })?;
        let mut password = Vec::with_capacity(rest.len());
        let mut bytes = rest.iter().copied();
        while let Some(b) = bytes.next() {
            match b {
                b':' => break,
                b'\\' => password.push(bytes.next().unwrap_or(b)),
                _ => password.push(b),
            }
        }
        Some(Secret::new(password)).filter(|password| !password.is_empty())
    }
}

/// What follows the first field of `line`, if that is `*` or, unescaped, `wanted`.
fn match_field<'a>(line: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut wanted = wanted.bytes();
    let mut rest = line;
    loop {
        rest = match rest {
            [b':', rest @ ..] => return wanted.next().is_none().then_some(rest),
            [b'\\', escaped, rest @ ..] if wanted.next() == Some(*escaped) => rest,
            [b, rest @ ..] if *b != b'\\' && wanted.next() == Some(*b) => rest,
            _ => return None,
        }
    }
}

/// Why a pipe, a device or a directory is not used.
const NOT_PLAIN: &str = "is not a plain file";

/// The content of a file that nobody else can read; `Err` holds a warning if there is cause for one.
fn read_private(path: &Path) -> Result<Vec<u8>, Option<String>> {
    // libpq is silent about a file that does not exist or cannot be opened.
    let metadata = std::fs::metadata(path).map_err(|_| None)?;
    let warning = |why: &str| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(harmless);
        Some(format!("password file \"{}\" {why}", name.as_deref().unwrap_or("…")))
    };
    if !metadata.is_file() {
        return Err(warning(NOT_PLAIN));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(warning(
            "has group or world access; permissions should be u=rw (0600) or less: it was not used",
        ));
    }
    file::read(path, MAX_SIZE).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => warning("is too large: it was not used"),
        // A file that has become a pipe since.
        ErrorKind::InvalidInput => warning(NOT_PLAIN),
        _ => None,
    })
}
