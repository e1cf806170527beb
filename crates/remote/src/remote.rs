//! A remote session as the backend holds it.

use secretlink_core::channel::{self, Receiver};
use secretlink_core::io_thread::{IoThread, Pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::{Connection, ConnectionFacts, Event};

/// How many events may wait for the backend. With batches of about 64 kB this bounds what a slow
/// consumer makes us hold; beyond it the I/O thread stops reading and TCP holds the server back.
const EVENTS_IN_FLIGHT: usize = 8;

/// How long a server may take to stop the query of a session that is being closed. Less than for one
/// that is to be used again: somebody waits for the close, and a server that does not stop in this
/// time finds the socket closed.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// A handle on a session that lives on the I/O thread. Dropping it closes the session, after
/// cancelling what runs there.
pub struct Remote {
    connection: Arc<Mutex<Option<Connection>>>,
    facts: ConnectionFacts,
    in_transaction: Arc<AtomicBool>,
    /// Cancelled when the session is to end; a child of the I/O thread's own.
    life: CancellationToken,
    _ends_life: DropGuard,
}

/// A running query. Dropping it before [`Event::Done`] came cancels the query at the server; the
/// session then takes the next one as soon as the server has stopped.
pub struct Query {
    /// The answer.
    pub events: Receiver<Event>,
    _cancel: DropGuard,
}

impl Remote {
    /// Takes care of a new session.
    pub fn adopt(io: &IoThread, connection: Connection) -> Remote {
        let facts = connection.facts().clone();
        let in_transaction = connection.transaction_flag();
        let connection = Arc::new(Mutex::new(Some(connection)));
        let life = io.closing().child_token();
        let (held, end) = (connection.clone(), life.clone());
        io.spawn(async move {
            end.cancelled().await;
            // A running query sees the same token, stops and lets go of the lock.
            if let Some(connection) = held.lock().await.take() {
                connection.close().await;
            }
        });
        Remote { connection, facts, in_transaction, _ends_life: life.clone().drop_guard(), life }
    }

    /// What does not change while the session lasts.
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// Whether the session was in a transaction, be it a failed one, after its last query.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Acquire)
    }

    /// Starts a query. If another one is being cancelled, it begins when that is over.
    pub fn query(&self, io: &IoThread, sql: Vec<u8>) -> Query {
        let cancel = self.life.child_token();
        let cancelled = cancel.clone();
        let (tx, events) = channel::channel(EVENTS_IN_FLIGHT, io.waker().clone());
        let connection = self.connection.clone();
        let life = self.life.clone();
        io.spawn(async move {
            let mut connection = tokio::select! {
                biased;
                () = cancelled.cancelled() => return,
                connection = connection.lock() => connection,
            };
            if let Some(connection) = connection.as_mut() {
                let left = async {
                    life.cancelled().await;
                    tokio::time::sleep(LEAVE_GRACE).await;
                };
                let over = tokio::select! {
                    () = connection.query(&sql, &tx, &cancelled) => true,
                    () = left => false,
                };
                if !over {
                    connection.give_up();
                }
            }
        });
        Query { events, _cancel: cancel.drop_guard() }
    }

    /// Closes the session; the answer comes when the server has been told.
    pub fn close(self, io: &IoThread) -> Pending<()> {
        let connection = self.connection.clone();
        drop(self);
        io.submit(async move {
            // Whoever gets the lock first closes; the other one waits for it.
            if let Some(connection) = connection.lock().await.take() {
                connection.close().await;
            }
        })
    }
}
