//! A table that all processes share, of a size that a setting decides, behind a lock of its own.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::backend::process::shared_memory::{self, Locked, SharedData};

/// A place for a header `H` and as many slots `S` as a setting says, the same for every process of the server.
/// Each slot has a key beside it, in an array of its own, which is quick to search.
pub(crate) struct SharedSlots<H, S> {
    name: &'static CStr,
    slots: AtomicUsize,
    data: AtomicPtr<Layout<H, S>>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

/// What the memory begins with. The slots follow, and then their keys.
#[repr(C)]
struct Layout<H, S> {
    header: H,
    slots: [S; 0],
}

/// The memory of a [`SharedSlots`], with everybody else locked out.
pub(crate) struct Slots<'a, H, S> {
    /// The header.
    pub header: &'a mut H,
    /// The slots.
    pub slots: &'a mut [S],
    /// The key of each slot.
    pub keys: &'a mut [u32],
}

impl<H: SharedData, S: SharedData> SharedSlots<H, S> {
    /// Slots that are not there yet. `name` is the server's name for them and for their lock.
    pub(crate) const fn new(name: &'static CStr) -> SharedSlots<H, S> {
        SharedSlots {
            name,
            slots: AtomicUsize::new(0),
            data: AtomicPtr::new(null_mut()),
            lock: AtomicPtr::new(null_mut()),
        }
    }

    /// Asks for the memory of so many slots. To be called while the server prepares its shared memory.
    pub(crate) fn request(&self, slots: usize) {
        self.slots.store(slots, Ordering::Relaxed);
        shared_memory::request(self.name, self.size());
    }

    fn size(&self) -> usize {
        size_of::<Layout<H, S>>() + self.len() * (size_of::<S>() + size_of::<u32>())
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    /// Finds the memory, when [`Shared::attach`](shared_memory::Shared::attach) may be called.
    pub(crate) fn attach(&self) {
        // SAFETY: called at the moment that these ask for; both were asked for by `request`.
        unsafe {
            self.data.store(shared_memory::zeroed(self.name, self.size(), |_| {}).cast(), Ordering::Relaxed);
            self.lock.store(shared_memory::lock(self.name), Ordering::Relaxed);
        }
    }

    /// Whether there is such memory: the library was preloaded.
    pub(crate) fn is_attached(&self) -> bool {
        !self.data.load(Ordering::Relaxed).is_null()
    }

    /// Works on the slots under their lock, by the rules of [`Shared::with`](shared_memory::Shared::with).
    pub(crate) fn with<R>(&self, f: impl FnOnce(Slots<'_, H, S>) -> R) -> Option<R> {
        const { assert!(align_of::<S>() >= align_of::<u32>()) };
        let data = self.data.load(Ordering::Relaxed);
        if data.is_null() {
            return None;
        }
        // SAFETY: both were set by `attach`, and the memory is of the size asked for there, MAXALIGNed; zeros
        // are valid values. Keys come after slots, whose alignment is no smaller. The lock makes these
        // references the only ones; `f` neither raises ERROR nor waits.
        unsafe {
            let _locked = Locked::acquire(self.lock.load(Ordering::Relaxed));
            let first = (&raw mut (*data).slots).cast::<S>();
            let keys = first.add(self.len()).cast::<u32>();
            Some(f(Slots {
                header: &mut (*data).header,
                slots: std::slice::from_raw_parts_mut(first, self.len()),
                keys: std::slice::from_raw_parts_mut(keys, self.len()),
            }))
        }
    }
}
