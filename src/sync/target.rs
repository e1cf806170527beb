//! Which secret a role is synced with.

use pgrx::pg_sys;
use secretlink_aws::SecretId;
use std::ffi::{CStr, CString};

use super::error::PasswordError;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::server;
use crate::backend::process::transaction;
use crate::backend::text::from_catalog;
use crate::error::Error;
use crate::settings;

/// The longest label, in bytes. Longer ones would be stored out of line, where a process without a
/// database cannot read them; the ARN of the longest name is much shorter.
const MAX_LABEL: usize = 1000;

/// The secret of a role: that of its security label, else that of the template. An empty label means
/// none, even with a template.
///
/// # Errors
/// If the template gives no name.
pub fn of(role: &Role) -> Result<Option<SecretId>, Error> {
    by_label(role, roles::label(role.oid))
}

/// The same, for a label that was read before.
///
/// # Errors
/// As [`of`].
pub fn by_label(role: &Role, label: Option<CString>) -> Result<Option<SecretId>, Error> {
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
pub fn by_template(name: &CStr) -> Result<Option<SecretId>, Error> {
    let Some(template) = settings::sync::secret_template() else { return Ok(None) };
    match template.expand(name.to_bytes(), &server::cluster_name()) {
        Ok(secret) => Ok(Some(SecretId::parse(&secret)?)),
        Err(problem) => Err(PasswordError::Template { role: from_catalog(name), problem }.into()),
    }
}

/// Checks a label before it is set.
///
/// # Errors
/// If it names no secret, or one that is in use for another role: a secret holds one password.
pub fn check_label(role: pg_sys::Oid, label: &str) -> Result<(), Error> {
    if label.is_empty() {
        return Ok(());
    }
    if label.len() > MAX_LABEL {
        return Err(PasswordError::LabelTooLong.into());
    }
    let secret = SecretId::parse(label)?;
    secret.check_form()?;
    // Of two sessions that link at the same time, the second sees what the first has done.
    transaction::lock_secret(label);
    transaction::see_changes_of_others();
    for (other, others_label) in roles::with_password_or_label() {
        if other.oid != role && by_label(&other, others_label).is_ok_and(|s| s.as_ref() == Some(&secret)) {
            let error = PasswordError::SecretInUse { secret: label.to_owned(), role: other.display() };
            return Err(error.into());
        }
    }
    Ok(())
}
