//! The functions of contrib dblink: same names, overloads, results, texts and SQLSTATEs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

use pgrx::prelude::*;
use secretlink_remote::connection::Event;
use secretlink_remote::conninfo::{ConnInfo, Environment, Options};
use secretlink_remote::error::QueryError;
use std::rc::Rc;

use crate::backend::guc_scope::GucScope;
use crate::backend::report::OrRaise;
use crate::backend::role;
use crate::backend::text::ServerText;
use crate::backend::tuplestore::RowSink;
use crate::connections::{self, ConnectionName, Origin, Session};
use crate::error::Error;

#[pg_extern(name = "dblink_connect", volatile, parallel_restricted, strict)]
fn dblink_connect_unnamed(connstr: ServerText) -> ServerText {
    connect(None, connstr).or_raise()
}

#[pg_extern(name = "dblink_connect", volatile, parallel_restricted, strict)]
fn dblink_connect_named(connname: ServerText, connstr: ServerText) -> ServerText {
    connect(Some(connname), connstr).or_raise()
}

fn connect(name: Option<ServerText>, connstr: ServerText) -> Result<ServerText, Error> {
    let info = conninfo(connstr)?;
    let name = name.map(ConnectionName::create);
    if name.as_ref().is_some_and(connections::exists) {
        return Err(Error::DuplicateName);
    }
    connections::keep(name, Session::open(info, false, true)?)?;
    Ok(ok())
}

#[pg_extern(name = "dblink_disconnect", volatile, parallel_restricted, strict)]
fn dblink_disconnect_unnamed() -> ServerText {
    connections::disconnect(None).map(|()| ok()).or_raise()
}

#[pg_extern(name = "dblink_disconnect", volatile, parallel_restricted, strict)]
fn dblink_disconnect_named(connname: ServerText) -> ServerText {
    connections::disconnect(Some(&ConnectionName::find(connname))).map(|()| ok()).or_raise()
}

/// NULL when there are none.
#[pg_extern(volatile, parallel_restricted)]
fn dblink_get_connections() -> Option<Vec<ServerText>> {
    let names: Vec<_> = connections::names().into_iter().map(ConnectionName::into_text).collect();
    (!names.is_empty()).then_some(names)
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_named(connname: ServerText, sql: ServerText) -> ServerText {
    target(connname).and_then(|t| exec(&t, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_named_fail(connname: ServerText, sql: ServerText, fail: bool) -> ServerText {
    target(connname).and_then(|t| exec(&t, sql, fail)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_unnamed(sql: ServerText) -> ServerText {
    Target::unnamed().and_then(|t| exec(&t, sql, true)).or_raise()
}

#[pg_extern(name = "dblink_exec", volatile, parallel_restricted, strict)]
fn dblink_exec_unnamed_fail(sql: ServerText, fail: bool) -> ServerText {
    Target::unnamed().and_then(|t| exec(&t, sql, fail)).or_raise()
}

/// The last statement's command tag; `ERROR` if it failed and may.
fn exec(target: &Target, sql: ServerText, fail: bool) -> Result<ServerText, Error> {
    // Of several statements the last one's result counts.
    let (mut in_rows, mut rows, mut empty) = (false, false, false);
    let mut tag = Vec::new();
    let failure = target.session.query(sql.0, &target.origin, |event| {
        match event {
            Event::Columns(_) => in_rows = true,
            Event::Complete(complete) => {
                rows = std::mem::take(&mut in_rows);
                tag = complete;
            }
            Event::Empty => empty = true,
            _ => {}
        }
        Ok(())
    })?;
    if let Some(error) = failure.or(empty.then_some(QueryError::Empty)) {
        connections::report_failure(&error, &target.origin, "while executing command", fail);
        return Ok(ServerText(b"ERROR".to_vec()));
    }
    if rows { Err(Error::ResultsNotAllowed) } else { Ok(ServerText(tag)) }
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
    // SAFETY: fcinfo is that of this call of a function declared SETOF record.
    let mut sink = unsafe { RowSink::new(fcinfo) }?;
    // SAFETY: as declared above, all STRICT: (text, text, bool), (text, text), (text, bool), (text).
    let (first, second, fail) = unsafe {
        let text =
            |n| pgrx::fcinfo::pg_getarg::<ServerText>(fcinfo, n).unwrap_or_else(|| ServerText(Vec::new()));
        let flag = |n| pgrx::fcinfo::pg_getarg::<bool>(fcinfo, n).unwrap_or(true);
        match (*fcinfo).nargs {
            1 => (text(0), None, true),
            2 if pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 1) == pg_sys::BOOLOID => {
                (text(0), None, flag(1))
            }
            2 => (text(0), Some(text(1)), true),
            _ => (text(0), Some(text(1)), flag(2)),
        }
    };
    let (target, sql) = match second {
        Some(sql) => (target(first)?, sql),
        None => (Target::unnamed()?, first),
    };
    let mut scope = None;
    let mut in_rows = false;
    let mut tag = None;
    let mut empty = false;
    let failure = target.session.query(sql.0, &target.origin, |event| {
        match event {
            Event::Columns(shape) => {
                sink.begin(shape.columns)?;
                scope = None;
                scope = Some(GucScope::follow(&shape));
                in_rows = true;
            }
            Event::Rows(batch) => sink.put(batch)?,
            Event::Complete(complete) => {
                tag = (!in_rows).then_some(complete);
                in_rows = false;
            }
            Event::Empty => empty = true,
            _ => {}
        }
        Ok(())
    })?;
    drop(scope);
    match (failure.or(empty.then_some(QueryError::Empty)), tag) {
        (Some(error), _) => {
            // With fail => false the result is empty, whatever came before the error.
            sink.discard();
            connections::report_failure(&error, &target.origin, "while executing query", fail);
        }
        (None, Some(tag)) => sink.status(&tag),
        (None, None) => {}
    }
    Ok(())
}

/// The connection that a function works on.
struct Target {
    session: Rc<Session>,
    origin: Origin,
}

impl Target {
    fn unnamed() -> Result<Target, Error> {
        let (session, origin) = connections::unnamed()?;
        Ok(Target { session, origin })
    }
}

/// An open connection of that name, or else one made for this call alone, with the name taken for a
/// connection string.
fn target(name_or_connstr: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(ServerText(name_or_connstr.0.clone()));
    if let Some((session, origin)) = connections::named(&name) {
        return Ok(Target { session, origin });
    }
    let session = Session::open(conninfo(name_or_connstr)?, false, true)?;
    Ok(Target { session: Rc::new(session), origin: connections::transient() })
}

/// A connection string, checked by contrib dblink's rule: who is not a superuser gives a password
/// in it, so that none is picked up from the server's own files and environment.
fn conninfo(connstr: ServerText) -> Result<ConnInfo, Error> {
    let options = Options::parse(&connstr.into_utf8()).map_err(Error::ConnectionString)?;
    if !role::is_superuser() && !options.has_password() {
        return Err(Error::PasswordNotGiven);
    }
    options.resolve(&Environment::from_process()).map_err(Error::ConnectionString)
}

fn ok() -> ServerText {
    ServerText(b"OK".to_vec())
}
