//! Connections made with a secret, which are made again when they were lost.

use pgrx::PgLogLevel;
use secretlink_core::{Report, SqlState};
use secretlink_remote::conninfo::Options;
use secretlink_remote::status::Loss;
use std::rc::Rc;

use super::{ConnectionName, Session, Target, keep, named};
use crate::backend::report::RawReport;
use crate::error::Error;
use crate::secret_conninfo::{self, Given};

/// What `connect_with_secret` was asked for. Not what the secret said: that is read again each time.
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
        self.open().map(|session| session.remember(Rc::new(self)))
    }

    fn open(&self) -> Result<Session, Error> {
        let info = secret_conninfo::fetch(self.secret_id.clone(), self.options.clone(), Given::Arguments)?;
        Session::open(info, Some(self.secret_id.clone()))
    }
}

impl Session {
    /// Keeps what the session was made from, unless a password is part of that.
    fn remember(self, request: Rc<SecretRequest>) -> Session {
        let request = (!request.options.has_secrets()).then_some(request);
        Session { request, ..self }
    }

    /// How to make the session again, if it was lost and nobody would miss more than the session: it
    /// was idle, so there is no query of which one does not know what became of it, and not in a
    /// transaction, which includes every cursor of `dblink_open`.
    fn may_be_reopened(&self) -> Option<(Rc<SecretRequest>, Loss)> {
        let loss = self.status().loss().filter(|loss| loss.idle)?;
        let request = self.request.clone()?;
        let unused = !self.in_transaction() && !self.busy.get() && self.settle().is_ok();
        unused.then(|| (request, loss.clone()))
    }
}

/// The connection of this name, if there is one, for a new query. If it was lost meanwhile, it is made
/// again where that is safe, by the rules for whoever asks now.
///
/// # Errors
/// If it could not be made again.
pub fn named_for_query(name: &ConnectionName) -> Result<Option<Target>, Error> {
    let Some(target) = named(name) else { return Ok(None) };
    let Some((request, loss)) = target.session.may_be_reopened() else { return Ok(Some(target)) };
    let session = request.open()?.remember(request);
    drop(target);
    keep(Some(name.clone()), session)?;
    RawReport::new(&Reopened { name: name.display(), loss }).emit(PgLogLevel::NOTICE);
    Ok(named(name))
}

#[derive(Debug, thiserror::Error)]
#[error("connection \"{name}\" was lost and has been made again")]
struct Reopened {
    name: String,
    loss: Loss,
}

impl Report for Reopened {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("00000")
    }

    fn detail(&self) -> Option<String> {
        Some(format!("It was lost while it was idle: {}.", self.loss.reason))
    }

    fn hint(&self) -> Option<String> {
        Some("Settings, temporary tables and whatever else belonged to its session are gone.".into())
    }
}
