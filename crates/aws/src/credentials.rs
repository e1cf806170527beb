//! Credentials that are looked for to the end, kept, and renewed before they end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider, future};

/// Credentials that do not end are looked for again after this time: they may have been replaced.
const ENDLESS_ARE_KEPT: Duration = Duration::from_secs(15 * 60);

/// Credentials are not used so shortly before their end, as a request must arrive before it.
const MARGIN: Duration = Duration::from_secs(10);

/// Credentials are renewed this long before their end, as the other SDKs do, or in the last quarter of
/// their time.
const RENEWED_BEFORE: Duration = Duration::from_secs(15 * 60);

/// The pause from a renewal that failed to the next.
const PAUSE: Duration = Duration::from_secs(10);

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

/// Keeps credentials and renews them in the background when their end is near, so that a call waits
/// for them only if there are none.
///
/// In place of the SDK's identity cache, which has the first call after the end wait for STS or instance
/// metadata.
#[derive(Clone)]
pub(crate) struct Renewed(Arc<Inner>);

/// What time it is: what AWS says of the end of credentials is by the calendar.
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

struct Inner {
    source: SharedCredentialsProvider,
    /// How long to wait for the source.
    limit: Duration,
    clock: Clock,
    kept: Mutex<Option<Kept>>,
    /// Held by the one task that asks the source.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Kept {
    credentials: Credentials,
    /// The moment from which on the credentials are renewed.
    renewed_from: SystemTime,
    /// The moment from which on the credentials are not used any more.
    ends: SystemTime,
}

impl Kept {
    fn new(credentials: Credentials, now: SystemTime) -> Kept {
        let (renewed_from, ends) = times(now, credentials.expiry());
        Kept { credentials, renewed_from, ends }
    }
}

/// The moments from which on credentials obtained now are renewed, and are not used any more.
fn times(now: SystemTime, expiry: Option<SystemTime>) -> (SystemTime, SystemTime) {
    let expiry = expiry.unwrap_or(now + ENDLESS_ARE_KEPT);
    let left = expiry.duration_since(now).unwrap_or_default();
    (expiry - RENEWED_BEFORE.min(left / 4), expiry - MARGIN.min(left / 8))
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("source", &self.0.source).finish_non_exhaustive()
    }
}

impl Renewed {
    /// Credentials that are got from `source`, which has `limit` for each answer, by the time that `clock` tells.
    pub(crate) fn new(
        source: impl ProvideCredentials + 'static,
        limit: Duration,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Renewed {
        Renewed(Arc::new(Inner {
            source: SharedCredentialsProvider::new(source),
            limit,
            clock: Box::new(clock),
            kept: Mutex::default(),
            asking: Arc::default(),
        }))
    }

    async fn get(&self) -> Result {
        let now = (self.0.clock)();
        if let Some(kept) = self.0.kept(now) {
            if now >= kept.renewed_from
                && let Ok(turn) = self.0.asking.clone().try_lock_owned()
            {
                let inner = self.0.clone();
                tokio::spawn(async move {
                    // An error is told to the calls that come when these have ended.
                    let _ = inner.ask().await;
                    drop(turn);
                });
            }
            return Ok(kept.credentials);
        }
        // One asks, the others wait for it. What it finds is kept even if its caller has gone.
        let inner = self.0.clone();
        let task = tokio::spawn(async move {
            let _turn = inner.asking.lock().await;
            match inner.kept((inner.clock)()) {
                Some(kept) => Ok(kept.credentials),
                None => inner.ask().await,
            }
        });
        task.await.unwrap_or_else(|_| Err(CredentialsError::unhandled("the provider panicked")))
    }
}

impl Inner {
    /// The credentials that are kept, if they can still be used.
    fn kept(&self, now: SystemTime) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().filter(|kept| now < kept.ends)
    }

    /// Asks the source and keeps its answer. If it has none, what is kept is left as it is.
    async fn ask(&self) -> Result {
        let answer = tokio::time::timeout(self.limit, self.source.provide_credentials()).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) => match self.source.fallback_on_interrupt() {
                Some(credentials) => Ok(credentials),
                None => Err(CredentialsError::provider_timed_out(self.limit)),
            },
        };
        let now = (self.clock)();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Ok(credentials) => *kept = Some(Kept::new(credentials.clone(), now)),
            Err(_) => {
                if let Some(kept) = &mut *kept {
                    kept.renewed_from = now + PAUSE;
                }
            }
        }
        answer
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn renewed_in_their_last_quarter_or_their_last_quarter_of_an_hour() {
        for (left, renewed_from, ends) in [
            (6 * 3600, 6 * 3600 - 900, 6 * 3600 - 10),
            (3600, 2700, 3590),
            (900, 675, 890),
            (80, 60, 70),
            (8, 6, 7),
            (0, 0, 0),
        ] {
            assert_eq!(times(at(0), Some(at(left))), (at(renewed_from), at(ends)), "{left}");
        }
        assert_eq!(times(at(10), Some(at(3))), (at(3), at(3)), "these have ended before they came");
        assert_eq!(times(at(0), None), (at(675), at(890)));
    }

    /// Gives one answer after the other, each when it is let.
    #[derive(Clone, Debug)]
    struct Source(Arc<Script>);

    #[derive(Debug)]
    struct Script {
        answers: Mutex<VecDeque<Option<Credentials>>>,
        asked: AtomicUsize,
        may_answer: tokio::sync::Semaphore,
    }

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                self.0.asked.fetch_add(1, SeqCst);
                self.0.may_answer.acquire().await.expect("nobody closes it").forget();
                let answer = self.0.answers.lock().expect("nobody panics here").pop_front();
                answer.flatten().ok_or_else(|| CredentialsError::provider_error("no"))
            })
        }
    }

    /// Credentials `id` until `ends`.
    fn until(id: &str, ends: u64) -> Option<Credentials> {
        Some(Credentials::new(id, "s", None, Some(at(ends)), "test"))
    }

    struct Scene {
        source: Source,
        now: Arc<AtomicU64>,
        renewed: Renewed,
    }

    impl Scene {
        fn new(answers: impl IntoIterator<Item = Option<Credentials>>) -> Scene {
            let source = Source(Arc::new(Script {
                answers: Mutex::new(answers.into_iter().collect()),
                asked: AtomicUsize::new(0),
                may_answer: tokio::sync::Semaphore::new(0),
            }));
            let now = Arc::new(AtomicU64::new(0));
            let clock = now.clone();
            let renewed =
                Renewed::new(source.clone(), Duration::from_secs(60), move || at(clock.load(SeqCst)));
            Scene { source, now, renewed }
        }

        /// What a call at this time gets.
        async fn id(&self, now: u64) -> std::result::Result<String, CredentialsError> {
            self.now.store(now, SeqCst);
            Ok(self.renewed.provide_credentials().await?.access_key_id().to_owned())
        }

        /// Lets the source give so many answers, and what comes of them happen.
        async fn answer(&self, times: usize) {
            self.source.0.may_answer.add_permits(times);
            self.let_tasks_run().await;
        }

        /// Lets every task run until it waits.
        async fn let_tasks_run(&self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }

        fn asked(&self) -> usize {
            self.source.0.asked.load(SeqCst)
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_renewal() {
        let scene = Scene::new([until("one", 3600), until("two", 7200)]);
        scene.answer(1).await;
        assert_eq!(scene.id(0).await.unwrap(), "one");
        assert_eq!(scene.id(2699).await.unwrap(), "one");
        scene.let_tasks_run().await;
        assert_eq!(scene.asked(), 1);
        // The source does not answer, and nobody minds; nor is it asked twice.
        for now in [2700, 2701, 3000, 3589] {
            assert_eq!(scene.id(now).await.unwrap(), "one");
            scene.let_tasks_run().await;
            assert_eq!(scene.asked(), 2);
        }
        scene.answer(1).await;
        assert_eq!(scene.id(3589).await.unwrap(), "two");
        assert_eq!(scene.asked(), 2);
    }

    #[tokio::test]
    async fn a_renewal_that_fails_leaves_the_old_ones_to_their_end() {
        let scene = Scene::new([until("one", 3600), None, None, None, until("two", 9999)]);
        scene.answer(1).await;
        assert_eq!(scene.id(0).await.unwrap(), "one");
        assert_eq!(scene.id(2700).await.unwrap(), "one");
        scene.answer(1).await;
        // Not asked again at once.
        assert_eq!(scene.id(2709).await.unwrap(), "one");
        scene.let_tasks_run().await;
        assert_eq!(scene.asked(), 2);
        assert_eq!(scene.id(2710).await.unwrap(), "one");
        scene.answer(1).await;
        assert_eq!(scene.asked(), 3);
        // They have ended: now the reason is told.
        scene.answer(1).await;
        assert!(scene.id(3590).await.is_err());
        scene.answer(1).await;
        assert_eq!(scene.id(3591).await.unwrap(), "two");
    }

    #[tokio::test]
    async fn one_asks_for_all() {
        let scene = Scene::new([until("one", 3600)]);
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let renewed = scene.renewed.clone();
                tokio::spawn(async move { renewed.provide_credentials().await })
            })
            .collect();
        scene.let_tasks_run().await;
        assert_eq!(scene.asked(), 1);
        scene.answer(1).await;
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().access_key_id(), "one");
        }
        assert_eq!(scene.asked(), 1);
    }

    #[tokio::test]
    async fn what_a_cancelled_call_asked_for_is_kept() {
        let scene = Scene::new([until("one", 3600)]);
        let renewed = scene.renewed.clone();
        let call = tokio::spawn(async move { renewed.provide_credentials().await });
        scene.let_tasks_run().await;
        call.abort();
        scene.answer(1).await;
        assert_eq!(scene.id(1).await.unwrap(), "one");
        assert_eq!(scene.asked(), 1);
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_given_up() {
        let scene = Scene::new([until("one", 3600)]);
        let renewed = Renewed::new(scene.source.clone(), Duration::from_millis(20), || at(0));
        assert!(matches!(renewed.provide_credentials().await, Err(CredentialsError::ProviderTimedOut(_))));
        scene.answer(1).await;
        assert_eq!(renewed.provide_credentials().await.unwrap().access_key_id(), "one");
    }

    #[tokio::test]
    async fn debug_shows_none_of_them() {
        let scene = Scene::new([until("one", 3600)]);
        scene.answer(1).await;
        scene.id(0).await.unwrap();
        assert!(!format!("{:?}", scene.renewed).contains("one\""));
    }
}
