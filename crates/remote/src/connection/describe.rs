//! Asking for the types of a result before it is sent, to have it in binary.
//!
//! Source: PostgreSQL documentation, "Extended Query".

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{ErrorResponseBody, Message};
use postgres_protocol::message::frontend;
use std::io;

use super::{Connection, Described, Listener, Stopped, broken, out_of_order};
use crate::binary_type::BinaryType;
use crate::column::Column;
use crate::framed::{Framed, Incoming};
use crate::query_request::QueryRequest;

/// Since 12 floats are written so that they read back as they were.
const OLDEST_SERVER: u32 = 12;

impl Connection {
    /// Whether anything of the result could come in binary, as far as is known before asking.
    pub(super) fn can_be_binary(&self, request: &QueryRequest) -> bool {
        let version = self.parameters.get("server_version").map_or("", String::as_str);
        let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|v| v.parse::<u32>().ok());
        let dates = self.parameters.get("DateStyle").is_some_and(|style| style.starts_with("ISO"));
        major.is_some_and(|major| major >= OLDEST_SERVER)
            && request.wants(|kind| dates || kind != BinaryType::DateTime)
            && request.is_one_query()
    }

    /// Has the server parse the statement and tell its columns.
    pub(super) async fn describe(
        &mut self,
        request: &QueryRequest,
        listener: Listener<'_>,
    ) -> Result<Described, Stopped> {
        // The one setting that binary floats depend on and a server does not report.
        let ask_for_floats = request.wants(|kind| kind == BinaryType::Float);
        if ask_for_floats {
            put_parse(&mut self.framed, &Bytes::from_static(b"SHOW extra_float_digits"));
            let outgoing = self.framed.outgoing();
            put_bind(outgoing, &[]).map_err(broken)?;
            frontend::execute("", 0, outgoing).map_err(broken)?;
        }
        put_parse(&mut self.framed, &request.sql);
        let outgoing = self.framed.outgoing();
        frontend::describe(b'S', "", outgoing).map_err(broken)?;
        frontend::flush(outgoing);
        self.unsynced = true;
        self.send(listener).await?;
        match self.description(request, ask_for_floats, listener).await {
            Ok(described) => Ok(described),
            Err(Refused::Stopped(stopped)) => Err(stopped),
            Err(Refused::ByServer(body)) => {
                let error = self.error(&body)?;
                listener.tell(error).await?;
                Ok(if self.broken().is_some() { Described::SessionEnded } else { Described::Failed })
            }
        }
    }

    async fn description(
        &mut self,
        request: &QueryRequest,
        asked_for_floats: bool,
        listener: Listener<'_>,
    ) -> Result<Described, Refused> {
        let mut floats = false;
        if asked_for_floats {
            part!(self, listener, Incoming::Message(Message::ParseComplete) => ());
            part!(self, listener, Incoming::Message(Message::BindComplete) => ());
            let mut digits = part!(self, listener, Incoming::Rows(rows) => rows);
            let read = digits.next_row(|_, value| floats = value.is_some_and(|v| is_precise(v.bytes())));
            if !matches!(read, Ok(Some(1))) || digits.remaining() > 0 {
                return Err(out_of_order().into());
            }
            part!(self, listener, Incoming::Message(Message::CommandComplete(_)) => ());
        }
        part!(self, listener, Incoming::Message(Message::ParseComplete) => ());
        let parameters =
            part!(self, listener, Incoming::Message(Message::ParameterDescription(body)) => body);
        let columns = part!(self, listener,
            Incoming::Columns(columns) => Some(columns),
            Incoming::Message(Message::NoData) => None);
        let has_parameters = !matches!(parameters.parameters().next(), Ok(None));
        let columns = columns.filter(|_| !has_parameters).and_then(|c| self.formats(c, request, floats));
        let Some(columns) = columns else {
            // Whatever is to be said about it is said by running it.
            self.put_sync();
            self.send(listener).await?;
            let ready = part!(self, listener, Incoming::Message(Message::ReadyForQuery(body)) => body);
            self.status.ready(ready.status());
            return Ok(Described::AsText);
        };
        Ok(Described::InBinary(columns))
    }

    /// Asks in binary for what is to become a value of the very type that it is there. `None` if that
    /// is no column at all.
    fn formats(&self, columns: Vec<Column>, request: &QueryRequest, floats: bool) -> Option<Vec<Column>> {
        if columns.len() != request.local_types.len() {
            return None;
        }
        let dates = self.parameters.get("DateStyle").is_some_and(|style| style.starts_with("ISO"));
        let chosen: Vec<Column> = columns
            .iter()
            .zip(&request.local_types)
            .map(|(column, local_type)| {
                let exact = match BinaryType::of(column.type_oid) {
                    Some(BinaryType::Exact) => true,
                    Some(BinaryType::Float) => floats,
                    Some(BinaryType::DateTime) => dates,
                    None => false,
                };
                Column { binary: exact && column.type_oid == *local_type, ..*column }
            })
            .collect();
        chosen.iter().any(|column| column.binary).then_some(chosen)
    }

    /// Appends what runs the statement that was described.
    pub(super) fn put_execution(&mut self, columns: &[Column]) -> io::Result<()> {
        let outgoing = self.framed.outgoing();
        let formats: Vec<i16> = columns.iter().map(|column| i16::from(column.binary)).collect();
        put_bind(outgoing, &formats)?;
        frontend::execute("", 0, outgoing)?;
        // A portal left open keeps the tables in use, as ALTER TABLE later in the transaction finds.
        frontend::close(b'P', "", outgoing)?;
        self.put_sync();
        Ok(())
    }

    pub(super) fn put_sync(&mut self) {
        frontend::sync(self.framed.outgoing());
        self.unsynced = false;
    }
}

/// Why there is no description.
enum Refused {
    ByServer(ErrorResponseBody),
    Stopped(Stopped),
}

impl From<Stopped> for Refused {
    fn from(stopped: Stopped) -> Refused {
        Refused::Stopped(stopped)
    }
}

/// The next part of the answer, which has to be one of those.
macro_rules! part {
    ($self:ident, $listener:ident, $($part:pat => $value:expr),+) => {
        match $self.hear($listener).await? {
            $($part => $value,)+
            Incoming::Message(Message::ErrorResponse(body)) => return Err(Refused::ByServer(body)),
            _ => return Err(out_of_order().into()),
        }
    };
}
use part;

/// Whether this is a value of extra_float_digits with which no digit is lost.
fn is_precise(setting: &[u8]) -> bool {
    std::str::from_utf8(setting).ok().and_then(|digits| digits.parse::<i32>().ok()).is_some_and(|d| d > 0)
}

/// Appends a Parse message without a name. Own code for the reason of `put_query`.
fn put_parse(framed: &mut Framed, sql: &Bytes) {
    let header = framed.outgoing();
    header.extend_from_slice(b"P");
    header.extend_from_slice(&(sql.len() as u32 + 8).to_be_bytes());
    header.extend_from_slice(&[0]);
    framed.append(sql.clone());
    framed.outgoing().extend_from_slice(&[0, 0, 0]);
}

/// Appends a Bind message of the unnamed statement to the unnamed portal.
fn put_bind(buf: &mut bytes::BytesMut, formats: &[i16]) -> io::Result<()> {
    let no_values = std::iter::empty::<()>();
    frontend::bind("", "", [], no_values, |(), _| Ok(IsNull::Yes), formats.iter().copied(), buf)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "too many columns"))
}
