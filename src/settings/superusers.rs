//! Settings that are for superusers only, and somebody else who set one before the library was loaded.

use pgrx::pg_sys;
use secretlink_core::{Report, SqlState};
use std::ffi::CStr;
use std::sync::OnceLock;

use super::kind::Given;

/// Settings whose value was not taken when the library was loaded, see [`guarded`], and what is wrong with it, if
/// it is the value that is wrong.
static REFUSED: OnceLock<Vec<(&'static dyn Given, Option<String>)>> = OnceLock::new();

/// Notes which of these settings lose a value while `define` runs.
///
/// Before a library that is not preloaded defines its settings, anybody can set them. Defining
/// them drops such a value, with a WARNING; but what a client gives when it connects (PGOPTIONS)
/// takes the place of the value in postgresql.conf, which then does not come back (guc.c,
/// define_custom_variable). A value in postgresql.conf that is not valid is dropped in the same way. To
/// go on with the built-in default would send requests to another endpoint, or a password to a false server,
/// and not as the superuser has said.
pub(super) fn guarded(settings: &[&'static dyn Given], define: impl FnOnce()) {
    let before: Vec<_> = settings.iter().map(|setting| value(setting.name())).collect();
    define();
    let refused = settings.iter().zip(before).filter_map(|(setting, before)| {
        let before = before.filter(|_| !setting.is_given())?;
        Some((*setting, setting.problem_with(&before)))
    });
    let _ = REFUSED.set(refused.collect());
}

/// The value of a setting, known or not, if it has one.
fn value(name: &CStr) -> Option<String> {
    // SAFETY: a C string; an unknown name gives null, another one a C string that is copied.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// Checks that the value of no setting of those asked for was refused, or that it has got another one since,
/// as by a reload.
///
/// # Errors
/// If one was.
pub(super) fn none_refused(asked: impl Fn(&CStr) -> bool) -> Result<(), SettingRefused> {
    let mut refused = REFUSED.get().into_iter().flatten();
    let Some((setting, problem)) = refused.find(|(setting, _)| asked(setting.name()) && !setting.is_given())
    else {
        return Ok(());
    };
    let setting = setting.name().to_string_lossy().into_owned();
    Err(match problem {
        Some(problem) => SettingRefused::Invalid { setting, problem: problem.clone() },
        None => SettingRefused::NotPermitted(setting),
    })
}

/// A setting for superusers whose value was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingRefused {
    /// Somebody else set it before secretlink was loaded.
    #[error("permission denied to set parameter \"{0}\"")]
    NotPermitted(String),
    /// The value in the server's configuration makes no sense.
    #[error("invalid value for setting \"{setting}\"")]
    Invalid {
        /// The setting.
        setting: String,
        /// What is wrong with the value.
        problem: String,
    },
}

impl Report for SettingRefused {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            SettingRefused::NotPermitted(_) => "42501",
            SettingRefused::Invalid { .. } => "22023",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            SettingRefused::NotPermitted(_) => {
                "This session set it before secretlink was loaded, in place of the server's value.".into()
            }
            SettingRefused::Invalid { problem, .. } => problem.clone(),
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SettingRefused::NotPermitted(_) => "Start a session that does not set it.".into(),
            SettingRefused::Invalid { .. } => {
                "Correct it in the server's configuration, and reload that with pg_reload_conf().".into()
            }
        })
    }
}
