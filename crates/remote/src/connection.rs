//! A connection to a PostgreSQL server: the state of the protocol over one socket.

mod describe;

use bytes::Bytes;
use postgres_protocol::message::backend::{ErrorResponseBody, Message, ParameterStatusBody};
use postgres_protocol::message::frontend;
use secretlink_core::channel::Sender;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::cancel::CancelKey;
use crate::column::Column;
use crate::error::{AttemptError, QueryError};
use crate::framed::{Framed, Incoming};
use crate::query_request::QueryRequest;
use crate::row::RowBatch;
use crate::server_message::{ServerMessage, quoted};
use crate::small_results::SmallResults;
use crate::status::Status;
use crate::tls::TlsFacts;

/// How long a server may take to stop a cancelled query before its connection is given up.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// How long a server may take to hear that we are leaving.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// After how many messages that come between queries a pause is made, and how long it is.
const IDLE_MESSAGES: u32 = 1024;
const IDLE_PAUSE: Duration = Duration::from_millis(10);

/// The parameters of a session that are looked at. The others are not kept: a server could send any
/// number.
const PARAMETERS: [&str; 5] =
    ["DateStyle", "IntervalStyle", "default_transaction_read_only", "in_hot_standby", "server_version"];

/// The longest value of such a parameter that is kept: none is near as long.
const MAX_PARAMETER: usize = 256;

/// ReadyForQuery, CopyInResponse, ParameterStatus and NotificationResponse.
const HEARD_WHILE_DRAINING: &[u8] = b"ZGSA";

/// The longest query: what fits a message, whose length is signed and counts itself and a NUL.
const MAX_QUERY: usize = i32::MAX as usize - 5;

/// The most rows that [`Connection::rows`] takes.
const MAX_ROWS: usize = 10_000;

/// The most bytes that these rows may come as.
const MAX_BYTES: usize = 1 << 20;

/// What does not change while a session lasts.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The host as it was asked for.
    pub host: String,
    /// The TCP port, or that of the Unix socket.
    pub port: u16,
    /// The database.
    pub dbname: String,
    /// The role.
    pub user: String,
    /// How the connection is encrypted, if it is.
    pub tls: Option<TlsFacts>,
    /// Whether the server really asked for a password.
    pub password_used: bool,
    /// The process that serves it.
    pub backend_pid: i32,
}

/// One piece of the answer to a query, in the order in which they come.
pub enum Event {
    /// A result set begins.
    Columns(ResultShape),
    /// Rows of the result set, some of them.
    Rows(RowBatch),
    /// A statement ended, with this command tag. Ends the result set, if there was one.
    Complete(Vec<u8>),
    /// The query string was empty.
    Empty,
    /// A NOTICE, WARNING or the like.
    Notice(Box<ServerMessage>),
    /// The query failed. Nothing but notices and `Done` follows.
    Error(QueryError),
    /// The answer is complete.
    Done,
}

impl Event {
    /// About how many bytes it takes to keep it.
    pub fn size(&self) -> usize {
        size_of::<Event>()
            + match self {
                Event::Rows(rows) => rows.wire_len(),
                Event::Complete(tag) => tag.len(),
                Event::Columns(shape) => size_of_val(shape.columns.as_slice()),
                Event::Notice(message) => message.size(),
                Event::Error(QueryError::Server(message)) => message.size(),
                Event::Error(QueryError::Lost(reason)) => reason.len(),
                Event::Error(_) | Event::Empty | Event::Done => 0,
            }
    }
}

/// What is needed to read a result set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultShape {
    /// The result's columns.
    pub columns: Vec<Column>,
    /// The session's DateStyle when the result began.
    pub date_style: Option<String>,
    /// The session's IntervalStyle when the result began.
    pub interval_style: Option<String>,
}

/// A connection to a PostgreSQL server, after the login.
pub struct Connection {
    framed: Framed,
    facts: ConnectionFacts,
    parameters: HashMap<&'static str, String>,
    cancel_key: Option<CancelKey>,
    status: Arc<Status>,
    /// Messages of the extended protocol were sent and no Sync behind them: until one comes, the
    /// server does not end its answer.
    unsynced: bool,
    small_results: SmallResults,
    socket: Option<RawFd>,
}

/// How far the answer to a query has come. What comes out of order breaks the connection: server and
/// client no longer agree on which answer belongs to which query.
enum At {
    /// Nothing of the answer has come.
    Start,
    /// In a result set.
    Rows,
    /// After a statement's end.
    Complete,
    /// Before the result of a statement that was described: its columns.
    Bound(Vec<Column>),
    /// In the result of a statement that was described.
    Executing,
    /// After its end.
    Executed,
    /// After its portal's end.
    Closed,
    /// After an error, when only the end may come.
    Failed,
}

/// Why [`Connection::exchange`] stopped early.
enum Stopped {
    /// Nobody wants the rest.
    Cancelled,
    /// The server wants to copy, which cannot be served.
    Copy,
    /// Memory for what the server says has run out.
    OutOfMemory,
    /// The connection is unusable.
    Broken(String),
}

/// What became of asking for the columns of a result before it is sent.
enum Described {
    /// The statement is parsed; these are its columns, some of which are to be sent in binary.
    InBinary(Vec<Column>),
    /// The query is to be sent as if it had not been asked about.
    AsText,
    /// The statement is wrong, which was passed on. The server waits for a Sync.
    Failed,
    /// The server has ended the session, which was passed on.
    SessionEnded,
}

impl Connection {
    /// A connection that has still to log in.
    pub(crate) fn new(framed: Framed, facts: ConnectionFacts) -> Connection {
        Connection {
            framed,
            facts,
            parameters: HashMap::new(),
            cancel_key: None,
            status: Arc::default(),
            unsynced: false,
            small_results: SmallResults::new(),
            socket: None,
        }
    }

    /// A connection over any transport whose login is over, for fuzzing the decoding of answers.
    #[doc(hidden)]
    pub fn over(transport: Box<dyn crate::framed::Transport>) -> Connection {
        let mut framed = Framed::new(transport);
        framed.authenticated();
        let facts = ConnectionFacts {
            host: String::new(),
            port: 0,
            dbname: String::new(),
            user: String::new(),
            tls: None,
            password_used: false,
            backend_pid: 0,
        };
        let mut connection = Connection::new(framed, facts);
        connection.parameters.insert("server_version", "17.2".into());
        connection.parameters.insert("DateStyle", "ISO, DMY".into());
        connection
    }

    /// A connection after its login, as [`Connection::over`] makes it, over a socket that a backend can wait for
    /// itself.
    ///
    /// # Errors
    /// What the operating system says.
    #[doc(hidden)]
    pub fn over_socket(stream: std::os::unix::net::UnixStream) -> io::Result<Connection> {
        let socket = crate::socket::Socket::std(stream)?;
        let fd = socket.fd();
        let mut connection = Connection::over(Box::new(socket));
        connection.set_socket(fd);
        Ok(connection)
    }

    /// The messages, for the login.
    pub(crate) fn framed(&mut self) -> &mut Framed {
        &mut self.framed
    }

    /// Notes which process serves the connection, from BackendKeyData.
    pub(crate) fn set_backend_pid(&mut self, pid: i32) {
        self.facts.backend_pid = pid;
    }

    /// Notes the socket, so that the backend can wait for it.
    pub(crate) fn set_socket(&mut self, socket: RawFd) {
        self.socket = Some(socket);
    }

    /// What is read from to go on, as long as the session lives; `None` if that is no socket.
    pub(crate) fn socket(&self) -> Option<RawFd> {
        self.socket
    }

    /// Notes how to cancel; `None` if the server has said nothing for that.
    pub(crate) fn set_cancel_key(&mut self, key: Option<CancelKey>) {
        self.cancel_key = key;
    }

    /// What does not change while the session lasts.
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// What can be known of the session also while somebody else holds it.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// What a cancel request needs, if the server takes any.
    pub(crate) fn cancel_key(&self) -> Option<CancelKey> {
        self.cancel_key.clone()
    }

    /// Why the session is of no more use, if so.
    pub fn broken(&self) -> Option<&str> {
        self.status.loss().map(|loss| loss.reason.as_str())
    }

    /// Takes in a ParameterStatus.
    pub(crate) fn note_parameter(&mut self, body: &ParameterStatusBody) {
        // A value that is not UTF-8 is not one of those we look at.
        if let (Ok(name), Ok(value)) = (body.name(), body.value())
            && let Some(name) = PARAMETERS.into_iter().find(|known| *known == name)
            && value.len() <= MAX_PARAMETER
        {
            self.parameters.insert(name, value.to_string());
        }
    }

    /// Runs a request and passes on everything that comes back, ending with [`Event::Done`].
    ///
    /// When `cancel` fires or the receiver goes away, the remote query is cancelled and its answer
    /// thrown away, so that the session is ready for the next one; if that takes more than
    /// ten seconds the session is given up.
    pub async fn query(
        &mut self,
        request: &QueryRequest,
        events: &Sender<Event>,
        cancel: &CancellationToken,
    ) {
        let error = if let Some(reason) = self.broken() {
            Some(QueryError::Lost(reason.into()))
        } else if request.sql.len() > MAX_QUERY {
            Some(QueryError::TooLong(request.sql.len()))
        } else {
            match self.exchange(request, events, cancel).await {
                Ok(()) => None,
                Err(Stopped::Broken(reason)) => {
                    self.status.lose(reason.clone(), false);
                    Some(QueryError::Lost(reason))
                }
                Err(Stopped::Copy) => {
                    self.cancel_and_drain().await;
                    Some(QueryError::Copy)
                }
                Err(Stopped::OutOfMemory) => {
                    self.cancel_and_drain().await;
                    Some(QueryError::OutOfMemory)
                }
                // Nobody listens any more: a backend that is leaving does not even drop its end.
                Err(Stopped::Cancelled) => return self.cancel_and_drain().await,
            }
        };
        let listener = Listener { events, cancel };
        if let Some(error) = error
            && listener.tell(Event::Error(error)).await.is_err()
        {
            return;
        }
        // A receiver that has gone does not miss it.
        let _ = listener.tell(Event::Done).await;
    }

    /// Sends the request and passes on its answer.
    ///
    /// A large result is worth a round trip that asks for the types of its columns, so that those can
    /// come in binary whose values are made of just that type here. Whether a result is large shows
    /// only when it is there; so a statement whose result was small the last time is sent as it is.
    async fn exchange(
        &mut self,
        request: &QueryRequest,
        events: &Sender<Event>,
        cancel: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.status.count_query();
        let listener = Listener { events, cancel };
        let fingerprint = self.can_be_binary(request).then(|| request.fingerprint());
        let described = match fingerprint {
            Some(fingerprint) if !self.small_results.contain(fingerprint) => {
                self.describe(request, listener).await?
            }
            _ => Described::AsText,
        };
        let at = match described {
            Described::InBinary(columns) => {
                self.put_execution(&columns).map_err(broken)?;
                At::Bound(columns)
            }
            Described::AsText => {
                put_query(&mut self.framed, &request.sql);
                At::Start
            }
            Described::Failed => {
                self.put_sync();
                At::Failed
            }
            Described::SessionEnded => return Ok(()),
        };
        self.send(listener).await?;
        let bytes = self.answer(at, listener).await?;
        if let (Some(fingerprint), Some(bytes)) = (fingerprint, bytes) {
            self.small_results.note(fingerprint, bytes);
        }
        Ok(())
    }

    /// Passes on everything up to ReadyForQuery. Returns how many bytes of rows came, unless there
    /// was an error.
    async fn answer(&mut self, mut at: At, listener: Listener<'_>) -> Result<Option<usize>, Stopped> {
        let mut bytes = 0;
        loop {
            let (event, now) = match (self.hear(listener).await?, at) {
                (Incoming::Columns(columns), At::Start | At::Complete) => {
                    (Event::Columns(self.shape(columns)), At::Rows)
                }
                (Incoming::Rows(rows), now @ (At::Rows | At::Executing)) => {
                    self.status.count_rows(&rows);
                    bytes += rows.wire_len();
                    (Event::Rows(rows), now)
                }
                (Incoming::Message(message), now) => match (message, now) {
                    (Message::BindComplete, At::Bound(columns)) => {
                        (Event::Columns(self.shape(columns)), At::Executing)
                    }
                    (
                        Message::CommandComplete(body),
                        now @ (At::Start | At::Rows | At::Complete | At::Executing),
                    ) => {
                        let tag = body.tag().map_err(broken)?.as_bytes().to_vec();
                        let now = if matches!(now, At::Executing) { At::Executed } else { At::Complete };
                        (Event::Complete(tag), now)
                    }
                    (Message::CloseComplete, At::Executed) => {
                        at = At::Closed;
                        continue;
                    }
                    (Message::EmptyQueryResponse, At::Start | At::Complete) => (Event::Empty, At::Complete),
                    (Message::ErrorResponse(_), At::Failed | At::Closed) => return Err(out_of_order()),
                    (Message::ErrorResponse(body), _) => (self.error(&body)?, At::Failed),
                    (Message::CopyInResponse(_), At::Start | At::Complete) => {
                        self.put_copy_fail().map_err(broken)?;
                        self.send(listener).await?;
                        return Err(Stopped::Copy);
                    }
                    (Message::CopyOutResponse(_), At::Start | At::Complete) => return Err(Stopped::Copy),
                    (Message::ReadyForQuery(body), now @ (At::Complete | At::Closed | At::Failed)) => {
                        self.status.ready(body.status());
                        return Ok((!matches!(now, At::Failed)).then_some(bytes));
                    }
                    _ => return Err(out_of_order()),
                },
                _ => return Err(out_of_order()),
            };
            listener.tell(event).await?;
            if self.broken().is_some() {
                // The server has said why it ends the session; there is nothing more to read.
                return Ok(None);
            }
            at = now;
        }
    }

    /// Sends what is waiting to be sent.
    async fn send(&mut self, listener: Listener<'_>) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            // What is left unsent stays in the buffer: cancel_and_drain sends it first.
            () = listener.cancel.cancelled() => Err(Stopped::Cancelled),
            sent = self.framed.flush() => sent.map_err(broken),
        }
    }

    /// The next part of an answer. What may come at any time is dealt with here.
    async fn hear(&mut self, listener: Listener<'_>) -> Result<Incoming, Stopped> {
        loop {
            // What has been read already is not waited for.
            let incoming = match self.framed.buffered().map_err(broken)? {
                Some(incoming) if !listener.cancel.is_cancelled() => incoming,
                Some(_) => return Err(Stopped::Cancelled),
                None => tokio::select! {
                    biased;
                    () = listener.cancel.cancelled() => return Err(Stopped::Cancelled),
                    incoming = self.framed.next() => incoming.map_err(broken)?,
                },
            };
            match self.note(incoming) {
                Some(Incoming::Message(Message::NoticeResponse(body))) => {
                    let message = ServerMessage::parse(body.fields()).map_err(broken)?;
                    listener.tell(Event::Notice(Box::new(message))).await?;
                }
                Some(incoming) => return Ok(incoming),
                None => {}
            }
        }
    }

    fn error(&mut self, body: &ErrorResponseBody) -> Result<Event, Stopped> {
        let message = ServerMessage::parse(body.fields()).map_err(broken)?;
        if matches!(message.severity.as_slice(), b"FATAL" | b"PANIC") {
            self.status.lose(quoted(&message.message), false);
        }
        Ok(Event::Error(QueryError::Server(Box::new(message))))
    }

    /// Keeps what a server may say at any time. Gives back what it may not.
    fn note(&mut self, incoming: Incoming) -> Option<Incoming> {
        match incoming {
            Incoming::Notification(notification) => self.status.inbox().put(notification),
            Incoming::LostNotification => self.status.inbox().count_lost(),
            Incoming::Message(Message::ParameterStatus(body)) => self.note_parameter(&body),
            other => return Some(other),
        }
        None
    }

    /// Takes in what the server says between queries: notifications, and its end. Never completes;
    /// dropping it loses nothing.
    pub(crate) async fn idle(&mut self) -> Infallible {
        self.listen(true).await
    }

    async fn listen(&mut self, idle: bool) -> Infallible {
        let mut without_pause = 0;
        while self.broken().is_none() {
            // Nobody waits for any of it: a server that talks and talks is not to take a processor.
            if idle && without_pause == IDLE_MESSAGES {
                without_pause = 0;
                tokio::time::sleep(IDLE_PAUSE).await;
            }
            without_pause += 1;
            let reason = match self.framed.next().await {
                Ok(incoming) => match self.note(incoming) {
                    None | Some(Incoming::Message(Message::NoticeResponse(_))) => continue,
                    Some(Incoming::Message(Message::ErrorResponse(body))) => {
                        match ServerMessage::parse(body.fields()) {
                            Ok(message) => quoted(&message.message),
                            Err(error) => lost(&error),
                        }
                    }
                    Some(_) => OUT_OF_ORDER.into(),
                },
                Err(error) => lost(&error),
            };
            self.status.lose(reason, idle);
        }
        std::future::pending().await
    }

    /// Takes in what the server has said since the last query, without waiting for more. The next one is
    /// about to be sent: if it cannot be, somebody will miss it.
    pub async fn catch_up(&mut self) {
        tokio::select! {
            biased;
            never = self.listen(false) => match never {},
            () = std::future::ready(()) => {}
        }
    }

    /// Brings the session back to where it can take a query, or marks it as broken.
    async fn cancel_and_drain(&mut self) {
        let key = self.cancel_key.clone();
        let stopped = CancellationToken::new();
        let cancel = async {
            if let Some(key) = key {
                key.send_until(&stopped, drop).await;
            }
        };
        let drain = async {
            let drained = self.drain().await;
            stopped.cancel();
            drained
        };
        // A request must be over before the session is used again, lest it hit the next query; if
        // none can be sent, the query may still end by itself within the time.
        let both = async { tokio::join!(cancel, drain).1 };
        let outcome = match tokio::time::timeout(CANCEL_GRACE, both).await {
            Ok(drained) => drained.map_err(|e| lost(&e)),
            Err(_) => Err("the remote query could not be cancelled in time".to_string()),
        };
        if let Err(reason) = outcome {
            self.status.lose(reason, false);
        }
    }

    /// Reads up to ReadyForQuery and throws everything away as it comes: nobody knows how much it is.
    async fn drain(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.put_sync();
        }
        self.framed.flush().await?;
        loop {
            let incoming = self.framed.next_of(HEARD_WHILE_DRAINING).await?;
            if let Some(Incoming::Message(message)) = self.note(incoming) {
                match message {
                    Message::ReadyForQuery(body) => {
                        self.status.ready(body.status());
                        return Ok(());
                    }
                    Message::CopyInResponse(_) => {
                        self.put_copy_fail()?;
                        self.framed.flush().await?;
                    }
                    _ => {}
                }
            }
        }
    }

    fn put_copy_fail(&mut self) -> io::Result<()> {
        frontend::copy_fail("COPY from the client is not supported", self.framed.outgoing())
    }

    fn shape(&self, columns: Vec<Column>) -> ResultShape {
        ResultShape {
            columns,
            date_style: self.parameters.get("DateStyle").cloned(),
            interval_style: self.parameters.get("IntervalStyle").cloned(),
        }
    }

    /// Whether transactions of the session are read-only; `None` if the server would not say.
    pub(crate) async fn is_read_only(&mut self) -> Result<Option<bool>, AttemptError> {
        match (self.parameters.get("default_transaction_read_only"), self.parameters.get("in_hot_standby")) {
            (Some(read_only), Some(standby)) => Ok(Some(read_only == "on" || standby == "on")),
            _ => Ok(self.ask(b"SHOW transaction_read_only").await?.map(|v| v == b"on")),
        }
    }

    /// Whether the server is in recovery; `None` if it would not say.
    pub(crate) async fn is_standby(&mut self) -> Result<Option<bool>, AttemptError> {
        match self.parameters.get("in_hot_standby") {
            Some(standby) => Ok(Some(standby == "on")),
            None => Ok(self.ask(b"SELECT pg_catalog.pg_is_in_recovery()").await?.map(|v| v == b"t")),
        }
    }

    /// Runs a query for one value during login.
    async fn ask(&mut self, sql: &[u8]) -> Result<Option<Vec<u8>>, AttemptError> {
        let rows = self.rows(sql).await?;
        Ok(rows.into_iter().next_back().and_then(|row| row.into_iter().next_back()?))
    }

    /// Runs one query string whose result is small, and returns all its rows as text. Not for a session
    /// that somebody else drives: dropping the future leaves the answer unread.
    ///
    /// # Errors
    /// The server's own error, after which the session goes on; or that it is lost.
    pub async fn rows(&mut self, sql: &[u8]) -> Result<Vec<Vec<Option<Vec<u8>>>>, AttemptError> {
        put_query(&mut self.framed, &Bytes::copy_from_slice(sql));
        self.framed.flush().await?;
        let mut answer = Vec::new();
        let mut bytes = 0;
        let mut failed = None;
        loop {
            match self.framed.next().await? {
                Incoming::Rows(mut rows) => {
                    bytes += rows.wire_len();
                    if answer.len() + rows.remaining() > MAX_ROWS || bytes > MAX_BYTES {
                        return Err(AttemptError::Protocol("a query"));
                    }
                    while rows.remaining() > 0 {
                        let mut row = Vec::new();
                        rows.next_row(|_, value| row.push(value.map(|v| v.bytes().to_vec())))
                            .map_err(|_| AttemptError::Protocol("a query"))?;
                        answer.push(row);
                    }
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    let message = ServerMessage::parse(body.fields())?;
                    let fatal = matches!(message.severity.as_slice(), b"FATAL" | b"PANIC");
                    failed = Some(message.into());
                    if fatal {
                        break;
                    }
                }
                Incoming::Message(Message::ReadyForQuery(_)) => break,
                _ => {}
            }
        }
        failed.map_or(Ok(answer), Err)
    }

    /// Marks the session as of no more use: it is closed without another word.
    pub(crate) fn give_up(&mut self) {
        self.status.lose("the session was closed".into(), false);
    }

    /// Says goodbye and closes, within a second.
    pub async fn close(mut self) {
        if self.broken().is_none() {
            frontend::terminate(self.framed.outgoing());
            let goodbye = async {
                self.framed.flush().await?;
                self.framed.shutdown().await
            };
            // The socket is closed in any case; a server that does not hear us finds out by itself.
            let _ = tokio::time::timeout(CLOSE_GRACE, goodbye).await;
        }
    }
}

/// Who is told of what comes back, until they want no more.
#[derive(Clone, Copy)]
struct Listener<'a> {
    events: &'a Sender<Event>,
    cancel: &'a CancellationToken,
}

impl Listener<'_> {
    async fn tell(self, event: Event) -> Result<(), Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        tokio::select! {
            biased;
            sent = self.events.send(event) => sent.map_err(|_| Stopped::Cancelled),
            () = self.cancel.cancelled() => Err(Stopped::Cancelled),
        }
    }
}

/// Appends a Query message. Own code, because the library's takes UTF-8 only and the session's
/// encoding is whatever the local database has.
fn put_query(framed: &mut Framed, sql: &Bytes) {
    let header = framed.outgoing();
    header.extend_from_slice(b"Q");
    header.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    framed.append(sql.clone());
    framed.outgoing().extend_from_slice(&[0]);
}

const OUT_OF_ORDER: &str = "unexpected message from the server";

fn out_of_order() -> Stopped {
    Stopped::Broken(OUT_OF_ORDER.into())
}

fn broken(error: io::Error) -> Stopped {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Stopped::OutOfMemory,
        _ => Stopped::Broken(lost(&error)),
    }
}

fn lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "server closed the connection unexpectedly".into(),
        _ => AttemptError::Io(io::Error::new(error.kind(), error.to_string())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Loss;
    use secretlink_core::channel;
    use secretlink_core::io_thread::IoThread;
    use tokio::io::AsyncWriteExt;

    const READY: &[u8] = b"Z\0\0\0\x05I";
    const COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
    const COLUMNS: &[u8] = b"T\0\0\0\x06\0\0";
    const ROW: &[u8] = b"D\0\0\0\x06\0\0";
    const ERROR: &[u8] = b"E\0\0\0\x13SERROR\0C22012\0\0";

    /// Whether a session is still usable after each of as many queries as there are answers.
    fn usable_after(answers: &[&[&[u8]]]) -> Vec<bool> {
        let io = IoThread::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, mut server) = tokio::io::duplex(1 << 16);
            let mut connection = Connection::over(Box::new(client));
            let mut usable = Vec::new();
            for answer in answers {
                server.write_all(&answer.concat()).await.unwrap();
                let (events, _receiver) = channel::channel(16, io.waker().clone());
                connection
                    .query(&QueryRequest::from(b"SELECT".to_vec()), &events, &CancellationToken::new())
                    .await;
                usable.push(connection.broken().is_none());
            }
            usable
        })
    }

    #[test]
    fn answers_in_order_leave_the_session_usable() {
        let result = [COLUMNS, ROW, ROW, COMPLETE, COMPLETE, COLUMNS, COMPLETE, READY];
        assert_eq!(usable_after(&[&result, &[ERROR, READY], &[COLUMNS, ROW, ERROR, READY]]), [true; 3]);
    }

    #[test]
    fn answers_out_of_order_break_the_session() {
        for wrong in [
            &[READY][..],
            &[ROW, COMPLETE, READY],
            &[COLUMNS, READY],
            &[COLUMNS, COLUMNS, COMPLETE, READY],
            &[COLUMNS, COMPLETE, ROW, READY],
            &[ERROR, COMPLETE, READY],
            &[ERROR, ERROR, READY],
        ] {
            assert_eq!(usable_after(&[wrong]), [false], "{wrong:?}");
        }
    }

    #[test]
    fn before_a_query_a_server_may_notify_and_end_the_session() {
        let notification = b"A\0\0\0\x0b\0\0\0\x01c\0\0";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = |messages: &[&[u8]]| {
            let said = messages.concat();
            runtime.block_on(async {
                let (client, mut server) = tokio::io::duplex(1 << 16);
                let mut connection = Connection::over(Box::new(client));
                server.write_all(&said).await.unwrap();
                connection.catch_up().await;
                let kept = connection.status().inbox().take().0.len();
                (kept, connection.status().loss().cloned())
            })
        };
        let lost = |reason: &str| Some(Loss { reason: reason.into(), idle: false });
        assert_eq!(said(&[notification, notification]), (2, None));
        assert_eq!(said(&[b"E\0\0\0\x12SFATAL\0Mgone\0\0"]), (0, lost("gone")));
        assert_eq!(said(&[notification, READY]), (1, lost(OUT_OF_ORDER)));
        assert_eq!(said(&[notification, ROW]), (1, lost(OUT_OF_ORDER)));
    }

    #[test]
    fn an_answer_too_many_is_not_taken_for_the_next_querys() {
        assert_eq!(usable_after(&[&[COMPLETE, READY, READY], &[COMPLETE, READY]]), [true, false]);
    }
}
