//! Opening, closing and listing connections.

use pgrx::prelude::*;

use super::ok;
use crate::backend::process::report::OrRaise;
use crate::backend::text::ServerText;
use crate::connect::destination::Destination;
use crate::connections;
use crate::dblink::error::DblinkError;
use crate::error::Error;
use crate::session::name::ConnectionName;

#[pg_extern(name = "dblink_connect", volatile, parallel_restricted, strict)]
fn dblink_connect_unnamed(connstr: ServerText) -> ServerText {
    connect(ConnectionName::Unnamed, connstr).or_raise()
}

#[pg_extern(name = "dblink_connect", volatile, parallel_restricted, strict)]
fn dblink_connect_named(connname: ServerText, connstr: ServerText) -> ServerText {
    connect(ConnectionName::create(connname), connstr).or_raise()
}

/// Connects as `dblink_connect` does, but runs with the rights of the extension's owner, a superuser, so that the
/// rule about passwords does not bind. Revoked from PUBLIC.
#[pg_extern(name = "dblink_connect_u", volatile, parallel_restricted, strict, security_definer)]
fn dblink_connect_u_unnamed(connstr: ServerText) -> ServerText {
    connect(ConnectionName::Unnamed, connstr).or_raise()
}

/// Connects as `dblink_connect_u` does, under a name.
#[pg_extern(name = "dblink_connect_u", volatile, parallel_restricted, strict, security_definer)]
fn dblink_connect_u_named(connname: ServerText, connstr: ServerText) -> ServerText {
    connect(ConnectionName::create(connname), connstr).or_raise()
}

fn connect(name: ConnectionName, connstr: ServerText) -> Result<ServerText, Error> {
    let destination = Destination::read(connstr)?;
    // One that was lost is replaced.
    if name != ConnectionName::Unnamed && connections::is_alive(&name) {
        return Err(DblinkError::DuplicateName.into());
    }
    connections::keep(name, destination.connect()?)?;
    Ok(ok())
}

#[pg_extern(name = "dblink_disconnect", volatile, parallel_restricted, strict)]
fn dblink_disconnect_unnamed() -> ServerText {
    connections::disconnect(&ConnectionName::Unnamed).map(|()| ok()).or_raise()
}

#[pg_extern(name = "dblink_disconnect", volatile, parallel_restricted, strict)]
fn dblink_disconnect_named(connname: ServerText) -> ServerText {
    connections::disconnect(&ConnectionName::find(connname)).map(|()| ok()).or_raise()
}

/// NULL when there are none.
#[pg_extern(volatile, parallel_restricted)]
fn dblink_get_connections() -> Option<Vec<ServerText>> {
    let names: Vec<_> = connections::names().into_iter().filter_map(ConnectionName::into_text).collect();
    (!names.is_empty()).then_some(names)
}
