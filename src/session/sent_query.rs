//! A query that `dblink_send_query` has sent and whose results are still to be read.

use pgrx::pg_sys;
use secretlink_core::io_thread::IoThread;
use secretlink_remote::connection::{Event, ResultShape};
use secretlink_remote::connection_handle::{ConnectionHandle, Query};
use secretlink_remote::query_request::{QueryRequest, QueryText};
use std::time::Duration;

use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::session::error::SessionError;

/// How long to wait for the end of an answer whose last result has been read. The server sends both
/// at once, but they need not arrive at once.
const END_GRACE: Duration = Duration::from_secs(1);

/// The query. Dropping it cancels what still runs.
pub(crate) struct SentQuery {
    query: Query,
    /// The query string.
    pub sql: QueryText,
    /// A piece of the answer that is to be read again, before what the channel has.
    again: Option<Event>,
    at: At,
    /// Whether a result has been read.
    some_read: bool,
    /// Whether somebody has asked the server to stop it, so that the rest may be thrown away.
    pub unwanted: bool,
}

/// Where reading stopped.
enum At {
    /// Before a result.
    Start,
    /// Behind the head of a result: no row of it has been read.
    Head(ResultShape),
    /// Among the rows of a result.
    Rows,
    /// In a result of which the rest is of no use: a piece of it could not be taken.
    Rest,
}

/// A step of reading.
pub(crate) enum Step {
    /// A piece of the answer, not yet [`SentQuery::taken`].
    Event(Event),
    /// The answer has been read to its end.
    Over,
}

impl SentQuery {
    /// Sends a query. Of what arrives before it is read, `work_mem` is kept; then the server is held
    /// back.
    pub(crate) fn send(remote: &ConnectionHandle, io: &IoThread, request: QueryRequest) -> SentQuery {
        // SAFETY: reads a setting, in kilobytes, on the backend's thread.
        let kilobytes = u32::try_from(unsafe { pg_sys::work_mem }).unwrap_or(0);
        SentQuery {
            sql: request.sql.clone(),
            query: remote.send(io, request, kilobytes.saturating_mul(1024)),
            again: None,
            at: At::Start,
            some_read: false,
            unwanted: false,
        }
    }

    /// Whether reading the next result would wait. One that is larger than the room for it is there
    /// when the room is full.
    pub(crate) fn is_busy(&mut self) -> bool {
        let arrived = self.query.events.arrived();
        let ended = self.again.iter().chain(arrived).any(ends_result);
        !ended && !self.query.events.is_full()
    }

    /// Whether everything has been read, as far as that can be known without waiting.
    pub(crate) fn seems_over(&mut self) -> bool {
        let arrived = self.query.events.arrived();
        let next = self.again.iter().chain(arrived).next();
        self.some_read && matches!(self.at, At::Start) && matches!(next, Some(Event::Done))
    }

    /// Whether everything has been read. Of several results one may be known to be the last only when
    /// the end has come.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub(crate) fn is_over(&mut self) -> Result<bool, SessionError> {
        if self.some_read && matches!(self.at, At::Start) && self.again.is_none() {
            self.again = io::recv_within(WaitEvent::Query, &mut self.query.events, END_GRACE)?;
        }
        Ok(self.seems_over())
    }

    /// Gets ready to read the next result.
    ///
    /// # Errors
    /// If reading one was interrupted, so that rows of it are lost. The next call goes on behind it.
    pub(crate) fn begin(&mut self) -> Result<(), SessionError> {
        match std::mem::replace(&mut self.at, At::Start) {
            At::Start => Ok(()),
            At::Head(shape) => {
                self.again = Some(Event::Columns(shape));
                Ok(())
            }
            At::Rest => loop {
                self.at = At::Rest;
                let event = self.next()?;
                let ends_result = ends_result(&event);
                self.at = At::Start;
                match event {
                    // These are to be told yet.
                    Event::Error(_) | Event::Done => {
                        self.again = Some(event);
                        return Ok(());
                    }
                    _ if ends_result => return Ok(()),
                    _ => {}
                }
            },
            At::Rows => {
                self.at = At::Rest;
                Err(SessionError::ResultInterrupted)
            }
        }
    }

    /// The next event of the result. What an ERROR while the caller deals with it leaves behind is the
    /// rest of a result that is of no use.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub(crate) fn step(&mut self) -> Result<Step, SessionError> {
        Ok(match self.next()? {
            Event::Done => Step::Over,
            event => {
                self.at = match &event {
                    event if ends_result(event) => At::Start,
                    Event::Notice(_) => return Ok(Step::Event(event)),
                    _ => At::Rest,
                };
                self.some_read = true;
                Step::Event(event)
            }
        })
    }

    /// The caller has dealt with the head of a result, or with rows.
    pub(crate) fn taken(&mut self, head: Option<ResultShape>) {
        self.at = head.map_or(At::Rows, At::Head);
    }

    fn next(&mut self) -> Result<Event, SessionError> {
        match self.again.take() {
            Some(event) => Ok(event),
            None => Ok(io::recv(WaitEvent::Query, &mut self.query.events)?),
        }
    }
}

fn ends_result(event: &Event) -> bool {
    matches!(event, Event::Complete(_) | Event::Empty | Event::Error(_) | Event::Done)
}
