//! A TLS stream that any thread may drive.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use crate::errors::{self, Error};
use crate::own_errors::OwnErrors;

/// The most bytes that may be read for the sake of TLS alone, without a byte of data: several times what a
/// handshake with the longest chain of certificates takes that OpenSSL accepts. A server could otherwise
/// keep us busy with messages of its own, session tickets above all, for ever, and within one call.
const MOST_WITHOUT_DATA: usize = 512 * 1024;

/// A TLS session over a stream.
pub struct TlsStream<S>(SslStream<Counted<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// For a handshake over `stream`.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(session: Ssl, stream: S) -> Result<TlsStream<S>, ErrorStack> {
        let _errors = OwnErrors::new();
        SslStream::new(session, Counted { stream, without_data: 0 }).map(TlsStream)
    }

    /// Performs the client's side of a handshake.
    ///
    /// # Errors
    /// Why there is none; then nothing may be sent any more.
    pub async fn connect(&mut self) -> Result<(), Error> {
        let done = std::future::poll_fn(|context| self.inner(|stream| stream.poll_connect(context))).await;
        self.0.get_mut().without_data = 0;
        done.map_err(|error| errors::of_handshake(error, self.session()))
    }

    /// What is known of it.
    pub fn session(&self) -> &SslRef {
        self.0.ssl()
    }

    /// Every call of OpenSSL's for this stream passes here.
    fn inner<T>(&mut self, call: impl FnOnce(Pin<&mut SslStream<Counted<S>>>) -> T) -> T {
        let _errors = OwnErrors::new();
        call(Pin::new(&mut self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = self.inner(|stream| stream.poll_read(context, into));
        if done.is_ready() {
            self.0.get_mut().without_data = 0;
        }
        done.map_err(errors::of_stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner(|stream| stream.poll_write(context, bytes)).map_err(errors::of_stream)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner(|stream| stream.poll_flush(context)).map_err(errors::of_stream)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner(|stream| stream.poll_shutdown(context)).map_err(errors::of_stream)
    }
}

/// What TLS goes over, counting what comes in.
struct Counted<S> {
    stream: S,
    /// Bytes read since there was data among them.
    without_data: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.without_data > MOST_WITHOUT_DATA {
            let error = "the server sends TLS messages without end, and no data";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.without_data += into.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
