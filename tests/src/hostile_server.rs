//! A remote server that says what a test wants it to say, message by message.

use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslStream};
use std::fmt;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::server_messages;
use crate::temp_dir::TempDir;
use crate::tls::TlsFiles;

/// How long a client may take to say something, or to take what is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on 127.0.0.1 that plays a script with each client that connects, each session on a thread of its own.
/// It ends when dropped.
#[derive(Debug)]
pub struct HostileServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// One session of a [`HostileServer`], and its client's socket.
pub struct HostileSession {
    stream: Box<dyn Stream>,
}

/// A socket, or TLS over one.
trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for SslStream<TcpStream> {}

impl fmt::Debug for HostileSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostileSession").finish_non_exhaustive()
    }
}

impl HostileServer {
    /// Start one that plays `script` with each client, from the first byte on. An error ends the session:
    /// the client has gone.
    pub fn start(script: impl Fn(&mut HostileSession) -> Result<()> + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// Starts as [`HostileServer::start`] does, behind TLS with a certificate that nobody trusts.
    pub fn start_behind_tls(
        script: impl Fn(&mut HostileSession) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::new();
        let files = TlsFiles::generate(directory.path(), &["localhost".to_owned()], "nobody");
        let mut context = SslContext::builder(SslMethod::tls_server()).expect("OpenSSL works");
        context.set_certificate_chain_file(&files.server_cert).expect("a certificate of ours");
        context.set_private_key_file(&files.server_key, SslFiletype::PEM).expect("a key of ours");
        Self::start_with(Some(context.build()), script)
    }

    fn start_with(
        tls: Option<SslContext>,
        script: impl Fn(&mut HostileSession) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, script) = (Arc::clone(&stop), Arc::new(script));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (script, tls) = (Arc::clone(&script), tls.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    let stream: Box<dyn Stream> = match &tls {
                        None => Box::new(stream),
                        Some(tls) => Box::new(encrypted(stream, tls)?),
                    };
                    script(&mut HostileSession { stream })
                });
            }
        });
        Self { address, stop, acceptor: Some(acceptor) }
    }

    /// Start one that lets everybody in without a password and then plays `script` for each query that
    /// comes by the simple protocol. Requests to cancel are not heard.
    pub fn after_login(
        script: impl Fn(&mut HostileSession, &[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |session| {
            session.log_in()?;
            loop {
                match session.hear()? {
                    (b'Q', sql) => script(session, &sql)?,
                    (b'X', _) => return Ok(()),
                    _ => {}
                }
            }
        })
    }

    /// A connection string for it, without TLS.
    pub fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} user=u dbname=d sslmode=disable", self.address.port())
    }

    /// A connection string for it, with TLS.
    pub fn conninfo_with_tls(&self) -> String {
        self.conninfo().replace("sslmode=disable", "sslmode=require")
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Answers a request for TLS with it. What is no such request, as one to cancel, is an error.
fn encrypted(mut stream: TcpStream, tls: &SslContext) -> Result<SslStream<TcpStream>> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    stream.write_all(b"S")?;
    Ssl::new(tls)?.accept(stream).map_err(|error| Error::other(error.to_string()))
}

impl HostileSession {
    /// Take the startup packet, whatever is in it, and let the client in.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn log_in(&mut self) -> Result<()> {
        self.hear_startup()?;
        self.say(&server_messages::authentication(0, b""))?;
        self.say(&server_messages::session())
    }

    /// Take the startup packet, and an MD5 hash of whatever password the client has, so that it may be a
    /// non-superuser's.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn log_in_with_password(&mut self) -> Result<()> {
        self.hear_startup()?;
        self.say(&server_messages::authentication(5, b"salt"))?;
        self.hear()?;
        self.say(&server_messages::authentication(0, b""))?;
        self.say(&server_messages::session())
    }

    /// Listen until a query has come, by either protocol: up to Query, Flush or Sync.
    ///
    /// # Errors
    /// If the client has gone or says goodbye.
    pub fn hear_query(&mut self) -> Result<()> {
        loop {
            match self.hear()?.0 {
                b'Q' | b'H' | b'S' => return Ok(()),
                b'X' => return Err(ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// Say nothing until the client has gone.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn be_silent(&mut self) -> Result<()> {
        loop {
            self.hear()?;
        }
    }

    /// Take the startup packet.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn hear_startup(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        self.body(length)
    }

    /// The next message: its type and what is in it.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn hear(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        Ok((tag, self.body(length)?))
    }

    /// Whatever comes first, such as a request of HTTP.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn hear_some(&mut self) -> Result<Vec<u8>> {
        let mut some = vec![0; 64 * 1024];
        let heard = self.stream.read(&mut some)?;
        some.truncate(heard);
        Ok(some)
    }

    fn body(&mut self, length: [u8; 4]) -> Result<Vec<u8>> {
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Say these bytes.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Say a message of this type that holds `head`, then `fill` over and over, then `tail`: `length` bytes
    /// in all. It is never in memory as a whole.
    ///
    /// # Errors
    /// If the client has gone.
    pub fn say_long(&mut self, tag: u8, head: &[u8], fill: u8, length: usize, tail: &[u8]) -> Result<()> {
        let claimed = u32::try_from(length + 4).expect("the length of a message has 32 bits");
        self.say(&[&[tag], &claimed.to_be_bytes()[..], head].concat())?;
        let chunk = vec![fill; 1 << 20];
        let mut left = length - head.len() - tail.len();
        while left > 0 {
            let now = left.min(chunk.len());
            self.say(&chunk[..now])?;
            left -= now;
        }
        self.say(tail)
    }

    /// Say the same over and over until the client has gone.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn say_for_ever(&mut self, bytes: &[u8]) -> Result<()> {
        let many = bytes.repeat((64 * 1024 / bytes.len().max(1)).max(1));
        loop {
            self.say(&many)?;
        }
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor from `accept`.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
