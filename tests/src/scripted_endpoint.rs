//! A Secrets Manager endpoint that answers as told, for what moto never says.

use crate::http_message::read_message;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a client may take to send its request, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An HTTP server on loopback that gives every request the same answer and then hangs up. It ends
/// when dropped.
#[derive(Debug)]
pub struct ScriptedEndpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    answer: Mutex<Vec<u8>>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl ScriptedEndpoint {
    /// Start one that answers 500, with nothing said.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().flatten() {
                    if shared.stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client that goes away early is no reason to end.
                    let _ = serve(&stream, &shared);
                }
            }
        });
        let endpoint = Self { shared, address, acceptor: Some(acceptor) };
        endpoint.answer(500, "");
        endpoint
    }

    /// The endpoint's URL: what `secretlink.endpoint_url` wants.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answer with this HTTP status and body from now on.
    pub fn answer(&self, status: u16, body: &str) {
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/x-amz-json-1.1\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        self.answer_raw((head + body).as_bytes());
    }

    /// Refuse from now on, with HTTP status 400 and the error `code`, as AWS does.
    pub fn refuse(&self, code: &str, message: &str) {
        self.answer(400, &serde_json::json!({ "__type": code, "message": message }).to_string());
    }

    /// Answer with these bytes, be they HTTP or not, from now on.
    pub fn answer_raw(&self, bytes: &[u8]) {
        *self.shared.answer.lock().expect("nobody panics under this lock") = bytes.to_vec();
    }

    /// The requests so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("nobody panics under this lock").clone()
    }
}

impl Drop for ScriptedEndpoint {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor from `accept`.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read_message(stream)?;
    let request = String::from_utf8_lossy(&request).into_owned();
    shared.requests.lock().expect("nobody panics under this lock").push(request);
    let answer = shared.answer.lock().expect("nobody panics under this lock").clone();
    stream.write_all(&answer)
}
