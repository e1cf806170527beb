//! Plain memory that all processes share, of a size that a setting decides, behind a lock of its own, and
//! a condition to wait for.

use pgrx::{pg_guard, pg_sys};
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use crate::backend::process::shared_memory::{self, Locked};
use crate::backend::process::wait::{self, WaitEvent};

/// Memory of the whole server.
pub(crate) struct SharedBlock {
    name: &'static CStr,
    /// How many words there are, besides the condition variable before them.
    words: AtomicUsize,
    area: AtomicPtr<Area>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

/// What the memory begins with.
#[repr(C, align(8))]
struct Area {
    condition: pg_sys::ConditionVariable,
}

impl SharedBlock {
    /// A block that is not there yet. `name` is the server's name for it and for its lock.
    pub(crate) const fn new(name: &'static CStr) -> SharedBlock {
        SharedBlock {
            name,
            words: AtomicUsize::new(0),
            area: AtomicPtr::new(null_mut()),
            lock: AtomicPtr::new(null_mut()),
        }
    }

    /// Asks for so many bytes. To be called while the server prepares its shared memory.
    pub(crate) fn request(&self, bytes: usize) {
        self.words.store(bytes / size_of::<u64>(), Ordering::Relaxed);
        shared_memory::request(self.name, self.size());
    }

    fn size(&self) -> usize {
        size_of::<Area>() + self.words.load(Ordering::Relaxed) * size_of::<u64>()
    }

    /// Finds the memory, which the first process zeroes, and has the postmaster wipe it when the
    /// server ends. To be called when the server has its shared memory.
    pub(crate) fn attach(&'static self) {
        // SAFETY: called at the moment that these ask for; both were asked for by `request`. The memory that
        // `init` gets is known to nobody else yet; zeros are no condition variable. The callback is of the
        // right type, and for the postmaster alone: its children drop what it registered (ipc.c,
        // on_exit_reset). It runs before the memory is given back.
        unsafe {
            let area = shared_memory::zeroed(self.name, self.size(), |area| {
                pg_sys::ConditionVariableInit(&raw mut (*area.cast::<Area>()).condition);
            });
            self.area.store(area.cast(), Ordering::Relaxed);
            self.lock.store(shared_memory::lock(self.name), Ordering::Relaxed);
            if !pg_sys::IsUnderPostmaster {
                pg_sys::on_shmem_exit(Some(wipe), pg_sys::Datum::from(std::ptr::from_ref(self) as usize));
            }
        }
    }

    /// Whether there is such memory.
    pub(crate) fn is_attached(&self) -> bool {
        !self.area.load(Ordering::Relaxed).is_null()
    }

    /// Works on the words with everybody else locked out. `f` must be short and must not call Postgres.
    /// `None` if there is no such memory.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut [u64]) -> R) -> Option<R> {
        let (area, lock) = (self.area.load(Ordering::Relaxed), self.lock.load(Ordering::Relaxed));
        if area.is_null() {
            return None;
        }
        // SAFETY: both were set by `attach`, and the memory is of the size asked for there. The lock makes
        // the slice the only one; `f` neither raises ERROR nor waits.
        unsafe {
            let _locked = Locked::acquire(lock);
            let words =
                std::slice::from_raw_parts_mut(area.add(1).cast::<u64>(), self.words.load(Ordering::Relaxed));
            Some(f(words))
        }
    }

    fn condition(&self) -> Option<*mut pg_sys::ConditionVariable> {
        let area = self.area.load(Ordering::Relaxed);
        // SAFETY: set by `attach`, and not null.
        (!area.is_null()).then(|| unsafe { &raw mut (*area).condition })
    }

    /// Waits until somebody calls [`SharedBlock::wake_all`], or for so long. The first call of several
    /// returns at once, so that what was waited for can be looked for once more before one sleeps
    /// (condition_variable.c). Interrupts act here. To be followed by [`SharedBlock::end_wait`]. Without such
    /// memory there is nobody to wake this process, and it waits for the time alone.
    pub(crate) fn wait(&self, limit: Duration, event: WaitEvent) {
        // Rounded up, so as not to spin through the last millisecond.
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX - 1) + 1;
        let Some(condition) = self.condition() else { return wait::sleep(limit, event) };
        // SAFETY: a condition variable of this server. ERROR and FATAL end the wait in order (xact.c,
        // proc.c), the postmaster's death the process.
        unsafe { pg_sys::ConditionVariableTimedSleep(condition, limit, event.info()) };
    }

    /// No more waiting.
    pub(crate) fn end_wait(&self) {
        // SAFETY: does nothing if there was no wait.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }

    /// Wakes all processes that wait. Cannot fail.
    pub(crate) fn wake_all(&self) {
        if let Some(condition) = self.condition() {
            // SAFETY: a condition variable of this server; the lock is not held.
            unsafe { pg_sys::ConditionVariableBroadcast(condition) };
        }
    }
}

/// # Safety
/// For Postgres to call, at the postmaster's exit, with the address of a `SharedBlock` that lives for ever.
#[pg_guard]
unsafe extern "C-unwind" fn wipe(_code: i32, memory: pg_sys::Datum) {
    // SAFETY: as promised. The lock is not taken: when the postmaster ends, nobody is left to use the
    // memory, and a process that was killed may have left the lock taken.
    unsafe {
        let memory: &SharedBlock = &*(memory.value() as *const SharedBlock);
        let area = memory.area.load(Ordering::Relaxed);
        if !area.is_null() {
            // Not to be optimised away, though nobody reads it.
            for word in 0..memory.words.load(Ordering::Relaxed) {
                area.add(1).cast::<u64>().add(word).write_volatile(0);
            }
        }
    }
}
