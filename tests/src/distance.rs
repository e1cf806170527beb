//! A server that is far away.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The way to a server on loopback, made as long as it is in a network: every byte takes its time, whatever is on its way
/// already, and so does making a connection. It ends when dropped, and lets its connections end by themselves.
#[derive(Debug)]
pub struct Distance {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Distance {
    /// The way to `port` on 127.0.0.1, which takes so long in one direction.
    pub fn to(port: u16, way: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
        let address = listener.local_addr().expect("no local address");
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                for client in listener.incoming().flatten() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client or a server that goes away early is no reason to complain.
                    let _ = connect(client, port, way);
                }
            }
        });
        Self { stop, address, acceptor: Some(acceptor) }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor from `incoming`.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn connect(client: TcpStream, port: u16, way: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    // The client has its connection at once here, and would have it after a round trip.
    let connected = Instant::now() + 2 * way;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (sender, pieces) = channel();
        thread::spawn(move || depart(from, &sender, connected, way));
        thread::spawn(move || arrive(to, &pieces));
    }
    Ok(())
}

/// Takes what one side sends.
fn depart(mut from: TcpStream, pieces: &Sender<(Instant, Vec<u8>)>, connected: Instant, way: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        let due = Instant::now().max(connected) + way;
        if pieces.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

/// Gives it to the other side when it is due. Nothing at all is the end.
fn arrive(mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, piece)) = pieces.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
