//! A relay in front of Secrets Manager that understands requests, and mistreats them as told.

use crate::http_message::{body, header, read_message};
use crate::moto::Moto;
use crate::process::Process;
use serde_json::Value;
use socket2::SockRef;
use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long either side may take to send or to take a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a delayed request looks whether the relay is to end.
const TICK: Duration = Duration::from_millis(5);

/// One request.
#[derive(Clone, Debug)]
pub struct SecretsRequest {
    /// The operation, for example `PutSecretValue`.
    pub operation: String,
    /// The secret, as the request names it.
    pub secret: String,
    /// The whole input.
    pub input: Value,
    /// The two ends of its connection, the client's first.
    ends: (SocketAddr, SocketAddr),
}

impl SecretsRequest {
    /// The process that waits for the answer, if it still does.
    pub fn sender(&self) -> Option<Process> {
        Process::of_client(self.ends.0, self.ends.1)
    }
}

/// What is to become of one request.
pub enum Fault {
    /// Hand it on, and its answer back.
    None,
    /// Reset the connection; Secrets Manager never sees the request.
    Cut,
    /// Hand it on, and reset the connection instead of giving the answer.
    CutAnswer,
    /// Hand it on that much later, whether or not its client still waits by then.
    Delay(Duration),
    /// Answer with this HTTP status and error code; Secrets Manager never sees the request.
    Refuse(u16, &'static str),
    /// Hand it on; when Secrets Manager has answered, run this, and only then give the answer.
    BeforeAnswer(Box<dyn FnOnce() + Send>),
}

/// What decides. It runs when the request has arrived and nothing has been done with it yet.
type Rule = Arc<dyn Fn(&SecretsRequest) -> Fault + Send + Sync>;

/// An HTTP relay between clients and a Secrets Manager on loopback, one request for each connection.
/// It ends when dropped.
#[derive(Debug)]
pub struct SecretsRelay {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    /// The rules by secret; the rule of the empty name is for all secrets without one.
    rules: Mutex<HashMap<String, Rule>>,
    requests: Mutex<Vec<SecretsRequest>>,
    /// moto changes a secret in several steps and has no locks: it gets one request at a time.
    at_upstream: Mutex<()>,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl SecretsRelay {
    /// A relay to `moto` that hands everything on.
    pub fn to(moto: &Moto) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let shared = Arc::new(Shared {
            upstream: (Ipv4Addr::LOCALHOST, moto.port()).into(),
            rules: Mutex::default(),
            requests: Mutex::default(),
            at_upstream: Mutex::default(),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, acceptor: Some(acceptor) }
    }

    /// The relay's URL: what `secretlink.endpoint_url` wants.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of the requests for `secret` from now on, which must be named in them as here.
    pub fn rule(&self, secret: &str, rule: impl Fn(&SecretsRequest) -> Fault + Send + Sync + 'static) {
        lock(&self.shared.rules).insert(secret.to_owned(), Arc::new(rule));
    }

    /// What becomes of the requests for all secrets that have no rule of their own.
    pub fn rule_for_others(&self, rule: impl Fn(&SecretsRequest) -> Fault + Send + Sync + 'static) {
        self.rule("", rule);
    }

    /// Hand on every request for `secret` again.
    pub fn pass(&self, secret: &str) {
        self.rule(secret, |_| Fault::None);
    }

    /// Hand on every request again.
    pub fn pass_all(&self) {
        lock(&self.shared.rules).clear();
    }

    /// The requests for `secret` so far, in the order in which they arrived, whatever became of them.
    pub fn requests(&self, secret: &str) -> Vec<SecretsRequest> {
        lock(&self.shared.requests).iter().filter(|request| request.secret == secret).cloned().collect()
    }

    /// The operations of [`SecretsRelay::requests`].
    pub fn operations(&self, secret: &str) -> Vec<String> {
        self.requests(secret).into_iter().map(|request| request.operation).collect()
    }

    /// How often an operation was asked for `secret` so far.
    pub fn count(&self, secret: &str, operation: &str) -> usize {
        self.requests(secret).iter().filter(|request| request.operation == operation).count()
    }

    /// How many requests there were so far, for all secrets.
    pub fn total(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// Count the requests for `secret` from now on.
    pub fn forget(&self, secret: &str) {
        lock(&self.shared.requests).retain(|request| request.secret != secret);
    }

    /// How many requests it has now that are not over, delayed ones among them.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for SecretsRelay {
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
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        connections.retain(|connection| !connection.is_finished());
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        connections.push(thread::spawn(move || {
            let open = Open(&shared.open);
            // A client that goes away early is no reason to complain.
            let _ = serve(&stream, &shared);
            drop(open);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

/// Counts a request as open until it is over, be it by a panic of a rule.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let message = read_message(client)?;
    let request = parse(&message, (client.peer_addr()?, client.local_addr()?));
    lock(&shared.requests).push(request.clone());
    let fault = shared.rule_of(&request).map_or(Fault::None, |rule| rule(&request));
    let answer = match fault {
        Fault::None => {
            let turn = lock(&shared.at_upstream);
            // Who has given up waiting for the turn is not served: only a delay makes a request late.
            if has_gone(client) {
                return Ok(());
            }
            shared.forward_in_turn(&message, turn)?
        }
        Fault::Cut => return reset(client),
        Fault::CutAnswer => {
            shared.forward(&message)?;
            return reset(client);
        }
        Fault::Delay(delay) => {
            let arrived = Instant::now();
            while arrived.elapsed() < delay {
                if shared.stop.load(Ordering::SeqCst) {
                    return reset(client);
                }
                thread::sleep(TICK.min(delay.saturating_sub(arrived.elapsed())));
            }
            shared.forward(&message)?
        }
        Fault::Refuse(status, code) => refusal(status, code),
        Fault::BeforeAnswer(hook) => {
            let answer = shared.forward(&message)?;
            hook();
            answer
        }
    };
    (&*client).write_all(&answer)
}

impl Shared {
    fn rule_of(&self, request: &SecretsRequest) -> Option<Rule> {
        let rules = lock(&self.rules);
        rules.get(&request.secret).or_else(|| rules.get("")).cloned()
    }

    fn forward(&self, message: &[u8]) -> std::io::Result<Vec<u8>> {
        self.forward_in_turn(message, lock(&self.at_upstream))
    }

    fn forward_in_turn(&self, message: &[u8], _turn: MutexGuard<'_, ()>) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect_timeout(&self.upstream, PATIENCE)?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        upstream.write_all(message)?;
        read_message(&upstream)
    }
}

fn parse(message: &[u8], ends: (SocketAddr, SocketAddr)) -> SecretsRequest {
    let text = String::from_utf8_lossy(message);
    let operation =
        header(&text, "x-amz-target").and_then(|target| target.split_once('.')).unwrap_or_default();
    let input: Value = serde_json::from_str(body(&text)).unwrap_or_default();
    let secret = ["SecretId", "Name"].iter().find_map(|field| input[field].as_str()).unwrap_or_default();
    SecretsRequest { operation: operation.1.to_owned(), secret: secret.to_owned(), input, ends }
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body = serde_json::json!({ "__type": code, "message": "The relay was told to say so." }).to_string();
    format!(
        "HTTP/1.1 {status} Refused\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Whether the other side has closed the connection.
fn has_gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let seen = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    // A client that waits sends nothing more.
    !seen.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// End with RST rather than FIN when the stream is dropped.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// A rule that panics (a failed assertion of a test) does so outside these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
