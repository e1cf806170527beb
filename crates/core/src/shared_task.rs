//! Work of the I/O thread that the backend may do itself while it waits for it.
//!
//! Handing a query over to another thread and its answer back costs two switches between threads. For
//! a large result they are nothing; for a query that returns a row they are as much as all the rest, on
//! a busy machine far more. So a backend that waits for such work does it meanwhile: it polls the same
//! future that the I/O thread would poll, and waits for its socket together with everything else that
//! a backend waits for.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker as TaskWaker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::io_thread::IoThread;
use crate::waker::Waker;

/// For how long at least the backend keeps work that it does nothing for, so that the I/O thread need
/// not be told between two queries of a row. Until then nobody reads on.
const KEEP: Duration = Duration::from_millis(50);

/// A handle on the work for the backend. Dropping it leaves the work to the I/O thread.
pub struct SharedTask {
    shared: Arc<Shared>,
    runtime: Handle,
    waker: Arc<BackendWaker>,
    /// When the backend last paused.
    paused: Cell<Instant>,
}

struct Shared {
    state: Mutex<State>,
    /// The backend has given the work back.
    returned: Notify,
}

struct State {
    /// `None` when it is done.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    doer: Doer,
    /// Wakes the task on the I/O thread.
    io_thread: Option<TaskWaker>,
}

impl State {
    /// Polls the work. Returns whether it is done, or was.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Some(work) = self.work.as_mut() else { return true };
        // Work that panicked is done: dropping it closes the channels on which somebody may wait.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let done = !matches!(polled, Ok(Poll::Pending));
        if done {
            self.work = None;
        }
        done
    }
}

/// Who polls the work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doer {
    IoThread,
    /// The backend, in a [`Drive`].
    Backend,
    /// The backend, which may come back soon.
    BackendLately,
    /// The same, and it has been so for a while.
    BackendOnce,
}

/// What wakes the backend for its part of the work.
struct BackendWaker {
    /// There is something to do. Set without waking by the backend itself while it polls.
    woken: AtomicBool,
    waker: Arc<Waker>,
}

impl Wake for BackendWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }
}

thread_local! {
    static DRIVING: Cell<bool> = const { Cell::new(false) };
    static STUCK: Cell<bool> = const { Cell::new(false) };
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// Whether this thread is doing [shared work](SharedTask) and waits for sockets by itself: nothing is
/// to be registered with the runtime for it. If so, the number of the last time that a socket had to be
/// looked at: what was found empty since then is still empty, as far as is known.
pub fn driving() -> Option<u64> {
    DRIVING.get().then(|| LOOKED.get())
}

/// Says that the work cannot go on without something that this thread does not wait for, as room to
/// write: it goes back to the I/O thread.
pub fn needs_io_thread() {
    STUCK.set(true);
}

impl SharedTask {
    /// Runs `work` as [`IoThread::spawn`] does, with the backend free to do it itself while it waits for it.
    pub fn spawn(io: &IoThread, work: impl Future<Output = ()> + Send + 'static) -> SharedTask {
        let state = State { work: Some(Box::pin(work)), doer: Doer::IoThread, io_thread: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), returned: Notify::new() });
        let waker = Arc::new(BackendWaker { woken: AtomicBool::new(false), waker: io.waker().clone() });
        io.spawn(Arc::clone(&shared).serve(io.closing().clone()));
        SharedTask { shared, runtime: io.runtime().clone(), waker, paused: Cell::new(Instant::now()) }
    }

    /// Takes the work over. `None` if it is done, or the I/O thread is in the middle of it.
    pub fn drive(&self) -> Option<Drive<'_>> {
        let mut state = match self.shared.state.try_lock() {
            Ok(state) => state,
            Err(_) => return None,
        };
        state.work.as_ref()?;
        if std::mem::replace(&mut state.doer, Doer::Backend) == Doer::IoThread {
            // It has to look after us from now on.
            if let Some(io_thread) = state.io_thread.take() {
                io_thread.wake();
            }
        }
        let drive = Drive { task: self, keep: false };
        drive.readable();
        Some(drive)
    }

    /// If the backend has kept the work, does what there is to do without waiting: nobody else does.
    /// The I/O thread would not be much quicker than a millisecond.
    pub fn catch_up(&self) {
        if self.paused.get().elapsed() < Duration::from_millis(1) {
            return;
        }
        let kept = matches!(self.shared.lock().doer, Doer::BackendLately | Doer::BackendOnce);
        if kept
            && let Some(mut drive) = self.drive()
            && drive.poll()
        {
            drive.pause();
        }
    }

    /// Leaves the work to the I/O thread.
    pub fn give_back(&self) {
        let mut state = self.shared.lock();
        if state.doer != Doer::IoThread {
            state.doer = Doer::IoThread;
            self.shared.returned.notify_one();
        }
    }
}

impl Drop for SharedTask {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The work in the backend's hands. Dropping it leaves the work to the I/O thread.
pub struct Drive<'a> {
    task: &'a SharedTask,
    keep: bool,
}

impl Drive<'_> {
    /// Does what there is to do without waiting. False if the work has to go back to the I/O thread,
    /// or is done.
    pub fn poll(&mut self) -> bool {
        let waker = &self.task.waker;
        while waker.woken.swap(false, Ordering::AcqRel) {
            let mut state = self.task.shared.lock();
            if state.doer != Doer::Backend {
                return false;
            }
            let _runtime = self.task.runtime.enter();
            let task_waker = TaskWaker::from(Arc::clone(waker));
            // Who is awake need not be woken by what it does itself.
            let quiet = waker.waker.quiet();
            DRIVING.set(true);
            STUCK.set(false);
            let done = state.poll(&mut Context::from_waker(&task_waker));
            DRIVING.set(false);
            drop(quiet);
            if done {
                return false;
            }
            if STUCK.get() {
                return false;
            }
        }
        true
    }

    /// The socket has something to read, or may have.
    pub fn readable(&self) {
        LOOKED.set(LOOKED.get() + 1);
        self.task.waker.woken.store(true, Ordering::Release);
    }

    /// The work is over for now, and there may soon be more.
    pub fn pause(mut self) {
        self.task.paused.set(Instant::now());
        self.keep = true;
    }
}

impl Drop for Drive<'_> {
    fn drop(&mut self) {
        if self.keep {
            let mut state = self.task.shared.lock();
            if state.doer == Doer::Backend && state.work.is_some() {
                state.doer = Doer::BackendLately;
                return;
            }
        }
        self.task.give_back();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Panics of the work are caught before they get here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task on the I/O thread: does the work as long as the backend does not.
    async fn serve(self: Arc<Self>, closing: CancellationToken) {
        while !poll_fn(|context| self.poll(context)).await {
            // In the backend's hands.
            loop {
                tokio::select! {
                    biased;
                    // The backend is leaving: it polls no more.
                    () = closing.cancelled() => self.lock().doer = Doer::IoThread,
                    () = self.returned.notified() => {}
                    () = tokio::time::sleep(KEEP) => self.grow_old(),
                }
                if self.lock().doer == Doer::IoThread {
                    break;
                }
            }
        }
    }

    /// Ready with whether the work is done when this task has nothing to do for it.
    fn poll(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.doer != Doer::IoThread {
            return Poll::Ready(state.work.is_none());
        }
        if state.poll(context) {
            return Poll::Ready(true);
        }
        state.io_thread = Some(context.waker().clone());
        Poll::Pending
    }

    fn grow_old(&self) {
        let mut state = self.lock();
        state.doer = match state.doer {
            Doer::BackendLately => Doer::BackendOnce,
            Doer::BackendOnce => Doer::IoThread,
            doer => doer,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{self, Receiver, TryRecv};
    use std::thread::ThreadId;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    /// Work that says, for each order, on which thread it was done; an order of 0 makes it panic.
    fn work(io: &IoThread) -> (SharedTask, UnboundedSender<u32>, Receiver<(u32, ThreadId)>) {
        let (orders, mut taken) = unbounded_channel();
        let (tx, answers) = channel::channel(8, io.waker().clone());
        let task = SharedTask::spawn(io, async move {
            while let Some(order) = taken.recv().await {
                assert_ne!(order, 0, "on purpose");
                // Of no use on a thread that is not in the runtime.
                tokio::time::sleep(Duration::ZERO).await;
                let _ = tx.send((order, std::thread::current().id())).await;
            }
        });
        (task, orders, answers)
    }

    /// Waits as a backend does, without Postgres, driving `task` as long as that goes.
    fn answer(
        io: &IoThread,
        mut drive: Option<&mut Drive<'_>>,
        answers: &mut Receiver<(u32, ThreadId)>,
    ) -> Option<(u32, ThreadId)> {
        loop {
            if let Some(driven) = &mut drive
                && !driven.poll()
            {
                drive = None;
            }
            io.waker().reset();
            match answers.try_recv() {
                TryRecv::Item(item) => return Some(item),
                TryRecv::Closed => return None,
                TryRecv::Empty => {}
            }
            let mut poll = libc::pollfd { fd: io.waker().fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, and a count of one.
            let ready = unsafe { libc::poll(&mut poll, 1, 5_000) };
            assert_eq!(ready, 1, "no wake-up within five seconds");
        }
    }

    fn drive(task: &SharedTask) -> Drive<'_> {
        let began = Instant::now();
        loop {
            if let Some(drive) = task.drive() {
                return drive;
            }
            assert!(began.elapsed() < Duration::from_secs(5), "never free");
            std::thread::yield_now();
        }
    }

    #[test]
    fn either_thread_does_the_work() {
        let io = IoThread::start().unwrap();
        let (task, orders, mut answers) = work(&io);
        let here = std::thread::current().id();
        for round in 1..200 {
            orders.send(round).unwrap();
            let (order, thread) = answer(&io, None, &mut answers).unwrap();
            assert_eq!((order, thread == here), (round, false));
            let mut driven = drive(&task);
            for number in [1, 2] {
                orders.send(number).unwrap();
                assert_eq!(answer(&io, Some(&mut driven), &mut answers), Some((number, here)));
            }
            match round % 3 {
                0 => driven.pause(),
                1 => drop(driven),
                _ => {
                    driven.pause();
                    let mut again = drive(&task);
                    orders.send(7).unwrap();
                    assert_eq!(answer(&io, Some(&mut again), &mut answers), Some((7, here)));
                    again.pause();
                    task.give_back();
                }
            }
            // What was only paused comes back to the I/O thread by itself.
        }
        drop(orders);
        io.stop(Duration::from_secs(5));
    }

    #[test]
    fn a_panic_closes_what_the_work_sends_through() {
        for here in [true, false] {
            let io = IoThread::start().unwrap();
            let (task, orders, mut answers) = work(&io);
            let mut driven = here.then(|| drive(&task));
            orders.send(0).unwrap();
            assert_eq!(answer(&io, driven.as_mut(), &mut answers), None);
            drop(driven);
            assert!(task.drive().is_none(), "it is done");
            io.stop(Duration::from_secs(5));
        }
    }

    #[test]
    fn the_end_of_the_thread_does_not_wait_for_who_has_gone() {
        let io = IoThread::start().unwrap();
        let closing = io.closing().clone();
        let (said, over) = std::sync::mpsc::channel();
        let task = SharedTask::spawn(&io, async move {
            closing.cancelled().await;
            said.send(std::thread::current().id()).unwrap();
        });
        let mut driven = drive(&task);
        assert!(driven.poll());
        // As a FATAL leaves it.
        std::mem::forget(driven);
        let began = Instant::now();
        io.stop(Duration::from_secs(5));
        assert_ne!(over.try_recv(), Ok(std::thread::current().id()));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(task.drive().is_none(), "it was brought to its end");
    }
}
