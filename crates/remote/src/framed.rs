//! Messages over a byte stream.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use secretlink_core::{SqlState, memory};
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::column::Column;
use crate::notification::{self, Notification};
use crate::row::RowBatch;

/// A byte stream to a server: TCP or Unix socket, plain or TLS; in tests and fuzzing, memory.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The longest message before authentication: libpq (fe-connect.c, MAX_ERRLEN) takes no more
/// than 30,000 bytes from a server it does not know yet.
const LIMIT_BEFORE_AUTHENTICATION: usize = 30_000;

/// The longest message after it. A server builds messages in a StringInfo, which ends at 1 GB, as does a
/// row of ours (memutils.h, MaxAllocSize).
const LIMIT: usize = 1 << 30;

/// The longest message of a kind that is never long (fe-protocol3.c, VALID_LONG_MESSAGE_TYPE).
const SHORT_LIMIT: usize = LIMIT_BEFORE_AUTHENTICATION;

/// RowDescription, DataRow, CopyData, FunctionCallResponse, ErrorResponse, NoticeResponse and
/// NotificationResponse.
const MAY_BE_LONG: &[u8] = b"TDdVENA";

/// How much to make room for at a time. Big enough that a bulk result is not read in crumbs, small
/// enough that a header that claims a gigabyte does not get one before the bytes have come.
const READ_SIZE: usize = 32 * 1024;

/// The least room in a buffer that is read into; with less, a new one is begun. Until then rows that come in small
/// pieces share one: each keeps all of its buffer alive.
const MIN_READ: usize = 8 * 1024;

/// How much is taken in before others get their turn: what else runs on this thread, timers, and the
/// look for a cancel. A peer that always has more to say would otherwise keep the thread for ever, since
/// what is there is not waited for.
const TURN: Turn = Turn { messages: 1024, bytes: 1 << 20 };

/// What may still be taken in.
struct Turn {
    messages: u32,
    bytes: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// What part of a message has to be there before all of it gets its room: growing by halves would copy it
/// often, and in the end have it in memory one and a half times.
const EARNEST: usize = 8;

/// A string of at most so many bytes is copied to where the messages around it are: one write, and with TLS one
/// record, takes less time than three. A record holds 16 kB.
const COPIED: usize = 8 * 1024;

/// A buffer that was needed for something larger than this is not kept for what comes after it.
const KEEP: usize = 256 * 1024;

/// What arrived.
pub enum Incoming {
    /// RowDescription.
    Columns(Vec<Column>),
    /// DataRows, one or more, each of them whole.
    Rows(RowBatch),
    /// NotificationResponse.
    Notification(Notification),
    /// NotificationResponse, longer than any that makes sense.
    LostNotification,
    /// Anything else.
    Message(Message),
}

/// A [`Transport`] with its buffers.
pub struct Framed {
    transport: Box<dyn Transport>,
    read: BytesMut,
    /// What is to be sent: the messages so far, each string that has memory of its own behind the
    /// messages before it.
    write: VecDeque<Bytes>,
    outgoing: BytesMut,
    limit: usize,
    turn: Turn,
    /// How many bytes of a message that nobody wants are still to come.
    unwanted: usize,
}

impl Framed {
    /// Wraps a transport whose peer has not authenticated us yet.
    pub fn new(transport: Box<dyn Transport>) -> Framed {
        Framed {
            transport,
            read: BytesMut::new(),
            write: VecDeque::new(),
            outgoing: BytesMut::new(),
            limit: LIMIT_BEFORE_AUTHENTICATION,
            turn: TURN,
            unwanted: 0,
        }
    }

    /// Lets messages have any size that a server can send from now on. Also lets go of the buffers that
    /// held the password exchange, so that the allocator wipes them.
    pub fn authenticated(&mut self) {
        self.limit = LIMIT;
        self.outgoing = BytesMut::new();
    }

    /// The buffer to append frontend messages to, for [`Framed::flush`]. What is appended is to be small:
    /// a string of any length goes by [`Framed::append`].
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Appends a string that is part of a message, without copying it if it is long.
    pub fn append(&mut self, string: Bytes) {
        if string.len() <= COPIED {
            self.outgoing.extend_from_slice(&string);
            return;
        }
        self.write.push_back(self.outgoing.split().freeze());
        self.write.push_back(string);
    }

    /// Sends everything appended. Cancel-safe: what is not sent yet is sent the next time.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn flush(&mut self) -> io::Result<()> {
        while let Some(next) = self.write.front_mut() {
            self.transport.write_all_buf(next).await?;
            self.write.pop_front();
        }
        self.transport.write_all_buf(&mut self.outgoing).await?;
        self.transport.flush().await
    }

    /// Says goodbye at the transport's level (TLS close_notify, FIN).
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.transport.shutdown().await
    }

    /// The next message or run of rows, if it has been read already and nobody else is to have his turn.
    ///
    /// # Errors
    /// `InvalidData` for what is not the protocol.
    pub fn buffered(&mut self) -> io::Result<Option<Incoming>> {
        if self.turn.is_over() {
            return Ok(None);
        }
        self.turn.messages -= 1;
        decode(&mut self.read, self.limit)
    }

    /// The next message or run of rows. Cancel-safe: bytes read stay in the buffer.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closed, `InvalidData` for what is not the protocol, `OutOfMemory` if
    /// a message has no room, which can then be [skipped](Framed::next_of), or what the transport says.
    pub async fn next(&mut self) -> io::Result<Incoming> {
        self.skip().await?;
        loop {
            self.others_turn().await;
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            if let Some((b'A', len)) = header(&self.read, self.limit)?
                && len > notification::LONGEST
            {
                self.unwanted = len;
                self.skip().await?;
                return Ok(Incoming::LostNotification);
            }
            self.read_more().await?;
        }
    }

    /// The next message of these types. Others are thrown away as they come, and so is the rest of what is
    /// there of one: that needs no memory. Cancel-safe.
    ///
    /// # Errors
    /// As [`Framed::next`].
    pub async fn next_of(&mut self, types: &[u8]) -> io::Result<Incoming> {
        loop {
            self.skip().await?;
            match header(&self.read, self.limit)? {
                Some((tag, len)) if !types.contains(&tag) => {
                    self.others_turn().await;
                    self.turn.messages -= 1;
                    self.unwanted = len;
                }
                Some(_) => return self.next().await,
                None => self.read_more().await?,
            }
        }
    }

    /// Lets others have their turn, if it is time.
    async fn others_turn(&mut self) {
        if self.turn.is_over() {
            self.turn = TURN;
            tokio::task::yield_now().await;
        }
    }

    /// Throws away what nobody wants.
    async fn skip(&mut self) -> io::Result<()> {
        while self.unwanted > 0 {
            let here = self.unwanted.min(self.read.len());
            self.read.advance(here);
            self.unwanted -= here;
            if self.read.is_empty() && self.read.capacity() > KEEP {
                self.read = BytesMut::new();
            }
            if self.unwanted > 0 {
                self.read_more().await?;
            }
        }
        Ok(())
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.read.capacity() - self.read.len() < self.wanted_room()? {
            self.grow()?;
        }
        self.others_turn().await;
        match self.transport.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.turn.bytes = self.turn.bytes.saturating_sub(read);
                Ok(())
            }
        }
    }

    /// How many bytes of room are needed at least before more is read.
    fn wanted_room(&self) -> io::Result<usize> {
        Ok(match self.missing()? {
            // All of a long message, and nothing else, is to have its buffer.
            Some(missing) => missing.min(MIN_READ),
            None => MIN_READ,
        })
    }

    /// How many bytes of a message that is longer than a usual buffer have not come yet.
    fn missing(&self) -> io::Result<Option<usize>> {
        let header = if self.unwanted > 0 { None } else { header(&self.read, self.limit)? };
        Ok(header.filter(|(_, len)| *len > READ_SIZE).map(|(_, len)| len.saturating_sub(self.read.len())))
    }

    /// A new buffer with more room for what is there and what is to come.
    fn grow(&mut self) -> io::Result<()> {
        let len = self.read.len();
        let more = match self.missing()? {
            Some(missing) if missing / EARNEST <= len => missing,
            Some(_) => len.max(READ_SIZE),
            None => READ_SIZE,
        };
        let mut larger = memory::room(len + more)?;
        larger.extend_from_slice(&self.read);
        // Neither of the two conversions copies.
        self.read = BytesMut::from(Bytes::from(larger));
        Ok(())
    }
}

/// Takes the next message or run of rows out of `buf`; `None` if it is not all there.
///
/// # Errors
/// `InvalidData` or `InvalidInput` for what is not the protocol, or longer than `limit` bytes.
pub fn decode(buf: &mut BytesMut, limit: usize) -> io::Result<Option<Incoming>> {
    let Some((tag, len)) = message_length(buf, limit)? else { return Ok(None) };
    match tag {
        b'D' => {
            // As many rows as there are, at once: handing over between threads is paid by the batch.
            let (mut end, mut rows) = (0, 0);
            while let Some((b'D', len)) = message_length(&buf[end..], limit)? {
                end += len;
                rows += 1;
            }
            Ok(Some(Incoming::Rows(RowBatch::new(buf.split_to(end), rows))))
        }
        b'T' => {
            let columns = Column::parse_all(&buf[5..len])?;
            buf.advance(len);
            Ok(Some(Incoming::Columns(columns)))
        }
        b'A' if len > notification::LONGEST => {
            buf.advance(len);
            Ok(Some(Incoming::LostNotification))
        }
        b'A' => {
            let notification = Notification::parse(&buf[5..len])?;
            buf.advance(len);
            Ok(Some(Incoming::Notification(notification)))
        }
        _ => match Message::parse(buf) {
            Ok(message) => Ok(message.map(Incoming::Message)),
            // A field that runs past the end of its message is not the end of the connection.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "malformed message"))
            }
            Err(e) => Err(e),
        },
    }
}

/// Tag and full length (tag included) of the message at the start of `buf`, if all of it is there.
fn message_length(buf: &[u8], limit: usize) -> io::Result<Option<(u8, usize)>> {
    Ok(header(buf, limit)?.filter(|(_, len)| buf.len() >= *len))
}

/// Tag and full length of the message at the start of `buf`, if its header is there.
fn header(buf: &[u8], limit: usize) -> io::Result<Option<(u8, usize)>> {
    let Some((&[tag, a, b, c, d], _)) = buf.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let limit = if MAY_BE_LONG.contains(&tag) { limit } else { limit.min(SHORT_LIMIT) };
    if len < 4 || len >= limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {len} bytes")));
    }
    Ok(Some((tag, len + 1)))
}

/// The SQLSTATE of a broken or misbehaving connection.
pub(crate) const CONNECTION_FAILURE: SqlState = SqlState::new("08006");

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut m = vec![tag];
        m.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        m.extend_from_slice(body);
        m
    }

    #[test]
    fn rows_come_in_runs() {
        let row = message(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
        let mut buf = BytesMut::new();
        buf.extend_from_slice(&row);
        buf.extend_from_slice(&row);
        buf.extend_from_slice(&row[..row.len() - 1]);
        let Ok(Some(Incoming::Rows(batch))) = decode(&mut buf, LIMIT) else { panic!("rows expected") };
        assert_eq!(batch.remaining(), 2);
        assert_eq!(buf.len(), row.len() - 1, "the incomplete row stays");
        assert!(matches!(decode(&mut buf, LIMIT), Ok(None)));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for len in [0u32, 3, LIMIT as u32, u32::MAX] {
            let mut buf = BytesMut::from(&b"Z"[..]);
            buf.extend_from_slice(&len.to_be_bytes());
            assert!(decode(&mut buf, LIMIT).is_err(), "{len}");
        }
    }

    #[test]
    fn a_message_cut_short_inside_is_malformed_and_no_end_of_the_connection() {
        for (tag, body) in [(b'C', &b"SELECT 1"[..]), (b'S', b"name\0"), (b'K', &[0; 7]), (b'Z', &[])] {
            let error = decode(&mut BytesMut::from(&message(tag, body)[..]), LIMIT).err().map(|e| e.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidData), "{}", char::from(tag));
        }
    }

    /// A session with a server that has said all of this, or says it piece by piece.
    fn said(messages: Vec<u8>) -> Framed {
        let mut framed =
            Framed::new(Box::new(tokio::io::join(std::io::Cursor::new(messages), tokio::io::sink())));
        framed.authenticated();
        framed
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn a_long_row_has_a_buffer_of_its_own_and_nothing_else() {
        let value = vec![b'x'; 3 << 20];
        let body = [&[0, 1], &(value.len() as u32).to_be_bytes()[..], &value].concat();
        let row = message(b'D', &body);
        let mut framed = said([row.clone(), message(b'Z', b"I"), row.clone()].concat());
        run(async {
            let Ok(Incoming::Rows(rows)) = framed.next().await else { panic!("a row expected") };
            assert_eq!((rows.remaining(), rows.wire_len()), (1, row.len()));
            assert!(framed.read.capacity() <= KEEP, "{} bytes are kept", framed.read.capacity());
            drop(rows);
            assert!(matches!(framed.next().await, Ok(Incoming::Message(Message::ReadyForQuery(_)))));
            let Ok(Incoming::Rows(rows)) = framed.next().await else { panic!("a row expected") };
            assert_eq!(rows.wire_len(), row.len());
        });
    }

    #[test]
    fn what_has_no_room_can_be_skipped() {
        // Claims half a gigabyte, and comes in part.
        let mut framed = said([&b"D\x20\0\0\0"[..], &[b'x'; 100_000]].concat());
        let next = run(framed.next_of(b"Z")).err().map(|e| e.kind());
        assert_eq!(next, Some(io::ErrorKind::UnexpectedEof));
        assert!(framed.read.capacity() <= KEEP);
        let other = [message(b'T', b"\0\0"), message(b'N', &[b'n'; 70_000]), message(b'Z', b"I")].concat();
        let mut framed = said(other);
        assert!(matches!(run(framed.next_of(b"Z")), Ok(Incoming::Message(Message::ReadyForQuery(_)))));
    }

    #[test]
    fn notifications_longer_than_any_are_counted_and_not_kept() {
        for len in [notification::LONGEST, 10 << 20] {
            let mut framed = said([message(b'A', &vec![b'x'; len]), message(b'Z', b"I")].concat());
            run(async {
                assert!(matches!(framed.next().await, Ok(Incoming::LostNotification)));
                assert!(matches!(framed.next().await, Ok(Incoming::Message(Message::ReadyForQuery(_)))));
            });
            assert!(framed.read.capacity() <= KEEP);
        }
    }

    #[test]
    fn messages_that_are_never_long_are_refused_if_they_are() {
        for tag in [b'C', b'S', b'K', b'R', b'Z', b't', b'1'] {
            let mut framed = said(message(tag, &vec![b'x'; SHORT_LIMIT]));
            let next = run(framed.next()).err().map(|e| e.kind());
            assert_eq!(next, Some(io::ErrorKind::InvalidData), "{}", char::from(tag));
        }
    }

    #[test]
    fn a_partial_header_is_not_an_error() {
        for n in 0..5 {
            assert!(matches!(decode(&mut BytesMut::from(&b"Z\0\0\0\x05"[..n]), LIMIT), Ok(None)));
        }
    }
}
