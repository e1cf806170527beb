//! What a server says in an ErrorResponse or NoticeResponse.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use secretlink_core::{SqlState, memory, printable};
use std::fmt;
use std::io;

/// The fields of an error or notice, as bytes in the encoding of the session that received them.
///
/// Source: PostgreSQL documentation, "Error and Notice Message Fields".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerMessage {
    /// `S`, or `V` where the server sends it (never localised): ERROR, FATAL, NOTICE …
    pub severity: Vec<u8>,
    /// `S`, in the server's language.
    pub shown_severity: Vec<u8>,
    /// `C`; `None` if absent or not five characters long.
    pub sqlstate: Option<SqlState>,
    /// `M`
    pub message: Vec<u8>,
    /// `D`
    pub detail: Option<Vec<u8>>,
    /// `H`
    pub hint: Option<Vec<u8>>,
    /// `W`
    pub context: Option<Vec<u8>>,
    /// `P`: the character of the query string that is the trouble, counted from 1.
    pub position: Option<Vec<u8>>,
    /// `p`: as `position`, in `internal_query`.
    pub internal_position: Option<Vec<u8>>,
    /// `q`: a statement that the server made itself.
    pub internal_query: Option<Vec<u8>>,
}

impl ServerMessage {
    /// Reads the fields; unknown ones are ignored, as the protocol demands. What goes beyond 1.5 MB in
    /// all is cut off.
    ///
    /// # Errors
    /// `InvalidData` if the message is malformed, `OutOfMemory` if there is no memory for it.
    pub fn parse(mut fields: ErrorFields<'_>) -> io::Result<ServerMessage> {
        // The library calls it an unexpected end of file, which would read as a closed connection.
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "malformed error or notice");
        let mut parsed = ServerMessage::default();
        let mut room = MAX_TEXT;
        while let Some(field) = fields.next().map_err(malformed)? {
            let value = cut(field.value_bytes(), room);
            room -= value.len();
            match field.type_() {
                b'S' => parsed.shown_severity = memory::copy(value)?,
                b'V' => parsed.severity = memory::copy(value)?,
                b'C' => parsed.sqlstate = SqlState::from_wire(value),
                b'M' => parsed.message = memory::copy(value)?,
                b'D' => parsed.detail = Some(memory::copy(value)?),
                b'H' => parsed.hint = Some(memory::copy(value)?),
                b'W' => parsed.context = Some(memory::copy(value)?),
                b'P' => parsed.position = Some(memory::copy(value)?),
                b'p' => parsed.internal_position = Some(memory::copy(value)?),
                b'q' => parsed.internal_query = Some(memory::copy(value)?),
                _ => {}
            }
        }
        if parsed.severity.is_empty() {
            parsed.severity = parsed.shown_severity.clone();
        }
        Ok(parsed)
    }

    /// How many bytes its fields have.
    pub fn size(&self) -> usize {
        let fixed = [&self.severity, &self.shown_severity, &self.message];
        let optional = [
            &self.detail,
            &self.hint,
            &self.context,
            &self.position,
            &self.internal_position,
            &self.internal_query,
        ];
        fixed.into_iter().chain(optional.into_iter().flatten()).map(Vec::len).sum()
    }
}

/// How much of all the fields together is kept, in bytes: they are copied several times on their way to the
/// client and into the log.
const MAX_TEXT: usize = 3 << 19;

/// What fits of a text in the encoding of a session, which is that of a server: no character is cut in two.
fn cut(text: &[u8], room: usize) -> &[u8] {
    if text.len() <= room {
        return text;
    }
    let kept = &text[..room];
    // An ASCII byte is a character in each of these encodings. Else UTF-8 is likely, in which a character has
    // no more than three bytes behind its first.
    let ascii = kept.iter().rev().take(1024).position(u8::is_ascii);
    let rest =
        ascii.or_else(|| kept.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80).map(|at| at + 1));
    &kept[..room - rest.unwrap_or(0)]
}

/// Prints as libpq prints a failure to connect: `FATAL:  message`, and what else the server says.
impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:  {}", quoted(&self.severity), quoted(&self.message))?;
        for (label, field) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if let Some(field) = field {
                write!(f, "\n{label}:  {}", quoted(field))?;
            }
        }
        Ok(())
    }
}

/// A field as it is quoted in a message of ours.
pub(crate) fn quoted(field: &[u8]) -> String {
    printable(&String::from_utf8_lossy(field)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut_in_two() {
        let e = "é".repeat(1000);
        assert_eq!(cut(b"abc", 3), b"abc");
        assert_eq!(cut(b"abcd", 3), b"abc");
        assert_eq!(cut("abéé".as_bytes(), 3), b"ab");
        assert_eq!(cut("ab\u{20ac}c".as_bytes(), 4), b"ab");
        assert_eq!(cut(e.as_bytes(), 1501), &e.as_bytes()[..1500]);
        assert_eq!(cut(e.as_bytes(), 0), b"");
    }
}
