//! Reading files that somebody else names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::memory;

/// Why a pipe, a socket, a device or a directory is not read.
pub const NOT_REGULAR: &str = "it is not a regular file";

/// Whether this is a plain file of at most `limit` bytes that can be read, for a library that reads it by
/// itself. Never waits.
///
/// # Errors
/// As [`read`].
pub fn check(path: &Path, limit: usize) -> io::Result<()> {
    open(path, limit).map(drop)
}

/// What is in a file of at most `limit` bytes. Never waits: a pipe or a device is refused before anything is
/// read of it.
///
/// # Errors
/// What the operating system says; `InvalidInput` for what is not a plain file, `FileTooLarge`, and
/// `OutOfMemory`.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let (file, size) = open(path, limit)?;
    // One byte more than there is now: so its end is found without growing.
    let mut content = memory::room(size + 1)?;
    let mut rest = file.take(limit as u64 + 1);
    while content.len() <= limit {
        content.try_reserve(1)?;
        let room = content.capacity() - content.len();
        if Read::by_ref(&mut rest).take(room as u64).read_to_end(&mut content)? == 0 {
            return Ok(content);
        }
    }
    Err(too_large())
}

/// The file, and how large it is now.
fn open(path: &Path, limit: usize) -> io::Result<(File, usize)> {
    // Opening a pipe without this flag waits for somebody who writes to it.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // A socket, or a device that nobody drives.
        Some(libc::ENXIO) => not_regular(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    match usize::try_from(metadata.len()) {
        Ok(size) if size <= limit => Ok((file, size)),
        _ => Err(too_large()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NOT_REGULAR)
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn kind(path: &Path, limit: usize) -> io::ErrorKind {
        read(path, limit).unwrap_err().kind()
    }

    #[test]
    fn plain_files_up_to_the_limit_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("secretlink-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        for size in [0, 1, 4096, 100_000] {
            fs::write(&file, vec![b'x'; size]).unwrap();
            assert_eq!(read(&file, size).unwrap().len(), size);
            assert_eq!(read(&file, 1 << 20).unwrap().len(), size);
            if size > 0 {
                assert_eq!(kind(&file, size - 1), io::ErrorKind::FileTooLarge);
            }
        }
        let pipe = directory.join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: a C string, and nothing else is touched.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let socket = directory.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for other in [&pipe, &socket, Path::new("/dev/zero"), &directory] {
            assert_eq!(kind(other, 1 << 20), io::ErrorKind::InvalidInput, "{}", other.display());
            assert!(check(other, 1 << 20).is_err(), "{}", other.display());
        }
        assert_eq!(kind(&directory.join("none"), 1), io::ErrorKind::NotFound);
        fs::remove_dir_all(&directory).unwrap();
    }
}
