//! The server's cache of secrets: one for all backends, and one request to AWS at a time for each secret.
//! The rules are in `crates/cache`; here is what they need of Postgres and AWS.
//!
//! | what ends early | what then holds |
//! |---|---|
//! | whoever asks is cancelled, or gets an ERROR | its [`Flight`] gives the request up, and one of those who wait asks instead |
//! | it is terminated (FATAL) | its exit callback does |
//! | it is killed | the server starts anew, with an empty cache |
//! | it hangs | its request counts for its own time limit, half a minute at most, and a second more; what comes later is not kept |
//! | the secret is changed or forgotten meanwhile | what was asked for before that is not kept |

mod flight;
mod memory;
mod notice;
mod renewal;

use secretlink_aws::{Identity, SecretBody, SecretId, SecretValue, Settings, VersionSelector, stage};
use secretlink_cache::{Asking, Contents, Finish, Found, Key, Look, SealError};
use secretlink_core::Secret;
use std::time::Duration;

use self::flight::Flight;
pub use self::memory::{init, now};
pub use self::renewal::renew;
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::error::Error;
use crate::secrets::client;
use crate::settings;
use crate::stats::{self, Counter};
pub use secretlink_cache::{Listed, Moment, Told, Wanted};

/// One version of a secret, and where and as whom it is read.
#[derive(Clone, Debug)]
pub struct Request {
    key: Key,
    id: SecretId,
    version: VersionSelector,
    settings: Settings,
}

/// A secret that was read, still sealed.
#[derive(Clone)]
pub struct Sealed {
    key: Vec<u8>,
    bytes: Vec<u8>,
    /// Its version.
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
    pub fn open(self) -> Result<SecretValue, Error> {
        let opened = memory::sealer()?.open(&self.key, self.bytes)?;
        SecretValue::from_bytes(opened.expose()).ok_or(Error::Seal(SealError::Broken))
    }
}

impl Request {
    /// A request for a version of a secret, where and as whom `identity` says and otherwise the settings.
    ///
    /// # Errors
    /// If the id cannot be one, or a setting was refused.
    pub fn new(secret_id: &str, version: VersionSelector, identity: &Identity) -> Result<Request, Error> {
        let id = SecretId::parse(secret_id)?;
        let settings = settings::aws::current()?.with(identity);
        let stage = match (&version.stage, &version.version_id) {
            (Some(stage), _) => stage.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => stage::CURRENT.to_owned(),
        };
        let key = Key {
            fingerprint: settings.fingerprint(),
            region: identity.region.clone().unwrap_or_default(),
            role_arn: identity.role_arn.clone().unwrap_or_default(),
            external_id: identity.external_id.clone().unwrap_or_default(),
            secret_id: secret_id.to_owned(),
            stage,
            version_id: version.version_id.clone().unwrap_or_default(),
        };
        Ok(Request { key, id, version, settings })
    }

    /// The same for the version with this staging label.
    pub fn at_stage(&self, stage: &str) -> Request {
        let version = VersionSelector { stage: Some(stage.to_owned()), version_id: None };
        let key = Key { stage: stage.to_owned(), version_id: String::new(), ..self.key.clone() };
        Request { key, version, ..self.clone() }
    }

    /// The request that this key stands for, if it does under these settings.
    fn of_key(key: &Key, settings: &Settings) -> Option<Request> {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let identity = Identity {
            region: given(&key.region),
            role_arn: given(&key.role_arn),
            external_id: given(&key.external_id),
        };
        let settings = settings.clone().with(&identity);
        (settings.fingerprint() == key.fingerprint).then_some(())?;
        let version = VersionSelector { stage: given(&key.stage), version_id: given(&key.version_id) };
        Some(Request { key: key.clone(), id: SecretId::parse(&key.secret_id).ok()?, version, settings })
    }

    /// The value, from the cache or from AWS.
    ///
    /// # Errors
    /// As AWS says, or has just said to somebody else.
    pub fn get(&self, wanted: &Wanted) -> Result<Sealed, Error> {
        let key = self.key.to_bytes();
        let timing = settings::cache::timing();
        let asking = asking(&self.settings);
        let mut has_waited = false;
        loop {
            let look = memory::with(|store| store.look(&key, wanted, &timing, &asking, now()));
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
                Some(Look::Failed(report)) => return Err(Error::Told(Told::from_bytes(&report))),
                Some(Look::GaveUp) => {
                    let secret = self.key.secret_id.clone();
                    return Err(Error::SecretAwaited { secret, after: asking.patience });
                }
                Some(Look::Ask(ticket)) => {
                    let flight = Flight::begin(ticket);
                    let asked = now();
                    let came = io::run(WaitEvent::SecretsManager, self.fetch(key.clone()))?;
                    match (flight.land(&self.key, &came, wanted, &timing, &asking), came) {
                        (Some(Finish::Stale { found, .. }), _) => {
                            stats::count(Counter::CacheStaleServes);
                            found
                        }
                        // Even if it is not kept: there has been a change since, or no room. But whoever
                        // asked before may be told what was.
                        (_, came) => found(came?, asked),
                    }
                }
                Some(Look::Uncached | Look::Wait(_)) | None => {
                    let asked = now();
                    found(io::run(WaitEvent::SecretsManager, self.fetch(key.clone()))??, asked)
                }
            };
            let Found { sealed, version_id, asked } = found;
            return Ok(Sealed { key, bytes: sealed, version_id, asked });
        }
    }

    /// Asks AWS, and seals what comes on the I/O thread.
    fn fetch(&self, key: Vec<u8>) -> impl Future<Output = Result<Contents, Error>> + Send + use<> {
        let client = client::with(self.settings.clone());
        let (id, version) = (self.id.clone(), self.version.clone());
        async move {
            let value = client.get_secret_value(&id, &version).await?;
            contents(&key, &value)
        }
    }

    /// For how long it asks at most.
    pub fn patience(&self) -> Duration {
        self.settings.request_timeout
    }

    /// The version that the cache has, if it has one.
    pub fn cached_version(&self) -> Option<String> {
        memory::with(|store| store.version(&self.key.to_bytes())).flatten()
    }
}

/// This process, which begins to want a value now.
fn asking(settings: &Settings) -> Asking {
    Asking {
        owner: server::process_id(),
        arrived: now(),
        patience: settings.request_timeout,
        connect_patience: settings.connect_timeout,
        attempts: settings.max_attempts,
    }
}

fn found(contents: Contents, asked: Moment) -> Found {
    Found { sealed: contents.sealed, version_id: contents.version_id, asked }
}

/// What is kept of a value under a key.
fn contents(key: &[u8], value: &SecretValue) -> Result<Contents, Error> {
    Ok(Contents {
        sealed: memory::sealer()?.seal(key, value.to_bytes())?,
        version_id: value.version_id.clone(),
        arn: value.arn.clone(),
        name: value.name.clone(),
    })
}

/// Reads a secret again, and wipes whatever else is cached of it. Returns the version now cached.
///
/// # Errors
/// As [`Request::get`]; an old value does not count.
pub fn refresh(secret_id: &str) -> Result<String, Error> {
    let request = Request::new(secret_id, VersionSelector::default(), &Identity::default())?;
    let since = now();
    memory::with(|store| {
        store.replace(|key, named| (named.is(secret_id) && *key != request.key).then_some(None), since);
    });
    Ok(request.get(&Wanted::Since(since))?.version_id)
}

/// Wipes what is cached of a secret, however it was named. Returns how many entries that were.
pub fn forget(secret_id: &str) -> usize {
    let forgotten = memory::with(|store| store.forget(secret_id)).unwrap_or(0);
    memory::wake_all();
    forgotten
}

/// Wipes what is cached of a secret when it goes, be it by an ERROR: a change of the secret may have taken
/// place although its answer was lost, or nobody waited for it.
pub struct ForgetAtEnd(pub String);

impl Drop for ForgetAtEnd {
    fn drop(&mut self) {
        forget(&self.0);
    }
}

/// Wipes everything. Returns how many entries that were.
pub fn forget_all() -> usize {
    let forgotten = memory::with(|store| store.forget_all()).unwrap_or(0);
    memory::wake_all();
    forgotten
}

/// What is cached, but for the values, those used last at the end.
pub fn list() -> Vec<Listed> {
    memory::with(|store| store.list()).unwrap_or_default()
}

/// A number that has changed if anything cached has.
pub fn generation() -> u64 {
    memory::with(|store| store.generation()).unwrap_or(0)
}

/// This server has made a password the right one, and this version of the secret has it. From this moment
/// on nobody is to get the old one, even while Secrets Manager does not say so yet. `settings` are those
/// with which it was stored. Without the secret's text, what is cached of it is wiped.
///
/// Called after a commit: it cannot fail.
pub fn changed(settings: &Settings, secret: &SecretId, version_id: &str, text: Option<&Secret>) {
    let fingerprint = settings.fingerprint();
    memory::with(|store| {
        store.replace(
            |key, named| {
                // A version that was asked for by its id stays what it was.
                if !named.is(secret.as_str()) || !key.version_id.is_empty() {
                    return None;
                }
                let is_it =
                    key.fingerprint == fingerprint && key.stage == stage::CURRENT && !named.arn.is_empty();
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
