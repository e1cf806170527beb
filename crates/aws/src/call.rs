//! One call to Secrets Manager: what is remembered of it, and what its failure means.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::failure::{credentials_error, is_throttling, reason, sources, tidy};
use crate::operation::Operation;
use crate::recorder::{Recorder, Recording};
use crate::{AwsError, VersionSelector};

/// What is known of a call while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    operation: Operation,
    secret: String,
    version: VersionSelector,
    started: Instant,
    seen: Arc<Seen>,
}

/// What turns out only on the way.
#[derive(Debug, Default)]
struct Seen {
    region: OnceLock<String>,
    endpoint: OnceLock<String>,
}

impl Call {
    /// A call about `secret` that starts now.
    pub(crate) fn new(operation: Operation, secret: &str) -> Call {
        Call {
            operation,
            secret: secret.to_owned(),
            version: VersionSelector::default(),
            started: Instant::now(),
            seen: Arc::default(),
        }
    }

    /// The call about one version of the secret.
    pub(crate) fn with_version(self, version: &VersionSelector) -> Call {
        Call { version: version.clone(), ..self }
    }

    /// Notes the region that is asked.
    pub(crate) fn set_region(&self, region: &str) {
        let _ = self.seen.region.set(region.to_owned());
    }

    /// What tells `recorder` of the call when it is over.
    pub(crate) fn recording(&self, recorder: Option<&'static dyn Recorder>) -> Recording {
        Recording::new(recorder, self.operation, self.started)
    }

    /// Notes the endpoint when the first request is sent.
    pub(crate) fn observer(&self) -> Observer {
        Observer(self.seen.clone())
    }

    /// The call has taken too long.
    pub(crate) fn timed_out(&self) -> AwsError {
        AwsError::TimedOut { endpoint: self.seen.endpoint.get().cloned(), after: self.started.elapsed() }
    }

    /// A successful answer in which something is missing that is always there.
    pub(crate) fn incomplete(&self) -> AwsError {
        AwsError::BadResponse { endpoint: self.seen.endpoint.get().cloned(), status: None }
    }

    /// What the SDK's error means.
    ///
    /// Its `Debug` prints raw response bodies, and so do some errors' `Debug` in its chain of
    /// sources; `Display` does not. Only `Display` is used here, and of responses only the fields.
    pub(crate) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> AwsError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                self.refused(service.err().code(), service.err().message(), status)
            }
            SdkError::ResponseError(response) => AwsError::BadResponse {
                endpoint: self.seen.endpoint.get().cloned(),
                status: Some(response.raw().status().as_u16()),
            },
            SdkError::TimeoutError(_) => self.timed_out(),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(connector) => self.not_answered(connector, failure.is_timeout()),
                None => self.not_answered(&error, false),
            },
            _ => self.not_answered(&error, false),
        }
    }

    /// No response came: no credentials, no connection, or none that lasted.
    fn not_answered(&self, error: &(dyn Error + 'static), timeout: bool) -> AwsError {
        // Before all else, since it may be the reason why there are no credentials.
        if let Some(error) = sources(error).find_map(|e| e.downcast_ref::<AwsError>()) {
            return error.clone();
        }
        if let Some(error) = sources(error).find_map(|e| e.downcast_ref::<CredentialsError>()) {
            return credentials_error(error);
        }
        let reason = reason(error);
        // The timeout's type is private to the HTTP client, and its source says only that it is one.
        let connecting = || sources(error).any(|e| e.to_string().contains("connect timeout"));
        match self.seen.endpoint.get().cloned() {
            None => AwsError::NotSent { reason },
            Some(endpoint) if timeout && connecting() => {
                AwsError::Unreachable { endpoint, reason: "It did not accept the connection in time.".into() }
            }
            Some(_) if timeout => self.timed_out(),
            Some(endpoint) => AwsError::Unreachable { endpoint, reason },
        }
    }

    /// Secrets Manager answered with an error (API reference, "Common Error Types", and the errors of
    /// each action).
    fn refused(&self, code: Option<&str>, message: Option<&str>, status: u16) -> AwsError {
        let Some(code) = code else {
            // Not one of AWS's own answers: a proxy's, perhaps.
            return if status >= 500 {
                AwsError::ServerFault { code: format!("HTTP status {status}"), message: None }
            } else {
                AwsError::BadResponse { endpoint: self.seen.endpoint.get().cloned(), status: Some(status) }
            };
        };
        let secret = self.secret.clone();
        let said = message.unwrap_or_default();
        let says = |text: &str| said.to_ascii_lowercase().contains(text);
        let message = (!said.is_empty() && self.may_quote(code)).then(|| tidy(said));
        match code {
            "ResourceNotFoundException" => {
                // "… can't find the specified secret." or "… the specified secret value for staging
                // label: AWSPENDING": in the latter case the secret itself exists.
                if says("secret value for") { self.version_not_found() } else { self.not_found() }
            }
            "InvalidRequestException" if says("not associated to the provided versionid") => {
                self.version_not_found()
            }
            "InvalidRequestException"
                if says("marked for deletion")
                    || says("marked deleted")
                    || says("scheduled for deletion")
                    || says("because it was deleted") =>
            {
                AwsError::MarkedForDeletion { secret }
            }
            "InvalidRequestException" | "PreconditionNotMetException" => {
                AwsError::InvalidRequest { action: self.operation.action(), secret, message }
            }
            "InvalidParameterException" | "ValidationException" | "InvalidNextTokenException" => {
                AwsError::InvalidParameter { secret, message }
            }
            "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
                // "Access to KMS is not allowed"; a denial of our own action names the action.
                match self.operation {
                    _ if !says("kms") || says("secretsmanager:") => {
                        AwsError::NotAuthorized { action: self.operation.action(), secret, message }
                    }
                    operation if operation.sends_secret() => AwsError::KmsEncryption { secret, message },
                    _ => AwsError::KmsDecryption { secret, message },
                }
            }
            "DecryptionFailure" => AwsError::KmsDecryption { secret, message },
            "EncryptionFailure" => AwsError::KmsEncryption { secret, message },
            "ResourceExistsException" => AwsError::AlreadyExists { name: secret },
            "LimitExceededException" => AwsError::LimitExceeded { secret, message },
            "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "InvalidAccessKeyId"
            | "OptInRequired" => {
                // The message is left out: for a wrong signature it holds the canonical request, and
                // with that the session token.
                AwsError::CredentialsRefused { code: tidy(code) }
            }
            _ if is_throttling(code) || status == 429 => AwsError::Throttled { secret, message },
            _ if status >= 500 => AwsError::ServerFault { code: tidy(code), message },
            _ => AwsError::Service { code: tidy(code), message },
        }
    }

    fn not_found(&self) -> AwsError {
        AwsError::SecretNotFound { secret: self.secret.clone(), region: self.region() }
    }

    fn version_not_found(&self) -> AwsError {
        AwsError::VersionNotFound {
            secret: self.secret.clone(),
            region: self.region(),
            version: self.version.clone(),
        }
    }

    /// The endpoint that is asked, if a request was sent.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.seen.endpoint.get().map(String::as_str)
    }

    /// The region that is asked.
    pub(crate) fn region(&self) -> String {
        self.seen.region.get().cloned().unwrap_or_default()
    }

    /// Whether AWS's message may be shown. An error of validation quotes the value it refused
    /// ("Value '…' at 'secretString' failed to satisfy constraint"), so where a secret was sent,
    /// only errors that are known not to be about it speak for themselves.
    fn may_quote(&self, code: &str) -> bool {
        !self.operation.sends_secret()
            || matches!(
                code,
                "AccessDeniedException"
                    | "DecryptionFailure"
                    | "EncryptionFailure"
                    | "InvalidRequestException"
                    | "LimitExceededException"
                    | "ThrottlingException"
            )
    }
}

/// Sees every attempt just before it is sent.
#[derive(Debug)]
pub(crate) struct Observer(Arc<Seen>);

impl Intercept for Observer {
    fn name(&self) -> &'static str {
        "secretlink endpoint"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let _ = self.0.endpoint.set(endpoint(context.request().uri()));
        Ok(())
    }
}

/// Scheme, host and port, without a user name and password that a URL may carry.
fn endpoint(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    fn get() -> Call {
        let call = Call::new(Operation::GetSecretValue, "prod/x");
        call.set_region("us-east-1");
        call
    }

    fn put() -> Call {
        Call::new(Operation::PutSecretValue, "prod/x")
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("https://u:p@host:8443/path?q#f"), "https://host:8443");
        assert_eq!(endpoint("http://[::1]:5000"), "http://[::1]:5000");
    }

    #[test]
    fn codes() {
        for (code, message, status, sqlstate, text) in [
            (
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.",
                400,
                "42704",
                "secret \"prod/x\" not found in region us-east-1",
            ),
            (
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
                400,
                "42704",
                "secret \"prod/x\" has no version with stage \"AWSCURRENT\"",
            ),
            (
                "InvalidRequestException",
                "You provided a VersionStage that is not associated to the provided VersionId.",
                400,
                "42704",
                "secret \"prod/x\" has no version with stage \"AWSCURRENT\"",
            ),
            (
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
                400,
                "55000",
                "secret \"prod/x\" is marked for deletion",
            ),
            (
                "InvalidRequestException",
                "You tried to perform the operation on a secret that's currently marked deleted.",
                400,
                "55000",
                "secret \"prod/x\" is marked for deletion",
            ),
            (
                "InvalidRequestException",
                "You can't … because it was deleted.",
                400,
                "55000",
                "secret \"prod/x\" is marked for deletion",
            ),
            (
                "AccessDeniedException",
                "Access to KMS is not allowed",
                400,
                "42501",
                "KMS could not decrypt secret \"prod/x\"",
            ),
            (
                "AccessDeniedException",
                "User: arn:aws:iam::1:user/kms is not authorized to perform: secretsmanager:GetSecretValue",
                400,
                "42501",
                "not authorized to perform secretsmanager:GetSecretValue on secret \"prod/x\"",
            ),
            (
                "TooManyRequestsException",
                "",
                429,
                "53400",
                "Secrets Manager throttled the request for secret \"prod/x\"",
            ),
            ("Whatever", "", 429, "53400", "Secrets Manager throttled the request for secret \"prod/x\""),
            (
                "UnrecognizedClientException",
                "",
                400,
                "28000",
                "AWS refused the credentials: UnrecognizedClientException",
            ),
            ("InternalFailure", "", 500, "58000", "Secrets Manager failed: InternalFailure"),
            ("NewException", "", 400, "58000", "Secrets Manager refused the request: NewException"),
        ] {
            let error = get().refused(Some(code), Some(message), status);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.sqlstate().as_str(), sqlstate, "{text}");
        }
        assert!(matches!(get().refused(None, None, 502), AwsError::ServerFault { .. }));
        assert!(matches!(get().refused(None, None, 403), AwsError::BadResponse { status: Some(403), .. }));
    }

    #[test]
    fn a_sent_secret_is_not_quoted_back() {
        let said = "Value 'hunter2' at 'secretString' failed to satisfy constraint";
        for code in ["ValidationException", "InvalidParameterException", "NewException", "InternalFailure"] {
            let error = put().refused(Some(code), Some(said), 400);
            assert!(!format!("{error} {error:?} {:?}", error.detail()).contains("hunter2"), "{error:?}");
        }
        assert_eq!(
            get().refused(Some("ValidationException"), Some("why"), 400).detail().as_deref(),
            Some("why")
        );
    }

    #[test]
    fn a_session_token_is_not_quoted_back() {
        let said = "The Canonical String … x-amz-security-token:hunter2";
        let error = get().refused(Some("InvalidSignatureException"), Some(said), 403);
        assert!(!format!("{error} {error:?} {:?}", error.detail()).contains("hunter2"));
    }

    #[test]
    fn messages_are_one_line_of_bounded_length() {
        let error = get().refused(Some("NewException"), Some(&"a\nb".repeat(5_000)), 400);
        let detail = error.detail().unwrap_or_default();
        assert!(detail.len() <= 1000 && !detail.contains('\n'));
    }
}
