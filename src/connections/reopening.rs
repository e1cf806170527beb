//! Connections that are made again: those made with a secret or by a foreign server, when they were lost,
//! and those by a foreign server that leads elsewhere now.

use pgrx::PgLogLevel;
use secretlink_aws::Identity;
use secretlink_core::{Report, SqlState};
use secretlink_remote::conninfo::Options;
use secretlink_remote::status::Loss;
use std::rc::Rc;

use super::{Session, Target, keep};
use crate::backend::process::report::RawReport;
use crate::connect::conninfo::Given;
use crate::connect::destination::Destination;
use crate::connect::foreign_server::ServerUse;
use crate::connect::login;
use crate::error::Error;
use crate::secrets::watch::UsedSecret;

/// From what a session was made. Never what a secret said: that is read again each time.
pub(super) enum Source {
    /// By `connect_with_secret`.
    Secret(SecretRequest),
    /// By a foreign server.
    Server(ServerUse),
}

/// What `connect_with_secret` was asked for.
pub struct SecretRequest {
    /// The secret.
    pub secret_id: String,
    /// What the caller wants besides.
    pub options: Options,
}

impl SecretRequest {
    /// Reads the secret and connects.
    ///
    /// # Errors
    /// If the secret cannot be read, or no connection be made.
    pub fn connect(self) -> Result<Session, Error> {
        let session = self.open()?;
        // A password is not kept.
        let source = (!self.options.has_secrets()).then(|| Rc::new(Source::Secret(self)));
        Ok(Session { source, ..session })
    }

    fn open(&self) -> Result<Session, Error> {
        login::open(&self.secret_id, &Identity::default(), self.options.clone(), Given::Arguments)
    }
}

impl Source {
    fn connect(self: &Rc<Source>) -> Result<Session, Error> {
        match &**self {
            Source::Secret(request) => Ok(Session { source: Some(self.clone()), ..request.open()? }),
            Source::Server(server) => Destination::of_server(server.ask_again()?)?.connect(),
        }
    }
}

impl Session {
    /// The same, to be made again by the server that it was made by.
    pub fn made_by(self, server: ServerUse) -> Session {
        Session { source: Some(Rc::new(Source::Server(server))), ..self }
    }

    /// The same, knowing with which secret it logged in.
    pub fn with_secret(self, secret: UsedSecret) -> Session {
        Session { secret: Some(secret), ..self }
    }

    /// The secret that it logged in with, if that has another version now.
    fn new_secret(&self) -> Option<&UsedSecret> {
        self.secret.as_ref().filter(|secret| secret.has_changed())
    }

    /// Another in place of this one, and why, if nobody would miss more than the session: it is idle, so
    /// there is no query of which one does not know what became of it, and not in a transaction, which
    /// includes every cursor of `dblink_open`.
    fn replacement(&self) -> Result<Option<(Session, Cause)>, Error> {
        let Some(source) = &self.source else { return Ok(None) };
        let unused = || !self.in_transaction() && !self.busy.get() && self.settle().is_ok();
        match (self.status().loss(), &**source) {
            (Some(loss), _) if loss.idle && unused() => {
                Ok(Some((source.connect()?, Cause::Lost(loss.clone()))))
            }
            (None, Source::Server(server))
                if (server.may_have_changed() || self.new_secret().is_some()) && unused() =>
            {
                if let Some(said) = server.ask_if_changed()? {
                    let cause = Cause::Changed { server: said.by.name().to_owned() };
                    return Ok(Some((Destination::of_server(said)?.connect()?, cause)));
                }
                let Some(secret) = self.new_secret() else { return Ok(None) };
                Ok(Some((source.connect()?, Cause::NewSecret { secret: secret.id().to_owned() })))
            }
            _ => Ok(None),
        }
    }
}

impl Target {
    /// The same for a new query. If the connection was lost meanwhile, or its foreign server leads
    /// elsewhere, it is made again where that is safe, by the rules for whoever asks now.
    ///
    /// # Errors
    /// If it could not be made again.
    pub fn for_query(self) -> Result<Target, Error> {
        let Some((session, cause)) = self.session.replacement()? else { return Ok(self) };
        let Target { session: old, origin } = self;
        drop(old);
        let session = keep(origin.name.clone(), session)?;
        let connection = match &origin.name {
            Some(name) => format!("connection \"{}\"", name.display()),
            None => "unnamed connection".into(),
        };
        RawReport::new(&Reopened { connection, cause }).emit(PgLogLevel::NOTICE);
        Ok(Target { session, origin })
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
