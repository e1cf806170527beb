//! What a server says in an ErrorResponse or NoticeResponse.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use secretlink_core::{SqlState, printable};
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
    /// Reads the fields; unknown ones are ignored, as the protocol demands.
    ///
    /// # Errors
    /// `InvalidData` if the message is malformed.
    pub fn parse(mut fields: ErrorFields<'_>) -> io::Result<ServerMessage> {
        // The library calls it an unexpected end of file, which would read as a closed connection.
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "malformed error or notice");
        let mut parsed = ServerMessage::default();
        while let Some(field) = fields.next().map_err(malformed)? {
            let value = field.value_bytes();
            match field.type_() {
                b'S' => parsed.shown_severity = value.to_vec(),
                b'V' => parsed.severity = value.to_vec(),
                b'C' => parsed.sqlstate = SqlState::from_wire(value),
                b'M' => parsed.message = value.to_vec(),
                b'D' => parsed.detail = Some(value.to_vec()),
                b'H' => parsed.hint = Some(value.to_vec()),
                b'W' => parsed.context = Some(value.to_vec()),
                b'P' => parsed.position = Some(value.to_vec()),
                b'p' => parsed.internal_position = Some(value.to_vec()),
                b'q' => parsed.internal_query = Some(value.to_vec()),
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

/// As libpq prints a failure to connect: `FATAL:  message`, and what else the server says.
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
