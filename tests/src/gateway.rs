//! What stands between a server and AWS: a proxy, and a TLS endpoint.

use crate::http_message::read_message;
use crate::moto::Moto;
use crate::temp_dir::TempDir;
use crate::tls::TlsFiles;
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod};
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long either side may take to send or to take a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// Brings every request to moto, however it comes: to an endpoint, over TLS or not, or to a proxy, in a
/// tunnel or not. It ends when dropped.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
    /// The files of its own authority, if it has one.
    own: Option<(TlsFiles, TempDir)>,
}

struct Shared {
    upstream: SocketAddr,
    tls: SslContext,
    seen: Mutex<Vec<(String, String)>>,
    sessions: AtomicUsize,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway to `moto`, with a certificate for these names from an authority of its own.
    pub fn to(moto: &Moto, names: &[&str]) -> Self {
        let directory = TempDir::new();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let tls = TlsFiles::generate(directory.path(), &names, "nobody");
        let (certificate, key) = (tls.server_cert.clone(), tls.server_key.clone());
        Self::start(moto, &certificate, &key, Some((tls, directory)))
    }

    /// A gateway to `moto` that shows these certificates.
    pub fn showing(moto: &Moto, certificates: &Path, key: &Path) -> Self {
        Self::start(moto, certificates, key, None)
    }

    fn start(moto: &Moto, certificates: &Path, key: &Path, own: Option<(TlsFiles, TempDir)>) -> Self {
        let mut context = SslContext::builder(SslMethod::tls_server()).expect("OpenSSL works");
        context.set_certificate_chain_file(certificates).expect("certificates");
        context.set_private_key_file(key, SslFiletype::PEM).expect("their key");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let shared = Arc::new(Shared {
            upstream: (Ipv4Addr::LOCALHOST, moto.port()).into(),
            tls: context.build(),
            seen: Mutex::default(),
            sessions: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, acceptor: Some(acceptor), own }
    }

    /// The gateway's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of its authority.
    pub fn ca(&self) -> &Path {
        &self.own.as_ref().expect("it has an authority of its own").0.ca
    }

    /// The requests so far and their answers, heads and bodies. `CONNECT` is a request, too.
    pub fn seen(&self) -> Vec<(String, String)> {
        self.shared.seen.lock().expect("nobody panics under this lock").clone()
    }

    /// How many TLS sessions there have been, and how many of them are open.
    pub fn sessions(&self) -> (usize, usize) {
        (self.shared.sessions.load(Ordering::SeqCst), self.shared.open.load(Ordering::SeqCst))
    }

    /// The requests so far that contain `text`.
    pub fn requests_with(&self, text: &str) -> Vec<String> {
        self.seen().into_iter().map(|(request, _)| request).filter(|request| request.contains(text)).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor from `accept`.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that goes away early, or does not trust us, is no reason to complain.
            let _ = serve(&stream, &shared);
        });
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if begins_with_tls(stream)? {
        return serve_tls(stream, shared);
    }
    let request = read_message(stream)?;
    if !request.starts_with(b"CONNECT ") {
        return answer(stream, &request, shared);
    }
    note(shared, &request, b"");
    (&mut &*stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    serve_tls(stream, shared)
}

fn begins_with_tls(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    stream.peek(&mut first)?;
    // A handshake record.
    Ok(first == [0x16])
}

fn serve_tls(socket: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let session = Ssl::new(&shared.tls)?;
    let accepted = session.accept(socket);
    let mut stream = accepted.map_err(|error| std::io::Error::other(error.to_string()))?;
    shared.sessions.fetch_add(1, Ordering::SeqCst);
    shared.open.fetch_add(1, Ordering::SeqCst);
    // As long as the client has more to ask, as at AWS.
    while let Ok(request) = read_message(&mut stream)
        && answer(&mut stream, &request, shared).is_ok()
    {}
    shared.open.fetch_sub(1, Ordering::SeqCst);
    let _ = stream.shutdown();
    Ok(())
}

fn answer(mut client: impl Write, request: &[u8], shared: &Shared) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect_timeout(&shared.upstream, PATIENCE)?;
    upstream.set_read_timeout(Some(PATIENCE))?;
    upstream.write_all(&with_bare_path(request))?;
    let answer = without_close(read_message(&upstream)?);
    note(shared, request, &answer);
    client.write_all(&answer)?;
    client.flush()
}

/// moto closes each connection, and says so.
fn without_close(answer: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(answer) {
        Ok(text) => text.replacen("Connection: close\r\n", "", 1).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// A proxy is given the whole URL.
fn with_bare_path(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let mut parts = text.splitn(3, ' ');
    let (Some(method), Some(url), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return request.to_vec();
    };
    let path = url.strip_prefix("http://").map_or(url, |url| url.find('/').map_or("/", |at| &url[at..]));
    format!("{method} {path} {rest}").into_bytes()
}

fn note(shared: &Shared, request: &[u8], answer: &[u8]) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut seen = shared.seen.lock().expect("nobody panics under this lock");
    seen.push((text(request), text(answer)));
}
