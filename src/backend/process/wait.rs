//! Waiting as a backend must: for the I/O thread, the latch and the end of the postmaster at once.

use pgrx::{check_for_interrupts, pg_sys};
use secretlink_core::OutOfMemory;
use secretlink_core::channel::{Receiver, TryRecv};
use secretlink_core::memory;
use secretlink_core::shared_task::{Drive, Nearness, Received, Wait};
use secretlink_core::waker::Waker;
use std::cell::Cell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::process::report::RawReport;
use crate::backend::process::server;

/// What a backend waits for, as `pg_stat_activity` shows it (by name from PostgreSQL 17 on, as
/// `Extension` before).
#[derive(Clone, Copy)]
pub(crate) enum WaitEvent {
    /// An answer of AWS Secrets Manager.
    SecretsManager,
    /// An answer of AWS Secrets Manager that another process waits for.
    SecretCache,
    /// A connection to a remote server.
    Connect,
    /// The result of a remote query.
    Query,
    /// The end of a connection.
    Disconnect,
    /// A session waits for the rotation that it asked for.
    Rotation,
    /// A step of a rotation, by its worker.
    RotationStep,
}

impl WaitEvent {
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    pub(super) fn info(self) -> u32 {
        thread_local! { static INFO: [std::cell::Cell<u32>; 7] = const { [const { std::cell::Cell::new(0) }; 7] } }
        let (index, name) = match self {
            WaitEvent::SecretsManager => (0, c"SecretlinkSecretsManager"),
            WaitEvent::Connect => (1, c"SecretlinkConnect"),
            WaitEvent::Query => (2, c"SecretlinkQuery"),
            WaitEvent::Disconnect => (3, c"SecretlinkDisconnect"),
            WaitEvent::SecretCache => (4, c"SecretlinkSecretCache"),
            WaitEvent::Rotation => (5, c"SecretlinkRotation"),
            WaitEvent::RotationStep => (6, c"SecretlinkRotationStep"),
        };
        INFO.with(|info| {
            if info[index].get() == 0 {
                // SAFETY: the name is a C string; the function gives the same number for the same
                // name to every backend (wait_event.c) and raises ERROR at worst.
                info[index].set(unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) });
            }
            info[index].get()
        })
    }

    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    pub(super) fn info(self) -> u32 {
        pg_sys::PG_WAIT_EXTENSION
    }
}

/// After how many items that were there at once everything else is looked at that is waited for.
const LOOK_UP: u32 = 256;

/// How late a signal may be seen where the latch is not waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits so many milliseconds, or until somebody sets the latch. Interrupts act here.
pub(crate) fn sleep(milliseconds: i64, event: WaitEvent) {
    // SAFETY: waits as latch.h prescribes. The postmaster's death ends the process.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            milliseconds,
            event.info(),
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}

/// Where ERROR and FATAL leave from while this backend waits: cancel, `statement_timeout`, terminate, and
/// memory that has run out on either thread.
pub(crate) fn stop_if_asked() {
    check_for_interrupts!();
    if memory::is_low() {
        RawReport::new(&OutOfMemory { bytes: None }).raise();
    }
}

/// The set of things this backend waits for, made once, and once more for each session that it drives
/// itself: `WaitLatchOrSocket` would make and destroy an epoll instance for each wait.
pub(super) struct Waiter {
    set: *mut pg_sys::WaitEventSet,
    waker: Arc<Waker>,
    /// How soon the answers came for which this backend waited here.
    nearness: Nearness,
    /// How many items were received.
    received: Cell<u32>,
}

impl Waiter {
    /// Makes the set, with one more socket if one is given.
    pub(super) fn new(waker: Arc<Waker>, socket: Option<RawFd>) -> Waiter {
        // SAFETY: called in a backend, whose MyLatch stays the same until it exits (miscinit.c). On
        // failure these raise ERROR, and what they took until then is reclaimed at exit.
        unsafe {
            #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
            let set = pg_sys::CreateWaitEventSet(std::ptr::null_mut(), 4);
            #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
            let set = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, 4);
            let none = std::ptr::null_mut();
            if server::has_postmaster() {
                pg_sys::AddWaitEventToSet(
                    set,
                    pg_sys::WL_EXIT_ON_PM_DEATH,
                    pg_sys::PGINVALID_SOCKET,
                    none,
                    none.cast(),
                );
            }
            pg_sys::AddWaitEventToSet(
                set,
                pg_sys::WL_LATCH_SET,
                pg_sys::PGINVALID_SOCKET,
                pg_sys::MyLatch,
                none.cast(),
            );
            for fd in [Some(waker.fd()), socket].into_iter().flatten() {
                pg_sys::AddWaitEventToSet(set, pg_sys::WL_SOCKET_READABLE, fd, none, none.cast());
            }
            Waiter { set, waker, nearness: Nearness::default(), received: Cell::new(0) }
        }
    }

    /// The next item from the I/O thread, or that the channel has closed. Empty only when the time is
    /// up.
    ///
    /// Cancel, `statement_timeout` and terminate act here at once: ERROR and FATAL leave from the
    /// interrupt check, so whatever the caller holds must clean up when it is dropped (ERROR) or by
    /// the exit callback of [`super::io`] (FATAL, which drops nothing).
    pub(super) fn recv<T>(
        &self,
        from: &mut Receiver<T>,
        event: WaitEvent,
        until: Option<Instant>,
    ) -> TryRecv<T> {
        // Where there is always another item, the end of the postmaster shows only by looking for it.
        self.received.set(self.received.get().wrapping_add(1));
        if self.received.get().is_multiple_of(LOOK_UP) {
            self.wait(0, event);
        }
        loop {
            stop_if_asked();
            self.waker.reset();
            match from.try_recv() {
                TryRecv::Empty => {}
                received => return received,
            }
            let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => -1,
                Some(left) if left.is_zero() => return TryRecv::Empty,
                // Rounded up, so as not to spin through the last millisecond.
                Some(left) => i64::try_from(left.as_millis()).unwrap_or(i64::MAX - 1) + 1,
            };
            self.wait(timeout, event);
        }
    }

    /// Waits as [`Waiter::recv`] does, and meanwhile does the work that feeds the channel and waits for the set's
    /// socket. Empty when the work has to go back to the I/O thread.
    pub(super) fn recv_driving<T>(
        &self,
        drive: &mut Drive<'_>,
        from: &mut Receiver<T>,
        event: WaitEvent,
    ) -> TryRecv<T> {
        match drive.recv(from, &self.nearness, &mut Interruptible { waiter: self, event }) {
            ControlFlow::Continue(Received::Item(item)) => TryRecv::Item(item),
            ControlFlow::Continue(Received::Closed) => TryRecv::Closed,
            ControlFlow::Continue(Received::NeedsIoThread) => TryRecv::Empty,
        }
    }

    /// The next item from the I/O thread, or `None` when the channel has closed, the deadline has
    /// passed, or somebody has asked this backend to stop.
    ///
    /// Raises nothing and ends nothing, whatever happens: it calls no function of Postgres at all, and
    /// leaves interrupts, latch and the postmaster's death to the next wait.
    pub(super) fn recv_uninterrupted<T>(
        &self,
        from: &mut Receiver<T>,
        event: WaitEvent,
        deadline: Instant,
    ) -> Option<T> {
        // SAFETY: what pgstat_report_wait_start does (wait_event.h): the place is this process's own.
        let shown = |info: u32| unsafe { pg_sys::my_wait_event_info.write_volatile(info) };
        shown(event.info());
        let item = loop {
            self.waker.reset();
            match from.try_recv() {
                TryRecv::Item(item) => break Some(item),
                TryRecv::Closed => break None,
                TryRecv::Empty => {}
            }
            // SAFETY: flags that signal handlers set.
            let stop = unsafe {
                (&raw const pg_sys::QueryCancelPending).read_volatile() != 0
                    || (&raw const pg_sys::ProcDiePending).read_volatile() != 0
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if stop || left.is_zero() {
                break None;
            }
            // A signal that comes between the look at the flags and the wait is seen a little later.
            self.waker.wait(left.min(LOOK_AGAIN));
        };
        shown(0);
        item
    }

    /// Waits; gives the descriptor that is readable, if it is one that ended the wait.
    fn wait(&self, timeout: i64, event: WaitEvent) -> Option<RawFd> {
        // SAFETY: the set was made in `new`; `occurred` has room for the one event asked for.
        // ResetLatch before the callers' interrupt check is the order latch.h prescribes: a signal
        // that arrives in between sets the latch again.
        unsafe {
            let mut occurred = pg_sys::WaitEvent::default();
            let n = pg_sys::WaitEventSetWait(self.set, timeout, &mut occurred, 1, event.info());
            if n > 0 && occurred.events & pg_sys::WL_LATCH_SET != 0 {
                pg_sys::ResetLatch(pg_sys::MyLatch);
            }
            (n > 0 && occurred.events & pg_sys::WL_SOCKET_READABLE != 0).then_some(occurred.fd)
        }
    }
}

/// A wait that cancel, `statement_timeout` and terminate end by themselves, as in [`Waiter::recv`].
struct Interruptible<'a> {
    waiter: &'a Waiter,
    event: WaitEvent,
}

impl Wait for Interruptible<'_> {
    type End = Infallible;

    fn go_on(&mut self) -> ControlFlow<Infallible> {
        stop_if_asked();
        ControlFlow::Continue(())
    }

    fn wait(&mut self, limit: Option<Duration>) -> Option<RawFd> {
        // Rounded up, so as not to wait for nothing.
        let timeout =
            limit.map_or(-1, |limit| i64::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i64::MAX));
        self.waiter.wait(timeout, self.event)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // SAFETY: made in `new` and used by nobody else.
        unsafe { pg_sys::FreeWaitEventSet(self.set) };
    }
}
