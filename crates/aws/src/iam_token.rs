//! Tokens signed with the credentials that the settings lead to.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use secretlink_core::Secret;

use crate::client::Client;
use crate::error::AwsError;
use crate::failure::credentials_error;
use crate::rds_token::{TOKEN_LIFETIME, TokenError, TokenSubject};

/// A token, and how long it may be used.
#[derive(Clone, Debug)]
pub struct IamToken {
    /// What is sent as the password.
    pub token: Secret,
    /// When the token was signed, as the token says it: `20241107T173933Z`. Tokens of one second are equal.
    pub signed: String,
    /// For how long from then on it is used: shorter than a database takes it.
    pub lifetime: Duration,
}

impl Client {
    /// Signs a token with the credentials that these settings lead to. Asks nobody, unless there are no
    /// credentials at hand.
    ///
    /// # Errors
    /// [`AwsError`] of region and credentials, and [`TokenError`].
    pub async fn sign_token(&self, subject: &TokenSubject, region: &str) -> Result<IamToken, AwsError> {
        let limit = self.settings().request_timeout;
        let credentials = tokio::time::timeout(limit, async {
            let (_, config) = self.region_and_config(Some(region)).await?;
            let provider = config.credentials_provider().ok_or_else(nowhere_to_look)?;
            provider.provide_credentials().await.map_err(|error| credentials_error(&error))
        });
        let credentials = credentials.await.map_err(|_| TokenError::TimedOut { after: limit })??;
        let now = SystemTime::now();
        Ok(IamToken {
            token: subject.sign(region, &credentials, now)?,
            signed: date_time(now),
            lifetime: lifetime(now, credentials.expiry()),
        })
    }

    /// The region to sign a token with, if the host name says none: of the settings, the environment, the
    /// profile or the instance.
    ///
    /// # Errors
    /// [`TokenError::NoRegion`].
    pub async fn region_for_token(&self, host: &str) -> Result<String, AwsError> {
        let limit = self.settings().request_timeout;
        let region = tokio::time::timeout(limit, self.region_and_config(None)).await;
        match region {
            Ok(Ok((region, _))) => Ok(region.to_string()),
            Ok(Err(AwsError::NoRegion)) | Err(_) => {
                Err(TokenError::NoRegion { host: host.to_owned() }.into())
            }
            Ok(Err(error)) => Err(error),
        }
    }
}

fn nowhere_to_look() -> AwsError {
    AwsError::NoCredentials { looked: "There is nowhere to look for them.".into() }
}

/// A token is not used so shortly before a database stops to take it: clocks differ, and a login takes time.
const MARGIN: Duration = Duration::from_secs(60);

/// A token is not used so shortly before its credentials end.
const CREDENTIALS_MARGIN: Duration = Duration::from_secs(10);

/// For how long a token may be used that is signed now, with credentials that end then.
fn lifetime(now: SystemTime, credentials_end: Option<SystemTime>) -> Duration {
    let longest = TOKEN_LIFETIME - MARGIN;
    let Some(end) = credentials_end else { return longest };
    let left = end.duration_since(now).unwrap_or_default();
    longest.min(left - CREDENTIALS_MARGIN.min(left / 8))
}

/// A time as SigV4 writes it.
fn date_time(time: SystemTime) -> String {
    let time = DateTime::from(time);
    let text = DateTime::from_secs(time.secs()).fmt(Format::DateTime).unwrap_or_default();
    text.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_before_the_database_refuses_it_and_before_its_credentials() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_731_001_173);
        let until = |seconds| lifetime(now, Some(now + Duration::from_secs(seconds))).as_secs();
        assert_eq!(lifetime(now, None).as_secs(), 840);
        assert_eq!(
            [until(3600), until(860), until(849), until(80), until(8), until(0)],
            [840, 840, 839, 70, 7, 0]
        );
        assert_eq!(lifetime(now, Some(now - Duration::from_secs(5))), Duration::ZERO);
        assert_eq!(date_time(now), "20241107T173933Z");
        assert_eq!(date_time(now + Duration::from_millis(999)), "20241107T173933Z");
    }
}
