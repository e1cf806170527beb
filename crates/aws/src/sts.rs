//! The calls to STS: assuming the role of `secretlink.role_arn`, and asking as whom AWS knows us.

use std::error::Error;
use std::fmt;

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use aws_sdk_sts::operation::get_caller_identity::{GetCallerIdentityError, GetCallerIdentityOutput};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;

use crate::Settings;

/// What CloudTrail shows if no other name is set.
const SESSION_NAME: &str = "secretlink";

/// Assumes a role, and tells whose failure it was if it could not.
#[derive(Debug)]
pub(crate) struct Role {
    arn: String,
    provider: AssumeRoleProvider,
}

impl Role {
    /// The role `arn`, to be assumed as `config` says: with its credentials, at STS in its region.
    pub(crate) async fn new(arn: &str, settings: &Settings, config: &SdkConfig) -> Role {
        let session = settings.role_session_name.as_deref().unwrap_or(SESSION_NAME);
        let mut builder = AssumeRoleProvider::builder(arn).session_name(session).configure(config);
        if let Some(id) = &settings.external_id {
            builder = builder.external_id(id);
        }
        Role { arn: arn.to_owned(), provider: builder.build().await }
    }
}

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.provider.provide_credentials().await.map_err(|reason| {
                CredentialsError::provider_error(NotAssumed { role: self.arn.clone(), reason })
            })
        })
    }
}

/// A role that could not be assumed.
#[derive(Debug)]
pub(crate) struct NotAssumed {
    /// The role's ARN.
    pub(crate) role: String,
    /// What STS answered, or why STS could not be asked.
    pub(crate) reason: CredentialsError,
}

impl fmt::Display for NotAssumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not assume role {}", self.role)
    }
}

impl Error for NotAssumed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

/// The identity that AWS knows us by (STS API reference, GetCallerIdentity).
pub(crate) async fn caller_identity(
    config: &SdkConfig,
) -> Result<GetCallerIdentityOutput, SdkError<GetCallerIdentityError, HttpResponse>> {
    aws_sdk_sts::Client::new(config).get_caller_identity().send().await
}
