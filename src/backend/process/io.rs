//! The backend's I/O thread: started at first use, ended with the backend.

use pgrx::{pg_guard, pg_sys};
use secretlink_core::channel::{Receiver, TryRecv};
use secretlink_core::io_thread::IoThread;
use secretlink_core::memory;
use secretlink_core::shared_task::Drive;
use std::cell::OnceCell;
use std::future::Future;
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::backend::error::BackendError;
use crate::backend::process::fd::ExternalFd;
use crate::backend::process::transaction::StatementTimeout;
use crate::backend::process::wait::{WaitEvent, Waiter};

/// How long remote servers are given, when the backend exits, to hear that their queries are to
/// stop and that we are gone. A local network needs milliseconds; beyond this the sockets are just
/// closed.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// What a thread needs: its stack above all.
const THREAD: usize = 12 << 20;

/// The thread and what it takes to wait for it.
struct Io {
    thread: IoThread,
    waiter: Waiter,
}

thread_local! {
    // Leaked, so that nothing is destroyed behind Postgres's back when the process ends: the exit
    // callback ends the thread in order.
    static IO: OnceCell<&'static Io> = const { OnceCell::new() };
}

fn io() -> Result<&'static Io, BackendError> {
    IO.with(|cell| {
        if let Some(io) = cell.get() {
            return Ok(*io);
        }
        let thread = IoThread::start().map_err(not_started)?;
        let waiter = Waiter::new(thread.waker().clone(), None);
        // SAFETY: `end_io_thread` is a callback of the right type; it is registered once, since the
        // cell below is filled in the same breath.
        unsafe { pg_sys::on_proc_exit(Some(end_io_thread), pg_sys::Datum::from(0)) };
        let io: &'static Io = Box::leak(Box::new(Io { thread, waiter }));
        Ok(*cell.get_or_init(|| io))
    })
}

/// This backend's I/O thread, as [`io`] gives it, for work that begins: only with memory kept for its end.
fn begin() -> Result<&'static Io, BackendError> {
    memory::prepare()?;
    io()
}

/// A thread that there is no memory for is refused with the same words (EAGAIN) as one too many.
fn not_started(error: std::io::Error) -> BackendError {
    match error.kind() {
        ErrorKind::OutOfMemory | ErrorKind::WouldBlock => match memory::look_for(THREAD) {
            Err(none) => none.into(),
            Ok(()) => BackendError::IoThreadStart(error),
        },
        _ => BackendError::IoThreadStart(error),
    }
}

/// Runs at every kind of exit but SIGKILL and SIGQUIT, which close the sockets by ending the
/// process. It only waits for the thread, and not much longer than the grace; it raises nothing.
///
/// # Safety
/// For Postgres to call, at exit, with the exit code.
#[pg_guard]
unsafe extern "C-unwind" fn end_io_thread(code: i32, _arg: pg_sys::Datum) {
    if let Some(io) = IO.with(|cell| cell.get().copied())
        && !io.thread.stop(EXIT_GRACE)
    {
        // A code below zero says that it is not known.
        EXIT_CODE.store(code.max(i32::from(code < 0)), Ordering::Relaxed);
        // SAFETY: a function that any process may call, with a handler that touches nothing of ours.
        // Without room for one more handler the process ends as it would have ended.
        unsafe { libc::atexit(exit_now) };
    }
}

static EXIT_CODE: AtomicI32 = AtomicI32::new(0);

/// Ends the process behind all of Postgres's exit callbacks and before the handlers of libraries, of which
/// it is the last to be registered and so the first to run. A thread that hangs may be in the middle of
/// OpenSSL, whose own handler frees what all threads share.
extern "C" fn exit_now() {
    // SAFETY: it may be called at any time.
    unsafe { libc::_exit(EXIT_CODE.load(Ordering::Relaxed)) }
}

/// The I/O thread, for what starts work there and does not wait for it.
///
/// # Errors
/// If it could not be started, or memory has run out.
pub(crate) fn thread() -> Result<&'static IoThread, BackendError> {
    Ok(&begin()?.thread)
}

/// Runs `work` on the I/O thread and waits for its result. An interrupt drops the work.
///
/// # Errors
/// If the thread could not be started, the work panicked, or memory has run out.
pub(crate) fn run<T, F>(event: WaitEvent, work: F) -> Result<T, BackendError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let io = begin()?;
    let _timeout = StatementTimeout::resume_unfired();
    let mut pending = io.thread.submit(work);
    received(io.waiter.recv(&mut pending.answer, event, None))
}

/// Waits for the next item of a channel that the I/O thread feeds.
///
/// # Errors
/// If the sender went away, which it does without a last word only when it panicked.
pub(crate) fn recv<T>(event: WaitEvent, from: &mut Receiver<T>) -> Result<T, BackendError> {
    let io = io()?;
    let _timeout = StatementTimeout::resume_unfired();
    received(io.waiter.recv(from, event, None))
}

fn received<T>(received: TryRecv<T>) -> Result<T, BackendError> {
    match received {
        TryRecv::Item(item) => Ok(item),
        TryRecv::Closed | TryRecv::Empty => Err(BackendError::IoThreadPanicked),
    }
}

/// What waiting for a session takes that the backend drives itself.
#[derive(Default)]
pub(crate) struct Driver {
    waiter: OnceCell<Waiter>,
}

impl Driver {
    /// Waits as [`recv`] does, and meanwhile does what the I/O thread would have to do for the channel: no
    /// hand-over between threads. `session` is the work and its socket; when it has to go back to the I/O thread it
    /// is `None` afterwards.
    ///
    /// # Errors
    /// As [`recv`].
    pub(crate) fn recv<T>(
        &self,
        event: WaitEvent,
        session: &mut Option<(Drive<'_>, RawFd)>,
        from: &mut Receiver<T>,
    ) -> Result<T, BackendError> {
        let io = io()?;
        if let Some((drive, socket)) = session
            && let Some(waiter) = self.waiter(io, *socket)
        {
            let _timeout = StatementTimeout::resume_unfired();
            match waiter.recv_driving(drive, from, event) {
                TryRecv::Empty => {}
                other => return received(other),
            }
        }
        *session = None;
        recv(event, from)
    }

    /// `None` if there are too many descriptors to have one more, for what can be done without.
    fn waiter(&self, io: &Io, socket: RawFd) -> Option<&Waiter> {
        if self.waiter.get().is_none() {
            ExternalFd::acquire().ok()?;
        }
        Some(self.waiter.get_or_init(|| Waiter::new(io.thread.waker().clone(), Some(socket))))
    }
}

/// Waits for the next item for `limit` at most; `None` if none came.
///
/// # Errors
/// As [`recv`].
pub(crate) fn recv_within<T>(
    event: WaitEvent,
    from: &mut Receiver<T>,
    limit: Duration,
) -> Result<Option<T>, BackendError> {
    let io = io()?;
    let _timeout = StatementTimeout::resume_unfired();
    match io.waiter.recv(from, event, Some(Instant::now() + limit)) {
        TryRecv::Empty => Ok(None),
        other => received(other).map(Some),
    }
}

/// Runs `work` on the I/O thread, which must have been started, where nothing may fail and interrupts
/// are held off: after a commit. Waits until `deadline` at the latest, and not once somebody has asked
/// this backend to stop what it does. `None` if the result did not come; the work is dropped then.
pub(crate) fn run_uninterrupted<T, F>(event: WaitEvent, deadline: Instant, work: F) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let io = IO.with(|cell| cell.get().copied())?;
    let mut pending = io.thread.submit(work);
    io.waiter.recv_uninterrupted(&mut pending.answer, event, deadline)
}
