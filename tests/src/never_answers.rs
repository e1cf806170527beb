//! An address that a connection attempt never gets an answer from.

use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A loopback address whose kernel queue is full, so that it drops every SYN: connecting to it
/// hangs, as it does with a host that is switched off.
#[derive(Debug)]
pub struct NeverAnswers {
    _listener: Socket,
    _queue: Vec<Socket>,
    address: SocketAddr,
}

impl NeverAnswers {
    /// Make one.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("no socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("cannot bind");
        listener.listen(0).expect("cannot listen");
        let target: SockAddr = listener.local_addr().expect("no local address");

        let mut queue = Vec::new();
        // Linux takes one more than the backlog says. Bounded in case another system takes more.
        for _ in 0..64 {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("no socket");
            if client.connect_timeout(&target, Duration::from_millis(100)).is_err() {
                let address = target.as_socket().expect("an IPv4 address");
                return Self { _listener: listener, _queue: queue, address };
            }
            queue.push(client);
        }
        panic!("the kernel's queue for {target:?} does not fill");
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Default for NeverAnswers {
    fn default() -> Self {
        Self::new()
    }
}
