//! Queries that are sent now and read later.

use pgrx::PgLogLevel;
use secretlink_core::{Report, SqlState};
use secretlink_remote::connection::Event;
use secretlink_remote::error::{AttemptError, QueryError};
use secretlink_remote::query_request::QueryRequest;
use std::cell::Cell;

use super::error::SessionError;
use super::name::ConnectionName;
use super::sent_query::{SentQuery, Step};
use super::{LastError, NextResult, RemoteSession, count_rows, pass_on};
use crate::backend::error::BackendError;
use crate::backend::process::io;
use crate::backend::process::report::RawReport;
use crate::backend::process::wait::WaitEvent;

/// Why a query was not sent, which is no ERROR but a NOTICE.
#[derive(Debug, thiserror::Error)]
#[error("could not send query: {reason}")]
struct NotSent {
    reason: String,
    sqlstate: SqlState,
}

impl Report for NotSent {
    fn sqlstate(&self) -> SqlState {
        self.sqlstate
    }
}

/// The sent query while it is worked on. It goes back to its place also when an ERROR unwinds.
struct Held<'a> {
    place: &'a Cell<Option<SentQuery>>,
    sent: Option<SentQuery>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.place.set(self.sent.take());
    }
}

impl RemoteSession {
    fn hold(&self) -> Held<'_> {
        Held { place: &self.sent, sent: self.sent.take() }
    }

    /// Sends a query whose results are to be read with [`RemoteSession::next_result`]. False, with a NOTICE,
    /// if that is not possible now.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub(crate) fn send(&self, sql: Vec<u8>) -> Result<bool, SessionError> {
        let lost = self.connection.status().loss().map(|loss| QueryError::Lost(loss.reason.clone()));
        let obstacle = match lost {
            Some(lost) => Some((lost.to_string(), lost.sqlstate())),
            None if self.is_occupied()? => {
                Some(("another command is already in progress".into(), SqlState::new("00000")))
            }
            None => None,
        };
        if let Some((reason, sqlstate)) = obstacle {
            self.last_error.replace(Some(LastError::NotSent(reason.clone())));
            RawReport::new(&NotSent { reason, sqlstate }).emit(PgLogLevel::NOTICE);
            return Ok(false);
        }
        self.last_error.take();
        self.sent.set(Some(SentQuery::send(&self.connection, io::thread()?, QueryRequest::from(sql))));
        Ok(true)
    }

    fn is_occupied(&self) -> Result<bool, SessionError> {
        if self.busy.get() {
            return Ok(true);
        }
        match self.end_sent_query() {
            Ok(()) => Ok(false),
            Err(SessionError::Pending) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether a result of the query that was sent is still to be waited for.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get() || self.hold().sent.as_mut().is_some_and(SentQuery::is_busy)
    }

    /// Whether results of the query that was sent are there and have not been read.
    pub(super) fn has_results(&self) -> bool {
        self.hold().sent.as_mut().is_some_and(|sent| !sent.seems_over())
    }

    /// Gives each piece of the next result to `take`, and its notices to the client. A result of which
    /// `take` refuses a piece counts as read.
    ///
    /// # Errors
    /// Those of `take`, and if a result is being read at the moment or reading it was interrupted.
    pub(crate) fn next_result<E: From<SessionError> + From<BackendError>>(
        &self,
        name: &ConnectionName,
        mut take: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<NextResult, E> {
        let _busy = self.occupy()?;
        let mut held = self.hold();
        let Some(sent) = &mut held.sent else {
            let loss = self.connection.status().loss();
            return Ok(loss
                .map_or(NextResult::None, |loss| NextResult::Failed(QueryError::Lost(loss.reason.clone()))));
        };
        sent.begin()?;
        loop {
            match sent.step()? {
                Step::Over => {
                    held.sent = None;
                    return Ok(NextResult::None);
                }
                Step::Event(Event::Error(error)) => {
                    self.note_error(&error, &sent.sql);
                    return Ok(NextResult::Failed(error));
                }
                Step::Event(Event::Notice(message)) => pass_on(&message, name),
                Step::Event(event @ (Event::Complete(_) | Event::Empty)) => {
                    take(event)?;
                    return Ok(NextResult::Complete);
                }
                Step::Event(Event::Columns(shape)) => {
                    take(Event::Columns(shape.clone()))?;
                    sent.taken(Some(shape));
                }
                Step::Event(event) => {
                    if let Event::Rows(batch) = &event {
                        count_rows(batch);
                    }
                    take(event)?;
                    sent.taken(None);
                }
            }
        }
    }

    /// Asks the server to stop what it does for this session; what went wrong with asking, if anything.
    /// What is still to be read of a query that was sent may be thrown away from now on.
    ///
    /// # Errors
    /// If the I/O thread has gone.
    pub(crate) fn cancel(&self) -> Result<Option<String>, SessionError> {
        if let Some(loss) = self.connection.status().loss() {
            return Ok(Some(QueryError::Lost(loss.reason.clone()).to_string()));
        }
        if let Some(sent) = &mut self.hold().sent {
            sent.unwanted = true;
        }
        let mut answer = self.connection.stop(io::thread()?);
        let sent = io::recv(WaitEvent::Query, &mut answer)?;
        Ok(sent.err().map(|error| AttemptError::Io(error).to_string()))
    }

    /// Ends with a sent query of which everything has been read, or that somebody has cancelled.
    ///
    /// # Errors
    /// If there are results that have not been read.
    pub(crate) fn end_sent_query(&self) -> Result<(), SessionError> {
        let mut held = self.hold();
        let Some(sent) = &mut held.sent else { return Ok(()) };
        if sent.unwanted || sent.is_over()? {
            held.sent = None;
            return Ok(());
        }
        Err(SessionError::Pending)
    }
}
