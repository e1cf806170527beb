//! Logging in with a secret, also while it is being rotated.
//!
//! A rotation stages the new password as `AWSPENDING`, sets it in the database, and makes it `AWSCURRENT`
//! (Secrets Manager user guide, "Rotation by Lambda function"; password sync does the same). So a password
//! that is refused may be one that was current when it was cached, or still is but will not be for long. A
//! refusal by the remote server is what counts: an error of the network says nothing about the password.

use secretlink_aws::{AwsError, Identity, VersionSelector, stage};
use secretlink_remote::conninfo::Options;
use std::time::Duration;

use crate::connect::conninfo::{self, Given};
use crate::connections::{self, Session};
use crate::error::Error;
use crate::secrets::cache::{self, Moment, Request, Sealed, Wanted};
use crate::secrets::watch::UsedSecret;
use crate::stats::{self, Counter};

/// Logs in with the current version of a secret, read as `identity` says and otherwise the settings. If its
/// password is refused, with one that is newer, or else with the pending one.
///
/// # Errors
/// If the secret cannot be read, or no connection be made. If no other password works either, the error is
/// that of the first.
pub fn open(secret_id: &str, identity: &Identity, options: Options, given: Given) -> Result<Session, Error> {
    let began = cache::now();
    let generation = cache::generation();
    let current = Request::new(secret_id, VersionSelector::default(), identity)?;
    let sealed = current.get(&Wanted::Fresh)?;
    let mut login = Login {
        secret_id,
        options,
        given,
        current: &current,
        current_version: sealed.version_id.clone(),
        tried: Vec::new(),
    };
    let session = connections::counted(|| login.run(sealed, began))?;
    let version_id = login.current_version;
    Ok(session.with_secret(UsedSecret::new(secret_id, current, version_id, generation)))
}

struct Login<'a> {
    secret_id: &'a str,
    options: Options,
    given: Given,
    current: &'a Request,
    /// What that turned out to be.
    current_version: String,
    /// The versions whose password was tried.
    tried: Vec<String>,
}

impl Login<'_> {
    /// Tries what the cache had for the current version, and then what else there is.
    fn run(&mut self, sealed: Sealed, began: Moment) -> Result<Session, Error> {
        let cached_before = sealed.asked < began;
        let mut outcome = self.attempt(sealed);
        if cached_before && outcome.as_ref().is_err_and(is_unusable) {
            // Somebody may have put it right since. Whoever tries again and again does not ask each time.
            let than = self.tried.clone();
            let sealed = self.current.get(&Wanted::Other { than, since: began, patient: true })?;
            self.current_version.clone_from(&sealed.version_id);
            outcome = self.attempt(sealed);
        }
        match outcome {
            Err(error) if self.is_refused(&error) => self.with_another()?.ok_or(error),
            outcome => outcome,
        }
    }

    fn attempt(&mut self, sealed: Sealed) -> Result<Session, Error> {
        self.tried.push(sealed.version_id.clone());
        let info = conninfo::open(self.secret_id, sealed, self.options.clone(), self.given)?;
        Session::open(info, true)
    }

    /// Whether the remote server refused the secret's password.
    fn is_refused(&self, error: &Error) -> bool {
        !self.options.has_credentials()
            && matches!(error, Error::Connect(error) if error.is_authentication_failure())
    }

    /// Tries what else may be the password. At first without delay, which all sessions that a rotation has
    /// surprised get along with, asking AWS as good as once. Then, lest the rotation has just gone on, or
    /// somebody else's failures keep us from asking, once more when that is allowed. `None` if nothing
    /// works.
    fn with_another(&mut self) -> Result<Option<Session>, Error> {
        let pending = self.current.at_stage(stage::PENDING);
        let mut waited = Duration::ZERO;
        for patient in [false, true] {
            let since = cache::now();
            for request in [self.current, &pending] {
                let is_current = std::ptr::eq(request, self.current);
                let is_another = |version| !self.tried.contains(&version);
                // An AWS that does not answer is not waited for four times.
                if waited >= request.patience() && !request.cached_version().is_some_and(is_another) {
                    continue;
                }
                let wanted = Wanted::Other { than: self.tried.clone(), since, patient };
                let began = cache::now();
                let sealed = request.get(&wanted);
                waited += cache::now() - began;
                // There may be none, or nobody to ask: the refusal stands.
                let Ok(sealed) = sealed else { continue };
                if is_current {
                    self.current_version.clone_from(&sealed.version_id);
                }
                if self.tried.contains(&sealed.version_id) {
                    continue;
                }
                match self.attempt(sealed) {
                    Ok(session) => {
                        stats::count(Counter::ConnectionsRetried);
                        return Ok(Some(session));
                    }
                    Err(error) if self.is_refused(&error) || is_unusable(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

/// Whether it is the secret that is wrong.
fn is_unusable(error: &Error) -> bool {
    matches!(
        error,
        Error::FieldMissing { .. }
            | Error::Aws(
                AwsError::IsBinary { .. }
                    | AwsError::NotJson { .. }
                    | AwsError::NotAnObject { .. }
                    | AwsError::NoPasswordField { .. }
                    | AwsError::InvalidField { .. }
            )
    )
}
