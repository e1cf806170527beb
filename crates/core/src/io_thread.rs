//! The one thread of a backend on which all network I/O runs.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{self, Receiver};
use crate::waker::Waker;

/// The thread, with a current-thread tokio runtime inside.
///
/// The stack of the thread, in bytes of address space. A call to AWS in the middle of a rotation is a future in
/// many futures: without optimisation the usual 2 MB were not enough.
const STACK: usize = 8 << 20;

/// Started at a backend's first use and never in the postmaster: threads do not survive `fork`.
pub struct IoThread {
    handle: Handle,
    waker: Arc<Waker>,
    /// Cancelled when the backend is leaving: whatever lasts longer than a call ends itself then.
    closing: CancellationToken,
    /// Cancelled when the thread is to end.
    stop: CancellationToken,
    tasks: TaskTracker,
    ended: std_mpsc::Receiver<()>,
    thread: Cell<Option<JoinHandle<()>>>,
}

/// The answer to one [`IoThread::submit`]. Dropping it before the answer came cancels the work.
pub struct Pending<T> {
    /// Yields one item, or closes without one if the work panicked.
    pub answer: Receiver<T>,
    _cancel: tokio_util::sync::DropGuard,
}

impl IoThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the operating system says if there is no thread, epoll instance or descriptor to be had.
    pub fn start() -> io::Result<IoThread> {
        let waker = Arc::new(Waker::new()?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Only name look-ups run there, and one backend has few at a time.
            .max_blocking_threads(4)
            .thread_name("secretlink-dns")
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let (end, ended) = std_mpsc::channel();

        let stopped = stop.clone();
        let thread = with_all_signals_blocked(|| {
            std::thread::Builder::new().stack_size(STACK).name("secretlink-io".into()).spawn(move || {
                runtime.block_on(stopped.cancelled());
                // A look-up stuck in getaddrinfo cannot be interrupted: leave it behind.
                runtime.shutdown_background();
                let _ = end.send(());
            })
        })??;
        let closing = CancellationToken::new();
        let thread = Cell::new(Some(thread));
        Ok(IoThread { handle, waker, closing, stop, tasks: TaskTracker::new(), ended, thread })
    }

    /// Fires when the backend is leaving. What was given to [`IoThread::spawn`] and lasts longer
    /// than a call is to end itself then.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// What wakes the backend.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Runs `work` on the I/O thread. If the [`Pending`] is dropped first, `work` is dropped at its
    /// next suspension point.
    pub fn submit<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let (tx, answer) = channel::channel(1, self.waker.clone());
        self.handle.spawn(async move {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                result = work => { let _ = tx.send(result).await; }
            }
        });
        Pending { answer, _cancel: cancel.drop_guard() }
    }

    /// Runs `work` on the I/O thread to its end, even if nobody waits for it; [`IoThread::stop`] gives it
    /// its grace time. For what must not be left half done: cancelling a remote query, closing.
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.handle.spawn(self.tasks.track_future(work));
    }

    /// The runtime that the thread runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread: fires [`IoThread::closing`], waits up to `grace` for the work given to [`IoThread::spawn`], then drops
    /// everything else. Returns after `grace` and a little at the latest, even if the thread hangs, with
    /// whether it has ended.
    pub fn stop(&self, grace: Duration) -> bool {
        self.closing.cancel();
        self.tasks.close();
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        self.handle.spawn(async move {
            let _ = tokio::time::timeout(grace, tasks.wait()).await;
            stop.cancel();
        });
        let said = self.ended.recv_timeout(grace + Duration::from_millis(100));
        // It has said so, or it panicked. What is left are the destructors of its own memory, OpenSSL's
        // among them: they must be over before the process begins to tear down OpenSSL.
        if said != Err(RecvTimeoutError::Timeout)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
        said != Err(RecvTimeoutError::Timeout)
    }
}

/// Runs `f` with every signal blocked in this thread, and puts the mask back.
///
/// A new thread inherits the mask, and so do the threads tokio starts from it: Postgres's signal
/// handlers, which touch the backend's state, then run in the backend's own thread only.
fn with_all_signals_blocked<T>(f: impl FnOnce() -> T) -> io::Result<T> {
    // SAFETY: sigset_t is plain data; sigfillset and pthread_sigmask only read and write the two
    // sets, which live until the end of this function.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        let result = f();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::TryRecv;
    use std::time::Instant;

    /// Waits as a backend does, without Postgres.
    fn wait<T>(io: &IoThread, answer: &mut Receiver<T>) -> Option<T> {
        loop {
            io.waker().reset();
            match answer.try_recv() {
                TryRecv::Item(item) => return Some(item),
                TryRecv::Closed => return None,
                TryRecv::Empty => {}
            }
            let mut poll = libc::pollfd { fd: io.waker().fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, and a count of one.
            let ready = unsafe { libc::poll(&mut poll, 1, 60_000) };
            assert_eq!(ready, 1, "no wake-up within a minute");
        }
    }

    #[test]
    fn answers_arrive() {
        let io = IoThread::start().unwrap();
        for i in 0..10_000 {
            let mut pending = io.submit(async move { i });
            assert_eq!(wait(&io, &mut pending.answer), Some(i));
        }
        io.stop(Duration::from_secs(1));
    }

    #[test]
    fn no_wake_up_is_lost() {
        const ITEMS: u32 = 100_000;
        let io = IoThread::start().unwrap();
        let (tx, mut rx) = channel::channel(2, io.waker().clone());
        io.spawn(async move {
            for i in 0..ITEMS {
                tx.send(i).await.unwrap();
            }
        });
        for i in 0..ITEMS {
            assert_eq!(wait(&io, &mut rx), Some(i));
        }
        assert_eq!(wait(&io, &mut rx), None);
        io.stop(Duration::from_secs(1));
    }

    #[test]
    fn a_panic_closes_the_answer() {
        let io = IoThread::start().unwrap();
        let mut pending = io.submit::<(), _>(async { panic!("on purpose") });
        assert_eq!(wait(&io, &mut pending.answer), None);
        let mut pending = io.submit(async { 1 });
        assert_eq!(wait(&io, &mut pending.answer), Some(1), "the thread lives on");
        io.stop(Duration::from_secs(1));
    }

    #[test]
    fn dropping_the_answer_drops_the_work() {
        struct Flag(std_mpsc::Sender<()>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (tx, rx) = std_mpsc::channel();
        let io = IoThread::start().unwrap();
        let flag = Flag(tx);
        let pending = io.submit(async move {
            let _flag = flag;
            std::future::pending::<()>().await;
        });
        drop(pending);
        rx.recv_timeout(Duration::from_secs(5)).expect("the work was dropped");
        io.stop(Duration::from_secs(1));
    }

    #[test]
    fn stop_waits_for_spawned_work_but_not_for_ever() {
        let io = IoThread::start().unwrap();
        let (tx, rx) = std_mpsc::channel();
        io.spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = tx.send(());
        });
        io.stop(Duration::from_secs(5));
        rx.try_recv().expect("spawned work ended before the thread did");

        let io = IoThread::start().unwrap();
        io.spawn(std::future::pending());
        let started = Instant::now();
        assert!(io.stop(Duration::from_millis(100)));
        assert!(started.elapsed() < Duration::from_secs(2));

        let io = IoThread::start().unwrap();
        let (go_on, hang) = std_mpsc::channel::<()>();
        io.spawn(async move {
            let _ = hang.recv();
        });
        assert!(!io.stop(Duration::from_millis(100)), "a thread that hangs");
        drop(go_on);
    }

    #[test]
    fn signals_stay_with_the_first_thread() {
        let io = IoThread::start().unwrap();
        let mut pending = io.submit(async {
            // SAFETY: reads this thread's mask into a local.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
                libc::sigismember(&mask, libc::SIGUSR1) == 1 && libc::sigismember(&mask, libc::SIGTERM) == 1
            }
        });
        assert_eq!(wait(&io, &mut pending.answer), Some(true));
        io.stop(Duration::from_secs(1));
    }
}
