//! The passwords of a secret, also while it is being rotated.
//!
//! A rotation stages the new password as `AWSPENDING`, sets it in the database, and makes it `AWSCURRENT`
//! (Secrets Manager user guide, "Rotation by Lambda function"); password sync does the same under a label of
//! its own, and the release before did under `AWSPENDING`. So a password
//! that is refused may be one that was current when it was cached, or still is but will not be for long. A
//! refusal by the remote server is what counts: an error of the network says nothing about the password.

use secretlink_aws::{SettingsOverrides, VersionSelector, stage};
use std::collections::HashMap;
use std::ops::RangeInclusive;
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
    /// Other versions, after the first was refused.
    Others(Box<Others>),
}

struct Others {
    /// Why the first was refused.
    refusal: ConnectionError,
    /// How often all labels were looked at.
    rounds: usize,
    /// What is left to look at in this round.
    left: std::slice::Iter<'static, &'static str>,
    /// When this round began.
    since: Moment,
    /// The versions whose password was tried in this round.
    tried: Vec<String>,
    /// Which version each label was at when it was looked at last.
    seen: HashMap<&'static str, String>,
    /// Whether a label has moved between the last two looks at it, in the round before and in this one.
    moved: [bool; 2],
    /// For how long AWS was waited for.
    waited: Duration,
}

/// The labels at which the password may be.
const LABELS: [&str; 3] = [stage::CURRENT, stage::STAGED, stage::PENDING];

/// The labels are looked at so often at least, and at most.
///
/// At first without delay, which all sessions that a rotation has surprised get along with, asking AWS as good
/// as once. Then, lest the rotation has just gone on, or somebody else's failures keep us from asking, once
/// more when that is allowed. If a label has moved between the two, rotations follow each other quickly: a version that
/// was tried before its password was set is tried again, and the labels are looked at until they stand still.
const ROUNDS: RangeInclusive<usize> = 2..=4;

impl Others {
    fn after(refusal: ConnectionError, tried: Vec<String>) -> Others {
        let (left, since, seen) = (LABELS.iter(), cache::now(), HashMap::new());
        Others { refusal, rounds: 1, left, since, tried, seen, moved: [false; 2], waited: Duration::ZERO }
    }

    /// The next label to look at.
    fn next(&mut self) -> Option<&'static str> {
        if let Some(label) = self.left.next() {
            return Some(label);
        }
        if self.rounds >= *ROUNDS.end() || (self.rounds >= *ROUNDS.start() && !self.moved[1]) {
            return None;
        }
        self.rounds += 1;
        (self.left, self.since) = (LABELS.iter(), cache::now());
        self.tried.clear();
        self.moved = [self.moved[1], false];
        self.left.next().copied()
    }

    /// Notes that a label is at this version. Returns whether its password is to be tried, which may have been in vain
    /// in the rounds before.
    fn found(&mut self, label: &'static str, version_id: &str, was_tried: bool) -> bool {
        let before = self.seen.insert(label, version_id.to_owned());
        let has_moved = before.map_or(!was_tried, |before| before != version_id);
        self.moved[1] |= self.rounds > 1 && has_moved;
        let again = self.moved.contains(&true) && !self.tried.iter().any(|tried| tried == version_id);
        let is_worth_it = !was_tried || again;
        if is_worth_it {
            self.tried.push(version_id.to_owned());
        }
        is_worth_it
    }
}

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
            Step::Current { .. } | Step::Renewed if is_refused => {
                self.other(Box::new(Others::after(error, self.tried.clone())))
            }
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

    fn other(&mut self, mut others: Box<Others>) -> Result<Candidate, ConnectionError> {
        let [staged, pending] = [stage::STAGED, stage::PENDING].map(|label| self.current.at_stage(label));
        while let Some(label) = others.next() {
            let is_current = label == stage::CURRENT;
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
            let patient = others.rounds > 1;
            let wanted = Wanted::Other { than: self.tried.clone(), since: others.since, patient };
            let began = cache::now();
            let sealed = lookup.get(&wanted);
            others.waited += cache::now() - began;
            // There may be none, or nobody to ask: the refusal stands.
            let Ok(sealed) = sealed else { continue };
            if is_current {
                self.current_version.clone_from(&sealed.version_id);
            }
            if others.found(label, &sealed.version_id, self.tried.contains(&sealed.version_id)) {
                self.step = Step::Others(others);
                return Ok(self.candidate(sealed));
            }
        }
        Err(others.refusal)
    }
}
