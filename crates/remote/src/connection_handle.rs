//! What the backend holds of a connection, whose task runs on the I/O thread.

use secretlink_core::channel::{self, Receiver, Sender};
use secretlink_core::io_thread::{IoThread, Pending};
use secretlink_core::shared_task::{Drive, SharedTask};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cancel::CancelKey;
use crate::connection::{CANCEL_GRACE, Connection, ConnectionFacts, Event};
use crate::query_request::QueryRequest;
use crate::status::Status;

/// How many bytes of an answer may wait for a backend that reads it: some batches of rows, or a single row
/// that is longer. This bounds what a slow consumer makes us hold; beyond it the I/O thread stops reading and
/// TCP holds the server back.
const IN_FLIGHT: u32 = 512 * 1024;

/// How long a server may take to stop the query of a session that is being closed. Less than for one
/// that is to be used again: somebody waits for the close, and a server that does not stop in this
/// time finds the socket closed.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// A handle on a connection that lives on the I/O thread. Dropping it closes the connection, after
/// cancelling what runs there, unless that was [sent](ConnectionHandle::send).
pub struct ConnectionHandle {
    orders: UnboundedSender<Order>,
    stops: UnboundedSender<Sender<io::Result<()>>>,
    facts: ConnectionFacts,
    status: Arc<Status>,
    task: SharedTask,
    socket: Option<RawFd>,
    /// Cancelled when the session is to end; a child of the I/O thread's own.
    life: CancellationToken,
    _ends_life: DropGuard,
    /// Cancelled when it has ended.
    gone: CancellationToken,
}

/// A running query. Dropping it before [`Event::Done`] came cancels the query at the server; the
/// session then takes the next one as soon as the server has stopped.
pub struct Query {
    /// The answer.
    pub events: Receiver<Event>,
    _cancel: DropGuard,
}

/// A query on its way to the session.
struct Order {
    request: QueryRequest,
    events: Sender<Event>,
    cancel: CancellationToken,
    /// The server goes on with it when the session is closed.
    detached: bool,
}

impl ConnectionHandle {
    /// Takes care of a new session.
    pub fn adopt(io: &IoThread, connection: Connection) -> ConnectionHandle {
        let facts = connection.facts().clone();
        let status = connection.status().clone();
        let life = io.closing().child_token();
        let gone = CancellationToken::new();
        let (orders, queries) = unbounded_channel();
        let (stops, asked) = unbounded_channel();
        let (end, over) = (life.clone(), gone.clone().drop_guard());
        let mut work = Work { key: connection.cancel_key(), stops: asked, life: end };
        let socket = connection.socket();
        let task = SharedTask::spawn(io, async move {
            work.serve(connection, queries).await;
            drop(over);
        });
        ConnectionHandle {
            orders,
            stops,
            facts,
            status,
            task,
            socket,
            _ends_life: life.clone().drop_guard(),
            life,
            gone,
        }
    }

    /// What does not change while the session lasts.
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// What does, as far as the server has told.
    pub fn status(&self) -> &Status {
        self.task.catch_up();
        &self.status
    }

    /// Takes the session over from the I/O thread, to wait for the answer to the next query without it;
    /// with the socket to wait for. `None` where that is not possible right now.
    pub fn drive(&self) -> Option<(Drive<'_>, RawFd)> {
        Some((self.task.drive()?, self.socket?))
    }

    /// Starts a query. If another one is being cancelled, it begins when that is over. A backend
    /// that [drives](ConnectionHandle::drive) the session has to go on with that, or give the session back.
    pub fn query(&self, io: &IoThread, request: QueryRequest) -> Query {
        let channel = channel::channel_of_sizes(IN_FLIGHT, Event::size, io.waker().clone());
        self.order(request, channel, false)
    }

    /// Starts a query whose answer is not read at once: it waits for that in `room` bytes. If the session
    /// is closed before the [`Query`] is dropped, the server goes on with it.
    pub fn send(&self, io: &IoThread, request: QueryRequest, room: u32) -> Query {
        let channel = channel::channel_of_sizes(room, Event::size, io.waker().clone());
        let query = self.order(request, channel, true);
        self.task.give_back();
        query
    }

    fn order(
        &self,
        request: QueryRequest,
        (tx, events): (Sender<Event>, Receiver<Event>),
        detached: bool,
    ) -> Query {
        let cancel = if detached { CancellationToken::new() } else { self.life.child_token() };
        // If nobody takes it any more, the channel closes without a word.
        let _ = self.orders.send(Order { request, events: tx, cancel: cancel.clone(), detached });
        Query { events, _cancel: cancel.drop_guard() }
    }

    /// Asks the server to stop what the session is doing. The answer says whether it could be asked; a
    /// query that is stopped ends with the server's error.
    pub fn stop(&self, io: &IoThread) -> Receiver<io::Result<()>> {
        let (tx, answer) = channel::channel(1, io.waker().clone());
        let _ = self.stops.send(tx);
        self.task.give_back();
        answer
    }

    /// Closes the session; the answer comes when the server has been told.
    pub fn close(self, io: &IoThread) -> Pending<()> {
        let gone = self.gone.clone();
        drop(self);
        io.submit(async move { gone.cancelled().await })
    }
}

/// What the I/O thread does for one session as long as it lives.
struct Work {
    key: Option<CancelKey>,
    stops: UnboundedReceiver<Sender<io::Result<()>>>,
    life: CancellationToken,
}

impl Work {
    async fn serve(&mut self, mut connection: Connection, mut orders: UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                biased;
                // Before the end, since a query that was sent is to reach the server.
                Some(order) = orders.recv() => order,
                () = self.life.cancelled() => break,
                Some(answer) = self.stops.recv() => {
                    // Nothing is running. It is asked once all the same, as libpq does.
                    let over = CancellationToken::new();
                    over.cancel();
                    ask_to_stop(self.key.as_ref(), &over, answer).await;
                    continue;
                }
                never = connection.idle() => match never {},
            };
            if order.cancel.is_cancelled() {
                continue;
            }
            // What the server said before we ask must not be taken for its answer; above all, that it
            // has gone.
            connection.catch_up().await;
            let (life, detached) = (self.life.clone(), order.detached);
            let left = async {
                life.cancelled().await;
                if !detached {
                    tokio::time::sleep(LEAVE_GRACE).await;
                }
            };
            let over = tokio::select! {
                // First, so that it is on its way at least.
                biased;
                () = self.run(&mut connection, order) => true,
                () = left => false,
            };
            match over {
                true => {}
                // What is not written yet goes out with the goodbye, which the server reads when it is done.
                false if detached => break,
                false => connection.give_up(),
            }
        }
        connection.close().await;
    }

    /// Runs a query, and asks the server to stop it when told so. Requests are over before the session
    /// does anything else, lest they hit the next query.
    async fn run(&mut self, connection: &mut Connection, order: Order) {
        let over = CancellationToken::new();
        let query = async {
            connection.query(&order.request, &order.events, &order.cancel).await;
            // Closes the channel before a request that is under way holds us up.
            drop(order.events);
            over.cancel();
        };
        let requests = async {
            loop {
                let answer = tokio::select! {
                    biased;
                    () = over.cancelled() => return,
                    Some(answer) = self.stops.recv() => answer,
                };
                ask_to_stop(self.key.as_ref(), &over, answer).await;
            }
        };
        tokio::join!(query, requests);
    }
}

/// Asks a server until the query is `over`, and tells how the first request went.
async fn ask_to_stop(key: Option<&CancelKey>, over: &CancellationToken, answer: Sender<io::Result<()>>) {
    let Some(key) = key else {
        answer.send_now(Err(io::Error::other("the server gave no key to cancel queries with")));
        return;
    };
    let mut first = Some(answer);
    let requests = key.send_until(over, |sent| {
        if let Some(answer) = first.take() {
            answer.send_now(sent);
        }
    });
    let in_time = tokio::time::timeout(CANCEL_GRACE, requests).await.is_ok();
    if let (Some(answer), false) = (first, in_time) {
        answer.send_now(Err(io::Error::other("cancel request timed out")));
    }
}
