//! Notifications that a remote session listens for.

use pgrx::prelude::*;
use secretlink_core::{Report, SqlState};
use secretlink_remote::error::QueryError;

use super::named;
use crate::backend::process::report::{OrRaise, RawReport};
use crate::backend::text::{self, ServerText};
use crate::connections::{self, Target};
use crate::session;
use crate::session::name::ConnectionName;

/// Notifications of the unnamed connection; none if it is not open, as in contrib.
#[pg_extern(sql = r#"
CREATE FUNCTION dblink_get_notify(OUT notify_name text, OUT be_pid int, OUT extra text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn dblink_get_notify_unnamed()
-> TableIterator<'static, (name!(notify_name, ServerText), name!(be_pid, i32), name!(extra, ServerText))> {
    TableIterator::new(
        connections::get(&ConnectionName::Unnamed).map_or_else(|_| Vec::new(), |target| fetch(&target)),
    )
}

/// Notifications of a named connection. The argument is called as in contrib.
#[pg_extern(sql = r#"
CREATE FUNCTION dblink_get_notify(conname text, OUT notify_name text, OUT be_pid int, OUT extra text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn dblink_get_notify_named(
    conname: ServerText,
) -> TableIterator<'static, (name!(notify_name, ServerText), name!(be_pid, i32), name!(extra, ServerText))> {
    TableIterator::new(fetch(&named(conname).or_raise()))
}

/// Fetches everything that has come and was not fetched yet. When nothing more can come, that is an error.
fn fetch(target: &Target) -> Vec<(ServerText, i32, ServerText)> {
    let status = target.session().status();
    // Before the notifications are taken: those that came before the end are not to be missed.
    let loss = status.loss().cloned();
    let (kept, dropped) = status.inbox().take();
    if dropped > 0 {
        RawReport::new(&Dropped(dropped)).emit(PgLogLevel::WARNING);
    }
    if let (Some(loss), true) = (loss, kept.is_empty()) {
        let error = QueryError::Lost(loss.reason);
        session::report_failure(&error, &target.name, "while fetching notifications", true);
    }
    let text = |bytes: &[u8]| ServerText(text::verified(bytes).into_bytes());
    kept.into_iter().map(|n| (text(&n.channel), n.backend_pid, text(&n.payload))).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("{0} notifications had no room and were dropped")]
struct Dropped(u64);

impl Report for Dropped {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("01000")
    }

    fn hint(&self) -> Option<String> {
        Some("Call dblink_get_notify more often.".into())
    }
}
