//! Cursors on remote connections.

use pgrx::prelude::*;

use super::{named_for_query, ok_or_error, unnamed_for_query};
use crate::backend::process::report::OrRaise;
use crate::backend::result::arguments::Arguments;
use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::ServerText;
use crate::connections::Target;
use crate::dblink::cursor;
use crate::error::Error;

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_unnamed(cursorname: ServerText, sql: ServerText) -> ServerText {
    unnamed_for_query().and_then(|t| open(&t, &cursorname, &sql, true)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_unnamed_fail(cursorname: ServerText, sql: ServerText, fail: bool) -> ServerText {
    unnamed_for_query().and_then(|t| open(&t, &cursorname, &sql, fail)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_named(connname: ServerText, cursorname: ServerText, sql: ServerText) -> ServerText {
    named_for_query(connname).and_then(|t| open(&t, &cursorname, &sql, true)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_named_fail(
    connname: ServerText,
    cursorname: ServerText,
    sql: ServerText,
    fail: bool,
) -> ServerText {
    named_for_query(connname).and_then(|t| open(&t, &cursorname, &sql, fail)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_unnamed(cursorname: ServerText) -> ServerText {
    unnamed_for_query().and_then(|t| close(&t, &cursorname, true)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_unnamed_fail(cursorname: ServerText, fail: bool) -> ServerText {
    unnamed_for_query().and_then(|t| close(&t, &cursorname, fail)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_named(connname: ServerText, cursorname: ServerText) -> ServerText {
    named_for_query(connname).and_then(|t| close(&t, &cursorname, true)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_named_fail(connname: ServerText, cursorname: ServerText, fail: bool) -> ServerText {
    named_for_query(connname).and_then(|t| close(&t, &cursorname, fail)).or_raise()
}

fn open(target: &Target, cursor: &ServerText, sql: &ServerText, fail: bool) -> Result<ServerText, Error> {
    Ok(ok_or_error(cursor::open(target, cursor, sql, fail)?))
}

fn close(target: &Target, cursor: &ServerText, fail: bool) -> Result<ServerText, Error> {
    Ok(ok_or_error(cursor::close(target, cursor, fail)?))
}

/// Fetches rows, for all four overloads of `dblink_fetch`.
#[pg_extern(sql = r#"
CREATE FUNCTION dblink_fetch(cursorname text, howmany int) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink_fetch(cursorname text, howmany int, fail boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink_fetch(connname text, cursorname text, howmany int) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
CREATE FUNCTION dblink_fetch(connname text, cursorname text, howmany int, fail boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn dblink_fetch(fcinfo: pg_sys::FunctionCallInfo) {
    fetch(fcinfo).or_raise();
}

fn fetch(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    // SAFETY: fcinfo is that of this call of a function declared SETOF record, and STRICT.
    let (mut sink, arguments) = unsafe { (RowSink::new(fcinfo)?, Arguments::of(fcinfo)) };
    let (fail, count) = arguments.trailing_fail();
    let (target, cursor, howmany) = match count {
        2 => (unnamed_for_query()?, arguments.text(0), arguments.int(1)),
        _ => (named_for_query(arguments.text(0))?, arguments.text(1), arguments.int(2)),
    };
    Ok(cursor::fetch(&target, &cursor, howmany, &mut sink, fail)?)
}
