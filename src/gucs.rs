//! Settings, and a snapshot of them for the I/O thread, where no GUC may be read.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use secretlink_aws::Settings;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::Error;

static REGION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ENDPOINT_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static PROFILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(3_000);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(3);

/// The settings that are for superusers only: whoever decides where requests go or with which
/// identity could feed the server false secrets.
const FOR_SUPERUSERS: [(&CStr, &GucSetting<Option<CString>>); 3] = [
    (c"secretlink.region", &REGION),
    (c"secretlink.endpoint_url", &ENDPOINT_URL),
    (c"secretlink.profile", &PROFILE),
];

/// One of these that somebody else set before the library was loaded: see [`init`].
static REFUSED: OnceLock<&'static CStr> = OnceLock::new();

/// Defines the settings and reserves their prefix.
pub fn init() {
    let before = FOR_SUPERUSERS.map(|(name, _)| is_set(name));
    define();
    // Before a library that is not preloaded defines its settings, anybody can set them. Defining
    // them drops such a value, with a WARNING; but what a client gives when it connects (PGOPTIONS)
    // takes the place of the value in postgresql.conf, which then does not come back (guc.c,
    // define_custom_variable). To go on with the built-in default would send requests to another
    // endpoint, or with another identity, than the superuser has said.
    for ((name, setting), was_set) in FOR_SUPERUSERS.into_iter().zip(before) {
        if was_set && setting.get().is_none() {
            let _ = REFUSED.set(name);
        }
    }
}

/// Whether a setting, known or not, has a value.
fn is_set(name: &CStr) -> bool {
    // SAFETY: a C string; an unknown name gives null.
    !unsafe { pgrx::pg_sys::GetConfigOption(name.as_ptr(), true, false) }.is_null()
}

fn define() {
    GucRegistry::define_string_guc(
        c"secretlink.region",
        c"AWS region whose Secrets Manager is asked.",
        c"Unset, the standard AWS chain decides: AWS_REGION, the profile, instance metadata. A secret given by its ARN is asked for in the ARN's region.",
        &REGION,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretlink.endpoint_url",
        c"URL of the Secrets Manager endpoint.",
        c"Unset, the public endpoint of the region. Set it for a VPC endpoint without private DNS or for a stand-in.",
        &ENDPOINT_URL,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretlink.profile",
        c"Profile of the AWS configuration files to use.",
        c"Unset, AWS_PROFILE or \"default\".",
        &PROFILE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"secretlink.request_timeout",
        c"Longest time a call to AWS may take as a whole, retries included.",
        c"",
        &REQUEST_TIMEOUT,
        1,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"secretlink.connect_timeout",
        c"Longest time to wait for a connection to an AWS endpoint.",
        c"",
        &CONNECT_TIMEOUT,
        1,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"secretlink.max_attempts",
        c"How often a call to AWS is tried before it fails.",
        c"The first try counts: 1 means no retries.",
        &MAX_ATTEMPTS,
        1,
        10,
        GucContext::Userset,
        GucFlags::default(),
    );
    // From PostgreSQL 15 on, a misspelt setting of ours is an error. Before, it was called otherwise.
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a C string that lives for ever.
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"secretlink".as_ptr());
    }
    #[cfg(feature = "pg14")]
    // SAFETY: a C string that lives for ever.
    unsafe {
        pgrx::pg_sys::EmitWarningsOnPlaceholders(c"secretlink".as_ptr());
    }
}

/// The settings that shape requests to AWS, as they are now.
///
/// # Errors
/// If one of them was set by somebody who may not, in a way that hides the right value (42501).
pub fn aws_settings() -> Result<Settings, Error> {
    if let Some(name) = REFUSED.get() {
        return Err(Error::SettingRefused(name.to_string_lossy().into_owned()));
    }
    Ok(Settings {
        region: text(&REGION),
        endpoint_url: text(&ENDPOINT_URL),
        profile: text(&PROFILE),
        request_timeout: milliseconds(&REQUEST_TIMEOUT),
        connect_timeout: milliseconds(&CONNECT_TIMEOUT),
        max_attempts: u32::try_from(MAX_ATTEMPTS.get()).unwrap_or(1),
    })
}

/// Empty means unset, as with Postgres's own string settings.
fn text(setting: &'static GucSetting<Option<CString>>) -> Option<String> {
    setting.get().map(|s| s.to_string_lossy().into_owned()).filter(|s| !s.is_empty())
}

fn milliseconds(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}
