//! Asking a server to stop what a session is doing.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::framed::Transport;
use crate::tls::TlsClient;

/// After how long a server that goes on with a cancelled query is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Where a session runs.
#[derive(Clone)]
pub(crate) enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// What is needed to cancel the queries of one session.
#[derive(Clone)]
pub(crate) struct CancelKey {
    /// The address that the connection was made to.
    pub address: Address,
    /// How to encrypt a cancel request, as libpq 17 does for an encrypted session: who reads the
    /// key can cancel too.
    pub tls: Option<TlsClient>,
    /// Whether TLS starts without asking (`sslnegotiation=direct`).
    pub direct: bool,
    /// The process that serves the connection, from BackendKeyData.
    pub process_id: i32,
    /// What proves to the server that the request is ours, from BackendKeyData.
    pub secret_key: i32,
}

impl CancelKey {
    /// Sends the request and waits until the server has closed, which it does after it has sent the
    /// signal: a query sent later is not hit. No answer says whether anything was cancelled.
    ///
    /// # Errors
    /// What the operating system says. The caller bounds the time.
    pub(crate) async fn send(&self) -> io::Result<()> {
        let mut transport: Box<dyn Transport> = match &self.address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(addr) => {
                let mut stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        if !self.direct && !ask_for_tls(&mut stream).await? {
                            return Err(io::Error::other("server refused to encrypt the cancel request"));
                        }
                        Box::new(tls.handshake(stream).await.map_err(io::Error::other)?.stream)
                    }
                }
            }
        };
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        transport.write_all(&request).await?;
        transport.flush().await?;
        // The server sends nothing: the first read ends with its close, in whatever manner.
        let _ = transport.read(&mut [0; 1]).await;
        Ok(())
    }

    /// Sends requests until `stopped`, and tells `sent` how each of them went. A server that has not
    /// begun with the query yet, as while a long one is still under way to it, takes a request for one
    /// that came too late and ignores it: hence more than one.
    pub(crate) async fn send_until(&self, stopped: &CancellationToken, mut sent: impl FnMut(io::Result<()>)) {
        loop {
            sent(self.send().await);
            if tokio::time::timeout(AGAIN, stopped.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}

/// Sends SSLRequest, and says whether the server is ready for a TLS handshake.
pub(crate) async fn ask_for_tls<S: Transport>(stream: &mut S) -> io::Result<bool> {
    request_tls(stream).await?;
    answer_to_request(stream).await
}

/// Sends SSLRequest.
pub(crate) async fn request_tls<S: Transport>(stream: &mut S) -> io::Result<()> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    stream.flush().await
}

/// The answer to SSLRequest: true if the server is ready for a TLS handshake.
///
/// Reads one byte and no more, so that nothing sent in the clear before the handshake can be taken
/// for something sent after it (CVE-2021-23222).
pub(crate) async fn answer_to_request<S: Transport>(stream: &mut S) -> io::Result<bool> {
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "received invalid response to SSL negotiation")),
    }
}
