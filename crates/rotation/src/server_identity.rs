//! Which server it is that a connection leads to.

use secretlink_remote::connection::Connection;

use crate::Trouble;

/// What a server says of itself.
pub(crate) struct ServerIdentity {
    /// The system identifier, which a standby shares with its primary.
    pub system: String,
    /// Whether the server is a standby.
    pub is_standby: bool,
}

impl ServerIdentity {
    /// Asks a server who it is, and ends the connection. `None` if the server does not say so.
    ///
    /// # Errors
    /// If the connection was lost.
    pub(crate) async fn ask(mut connection: Box<Connection>) -> Result<Option<ServerIdentity>, Trouble> {
        let sql =
            b"SELECT system_identifier, pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_control_system()";
        let rows = connection.rows(sql).await;
        connection.close().await;
        let rows = match rows.map_err(|error| Trouble::of_statement("look at the server", error)) {
            Ok(rows) => rows,
            // Somebody has revoked the function.
            Err(Trouble::Refused { .. }) => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        let mut fields = rows.into_iter().next().into_iter().flatten();
        let mut next = || fields.next().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(next().zip(next()).map(|(system, standby)| ServerIdentity { system, is_standby: standby == "t" }))
    }
}
