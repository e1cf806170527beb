//! How a background worker is woken: a doorbell for each, in shared memory.

use pgrx::{pg_guard, pg_sys};
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::OnceLock;

use crate::backend::process::shared_memory::{self, Shared, SharedData};
use crate::backend::process::{server, worker};

/// The doorbell of the worker that settles synced roles.
pub(crate) static SYNC: Doorbell = Doorbell::new(c"secretlink worker");

/// The doorbell of the worker that keeps the cache fresh.
pub(crate) static CACHE: Doorbell = Doorbell::new(c"secretlink cache worker");

/// The doorbell of the worker that starts those that rotate.
pub(crate) static ROTATION: Doorbell = Doorbell::new(c"secretlink rotation");

const ALL: [&Doorbell; 3] = [&SYNC, &CACHE, &ROTATION];

/// Where one worker can be woken.
pub(crate) struct Doorbell(Shared<Bell>);

#[derive(Clone, Copy)]
struct Bell {
    /// The worker's latch; null while it does not run.
    latch: *mut pg_sys::Latch,
    /// Whether somebody rang since the worker last asked.
    rung: bool,
}

// SAFETY: plain data, but for the worker's latch: that is in shared memory too, at the same address in
// every process. All zeros is a bell that nobody hears.
unsafe impl SharedData for Bell {}

/// The doorbell that this process answers, if it is a worker.
static MINE: OnceLock<&'static Doorbell> = OnceLock::new();

/// Asks for shared memory. To be called while the library is preloaded.
pub(crate) fn init() {
    shared_memory::install(
        || ALL.iter().for_each(|doorbell| doorbell.0.request()),
        || ALL.iter().for_each(|doorbell| doorbell.0.attach()),
    );
}

impl Doorbell {
    const fn new(name: &'static CStr) -> Doorbell {
        Doorbell(Shared::new(name))
    }

    /// Makes this process the one that is woken, until it ends. To be called once, by the worker.
    pub(crate) fn answer(&'static self) {
        let _ = MINE.set(self);
        server::at_exit(leave);
        self.0.with(|bell| bell.latch = worker::latch());
    }

    /// Whether the worker runs.
    pub(crate) fn is_answered(&self) -> bool {
        self.0.with(|bell| !bell.latch.is_null()).unwrap_or_default()
    }

    /// Wakes the worker, if it runs. Cannot fail.
    pub(crate) fn ring(&self) {
        let latch = self.0.with(|bell| {
            bell.rung = true;
            bell.latch
        });
        if let Some(latch) = latch.filter(|latch| !latch.is_null()) {
            // SAFETY: the latch of a process slot, which is in shared memory as long as the server runs. If
            // the slot belongs to somebody else by now, that process wakes up for nothing, as may always
            // happen.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// Whether somebody rang. It stays so.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.with(|bell| bell.rung).unwrap_or_default()
    }

    /// Whether somebody rang since this was last asked. The latch alone does not tell: while the worker
    /// waits for the network, it resets that.
    pub(crate) fn take_rung(&self) -> bool {
        self.0.with(|bell| std::mem::take(&mut bell.rung)).unwrap_or_default()
    }
}

/// # Safety
/// For Postgres to call, at exit. It uses neither argument.
#[pg_guard]
unsafe extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
    if let Some(doorbell) = MINE.get() {
        doorbell.0.with(|bell| bell.latch = null_mut());
    }
}
