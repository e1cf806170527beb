//! The remote connections of this session: one without a name and any number with.
//!
//! As in contrib dblink they belong to the session, not to a transaction: an error or ROLLBACK does
//! not close them.

mod reopening;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::connect::recipe::{Made, Recipe};
use crate::session::RemoteSession;
use crate::session::error::SessionError;
use crate::session::name::ConnectionName;

/// A remote session, and how it was made.
pub(crate) struct Entry {
    /// The session.
    pub session: RemoteSession,
    /// How to make it again.
    pub recipe: Recipe,
}

type Entries = BTreeMap<ConnectionName, Rc<Entry>>;

thread_local! {
    // Leaked: at the end of the process nothing is to run behind Postgres's back; the exit callback
    // of the I/O thread has closed the connections by then. Never borrowed across a wait, where a
    // FATAL may leave without dropping anything.
    static CONNECTIONS: &'static RefCell<Entries> = Box::leak(Box::default());
}

fn with<T>(f: impl FnOnce(&mut Entries) -> T) -> T {
    CONNECTIONS.with(|connections| f(&mut connections.borrow_mut()))
}

/// The connection that a function works on.
pub(crate) struct Target {
    entry: Rc<Entry>,
    /// The connection's name.
    pub name: ConnectionName,
}

impl Target {
    /// The session.
    pub(crate) fn session(&self) -> &RemoteSession {
        &self.entry.session
    }
}

/// The connection of this name, if there is one.
pub(crate) fn find(name: &ConnectionName) -> Option<Target> {
    let entry = with(|entries| entries.get(name).cloned())?;
    Some(Target { entry, name: name.clone() })
}

/// The connection of this name.
///
/// # Errors
/// If there is none (08003).
pub(crate) fn get(name: &ConnectionName) -> Result<Target, SessionError> {
    find(name).ok_or_else(|| name.not_available())
}

/// A connection that is kept by nobody and ends with the statement it was opened for.
pub(crate) fn transient(made: Made) -> Target {
    Target { entry: Rc::new(Entry::from(made)), name: ConnectionName::Unnamed }
}

/// Keeps a new connection under its name, where it replaces the one before.
///
/// # Errors
/// If the one replaced could not be closed.
pub(crate) fn keep(name: ConnectionName, made: Made) -> Result<Target, SessionError> {
    let entry = Rc::new(Entry::from(made));
    let replaced = with(|entries| entries.insert(name.clone(), entry.clone()));
    replaced.map_or(Ok(()), close)?;
    Ok(Target { entry, name })
}

impl From<Made> for Entry {
    fn from(made: Made) -> Entry {
        Entry { session: made.session, recipe: made.recipe }
    }
}

/// Whether there is a connection of this name.
pub(crate) fn exists(name: &ConnectionName) -> bool {
    with(|entries| entries.contains_key(name))
}

/// Whether there is a connection of this name that is of any more use.
pub(crate) fn is_alive(name: &ConnectionName) -> bool {
    with(|entries| entries.get(name).is_some_and(|entry| entry.session.status().loss().is_none()))
}

/// Closes the connection of this name.
///
/// # Errors
/// If there is none (08003).
pub(crate) fn disconnect(name: &ConnectionName) -> Result<(), SessionError> {
    with(|entries| entries.remove(name)).ok_or_else(|| name.not_available()).and_then(close)
}

/// Waits for the end where that is possible: a connection that is in the middle of a query further
/// up the stack ends with that query.
fn close(entry: Rc<Entry>) -> Result<(), SessionError> {
    Rc::into_inner(entry).map_or(Ok(()), |entry| entry.session.close())
}

/// All connections, first the one without a name.
pub(crate) fn all() -> Vec<(ConnectionName, Rc<Entry>)> {
    with(|entries| entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect())
}

/// The names of the named connections, in order.
pub(crate) fn names() -> Vec<ConnectionName> {
    with(|entries| entries.keys().filter(|name| **name != ConnectionName::Unnamed).cloned().collect())
}
