//! Waking a backend by a descriptor that it waits on.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Wakes the backend: makes [`Waker::fd`] readable.
pub struct Waker {
    /// Set from the first wake until the consumer resets it, so that a burst costs one system call.
    signalled: AtomicBool,
    read_end: UnixStream,
    write_end: UnixStream,
}

impl Waker {
    /// # Errors
    /// If there are no descriptors to be had.
    pub(crate) fn new() -> io::Result<Waker> {
        // A socket pair rather than an eventfd: as fast for one byte, and not Linux only.
        let (read_end, write_end) = UnixStream::pair()?;
        read_end.set_nonblocking(true)?;
        write_end.set_nonblocking(true)?;
        Ok(Waker { signalled: AtomicBool::new(false), read_end, write_end })
    }

    /// Makes the descriptor readable until [`Waker::reset`].
    pub fn wake(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Only a full buffer can refuse the byte, and a full buffer is readable already.
            let _ = (&self.write_end).write(&[0]);
        }
    }

    /// Takes the signal back. Look for work after this, not before: what is sent later wakes again.
    pub fn reset(&self) {
        // Empty the socket before the flag is cleared: a wake that comes in between is skipped by
        // its sender, but its item was sent before, and the caller looks for items after this.
        let mut sink = [0; 16];
        while matches!((&self.read_end).read(&mut sink), Ok(n) if n == sink.len()) {}
        // A swap, not a store: the caller's look for items must not overtake it, as loads do overtake
        // an earlier store on every common processor. Else it could miss the item of a sender that
        // still found the flag set and so did not write, and nobody would ever wake it again.
        self.signalled.swap(false, Ordering::AcqRel);
    }

    /// Waits until it is readable, a signal comes, or the time is over.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up: a timeout of zero would be a busy loop.
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: one valid pollfd, and a count of one.
        unsafe { libc::poll(&mut poll, 1, milliseconds) };
    }

    /// Has a thread that wakes the backend find that it is awake, until the guard is dropped. What the thread wakes it
    /// for has to be looked for after that.
    pub fn quiet(&self) -> Quiet<'_> {
        Quiet { waker: self, was_signalled: self.signalled.swap(true, Ordering::AcqRel) }
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.read_end.as_raw_fd()
    }
}

/// See [`Waker::quiet`].
pub struct Quiet<'a> {
    waker: &'a Waker,
    was_signalled: bool,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if !self.was_signalled {
            self.waker.signalled.swap(false, Ordering::AcqRel);
        }
    }
}
