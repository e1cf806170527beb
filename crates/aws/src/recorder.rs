//! What is told of each call when it is over, for whoever keeps count.

use std::time::{Duration, Instant};

use crate::AwsError;
use crate::operation::Operation;

/// Keeps count of calls. Called on the I/O thread.
pub trait Recorder: Send + Sync {
    /// A call is over. It counts once, whatever attempts and pages it took, and `took` is the time from
    /// the caller's point of view: looking for credentials, pauses and all.
    fn record(&self, operation: Operation, outcome: Outcome, took: Duration);
}

/// How a call ended, as far as it matters to whoever runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Success,
    /// AWS asked to be called less often.
    Throttled,
    /// Not permitted, by Secrets Manager or KMS.
    Denied,
    /// There is no such secret, or no such version of it.
    NotFound,
    /// No connection, or none that lasted.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// AWS failed, or its answer made no sense.
    ServerFault,
    /// No credentials, or none that AWS accepts.
    Credentials,
    /// Whoever waited for it no longer did.
    Cancelled,
    /// Anything else, such as a request that makes no sense for this secret.
    Error,
}

impl Outcome {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Outcome; 10] = [
        Outcome::Success,
        Outcome::Throttled,
        Outcome::Denied,
        Outcome::NotFound,
        Outcome::Unreachable,
        Outcome::TimedOut,
        Outcome::ServerFault,
        Outcome::Credentials,
        Outcome::Cancelled,
        Outcome::Error,
    ];

    /// As views show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Throttled => "throttled",
            Outcome::Denied => "denied",
            Outcome::NotFound => "not_found",
            Outcome::Unreachable => "unreachable",
            Outcome::TimedOut => "timed_out",
            Outcome::ServerFault => "server_fault",
            Outcome::Credentials => "credentials",
            Outcome::Cancelled => "cancelled",
            Outcome::Error => "error",
        }
    }

    /// Whether somebody who wanted an answer did not get it.
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Success | Outcome::Cancelled)
    }

    /// Of a failed call.
    fn of(error: &AwsError) -> Outcome {
        match error {
            AwsError::Throttled { .. } => Outcome::Throttled,
            AwsError::NotAuthorized { .. }
            | AwsError::KmsDecryption { .. }
            | AwsError::KmsEncryption { .. } => Outcome::Denied,
            AwsError::SecretNotFound { .. } | AwsError::VersionNotFound { .. } => Outcome::NotFound,
            AwsError::Unreachable { .. }
            | AwsError::RoleNotAssumed { .. }
            | AwsError::CredentialsFailed { unreachable: true, .. } => Outcome::Unreachable,
            AwsError::TimedOut { .. } => Outcome::TimedOut,
            AwsError::ServerFault { .. } | AwsError::BadResponse { .. } => Outcome::ServerFault,
            AwsError::NoCredentials { .. }
            | AwsError::CredentialsFailed { .. }
            | AwsError::RoleRefused { .. }
            | AwsError::CredentialsRefused { .. } => Outcome::Credentials,
            _ => Outcome::Error,
        }
    }
}

/// A call that is to be told when it is over. Dropped before, it was cancelled.
pub(crate) struct Recording {
    recorder: Option<&'static dyn Recorder>,
    operation: Operation,
    started: Instant,
    outcome: Outcome,
}

impl Recording {
    /// Of a call that has started.
    pub(crate) fn new(
        recorder: Option<&'static dyn Recorder>,
        operation: Operation,
        started: Instant,
    ) -> Recording {
        Recording { recorder, operation, started, outcome: Outcome::Cancelled }
    }

    /// The call has come to its end.
    pub(crate) fn over<T>(mut self, result: &Result<T, AwsError>) {
        self.outcome = result.as_ref().map_or_else(Outcome::of, |_| Outcome::Success);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder {
            recorder.record(self.operation, self.outcome, self.started.elapsed());
        }
    }
}
