//! What the current transaction has done to roles.

use pgrx::pg_sys;
use secretlink_core::Secret;
use secretlink_versions::PendingStack;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;

use super::error::SyncError;
use super::notice::Notice;
use super::target;
use super::turn;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::report::{OrRaise, RawReport};
use crate::backend::process::transaction;
use crate::backend::process::user;
use crate::backend::text::from_catalog;
use crate::settings;
use crate::settings::sync::PasswordSync;

/// What was done to one role by one command.
enum Event {
    /// Created, altered or renamed.
    Changed {
        role: pg_sys::Oid,
        /// The role as it was before; `None` for a new one.
        before: Option<Role>,
        /// The password that the command named, in the encoding of the database.
        password: Option<Secret>,
    },
    /// Made by `create_role_with_secret`.
    SecretWanted { role: pg_sys::Oid },
    /// The role's label changed. `is_seen`: whether the secret was looked at when that was done.
    Labelled { role: pg_sys::Oid, is_seen: bool },
    /// Dropped.
    Dropped { role: pg_sys::Oid },
}

impl Event {
    fn role(&self) -> pg_sys::Oid {
        match self {
            Event::Changed { role, .. }
            | Event::SecretWanted { role }
            | Event::Labelled { role, .. }
            | Event::Dropped { role } => *role,
        }
    }
}

/// What the transaction as a whole has done to a role.
#[derive(Default)]
pub(crate) struct RoleChange {
    /// Whether the role was created, altered or renamed.
    pub changed: bool,
    /// The role as it was before; `None` for a new role, or one that was not changed.
    pub before: Option<Role>,
    /// Passwords it was given, the last one first, in the encoding of the database.
    pub passwords: Vec<Secret>,
    /// Whether the role's label changed.
    pub labelled: bool,
    /// Whether the secret was looked at when the label changed last.
    pub is_seen: bool,
    /// Whether the role must get a new secret.
    pub secret_wanted: bool,
    /// Whether the role was dropped.
    pub dropped: bool,
}

thread_local! {
    static EVENTS: RefCell<PendingStack<Event>> = const { RefCell::new(PendingStack::new()) };
    /// The password of the command that is running.
    static PASSWORD: RefCell<Option<Secret>> = const { RefCell::new(None) };
}

fn remember(event: Event) {
    let level = transaction::level();
    EVENTS.with_borrow_mut(|events| events.push(level, event));
}

/// A role is about to be altered, renamed or dropped. If it is synced, others wait: see
/// [`turn::alone_with`].
pub(crate) fn before_statement(role: pg_sys::Oid) -> bool {
    let is_synced = roles::by_oid(role).is_some_and(|role| matches!(target::of(&role), Ok(Some(_))));
    is_synced && turn::alone_with(role)
}

/// The password hook. Sends nothing, and asks nobody: what counts is known only when the transaction
/// commits. Of a hash nothing is to be remembered; the catalog will have it.
pub(crate) fn on_password(_name: &CStr, password: &CStr, hashed: bool) {
    if !hashed && settings::sync::current().mode != PasswordSync::Off {
        let password = Secret::new(password.to_bytes());
        PASSWORD.with_borrow_mut(|running| *running = Some(password));
    }
}

/// The password of the command that comes next, which is given a hash of it.
pub(crate) fn expect_password(password: Secret) {
    PASSWORD.with_borrow_mut(|running| *running = Some(password));
}

/// A role was created.
pub(crate) fn on_created(role: pg_sys::Oid) {
    remember(Event::Changed { role, before: None, password: PASSWORD.take() });
}

/// A role was altered or renamed; the catalog still shows it as it was.
pub(crate) fn on_altered(role: pg_sys::Oid) {
    remember(Event::Changed { role, before: roles::by_oid(role), password: PASSWORD.take() });
}

/// A role is about to be dropped. Its secret may be somebody's still, so it is left alone.
pub(crate) fn on_dropped(oid: pg_sys::Oid) {
    // With a template, a role that never had a password is none that has a secret.
    if let Some(role) = roles::by_oid(oid)
        && (role.hash.is_some() || roles::label(oid).is_some())
        && let Ok(Some(secret)) = target::of(&role)
    {
        let notice = Notice::Dropped { role: role.display(), secret: secret.as_str().into() };
        RawReport::new(&notice).emit(pgrx::PgLogLevel::NOTICE);
    }
    remember(Event::Dropped { role: oid });
}

/// `SECURITY LABEL FOR secretlink ON ROLE`.
pub(crate) fn on_labelled(role: pg_sys::Oid, label: Option<&CStr>) {
    let check = || -> Result<(), SyncError> {
        if !user::is_superuser() {
            return Err(SyncError::LabelNotPermitted);
        }
        turn::alone_with(role);
        let Some(label) = label else { return Ok(()) };
        match target::check_label(role, &from_catalog(label)) {
            // So a dump is restored in which an earlier release gave two roles one secret. Both passwords are
            // kept from it until one role has another.
            Err(error @ SyncError::SecretInUse { .. })
                if settings::sync::current().mode == PasswordSync::Off =>
            {
                RawReport::new(&error).emit(pgrx::PgLogLevel::WARNING);
                Ok(())
            }
            checked => checked,
        }
    };
    check().or_raise();
    labelled(role, false);
}

/// `SECURITY LABEL FOR secretlink` on anything else.
pub(crate) fn on_label_elsewhere() {
    RawReport::new(&SyncError::NotARole).raise();
}

/// A role's label has changed, after a look at the secret or without.
pub(crate) fn labelled(role: pg_sys::Oid, is_seen: bool) {
    remember(Event::Labelled { role, is_seen });
}

/// A role is to get a new secret when the transaction commits.
pub(crate) fn secret_wanted(role: pg_sys::Oid) {
    remember(Event::SecretWanted { role });
}

/// A subtransaction became part of its parent.
pub(crate) fn on_subtransaction_committed(level: i32) {
    EVENTS.with_borrow_mut(|events| events.release(level));
}

/// A subtransaction was rolled back.
pub(crate) fn on_subtransaction_aborted(level: i32) {
    PASSWORD.take();
    EVENTS.with_borrow_mut(|events| events.roll_back_to(level));
}

/// Forgets everything.
pub(crate) fn clear() {
    PASSWORD.take();
    EVENTS.with_borrow_mut(|events| drop(events.take()));
}

/// Whether no role was touched, as in nearly every transaction.
pub(crate) fn is_empty() -> bool {
    EVENTS.with_borrow(PendingStack::is_empty)
}

/// Whether the transaction has done anything to this role: then others do not see the role as we do.
pub(crate) fn touches(role: pg_sys::Oid) -> bool {
    EVENTS.with_borrow(|events| events.iter().any(|event| event.role() == role))
}

/// Takes out what was done, in the order of the roles' OIDs.
pub(crate) fn take() -> Vec<(pg_sys::Oid, RoleChange)> {
    PASSWORD.take();
    let mut changes = BTreeMap::<u32, RoleChange>::new();
    for event in EVENTS.with_borrow_mut(PendingStack::take) {
        let change = changes.entry(event.role().to_u32()).or_default();
        match event {
            Event::Changed { before, password, .. } => {
                if !change.changed {
                    change.before = before;
                }
                change.changed = true;
                if let Some(password) = password {
                    change.passwords.insert(0, password);
                }
            }
            Event::SecretWanted { .. } => change.secret_wanted = true,
            Event::Labelled { is_seen, .. } => {
                change.labelled = true;
                change.is_seen = is_seen;
            }
            Event::Dropped { .. } => change.dropped = true,
        }
    }
    changes.into_iter().map(|(role, change)| (pg_sys::Oid::from_u32(role), change)).collect()
}
