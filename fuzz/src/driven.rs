//! A backend that waits for a query by its own loop, with a timeout, while a server says whatever it likes for as long
//! as it likes: the wait ends when the time is up.

use secretlink_core::io_thread::IoThread;
use secretlink_core::shared_task::{Nearness, Received, Wait};
use secretlink_core::waker::Waker;
use secretlink_remote::connection::{Connection, Event};
use secretlink_remote::connection_handle::{ConnectionHandle, Query};
use secretlink_remote::query_request::QueryRequest;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::server;

/// The timeout of each wait.
const TIMEOUT: Duration = Duration::from_millis(20);

/// How late the wait may end after it: what the extension promises. On a busy machine, the best of some tries.
const LATE: Duration = Duration::from_millis(100);
const TRIES: usize = 5;

/// The most resident memory that may be held of what a server says in that time, in bytes. A message of a gigabyte is
/// held as far as it has come.
const HELD: u64 = 256 << 20;

/// Bits of the first byte: everything is said again and again, not once; the answer is wanted in binary, so that the
/// server is asked what it is first; the I/O thread does the work, not the backend.
const AGAIN: u8 = 0x01;
const BINARY: u8 = 0x02;
const IO_THREAD: u8 = 0x04;

/// The first byte says how the rest is said.
pub fn run(data: &[u8]) {
    let Some((&how, said)) = data.split_first() else { return };
    let mut late = Vec::new();
    for _ in 0..TRIES {
        let before = resident();
        late.push(wait(how, said));
        let held = resident().saturating_sub(before);
        assert!(held < HELD, "{held} bytes are held");
        if late.last().is_some_and(|late| *late < LATE) {
            return;
        }
    }
    panic!("the timeout came too late each time: {late:?}");
}

/// Waits until there is an answer or the time is up. Returns how late that was.
fn wait(how: u8, said: &[u8]) -> Duration {
    // As in a backend: one for the thread that waits.
    thread_local! {
        static IO: &'static IoThread = Box::leak(Box::new(IoThread::start().expect("a thread")));
    }
    let io = IO.with(|io| *io);
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let socket = std::os::fd::AsRawFd::as_raw_fd(&client);
    let remote = ConnectionHandle::adopt(io, Connection::over_socket(client).expect("a socket"));
    let stop = Arc::new(AtomicBool::new(false));
    let speaker = thread::spawn({
        let (stop, said) = (Arc::clone(&stop), said.to_vec());
        move || speak(server, &said, how & AGAIN != 0, &stop)
    });

    let local_types = if how & BINARY != 0 { vec![23, 701] } else { Vec::new() };
    let mut query =
        remote.query(io, QueryRequest { local_types, ..QueryRequest::from(b"SELECT 1".to_vec()) });
    let deadline = Instant::now() + TIMEOUT;
    let mut waiting = Waiting { waker: io.waker(), socket, deadline };
    let mut drive = if how & IO_THREAD == 0 { remote.drive() } else { None };
    let nearness = Nearness::default();
    loop {
        let event = match &mut drive {
            Some((driven, _)) => match driven.recv(&mut query.events, &nearness, &mut waiting) {
                ControlFlow::Continue(Received::Item(event)) => event,
                ControlFlow::Continue(Received::NeedsIoThread) => {
                    drive = None;
                    continue;
                }
                ControlFlow::Continue(Received::Closed) | ControlFlow::Break(()) => break,
            },
            None => match waiting.next(&mut query) {
                Some(event) => event,
                None => break,
            },
        };
        if matches!(event, Event::Done) {
            break;
        }
    }
    let late = Instant::now().saturating_duration_since(deadline);
    drop(drive);
    drop((query, remote));
    stop.store(true, Ordering::Relaxed);
    speaker.join().expect("a server does not fail");
    late
}

/// What waiting takes here: no latch, but a deadline in the place of interrupts.
struct Waiting<'a> {
    waker: &'a Waker,
    socket: RawFd,
    deadline: Instant,
}

impl Waiting<'_> {
    /// The next event, waited for as a backend waits for the I/O thread. `None` when the time is up or nothing more
    /// comes.
    fn next(&mut self, query: &mut Query) -> Option<Event> {
        use secretlink_core::channel::TryRecv;
        loop {
            if self.go_on().is_break() {
                return None;
            }
            self.waker.reset();
            match query.events.try_recv() {
                TryRecv::Item(event) => return Some(event),
                TryRecv::Closed => return None,
                TryRecv::Empty => self.waker.wait(TIMEOUT),
            }
        }
    }
}

impl Wait for Waiting<'_> {
    type End = ();

    fn go_on(&mut self) -> ControlFlow<()> {
        if Instant::now() >= self.deadline { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn wait(&mut self, limit: Option<Duration>) -> Option<RawFd> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = limit.map_or(left, |limit| limit.min(left));
        let mut both =
            [self.waker.fd(), self.socket].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // SAFETY: two valid pollfds, and a count of two.
        unsafe { libc::poll(both.as_mut_ptr(), 2, limit.as_millis() as i32) };
        both.iter().find(|ready| ready.revents != 0).map(|ready| ready.fd)
    }
}

/// The server: says it once and falls silent, or says it until told to stop.
fn speak(mut client: UnixStream, said: &[u8], again: bool, stop: &AtomicBool) {
    client.set_write_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let wave = said.repeat(if again { (65_536 / said.len().max(1)).max(1) } else { 1 });
    let mut rest = &wave[..];
    while !stop.load(Ordering::Relaxed) {
        if rest.is_empty() {
            if !again || wave.is_empty() {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            rest = &wave;
        }
        match client.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            // The client has gone.
            Err(_) => return,
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Everything that a server may say without end, and what it says at other times.
pub fn seeds() -> Vec<Vec<u8>> {
    let none = [server::columns(&["a"]), server::complete("SELECT 0")].concat();
    let said = [
        server::parameter("application_name", "x"),
        server::parameter("DateStyle", "ISO, DMY"),
        server::notification(),
        server::notice("hello"),
        server::empty(),
        server::complete("DO"),
        none,
        server::result(),
        server::binary_result(),
        server::float_result(),
        [server::columns(&["a"]), server::row(&[None]), server::row(&[Some(b"1")])].concat(),
        server::parsed(&[], &[("a", 23)]),
        server::error("ERROR", "22012", "division by zero"),
        server::error("FATAL", "57P01", "gone"),
        server::copy_in(),
        server::copy_out(),
        server::ready(),
        server::key(),
        server::authentication(0, b""),
        server::portal_suspended(),
        b"Z\0\0\0\x04".to_vec(),
        b"D\x3f\xff\xff\xff".to_vec(),
        b"N\0\0\0\x05\0".to_vec(),
    ];
    let mut seeds = Vec::new();
    for said in &said {
        for how in 0..8 {
            seeds.push([&[how], &said[..]].concat());
        }
    }
    seeds
}
