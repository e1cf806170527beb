//! One value of the cache: what is asked for, and getting it.

use secretlink_aws::{SecretId, SecretValue, Settings, SettingsOverrides, TokenSubject, VersionSelector};
use secretlink_cache::{
    Ask, Asking, Contents, Finish, Found, Key, Look, Moment, SealError, SharedError, Subject, Wanted,
};
use secretlink_core::Secret;
use std::time::Duration;

use super::flight::Flight;
use super::memory::{self, now};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;
use crate::stats::{self, Counter};

/// A value, and how to come by it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Key,
    pub asked: Asked,
    pub settings: Settings,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A version of a secret.
    Secret { id: SecretId, version: VersionSelector },
    /// A token with the signature of this region.
    IamToken { login: TokenSubject, region: String },
}

/// A secret that was read, still sealed.
#[derive(Clone)]
pub(crate) struct Sealed {
    key: Vec<u8>,
    bytes: Vec<u8>,
    /// The value's version.
    pub version_id: String,
    /// When AWS was asked for it.
    pub asked: Moment,
}

impl Sealed {
    /// The secret. To be called on the I/O thread where the value goes no further, so that the backend's
    /// own thread never handles it.
    ///
    /// # Errors
    /// If memory was damaged.
    pub(crate) fn open(self) -> Result<SecretValue, SecretsError> {
        SecretValue::from_bytes(self.unseal()?.expose()).ok_or(SecretsError::Seal(SealError::Broken))
    }

    /// What was sealed.
    ///
    /// # Errors
    /// If memory was damaged.
    pub(crate) fn unseal(self) -> Result<Secret, SecretsError> {
        Ok(memory::sealer()?.open(&self.key, self.bytes)?)
    }
}

impl Entry {
    /// Something to be asked for where and as whom `overrides` says, and otherwise the settings.
    ///
    /// # Errors
    /// If a setting was refused.
    pub(crate) fn new(
        subject: Subject,
        asked: Asked,
        overrides: &SettingsOverrides,
    ) -> Result<Entry, SecretsError> {
        let settings = settings::aws::current()?.with(overrides);
        let key = Key {
            fingerprint: settings.fingerprint(),
            region: overrides.region.clone().unwrap_or_default(),
            role_arn: overrides.role_arn.clone().unwrap_or_default(),
            external_id: overrides.external_id.clone().unwrap_or_default(),
            subject,
        };
        Ok(Entry { key, asked, settings })
    }

    /// What is asked for under this key, if these settings lead to it.
    pub(crate) fn of_key(key: &Key, settings: &Settings) -> Option<Entry> {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let overrides = SettingsOverrides {
            region: given(&key.region),
            role_arn: given(&key.role_arn),
            external_id: given(&key.external_id),
        };
        let settings = settings.clone().with(&overrides);
        (settings.fingerprint() == key.fingerprint).then_some(())?;
        let asked = match &key.subject {
            Subject::Secret { id, stage, version_id } => Asked::Secret {
                id: SecretId::parse(id).ok()?,
                version: VersionSelector { stage: given(stage), version_id: given(version_id) },
            },
            Subject::IamToken { region, login } => {
                Asked::IamToken { login: TokenSubject::parse(login)?, region: region.clone() }
            }
        };
        Some(Entry { key: key.clone(), asked, settings })
    }

    /// The value, from the cache or from AWS.
    ///
    /// # Errors
    /// As AWS says, or has just said to somebody else.
    pub(crate) fn get(&self, wanted: &Wanted) -> Result<Sealed, SecretsError> {
        let key = self.key.to_bytes();
        let timing = settings::cache::timing();
        let asking = asking(&self.settings);
        let ask = Ask { wanted, timing: &timing, asking: &asking };
        let mut has_waited = false;
        loop {
            let look = memory::with(|store| store.look(&key, &ask, now()));
            if let Some(Look::Wait(until)) = look {
                if !std::mem::replace(&mut has_waited, true) {
                    stats::count(Counter::CacheWaits);
                }
                memory::wait(until - now());
                continue;
            }
            memory::end_wait();
            match look {
                Some(Look::Hit(_)) if !has_waited => stats::count(Counter::CacheHits),
                Some(Look::Stale(_)) => stats::count(Counter::CacheStaleServes),
                Some(Look::Ask(_) | Look::Uncached) | None => stats::count(Counter::CacheMisses),
                _ => {}
            }
            let found = match look {
                Some(Look::Hit(found) | Look::Stale(found)) => found,
                Some(Look::Failed(report)) => {
                    return Err(SecretsError::Shared(SharedError::from_bytes(&report)));
                }
                Some(Look::GaveUp) => {
                    let secret = self.key.subject.name().to_owned();
                    return Err(SecretsError::Awaited { secret, after: asking.patience });
                }
                Some(Look::Ask(ticket)) => {
                    let flight = Flight::begin(ticket);
                    let asked = now();
                    let came = io::run(WaitEvent::SecretsManager, self.fetch(key.clone()))?;
                    match (flight.land(&self.key, &came, &ask), came) {
                        (Some(Finish::Stale { found, .. }), _) => {
                            stats::count(Counter::CacheStaleServes);
                            found
                        }
                        // Even if it is not kept: there has been a change since, or no room. But the
                        // session that asked before may be told what was.
                        (_, came) => found(came?, asked),
                    }
                }
                Some(Look::Uncached | Look::Wait(_)) | None => {
                    let asked = now();
                    found(io::run(WaitEvent::SecretsManager, self.fetch(key.clone()))??, asked)
                }
            };
            let Found { sealed, version_id, asked, ends: _ } = found;
            return Ok(Sealed { key, bytes: sealed, version_id, asked });
        }
    }

    /// Asks AWS or signs, and seals what comes on the I/O thread.
    pub(crate) fn fetch(
        &self,
        key: Vec<u8>,
    ) -> impl Future<Output = Result<Contents, SecretsError>> + Send + use<> {
        let client = client::with(self.settings.clone());
        let asked = self.asked.clone();
        async move {
            match asked {
                Asked::Secret { id, version } => {
                    contents(&key, &client.get_secret_value(&id, &version).await?)
                }
                Asked::IamToken { login, region } => {
                    let signed = client.sign_token(&login, &region).await?;
                    let ends = now() + signed.lifetime;
                    stats::count(Counter::IamTokensSigned);
                    Ok(Contents {
                        sealed: memory::sealer()?.seal(&key, signed.token.expose().to_vec())?,
                        version_id: signed.signed,
                        arn: String::new(),
                        name: String::new(),
                        ends: Some(ends),
                    })
                }
            }
        }
    }

    /// For how long it asks at most.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.request_timeout
    }

    /// The version that the cache has, if it has one.
    pub(crate) fn cached_version(&self) -> Option<String> {
        memory::with(|store| store.version(&self.key.to_bytes())).flatten()
    }
}

/// A request by this process, which begins to want a value now.
pub(crate) fn asking(settings: &Settings) -> Asking {
    Asking {
        owner: server::process_id(),
        arrived: now(),
        patience: settings.request_timeout,
        connect_patience: settings.connect_timeout,
        attempts: settings.max_attempts,
    }
}

fn found(contents: Contents, asked: Moment) -> Found {
    Found { sealed: contents.sealed, version_id: contents.version_id, asked, ends: contents.ends }
}

/// What is kept of a value under a key.
pub(crate) fn contents(key: &[u8], value: &SecretValue) -> Result<Contents, SecretsError> {
    Ok(Contents {
        sealed: memory::sealer()?.seal(key, value.to_bytes())?,
        version_id: value.version_id.clone(),
        arn: value.arn.clone(),
        name: value.name.clone(),
        ends: None,
    })
}
