//! Connections that are made again: those made with a secret or by a foreign server, when they were lost,
//! and those by a foreign server that leads elsewhere now.

use pgrx::PgLogLevel;
use secretlink_core::{Report, SqlState};
use secretlink_remote::status::Loss;

use super::{Entry, Target, keep};
use crate::backend::process::report::RawReport;
use crate::connect::destination::Destination;
use crate::connect::error::ConnectionError;
use crate::connect::recipe::{Made, Way};

impl Entry {
    /// Another session in place of the one that is open, and why, if nobody would miss more than the session: it is
    /// idle, so there is no query of which one does not know what became of it, and not in a transaction,
    /// which includes every cursor of `dblink_open`.
    fn replacement(&self) -> Result<Option<(Made, Cause)>, ConnectionError> {
        let (session, secret) = (&self.session, self.recipe.new_secret());
        let Some(way) = &self.recipe.way else { return Ok(None) };
        match (session.status().loss(), way) {
            (Some(loss), _) if loss.idle && session.is_unused() => {
                Ok(Some((Destination::again(way)?.connect()?, Cause::Lost(loss.clone()))))
            }
            (None, Way::Server(server))
                if (server.may_have_changed() || secret.is_some()) && session.is_unused() =>
            {
                if let Some(said) = server.ask_if_changed()? {
                    let cause = Cause::Changed { server: said.by.name().to_owned() };
                    return Ok(Some((Destination::of_server(said)?.connect()?, cause)));
                }
                let Some(secret) = self.recipe.new_secret() else { return Ok(None) };
                let cause = Cause::NewSecret { secret: secret.id().to_owned() };
                Ok(Some((Destination::again(way)?.connect()?, cause)))
            }
            _ => Ok(None),
        }
    }
}

impl Target {
    /// The connection for a new query. If it was lost meanwhile, or its foreign server leads elsewhere, it
    /// is made again where that is safe, by the rules for the user who asks now.
    ///
    /// # Errors
    /// If it could not be made again.
    pub(crate) fn for_query(self) -> Result<Target, ConnectionError> {
        let Some((made, cause)) = self.entry.replacement()? else { return Ok(self) };
        let Target { entry: old, name } = self;
        drop(old);
        let target = keep(name, made)?;
        let connection = target.name.subject();
        RawReport::new(&Reopened { connection, cause }).emit(PgLogLevel::NOTICE);
        Ok(target)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{connection} {cause} and has been made again")]
struct Reopened {
    connection: String,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("was lost")]
    Lost(Loss),
    #[error("was out of date")]
    Changed { server: String },
    #[error("was out of date")]
    NewSecret { secret: String },
}

impl Report for Reopened {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("00000")
    }

    fn detail(&self) -> Option<String> {
        Some(match &self.cause {
            Cause::Lost(loss) => format!("It was lost while it was idle: {}.", loss.reason),
            Cause::Changed { server } => {
                format!("Foreign server \"{server}\" or its user mapping has changed.")
            }
            Cause::NewSecret { secret } => format!("Secret \"{secret}\" has a new version."),
        })
    }

    fn hint(&self) -> Option<String> {
        Some("Settings, temporary tables and whatever else belonged to its session are gone.".into())
    }
}
