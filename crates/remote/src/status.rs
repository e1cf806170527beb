//! What the backend can see of a session at any time, without asking the I/O thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::notification::Inbox;
use crate::row::RowBatch;

/// The longest reason for a loss that is kept, in bytes.
const MAX_REASON: usize = 4096;

/// Shared by the I/O thread, which keeps it true, and the backend.
#[derive(Debug, Default)]
pub struct Status {
    in_transaction: AtomicBool,
    loss: OnceLock<Loss>,
    queries: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    inbox: Mutex<Inbox>,
}

/// Why a session is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The reason, in the words of the server or the operating system.
    pub reason: String,
    /// Whether the connection was lost between two queries: nothing was under way then.
    pub idle: bool,
}

/// What has been done in a session so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Query strings sent.
    pub queries: u64,
    /// Rows received.
    pub rows: u64,
    /// Bytes that these rows came as, before encryption.
    pub bytes: u64,
}

impl Status {
    /// Whether the session was in a transaction, be it a failed one, after its last query.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Acquire)
    }

    /// Why the session is of no more use, if so.
    pub fn loss(&self) -> Option<&Loss> {
        self.loss.get()
    }

    /// What has been done.
    pub fn counts(&self) -> Counts {
        Counts {
            queries: self.queries.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// The notifications that have come.
    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A thread that panicked with it left it whole: it is changed in one step.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the status of a ReadyForQuery.
    pub(crate) fn ready(&self, status: u8) {
        self.in_transaction.store(status != b'I', Ordering::Release);
    }

    /// The first reason stays, and of that as much as anybody reads: it lives as long as the session.
    pub(crate) fn lose(&self, mut reason: String, idle: bool) {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.shrink_to_fit();
        let _ = self.loss.set(Loss { reason, idle });
    }

    /// Counts a query that was sent.
    pub(crate) fn count_query(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts rows that were received.
    pub(crate) fn count_rows(&self, batch: &RowBatch) {
        self.rows.fetch_add(batch.remaining() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(batch.wire_len() as u64, Ordering::Relaxed);
    }
}
