//! Several calls at once.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Runs `work` on every item at the same time, and returns the results in the order of the items.
/// Dropped, it drops them all.
pub async fn side_by_side<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Vec<R>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut results: Vec<Option<R>> = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let work = work(item);
        tasks.spawn(async move { (place, work.await) });
        results.push(None);
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((place, result)) => results[place] = Some(result),
            // A panic goes on in the thread that waits, as if there were no task.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results.into_iter().flatten().collect()
}

/// Runs `work` on every item, `at_once` of them at the same time, and begins with no two of them within `between`. Each
/// result is told with the item's place as soon as it is there. Ends early if `tell` says so. Dropped, it drops them all.
pub async fn in_turn<T, R, F, G>(
    items: Vec<T>,
    at_once: usize,
    between: Duration,
    work: impl Fn(T) -> F,
    tell: impl Fn(usize, R) -> G,
) where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
    G: Future<Output = bool>,
{
    let mut waiting = items.into_iter().enumerate();
    let mut tasks = JoinSet::new();
    let mut turns = interval(between.max(Duration::from_micros(1)));
    // Who is late does not catch up.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turns.tick(), if waiting.len() > 0 && tasks.len() < at_once => {
                if let Some((place, item)) = waiting.next() {
                    let work = work(item);
                    tasks.spawn(async move { (place, work.await) });
                }
            }
            Some(joined) = tasks.join_next() => match joined {
                Ok((place, result)) => {
                    if !tell(place, result).await {
                        return;
                    }
                }
                // A panic goes on in the task that waits, as if there were no task.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            else => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    /// Runs it on as many items, and returns how long that took, how many were done at the same time at most, and the
    /// places that were told.
    fn ran(items: usize, at_once: usize, between: Duration, each: Duration) -> (Duration, usize, Vec<usize>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let told = RefCell::new(Vec::new());
        let began = Instant::now();
        let work = |_: usize| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(each).await;
                running.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let tell = |place, ()| {
            told.borrow_mut().push(place);
            std::future::ready(told.borrow().len() < 1000)
        };
        runtime.block_on(in_turn((0..items).collect(), at_once, between, work, tell));
        (began.elapsed(), most.load(Ordering::SeqCst), told.into_inner())
    }

    #[test]
    fn no_two_begin_within_the_time_between() {
        let between = Duration::from_millis(5);
        let (took, most, mut told) = ran(40, 16, between, Duration::ZERO);
        assert!(took >= between * 38, "{took:?}");
        assert!(most <= 16);
        told.sort_unstable();
        assert_eq!(told, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn not_more_at_once_than_it_was_told() {
        let each = Duration::from_millis(20);
        let (took, most, told) = ran(10, 2, Duration::from_micros(1), each);
        assert_eq!((most, told.len()), (2, 10));
        assert!(took >= each * 5, "{took:?}");
        assert_eq!(ran(0, 2, each, each).2, Vec::<usize>::new());
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        assert_eq!(ran(2000, 16, Duration::from_micros(1), Duration::ZERO).2.len(), 1000);
    }
}
