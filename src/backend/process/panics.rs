//! What happens at a panic besides unwinding: as little as can be.
//!
//! pgrx raises every ERROR as a panic, and its panic hook takes a backtrace of each when the server's
//! environment has `RUST_BACKTRACE`. The first one reads the library's symbols, which costs milliseconds
//! and megabytes; the text goes to the client as DETAIL; and where memory has run out the backtrace waits
//! for a lock that its own thread holds. So no backtrace is ever taken here, whatever the environment says.

use std::io::{Cursor, Write};
use std::panic::{PanicHookInfo, set_hook};

/// Puts our hook in the place of pgrx's and of Rust's own.
pub(crate) fn init() {
    set_hook(Box::new(note));
}

/// Writes to the server's log where a bug showed. Allocates nothing and takes no lock.
///
/// The text of the panic is left out: nobody has looked at it for secrets. In the backend's own thread
/// it becomes the message of an ERROR.
fn note(panic: &PanicHookInfo<'_>) {
    // The panics of pgrx that carry an ERROR have no text.
    if panic.payload_as_str().is_none() {
        return;
    }
    let Some(at) = panic.location() else { return };
    let mut line = Cursor::new([0; 512]);
    // What does not fit is cut off.
    let _ = writeln!(line, "secretlink: internal error at {}:{}", at.file(), at.line());
    let length = usize::try_from(line.position()).unwrap_or_default();
    let text = &line.get_ref()[..length];
    // SAFETY: reads `text.len()` bytes of a buffer that has them. It does not matter whether they arrive.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
