//! A relay in front of a PostgreSQL server that understands what is said to it, and mistreats it as told.

use crate::process::Process;
use crate::secrets_relay::Fault;
use socket2::SockRef;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the server may take to accept, and either side to take a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a waiting thread looks whether the relay is to end.
const TICK: Duration = Duration::from_millis(20);

/// One message of a client, over a connection without TLS.
#[derive(Clone, Debug)]
pub struct Said {
    /// The text of a simple query; `None` for the first message, which asks for a session.
    pub query: Option<String>,
    /// The two ends of its connection, the client's first.
    ends: (SocketAddr, SocketAddr),
}

impl Said {
    /// The process that has sent it, if it still has the connection.
    pub fn sender(&self) -> Option<Process> {
        Process::of_client(self.ends.0, self.ends.1)
    }
}

/// What decides about a message. It runs when the message has arrived and the server has not got it yet.
type Rule = Box<dyn Fn(&Said) -> Fault + Send + Sync>;

/// A relay between clients and a server on loopback. It ends when dropped.
#[derive(Debug)]
pub struct ServerRelay {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    rule: Mutex<Arc<Rule>>,
    /// What refusals say.
    refusal: Mutex<String>,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream()).finish_non_exhaustive()
    }
}

impl ServerRelay {
    /// A relay to `port` on 127.0.0.1 that hands everything on.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new((Ipv4Addr::LOCALHOST, port).into()),
            rule: Mutex::new(Arc::new(Box::new(|_: &Said| Fault::None))),
            refusal: Mutex::new("The relay was told to say so.".to_owned()),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, acceptor: Some(acceptor) }
    }

    /// The relay's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lead new connections to another port on 127.0.0.1.
    pub fn lead_to(&self, port: u16) {
        let upstream = (Ipv4Addr::LOCALHOST, port).into();
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// What becomes of the messages that ask for a session, and of simple queries, from now on. A fault that
    /// delays one also delays what the same client says next. [`Fault::Refuse`] answers with an error of this
    /// SQLSTATE, whatever its number is; one that is answered so to a first message ends the connection.
    pub fn rule(&self, rule: impl Fn(&Said) -> Fault + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Box::new(rule));
    }

    /// What the error messages of [`Fault::Refuse`] are from now on.
    pub fn refusals_say(&self, message: &str) {
        message.clone_into(&mut self.shared.refusal.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Hand on everything again.
    pub fn pass(&self) {
        self.rule(|_| Fault::None);
    }

    /// How many connections it has now that are not over, those among them whose client has gone while its
    /// last message is still on the way.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for ServerRelay {
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
    fn judge(&self, said: &Said) -> Fault {
        let rule = Arc::clone(&self.rule.lock().unwrap_or_else(PoisonError::into_inner));
        rule(said)
    }

    fn upstream(&self) -> SocketAddr {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// An error and, if the session goes on, that the server is ready for the next query.
    fn refusal(&self, severity: &str, code: &str) -> Vec<u8> {
        let message = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = format!("S{severity}\0V{severity}\0C{code}\0M{message}\0\0");
        let mut answer = vec![b'E'];
        answer.extend(u32::try_from(fields.len() + 4).unwrap_or_default().to_be_bytes());
        answer.extend(fields.as_bytes());
        if severity == "ERROR" {
            answer.extend([b'Z', 0, 0, 0, 5, b'I']);
        }
        answer
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming().flatten() {
        if shared.stopped() {
            break;
        }
        connections.retain(|connection| !connection.is_finished());
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        connections.push(thread::spawn(move || {
            // A client or a server that goes away early is no reason to complain.
            let _ = serve(&client, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

/// What is to be done with the server's next answer.
type OnAnswer = Mutex<Option<Fault>>;

fn serve(client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect_timeout(&shared.upstream(), PATIENCE)?;
    for stream in [client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    let (on_answer, over) = (OnAnswer::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = answers(&server, client, shared, &on_answer, &over);
            over.store(true, Ordering::SeqCst);
            let _ = client.shutdown(Shutdown::Both);
        });
        let _ = requests(client, &server, shared, &on_answer, &over);
        // The server ends what it has begun, and then the session.
        let _ = server.shutdown(Shutdown::Write);
    });
    Ok(())
}

fn requests(
    client: &TcpStream,
    server: &TcpStream,
    shared: &Shared,
    on_answer: &OnAnswer,
    over: &AtomicBool,
) -> std::io::Result<()> {
    let ends = (client.peer_addr()?, client.local_addr()?);
    let done = || shared.stopped() || over.load(Ordering::SeqCst);
    let mut first = true;
    while let Some(message) = read_message(client, first, &done)? {
        let query = (!first && message[0] == b'Q')
            .then(|| String::from_utf8_lossy(&message[5..]).trim_end_matches('\0').to_owned());
        let fault = match first || query.is_some() {
            true => shared.judge(&Said { query, ends }),
            false => Fault::None,
        };
        let asks_for_session = std::mem::take(&mut first);
        match fault {
            Fault::None => {}
            Fault::Refuse(_, code) => {
                let severity = if asks_for_session { "FATAL" } else { "ERROR" };
                (&*client).write_all(&shared.refusal(severity, code))?;
                if asks_for_session {
                    over.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                continue;
            }
            Fault::Cut => {
                reset(client)?;
                over.store(true, Ordering::SeqCst);
                return Ok(());
            }
            Fault::Delay(delay) => {
                let arrived = Instant::now();
                while arrived.elapsed() < delay && !shared.stopped() {
                    thread::sleep(TICK.min(delay.saturating_sub(arrived.elapsed())));
                }
            }
            fault @ (Fault::CutAnswer | Fault::BeforeAnswer(_)) => {
                *on_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            }
        }
        (&*server).write_all(&message)?;
    }
    Ok(())
}

fn answers(
    server: &TcpStream,
    client: &TcpStream,
    shared: &Shared,
    on_answer: &OnAnswer,
    over: &AtomicBool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match (&mut &*server).read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if is_timeout(&error) && !shared.stopped() && !over.load(Ordering::SeqCst) => continue,
            Err(error) => return Err(error),
        };
        match on_answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(Fault::CutAnswer) => return reset(client),
            Some(Fault::BeforeAnswer(hook)) => hook(),
            _ => {}
        }
        // A client that has gone does not end what it has asked for.
        let _ = (&*client).write_all(&buffer[..length]);
    }
}

/// A message with its head; `None` when the client has gone, or nobody wants to know any more.
fn read_message(
    client: &TcpStream,
    first: bool,
    done: &impl Fn() -> bool,
) -> std::io::Result<Option<Vec<u8>>> {
    let (head, place) = if first { (4, 0) } else { (5, 1) };
    let mut message = vec![0; head];
    if !read_exact(client, &mut message, done)? {
        return Ok(None);
    }
    let length =
        u32::from_be_bytes([message[place], message[place + 1], message[place + 2], message[place + 3]]);
    message.resize((length as usize + place).max(head), 0);
    Ok(read_exact(client, &mut message[head..], done)?.then_some(message))
}

fn read_exact(
    mut client: &TcpStream,
    mut buffer: &mut [u8],
    done: &impl Fn() -> bool,
) -> std::io::Result<bool> {
    while !buffer.is_empty() {
        match client.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => buffer = &mut buffer[length..],
            Err(error) if is_timeout(&error) && !done() => {}
            // Reset by its end: that of a process that was killed.
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// End with RST rather than FIN when the stream is dropped.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
