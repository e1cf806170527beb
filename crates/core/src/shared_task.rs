//! Work of the I/O thread that the backend may do itself while it waits for it.
//!
//! Handing a query over to another thread and its answer back costs two switches between threads. For
//! a large result they are nothing; for a query that returns a row they are as much as all the rest, on
//! a busy machine far more. So a backend that waits for such work does it meanwhile: it polls the same
//! future that the I/O thread would poll, and waits for its socket together with everything else that
//! a backend waits for.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker as TaskWaker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::channel::{Receiver, TryRecv};
use crate::io_thread::IoThread;
use crate::waker::Waker;

/// For how long at least the backend keeps work that it does nothing for, so that the I/O thread need
/// not be told between two queries of a row. Until then nobody reads on.
const KEEP: Duration = Duration::from_millis(50);

/// For how long a backend looks for an answer before it sleeps, if [the ones before](Nearness) came within that
/// time: that of a query for a row at a server on the same machine, where falling asleep and waking up take as
/// long as the query itself. A server that is farther away, or busy, is never waited for like this.
const NEAR: Duration = Duration::from_micros(100);

/// How many answers have to come that soon, one after the other. On a busy machine some do by chance, and a
/// process that looks for the others takes time that the server needs, and then waits longer for its own turn.
const NEAR_IN_A_ROW: u32 = 8;

/// How many answers of a server have come within 100 microseconds, one after the other.
#[derive(Default)]
pub struct Nearness(Cell<u32>);

impl Nearness {
    /// An answer was waited for since then.
    fn note(&self, began: Instant) {
        self.0.set(if began.elapsed() < NEAR { self.0.get().saturating_add(1) } else { 0 });
    }

    /// Whether to look for the next answer before sleeping.
    fn is_near(&self) -> bool {
        self.0.get() >= NEAR_IN_A_ROW
    }
}

/// How many reads the backend does before it looks again for whatever may end its wait. A server that
/// always has more to say would otherwise keep it for ever. With reads of 32 kB this is about 2 MB.
const READS_IN_A_TURN: u32 = 64;

/// A handle on the work for the backend. Dropping it leaves the work to the I/O thread.
pub struct SharedTask {
    shared: Arc<Shared>,
    runtime: Handle,
    waker: Arc<BackendWaker>,
    /// When the backend last paused.
    paused: Cell<Instant>,
}

struct Shared {
    /// Locked while the work is polled. A backend that waits for it may wait for long while the I/O thread
    /// does the work, as a mutex knows no order: so it looks who the doer is first.
    state: Mutex<State>,
    doer: CurrentDoer,
    /// The backend has given the work back.
    returned: Notify,
}

struct State {
    /// `None` when it is done.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
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
#[repr(u8)]
enum Doer {
    IoThread,
    /// The backend, in a [`Drive`].
    Backend,
    /// The backend, which may come back soon.
    BackendLately,
    /// The backend, which may come back soon and has been away for a while.
    BackendOnce,
}

/// Who does the work. This is changed under the lock of [`Shared::state`] only, and from the I/O thread to the
/// backend by the backend only.
struct CurrentDoer(AtomicU8);

impl CurrentDoer {
    fn get(&self) -> Doer {
        const DOERS: [Doer; 4] = [Doer::IoThread, Doer::Backend, Doer::BackendLately, Doer::BackendOnce];
        DOERS[usize::from(self.0.load(Ordering::Acquire)) % DOERS.len()]
    }

    fn set(&self, doer: Doer) {
        self.0.store(doer as u8, Ordering::Release);
    }
}

/// What wakes the backend for its part of the work.
struct BackendWaker {
    /// Whether there is something to do. Set without waking by the backend itself while it polls.
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
    static READS_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread is doing [shared work](SharedTask) and waits for sockets by itself: nothing is
/// to be registered with the runtime for it. If so, the number of the last time that a socket had to be
/// looked at: what was found empty since then is still empty, as far as is known.
pub fn driving() -> Option<u64> {
    DRIVING.get().then(|| LOOKED.get())
}

/// Whether the work may read from its socket once more before others get their turn; for a thread that
/// is [`driving`]. If not, it has been woken already to go on in its next turn.
pub fn may_read(context: &Context<'_>) -> bool {
    let left = READS_LEFT.get();
    if left == 0 {
        context.waker().wake_by_ref();
    }
    READS_LEFT.set(left.saturating_sub(1));
    left > 0
}

/// Says that the work cannot go on without something that this thread does not wait for, as room to
/// write: it goes back to the I/O thread.
pub fn needs_io_thread() {
    STUCK.set(true);
}

impl SharedTask {
    /// Runs `work` as [`IoThread::spawn`] does, with the backend free to do it itself while it waits for it.
    pub fn spawn(io: &IoThread, work: impl Future<Output = ()> + Send + 'static) -> SharedTask {
        let state = State { work: Some(Box::pin(work)), io_thread: None };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            doer: CurrentDoer(AtomicU8::new(Doer::IoThread as u8)),
            returned: Notify::new(),
        });
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
        let before = self.shared.doer.get();
        self.shared.doer.set(Doer::Backend);
        if before == Doer::IoThread {
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
        let kept = matches!(self.shared.doer.get(), Doer::BackendLately | Doer::BackendOnce);
        if kept
            && let Some(mut drive) = self.drive()
            && drive.poll()
        {
            drive.pause();
        }
    }

    /// Leaves the work to the I/O thread.
    pub fn give_back(&self) {
        if self.shared.doer.get() == Doer::IoThread {
            return;
        }
        let _state = self.shared.lock();
        if self.shared.doer.get() != Doer::IoThread {
            self.shared.doer.set(Doer::IoThread);
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

/// What a wait is made of besides the work itself.
pub trait Wait {
    /// Why a wait ends without a result.
    type End;

    /// Whether to go on waiting. May leave by a panic, too.
    fn go_on(&mut self) -> ControlFlow<Self::End>;

    /// Waits until the work's socket or the backend's waker is readable, or for something of the waiter's
    /// own; not longer than `limit`, if there is one. Gives the descriptor that is readable, if one is.
    fn wait(&mut self, limit: Option<Duration>) -> Option<RawFd>;
}

/// What [`Drive::recv`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next item.
    Item(T),
    /// Every sender is gone and everything sent was received.
    Closed,
    /// Nothing came, and the work has to go back to the I/O thread.
    NeedsIoThread,
}

impl Drive<'_> {
    /// Waits for the next item of a channel that the work feeds, and does the work meanwhile.
    ///
    /// Whatever the other end of the socket does, `waiter` is asked again and again whether to go on.
    /// `nearness` is kept from one call to the next.
    pub fn recv<T, W: Wait>(
        &mut self,
        from: &mut Receiver<T>,
        nearness: &Nearness,
        waiter: &mut W,
    ) -> ControlFlow<W::End, Received<T>> {
        let began = Instant::now();
        let mut waited = false;
        loop {
            waiter.go_on()?;
            // What was sent before is taken first: it may be all that is wanted.
            match from.try_recv() {
                TryRecv::Item(item) => return ControlFlow::Continue(Received::Item(item)),
                TryRecv::Closed => return ControlFlow::Continue(Received::Closed),
                TryRecv::Empty => {}
            }
            let goes_on = self.poll();
            match from.try_recv() {
                TryRecv::Item(item) => {
                    if waited {
                        nearness.note(began);
                    }
                    return ControlFlow::Continue(Received::Item(item));
                }
                TryRecv::Closed => return ControlFlow::Continue(Received::Closed),
                TryRecv::Empty if goes_on => {}
                TryRecv::Empty => return ControlFlow::Continue(Received::NeedsIoThread),
            }
            // There is more to do at once; what else there is to wait for is looked at all the same.
            let more = self.task.waker.woken.load(Ordering::Acquire);
            waited |= !more;
            if !more && nearness.is_near() && began.elapsed() < NEAR {
                // Another process that has something to do, the server perhaps, comes first.
                std::thread::yield_now();
                self.readable();
                continue;
            }
            let woken = waiter.wait(more.then_some(Duration::ZERO));
            let waker = &self.task.waker.waker;
            match woken {
                Some(fd) if fd == waker.fd() => waker.reset(),
                Some(_) => self.readable(),
                None => {}
            }
        }
    }

    /// Does what there is to do in one turn, without waiting. False if the work has to go back to the I/O
    /// thread, or is done.
    pub fn poll(&mut self) -> bool {
        let waker = &self.task.waker;
        if !waker.woken.swap(false, Ordering::AcqRel) {
            return true;
        }
        let shared = &self.task.shared;
        if shared.doer.get() != Doer::Backend {
            return false;
        }
        let mut state = shared.lock();
        if shared.doer.get() != Doer::Backend {
            return false;
        }
        let _runtime = self.task.runtime.enter();
        let task_waker = TaskWaker::from(Arc::clone(waker));
        // Who is awake need not be woken by what it does itself.
        let quiet = waker.waker.quiet();
        DRIVING.set(true);
        STUCK.set(false);
        READS_LEFT.set(READS_IN_A_TURN);
        let done = state.poll(&mut Context::from_waker(&task_waker));
        DRIVING.set(false);
        drop(quiet);
        !done && !STUCK.get()
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
            let state = self.task.shared.lock();
            if self.task.shared.doer.get() == Doer::Backend && state.work.is_some() {
                self.task.shared.doer.set(Doer::BackendLately);
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
                    () = closing.cancelled() => {
                        let _state = self.lock();
                        self.doer.set(Doer::IoThread);
                    }
                    () = self.returned.notified() => {}
                    () = tokio::time::sleep(KEEP) => self.grow_old(),
                }
                if self.doer.get() == Doer::IoThread {
                    break;
                }
            }
        }
    }

    /// Ready with whether the work is done when this task has nothing to do for it.
    fn poll(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if self.doer.get() != Doer::IoThread {
            return Poll::Ready(state.work.is_none());
        }
        if state.poll(context) {
            return Poll::Ready(true);
        }
        state.io_thread = Some(context.waker().clone());
        Poll::Pending
    }

    fn grow_old(&self) {
        let _state = self.lock();
        self.doer.set(match self.doer.get() {
            Doer::BackendLately => Doer::BackendOnce,
            Doer::BackendOnce => Doer::IoThread,
            doer => doer,
        });
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

    /// Waits as a backend does, without Postgres.
    struct Patience<'a>(&'a IoThread);

    impl Wait for Patience<'_> {
        type End = ();

        fn go_on(&mut self) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn wait(&mut self, limit: Option<Duration>) -> Option<RawFd> {
            let mut poll = libc::pollfd { fd: self.0.waker().fd(), events: libc::POLLIN, revents: 0 };
            let milliseconds = limit.map_or(60_000, |limit| limit.as_millis() as i32);
            // SAFETY: one valid pollfd, and a count of one.
            let ready = unsafe { libc::poll(&mut poll, 1, milliseconds) };
            assert!(ready == 1 || limit.is_some(), "no wake-up within a minute");
            (ready == 1).then_some(poll.fd)
        }
    }

    /// The next answer, driving `task` as long as that goes.
    fn answer(
        io: &IoThread,
        drive: Option<&mut Drive<'_>>,
        answers: &mut Receiver<(u32, ThreadId)>,
    ) -> Option<(u32, ThreadId)> {
        if let Some(driven) = drive {
            match driven.recv(answers, &Nearness::default(), &mut Patience(io)) {
                ControlFlow::Continue(Received::Item(item)) => return Some(item),
                ControlFlow::Continue(Received::Closed) | ControlFlow::Break(()) => return None,
                ControlFlow::Continue(Received::NeedsIoThread) => {}
            }
        }
        loop {
            io.waker().reset();
            match answers.try_recv() {
                TryRecv::Item(item) => return Some(item),
                TryRecv::Closed => return None,
                TryRecv::Empty => Patience(io).wait(None),
            };
        }
    }

    fn drive(task: &SharedTask) -> Drive<'_> {
        let began = Instant::now();
        loop {
            if let Some(drive) = task.drive() {
                return drive;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "never free");
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

    /// Work that is never done for now, as that for a server which always has more to say.
    #[test]
    fn whoever_drives_is_asked_whether_to_go_on() {
        struct Turns(u32);
        impl Wait for Turns {
            type End = &'static str;
            fn go_on(&mut self) -> ControlFlow<&'static str> {
                self.0 += 1;
                if self.0 > 100 { ControlFlow::Break("timed out") } else { ControlFlow::Continue(()) }
            }
            fn wait(&mut self, limit: Option<Duration>) -> Option<RawFd> {
                assert_eq!(limit, Some(Duration::ZERO), "there is more to do");
                None
            }
        }
        let io = IoThread::start().unwrap();
        let (_tx, mut answers) = channel::channel::<()>(1, io.waker().clone());
        let task = SharedTask::spawn(
            &io,
            poll_fn(|context| {
                // As many reads as are allowed.
                while driving().is_some() && may_read(context) {}
                Poll::Pending
            }),
        );
        let ended = drive(&task).recv(&mut answers, &Nearness::default(), &mut Turns(0));
        assert_eq!(ended, ControlFlow::Break("timed out"));
        drop(task);
        io.stop(Duration::from_millis(10));
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
