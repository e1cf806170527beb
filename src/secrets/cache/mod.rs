//! The server's cache of secrets: one for all backends, and one request to AWS at a time for each secret.
//! The rules are in `crates/cache`; here is what they need of Postgres and AWS.
//!
//! | what ends early | what then holds |
//! |---|---|
//! | the session that asks is cancelled, or gets an ERROR | its `Flight` gives the request up, and one of those who wait asks instead |
//! | it is terminated (FATAL) | its exit callback does |
//! | it is killed | the server starts anew, with an empty cache |
//! | it hangs | its request counts for its own time limit, half a minute at most, and a second more; what comes later is not kept |
//! | the secret is changed or forgotten meanwhile | what was asked for before that is not kept |

mod entry;
mod flight;
mod memory;
mod notice;
mod renewal;
mod token;
mod view;

use secretlink_aws::{
    SecretBody, SecretId, SecretValue, Settings, SettingsOverrides, VersionSelector, stage,
};
use secretlink_core::Secret;
use std::time::Duration;

pub(crate) use self::entry::Sealed;
use self::entry::{Asked, Entry, contents};
pub(crate) use self::memory::{init, now};
pub(crate) use self::renewal::renew;
pub(crate) use self::token::TokenRequest;
pub(crate) use self::view::view;
use crate::secrets::error::SecretsError;
use secretlink_cache::Subject;
pub(crate) use secretlink_cache::{Moment, Wanted};

/// One version of a secret, and where and as whom it is read.
#[derive(Clone, Debug)]
pub(crate) struct SecretRequest(Entry);

impl SecretRequest {
    /// A request for a version of a secret, where and as whom `overrides` says and otherwise the settings.
    ///
    /// # Errors
    /// If the id cannot be one, or a setting was refused.
    pub(crate) fn new(
        secret_id: &str,
        version: VersionSelector,
        overrides: &SettingsOverrides,
    ) -> Result<SecretRequest, SecretsError> {
        let id = SecretId::parse(secret_id)?;
        let stage = match (&version.stage, &version.version_id) {
            (Some(stage), _) => stage.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => stage::CURRENT.to_owned(),
        };
        let version_id = version.version_id.clone().unwrap_or_default();
        let subject = Subject::Secret { id: secret_id.to_owned(), stage, version_id };
        Ok(SecretRequest(Entry::new(subject, Asked::Secret { id, version }, overrides)?))
    }

    /// A request for the version with another staging label.
    pub(crate) fn at_stage(&self, stage: &str) -> SecretRequest {
        let mut entry = self.0.clone();
        if let Subject::Secret { stage: of_key, version_id, .. } = &mut entry.key.subject {
            stage.clone_into(of_key);
            version_id.clear();
        }
        if let Asked::Secret { version, .. } = &mut entry.asked {
            *version = VersionSelector { stage: Some(stage.to_owned()), version_id: None };
        }
        SecretRequest(entry)
    }

    /// The value, from the cache or from AWS.
    ///
    /// # Errors
    /// As AWS says, or has just said to somebody else.
    pub(crate) fn get(&self, wanted: &Wanted) -> Result<Sealed, SecretsError> {
        self.0.get(wanted)
    }

    /// For how long it asks at most.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience()
    }

    /// The version that the cache has, if it has one.
    pub(crate) fn cached_version(&self) -> Option<String> {
        self.0.cached_version()
    }
}

/// Reads a secret again, and wipes whatever else is cached of it. Returns the version now cached.
///
/// # Errors
/// As [`SecretRequest::get`]; an old value does not count.
pub(crate) fn refresh(secret_id: &str) -> Result<String, SecretsError> {
    let request = SecretRequest::new(secret_id, VersionSelector::default(), &SettingsOverrides::default())?;
    let since = now();
    memory::with(|store| {
        store.replace(|key, named| (named.is(secret_id) && *key != request.0.key).then_some(None), since);
    });
    Ok(request.get(&Wanted::Since(since))?.version_id)
}

/// Wipes what is cached of a secret, however it was named. Returns how many entries that were.
pub(crate) fn forget(secret_id: &str) -> usize {
    let forgotten = memory::with(|store| store.forget(secret_id)).unwrap_or(0);
    memory::wake_all();
    forgotten
}

/// Wipes what is cached of a secret when it goes, be it by an ERROR: a change of the secret may have taken
/// place although its answer was lost, or nobody waited for it.
pub(crate) struct ForgetAtEnd(pub String);

impl Drop for ForgetAtEnd {
    fn drop(&mut self) {
        forget(&self.0);
    }
}

/// Wipes everything. Returns how many entries that were.
pub(crate) fn forget_all() -> usize {
    let forgotten = memory::with(|store| store.forget_all()).unwrap_or(0);
    memory::wake_all();
    forgotten
}

/// Counts the uses of each entry from zero again.
pub(crate) fn reset_hits() {
    memory::with(|store| store.reset_hits());
}

/// A number that has changed if anything cached has.
pub(crate) fn generation() -> u64 {
    memory::with(|store| store.generation()).unwrap_or(0)
}

/// Notes that this server has made a password the right one, and that this version of the secret has it. From this
/// moment on nobody is to get the old one, even while Secrets Manager does not say so yet. `settings` are those
/// with which it was stored. Without the secret's text, what is cached of it is wiped.
///
/// Called after a commit: it cannot fail.
pub(crate) fn changed(settings: &Settings, secret: &SecretId, version_id: &str, text: Option<&Secret>) {
    let fingerprint = settings.fingerprint();
    memory::with(|store| {
        store.replace(
            |key, named| {
                let Subject::Secret { stage: label, version_id: asked_for, .. } = &key.subject else {
                    return None;
                };
                // A version that was asked for by its id stays what it was.
                if !named.is(secret.as_str()) || !asked_for.is_empty() {
                    return None;
                }
                let is_it =
                    key.fingerprint == fingerprint && label == stage::CURRENT && !named.arn.is_empty();
                let value = text.filter(|_| is_it).map(|text| SecretValue {
                    arn: named.arn.to_owned(),
                    name: named.name.to_owned(),
                    version_id: version_id.to_owned(),
                    stages: vec![stage::CURRENT.to_owned()],
                    created: None,
                    body: SecretBody::String(text.clone()),
                });
                Some(value.and_then(|value| contents(&key.to_bytes(), &value).ok()))
            },
            now(),
        );
    });
    memory::wake_all();
}
