//! Where the cache is: in shared memory if the library was preloaded, else in this process.

use secretlink_cache::{Moment, SealError, Sealer, Store};
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Duration;

use crate::backend::process::server;
use crate::backend::process::shared_block::SharedBlock;
use crate::backend::process::shared_memory;
use crate::backend::process::wait::WaitEvent;
use crate::settings;

static SHARED: SharedBlock = SharedBlock::new(c"secretlink cache");

thread_local! {
    /// Without preloading. Made at first use.
    static OWN: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
}

static SEALER: OnceLock<Sealer> = OnceLock::new();

/// Asks for shared memory. To be called while the library is preloaded.
pub(crate) fn init() {
    // Here, so that all processes inherit one key.
    let has_key = sealer().is_ok();
    if has_key && settings::cache::size() > 0 {
        shared_memory::install(|| SHARED.request(settings::cache::size()), || SHARED.attach());
    }
}

/// What seals the values.
pub(crate) fn sealer() -> Result<&'static Sealer, SealError> {
    match SEALER.get() {
        Some(sealer) => Ok(sealer),
        None => {
            let sealer = Sealer::new()?;
            Ok(SEALER.get_or_init(|| sealer))
        }
    }
}

/// Works on the cache with everybody else locked out. `f` must be short and must not call Postgres.
/// `None` if there is no cache.
pub(crate) fn with<R>(f: impl FnOnce(&mut Store<'_>) -> R) -> Option<R> {
    let work = |words: &mut [u64]| Store::over(words).map(|mut store| f(&mut store));
    if SHARED.is_attached() {
        return SHARED.with(work).flatten();
    }
    OWN.with_borrow_mut(|own| {
        work(own.get_or_insert_with(|| vec![0; settings::cache::size() / size_of::<u64>()]))
    })
}

/// Waits for what another process asks for. See [`SharedBlock::wait`].
pub(crate) fn wait(limit: Duration) {
    SHARED.wait(limit, WaitEvent::SecretCache);
}

/// No more waiting.
pub(crate) fn end_wait() {
    SHARED.end_wait();
}

/// Wakes all processes that wait.
pub(crate) fn wake_all() {
    SHARED.wake_all();
}

/// The time, on a clock that all processes share and that goes on while the machine sleeps.
pub(crate) fn now() -> Moment {
    Moment(u64::try_from(server::uptime().as_micros()).unwrap_or(u64::MAX))
}
