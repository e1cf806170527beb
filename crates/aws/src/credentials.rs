//! Credentials that are looked for to the end.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

/// Runs a provider as a task of its own, so that a cancelled or timed-out call does not drop it
/// half-way.
///
/// A profile's `credential_process` runs as a child process under `tokio::process`. While its future
/// lives, tokio learns of its end through a pidfd. Dropped earlier, the child goes to tokio's queue of
/// orphans, and for those tokio installs a SIGCHLD handler in the whole process: in a Postgres
/// backend that is not ours to do. (tokio 1.54, `process/unix/orphan.rs` and `pidfd_reaper.rs`;
/// Linux before 5.10 has no pidfd for it and gets the handler at once.)
#[derive(Debug)]
pub(crate) struct RunToEnd(pub(crate) SharedCredentialsProvider);

impl ProvideCredentials for RunToEnd {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let provider = self.0.clone();
        future::ProvideCredentials::new(async move {
            let task = tokio::spawn(async move { provider.provide_credentials().await });
            task.await.unwrap_or_else(|_| Err(CredentialsError::unhandled("the provider panicked")))
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.0.fallback_on_interrupt()
    }
}
