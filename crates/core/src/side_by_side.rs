//! Several calls at once.

use tokio::task::JoinSet;

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
