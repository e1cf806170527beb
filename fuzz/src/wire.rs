//! A transport whose other end says what it was told to say, and can keep up its side of SCRAM.

use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The password that the other end believes to be right.
pub const PASSWORD: &str = "Fuzz+S3cret";

/// Stands for the client's nonce in what the server says, since a client chooses a new one each time.
const NONCE: &[u8] = b"<the nonce of the client";
/// Stands for the server's signature, which depends on that nonce.
const SIGNATURE: &[u8] = b"<the signature of the server, as base64....>";

const SALT: &[u8] = b"salt of the user";

/// The server's first message in SCRAM. One iteration: the client is not tested for its patience.
pub fn server_first() -> Vec<u8> {
    [b"r=", NONCE, b"+server,s=", base64(SALT).as_bytes(), b",i=1"].concat()
}

/// The server's final message.
pub fn server_final() -> Vec<u8> {
    [b"v=", SIGNATURE].concat()
}

/// What the client has written.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// A copy of all of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The transport.
pub struct Wire {
    script: Vec<u8>,
    at: usize,
    chunk: usize,
    ends: usize,
    written: Written,
    scram: Scram,
}

impl Wire {
    /// Reads give `script`, at most `chunk` bytes at a time, then the end of the stream.
    pub fn new(script: &[u8], chunk: usize) -> Wire {
        Wire {
            script: script.to_vec(),
            at: 0,
            chunk: chunk.max(1),
            ends: 0,
            written: Written::default(),
            scram: Scram::default(),
        }
    }

    /// Where to see what the client writes.
    pub fn written(&self) -> Written {
        self.written.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let rest = &self.script[self.at..];
        // A real server does not say what depends on the client before the client has spoken.
        let known = [NONCE, SIGNATURE].iter().filter_map(|open| find(rest, open)).filter(|at| *at > 0).min();
        let taken = known.unwrap_or(rest.len()).min(self.chunk).min(into.remaining());
        into.put_slice(&rest[..taken]);
        self.at += taken;
        if taken == 0 {
            self.ends += 1;
            assert!(self.ends < 100, "reads on and on after the end of the stream");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.written.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        let Wire { script, scram, .. } = &mut *self;
        scram.follow(bytes, script);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Follows a client through SCRAM-SHA-256 (RFC 5802) and puts nonce and signature into what the
/// server is going to say.
#[derive(Default)]
pub struct Scram {
    nonce: Vec<u8>,
    server_first: Vec<u8>,
}

impl Scram {
    /// `said` has just come from the client; `script` is all that the server says.
    pub fn follow(&mut self, said: &[u8], script: &mut [u8]) {
        if let Some(at) = find(said, b",r=") {
            let nonce = &said[at + 3..];
            if self.nonce.is_empty() && nonce.len() == NONCE.len() {
                self.nonce = nonce.to_vec();
                replace(script, NONCE, nonce);
                self.server_first = find(script, nonce)
                    .and_then(|at| script.get(at.checked_sub(2)?..at - 2 + server_first().len()))
                    .unwrap_or_default()
                    .to_vec();
            } else if let (Some(start), Some(end)) = (find(said, b"c="), find(said, b",p=")) {
                let client_first = [b"n=,r=", &self.nonce[..]].concat();
                let client_final = said.get(start..end).unwrap_or_default();
                let conversation = [&client_first, &self.server_first, client_final].join(&b',');
                replace(script, SIGNATURE, base64(&signature(&conversation)).as_bytes());
            }
        }
    }
}

fn signature(conversation: &[u8]) -> Vec<u8> {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::MIN, SALT, PASSWORD.as_bytes(), &mut salted);
    let sign =
        |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec();
    sign(&sign(&salted, b"Server Key"), conversation)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn replace(bytes: &mut [u8], placeholder: &[u8], by: &[u8]) {
    assert_eq!(placeholder.len(), by.len());
    while let Some(at) = find(bytes, placeholder) {
        bytes[at..at + by.len()].copy_from_slice(by);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            text.push(match digit <= group.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]),
                false => '=',
            });
        }
    }
    text
}
