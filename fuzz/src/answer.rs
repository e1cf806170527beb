//! Answers to queries: whatever the server sends, a query ends, and what its events say is true.

use secretlink_core::channel::{self, TryRecv};
use secretlink_core::io_thread::IoThread;
use secretlink_core::waker::Waker;
use secretlink_remote::connection::{Connection, Event};
use secretlink_remote::error::QueryError;
use secretlink_remote::query_request::QueryRequest;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

use super::server;
use super::wire::Wire;

/// How many bytes come with one read, by the lower three bits of the first byte.
pub const CHUNKS: [usize; 8] = [usize::MAX, 1, 2, 5, 7, 64, 1000, 8192];

/// Bits of the first byte: the query is cancelled after its first event; the consumer goes away
/// instead; the session is idle for a while before the first query.
const CANCEL: u8 = 0x08;
const GO_AWAY: u8 = 0x10;
const IDLE: u8 = 0x20;

/// Bits of the first byte: the result is wanted in binary, as these types.
pub const BINARY: u8 = 0x20;
pub const FLOATS: u8 = 0x40;

/// The first byte says how the rest is read. It answers two queries.
pub fn run(data: &[u8]) {
    let Some((&how, answer)) = data.split_first() else { return };
    super::block_on(async {
        let wire = Wire::new(answer, CHUNKS[usize::from(how & 7)]);
        let mut connection = Connection::over(Box::new(wire));
        if how & IDLE != 0 {
            connection.catch_up().await;
        }
        ask(&mut connection, how, answer.len()).await;
        connection.catch_up().await;
        ask(&mut connection, 0, answer.len()).await;
        let (notifications, dropped) = connection.status().inbox().take();
        let texts = notifications.iter().map(|n| n.channel.len() + n.payload.len()).sum::<usize>();
        assert!(dropped == 0 && texts <= answer.len(), "more notifications than were sent");
        assert!(connection.status().counts().bytes <= answer.len() as u64, "more rows than were sent");
        connection.close().await;
    });
}

/// Runs a query that is answered with at most `length` bytes. Returns whether it had no error.
pub async fn ask(connection: &mut Connection, how: u8, length: usize) -> bool {
    // As many as there are in the backend.
    let (sender, mut events) = channel::channel(8, waker());
    let was_broken = connection.broken().is_some();
    let cancel = CancellationToken::new();
    let query = async {
        connection.query(&request(how), &sender, &cancel).await;
        drop(sender);
    };
    let mut seen = Seen::default();
    let consume = async {
        let mut idle = 0;
        loop {
            match events.try_recv() {
                TryRecv::Item(event) => {
                    seen.take(event);
                    if how & CANCEL != 0 {
                        cancel.cancel();
                    }
                    if how & GO_AWAY != 0 {
                        return drop(events);
                    }
                }
                TryRecv::Closed => return,
                TryRecv::Empty => {
                    idle += 1;
                    assert!(idle < 10_000 + 10 * length, "the query does not come to an end");
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    tokio::join!(query, consume);

    // A message has five bytes at least; besides there are an error of ours and the end.
    assert!(seen.events <= length / 5 + 2, "more events than messages");
    assert!(seen.bytes <= length, "more bytes of rows than were sent");
    let whole = how & (CANCEL | GO_AWAY) == 0;
    assert!(!whole || seen.done, "the end of a query is announced");
    assert!(!seen.lost || connection.broken().is_some(), "a lost connection is not used again");
    assert!(!was_broken || (seen.lost && seen.events <= 2), "a broken connection stays broken");
    seen.done && !seen.failed
}

fn request(how: u8) -> QueryRequest {
    let local_types = match (how & BINARY, how & FLOATS) {
        (0, 0) => vec![],
        (_, 0) => vec![23, 0],
        _ => vec![23, 701],
    };
    QueryRequest { local_types, ..QueryRequest::from(b"SELECT 1".to_vec()) }
}

#[derive(Default)]
struct Seen {
    events: usize,
    bytes: usize,
    failed: bool,
    lost: bool,
    done: bool,
}

impl Seen {
    fn take(&mut self, event: Event) {
        assert!(!self.done, "nothing comes after the end");
        assert!(!self.lost || matches!(event, Event::Done), "a lost connection says nothing more");
        self.events += 1;
        match event {
            Event::Rows(mut rows) => {
                self.bytes += rows.wire_len();
                while let Ok(Some(_)) = rows.next_row(|_, value| {
                    assert!(value.is_none_or(|v| v.with_nul().last() == Some(&0)));
                }) {}
            }
            Event::Error(error) => {
                self.failed = true;
                self.lost = matches!(error, QueryError::Lost(_));
            }
            Event::Done => self.done = true,
            Event::Columns(_) | Event::Complete(_) | Event::Empty | Event::Notice(_) => {}
        }
    }
}

/// The consumer polls, so nobody listens to it.
fn waker() -> Arc<Waker> {
    static WAKER: OnceLock<Arc<Waker>> = OnceLock::new();
    WAKER
        .get_or_init(|| {
            let thread = IoThread::start().expect("an I/O thread");
            let waker = thread.waker().clone();
            std::mem::forget(thread);
            waker
        })
        .clone()
}

/// Answers to one query and to two.
pub fn seeds() -> Vec<Vec<u8>> {
    let error = || [server::error("ERROR", "SL001", "no such thing"), server::ready()].concat();
    let answers = [
        server::result(),
        [server::complete("CREATE TABLE"), server::ready()].concat(),
        [server::empty(), server::ready()].concat(),
        [server::notice("as it were"), server::result()].concat(),
        [server::parameter("DateStyle", "German"), server::notification(), server::result()].concat(),
        [server::notification(), server::parameter("IntervalStyle", "iso_8601"), server::notice("so")]
            .concat(),
        [server::result(), server::notification(), server::result()].concat(),
        [server::columns(&["a"]), server::row(&[Some(b"x")]), error()].concat(),
        [server::columns(&["a"]), server::complete("SELECT 0"), server::result()].concat(),
        [server::copy_out(), server::complete("COPY 1"), server::ready()].concat(),
        [server::copy_in(), error()].concat(),
        server::error("FATAL", "57P01", "terminating connection due to administrator command"),
        error(),
    ];
    let described = [
        server::binary_result(),
        [server::notice("so"), server::binary_result()].concat(),
        // A parameter, no columns, or others: run as it is.
        [server::parsed(&[23], &[("a", 23)]), server::ready(), error()].concat(),
        [server::parsed_without_result(), server::ready(), server::complete("DO"), server::ready()].concat(),
        [server::parsed(&[], &[("a", 25), ("b", 25)]), server::ready(), server::result()].concat(),
        error(),
        [server::parsed(&[], &[("a", 23), ("b", 25)]), error()].concat(),
        [
            server::parsed(&[], &[("a", 23), ("b", 25)]),
            server::bind_complete(),
            server::row(&[None, None]),
            error(),
        ]
        .concat(),
        [
            server::parsed(&[], &[("a", 23), ("b", 25)]),
            server::bind_complete(),
            server::portal_suspended(),
            server::ready(),
        ]
        .concat(),
        server::error("FATAL", "57P01", "terminating connection due to administrator command"),
    ];
    let floats = [
        [server::shown("1"), server::float_result()].concat(),
        [server::shown("0"), server::float_result()].concat(),
        error(),
    ];
    let mut seeds = Vec::new();
    for (bits, answers) in [(BINARY, &described[..]), (FLOATS, &floats[..])] {
        for (number, answer) in answers.iter().enumerate() {
            let how = bits | (number as u8 & 7);
            seeds.push([&[how], &answer[..]].concat());
            seeds.push([&[how], &answer[..], &server::result()].concat());
            seeds.push([&[how | CANCEL], &answer[..], &server::result()].concat());
        }
    }
    for (number, answer) in answers.iter().enumerate() {
        seeds.push([&[number as u8], &answer[..]].concat());
        seeds.push([&[CANCEL | number as u8 & 7], &answer[..], &server::result()].concat());
        seeds.push([&[IDLE | number as u8 & 7], &server::notification()[..], &answer[..]].concat());
        seeds.push([&[GO_AWAY | number as u8 & 7], &answer[..], &server::result()].concat());
    }
    seeds
}
