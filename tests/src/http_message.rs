//! Reading one HTTP message off a connection.

use std::io::{ErrorKind, Read};

/// One request or answer with a `content-length` (or without a body), head and body, as it came. An
/// error if the other side leaves before the end.
pub(crate) fn read_message(mut stream: impl Read) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut buffer = [0; 4096];
    while !is_complete(&message) {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&buffer[..length]);
    }
    Ok(message)
}

/// The value of a header, trimmed; `name` in lower case.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = message.split_once("\r\n\r\n")?;
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// What follows the head.
pub(crate) fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn is_complete(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = header(&text, "content-length").and_then(|length| length.parse().ok());
    message.len() >= head.len() + 4 + length.unwrap_or(0)
}
