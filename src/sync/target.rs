//! Which secret a role is synced with.

use pgrx::pg_sys;
use secretlink_aws::SecretId;
use secretlink_versions::Obstacle;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

use super::error::SyncError;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::transaction;
use crate::backend::text::from_catalog;
use crate::settings;

/// The longest label, in bytes. Longer ones would be stored out of line, where a process without a
/// database cannot read them; the ARN of the longest name is much shorter.
const MAX_LABEL: usize = 1000;

/// The secret of a role: that of its security label, else that of the template. An empty label means
/// none, even with a template.
///
/// # Errors
/// If the template gives no name.
pub(crate) fn of(role: &Role) -> Result<Option<SecretId>, SyncError> {
    by_label(role, roles::label(role.oid))
}

/// The secret that a role is synced with, by a label that was read before.
///
/// # Errors
/// As [`of`].
pub(crate) fn by_label(role: &Role, label: Option<CString>) -> Result<Option<SecretId>, SyncError> {
    match label {
        Some(label) if label.is_empty() => Ok(None),
        Some(label) => Ok(Some(SecretId::parse(&from_catalog(&label))?)),
        None => by_template(&role.name),
    }
}

/// The secret of a role of this name that has no label.
///
/// # Errors
/// If the template gives no name.
pub(crate) fn by_template(name: &CStr) -> Result<Option<SecretId>, SyncError> {
    let Some(template) = settings::sync::secret_template() else { return Ok(None) };
    match template.expand(name.to_bytes(), &settings::sync::cluster_name()) {
        Ok(secret) => Ok(Some(SecretId::parse(&secret)?)),
        Err(problem) => Err(SyncError::Template { role: from_catalog(name), problem }),
    }
}

/// Checks a label before it is set.
///
/// # Errors
/// If it names no secret, or one that is in use for another role: a secret holds one password.
pub(crate) fn check_label(role: pg_sys::Oid, label: &str) -> Result<(), SyncError> {
    if label.is_empty() {
        return Ok(());
    }
    if label.len() > MAX_LABEL {
        return Err(SyncError::LabelTooLong);
    }
    let secret = SecretId::parse(label)?;
    secret.check_form()?;
    // Of two sessions that link at the same time, the second sees what the first has done.
    for name in sorted_names([&secret]) {
        transaction::lock_secret(name);
    }
    transaction::see_changes_of_others();
    match Owners::read().others(role, &secret).next() {
        Some(other) => Err(other.in_use(&secret)),
        None => Ok(()),
    }
}

/// The names that these secrets may have, in the order in which they are locked.
fn sorted_names<'a>(secrets: impl IntoIterator<Item = &'a SecretId>) -> Vec<&'a str> {
    let mut names: Vec<_> = secrets.into_iter().flat_map(SecretId::names).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Keeps others from changing these secrets until the end of the transaction, whatever they call them.
/// Returns whether the locks were had; with `wait` they always are.
pub(crate) fn lock<'a>(secrets: impl IntoIterator<Item = &'a SecretId>, wait: bool) -> bool {
    sorted_names(secrets).into_iter().all(|name| transaction::lock_versions(name, wait))
}

/// Which role has which secret: all that are synced, as the catalogs and the settings say. AWS is not
/// asked, so the answer is the same after a restart.
pub(crate) struct Owners {
    owners: Vec<Owner>,
    by_name: HashMap<String, Vec<usize>>,
}

/// A role with its secret.
pub(crate) struct Owner {
    oid: pg_sys::Oid,
    role: String,
    secret: SecretId,
    is_labelled: bool,
}

impl Owner {
    /// The error that a secret is not to be had, since it may be this owner's.
    pub(crate) fn in_use(&self, secret: &SecretId) -> SyncError {
        SyncError::SecretInUse {
            secret: secret.as_str().to_owned(),
            role: self.role.clone(),
            called: (*secret != self.secret).then(|| self.secret.as_str().to_owned()),
        }
    }
}

impl Owners {
    /// Reads the catalogs.
    pub(crate) fn read() -> Owners {
        Owners::of(roles::with_password_or_label())
    }

    /// The owners among roles that were read from the catalogs.
    pub(crate) fn of(roles: impl IntoIterator<Item = (Role, Option<CString>)>) -> Owners {
        let mut all = Owners { owners: Vec::new(), by_name: HashMap::new() };
        for (role, label) in roles {
            let is_labelled = label.is_some();
            let Ok(Some(secret)) = by_label(&role, label) else { continue };
            for name in secret.names() {
                all.by_name.entry(name.to_owned()).or_default().push(all.owners.len());
            }
            all.owners.push(Owner { oid: role.oid, role: role.display(), secret, is_labelled });
        }
        all
    }

    /// The other roles that may have a secret.
    pub(crate) fn others(&self, role: pg_sys::Oid, secret: &SecretId) -> impl Iterator<Item = &Owner> {
        let places = secret.names().filter_map(|name| self.by_name.get(name)).flatten();
        places.map(|place| &self.owners[*place]).filter(move |o| o.oid != role && o.secret.may_be(secret))
    }

    /// The error that another role may have the same secret as `role`, if one may.
    pub(crate) fn other(&self, role: pg_sys::Oid) -> Option<SyncError> {
        let own = self.owners.iter().find(|owner| owner.oid == role)?;
        let other = self.others(role, &own.secret).next()?;
        Some(other.in_use(&own.secret))
    }

    /// What keeps a role from having its secret: another role that may have the same one. Of two, a label
    /// goes before the template; where neither does, both are kept from it.
    pub(crate) fn rival(&self, role: pg_sys::Oid) -> Option<SyncError> {
        let own = self.owners.iter().find(|owner| owner.oid == role)?;
        let rival = self.others(role, &own.secret).find(|other| other.is_labelled || !own.is_labelled)?;
        Some(rival.in_use(&own.secret))
    }
}

/// Adds to the obstacle that a secret is for another user whether that user takes turns with the role.
pub(crate) fn knowing_clones(role: &str, obstacle: Obstacle) -> Obstacle {
    match obstacle {
        Obstacle::OtherUser { secret, username, .. } => {
            let takes_turns = roles::take_turns(role, &username);
            Obstacle::OtherUser { secret, username, takes_turns }
        }
        obstacle => obstacle,
    }
}
