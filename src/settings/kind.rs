//! The kinds of settings. Each setting is a static that holds everything Postgres is told of it.

use pgrx::guc::GucEnum;
use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::backend::process::report::set_check_detail;
use crate::backend::process::server;

/// Who may set a setting, and where.
#[derive(Clone, Copy)]
pub(super) enum Context {
    /// Anybody, for one session.
    Anybody,
    /// Superusers, and roles to which a superuser has granted it.
    Superusers,
    /// The configuration file, for the whole server. A reload is enough.
    Reload,
    /// The configuration file. If the library is preloaded, only a restart brings the new value.
    SharedMemory,
}

impl Context {
    fn for_postgres(self) -> GucContext {
        match self {
            Context::Anybody => GucContext::Userset,
            Context::Superusers => GucContext::Suset,
            Context::Reload => GucContext::Sighup,
            // Shared memory is asked for once. Without it, each session makes its own at first use.
            Context::SharedMemory if server::is_preloading() => GucContext::Postmaster,
            Context::SharedMemory => GucContext::Sighup,
        }
    }
}

/// What every setting has.
struct About {
    name: &'static CStr,
    context: Context,
    /// A line that says what the setting is: `pg_settings.short_desc`.
    short: &'static CStr,
    /// The rest: `pg_settings.extra_desc`.
    long: &'static CStr,
}

/// A setting that can tell whether it has a value other than the built-in one.
pub(super) trait Given: Sync {
    /// The name of the setting.
    fn name(&self) -> &'static CStr;
    /// Whether somebody who may has given it a value.
    fn is_given(&self) -> bool;
    /// What is wrong with a value, as a sentence, as far as can be told.
    fn problem_with(&self, _value: &str) -> Option<String> {
        None
    }
}

/// A text. An empty text means unset, as with Postgres's own settings.
pub(super) struct Text {
    about: About,
    value: GucSetting<Option<CString>>,
    flags: GucFlags,
    check: CheckHook,
    rule: Option<Check>,
}

impl Text {
    /// A text that is unset until somebody sets it.
    pub(super) const fn unset(
        name: &'static CStr,
        context: Context,
        short: &'static CStr,
        long: &'static CStr,
    ) -> Text {
        let value = GucSetting::<Option<CString>>::new(None);
        let about = About { name, context, short, long };
        Text { about, value, flags: GucFlags::empty(), check: check::<Any>, rule: None }
    }

    /// The setting with a value from the beginning.
    pub(super) const fn or(self, default: &'static CStr) -> Text {
        Text { value: GucSetting::<Option<CString>>::new(Some(default)), ..self }
    }

    /// The setting, shown to superusers only.
    pub(super) const fn hidden(self) -> Text {
        Text { flags: GucFlags::SUPERUSER_ONLY, ..self }
    }

    /// The setting, whose values must obey a rule. guc.c refuses others. One that stands in the configuration
    /// file when the library is preloaded does not keep the server from starting: it is left out with a
    /// WARNING.
    pub(super) const fn obeying<R: Rule>(self) -> Text {
        Text { check: check::<R>, rule: Some(R::check), ..self }
    }

    pub(super) fn define(&'static self) {
        let About { name, context, short, long } = self.about;
        let context = context.for_postgres();
        // SAFETY: the only check hook lets no panic out.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                short,
                long,
                &self.value,
                context,
                self.flags,
                Some(self.check),
                None,
                None,
            );
        }
    }

    pub(super) fn get(&self) -> Option<String> {
        self.c_string().map(|text| text.to_string_lossy().into_owned())
    }

    pub(super) fn c_string(&self) -> Option<CString> {
        self.value.get().filter(|text| !text.is_empty())
    }
}

/// [`Rule::check`].
type Check = fn(&str) -> Result<(), String>;

/// What the value of a setting must be.
pub(super) trait Rule {
    /// Whether a text will do.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    fn check(text: &str) -> Result<(), String>;
}

/// The rule of a text that may be anything, within [`LONGEST`].
struct Any;

impl Rule for Any {
    fn check(_text: &str) -> Result<(), String> {
        Ok(())
    }
}

/// A check hook of guc.c for texts.
type CheckHook =
    unsafe extern "C-unwind" fn(*mut *mut c_char, *mut *mut c_void, pg_sys::GucSource::Type) -> bool;

/// The longest value of a setting, in bytes: far longer than any that makes sense. Each use of a setting copies
/// its value, in memory that must be there.
const LONGEST: usize = 64 * 1024;

/// A check hook of guc.c. An empty text is none.
///
/// # Safety
/// For guc.c to call, with the address of a C string or of a null pointer.
unsafe extern "C-unwind" fn check<R: Rule>(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: no frame above has anything to drop; the value is as promised.
    unsafe {
        pgrx_extern_c_guard(|| {
            if (*value).is_null() {
                return true;
            }
            if CStr::from_ptr(*value).count_bytes() > LONGEST {
                set_check_detail(&format!("It is longer than {LONGEST} bytes."));
                return false;
            }
            let text = CStr::from_ptr(*value).to_string_lossy();
            match if text.is_empty() { Ok(()) } else { R::check(&text) } {
                Ok(()) => true,
                Err(problem) => {
                    set_check_detail(&problem);
                    false
                }
            }
        })
    }
}

impl Given for Text {
    fn name(&self) -> &'static CStr {
        self.about.name
    }

    fn is_given(&self) -> bool {
        self.value.get().is_some()
    }

    fn problem_with(&self, value: &str) -> Option<String> {
        self.rule.filter(|_| !value.is_empty()).and_then(|rule| rule(value).err())
    }
}

/// A whole number.
pub(super) struct Number {
    about: About,
    value: GucSetting<i32>,
    range: RangeInclusive<i32>,
    unit: GucFlags,
}

impl Number {
    /// A number without a unit.
    pub(super) const fn new(
        name: &'static CStr,
        context: Context,
        short: &'static CStr,
        long: &'static CStr,
        default: i32,
        range: RangeInclusive<i32>,
    ) -> Number {
        let about = About { name, context, short, long };
        Number { about, value: GucSetting::<i32>::new(default), range, unit: GucFlags::empty() }
    }

    /// The setting, in milliseconds.
    pub(super) const fn in_milliseconds(mut self) -> Number {
        self.unit = GucFlags::UNIT_MS;
        self
    }

    /// The setting, in seconds.
    pub(super) const fn in_seconds(mut self) -> Number {
        self.unit = GucFlags::UNIT_S;
        self
    }

    /// The setting, in kilobytes.
    pub(super) const fn in_kilobytes(mut self) -> Number {
        self.unit = GucFlags::UNIT_KB;
        self
    }

    pub(super) fn define(&'static self) {
        let About { name, context, short, long } = self.about;
        let (least, most) = (*self.range.start(), *self.range.end());
        let context = context.for_postgres();
        GucRegistry::define_int_guc(name, short, long, &self.value, least, most, context, self.unit);
    }

    /// The number. No setting of ours can be negative.
    pub(super) fn get(&self) -> u32 {
        u32::try_from(self.value.get()).unwrap_or(0)
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs(self.get().into())
    }

    pub(super) fn milliseconds(&self) -> Duration {
        Duration::from_millis(self.get().into())
    }
}

/// On or off.
pub(super) struct Switch {
    about: About,
    value: GucSetting<bool>,
}

impl Switch {
    pub(super) const fn new(
        name: &'static CStr,
        context: Context,
        short: &'static CStr,
        long: &'static CStr,
        default: bool,
    ) -> Switch {
        let about = About { name, context, short, long };
        Switch { about, value: GucSetting::<bool>::new(default) }
    }

    pub(super) fn define(&'static self) {
        self.define_with(None);
    }

    fn define_with(&'static self, check: pg_sys::GucBoolCheckHook) {
        let About { name, context, short, long } = self.about;
        let context = context.for_postgres();
        // SAFETY: the only hook, `GivenSwitch::see`, does nothing that panics.
        unsafe {
            GucRegistry::define_bool_guc_with_hooks(
                name,
                short,
                long,
                &self.value,
                context,
                GucFlags::default(),
                check,
                None,
                None,
            );
        }
    }

    pub(super) fn get(&self) -> bool {
        self.value.get()
    }
}

/// A switch that remembers whether it was given: it has a value in any case. `N` is a number of its own
/// for each, below [`GIVEN_COUNT`].
pub(super) struct GivenSwitch<const N: usize>(pub(super) Switch);

/// How many settings there are that remember whether they were given.
const GIVEN_COUNT: usize = 3;

static GIVEN: [AtomicBool; GIVEN_COUNT] = [const { AtomicBool::new(false) }; GIVEN_COUNT];

/// Notes where a value of setting `N` comes from, and accepts the value. guc.c asks only about values of those who may
/// give one.
fn note_source<const N: usize>(source: pg_sys::GucSource::Type) -> bool {
    GIVEN[N].fetch_or(source > pg_sys::GucSource::PGC_S_DYNAMIC_DEFAULT, Relaxed);
    true
}

impl<const N: usize> GivenSwitch<N> {
    pub(super) fn define(&'static self) {
        self.0.define_with(Some(Self::see));
    }

    pub(super) fn get(&self) -> bool {
        self.0.get()
    }

    /// The check hook, see [`note_source`].
    unsafe extern "C-unwind" fn see(
        _value: *mut bool,
        _extra: *mut *mut c_void,
        source: pg_sys::GucSource::Type,
    ) -> bool {
        note_source::<N>(source)
    }
}

impl<const N: usize> Given for GivenSwitch<N> {
    fn name(&self) -> &'static CStr {
        self.0.about.name
    }

    fn is_given(&self) -> bool {
        GIVEN[N].load(Relaxed)
    }

    fn problem_with(&self, value: &str) -> Option<String> {
        let value = CString::new(value).ok()?;
        // SAFETY: a C string, and a place for the result.
        let is_boolean = unsafe { pg_sys::parse_bool(value.as_ptr(), &mut false) };
        (!is_boolean).then(|| "It must be on or off.".to_owned())
    }
}

/// A setting whose value is one of several words.
pub(super) struct Choice<T: GucEnum + 'static> {
    about: About,
    value: GucSetting<T>,
}

impl<T: GucEnum + 'static> Choice<T> {
    pub(super) const fn new(
        name: &'static CStr,
        context: Context,
        short: &'static CStr,
        long: &'static CStr,
        default: T,
    ) -> Choice<T> {
        let about = About { name, context, short, long };
        Choice { about, value: GucSetting::<T>::new(default) }
    }

    pub(super) fn define(&'static self) {
        self.define_with(None);
    }

    fn define_with(&'static self, check: pg_sys::GucEnumCheckHook) {
        let About { name, context, short, long } = self.about;
        let context = context.for_postgres();
        // SAFETY: the only hook, `GivenChoice::see`, does nothing that panics.
        unsafe {
            GucRegistry::define_enum_guc_with_hooks(
                name,
                short,
                long,
                &self.value,
                context,
                GucFlags::default(),
                check,
                None,
                None,
            );
        }
    }

    pub(super) fn get(&self) -> T {
        self.value.get()
    }
}

/// A choice that remembers whether it was made. `N` as with [`GivenSwitch`].
pub(super) struct GivenChoice<const N: usize, T: GucEnum + 'static>(pub(super) Choice<T>);

impl<const N: usize, T: GucEnum + 'static> GivenChoice<N, T> {
    pub(super) fn define(&'static self) {
        self.0.define_with(Some(Self::see));
    }

    pub(super) fn get(&self) -> T {
        self.0.get()
    }

    /// The check hook, see [`note_source`].
    unsafe extern "C-unwind" fn see(
        _value: *mut c_int,
        _extra: *mut *mut c_void,
        source: pg_sys::GucSource::Type,
    ) -> bool {
        note_source::<N>(source)
    }
}

impl<const N: usize, T: GucEnum + Sync + 'static> Given for GivenChoice<N, T> {
    fn name(&self) -> &'static CStr {
        self.0.about.name
    }

    fn is_given(&self) -> bool {
        GIVEN[N].load(Relaxed)
    }

    fn problem_with(&self, value: &str) -> Option<String> {
        let words = words::<T>();
        let is_one = words.iter().any(|word| word.eq_ignore_ascii_case(value));
        (!is_one).then(|| format!("It must be one of {}.", words.join(", ")))
    }
}

/// The words of an enumeration.
fn words<T: GucEnum>() -> Vec<&'static str> {
    // SAFETY: the array that guc.c is given: C strings that live for ever, and at the end a null pointer.
    unsafe {
        (0..)
            .map(|place| (*T::CONFIG_ENUM_ENTRY.add(place)).name)
            .take_while(|name| !name.is_null())
            .filter_map(|name| CStr::from_ptr(name).to_str().ok())
            .collect()
    }
}

/// The settings of one subject, each written once, and `define`, which defines them all.
macro_rules! settings {
    ($($setting:ident: $kind:ty = $value:expr;)+) => {
        $(static $setting: $kind = $value;)+

        /// Defines the settings of this subject.
        pub(super) fn define() {
            $($setting.define();)+
        }
    };
}
pub(super) use settings;
