//! The remote connections of this session: one without a name and any number with.
//!
//! As in contrib dblink they belong to the session, not to a transaction: an error or ROLLBACK does
//! not close them.

mod asynchronous;
mod pending;
mod reopening;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgLogLevel, pg_sys};
use secretlink_core::{Report, SqlState};
use secretlink_remote::connection::{Connection, ConnectionFacts, Event, Policy};
use secretlink_remote::conninfo::ConnInfo;
use secretlink_remote::error::QueryError;
use secretlink_remote::remote::Remote;
use secretlink_remote::request::Request;
use secretlink_remote::row::RowBatch;
use secretlink_remote::server_message::ServerMessage;
use secretlink_remote::status::Status;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::Arc;

pub use self::asynchronous::NextResult;
use self::pending::Pending;
pub use self::reopening::SecretRequest;
use self::reopening::Source;
use crate::backend::process::fd::ExternalFd;
use crate::backend::process::report::RawReport;
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, user};
use crate::backend::result::error_text::error_text;
use crate::backend::text::ServerText;
use crate::error::Error;
use crate::secrets::watch::UsedSecret;
use crate::stats::{self, Counter};

/// The name of a connection, cut to the length of an identifier as contrib dblink does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionName(Vec<u8>);

impl ConnectionName {
    /// For a new connection, with a NOTICE if the name is cut.
    pub fn create(name: ServerText) -> ConnectionName {
        ConnectionName(name.into_identifier(true).into_bytes())
    }

    /// For one that should exist.
    pub fn find(name: ServerText) -> ConnectionName {
        ConnectionName(name.into_identifier(false).into_bytes())
    }

    /// The name in the encoding of the database.
    pub fn into_text(self) -> ServerText {
        ServerText(self.0)
    }

    /// The name as UTF-8, to show it.
    pub fn display(&self) -> String {
        self.clone().into_text().to_utf8()
    }
}

/// What libpq would print on stderr about a conninfo that it can use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConnInfoWarning(String);

impl Report for ConnInfoWarning {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("01000")
    }
}

/// An open connection.
pub struct Session {
    remote: Remote,
    busy: Cell<bool>,
    cursors: Cell<Cursors>,
    pending: Cell<Option<Pending>>,
    last_error: RefCell<Option<LastError>>,
    /// The secret with which the connection was made.
    secret: Option<UsedSecret>,
    /// From what to make it again.
    source: Option<Rc<Source>>,
    opened: TimestampWithTimeZone,
    driver: io::Driver,
    _fd: ExternalFd,
}

/// What went wrong with the last query.
enum LastError {
    /// With this query.
    OfQuery(QueryError, Arc<Vec<u8>>),
    /// It could not even be sent.
    NotSent(String),
}

/// With how many bytes of rows at once an answer is taken for a large one.
const MANY_ROWS: usize = 4096;

/// The cursors opened by `dblink_open` in a remote transaction that it began itself.
#[derive(Clone, Copy, Default)]
pub struct Cursors {
    /// Whether `dblink_open` began the transaction, so that the last `dblink_close` is to end it.
    pub own_transaction: bool,
    /// How many are open in it.
    pub open: u32,
}

/// How a connection is called in a CONTEXT line.
#[derive(Clone)]
pub struct Origin {
    name: Option<ConnectionName>,
}

impl Origin {
    fn describe(&self, doing: &str) -> String {
        match &self.name {
            Some(name) => format!("{doing} on dblink connection named \"{}\"", name.display()),
            None => format!("{doing} on unnamed dblink connection"),
        }
    }
}

/// Ends the mark of a busy session, also when an ERROR unwinds.
struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Session {
    /// Connects. `protect_password` keeps the password, a secret's, from travelling unencrypted unless told
    /// so. A non-superuser's connection must have been authenticated by a password: otherwise it has the rights of the server's operating
    /// system user, not of who asked for it.
    ///
    /// # Errors
    /// If no connection could be made, or the rule is broken.
    pub fn open(info: ConnInfo, protect_password: bool) -> Result<Session, Error> {
        // SAFETY: returns a static C string.
        let encoding = unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) };
        for warning in &info.warnings {
            RawReport::new(&ConnInfoWarning(warning.clone())).emit(PgLogLevel::WARNING);
        }
        let policy = Policy { client_encoding: encoding.to_string_lossy().into_owned(), protect_password };
        let fd = ExternalFd::acquire()?;
        let connection =
            io::run(WaitEvent::Connect, async move { Connection::connect(&info, &policy).await })??;
        let session = Session {
            remote: Remote::adopt(io::thread()?, connection),
            busy: Cell::new(false),
            cursors: Cell::default(),
            pending: Cell::default(),
            last_error: RefCell::default(),
            secret: None,
            source: None,
            opened: pgrx::datetime::clock_timestamp(),
            driver: io::Driver::default(),
            _fd: fd,
        };
        if !user::is_superuser() && !session.remote.facts().password_used {
            session.close()?;
            return Err(Error::PasswordNotUsed);
        }
        Ok(session)
    }

    /// What does not change while the session lasts.
    pub fn facts(&self) -> &ConnectionFacts {
        self.remote.facts()
    }

    /// The secret with which it was made, if any.
    pub fn secret_id(&self) -> Option<&str> {
        self.secret.as_ref().map(UsedSecret::id)
    }

    /// When it was made.
    pub fn opened(&self) -> TimestampWithTimeZone {
        self.opened
    }

    /// What it does: `idle`; `active`, with a query; `pending`, with results to be read; or `lost`.
    pub fn state(&self) -> &'static str {
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

    /// What can be known of the session at any time.
    pub fn status(&self) -> &Status {
        self.remote.status()
    }

    /// Whether the session is in a transaction, be it a failed one.
    pub fn in_transaction(&self) -> bool {
        self.remote.status().in_transaction()
    }

    /// The account of `dblink_open` and `dblink_close`.
    pub fn cursors(&self) -> &Cell<Cursors> {
        &self.cursors
    }

    /// Closes, and waits until the server has been told.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub fn close(self) -> Result<(), Error> {
        // A query that was sent would be cancelled if it were dropped before: as with contrib dblink, the
        // server goes on with it.
        let _sent = self.pending.take();
        let mut pending = self.remote.close(io::thread()?);
        io::recv(WaitEvent::Disconnect, &mut pending.answer)
    }

    /// Runs a query string and gives each piece of the answer to `take`, but notices, which go to
    /// the client. Returns the remote error, if there was one.
    ///
    /// Whatever ends this early, an interrupt or an error of `take`, cancels the remote query.
    ///
    /// # Errors
    /// Those of `take`, and if the connection is in the middle of another query, as happens when
    /// reading a result runs a function that asks the same connection, or has a pending one.
    pub fn query(
        &self,
        request: Request,
        origin: &Origin,
        mut take: impl FnMut(Event) -> Result<(), Error>,
    ) -> Result<Option<QueryError>, Error> {
        let _busy = self.occupy()?;
        self.settle()?;
        self.last_error.take();
        let sql = request.sql.clone();
        let mut driven = self.remote.drive();
        let mut query = self.remote.query(io::thread()?, request);
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
                Event::Notice(message) => pass_on(&message, origin),
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
    fn occupy(&self) -> Result<Busy<'_>, Error> {
        if self.busy.replace(true) { Err(Error::Busy) } else { Ok(Busy(&self.busy)) }
    }

    fn note_error(&self, error: &QueryError, sql: &Arc<Vec<u8>>) {
        self.last_error.replace(Some(LastError::OfQuery(error.clone(), sql.clone())));
    }

    /// What went wrong with the last query, if anything, as libpq words it.
    pub fn error_message(&self) -> Option<ServerText> {
        self.last_error.borrow().as_ref().map(|error| match error {
            LastError::OfQuery(error, sql) => ServerText(error_text(error, sql)),
            LastError::NotSent(reason) => ServerText(reason.clone().into_bytes()),
        })
    }
}

/// Counts a connection as made or failed. An ERROR that unwinds, such as that of a cancel, leaves it as
/// failed.
pub fn counted(connect: impl FnOnce() -> Result<Session, Error>) -> Result<Session, Error> {
    struct Attempt {
        made: bool,
    }

    impl Drop for Attempt {
        fn drop(&mut self) {
            stats::count(if self.made { Counter::ConnectionsOpened } else { Counter::ConnectionsFailed });
        }
    }

    let mut attempt = Attempt { made: false };
    let session = connect()?;
    attempt.made = true;
    Ok(session)
}

/// Counts rows once for each batch, not for each row.
fn count_rows(batch: &RowBatch) {
    stats::add(Counter::RowsReceived, batch.remaining() as u64);
    stats::add(Counter::BytesReceived, batch.wire_len() as u64);
}

/// A remote NOTICE, WARNING or the like, at its level.
fn pass_on(message: &ServerMessage, origin: &Origin) {
    let level = match message.severity.as_slice() {
        b"WARNING" => PgLogLevel::WARNING,
        b"INFO" => PgLogLevel::INFO,
        b"LOG" => PgLogLevel::LOG,
        b"DEBUG" => PgLogLevel::DEBUG1,
        _ => PgLogLevel::NOTICE,
    };
    let sqlstate = message.sqlstate.unwrap_or(SqlState::new("00000"));
    RawReport::remote(message, sqlstate).with_context(&origin.describe("received")).emit(level);
}

/// What contrib dblink does with a failed remote query: ERROR, or with `fail => false` a NOTICE.
/// `doing` is the CONTEXT line up to the connection's name, such as `while executing query`.
pub fn report_failure(error: &QueryError, origin: &Origin, doing: &str, fail: bool) {
    let report = match error {
        QueryError::Server(message) if message.message.is_empty() => {
            let text = b"could not obtain message string for remote error".to_vec();
            RawReport::remote(&ServerMessage { message: text, ..*message.clone() }, error.sqlstate())
        }
        QueryError::Server(message) => RawReport::remote(message, error.sqlstate()),
        _ => RawReport::new(error),
    }
    .with_context(&origin.describe(doing));
    if fail { report.raise() } else { report.emit(PgLogLevel::NOTICE) }
}

/// The session's connections.
#[derive(Default)]
struct Connections {
    unnamed: Option<Rc<Session>>,
    named: BTreeMap<ConnectionName, Rc<Session>>,
}

thread_local! {
    // Leaked: at the end of the process nothing is to run behind Postgres's back; the exit callback
    // of the I/O thread has closed the connections by then. Never borrowed across a wait, where a
    // FATAL may leave without dropping anything.
    static CONNECTIONS: &'static RefCell<Connections> = Box::leak(Box::default());
}

fn with<T>(f: impl FnOnce(&mut Connections) -> T) -> T {
    CONNECTIONS.with(|connections| f(&mut connections.borrow_mut()))
}

/// The connection that a function works on.
pub struct Target {
    /// The session.
    pub session: Rc<Session>,
    /// How it is called.
    pub origin: Origin,
}

/// The connection of this name, if there is one.
pub fn named(name: &ConnectionName) -> Option<Target> {
    let session = with(|c| c.named.get(name).cloned())?;
    Some(Target { session, origin: Origin { name: Some(name.clone()) } })
}

/// The connection without a name.
///
/// # Errors
/// If there is none (08003).
pub fn unnamed() -> Result<Target, Error> {
    let session = with(|c| c.unnamed.clone()).ok_or(Error::UnnamedNotAvailable)?;
    Ok(Target { session, origin: Origin { name: None } })
}

/// A connection that is kept by nobody and ends with the statement it was opened for.
pub fn transient(session: Session) -> Target {
    Target { session: Rc::new(session), origin: Origin { name: None } }
}

/// Keeps a new connection, under its name or as the unnamed one, which it replaces.
///
/// # Errors
/// If the one replaced could not be closed.
pub fn keep(name: Option<ConnectionName>, session: Session) -> Result<Rc<Session>, Error> {
    let session = Rc::new(session);
    let replaced = with(|c| match name {
        Some(name) => c.named.insert(name, session.clone()),
        None => c.unnamed.replace(session.clone()),
    });
    replaced.map_or(Ok(()), close)?;
    Ok(session)
}

/// Whether there is a connection of this name.
pub fn exists(name: &ConnectionName) -> bool {
    with(|c| c.named.contains_key(name))
}

/// Whether there is a connection of this name that is of any more use.
pub fn is_alive(name: &ConnectionName) -> bool {
    with(|c| c.named.get(name).is_some_and(|session| session.status().loss().is_none()))
}

/// Closes the connection of this name, or the unnamed one.
///
/// # Errors
/// If there is none (08003).
pub fn disconnect(name: Option<&ConnectionName>) -> Result<(), Error> {
    let session = with(|c| match name {
        Some(name) => c.named.remove(name),
        None => c.unnamed.take(),
    });
    match (session, name) {
        (Some(session), _) => close(session),
        (None, Some(name)) => Err(Error::NotAvailable(name.display())),
        (None, None) => Err(Error::UnnamedNotAvailable),
    }
}

/// Waits for the end where that is possible: a connection that is in the middle of a query further
/// up the stack ends with that query.
fn close(session: Rc<Session>) -> Result<(), Error> {
    Rc::into_inner(session).map_or(Ok(()), Session::close)
}

/// All of them, first the one without a name.
pub fn all() -> Vec<(Option<ConnectionName>, Rc<Session>)> {
    with(|c| {
        let unnamed = c.unnamed.iter().map(|session| (None, session.clone()));
        unnamed.chain(c.named.iter().map(|(name, session)| (Some(name.clone()), session.clone()))).collect()
    })
}

/// The names of the named connections, in order.
pub fn names() -> Vec<ConnectionName> {
    with(|c| c.named.keys().cloned().collect())
}
