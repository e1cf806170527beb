//! Settings that are for superusers only, and somebody else who set one before the library was loaded.

use pgrx::pg_sys;
use secretlink_core::{Report, SqlState};
use std::ffi::CStr;
use std::sync::OnceLock;

use super::kind::Given;

/// Those that somebody else set before the library was loaded: see [`guarded`].
static REFUSED: OnceLock<Vec<&'static CStr>> = OnceLock::new();

/// Notes which of these settings lose, while `define` runs, a value that is not of those who may set it.
///
/// Before a library that is not preloaded defines its settings, anybody can set them. Defining
/// them drops such a value, with a WARNING; but what a client gives when it connects (PGOPTIONS)
/// takes the place of the value in postgresql.conf, which then does not come back (guc.c,
/// define_custom_variable). To go on with the built-in default would send requests to another
/// endpoint, or a password to a false server, and not as the superuser has said.
pub(super) fn guarded(settings: &[&'static dyn Given], define: impl FnOnce()) {
    let before: Vec<bool> = settings.iter().map(|setting| is_set(setting.name())).collect();
    define();
    let lost = settings.iter().zip(before).filter(|(setting, was_set)| *was_set && !setting.is_given());
    let _ = REFUSED.set(lost.map(|(setting, _)| setting.name()).collect());
}

/// Whether a setting, known or not, has a value.
fn is_set(name: &CStr) -> bool {
    // SAFETY: a C string; an unknown name gives null.
    !unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) }.is_null()
}

/// Checks that no setting of those asked for was set by somebody who may not, in a way that hides the right
/// value.
///
/// # Errors
/// If one was.
pub(super) fn none_refused(asked: impl Fn(&CStr) -> bool) -> Result<(), SettingRefused> {
    match REFUSED.get().and_then(|refused| refused.iter().find(|name| asked(name))) {
        Some(name) => Err(SettingRefused(name.to_string_lossy().into_owned())),
        None => Ok(()),
    }
}

/// A setting for superusers that somebody else set before secretlink was loaded.
#[derive(Debug, thiserror::Error)]
#[error("permission denied to set parameter \"{0}\"")]
pub struct SettingRefused(String);

impl Report for SettingRefused {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("42501")
    }

    fn detail(&self) -> Option<String> {
        Some("This session set it before secretlink was loaded, in place of the server's value.".into())
    }

    fn hint(&self) -> Option<String> {
        Some("Start a session that does not set it.".into())
    }
}
