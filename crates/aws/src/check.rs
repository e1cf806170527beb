//! What works of all that a call needs, and what does not.

use std::error::Error;
use std::time::{Instant, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use secretlink_core::Report;

use crate::call::Call;
use crate::failure::{credentials_error, reason, tidy};
use crate::operation::Operation;
use crate::rds_token::TokenSubject;
use crate::{AwsError, Client, DatabaseSecret, NotWritable, SecretId, Settings, VersionSelector, stage, sts};

/// A version that no secret has: Secrets Manager makes UUIDs, and ours are `secretlink-` and a UUID.
const NO_SUCH_VERSION: &str = "secretlink-check-no-such-version-exists";

/// A staging label that nobody uses.
const NO_SUCH_STAGE: &str = "secretlink-check";

/// An access key that does not exist.
const NOBODYS_KEY: &str = "AKIASECRETLINKCHECK0";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub item: &'static str,
    /// Whether what was looked at works; `None` if that could not be found out.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    /// A thing that works.
    pub fn good(item: &'static str, detail: impl Into<String>) -> Check {
        Check { item, ok: Some(true), detail: detail.into(), hint: None }
    }

    /// A thing that does not work, with what to do about it.
    pub fn bad(item: &'static str, detail: impl Into<String>, hint: &str) -> Check {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Check { item, ok: Some(false), detail: detail.into(), hint }
    }

    /// Nobody knows.
    pub fn unknown(item: &'static str, detail: impl Into<String>) -> Check {
        Check { item, ok: None, detail: detail.into(), hint: None }
    }

    /// A thing that does not work because of an error.
    pub fn failed(item: &'static str, error: &impl Report) -> Check {
        Check { item, ok: Some(false), detail: with_detail(error), hint: error.hint() }
    }
}

/// Message and detail in one line.
fn with_detail(error: &impl Report) -> String {
    match error.detail() {
        Some(detail) => format!("{error}: {detail}"),
        None => error.to_string(),
    }
}

impl Client {
    /// Looks at region, credentials, identity and endpoint, and at a secret if one is given: at each on
    /// its own and side by side, so that it takes no longer than `secretlink.request_timeout`. Changes
    /// nothing. `is_written` says that this server writes the secret: a right that only writing needs is
    /// then missed.
    pub async fn check(&self, secret: Option<&str>, is_written: bool) -> Vec<Check> {
        let start = Instant::now();
        let limited = self.until(start + self.settings().request_timeout);
        // On the heap, each on its own: together they are large for the stack of a thread.
        // What is asked only for the sake of asking is not counted.
        let unrecorded = limited.unrecorded();
        let (base, of_secret) = tokio::join!(
            Box::pin(unrecorded.check_base()),
            Box::pin(limited.check_secret(secret, is_written))
        );
        base.into_iter().chain(of_secret).collect()
    }

    /// Looks at what an IAM token for this login needs: region, credentials, identity, and the signing itself. The
    /// token is dropped. `by_host` says that the host name has the region in it, `argument` is the region that the
    /// caller named.
    pub async fn check_token(
        &self,
        login: Result<TokenSubject, AwsError>,
        region: &str,
        by_host: bool,
        argument: Option<&str>,
    ) -> Vec<Check> {
        let limited = self.until(Instant::now() + self.settings().request_timeout).unrecorded();
        let source = match argument {
            _ if by_host => "the host name",
            Some(_) => "the argument region",
            None => limited.region_source().await,
        };
        let ignored = argument.filter(|argument| *argument != region);
        let ignored = ignored.map_or_else(String::new, |argument| format!(", and not {argument} as given"));
        let named = Check::good("region", format!("{region}, from {source}{ignored}"));
        let call = Call::new(Operation::DescribeSecret, NO_SUCH_STAGE);
        let config = match limited.in_time(&call, limited.region_and_config(Some(region))).await {
            Ok((_, config)) => config,
            Err(error) => {
                let skipped = |item| Check::unknown(item, "Not looked at, since a setting was refused.");
                let rest = ["credentials", "identity", "token"].map(skipped);
                return std::iter::once(Check::failed("region", &error)).chain(rest).collect();
            }
        };
        let (credentials, identity, token) = tokio::join!(
            Box::pin(limited.check_credentials(config)),
            Box::pin(limited.check_identity(config)),
            Box::pin(limited.check_signing(login, region)),
        );
        vec![named, credentials, identity, token]
    }

    /// Whether a token can be signed.
    async fn check_signing(&self, login: Result<TokenSubject, AwsError>, region: &str) -> Check {
        const ITEM: &str = "token";
        let signed = async {
            let login = login?;
            let token = self.sign_token(&login, region).await?;
            Ok::<_, AwsError>((login.action().permission(), login.to_string(), token.lifetime))
        };
        match signed.await {
            Ok((permission, login, lifetime)) => Check::good(
                ITEM,
                format!(
                    "A token for {permission} as {login} was signed, to be used for {} seconds.",
                    lifetime.as_secs()
                ),
            ),
            Err(error) => Check::failed(ITEM, &error),
        }
    }

    async fn check_base(&self) -> Vec<Check> {
        let call = Call::new(Operation::DescribeSecret, NO_SUCH_STAGE);
        let found = self.in_time(&call, self.region_and_config(None)).await;
        let (region, config) = match found {
            Ok(found) => found,
            Err(error) => {
                let skipped = |item| Check::unknown(item, "Not looked at without a region.");
                let rest = ["credentials", "identity", "endpoint"].map(skipped);
                return std::iter::once(Check::failed("region", &error)).chain(rest).collect();
            }
        };
        let (credentials, identity, endpoint) = tokio::join!(
            Box::pin(self.check_credentials(config)),
            Box::pin(self.check_identity(config)),
            Box::pin(self.check_endpoint(config, &region)),
        );
        let source = self.region_source().await;
        let region = Check::good("region", format!("{region}, from {source}"));
        vec![region, credentials, identity, endpoint]
    }

    async fn check_credentials(&self, config: &SdkConfig) -> Check {
        const ITEM: &str = "credentials";
        let call = Call::new(Operation::DescribeSecret, NO_SUCH_STAGE);
        let Some(provider) = config.credentials_provider() else {
            return Check::unknown(ITEM, "There is nowhere to look for them.");
        };
        let found = self.in_time(&call, async {
            provider.provide_credentials().await.map_err(|error| credentials_error(&error))
        });
        match found.await {
            Ok(credentials) => Check::good(ITEM, describe(&credentials, self.settings())),
            Err(error) => Check::failed(ITEM, &error),
        }
    }

    /// Whom STS takes us for. Nothing else needs STS if no role is assumed, so that it may well be out
    /// of reach.
    async fn check_identity(&self, config: &SdkConfig) -> Check {
        const ITEM: &str = "identity";
        let call = Call::new(Operation::DescribeSecret, NO_SUCH_STAGE);
        let asked = self.in_time(&call, async { Ok(sts::caller_identity(config).await) });
        match asked.await {
            Ok(Ok(identity)) => {
                let (account, arn) = (identity.account.unwrap_or_default(), identity.arn.unwrap_or_default());
                Check::good(ITEM, format!("account {}, {}", tidy(&account), tidy(&arn)))
            }
            Ok(Err(error)) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
                Some(code) => Check::failed(ITEM, &AwsError::CredentialsRefused { code: tidy(code) }),
                None if credentials_are_missing(&error) => {
                    Check::unknown(ITEM, "Not looked at without credentials.")
                }
                None => sts_out_of_reach(&reason(&error)),
            },
            Err(_) => sts_out_of_reach("It did not answer in time."),
        }
    }

    /// Whether Secrets Manager answers, whatever it says: asked with credentials that are nobody's, so that
    /// it does not take any.
    async fn check_endpoint(&self, config: &SdkConfig, region: &Region) -> Check {
        const ITEM: &str = "endpoint";
        let builder = aws_sdk_secretsmanager::config::Builder::from(config)
            .credentials_provider(Credentials::new(NOBODYS_KEY, "none", None, None, "secretlink"))
            .retry_config(RetryConfig::disabled());
        let client =
            aws_sdk_secretsmanager::Client::from_conf(self.with_endpoint(builder, region.clone()).build());
        let call = Call::new(Operation::DescribeSecret, NO_SUCH_STAGE);
        call.set_region(region.as_ref());
        let start = Instant::now();
        let request = client.describe_secret().secret_id(NO_SUCH_STAGE);
        let asked = self.in_time(&call, async {
            request.customize().interceptor(call.observer()).send().await.map_err(|error| call.failed(error))
        });
        match asked.await {
            Err(error) if !is_an_answer(&error) => Check::failed(ITEM, &error),
            _ => {
                let endpoint = call.endpoint().unwrap_or_default();
                Check::good(ITEM, format!("{endpoint} answered in {} ms", start.elapsed().as_millis()))
            }
        }
    }

    async fn check_secret(&self, secret: Option<&str>, is_written: bool) -> Vec<Check> {
        let Some(secret) = secret else { return Vec::new() };
        match SecretId::parse(secret) {
            Ok(id) => {
                let (read, write) =
                    tokio::join!(Box::pin(self.check_read(&id)), Box::pin(self.check_write(&id, is_written)));
                vec![read, write]
            }
            Err(error) => vec![Check::failed("read", &error)],
        }
    }

    async fn check_read(&self, id: &SecretId) -> Check {
        match self.get_secret_value(id, &VersionSelector::default()).await {
            Ok(value) => {
                let fit = match DatabaseSecret::from_value(&value) {
                    Ok(_) => "it has what connect_with_secret needs".to_owned(),
                    Err(error) => format!("not for connect_with_secret: {error}"),
                };
                Check::good("read", format!("version {}; {fit}", tidy(&value.version_id)))
            }
            Err(error) => Check::failed("read", &error),
        }
    }

    /// Whether the secret could be written to, as far as that shows without writing.
    async fn check_write(&self, id: &SecretId, is_written: bool) -> Check {
        const ITEM: &str = "write";
        let failed = |error: &AwsError| match error {
            // Who only reads may well have no other right.
            AwsError::NotAuthorized { .. } if !is_written => Check {
                hint: error.hint().map(|hint| format!("{hint} Reading the secret does not need it.")),
                ..Check::unknown(ITEM, with_detail(error))
            },
            error => Check::failed(ITEM, error),
        };
        let stages = match self.stages(id).await {
            Ok(stages) => stages,
            Err(error) => return failed(&error),
        };
        match stages.writable() {
            Ok(()) => {}
            Err(NotWritable::Deleted) => {
                let secret = id.as_str().to_owned();
                return Check::failed(ITEM, &AwsError::MarkedForDeletion { secret });
            }
            Err(NotWritable::Owned(service)) => {
                return Check::bad(ITEM, format!("It is managed by {}.", tidy(&service)), "");
            }
            Err(NotWritable::Replica(primary)) => {
                let detail = format!("It is a replica; region {} has the secret itself.", tidy(&primary));
                return Check::bad(ITEM, detail, "Write to the secret by its ARN in that region.");
            }
        }
        let pending =
            stages.holder(stage::PENDING).filter(|held| Some(*held) != stages.holder(stage::CURRENT));
        let rotation = pending.map_or_else(String::new, |version| {
            format!(" A rotation is not over: AWSPENDING is at version {}.", tidy(version))
        });
        // AWS looks first whether a request is allowed, and then whether it makes sense. This one never
        // does: there is no such version that could be given the label, and none that is to lose it.
        match self
            .unrecorded()
            .update_secret_version_stage(id, NO_SUCH_STAGE, None, Some(NO_SUCH_VERSION))
            .await
        {
            Err(error) if is_a_refusal_of_nonsense(&error) => Check::unknown(
                ITEM,
                format!(
                    "secretsmanager:UpdateSecretVersionStage is permitted; secretsmanager:PutSecretValue \
                     cannot be tried without writing.{rotation}"
                ),
            ),
            Err(error) => failed(&error),
            Ok(()) => Check::unknown(ITEM, format!("Not known without writing.{rotation}")),
        }
    }
}

fn sts_out_of_reach(why: &str) -> Check {
    let hint =
        "Only assuming a role needs STS. In a VPC without internet access it needs an endpoint of its own.";
    Check { hint: Some(hint.into()), ..Check::unknown("identity", format!("STS could not be asked. {why}")) }
}

fn credentials_are_missing(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .any(|error| error.is::<aws_credential_types::provider::error::CredentialsError>())
}

/// Whether Secrets Manager said it.
fn is_an_answer(error: &AwsError) -> bool {
    use AwsError::*;
    matches!(
        error,
        SecretNotFound { .. }
            | NotAuthorized { .. }
            | CredentialsRefused { .. }
            | InvalidParameter { .. }
            | InvalidRequest { .. }
            | Throttled { .. }
            | Service { .. }
    )
}

/// Whether the request was allowed, and made no sense.
fn is_a_refusal_of_nonsense(error: &AwsError) -> bool {
    use AwsError::*;
    matches!(
        error,
        SecretNotFound { .. } | VersionNotFound { .. } | InvalidParameter { .. } | InvalidRequest { .. }
    )
}

/// Where credentials are from, whose they are without giving them away, and how long they last.
fn describe(credentials: &Credentials, settings: &Settings) -> String {
    use AwsCredentialFeature::*;
    let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
    let source = features.into_iter().flatten().find_map(|feature| {
        Some(match feature {
            CredentialsEnvVars => "the environment",
            CredentialsEnvVarsStsWebIdToken | CredentialsStsAssumeRoleWebId => "a web identity token",
            CredentialsProfile
            | CredentialsProfileSourceProfile
            | CredentialsProfileNamedProvider
            | CredentialsProfileStsWebIdToken => "a profile",
            CredentialsProfileProcess | CredentialsProcess => "a profile's credential_process",
            CredentialsHttp => "the container's metadata",
            CredentialsImds => "instance metadata",
            CredentialsStsAssumeRole => "STS",
            _ => return None,
        })
    });
    let source = match &settings.role_arn {
        Some(role) => format!("role {role}, by STS"),
        None => format!("from {}", source.unwrap_or("another provider")),
    };
    let id = credentials.access_key_id();
    let end = id.get(id.len().saturating_sub(4)..).filter(|end| end.len() < id.len());
    let key = end.map_or_else(String::new, |end| format!("; access key ending in {}", tidy(end)));
    let until = credentials.expiry().map_or_else(String::new, |end| format!(", until {}", time(end)));
    format!("{source}{key}{until}")
}

fn time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = DateTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.fmt(Format::DateTime).unwrap_or_else(|_| "a time that cannot be told".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_access_key_only_its_end_is_told() {
        let of = |id: &str| describe(&Credentials::new(id, "secret", None, None, "x"), &Settings::default());
        assert_eq!(of("AKIA12345678WXYZ"), "from another provider; access key ending in WXYZ");
        assert_eq!(of("WXYZ"), "from another provider");
        assert_eq!(of(""), "from another provider");
        let end = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_800_000_000_500);
        let mut credentials = Credentials::new("AKIA12345678WXYZ", "s", None, Some(end), "x");
        credentials.set_property(vec![AwsCredentialFeature::CredentialsImds]);
        assert_eq!(
            describe(&credentials, &Settings::default()),
            "from instance metadata; access key ending in WXYZ, until 2027-01-15T08:00:00Z"
        );
    }
}
