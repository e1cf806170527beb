//! What is told of each call when it is over, for statistics.

use std::time::{Duration, Instant};

use crate::AwsError;
use crate::operation::Operation;

/// Keeps count of calls. Called on the I/O thread.
pub trait Recorder: Send + Sync {
    /// A call is over. It counts once, whatever attempts and pages it took, and `took` is the time from
    /// the caller's point of view: looking for credentials, pauses and all.
    fn record(&self, operation: Operation, outcome: CallOutcome, took: Duration);
}

/// How a call ended, as far as it matters to the administrator of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The call did what it was to do.
    Success,
    /// AWS asked to be called less often.
    Throttled,
    /// The call was not permitted, by Secrets Manager or KMS.
    Denied,
    /// AWS has no such secret, or no such version of it.
    NotFound,
    /// No connection, or none that lasted.
    Unreachable,
    /// The call took too long.
    TimedOut,
    /// AWS failed, or its answer made no sense.
    ServerFault,
    /// No credentials, or none that AWS accepts.
    Credentials,
    /// The caller no longer waited for the answer.
    Cancelled,
    /// Anything else, such as a request that makes no sense for this secret.
    Error,
}

impl CallOutcome {
    /// All outcomes, in the order in which they are declared.
    pub const ALL: [CallOutcome; 10] = [
        CallOutcome::Success,
        CallOutcome::Throttled,
        CallOutcome::Denied,
        CallOutcome::NotFound,
        CallOutcome::Unreachable,
        CallOutcome::TimedOut,
        CallOutcome::ServerFault,
        CallOutcome::Credentials,
        CallOutcome::Cancelled,
        CallOutcome::Error,
    ];

    /// The word that views show.
    pub fn as_str(self) -> &'static str {
        match self {
            CallOutcome::Success => "success",
            CallOutcome::Throttled => "throttled",
            CallOutcome::Denied => "denied",
            CallOutcome::NotFound => "not_found",
            CallOutcome::Unreachable => "unreachable",
            CallOutcome::TimedOut => "timed_out",
            CallOutcome::ServerFault => "server_fault",
            CallOutcome::Credentials => "credentials",
            CallOutcome::Cancelled => "cancelled",
            CallOutcome::Error => "error",
        }
    }

    /// Whether somebody who wanted an answer did not get it.
    pub fn is_failure(self) -> bool {
        !matches!(self, CallOutcome::Success | CallOutcome::Cancelled)
    }

    /// The outcome of a call that failed.
    fn of(error: &AwsError) -> CallOutcome {
        match error {
            AwsError::Throttled { .. } => CallOutcome::Throttled,
            AwsError::NotAuthorized { .. }
            | AwsError::KmsDecryption { .. }
            | AwsError::KmsEncryption { .. } => CallOutcome::Denied,
            AwsError::SecretNotFound { .. } | AwsError::VersionNotFound { .. } => CallOutcome::NotFound,
            AwsError::Unreachable { .. }
            | AwsError::RoleNotAssumed { .. }
            | AwsError::CredentialsFailed { unreachable: true, .. } => CallOutcome::Unreachable,
            AwsError::TimedOut { .. } => CallOutcome::TimedOut,
            AwsError::ServerFault { .. } | AwsError::BadResponse { .. } => CallOutcome::ServerFault,
            AwsError::NoCredentials { .. }
            | AwsError::CredentialsFailed { .. }
            | AwsError::RoleRefused { .. }
            | AwsError::CredentialsRefused { .. } => CallOutcome::Credentials,
            _ => CallOutcome::Error,
        }
    }
}

/// A call that is to be told when it is over. Dropped before, it was cancelled.
pub(crate) struct Recording {
    recorder: Option<&'static dyn Recorder>,
    operation: Operation,
    started: Instant,
    outcome: CallOutcome,
}

impl Recording {
    /// Begins to record a call that has started.
    pub(crate) fn new(
        recorder: Option<&'static dyn Recorder>,
        operation: Operation,
        started: Instant,
    ) -> Recording {
        Recording { recorder, operation, started, outcome: CallOutcome::Cancelled }
    }

    /// The call has come to its end.
    pub(crate) fn over<T>(mut self, result: &Result<T, AwsError>) {
        self.outcome = result.as_ref().map_or_else(CallOutcome::of, |_| CallOutcome::Success);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder {
            recorder.record(self.operation, self.outcome, self.started.elapsed());
        }
    }
}
