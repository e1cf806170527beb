//! Reading secrets for SQL.

use secretlink_aws::{SecretDescription, SecretId, SecretValue, SettingsOverrides, VersionSelector};

use crate::secrets::cache::{SecretRequest, Wanted};
use crate::secrets::client;
use crate::secrets::error::SecretsError;

/// The value of a version, from the cache or from AWS.
///
/// # Errors
/// If the id cannot be one, and as AWS says.
pub(crate) fn value(secret_id: &str, version: VersionSelector) -> Result<SecretValue, SecretsError> {
    SecretRequest::new(secret_id, version, &SettingsOverrides::default())?.get(&Wanted::Fresh)?.open()
}

/// What AWS knows of a secret besides its value.
///
/// # Errors
/// If the id cannot be one, and as AWS says.
pub(crate) fn description(secret_id: &str) -> Result<SecretDescription, SecretsError> {
    let id = SecretId::parse(secret_id)?;
    client::call(|client| async move { client.describe_secret(&id).await })
}
