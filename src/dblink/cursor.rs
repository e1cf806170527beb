//! Cursors on remote connections.
//!
//! A cursor needs a transaction: opening one begins it where there is none, and closing the last cursor in it
//! commits it.

use secretlink_core::memory::concat;

use crate::backend::result::tuplestore::RowSink;
use crate::backend::text::ServerText;
use crate::connections::Target;
use crate::dblink::collect::{LastResult, collect};
use crate::dblink::error::DblinkError;
use crate::session::{self, Cursors};

/// The name of a cursor as messages have it: cut as the server cuts it. An argument may have any length.
fn shown(cursor: &ServerText) -> String {
    let start = cursor.0.iter().copied().take(LONG_NAME).collect();
    ServerText(ServerText(start).into_identifier(false).into_bytes()).to_utf8()
}

/// Longer than any identifier.
const LONG_NAME: usize = 256;

/// Opens a cursor. Returns whether it worked; if it did not and may, that has been reported.
///
/// # Errors
/// If the session cannot be asked.
pub(crate) fn open(
    target: &Target,
    cursor: &ServerText,
    sql: &ServerText,
    fail: bool,
) -> Result<bool, DblinkError> {
    let doing = format!("while opening cursor \"{}\"", shown(cursor));
    // Before anything is counted.
    target.session().end_sent_query()?;
    let cursors = target.session().cursors();
    if !target.session().in_transaction() {
        if !command(target, b"BEGIN".to_vec(), &doing, fail)? {
            return Ok(false);
        }
        cursors.set(Cursors { own_transaction: true, open: 0 });
    }
    // Counted before it is opened, as in contrib: who catches the error closes it all the same.
    let before = cursors.get();
    cursors.set(Cursors { open: before.open + u32::from(before.own_transaction), ..before });
    let declare = concat(&[b"DECLARE ", &cursor.0, b" CURSOR FOR ", &sql.0])?;
    command(target, declare, &doing, fail)
}

/// Closes a cursor. Returns as [`open`].
///
/// # Errors
/// If the session cannot be asked.
pub(crate) fn close(target: &Target, cursor: &ServerText, fail: bool) -> Result<bool, DblinkError> {
    let doing = format!("while closing cursor \"{}\"", shown(cursor));
    if !command(target, concat(&[b"CLOSE ", &cursor.0])?, &doing, fail)? {
        return Ok(false);
    }
    let cursors = target.session().cursors();
    let before = cursors.get();
    if before.own_transaction {
        let open = before.open.saturating_sub(1);
        cursors.set(Cursors { own_transaction: open > 0, open });
        if open == 0 && !command(target, b"COMMIT".to_vec(), &doing, fail)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fetches rows into `sink`.
///
/// # Errors
/// If there is no such cursor, or the session cannot be asked.
pub(crate) fn fetch(
    target: &Target,
    cursor: &ServerText,
    howmany: i32,
    sink: &mut RowSink,
    fail: bool,
) -> Result<(), DblinkError> {
    let sql = concat(&[format!("FETCH {howmany} FROM ").as_bytes(), &cursor.0])?;
    match collect(target, sql, Some(sink))? {
        Ok(LastResult::Rows) => Ok(()),
        Ok(LastResult::Command(_)) => Err(DblinkError::NoSuchCursor(shown(cursor))),
        Err(error) => {
            let doing = format!("while fetching from cursor \"{}\"", shown(cursor));
            session::report_failure(&error, &target.name, &doing, fail);
            Ok(())
        }
    }
}

/// Runs a command; whether it worked. If it did not, that has been reported.
fn command(target: &Target, sql: Vec<u8>, doing: &str, fail: bool) -> Result<bool, DblinkError> {
    match collect(target, sql, None)? {
        Ok(_) => Ok(true),
        Err(error) => {
            session::report_failure(&error, &target.name, doing, fail);
            Ok(false)
        }
    }
}
