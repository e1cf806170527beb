//! The passwords of a secret, also while it is being rotated.
//!
//! A rotation stages the new password as `AWSPENDING`, sets it in the database, and makes it `AWSCURRENT`
//! (Secrets Manager user guide, "Rotation by Lambda function"); password sync does the same under a label of
//! its own, and the release before did under `AWSPENDING`. So a password
//! that is refused may be one that was current when it was cached, or still is but will not be for long. A
//! refusal by the remote server is what counts: an error of the network says nothing about the password.

use secretlink_aws::{SettingsOverrides, VersionSelector, stage};
use std::time::Duration;

use crate::connect::conninfo::Candidate;
use crate::connect::error::ConnectionError;
use crate::secrets::cache::{self, Moment, Sealed, SecretRequest, Wanted};
use crate::secrets::watch::UsedSecret;

/// Yields the current version of a secret, then one that is newer, then those that are staged.
pub(crate) struct SecretCandidates {
    id: String,
    current: SecretRequest,
    /// The version that turned out to be the current one.
    current_version: String,
    /// What was cached when this began, as the cache counts.
    generation: u64,
    began: Moment,
    /// The versions whose password was tried.
    tried: Vec<String>,
    /// Whether the options have a password of their own, so that a refusal is not the secret's.
    given_credentials: bool,
    step: Step,
}

enum Step {
    /// The current version as the cache had it: whether that was before this began.
    Current { cached_before: bool },
    /// The current version, read again.
    Renewed,
    /// Others, after the first was refused.
    Others(Others),
}

struct Others {
    /// Why the first was refused.
    refusal: ConnectionError,
    /// What is left to look at.
    left: std::slice::Iter<'static, (bool, &'static str)>,
    /// When this round began.
    since: Moment,
    /// For how long AWS was waited for.
    waited: Duration,
}

/// What else may be the password: whether to wait until AWS may be asked again, and the label. At first
/// without delay, which all sessions that a rotation has surprised get along with, asking AWS as good as
/// once. Then, lest the rotation has just gone on, or somebody else's failures keep us from asking, once
/// more when that is allowed.
const OTHERS: [(bool, &str); 6] = [
    (false, stage::CURRENT),
    (false, stage::STAGED),
    (false, stage::PENDING),
    (true, stage::CURRENT),
    (true, stage::STAGED),
    (true, stage::PENDING),
];

impl SecretCandidates {
    /// The candidates of a secret, read as `overrides` says and otherwise the settings; and the first.
    ///
    /// # Errors
    /// If the secret cannot be read.
    pub(crate) fn begin(
        id: String,
        overrides: &SettingsOverrides,
        given_credentials: bool,
    ) -> Result<(SecretCandidates, Candidate), ConnectionError> {
        let (began, generation) = (cache::now(), cache::generation());
        let current = SecretRequest::new(&id, VersionSelector::default(), overrides)?;
        let sealed = current.get(&Wanted::Fresh)?;
        let mut candidates = SecretCandidates {
            id,
            current,
            current_version: String::new(),
            generation,
            began,
            tried: Vec::new(),
            given_credentials,
            step: Step::Current { cached_before: sealed.asked < began },
        };
        candidates.current_version.clone_from(&sealed.version_id);
        let first = candidates.candidate(sealed);
        Ok((candidates, first))
    }

    /// The next candidate after one has failed.
    ///
    /// # Errors
    /// If there is none: the error of the first, or one that has nothing to do with passwords.
    pub(crate) fn after(&mut self, error: ConnectionError) -> Result<Candidate, ConnectionError> {
        let (is_refused, is_unusable) = (self.is_refused(&error), error.is_unusable_secret());
        match std::mem::replace(&mut self.step, Step::Renewed) {
            Step::Current { cached_before: true } if is_unusable => {
                // Somebody may have put it right since. Who tries again and again does not ask each time.
                let than = self.tried.clone();
                let wanted = Wanted::Other { than, since: self.began, patient: true };
                let sealed = self.current.get(&wanted)?;
                self.current_version.clone_from(&sealed.version_id);
                Ok(self.candidate(sealed))
            }
            // The database may have moved, and the secret with it: AWS is asked once, if the value is not new.
            Step::Current { cached_before: true } if self.is_nobody_there(&error) => {
                let wanted = Wanted::Other { than: self.tried.clone(), since: self.began, patient: false };
                match self.current.get(&wanted) {
                    Ok(sealed) if !self.tried.contains(&sealed.version_id) => {
                        self.current_version.clone_from(&sealed.version_id);
                        Ok(self.candidate(sealed))
                    }
                    _ => Err(error),
                }
            }
            Step::Current { .. } | Step::Renewed if is_refused => self.other(Others {
                refusal: error,
                left: OTHERS.iter(),
                since: self.began,
                waited: Duration::ZERO,
            }),
            Step::Others(others) if is_refused || is_unusable => self.other(others),
            _ => Err(error),
        }
    }

    /// Whether the first candidate was refused.
    pub(crate) fn are_others(&self) -> bool {
        matches!(self.step, Step::Others(_))
    }

    /// The secret as it was used.
    pub(crate) fn used(self) -> UsedSecret {
        UsedSecret::new(&self.id, self.current, self.current_version, self.generation)
    }

    fn candidate(&mut self, sealed: Sealed) -> Candidate {
        self.tried.push(sealed.version_id.clone());
        Candidate { id: self.id.clone(), sealed }
    }

    /// Whether the remote server refused the secret's password.
    fn is_refused(&self, error: &ConnectionError) -> bool {
        !self.given_credentials
            && matches!(error, ConnectionError::Remote(error) | ConnectionError::SecretOfOther { error, .. }
                if error.is_authentication_failure())
    }

    /// Whether nobody is where the secret says that the database is.
    fn is_nobody_there(&self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::Remote(error) if error.is_nobody_there())
    }

    fn other(&mut self, mut others: Others) -> Result<Candidate, ConnectionError> {
        let [staged, pending] = [stage::STAGED, stage::PENDING].map(|label| self.current.at_stage(label));
        while let Some(&(patient, label)) = others.left.next() {
            let is_current = label == stage::CURRENT;
            if is_current {
                others.since = cache::now();
            }
            let lookup = match label {
                stage::CURRENT => &self.current,
                stage::STAGED => &staged,
                _ => &pending,
            };
            let is_another = |version| !self.tried.contains(&version);
            // An AWS that does not answer is not waited for six times.
            if others.waited >= lookup.patience() && !lookup.cached_version().is_some_and(is_another) {
                continue;
            }
            let wanted = Wanted::Other { than: self.tried.clone(), since: others.since, patient };
            let began = cache::now();
            let sealed = lookup.get(&wanted);
            others.waited += cache::now() - began;
            // There may be none, or nobody to ask: the refusal stands.
            let Ok(sealed) = sealed else { continue };
            if is_current {
                self.current_version.clone_from(&sealed.version_id);
            }
            if !self.tried.contains(&sealed.version_id) {
                self.step = Step::Others(others);
                return Ok(self.candidate(sealed));
            }
        }
        Err(others.refusal)
    }
}
