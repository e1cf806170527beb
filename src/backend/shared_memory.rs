//! A structure of ours in the server's shared memory, behind a lock of its own.
//!
//! `pgrx::pg_shmem_init!` builds the value on the postmaster's stack and copies it; ours is large, and
//! all zeros is how it begins anyway.

use pgrx::{pg_guard, pg_sys};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Plain data that processes share.
///
/// # Safety
/// All bits zero must be a valid value, and it may hold no reference, box or handle: other processes
/// read it.
pub unsafe trait SharedData: Copy + 'static {}

/// A place for one `T`, the same for every process of the server.
pub struct Shared<T> {
    name: &'static CStr,
    data: AtomicPtr<UnsafeCell<T>>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

impl<T: SharedData> Shared<T> {
    /// Not there yet. `name` is the server's name for it and for its lock.
    pub const fn new(name: &'static CStr) -> Shared<T> {
        Shared { name, data: AtomicPtr::new(null_mut()), lock: AtomicPtr::new(null_mut()) }
    }

    /// Asks for the memory. To be called while the server prepares its shared memory.
    pub fn request(&self) {
        // SAFETY: plain requests, with a C string that lives for ever.
        unsafe {
            pg_sys::RequestAddinShmemSpace(size_of::<T>());
            pg_sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    /// Finds the memory, made and zeroed by whoever comes first. To be called when the server has its
    /// shared memory, which is made anew, and empty, after a crash.
    pub fn attach(&self) {
        // SAFETY: ShmemInitStruct returns memory of the size asked for, MAXALIGNed, the same for every
        // process; AddinShmemInitLock keeps the others out while it is zeroed, as ipci.c prescribes.
        unsafe {
            let init_lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
            pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            let mut found = false;
            let data = pg_sys::ShmemInitStruct(self.name.as_ptr(), size_of::<T>(), &mut found);
            if !found {
                std::ptr::write_bytes(data.cast::<u8>(), 0, size_of::<T>());
            }
            self.data.store(data.cast(), Ordering::Relaxed);
            let tranche = pg_sys::GetNamedLWLockTranche(self.name.as_ptr());
            self.lock.store(&raw mut (*tranche).lock, Ordering::Relaxed);
            pg_sys::LWLockRelease(init_lock);
        }
    }

    /// Whether there is such memory: the library was preloaded.
    pub fn is_attached(&self) -> bool {
        !self.data.load(Ordering::Relaxed).is_null()
    }

    /// Works on the data with everybody else locked out. `f` must be short and must not call Postgres.
    /// `None` if the library was not preloaded.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let data = self.data.load(Ordering::Relaxed);
        let lock = self.lock.load(Ordering::Relaxed);
        if data.is_null() {
            return None;
        }
        // SAFETY: both were set by `attach`. The lock makes the reference the only one; `f` neither
        // raises ERROR nor waits, so the lock is always given back.
        unsafe {
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            let result = f(&mut *(*data).get());
            pg_sys::LWLockRelease(lock);
            Some(result)
        }
    }
}

/// `AddinShmemInitLock` in `MainLWLockArray` (lwlocknames.txt, lwlocklist.h): the same in all versions.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

/// What is called at the server's start.
#[derive(Clone, Copy)]
struct Steps {
    /// While the server prepares its shared memory.
    #[cfg(not(feature = "pg14"))]
    request: fn(),
    /// When it has it.
    attach: fn(),
}

static STEPS: OnceLock<Steps> = OnceLock::new();

#[cfg(not(feature = "pg14"))]
static PREVIOUS_REQUEST: OnceLock<unsafe extern "C-unwind" fn()> = OnceLock::new();
static PREVIOUS_STARTUP: OnceLock<unsafe extern "C-unwind" fn()> = OnceLock::new();

/// Has `request` and `attach` called at the right moments of the server's start. To be called once,
/// while the library is preloaded.
pub fn install(request: fn(), attach: fn()) {
    let steps = Steps {
        #[cfg(not(feature = "pg14"))]
        request,
        attach,
    };
    if STEPS.set(steps).is_err() {
        return;
    }
    // SAFETY: only the postmaster is running, with one thread; the hooks found are called by ours.
    unsafe {
        #[cfg(not(feature = "pg14"))]
        {
            if let Some(previous) = pg_sys::shmem_request_hook {
                let _ = PREVIOUS_REQUEST.set(previous);
            }
            pg_sys::shmem_request_hook = Some(on_request);
        }
        // Before PostgreSQL 15 memory is asked for when the library is loaded.
        #[cfg(feature = "pg14")]
        request();
        if let Some(previous) = pg_sys::shmem_startup_hook {
            let _ = PREVIOUS_STARTUP.set(previous);
        }
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

/// # Safety
/// For Postgres to call, as its `shmem_request_hook`.
#[cfg(not(feature = "pg14"))]
#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    if let Some(previous) = PREVIOUS_REQUEST.get() {
        // SAFETY: the hook that was there before us, called at its moment.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| previous()) }
    }
    if let Some(steps) = STEPS.get() {
        (steps.request)();
    }
}

/// # Safety
/// For Postgres to call, as its `shmem_startup_hook`.
#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    if let Some(previous) = PREVIOUS_STARTUP.get() {
        // SAFETY: the hook that was there before us, called at its moment.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| previous()) }
    }
    if let Some(steps) = STEPS.get() {
        (steps.attach)();
    }
}
