//! Files that OpenSSL opens by itself: of a pipe or a device it would wait, or read, for ever.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use secretlink_core::file;

/// The largest file that OpenSSL is given. Some authorities publish lists of many megabytes.
pub const MAX_FILE: usize = 64 << 20;

/// A file that OpenSSL may not be given.
#[derive(Debug)]
pub struct UnfitFile {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Whether OpenSSL may be given a file without which it goes on if it cannot be opened: an error if it is no plain
/// file, or too large.
fn check_if_opened(path: &Path) -> Result<(), UnfitFile> {
    match file::check(path, MAX_FILE) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge) => {
            Err(UnfitFile { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Whether OpenSSL may be given a directory in which to look for files by the hashes of names, such as
/// `5ed36f99.r0`. It reads them whenever it needs them.
///
/// # Errors
/// Names the directory if it cannot be read, else the first file that is no plain file, or too large.
pub fn check_hashed_names(directory: &Path) -> Result<(), UnfitFile> {
    let mut files = hashed(directory).map_err(|error| UnfitFile { path: directory.to_owned(), error })?;
    files.try_for_each(|file| check_if_opened(&file))
}

/// Whether there is a name in a directory for which OpenSSL would look.
pub fn has_hashed_names(directory: &Path) -> bool {
    hashed(directory).is_ok_and(|mut files| files.next().is_some())
}

/// The files of a directory for whose names OpenSSL would look.
fn hashed(directory: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let entries = std::fs::read_dir(directory)?.flatten();
    Ok(entries.filter(|entry| is_hashed(entry.file_name().as_encoded_bytes())).map(|entry| entry.path()))
}

/// Whether OpenSSL looks for this name in a directory: eight digits of a hash, and a number.
fn is_hashed(name: &[u8]) -> bool {
    let Some((hash, [b'.', number @ ..])) = name.split_at_checked(8) else { return false };
    let number = number.strip_prefix(b"r").unwrap_or(number);
    hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && !number.is_empty()
        && number.iter().all(u8::is_ascii_digit)
}

/// Checks the files from which OpenSSL takes the operating system's authorities if the environment names others.
///
/// # Errors
/// Names the variable of the environment, and the file.
pub fn check_default_roots() -> Result<(), (&'static str, UnfitFile)> {
    const FILE: &str = "SSL_CERT_FILE";
    const DIRECTORIES: &str = "SSL_CERT_DIR";
    if let Some(file) = std::env::var_os(FILE) {
        check_if_opened(Path::new(&file)).map_err(|unfit| (FILE, unfit))?;
    }
    for directory in std::env::split_paths(&std::env::var_os(DIRECTORIES).unwrap_or_default()) {
        // One that is not there, or not readable, is none for OpenSSL.
        let mut files = hashed(&directory).into_iter().flatten();
        files.try_for_each(|file| check_if_opened(&file)).map_err(|unfit| (DIRECTORIES, unfit))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_names_are_those_of_openssl() {
        for name in ["5ed36f99.0", "5ed36f99.12", "5ed36f99.r0"] {
            assert!(is_hashed(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "5ed36f99",
            "5ed36f99.",
            "5ed36f99.r",
            "5ED36F99.0",
            "5ed36f9.0",
            "5ed36f99.pem",
            "5ed36f99x0",
        ] {
            assert!(!is_hashed(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_directory_is_unfit_if_openssl_could_meet_a_pipe_in_it() {
        let directory = std::env::temp_dir().join(format!("secretlink-roots-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(!has_hashed_names(&directory));
        let link = |name: &str| std::os::unix::fs::symlink("/dev/zero", directory.join(name)).unwrap();
        link("other.0");
        assert!(check_hashed_names(&directory).is_ok() && !has_hashed_names(&directory));
        link("5ed36f99.0");
        let unfit = check_hashed_names(&directory).unwrap_err();
        assert_eq!((unfit.path, unfit.error.kind()), (directory.join("5ed36f99.0"), ErrorKind::InvalidInput));
        assert!(has_hashed_names(&directory));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(check_hashed_names(&directory).unwrap_err().path, directory);
    }
}
