//! What the SDK's errors mean: its chains of sources, and above all why there are no credentials.

use std::error::Error;

use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::AwsError;
use crate::sts::NotAssumed;

/// The codes of aws-runtime's `THROTTLING_ERRORS` that a service such as Secrets Manager can send.
pub(crate) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete"
    )
}

/// The innermost reason of an error.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(|root| tidy(&root.to_string())).unwrap_or_default()
}

/// Why there are no credentials.
pub(crate) fn credentials_error(error: &CredentialsError) -> AwsError {
    if let Some(error) = sources(error).find_map(|e| e.downcast_ref::<AwsError>()) {
        return error.clone();
    }
    match sources(error).find_map(|e| e.downcast_ref::<NotAssumed>()) {
        Some(error) => not_assumed(error),
        None => no_credentials(error),
    }
}

/// Why a role could not be assumed: STS said no, or was not reached, or there was nothing to ask it with.
fn not_assumed(error: &NotAssumed) -> AwsError {
    let role = error.role.clone();
    let sent =
        sources(&error.reason).find_map(|e| e.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>());
    let below = sent.and_then(|sent| sent.source());
    if let Some(none) = below.and_then(|e| sources(e).find_map(|e| e.downcast_ref::<CredentialsError>())) {
        return no_credentials(none);
    }
    match sent {
        Some(SdkError::ServiceError(refusal)) => {
            let status = refusal.raw().status().as_u16();
            let code = match refusal.err().code() {
                Some(code) if status < 500 && !is_throttling(code) => code,
                code => {
                    let said = code.map(|code| format!(": {}", tidy(code))).unwrap_or_default();
                    let reason = format!("STS answered with HTTP status {status}{said}.");
                    return AwsError::RoleNotAssumed { role, reason };
                }
            };
            // A wrong signature's message holds the canonical request, and with that the session token.
            let quoted = code.starts_with("AccessDenied") || code.starts_with("Validation");
            let message = refusal.err().message().filter(|_| quoted).map(tidy);
            AwsError::RoleRefused { role, code: tidy(code), message }
        }
        _ => AwsError::RoleNotAssumed { role, reason: reasons(&error.reason) },
    }
}

fn no_credentials(error: &CredentialsError) -> AwsError {
    let chain = sources(error).find_map(|e| e.downcast_ref::<ProviderChainError<CredentialsError>>());
    match (error, chain) {
        (CredentialsError::CredentialsNotLoaded(_), chain) => AwsError::NoCredentials {
            looked: match chain {
                Some(chain) => {
                    let attempts = chain.attempts().iter();
                    let each = attempts.map(|a| format!("{}: {}", a.name(), reasons(a.error())));
                    tidy(&each.collect::<Vec<_>>().join("; "))
                }
                // Only the profile of secretlink.profile was asked.
                None => reasons(error),
            },
        },
        _ => AwsError::CredentialsFailed { reason: reasons(error), unreachable: is_unreachable(error) },
    }
}

/// Whether a provider has no credentials since the service that gives them out was not reached, or failed.
fn is_unreachable(error: &CredentialsError) -> bool {
    fn failed<E>(error: &(dyn Error + 'static)) -> bool
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        match error.downcast_ref::<SdkError<E, HttpResponse>>() {
            Some(SdkError::ServiceError(said)) => {
                said.raw().status().as_u16() >= 500 || said.err().code().is_some_and(is_throttling)
            }
            Some(SdkError::TimeoutError(_) | SdkError::ResponseError(_)) => true,
            _ => false,
        }
    }
    matches!(error, CredentialsError::ProviderTimedOut(_))
        || sources(error).any(|e| {
            e.is::<ConnectorError>()
                || failed::<AssumeRoleError>(e)
                || failed::<AssumeRoleWithWebIdentityError>(e)
        })
}

/// Every reason of an error of credentials.
fn reasons(error: &(dyn Error + 'static)) -> String {
    let all: Vec<String> = sources(error).map(|e| e.to_string()).collect();
    let all = all.join(": ");
    // What a credential_process wrote to its standard error may be anything, credentials included. The
    // canonical string that STS shows for a wrong signature has the session token in it.
    let shown = ["Stderr:", "Canonical"].iter().filter_map(|mark| all.find(mark)).min();
    tidy(&all[..shown.unwrap_or(all.len())])
}

/// The error and its sources, outermost first.
pub(crate) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// One line of bounded length.
pub(crate) fn tidy(text: &str) -> String {
    const MAX_CHARS: usize = 1000;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    line.trim().to_owned()
}
