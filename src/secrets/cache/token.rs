//! IAM tokens in the cache.

use secretlink_aws::{SettingsOverrides, TokenAction, TokenSubject};
use secretlink_cache::{Subject, Wanted};
use secretlink_core::Secret;

use super::entry::{Asked, Entry, Sealed};
use crate::secrets::error::SecretsError;

/// A token for one login, and as whom it is signed.
#[derive(Clone, Debug)]
pub(crate) struct TokenRequest(Entry);

impl TokenRequest {
    /// A request for a token, signed for this region as whom `overrides` says and otherwise the settings.
    ///
    /// # Errors
    /// If a setting was refused.
    pub(crate) fn new(
        login: TokenSubject,
        region: String,
        overrides: &SettingsOverrides,
    ) -> Result<TokenRequest, SecretsError> {
        let subject = Subject::IamToken { region: region.clone(), login: login.to_string() };
        Ok(TokenRequest(Entry::new(subject, Asked::IamToken { login, region }, overrides)?))
    }

    /// What the database is asked for.
    pub(crate) fn action(&self) -> TokenAction {
        match &self.0.asked {
            Asked::IamToken { login, .. } => login.action(),
            Asked::Secret { .. } => TokenAction::Connect,
        }
    }

    /// The token, from the cache or signed now.
    ///
    /// # Errors
    /// If there are no credentials, or somebody else has just found none.
    pub(crate) fn get(&self, wanted: &Wanted) -> Result<Sealed, SecretsError> {
        self.0.get(wanted)
    }
}

impl Sealed {
    /// The token. To be called on the I/O thread where it goes no further, as [`Sealed::open`].
    ///
    /// # Errors
    /// If memory was damaged.
    pub(crate) fn open_token(self) -> Result<Secret, SecretsError> {
        self.unseal()
    }
}
