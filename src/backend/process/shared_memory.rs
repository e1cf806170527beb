//! Structures of ours in the server's shared memory: behind a lock of their own, or atomics without one.
//!
//! `pgrx::pg_shmem_init!` builds the value on the postmaster's stack and copies it; ours is large, and
//! all zeros is how it begins anyway.

use pgrx::{pg_guard, pg_sys};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Plain data that processes share.
///
/// # Safety
/// All bits zero must be a valid value, and it may hold no reference, box or handle: other processes
/// read it.
pub(crate) unsafe trait SharedData: Copy + 'static {}

/// A place for one `T`, the same for every process of the server.
pub(crate) struct Shared<T> {
    name: &'static CStr,
    data: AtomicPtr<UnsafeCell<T>>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

impl<T: SharedData> Shared<T> {
    /// A place that is not there yet. `name` is the server's name for it and for its lock.
    pub(crate) const fn new(name: &'static CStr) -> Shared<T> {
        Shared { name, data: AtomicPtr::new(null_mut()), lock: AtomicPtr::new(null_mut()) }
    }

    /// Asks for the memory. To be called while the server prepares its shared memory.
    pub(crate) fn request(&self) {
        request(self.name, size_of::<T>());
    }

    /// Finds the memory, which the first process made and zeroed. To be called when the server has its
    /// shared memory, which is made anew, and empty, after a crash.
    pub(crate) fn attach(&self) {
        // SAFETY: called at the moment that these ask for; both were asked for by `request`.
        unsafe {
            self.data.store(zeroed(self.name, size_of::<T>(), |_| {}).cast(), Ordering::Relaxed);
            self.lock.store(lock(self.name), Ordering::Relaxed);
        }
    }

    /// Works on the data with everybody else locked out. `f` must be short and must not call Postgres.
    /// `None` if the library was not preloaded.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let data = self.data.load(Ordering::Relaxed);
        let lock = self.lock.load(Ordering::Relaxed);
        if data.is_null() {
            return None;
        }
        // SAFETY: both were set by `attach`. The lock makes the reference the only one; `f` neither
        // raises ERROR nor waits.
        unsafe {
            let _locked = Locked::acquire(lock);
            Some(f(&mut *(*data).get()))
        }
    }
}

/// A lock that is held, and given back even if a panic unwinds: after a commit that does not become an
/// ERROR, whose abort would do it.
pub(super) struct Locked(*mut pg_sys::LWLock);

impl Locked {
    /// Waits for the lock.
    ///
    /// # Safety
    /// It must be a lock of this server that this process does not hold. While it is held, nothing may raise
    /// ERROR.
    pub(super) unsafe fn acquire(lock: *mut pg_sys::LWLock) -> Locked {
        // SAFETY: as the caller promised.
        unsafe { pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
        Locked(lock)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: it is held.
        unsafe { pg_sys::LWLockRelease(self.0) };
    }
}

/// Atomics that processes share.
///
/// # Safety
/// All bits zero must be a valid value, and it may hold nothing but atomics: other processes, and other
/// threads of this process, read and change it at any time.
pub(crate) unsafe trait SharedAtomics: Sync + 'static {}

/// A place for one `T` that takes no lock: the same for every process of the server, or this process's
/// own if the library was not preloaded.
pub(crate) struct LockFree<T> {
    name: &'static CStr,
    shared: AtomicPtr<T>,
    own: T,
}

impl<T: SharedAtomics> LockFree<T> {
    /// `name` is the server's name for it. `own` is used as long as the server has no memory for it.
    pub(crate) const fn new(name: &'static CStr, own: T) -> LockFree<T> {
        LockFree { name, shared: AtomicPtr::new(null_mut()), own }
    }

    /// Asks for the memory, when [`Shared::request`] may be called.
    pub(crate) fn request(&self) {
        // SAFETY: a plain request.
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<T>()) };
    }

    /// Finds the memory, when [`Shared::attach`] may be called.
    pub(crate) fn attach(&self) {
        // A server without a postmaster (`postgres --single`) takes its memory away while it ends, when
        // the I/O thread may still be writing. There is nobody to share it with, either.
        // SAFETY: reads a global; then called at the moment that `zeroed` asks for.
        unsafe {
            if pg_sys::IsPostmasterEnvironment {
                self.shared.store(zeroed(self.name, size_of::<T>(), |_| {}).cast(), Ordering::Relaxed);
            }
        }
    }

    /// The atomics. Callable on every thread and at any time.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: null, or memory made by `attach`, zeroed, which stays where it is until this process
        // ends. Atomics may be shared.
        unsafe { self.shared.load(Ordering::Relaxed).as_ref() }.unwrap_or(&self.own)
    }
}

/// Asks for so many bytes, and for a lock, under one name.
pub(super) fn request(name: &'static CStr, size: usize) {
    // SAFETY: plain requests, with a C string that lives for ever.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size);
        pg_sys::RequestNamedLWLockTranche(name.as_ptr(), 1);
    }
}

/// Memory of `size` bytes, which all processes share and the first one makes: zeroed, and then given to
/// `init`, which may not fail.
///
/// # Safety
/// To be called while the server sets up its shared memory, by which it has been asked for.
pub(super) unsafe fn zeroed(name: &CStr, size: usize, init: impl FnOnce(*mut u8)) -> *mut u8 {
    // SAFETY: ShmemInitStruct returns memory of the size asked for, MAXALIGNed, the same for every
    // process; AddinShmemInitLock keeps the others out while it is zeroed, as ipci.c prescribes.
    unsafe {
        let init_lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
        pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let data = pg_sys::ShmemInitStruct(name.as_ptr(), size, &mut found).cast::<u8>();
        if !found {
            std::ptr::write_bytes(data, 0, size);
            init(data);
        }
        pg_sys::LWLockRelease(init_lock);
        data
    }
}

/// The lock of that name.
///
/// # Safety
/// As [`zeroed`].
pub(super) unsafe fn lock(name: &CStr) -> *mut pg_sys::LWLock {
    // SAFETY: as the caller promised, there is one.
    unsafe { &raw mut (*pg_sys::GetNamedLWLockTranche(name.as_ptr())).lock }
}

/// `AddinShmemInitLock` in `MainLWLockArray` (lwlocknames.txt, lwlocklist.h): the same in all versions.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

/// What is called at the server's start, by whom memory is needed.
#[derive(Clone, Copy)]
struct Steps {
    /// What is to be done while the server prepares its shared memory.
    #[cfg(not(feature = "pg14"))]
    request: fn(),
    /// What is to be done when the server has its shared memory.
    attach: fn(),
}

static STEPS: Mutex<Vec<Steps>> = Mutex::new(Vec::new());

#[cfg(not(feature = "pg14"))]
static PREVIOUS_REQUEST: OnceLock<unsafe extern "C-unwind" fn()> = OnceLock::new();
static PREVIOUS_STARTUP: OnceLock<unsafe extern "C-unwind" fn()> = OnceLock::new();

/// The steps of all rooms, in order. No lock is held while they run: they may raise ERROR.
fn steps() -> Vec<Steps> {
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Has `request` and `attach` called at the right moments of the server's start. To be called while the
/// library is preloaded, once by each who needs memory.
pub(crate) fn install(request: fn(), attach: fn()) {
    // Before PostgreSQL 15 memory is asked for when the library is loaded.
    #[cfg(feature = "pg14")]
    request();
    let first = {
        let mut steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(Steps {
            #[cfg(not(feature = "pg14"))]
            request,
            attach,
        });
        steps.len() == 1
    };
    if !first {
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
    for step in steps() {
        (step.request)();
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
    for step in steps() {
        (step.attach)();
    }
}
