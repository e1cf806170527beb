//! The Secrets Manager client of this backend.

use secretlink_aws::{SecretId, SecretValue, SecretsManager, VersionSelector};
use std::cell::RefCell;
use std::future::Future;

use crate::backend::{WaitEvent, io};
use crate::error::Error;
use crate::gucs;

thread_local! {
    static CLIENT: RefCell<Option<SecretsManager>> = const { RefCell::new(None) };
}

/// The client for the settings as they are now. Kept from call to call, since finding region and
/// credentials takes time; made anew when a setting has changed.
///
/// # Errors
/// A setting that was refused.
pub fn client() -> Result<SecretsManager, Error> {
    let settings = gucs::aws_settings()?;
    Ok(CLIENT.with_borrow_mut(|client| match client {
        Some(client) if *client.settings() == settings => client.clone(),
        _ => client.insert(SecretsManager::new(settings)).clone(),
    }))
}

/// Runs one call on the I/O thread and waits for it.
///
/// # Errors
/// Those of the call, and a setting that was refused.
pub fn call<T, E, F, Fut>(request: F) -> Result<T, Error>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
    F: FnOnce(SecretsManager) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    io::run(WaitEvent::SecretsManager, request(client()?))?.map_err(Into::into)
}

/// Reads a secret.
///
/// # Errors
/// If the id is not one, or as AWS says.
pub fn get(secret_id: &str, version: VersionSelector) -> Result<SecretValue, Error> {
    let id = SecretId::parse(secret_id)?;
    call(|client| async move { client.get_secret_value(&id, &version).await })
}
