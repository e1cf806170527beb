//! Running queries and commands.

use pgrx::prelude::*;
use secretlink_remote::connection::Event;
use secretlink_remote::error::QueryError;
use secretlink_remote::request::Request;

use super::{named_or_made, unnamed_for_query};
use crate::backend::process::report::OrRaise;
use crate::backend::result::arguments::Arguments;
use crate::backend::result::guc_scope::GucScope;
use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::ServerText;
use crate::connections::Target;
use crate::error::Error;
use crate::session::{self, NextResult};

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_named(connname: ServerText, sql: ServerText) -> ServerText {
    named_or_made(connname).and_then(|t| exec(&t, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_named_fail(connname: ServerText, sql: ServerText, fail: bool) -> ServerText {
    named_or_made(connname).and_then(|t| exec(&t, sql, fail)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_unnamed(sql: ServerText) -> ServerText {
    unnamed_for_query().and_then(|t| exec(&t, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_unnamed_fail(sql: ServerText, fail: bool) -> ServerText {
    unnamed_for_query().and_then(|t| exec(&t, sql, fail)).or_raise()
}

/// The last statement's command tag; `ERROR` if it failed and may.
fn exec(target: &Target, sql: ServerText, fail: bool) -> Result<ServerText, Error> {
    match collect(target, sql.0, None)? {
        Ok(LastResult::Command(tag)) => Ok(ServerText(tag)),
        Ok(LastResult::Rows) => Err(Error::ResultsNotAllowed),
        Err(error) => {
            session::report_failure(&error, &target.name, "while executing command", fail);
            Ok(ServerText(b"ERROR".to_vec()))
        }
    }
}

/// All four overloads of `dblink`; which one was called is seen from the arguments, as in
/// dblink_record_internal.
#[pg_extern(sql = r#"
CREATE FUNCTION dblink(connname text, sql text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink(connname text, sql text, fail boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink(sql text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink(sql text, fail boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn dblink_record(fcinfo: pg_sys::FunctionCallInfo) {
    record(fcinfo).or_raise();
}

fn record(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    // SAFETY: fcinfo is that of this call of a function declared SETOF record, and STRICT.
    let (mut sink, arguments) = unsafe { (RowSink::new(fcinfo)?, Arguments::of(fcinfo)) };
    let (fail, count) = arguments.trailing_fail();
    let (target, sql) = match count {
        1 => (unnamed_for_query()?, arguments.text(0)),
        _ => (named_or_made(arguments.text(0))?, arguments.text(1)),
    };
    match collect(&target, sql.0, Some(&mut sink))? {
        Ok(LastResult::Rows) => {}
        Ok(LastResult::Command(tag)) => sink.status(&tag)?,
        Err(error) => session::report_failure(&error, &target.name, "while executing query", fail),
    }
    Ok(())
}

/// What the last statement of a query string gave; of several, that one's result counts.
pub(super) enum LastResult {
    /// Rows, which are in the sink.
    Rows,
    /// A command tag.
    Command(Vec<u8>),
}

/// Runs a query string and puts rows into `sink`, or ignores them. After a remote error the sink is
/// empty, whatever came before the error.
pub(super) fn collect(
    target: &Target,
    sql: Vec<u8>,
    mut sink: Option<&mut RowSink>,
) -> Result<Result<LastResult, QueryError>, Error> {
    let local_types = sink.as_deref_mut().map(RowSink::local_types).unwrap_or_default();
    let request = Request { local_types, ..Request::from(sql) };
    let mut answer = Answer::into_sink(sink);
    let failure = target.session().query(request, &target.name, |event| answer.take(event))?;
    Ok(answer.end(failure))
}

/// As [`collect`], for the next result of the query that was sent; `None` if there is no more.
pub(super) fn collect_next(
    target: &Target,
    sink: &mut RowSink,
) -> Result<Option<Result<LastResult, QueryError>>, Error> {
    let mut answer = Answer::into_sink(Some(sink));
    Ok(match target.session().next_result(&target.name, |event| answer.take(event))? {
        NextResult::Complete => Some(answer.end(None)),
        NextResult::Failed(error) => Some(answer.end(Some(error))),
        NextResult::None => None,
    })
}

/// What has come of an answer, or of one result of it.
struct Answer<'a> {
    sink: Option<&'a mut RowSink>,
    /// The remote settings under which the rows are read.
    scope: Option<GucScope>,
    in_rows: bool,
    last: Result<LastResult, QueryError>,
}

impl<'a> Answer<'a> {
    fn into_sink(sink: Option<&'a mut RowSink>) -> Answer<'a> {
        Answer { sink, scope: None, in_rows: false, last: Err(QueryError::Empty) }
    }

    fn take(&mut self, event: Event) -> Result<(), Error> {
        match (event, self.sink.as_deref_mut()) {
            (Event::Columns(shape), sink) => {
                self.in_rows = true;
                if let Some(sink) = sink {
                    sink.begin(&shape.columns)?;
                    // The one before ends first: scopes are nested.
                    self.scope = None;
                    self.scope = Some(GucScope::follow(&shape));
                }
            }
            (Event::Rows(batch), Some(sink)) => sink.put(batch)?,
            (Event::Complete(tag), _) => {
                self.last = Ok(match std::mem::take(&mut self.in_rows) {
                    true => LastResult::Rows,
                    false => LastResult::Command(tag),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn end(self, failure: Option<QueryError>) -> Result<LastResult, QueryError> {
        drop(self.scope);
        let result = failure.map_or(self.last, Err);
        if let (Err(_), Some(sink)) = (&result, self.sink) {
            sink.discard();
        }
        result
    }
}
