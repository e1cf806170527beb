//! The view `remote_connections`.

use pgrx::prelude::*;

use super::bigint;
use crate::backend::text::{ServerText, to_server};
use crate::connections;

/// The connections of this session. The one without a name has NULL for it, since an empty name is a
/// name like any other.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn remote_connection() -> TableIterator<
    'static,
    (
        name!(name, Option<ServerText>),
        name!(host, ServerText),
        name!(port, i32),
        name!(database, ServerText),
        name!(username, ServerText),
        name!(secret, Option<ServerText>),
        name!(tls_version, Option<ServerText>),
        name!(tls_cipher, Option<ServerText>),
        name!(backend_pid, i32),
        name!(state, ServerText),
        name!(in_transaction, bool),
        name!(connected_at, TimestampWithTimeZone),
        name!(queries, i64),
        name!(rows, i64),
        name!(bytes, i64),
    ),
> {
    TableIterator::new(connections::all().into_iter().map(|(name, entry)| {
        let session = &entry.session;
        let (facts, counts) = (session.facts(), session.status().counts());
        (
            name.into_text(),
            shown(&facts.host),
            i32::from(facts.port),
            shown(&facts.dbname),
            shown(&facts.user),
            entry.recipe.secret_id().map(shown),
            facts.tls.as_ref().map(|tls| shown(tls.version)),
            facts.tls.as_ref().map(|tls| shown(&tls.cipher)),
            facts.backend_pid,
            shown(session.state()),
            session.in_transaction(),
            session.opened(),
            bigint(counts.queries),
            bigint(counts.rows),
            bigint(counts.bytes),
        )
    }))
}

// The function is one thing and what people see another, which can have columns added to it.
extension_sql!(
    "CREATE VIEW remote_connections AS
        SELECT name, host, port, database, username, secret, tls_version, tls_cipher, backend_pid, state,
               in_transaction, connected_at, queries, rows, bytes
        FROM remote_connection();
     GRANT SELECT ON remote_connections TO PUBLIC;",
    name = "remote_connections",
    requires = [remote_connection]
);

/// A character that the database's encoding does not have is no reason to fail.
fn shown(text: &str) -> ServerText {
    ServerText(to_server(text).into_bytes())
}
