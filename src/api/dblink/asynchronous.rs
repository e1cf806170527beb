//! Sending a query now and reading its results later.

use pgrx::prelude::*;

use super::{named, named_for_query, ok};
use crate::backend::process::report::OrRaise;
use crate::backend::result::arguments::Arguments;
use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::{ServerText, Text};
use crate::dblink::collect::{LastResult, collect_next};
use crate::error::Error;
use crate::session;

/// 1, or 0 and a NOTICE if the query could not be sent.
#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_send_query(connname: ServerText, sql: ServerText) -> i32 {
    named_for_query(connname).and_then(|t| Ok(t.session().send(sql.0)?)).map(i32::from).or_raise()
}

/// 1 if `dblink_get_result` would wait, else 0.
#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_is_busy(connname: ServerText) -> i32 {
    named(connname).map(|t| i32::from(t.session().is_busy())).or_raise()
}

/// `OK`, or why the server could not be asked.
#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_cancel_query(connname: ServerText) -> Text {
    let failure = named(connname).and_then(|t| Ok(t.session().cancel()?)).or_raise();
    Text(failure.unwrap_or_else(|| "OK".into()))
}

/// `OK`, or what went wrong with the last query.
#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_error_message(connname: ServerText) -> ServerText {
    named(connname).map(|t| t.session().error_message().unwrap_or_else(ok)).or_raise()
}

/// Gets the next result, for both overloads of `dblink_get_result`.
#[pg_extern(sql = r#"
CREATE FUNCTION dblink_get_result(connname text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink_get_result(connname text, fail boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn dblink_get_result(fcinfo: pg_sys::FunctionCallInfo) {
    get_result(fcinfo).or_raise();
}

fn get_result(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    // SAFETY: fcinfo is that of this call of a function declared SETOF record, and STRICT.
    let (mut sink, arguments) = unsafe { (RowSink::new(fcinfo)?, Arguments::of(fcinfo)) };
    let (fail, _) = arguments.trailing_fail();
    let target = named(arguments.text(0))?;
    match collect_next(&target, &mut sink)? {
        None | Some(Ok(LastResult::Rows)) => {}
        Some(Ok(LastResult::Command(tag))) => sink.status(&tag)?,
        Some(Err(error)) => {
            session::report_failure(&error, &target.name, "while executing query", fail);
        }
    }
    Ok(())
}
