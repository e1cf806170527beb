//! Messages over a byte stream.

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use secretlink_core::SqlState;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::column::Column;
use crate::notification::Notification;
use crate::row::RowBatch;

/// A byte stream to a server: TCP or Unix socket, plain or TLS; in tests and fuzzing, memory.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The longest message before authentication: libpq (fe-connect.c, MAX_ERRLEN) takes no more
/// than 30,000 bytes from a server it does not know yet.
const LIMIT_BEFORE_AUTHENTICATION: usize = 30_000;

/// The longest message after it. A server builds messages in a StringInfo, which ends at 1 GB.
const LIMIT: usize = 1 << 30;

/// How much to make room for at a time. Big enough that a bulk result is not read in crumbs, small
/// enough that a header that claims a gigabyte does not get one before the bytes have come.
const READ_SIZE: usize = 32 * 1024;

/// With less room than this left in a buffer, a new one is begun. Until then rows that come in small
/// pieces share one: each keeps all of its buffer alive.
const MIN_READ: usize = 8 * 1024;

/// How much is taken in before others get their turn: what else runs on this thread, timers, and whoever
/// looks for a cancel. A peer that always has more to say would otherwise keep the thread for ever, since
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

/// What arrived.
pub enum Incoming {
    /// RowDescription.
    Columns(Vec<Column>),
    /// One or more whole DataRows.
    Rows(RowBatch),
    /// NotificationResponse.
    Notification(Notification),
    /// Anything else.
    Message(Message),
}

/// A [`Transport`] with its buffers.
pub struct Framed {
    transport: Box<dyn Transport>,
    read: BytesMut,
    write: BytesMut,
    limit: usize,
    turn: Turn,
}

impl Framed {
    /// Wraps a transport whose peer has not authenticated us yet.
    pub fn new(transport: Box<dyn Transport>) -> Framed {
        Framed {
            transport,
            read: BytesMut::new(),
            write: BytesMut::new(),
            limit: LIMIT_BEFORE_AUTHENTICATION,
            turn: TURN,
        }
    }

    /// From now on messages may have any size a server can send. Also lets go of the buffers that
    /// held the password exchange, so that the allocator wipes them.
    pub fn authenticated(&mut self) {
        self.limit = LIMIT;
        self.write = BytesMut::new();
    }

    /// The buffer to append frontend messages to, for [`Framed::flush`].
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.write
    }

    /// Sends everything appended.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.transport.write_all_buf(&mut self.write).await?;
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
    /// `UnexpectedEof` when the server closed, `InvalidData` for what is not the protocol, or what
    /// the transport says.
    pub async fn next(&mut self) -> io::Result<Incoming> {
        loop {
            if self.turn.is_over() {
                self.turn = TURN;
                tokio::task::yield_now().await;
            }
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            if self.read.capacity() - self.read.len() < MIN_READ {
                self.read.reserve(READ_SIZE);
            }
            let read = self.transport.read_buf(&mut self.read).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.turn.bytes = self.turn.bytes.saturating_sub(read);
        }
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
            let message = buf.split_to(len);
            Ok(Some(Incoming::Columns(Column::parse_all(&message[5..])?)))
        }
        b'A' => Ok(Some(Incoming::Notification(Notification::parse(&buf.split_to(len)[5..])?))),
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
    let Some(header) = buf.get(..5) else { return Ok(None) };
    let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len < 4 || len >= limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {len} bytes")));
    }
    Ok((buf.len() > len).then_some((header[0], len + 1)))
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

    #[test]
    fn a_partial_header_is_not_an_error() {
        for n in 0..5 {
            assert!(matches!(decode(&mut BytesMut::from(&b"Z\0\0\0\x05"[..n]), LIMIT), Ok(None)));
        }
    }
}
