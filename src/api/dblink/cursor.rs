//! Cursors on remote connections.
//!
//! A cursor needs a transaction: `dblink_open` begins one where there is none, and the `dblink_close`
//! of the last cursor in it commits it.

use pgrx::prelude::*;

use super::query::{LastResult, collect};
use super::{named_for_query, ok, unnamed_for_query};
use crate::backend::process::report::OrRaise;
use crate::backend::result::arguments::Arguments;
use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::ServerText;
use crate::connections::Target;
use crate::error::Error;
use crate::session::{self, Cursors};

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_unnamed(cursorname: ServerText, sql: ServerText) -> ServerText {
    unnamed_for_query().and_then(|t| open(&t, cursorname, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_unnamed_fail(cursorname: ServerText, sql: ServerText, fail: bool) -> ServerText {
    unnamed_for_query().and_then(|t| open(&t, cursorname, sql, fail)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_named(connname: ServerText, cursorname: ServerText, sql: ServerText) -> ServerText {
    named_for_query(connname).and_then(|t| open(&t, cursorname, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_open", volatile, parallel_restricted, strict)]
fn dblink_open_named_fail(
    connname: ServerText,
    cursorname: ServerText,
    sql: ServerText,
    fail: bool,
) -> ServerText {
    named_for_query(connname).and_then(|t| open(&t, cursorname, sql, fail)).or_raise()
}

fn open(target: &Target, cursor: ServerText, sql: ServerText, fail: bool) -> Result<ServerText, Error> {
    let doing = format!("while opening cursor \"{}\"", cursor.to_utf8());
    // Before anything is counted.
    target.session().settle()?;
    let cursors = target.session().cursors();
    if !target.session().in_transaction() {
        if !command(target, b"BEGIN".to_vec(), &doing, fail)? {
            return Ok(error());
        }
        cursors.set(Cursors { own_transaction: true, open: 0 });
    }
    // Counted before it is opened, as in contrib: who catches the error closes it all the same.
    let before = cursors.get();
    cursors.set(Cursors { open: before.open + u32::from(before.own_transaction), ..before });
    let declare = [b"DECLARE ", cursor.0.as_slice(), b" CURSOR FOR ", &sql.0].concat();
    Ok(if command(target, declare, &doing, fail)? { ok() } else { error() })
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_unnamed(cursorname: ServerText) -> ServerText {
    unnamed_for_query().and_then(|t| close(&t, cursorname, true)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_unnamed_fail(cursorname: ServerText, fail: bool) -> ServerText {
    unnamed_for_query().and_then(|t| close(&t, cursorname, fail)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_named(connname: ServerText, cursorname: ServerText) -> ServerText {
    named_for_query(connname).and_then(|t| close(&t, cursorname, true)).or_raise()
}

#[pg_extern(name = "dblink_close", volatile, parallel_restricted, strict)]
fn dblink_close_named_fail(connname: ServerText, cursorname: ServerText, fail: bool) -> ServerText {
    named_for_query(connname).and_then(|t| close(&t, cursorname, fail)).or_raise()
}

fn close(target: &Target, cursor: ServerText, fail: bool) -> Result<ServerText, Error> {
    let doing = format!("while closing cursor \"{}\"", cursor.to_utf8());
    if !command(target, [b"CLOSE ", cursor.0.as_slice()].concat(), &doing, fail)? {
        return Ok(error());
    }
    let cursors = target.session().cursors();
    let before = cursors.get();
    if before.own_transaction {
        let open = before.open.saturating_sub(1);
        cursors.set(Cursors { own_transaction: open > 0, open });
        if open == 0 && !command(target, b"COMMIT".to_vec(), &doing, fail)? {
            return Ok(error());
        }
    }
    Ok(ok())
}

/// Runs a command; whether it worked. If it did not, that has been reported.
fn command(target: &Target, sql: Vec<u8>, doing: &str, fail: bool) -> Result<bool, Error> {
    match collect(target, sql, None)? {
        Ok(_) => Ok(true),
        Err(error) => {
            session::report_failure(&error, &target.name, doing, fail);
            Ok(false)
        }
    }
}

fn error() -> ServerText {
    ServerText(b"ERROR".to_vec())
}

/// All four overloads of `dblink_fetch`.
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
    let sql = [format!("FETCH {howmany} FROM ").as_bytes(), &cursor.0].concat();
    match collect(&target, sql, Some(&mut sink))? {
        Ok(LastResult::Rows) => {}
        Ok(LastResult::Command(_)) => return Err(Error::NoSuchCursor(cursor.to_utf8())),
        Err(error) => {
            let doing = format!("while fetching from cursor \"{}\"", cursor.to_utf8());
            session::report_failure(&error, &target.name, &doing, fail);
        }
    }
    Ok(())
}
