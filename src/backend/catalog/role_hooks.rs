//! Where Postgres tells of roles and their passwords.

use pgrx::{pg_guard, pg_sys};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use crate::backend::catalog::roles;
use crate::backend::text::make_room;

/// What is told of roles, each inside the command that does it.
#[derive(Clone, Copy)]
pub(crate) struct Handlers {
    /// A role is about to be given a password: its name, and what was written as the password. `true`
    /// if that is a hash.
    pub password: fn(&CStr, &CStr, bool),
    /// A role was created.
    pub created: fn(pg_sys::Oid),
    /// A role was altered or renamed. The catalog still shows it as it was before.
    pub altered: fn(pg_sys::Oid),
    /// A role is about to be dropped.
    pub dropped: fn(pg_sys::Oid),
    /// A role is about to get this label of ours by SECURITY LABEL, or to lose it.
    pub labelled: fn(pg_sys::Oid, Option<&CStr>),
    /// Something that is not a role is about to get a label of ours. Must raise ERROR.
    pub not_a_role: fn(),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();
static PREVIOUS_PASSWORD: OnceLock<PasswordHook> = OnceLock::new();
static PREVIOUS_ACCESS: OnceLock<AccessHook> = OnceLock::new();

type PasswordHook = unsafe extern "C-unwind" fn(
    *const c_char,
    *const c_char,
    pg_sys::PasswordType::Type,
    pg_sys::Datum,
    bool,
);
type AccessHook =
    unsafe extern "C-unwind" fn(pg_sys::ObjectAccessType::Type, pg_sys::Oid, pg_sys::Oid, c_int, *mut c_void);

/// Has these called in every process that is forked from here on. To be called once, while the library
/// is preloaded.
pub(crate) fn install(handlers: Handlers) {
    if HANDLERS.set(handlers).is_err() {
        return;
    }
    // SAFETY: only the postmaster is running, with one thread; the hooks found are called by ours.
    unsafe {
        if let Some(previous) = pg_sys::check_password_hook {
            let _ = PREVIOUS_PASSWORD.set(previous);
        }
        pg_sys::check_password_hook = Some(on_password);
        if let Some(previous) = pg_sys::object_access_hook {
            let _ = PREVIOUS_ACCESS.set(previous);
        }
        pg_sys::object_access_hook = Some(on_access);
    }
    register_labels();
}

/// Makes `SECURITY LABEL FOR secretlink` known to this process, and to those forked from it. Without
/// [`install`] any label is taken as it is.
pub(crate) fn register_labels() {
    // SAFETY: a C string that lives for ever and a function of the right type.
    unsafe { pg_sys::register_label_provider(roles::PROVIDER_NAME.as_ptr(), Some(on_label)) };
}

/// # Safety
/// For Postgres to call, as its `check_password_hook` (user.c, CreateRole and AlterRole).
#[pg_guard]
unsafe extern "C-unwind" fn on_password(
    role: *const c_char,
    password: *const c_char,
    password_type: pg_sys::PasswordType::Type,
    valid_until: pg_sys::Datum,
    valid_for_ever: bool,
) {
    // The hook that was there first, passwordcheck's for example, may refuse the password.
    if let Some(previous) = PREVIOUS_PASSWORD.get() {
        // SAFETY: the hook that was there before us, with the arguments it would have got.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(role, password, password_type, valid_until, valid_for_ever);
            });
        }
    }
    if let Some(handlers) = HANDLERS.get() {
        // SAFETY: two C strings, as the hook is documented.
        let (role, password) = unsafe { (CStr::from_ptr(role), CStr::from_ptr(password)) };
        make_room(password.count_bytes());
        (handlers.password)(role, password, password_type != pg_sys::PasswordType::PASSWORD_TYPE_PLAINTEXT);
    }
}

/// # Safety
/// For Postgres to call, as its `object_access_hook` (objectaccess.h).
#[pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_id: c_int,
    arg: *mut c_void,
) {
    if let Some(previous) = PREVIOUS_ACCESS.get() {
        // SAFETY: the hook that was there before us, with the arguments it would have got.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| previous(access, class, object, sub_id, arg)) }
    }
    if class != pg_sys::AuthIdRelationId {
        return;
    }
    if let Some(handlers) = HANDLERS.get() {
        match access {
            pg_sys::ObjectAccessType::OAT_POST_CREATE => (handlers.created)(object),
            pg_sys::ObjectAccessType::OAT_POST_ALTER => (handlers.altered)(object),
            pg_sys::ObjectAccessType::OAT_DROP => (handlers.dropped)(object),
            _ => {}
        }
    }
}

/// # Safety
/// For Postgres to call, before a label of ours is set (seclabel.c, ExecSecLabelStmt).
#[pg_guard]
unsafe extern "C-unwind" fn on_label(object: *const pg_sys::ObjectAddress, label: *const c_char) {
    let Some(handlers) = HANDLERS.get() else { return };
    // SAFETY: a valid address, and null or a C string.
    let (object, label) = unsafe { (*object, (!label.is_null()).then(|| CStr::from_ptr(label))) };
    if object.classId == pg_sys::AuthIdRelationId {
        (handlers.labelled)(object.objectId, label);
    } else {
        (handlers.not_a_role)();
    }
}
