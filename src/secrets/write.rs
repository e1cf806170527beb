//! Writing secrets. What is cached of a secret is forgotten afterwards, whatever came of the request.

use secretlink_aws::{NewSecret, SecretBody, SecretId};
use secretlink_core::Secret;

use crate::secrets::cache::ForgetAtEnd;
use crate::secrets::client;
use crate::secrets::error::SecretsError;

/// Creates a secret, and returns its ARN.
///
/// # Errors
/// As AWS says.
pub(crate) fn create(new: NewSecret) -> Result<String, SecretsError> {
    // The cache may hold that there was none.
    let _forget = ForgetAtEnd(new.name.clone());
    client::call(|client| async move { client.create_secret(new).await })
}

/// Stores a new version of a secret under these staging labels, and returns its version id.
///
/// # Errors
/// If the id cannot be one, and as AWS says.
pub(crate) fn put(secret_id: &str, body: SecretBody, stages: Vec<String>) -> Result<String, SecretsError> {
    let id = SecretId::parse(secret_id)?;
    let _forget = ForgetAtEnd(secret_id.to_owned());
    client::call(|client| async move {
        match body {
            SecretBody::String(text) => client.put_secret_value(&id, text, stages, None).await,
            SecretBody::Binary(bytes) => client.put_secret_binary(&id, bytes, stages).await,
        }
    })
}

/// Changes one field of a secret that is a JSON object, keeps all others, and returns the version id.
///
/// # Errors
/// If the id cannot be one, or the secret is no JSON object; and as AWS says.
pub(crate) fn put_field(secret_id: &str, field: String, value: Secret) -> Result<String, SecretsError> {
    let id = SecretId::parse(secret_id)?;
    let _forget = ForgetAtEnd(secret_id.to_owned());
    client::call(|client| async move { client.put_secret_field(&id, &field, &value).await })
}
