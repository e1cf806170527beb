//! Running queries and commands.

use pgrx::prelude::*;

use super::{named_or_made, ok_or_error, unnamed_for_query};
use crate::backend::process::report::OrRaise;
use crate::backend::result::arguments::Arguments;
use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::ServerText;
use crate::connections::Target;
use crate::dblink::collect::{LastResult, collect};
use crate::dblink::error::DblinkError;
use crate::error::Error;
use crate::session;

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
        Ok(LastResult::Rows) => Err(DblinkError::ResultsNotAllowed.into()),
        Err(error) => {
            session::report_failure(&error, &target.name, "while executing command", fail);
            Ok(ok_or_error(false))
        }
    }
}

/// Runs a query, for all four overloads of `dblink`; which one was called is seen from the arguments, as in
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
