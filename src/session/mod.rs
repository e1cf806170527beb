//! One session at a remote server: running queries, and reading what was sent before. How it was made is
//! not known here.

mod asynchronous;
pub(crate) mod error;
pub(crate) mod name;
mod sent_query;

use pgrx::PgLogLevel;
use pgrx::datum::TimestampWithTimeZone;
use secretlink_core::{Report, SqlState};
use secretlink_remote::connection::{Connection, ConnectionFacts, Event};
use secretlink_remote::connection_handle::ConnectionHandle;
use secretlink_remote::error::QueryError;
use secretlink_remote::query_request::{QueryRequest, QueryText};
use secretlink_remote::row::RowBatch;
use secretlink_remote::server_message::ServerMessage;
use secretlink_remote::status::Status;
use std::cell::{Cell, RefCell};

use self::error::SessionError;
use self::name::ConnectionName;
use self::sent_query::SentQuery;
use crate::backend::error::BackendError;
use crate::backend::process::fd::ExternalFd;
use crate::backend::process::report::RawReport;
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, user};
use crate::backend::result::error_text::error_text;
use crate::backend::text::ServerText;
use crate::stats::{self, Counter};

/// An open session at a remote server: its connection, and what SQL sees of it.
pub(crate) struct RemoteSession {
    connection: ConnectionHandle,
    busy: Cell<bool>,
    cursors: Cell<Cursors>,
    sent: Cell<Option<SentQuery>>,
    last_error: RefCell<Option<LastError>>,
    opened: TimestampWithTimeZone,
    driver: io::Driver,
    _fd: ExternalFd,
}

/// What went wrong with the last query.
enum LastError {
    /// The query failed.
    OfQuery(QueryError, QueryText),
    /// The query could not even be sent.
    NotSent(String),
}

/// What reading the next result gave.
pub(crate) enum NextResult {
    /// A result, to its end.
    Complete,
    /// An error in its place.
    Failed(QueryError),
    /// The query has no more results.
    None,
}

/// The number of bytes of rows at once with which an answer is taken for a large one.
const MANY_ROWS: usize = 4096;

/// The cursors opened by `dblink_open` in a remote transaction that it began itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursors {
    /// Whether `dblink_open` began the transaction, so that the last `dblink_close` is to end it.
    pub own_transaction: bool,
    /// How many are open in it.
    pub open: u32,
}

/// Ends the mark of a busy session, also when an ERROR unwinds.
struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The longest query string that is kept with its error, to show a line of it.
const LONG_QUERY: usize = 1 << 20;

impl RemoteSession {
    /// Takes over a connection. A non-superuser's must have been authenticated by a password: otherwise it
    /// has the rights of the server's operating system user, not of who asked for it.
    ///
    /// # Errors
    /// If that rule is broken.
    pub(crate) fn adopt(connection: Connection, fd: ExternalFd) -> Result<RemoteSession, SessionError> {
        let session = RemoteSession {
            connection: ConnectionHandle::adopt(io::thread()?, connection),
            busy: Cell::new(false),
            cursors: Cell::default(),
            sent: Cell::default(),
            last_error: RefCell::default(),
            opened: pgrx::datetime::clock_timestamp(),
            driver: io::Driver::default(),
            _fd: fd,
        };
        if !user::is_superuser() && !session.connection.facts().password_used {
            session.close()?;
            return Err(SessionError::PasswordNotUsed);
        }
        Ok(session)
    }

    /// What does not change while the session lasts.
    pub(crate) fn facts(&self) -> &ConnectionFacts {
        self.connection.facts()
    }

    /// When the session was made.
    pub(crate) fn opened(&self) -> TimestampWithTimeZone {
        self.opened
    }

    /// What the session does: `idle`; `active`, with a query; `pending`, with results to be read; or `lost`.
    pub(crate) fn state(&self) -> &'static str {
        if self.status().loss().is_some() {
            "lost"
        } else if self.is_busy() {
            "active"
        } else if self.has_results() {
            "pending"
        } else {
            "idle"
        }
    }

    /// Whether nobody would miss more than the session if it went: nothing runs, nothing is left to be
    /// read, and there is no transaction.
    pub(crate) fn is_unused(&self) -> bool {
        !self.in_transaction() && !self.busy.get() && self.end_sent_query().is_ok()
    }

    /// What can be known of the session at any time.
    pub(crate) fn status(&self) -> &Status {
        self.connection.status()
    }

    /// Whether the session is in a transaction, be it a failed one.
    pub(crate) fn in_transaction(&self) -> bool {
        self.connection.status().in_transaction()
    }

    /// The account of `dblink_open` and `dblink_close`.
    pub(crate) fn cursors(&self) -> &Cell<Cursors> {
        &self.cursors
    }

    /// Closes, and waits until the server has been told.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub(crate) fn close(self) -> Result<(), SessionError> {
        // A query that was sent would be cancelled if it were dropped before: as with contrib dblink, the
        // server goes on with it.
        let _sent = self.sent.take();
        let mut closed = self.connection.close(io::thread()?);
        Ok(io::recv(WaitEvent::Disconnect, &mut closed.answer)?)
    }

    /// Runs a query string and gives each piece of the answer to `take`, but notices, which go to
    /// the client. Returns the remote error, if there was one.
    ///
    /// Whatever ends this early, an interrupt or an error of `take`, cancels the remote query.
    ///
    /// # Errors
    /// Those of `take`, and if the connection is in the middle of another query, as happens when
    /// reading a result runs a function that asks the same connection, or has a query sent.
    pub(crate) fn query<E: From<SessionError> + From<BackendError>>(
        &self,
        request: QueryRequest,
        name: &ConnectionName,
        mut take: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<Option<QueryError>, E> {
        let _busy = self.occupy()?;
        self.end_sent_query()?;
        self.last_error.take();
        let sql = request.sql.clone();
        let mut driven = self.connection.drive();
        let mut query = self.connection.query(io::thread()?, request);
        let mut failure = None;
        loop {
            match self.driver.recv(WaitEvent::Query, &mut driven, &mut query.events)? {
                Event::Done => {
                    if let Some((drive, _)) = driven {
                        drive.pause();
                    }
                    return Ok(failure);
                }
                Event::Error(error) => {
                    self.note_error(&error, &sql);
                    failure = Some(error);
                }
                Event::Notice(message) => pass_on(&message, name),
                Event::Rows(batch) => {
                    // More of them are better read on the I/O thread, while these are made tuples.
                    if batch.wire_len() > MANY_ROWS {
                        driven = None;
                    }
                    count_rows(&batch);
                    take(Event::Rows(batch))?;
                }
                event => take(event)?,
            }
        }
    }

    /// Marks the session as being read.
    fn occupy(&self) -> Result<Busy<'_>, SessionError> {
        if self.busy.replace(true) { Err(SessionError::Busy) } else { Ok(Busy(&self.busy)) }
    }

    fn note_error(&self, error: &QueryError, sql: &QueryText) {
        // It is kept until the next query: a long one is shown without its text.
        let sql = if sql.len() > LONG_QUERY { QueryText::new() } else { sql.clone() };
        self.last_error.replace(Some(LastError::OfQuery(error.clone(), sql)));
    }

    /// What went wrong with the last query, if anything, as libpq words it.
    pub(crate) fn error_message(&self) -> Option<ServerText> {
        self.last_error.borrow().as_ref().map(|error| match error {
            LastError::OfQuery(error, sql) => ServerText(error_text(error, sql)),
            LastError::NotSent(reason) => ServerText(reason.clone().into_bytes()),
        })
    }
}

/// Counts rows once for each batch, not for each row.
fn count_rows(batch: &RowBatch) {
    stats::add(Counter::RowsReceived, batch.remaining() as u64);
    stats::add(Counter::BytesReceived, batch.wire_len() as u64);
}

/// A remote NOTICE, WARNING or the like, at its level.
fn pass_on(message: &ServerMessage, name: &ConnectionName) {
    let level = match message.severity.as_slice() {
        b"WARNING" => PgLogLevel::WARNING,
        b"INFO" => PgLogLevel::INFO,
        b"LOG" => PgLogLevel::LOG,
        b"DEBUG" => PgLogLevel::DEBUG1,
        _ => PgLogLevel::NOTICE,
    };
    let sqlstate = message.sqlstate.unwrap_or(SqlState::new("00000"));
    RawReport::remote(message, sqlstate).with_context(&name.describe("received")).emit(level);
}

/// What contrib dblink does with a failed remote query: ERROR, or with `fail => false` a NOTICE.
/// `doing` is the CONTEXT line up to the connection's name, such as `while executing query`.
pub(crate) fn report_failure(error: &QueryError, name: &ConnectionName, doing: &str, fail: bool) {
    let report = match error {
        QueryError::Server(message) if message.message.is_empty() => {
            let text = b"could not obtain message string for remote error".to_vec();
            RawReport::remote(&ServerMessage { message: text, ..*message.clone() }, error.sqlstate())
        }
        QueryError::Server(message) => RawReport::remote(message, error.sqlstate()),
        _ => RawReport::new(error),
    }
    .with_context(&name.describe(doing));
    // Memory that runs out here is no failure of the remote server's.
    let fail = fail || matches!(error, QueryError::OutOfMemory);
    if fail { report.raise() } else { report.emit(PgLogLevel::NOTICE) }
}
