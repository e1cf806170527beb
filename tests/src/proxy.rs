//! A TCP proxy that can be told to misbehave.

use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a waiting thread looks whether the mode has changed or the proxy is to end.
const TICK: Duration = Duration::from_millis(20);
/// How long the upstream may take to accept, and a client to take what it was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the proxy does, with connections that exist and with new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hand everything on.
    Pass,
    /// Reset each connection as soon as it is made. Those that exist are reset too.
    Refuse,
    /// Accept, take what is sent, and never answer. Connections that exist fall silent.
    BlackHole,
    /// Hand everything on, each piece that much later.
    Delay(Duration),
    /// Hand on this many bytes from the upstream, counted from the start of each connection, then
    /// reset it.
    CutAfter(usize),
}

/// A proxy between a client and an upstream on loopback. It ends when dropped, and every connection
/// through it with it.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    upstream: Option<SocketAddr>,
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Proxy {
    /// A proxy to `port` on 127.0.0.1, in [`Mode::Pass`].
    pub fn to(port: u16) -> Self {
        Self::start(Some((Ipv4Addr::LOCALHOST, port).into()), Mode::Pass)
    }

    /// A listener with nothing behind it that accepts and never answers.
    pub fn black_hole() -> Self {
        Self::start(None, Mode::BlackHole)
    }

    /// The proxy's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The proxy's address as an HTTP endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Behave differently from now on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().expect("the mode is only copied under its lock") = mode;
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    fn start(upstream: Option<SocketAddr>, mode: Mode) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let shared = Arc::new(Shared {
            mode: Mutex::new(mode),
            upstream,
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, acceptor: Some(acceptor) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor from `accept`.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().expect("the mode is only copied under its lock")
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if shared.stopped() {
            break;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        connections.retain(|connection| !connection.is_finished());
        let shared = Arc::clone(shared);
        connections.push(thread::spawn(move || {
            serve(&client, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn serve(client: &TcpStream, shared: &Shared) {
    if shared.mode() == Mode::Refuse {
        return reset(client);
    }
    let upstream = shared.upstream.and_then(|address| TcpStream::connect_timeout(&address, PATIENCE).ok());
    match &upstream {
        Some(upstream) => {
            let closed = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| pump(client, upstream, Direction::ToUpstream, shared, &closed));
                pump(upstream, client, Direction::ToClient, shared, &closed);
            });
        }
        None if shared.upstream.is_some() => reset(client),
        None => swallow(client, shared),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToUpstream,
    ToClient,
}

/// Hand bytes on from one side to the other until either ends, as the mode says.
fn pump(from: &TcpStream, to: &TcpStream, direction: Direction, shared: &Shared, closed: &AtomicBool) {
    let mut passed = 0;
    let mut buffer = vec![0; 64 * 1024];
    let _ = from.set_nodelay(true);
    let _ = from.set_read_timeout(Some(TICK));
    let _ = to.set_write_timeout(Some(PATIENCE));
    let done = || shared.stopped() || closed.load(Ordering::SeqCst);
    while !done() {
        let mut length = match (&mut &*from).read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(e) if is_timeout(&e) => 0,
            Err(_) => return close(from, to, closed),
        };
        if shared.mode() == Mode::Refuse {
            return close(from, to, closed);
        }
        if length == 0 {
            continue;
        }
        let received = Instant::now();
        // A silent connection keeps what it has, and goes on with it if the mode changes.
        while shared.mode() == Mode::BlackHole {
            if done() {
                return;
            }
            thread::sleep(TICK);
        }
        let mut cut = false;
        match shared.mode() {
            Mode::Delay(delay) => {
                while !done() && received.elapsed() < delay {
                    thread::sleep(TICK.min(delay.saturating_sub(received.elapsed())));
                }
            }
            Mode::CutAfter(limit) if direction == Direction::ToClient => {
                cut = passed + length >= limit;
                length = length.min(limit.saturating_sub(passed));
            }
            _ => {}
        }
        if (&mut &*to).write_all(&buffer[..length]).is_err() || cut {
            return close(from, to, closed);
        }
        passed += length;
    }
    // One side has nothing more to say; the other may still answer.
    let _ = to.shutdown(Shutdown::Write);
    if shared.stopped() {
        close(from, to, closed);
    }
}

/// Take what the client sends until it leaves.
fn swallow(client: &TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = client.set_read_timeout(Some(TICK));
    while !shared.stopped() {
        match (&mut &*client).read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if is_timeout(&e) => {}
            Err(_) => return,
        }
    }
}

fn close(one: &TcpStream, other: &TcpStream, closed: &AtomicBool) {
    closed.store(true, Ordering::SeqCst);
    reset(one);
    reset(other);
}

/// End with RST rather than FIN when the stream is dropped.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
