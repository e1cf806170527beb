//! What `NOTIFY` sends to a session that listens.

use std::collections::VecDeque;
use std::io;

/// How much is kept for a backend that does not fetch its notifications, in bytes of names and
/// payloads and what it takes to keep them. libpq keeps any number; a channel that nobody reads must
/// not fill the server's memory.
const MAX_KEPT: usize = 8 << 20;

/// The longest one that is read, as a message. A server takes no payload of 8,000 bytes or more, and no name
/// of more than 63.
pub(crate) const LONGEST: usize = 64 * 1024;

/// One notification, its texts in the encoding of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: Vec<u8>,
    /// The process at the remote server that sent it.
    pub backend_pid: i32,
    /// The payload; may be empty.
    pub payload: Vec<u8>,
}

impl Notification {
    /// Reads the body of a NotificationResponse. Own code, because the library's takes UTF-8 only.
    ///
    /// # Errors
    /// `InvalidData` if it is malformed.
    pub(crate) fn parse(body: &[u8]) -> io::Result<Notification> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed notification");
        let (pid, texts) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
        let mut texts = texts.split(|byte| *byte == 0);
        // What is behind the last NUL byte is nothing.
        match (texts.next(), texts.next(), texts.next(), texts.next()) {
            (Some(channel), Some(payload), Some(b""), None) => Ok(Notification {
                channel: channel.to_vec(),
                backend_pid: i32::from_be_bytes(*pid),
                payload: payload.to_vec(),
            }),
            _ => Err(malformed()),
        }
    }

    fn size(&self) -> usize {
        size_of::<Notification>() + self.channel.len() + self.payload.len()
    }
}

/// The notifications of a session that nobody has fetched yet, oldest first.
#[derive(Debug, Default)]
pub struct Inbox {
    kept: VecDeque<Notification>,
    size: usize,
    dropped: u64,
}

impl Inbox {
    /// Keeps one, or counts it as lost if there are too many.
    pub(crate) fn put(&mut self, notification: Notification) {
        let size = self.size + notification.size();
        if size > MAX_KEPT {
            self.dropped += 1;
        } else {
            self.size = size;
            self.kept.push_back(notification);
        }
    }

    /// Counts one as lost that was too long to be read.
    pub(crate) fn count_lost(&mut self) {
        self.dropped += 1;
    }

    /// Takes everything: the notifications, and how many had no room after them.
    pub fn take(&mut self) -> (VecDeque<Notification>, u64) {
        let Inbox { kept, dropped, .. } = std::mem::take(self);
        (kept, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_may_be_of_any_encoding() {
        let parsed = Notification::parse(b"\0\0\x12\x34caf\xe9\0\xfcber\0").unwrap();
        assert_eq!(
            parsed,
            Notification { channel: b"caf\xe9".to_vec(), backend_pid: 0x1234, payload: b"\xfcber".to_vec() }
        );
        assert_eq!(Notification::parse(b"\0\0\0\0a\0\0").unwrap().payload, b"");
        for malformed in [
            &b"\0\0\0"[..],
            b"\0\0\0\0",
            b"\0\0\0\0a\0",
            b"\0\0\0\0a\0b",
            b"\0\0\0\0a\0b\0c",
            b"\0\0\0\0a\0b\0\0",
        ] {
            assert!(Notification::parse(malformed).is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let notification =
            Notification { channel: b"c".to_vec(), backend_pid: 1, payload: vec![b'x'; 1 << 20] };
        let mut inbox = Inbox::default();
        for _ in 0..20 {
            inbox.put(notification.clone());
        }
        let (kept, dropped) = inbox.take();
        assert_eq!((kept.len(), dropped), (7, 13));
        inbox.put(notification.clone());
        assert_eq!(inbox.take(), (VecDeque::from([notification]), 0));
    }
}
