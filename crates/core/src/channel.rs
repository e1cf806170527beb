//! A bounded channel from the I/O thread to a consumer that waits on a file descriptor.
//!
//! A backend cannot block on a condition variable: it must also react to its latch, to signals and
//! to the death of the postmaster, all of which `WaitEventSetWait` watches together with
//! descriptors. So every send is followed by a wake-up of a descriptor (see [`Waker`]).

use std::sync::Arc;
use tokio::sync::mpsc;

use crate::waker::Waker;

/// The sending half, used on the I/O thread.
#[derive(Clone)]
pub struct Sender<T> {
    inner: mpsc::Sender<T>,
    waker: Arc<Waker>,
}

/// The receiving half, used by the backend.
pub struct Receiver<T> {
    inner: mpsc::Receiver<T>,
}

/// What [`Receiver::try_recv`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum TryRecv<T> {
    /// The next item.
    Item(T),
    /// Nothing yet: wait on the wake descriptor, then try again.
    Empty,
    /// Every sender is gone and everything sent was received.
    Closed,
}

/// A channel that holds at most `capacity` items and wakes through `waker`.
pub fn channel<T>(capacity: usize, waker: Arc<Waker>) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel(capacity);
    (Sender { inner: tx, waker }, Receiver { inner: rx })
}

impl<T> Sender<T> {
    /// Sends, waiting while the channel is full: a slow consumer holds the producer back instead
    /// of filling memory. `Err` gives the item back when the receiver is gone.
    pub async fn send(&self, item: T) -> Result<(), T> {
        let result = self.inner.send(item).await.map_err(|e| e.0);
        self.waker.wake();
        result
    }

    /// Sends without waiting. What has no room is dropped: for a channel that gets one item.
    pub fn send_now(&self, item: T) {
        let _ = self.inner.try_send(item);
        self.waker.wake();
    }

    /// Completes when the receiver is gone.
    pub async fn closed(&self) {
        self.inner.closed().await;
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The inner sender is dropped only after this body, so a consumer woken here may still see
        // the channel open. Swap it for a dead one first: "closed" is then visible before the wake.
        let (dead, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.inner, dead));
        self.waker.wake();
    }
}

impl<T> Receiver<T> {
    /// Takes the next item if there is one, without waiting.
    pub fn try_recv(&mut self) -> TryRecv<T> {
        match self.inner.try_recv() {
            Ok(item) => TryRecv::Item(item),
            Err(mpsc::error::TryRecvError::Empty) => TryRecv::Empty,
            Err(mpsc::error::TryRecvError::Disconnected) => TryRecv::Closed,
        }
    }
}
