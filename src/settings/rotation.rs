//! Settings of rotation, and of the database that secretlink keeps things in.

use std::ffi::CString;
use std::time::Duration;

use super::kind::{Context, Number, Rule, Text, settings};

settings! {
    DATABASE: Text = Text::unset(
        c"secretlink.database",
        Context::Reload,
        c"Database that keeps the schedules and the history of rotations, and in which NOTIFY secretlink is sent.",
        c"If empty, this server rotates nothing and sends nothing.",
    )
    .or(c"postgres");
    ROTATION_WORKERS: Number = Number::new(
        c"secretlink.rotation_workers",
        Context::Reload,
        c"Number of secrets that are rotated at the same time.",
        c"With 0, no secret is rotated.",
        2,
        0..=64,
    );
    ROTATION_PASSWORD_LENGTH: Number = Number::new(
        c"secretlink.rotation_password_length",
        Context::Reload,
        c"Number of characters of a password that a rotation makes.",
        c"",
        32,
        16..=256,
    );
    ROTATION_EXCLUDE_CHARACTERS: Text = Text::unset(
        c"secretlink.rotation_exclude_characters",
        Context::Reload,
        c"Characters that are in no password that a rotation makes.",
        c"Passwords are made of letters, digits, - and _, without the characters given here.",
    )
    .or(c"/@\"'\\")
    .obeying::<ExcludeCharacters>();
    ROTATION_TIMEOUT: Number = Number::new(
        c"secretlink.rotation_timeout",
        Context::Reload,
        c"Longest time that a rotation may take until it changes the password.",
        c"Once the password may have been changed, the rotation goes on until the secret logs in. A rotation that AWS carries out is waited for no longer than this setting says.",
        300,
        1..=86_400,
    )
    .in_seconds();
    ROTATION_MIN_AGE: Number = Number::new(
        c"secretlink.rotation_min_age",
        Context::Reload,
        c"Age of the current version of a secret before which no next one is made.",
        c"A client that read the secret before the last rotation has so much time to log in.",
        1_000,
        0..=3_600_000,
    )
    .in_milliseconds();
    ROTATION_HISTORY_KEEP: Number = Number::new(
        c"secretlink.rotation_history_keep",
        Context::Reload,
        c"Time for which rotations stay in rotation_history.",
        c"",
        31_536_000,
        3_600..=i32::MAX,
    )
    .in_seconds();
}

/// How many of the characters that passwords are made of must be left.
const LEAST_CHARACTERS: usize = 16;

/// Passwords must have characters to be made of.
struct ExcludeCharacters;

impl Rule for ExcludeCharacters {
    fn check(excluded: &str) -> Result<(), String> {
        let left = secretlink_versions::PASSWORD_CHARACTERS
            .iter()
            .filter(|byte| !excluded.as_bytes().contains(byte))
            .count();
        match left >= LEAST_CHARACTERS {
            true => Ok(()),
            false => Err("At least 16 of the letters, digits, - and _ must be left.".into()),
        }
    }
}

/// `secretlink.database`
pub(crate) fn database() -> Option<CString> {
    DATABASE.c_string()
}

/// `secretlink.rotation_workers`
pub(crate) fn workers() -> usize {
    ROTATION_WORKERS.get() as usize
}

/// `secretlink.rotation_password_length`
pub(crate) fn password_length() -> usize {
    ROTATION_PASSWORD_LENGTH.get() as usize
}

/// `secretlink.rotation_exclude_characters`
pub(crate) fn exclude_characters() -> String {
    ROTATION_EXCLUDE_CHARACTERS.get().unwrap_or_default()
}

/// `secretlink.rotation_timeout`
pub(crate) fn timeout() -> Duration {
    ROTATION_TIMEOUT.seconds()
}

/// `secretlink.rotation_min_age`
pub(crate) fn min_age() -> Duration {
    ROTATION_MIN_AGE.milliseconds()
}

/// `secretlink.rotation_history_keep`
pub(crate) fn history_keep() -> Duration {
    ROTATION_HISTORY_KEEP.seconds()
}
