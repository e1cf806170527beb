//! A bounded channel from the I/O thread to a consumer that waits on a file descriptor.
//!
//! A backend cannot block on a condition variable: it must also react to its latch, to signals and
//! to the death of the postmaster, all of which `WaitEventSetWait` watches together with
//! descriptors. So every send is followed by a wake-up of a descriptor (see [`Waker`]).

use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

use crate::waker::Waker;

/// The sending half, used on the I/O thread.
#[derive(Clone)]
pub struct Sender<T> {
    inner: mpsc::Sender<T>,
    room: Option<Room<T>>,
    // Dropped after the inner sender: the thread that is woken by that finds the channel closed.
    waker: WakesWhenDropped,
}

/// The end of a sender has to wake, too.
#[derive(Clone)]
struct WakesWhenDropped(Arc<Waker>);

impl Drop for WakesWhenDropped {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The receiving half, used by the backend.
pub struct Receiver<T> {
    inner: mpsc::Receiver<T>,
    room: Option<Room<T>>,
    /// Received, but not taken: see [`Receiver::arrived`].
    arrived: VecDeque<T>,
}

/// Room that is shared by items of different sizes.
struct Room<T> {
    free: Arc<Semaphore>,
    all: u32,
    size: fn(&T) -> usize,
}

impl<T> Room<T> {
    /// What an item takes: never more than there is, so that it can be sent when all of it is free.
    fn of(&self, item: &T) -> u32 {
        u32::try_from((self.size)(item)).unwrap_or(u32::MAX).min(self.all)
    }
}

impl<T> Clone for Room<T> {
    fn clone(&self) -> Room<T> {
        Room { free: self.free.clone(), ..*self }
    }
}

/// What [`Receiver::try_recv`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum TryRecv<T> {
    /// The next item.
    Item(T),
    /// The channel has nothing yet: wait on the wake descriptor, then try again.
    Empty,
    /// Every sender is gone and everything sent was received.
    Closed,
}

/// A channel that holds at most `capacity` items and wakes through `waker`.
pub fn channel<T>(capacity: usize, waker: Arc<Waker>) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel(capacity);
    let waker = WakesWhenDropped(waker);
    (Sender { inner: tx, room: None, waker }, Receiver { inner: rx, room: None, arrived: VecDeque::new() })
}

/// How many items a channel of sizes may hold, however small they are.
const MAX_ITEMS: usize = 1 << 16;

/// A channel that holds items of `room` bytes together, or a single one that is larger, and wakes
/// through `waker`. `size` says how large an item is.
pub fn channel_of_sizes<T>(room: u32, size: fn(&T) -> usize, waker: Arc<Waker>) -> (Sender<T>, Receiver<T>) {
    let (mut tx, mut rx) = channel(MAX_ITEMS, waker);
    let room = Some(Room { free: Arc::new(Semaphore::new(room as usize)), all: room, size });
    tx.room.clone_from(&room);
    rx.room = room;
    (tx, rx)
}

impl<T> Sender<T> {
    /// Sends, waiting while the channel is full: a slow consumer holds the producer back instead
    /// of filling memory. `Err` gives the item back when the receiver is gone.
    pub async fn send(&self, item: T) -> Result<(), T> {
        if let Some(room) = &self.room {
            // The receiver's end closes the semaphore.
            match room.free.acquire_many(room.of(&item)).await {
                Ok(taken) => taken.forget(),
                Err(_) => return Err(item),
            }
        }
        let result = self.inner.send(item).await.map_err(|e| e.0);
        self.waker.0.wake();
        result
    }

    /// Sends without waiting. What has no room is dropped: for a channel that gets one item.
    pub fn send_now(&self, item: T) {
        let _ = self.inner.try_send(item);
        self.waker.0.wake();
    }

    /// Completes when the receiver is gone.
    pub async fn closed(&self) {
        self.inner.closed().await;
    }
}

impl<T> Receiver<T> {
    /// Takes the next item if there is one, without waiting.
    pub fn try_recv(&mut self) -> TryRecv<T> {
        let received = match self.arrived.pop_front() {
            Some(item) => TryRecv::Item(item),
            None => self.receive(),
        };
        if let (TryRecv::Item(item), Some(room)) = (&received, &self.room) {
            room.free.add_permits(room.of(item) as usize);
        }
        received
    }

    fn receive(&mut self) -> TryRecv<T> {
        match self.inner.try_recv() {
            Ok(item) => TryRecv::Item(item),
            Err(mpsc::error::TryRecvError::Empty) => TryRecv::Empty,
            Err(mpsc::error::TryRecvError::Disconnected) => TryRecv::Closed,
        }
    }

    /// What can be taken now, for a look at it. It goes on taking up room. For a channel of sizes.
    pub fn arrived(&mut self) -> &VecDeque<T> {
        while let TryRecv::Item(item) = self.receive() {
            self.arrived.push_back(item);
        }
        &self.arrived
    }

    /// Whether nothing more can arrive before something is taken: the room is used up, or nobody sends.
    pub fn is_full(&self) -> bool {
        self.inner.is_closed() || self.room.as_ref().is_some_and(|room| room.free.available_permits() == 0)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.free.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker as TaskWaker};

    fn is_sent<T>(sending: impl Future<Output = Result<(), T>>) -> Option<bool> {
        match pin!(sending).poll(&mut Context::from_waker(TaskWaker::noop())) {
            Poll::Ready(result) => Some(result.is_ok()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn items_share_the_room_by_their_size() {
        let waker = Arc::new(Waker::new().unwrap());
        let (tx, mut rx) = channel_of_sizes(10, |n: &usize| *n, waker);
        assert_eq!(is_sent(tx.send(4)), Some(true));
        assert!(!rx.is_full());
        assert_eq!(rx.arrived(), &[4]);
        assert_eq!(is_sent(tx.send(6)), Some(true), "looking at an item does not take it out");
        assert_eq!(rx.arrived(), &[4, 6]);
        assert!(rx.is_full());
        assert_eq!(is_sent(tx.send(1)), None);
        assert_eq!(
            (rx.try_recv(), rx.try_recv(), rx.try_recv()),
            (TryRecv::Item(4), TryRecv::Item(6), TryRecv::Empty)
        );
        // One that is larger has all of it.
        assert_eq!(is_sent(tx.send(1_000)), Some(true));
        assert_eq!(is_sent(tx.send(0)), Some(true));
        assert_eq!(is_sent(tx.send(1)), None);
        assert_eq!(rx.try_recv(), TryRecv::Item(1_000));
        drop(rx);
        assert_eq!(is_sent(tx.send(1)), Some(false));
    }
}
