//! Settings, and a snapshot of them for the I/O thread, where no GUC may be read.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::{pg_guard, pg_sys};
use secretlink_aws::Settings;
use secretlink_cache::Timing;
use secretlink_versions::SecretTemplate;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::backend::process::report::set_check_detail;
use crate::backend::process::server;
use crate::error::Error;

static REGION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ENDPOINT_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static PROFILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ROLE_ARN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static EXTERNAL_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ROLE_SESSION_NAME: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static CA_BUNDLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static USE_FIPS_ENDPOINT: GucSetting<bool> = GucSetting::<bool>::new(false);
static USE_DUALSTACK_ENDPOINT: GucSetting<bool> = GucSetting::<bool>::new(false);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(3_000);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(3);

static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);
static CACHE_TTL: GucSetting<i32> = GucSetting::<i32>::new(300);
static CACHE_MAX_STALE: GucSetting<i32> = GucSetting::<i32>::new(86_400);

static PASSWORD_SYNC: GucSetting<PasswordSync> = GucSetting::<PasswordSync>::new(PasswordSync::Strict);
static HASHED_PASSWORD: GucSetting<HashedPassword> =
    GucSetting::<HashedPassword>::new(HashedPassword::Reject);
static PROMOTE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static CREATE_MISSING_SECRETS: GucSetting<bool> = GucSetting::<bool>::new(true);
static ADVERTISED_HOST: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static SYNC_SECRET_TEMPLATE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static RECONCILE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static NOTIFY_DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"postgres"));

/// `secretlink.password_sync`: what a change of a synced role's password does when it cannot be
/// brought into the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum PasswordSync {
    /// It fails.
    #[name = c"strict"]
    Strict,
    /// It is kept, with a WARNING, and the role is reported as drifted.
    #[name = c"warn"]
    Warn,
    /// Secrets are not touched at all.
    #[name = c"off"]
    Off,
}

/// `secretlink.hashed_password`: what to do about a password that comes as a hash, which no secret can
/// hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum HashedPassword {
    /// The change fails.
    #[name = c"reject"]
    Reject,
    /// It is kept, with a WARNING, and the role is reported as drifted.
    #[name = c"warn"]
    Warn,
}

/// The settings that are for superusers only: whoever decides where requests go or with which
/// identity could feed the server false secrets.
const FOR_SUPERUSERS: [(&CStr, IsGiven); 9] = [
    (c"secretlink.region", || REGION.get().is_some()),
    (c"secretlink.endpoint_url", || ENDPOINT_URL.get().is_some()),
    (c"secretlink.profile", || PROFILE.get().is_some()),
    (c"secretlink.role_arn", || ROLE_ARN.get().is_some()),
    (c"secretlink.external_id", || EXTERNAL_ID.get().is_some()),
    (c"secretlink.role_session_name", || ROLE_SESSION_NAME.get().is_some()),
    (c"secretlink.ca_bundle", || CA_BUNDLE.get().is_some()),
    (c"secretlink.use_fips_endpoint", || GIVEN[FIPS].load(Relaxed)),
    (c"secretlink.use_dualstack_endpoint", || GIVEN[DUALSTACK].load(Relaxed)),
];

/// Whether a setting has a value that somebody gave who may.
type IsGiven = fn() -> bool;

/// A boolean has a value in any case: whether it was given is seen while it is set.
static GIVEN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
/// The places of those two in [`GIVEN`].
const FIPS: usize = 0;
const DUALSTACK: usize = 1;

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
    for ((name, is_given), was_set) in FOR_SUPERUSERS.into_iter().zip(before) {
        if was_set && !is_given() {
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
    define_identity();
    define_cache();
    define_password_sync();
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

fn define_identity() {
    GucRegistry::define_string_guc(
        c"secretlink.role_arn",
        c"ARN of the IAM role to assume for every call to AWS.",
        c"Assumed by STS with the credentials that are found. Unset, those are used as they are.",
        &ROLE_ARN,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretlink.external_id",
        c"External id to assume secretlink.role_arn with.",
        c"Some trust policies ask for one.",
        &EXTERNAL_ID,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"secretlink.role_session_name",
        c"Name of the session when secretlink.role_arn is assumed, which CloudTrail shows.",
        c"Unset, secretlink, with cluster_name if that is set.",
        &ROLE_SESSION_NAME,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretlink.ca_bundle",
        c"File of the certificates to trust for AWS endpoints, in PEM format.",
        c"Unset, AWS_CA_BUNDLE in the server's environment, else the operating system's certificates.",
        &CA_BUNDLE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: hooks of the right type, which read nothing but their arguments.
    unsafe {
        GucRegistry::define_bool_guc_with_hooks(
            c"secretlink.use_fips_endpoint",
            c"Uses the FIPS endpoints of AWS.",
            c"Off, AWS_USE_FIPS_ENDPOINT in the server's environment and the profile decide.",
            &USE_FIPS_ENDPOINT,
            GucContext::Suset,
            GucFlags::default(),
            Some(see_given::<FIPS>),
            None,
            None,
        );
        GucRegistry::define_bool_guc_with_hooks(
            c"secretlink.use_dualstack_endpoint",
            c"Uses the endpoints of AWS that have IPv6 addresses, too.",
            c"Off, AWS_USE_DUALSTACK_ENDPOINT in the server's environment and the profile decide.",
            &USE_DUALSTACK_ENDPOINT,
            GucContext::Suset,
            GucFlags::default(),
            Some(see_given::<DUALSTACK>),
            None,
            None,
        );
    }
}

/// Sees that a boolean for superusers is given: guc.c asks only about values that whoever gives them may
/// give.
///
/// # Safety
/// For guc.c to call. It uses neither pointer.
unsafe extern "C-unwind" fn see_given<const PLACE: usize>(
    _value: *mut bool,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    GIVEN[PLACE].fetch_or(source > pg_sys::GucSource::PGC_S_DYNAMIC_DEFAULT, Relaxed);
    true
}

fn define_cache() {
    GucRegistry::define_int_guc(
        c"secretlink.cache_size",
        c"Memory for the cache of secrets.",
        c"Shared by all sessions if secretlink is preloaded, else of each session. 0 turns the cache off.",
        &CACHE_SIZE,
        0,
        1_048_576,
        // Shared memory is asked for once. Without it, each session makes its own at first use.
        if server::is_preloading() { GucContext::Postmaster } else { GucContext::Sighup },
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"secretlink.cache_ttl",
        c"For how long a cached secret is used before AWS is asked again.",
        c"0 asks each time, but once for all that ask at the same time.",
        &CACHE_TTL,
        0,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"secretlink.cache_max_stale",
        c"For how long after that it is used if AWS cannot be reached or throttles.",
        c"0 never uses it then.",
        &CACHE_MAX_STALE,
        0,
        2_592_000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

fn define_password_sync() {
    GucRegistry::define_enum_guc(
        c"secretlink.password_sync",
        c"What happens when a synced role's new password cannot be stored in its secret.",
        c"strict: the change fails. warn: it is kept and the role is reported as drifted. off: secrets are not touched.",
        &PASSWORD_SYNC,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"secretlink.hashed_password",
        c"What happens when a synced role is given a password that is hashed already.",
        c"reject: the change fails. warn: it is kept and the role is reported as drifted.",
        &HASHED_PASSWORD,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"secretlink.promote_timeout",
        c"Longest time a commit waits until AWSCURRENT has moved to the new password.",
        c"If it has not by then, the background worker goes on.",
        &PROMOTE_TIMEOUT,
        1,
        60_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"secretlink.create_missing_secrets",
        c"Creates the secret of a synced role if there is none when its password is set.",
        c"",
        &CREATE_MISSING_SECRETS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretlink.advertised_host",
        c"Host name of this server in secrets that it creates.",
        c"Unset, the operating system's host name.",
        &ADVERTISED_HOST,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // SAFETY: a hook of the right type, which reads nothing but its argument.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"secretlink.sync_secret_template",
            c"Name of the secret of each role that has no security label of secretlink.",
            c"{role} and {cluster} stand for the role's name and for cluster_name. Unset, only labelled roles are synced.",
            &SYNC_SECRET_TEMPLATE,
            GucContext::Sighup,
            GucFlags::default(),
            Some(check_template),
            None,
            None,
        );
    }
    GucRegistry::define_int_guc(
        c"secretlink.reconcile_interval",
        c"Time between two looks of the background worker at roles whose secret is in doubt.",
        c"",
        &RECONCILE_INTERVAL,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_string_guc(
        c"secretlink.notify_database",
        c"Database in which NOTIFY secretlink tells of roles that drift or are repaired.",
        c"Empty, nothing is sent.",
        &NOTIFY_DATABASE,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

/// Refuses a template that could not name secrets.
///
/// # Safety
/// For guc.c to call, with the address of a C string or of a null pointer.
#[pg_guard]
unsafe extern "C-unwind" fn check_template(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as promised.
    let text = unsafe { (!(*value).is_null()).then(|| CStr::from_ptr(*value).to_string_lossy()) };
    match text {
        Some(text) if !text.is_empty() => match SecretTemplate::parse(&text) {
            Ok(_) => true,
            Err(error) => {
                set_check_detail(&error.to_string());
                false
            }
        },
        _ => true,
    }
}

/// The settings that shape password sync, as they are now.
pub struct PasswordSettings {
    /// `secretlink.password_sync`
    pub mode: PasswordSync,
    /// `secretlink.hashed_password`
    pub hashed: HashedPassword,
    /// `secretlink.promote_timeout`
    pub promote_timeout: Duration,
    /// `secretlink.create_missing_secrets`
    pub create_missing: bool,
}

/// The settings that shape password sync, as they are now.
pub fn password_settings() -> PasswordSettings {
    PasswordSettings {
        mode: PASSWORD_SYNC.get(),
        hashed: HASHED_PASSWORD.get(),
        promote_timeout: milliseconds(&PROMOTE_TIMEOUT),
        create_missing: CREATE_MISSING_SECRETS.get(),
    }
}

/// `secretlink.cache_size`, in bytes.
pub fn cache_size() -> usize {
    usize::try_from(CACHE_SIZE.get()).unwrap_or(0) * 1024
}

/// `secretlink.cache_ttl` and `secretlink.cache_max_stale`
pub fn cache_timing() -> Timing {
    Timing { ttl: seconds(&CACHE_TTL), max_stale: seconds(&CACHE_MAX_STALE) }
}

/// `secretlink.sync_secret_template`, which was checked when it was set.
pub fn sync_secret_template() -> Option<SecretTemplate> {
    text(&SYNC_SECRET_TEMPLATE).and_then(|text| SecretTemplate::parse(&text).ok())
}

/// `secretlink.advertised_host`
pub fn advertised_host() -> Option<String> {
    text(&ADVERTISED_HOST)
}

/// `secretlink.reconcile_interval`
pub fn reconcile_interval() -> Duration {
    seconds(&RECONCILE_INTERVAL)
}

/// `secretlink.notify_database`
pub fn notify_database() -> Option<CString> {
    NOTIFY_DATABASE.get().filter(|name| !name.is_empty())
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
        role_arn: text(&ROLE_ARN),
        external_id: text(&EXTERNAL_ID),
        role_session_name: Some(text(&ROLE_SESSION_NAME).unwrap_or_else(session_name)),
        use_fips_endpoint: USE_FIPS_ENDPOINT.get(),
        use_dualstack_endpoint: USE_DUALSTACK_ENDPOINT.get(),
        ca_bundle: text(&CA_BUNDLE),
        request_timeout: milliseconds(&REQUEST_TIMEOUT),
        connect_timeout: milliseconds(&CONNECT_TIMEOUT),
        max_attempts: u32::try_from(MAX_ATTEMPTS.get()).unwrap_or(1),
    })
}

/// What CloudTrail shows of this server: `secretlink-` and `cluster_name`, as far as a session's name can
/// hold it.
fn session_name() -> String {
    const MAX_LENGTH: usize = 64;
    let cluster = server::cluster_name();
    if cluster.is_empty() {
        return "secretlink".into();
    }
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(byte);
    let name = cluster.iter().map(|byte| if known(byte) { char::from(*byte) } else { '-' });
    "secretlink-".chars().chain(name).take(MAX_LENGTH).collect()
}

/// Empty means unset, as with Postgres's own string settings.
fn text(setting: &'static GucSetting<Option<CString>>) -> Option<String> {
    setting.get().map(|s| s.to_string_lossy().into_owned()).filter(|s| !s.is_empty())
}

fn seconds(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_secs(u64::try_from(setting.get()).unwrap_or(0))
}

fn milliseconds(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}
