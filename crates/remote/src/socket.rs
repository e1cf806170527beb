//! A socket that is waited for by the I/O thread's runtime, or by a backend itself.

use secretlink_core::shared_task;
use socket2::Socket as Inner;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream socket.
pub(crate) struct Socket {
    waiting: Waiting,
    /// When the socket was last found empty by a driver.
    empty: Option<u64>,
}

/// Who waits for it.
enum Waiting {
    Runtime(AsyncFd<Inner>),
    /// Who [drives](shared_task) what is read from it.
    Driver(Inner),
    /// Nobody: it could not be changed from one to the other.
    Nobody,
}

impl Socket {
    /// Takes over a socket of the runtime's.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Socket> {
        Ok(Socket { waiting: Waiting::Driver(stream.into_std()?.into()), empty: None })
    }

    /// A socket over a Unix-domain stream, as [`Socket::tcp`] makes one over TCP.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn unix(stream: UnixStream) -> io::Result<Socket> {
        Ok(Socket { waiting: Waiting::Driver(stream.into_std()?.into()), empty: None })
    }

    /// Takes over a socket of nobody's.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn std(stream: std::os::unix::net::UnixStream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        Ok(Socket { waiting: Waiting::Driver(stream.into()), empty: None })
    }

    /// The socket's descriptor, which stays as long as the socket lives.
    pub(crate) fn fd(&self) -> RawFd {
        match &self.waiting {
            Waiting::Runtime(socket) => socket.as_raw_fd(),
            Waiting::Driver(socket) => socket.as_raw_fd(),
            Waiting::Nobody => -1,
        }
    }

    /// For a thread that drives.
    fn unregistered(&mut self) -> io::Result<&Inner> {
        if let Waiting::Runtime(_) = self.waiting
            && let Waiting::Runtime(socket) = std::mem::replace(&mut self.waiting, Waiting::Nobody)
        {
            self.waiting = Waiting::Driver(socket.into_inner());
        }
        match &self.waiting {
            Waiting::Driver(socket) => Ok(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The socket as the I/O thread waits for it.
    fn registered(&mut self) -> io::Result<&AsyncFd<Inner>> {
        if let Waiting::Driver(_) = self.waiting
            && let Waiting::Driver(socket) = std::mem::replace(&mut self.waiting, Waiting::Nobody)
        {
            // SAFETY: the socket owns its descriptor, and is not given out mutably.
            self.waiting = Waiting::Runtime(unsafe { AsyncFd::register(socket) }?);
        }
        match &self.waiting {
            Waiting::Runtime(socket) => Ok(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What a call gives that is not to wait; `None` if it would have to.
fn now<T>(mut call: impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
            done => return Some(done),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = |socket: &Inner, into: &mut ReadBuf<'_>| {
            // SAFETY: `recv` only writes there.
            let read = socket.recv(unsafe { into.unfilled_mut() })?;
            // SAFETY: as many bytes as it says it has written.
            unsafe { into.assume_init(read) };
            into.advance(read);
            Ok(())
        };
        if let Some(looked) = shared_task::driving() {
            // The driver waits for this socket to become readable.
            if self.empty == Some(looked) {
                return Poll::Pending;
            }
            if !shared_task::may_read(context) {
                return Poll::Pending;
            }
            let socket = self.unregistered()?;
            let done = now(|| read(socket, into));
            // Less than asked for was all there was.
            if into.remaining() > 0 && !matches!(done, Some(Err(_))) {
                self.empty = Some(looked);
            }
            return done.map_or(Poll::Pending, Poll::Ready);
        }
        let socket = self.registered()?;
        loop {
            let mut ready = ready!(socket.poll_read_ready(context))?;
            if let Ok(done) = ready.try_io(|socket| read(socket.get_ref(), into)) {
                return Poll::Ready(done);
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A socket that the server has closed is an error, not a signal.
        let write = |socket: &Inner| socket.send_with_flags(bytes, libc::MSG_NOSIGNAL);
        if shared_task::driving().is_some() {
            let socket = self.unregistered()?;
            return match now(|| write(socket)) {
                Some(done) => Poll::Ready(done),
                None => {
                    // The driver does not wait for room to write.
                    shared_task::needs_io_thread();
                    Poll::Pending
                }
            };
        }
        let socket = self.registered()?;
        loop {
            let mut ready = ready!(socket.poll_write_ready(context))?;
            if let Ok(done) = ready.try_io(|socket| write(socket.get_ref())) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.waiting {
            Waiting::Runtime(socket) => socket.get_ref().shutdown(std::net::Shutdown::Write),
            Waiting::Driver(socket) => socket.shutdown(std::net::Shutdown::Write),
            Waiting::Nobody => Ok(()),
        })
    }
}
