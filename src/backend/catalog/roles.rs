//! Roles, as `pg_authid` and `pg_shseclabel` have them.

use pgrx::{FromDatum, pg_sys};
use secretlink_core::Secret;
use secretlink_core::random::NoRandomness;
use secretlink_remote::verifier;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use crate::backend::process::server;
use crate::backend::text::{RoleName, from_catalog, to_server};

/// `SharedSecLabelRelationId` (pg_shseclabel.h), which pgrx does not cover.
const SHARED_SECURITY_LABELS: pg_sys::Oid = pg_sys::Oid::from_u32(3592);
/// The columns of that catalog.
const OBJOID: usize = 1;
const CLASSOID: usize = 2;
const PROVIDER: usize = 3;
const LABEL: usize = 4;

/// The provider of our security labels.
pub(crate) const PROVIDER_NAME: &CStr = c"secretlink";

/// A role as the catalog has it.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// The role's OID, which no renaming changes.
    pub oid: pg_sys::Oid,
    /// The role's name, as the catalog has it.
    pub name: CString,
    /// The hash of its password, as it stands in `rolpassword`.
    pub hash: Option<Secret>,
}

impl Role {
    /// The name to show.
    pub(crate) fn display(&self) -> String {
        from_catalog(&self.name)
    }

    /// Whether this is the role's password, as at a login. Takes some milliseconds for SCRAM.
    pub(crate) fn verify(&self, password: &Secret) -> bool {
        let Some(hash) = &self.hash else { return false };
        // Core copies the password into memory of its own, which nobody wipes.
        if let Some(fits) = verifier::fits(hash.expose(), self.name.to_bytes(), password) {
            return fits;
        }
        if verifier::takes_too_long(hash.expose()) {
            return false;
        }
        // No Postgres password has a NUL byte in it.
        let (Ok(hash), Ok(password)) = (CString::new(hash.expose()), CString::new(password.expose())) else {
            return false;
        };
        let mut detail = ptr::null_mut::<c_char>();
        // SAFETY: three C strings, and a place for an explanation, which nobody reads.
        let status = unsafe {
            pg_sys::plain_crypt_verify(
                self.name.as_ptr(),
                hash.as_ptr(),
                password.as_ptr(),
                (&raw mut detail).cast(),
            )
        };
        status == pg_sys::STATUS_OK as i32
    }
}

/// Whether the current user may administer a role, about as `ALTER ROLE ... PASSWORD` has it in this
/// version (user.c, AlterRole).
pub(crate) fn may_administer(role: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups, callable in any transaction.
    unsafe {
        let user = pg_sys::GetUserId();
        if pg_sys::superuser_arg(user) {
            return true;
        }
        if pg_sys::superuser_arg(role) {
            return false;
        }
        // Until PostgreSQL 15, CREATEROLE alone is enough; from 16 on, ADMIN OPTION is needed too.
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::has_createrole_privilege(user) || pg_sys::is_admin_of_role(user, role);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::has_createrole_privilege(user) && pg_sys::is_admin_of_role(user, role);
    }
}

/// The OID of a role. Raises ERROR (42704) if there is none of this name.
pub(crate) fn oid_of(name: &RoleName) -> pg_sys::Oid {
    // SAFETY: a C string.
    unsafe { pg_sys::get_role_oid(name.0.as_ptr(), false) }
}

/// The OID of a role, if there is one of this name.
pub(crate) fn find(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a C string; an unknown name gives InvalidOid.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Whether two roles take turns in one secret, as AWS's rotation for alternating users has it: one is
/// called as the other with `_clone` behind it, and is a member of that one.
pub(crate) fn take_turns(one: &str, other: &str) -> bool {
    let is_clone = |clone: &str, base: &str| {
        clone.strip_suffix("_clone") == Some(base)
            && match (find(&to_server(clone)), find(&to_server(base))) {
                // SAFETY: a look-up in the catalogs.
                (Some(clone), Some(base)) => unsafe { pg_sys::is_member_of_role_nosuper(clone, base) },
                _ => false,
            }
    };
    is_clone(one, other) || is_clone(other, one)
}

/// A role as this transaction sees it, its own changes up to the last finished command included.
pub(crate) fn by_oid(oid: pg_sys::Oid) -> Option<Role> {
    if !has_database() {
        let mut found = None;
        // SAFETY: tuples of pg_authid and their descriptor.
        scan(pg_sys::AuthIdRelationId, |tuple, desc| unsafe {
            if (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>()).oid == oid {
                found = Some(read_from_catalog(tuple, desc));
            }
        });
        return found;
    }
    let cache = pg_sys::SysCacheIdentifier::AUTHOID as i32;
    // SAFETY: a look-up by OID. The tuple is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, oid.into());
        if tuple.is_null() {
            return None;
        }
        let mut null = false;
        let hash =
            pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_authid_rolpassword as i16, &mut null);
        let role = read(tuple, hash, null);
        pg_sys::ReleaseSysCache(tuple);
        Some(role)
    }
}

/// # Safety
/// `tuple` must be one of `pg_authid`, and `hash` its `rolpassword`.
unsafe fn read(tuple: pg_sys::HeapTuple, hash: pg_sys::Datum, null: bool) -> Role {
    // SAFETY: as promised; a name ends with a NUL byte, and a `text` is copied.
    unsafe {
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>();
        let name = CStr::from_ptr((&raw const (*form).rolname.data).cast()).to_owned();
        let hash = Vec::<u8>::from_polymorphic_datum(hash, null, pg_sys::BYTEAOID).map(Secret::new);
        Role { oid: (*form).oid, name, hash }
    }
}

/// Whether this process is connected to a database. Without one there is no `pg_class`, and so no way to
/// a value that is stored out of line: the catalog cache, which takes every value in, fails on it.
fn has_database() -> bool {
    // SAFETY: reads a global.
    unsafe { pg_sys::MyDatabaseId != pg_sys::InvalidOid }
}

/// # Safety
/// `tuple` must be one of `pg_authid`, read from the catalog itself, and `desc` its descriptor.
unsafe fn read_from_catalog(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) -> Role {
    // SAFETY: as promised.
    unsafe {
        match attribute(tuple, pg_sys::Anum_pg_authid_rolpassword as usize, desc) {
            // Until PostgreSQL 17 anybody can set a hash so long, made up beforehand, for their own role.
            // No password of ours has such a hash, and no password verifies against the empty one.
            Some(hash) if !has_database() && pgrx::varlena::varatt_is_1b_e(hash.cast_mut_ptr()) => {
                Role { hash: Some(Secret::new("")), ..read(tuple, hash, true) }
            }
            Some(hash) => read(tuple, hash, false),
            None => read(tuple, pg_sys::Datum::from(0), true),
        }
    }
}

/// All roles that have a password or a label of ours, with the label. Reads both catalogs from end to
/// end, and works without a database, where there are no indexes to use.
pub(crate) fn with_password_or_label() -> Vec<(Role, Option<CString>)> {
    let mut labels = std::collections::HashMap::new();
    scan(SHARED_SECURITY_LABELS, |tuple, desc| {
        // SAFETY: a tuple of this catalog and its descriptor; the columns have these types (pg_shseclabel.h).
        unsafe {
            let oid =
                |column| attribute(tuple, column, desc).map(|datum| pg_sys::Oid::from_datum(datum, false));
            let text = |column| {
                attribute(tuple, column, desc)
                    .and_then(|datum| Vec::<u8>::from_polymorphic_datum(datum, false, pg_sys::BYTEAOID))
            };
            if oid(CLASSOID).flatten() == Some(pg_sys::AuthIdRelationId)
                && text(PROVIDER).as_deref() == Some(PROVIDER_NAME.to_bytes())
                && let (Some(role), Some(label)) = (oid(OBJOID).flatten(), text(LABEL))
                && let Ok(label) = CString::new(label)
            {
                labels.insert(role, label);
            }
        }
    });
    let mut roles = Vec::new();
    scan(pg_sys::AuthIdRelationId, |tuple, desc| {
        // SAFETY: a tuple of pg_authid and its descriptor.
        let role = unsafe { read_from_catalog(tuple, desc) };
        let label = labels.remove(&role.oid);
        if role.hash.is_some() || label.is_some() {
            roles.push((role, label));
        }
    });
    roles
}

/// # Safety
/// `tuple` and `desc` must belong together, and `column`, from 1, be one of theirs.
unsafe fn attribute(
    tuple: pg_sys::HeapTuple,
    column: usize,
    desc: pg_sys::TupleDesc,
) -> Option<pg_sys::Datum> {
    let mut null = false;
    // SAFETY: as promised.
    let datum = unsafe { pg_sys::heap_getattr(tuple, column as i32, desc, &mut null) };
    (!null).then_some(datum)
}

fn scan(catalog: pg_sys::Oid, mut each: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc)) {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: opens a catalog, reads it with a snapshot of its own, and closes it. When an ERROR leaves,
    // the resource owner does that.
    unsafe {
        let relation = pg_sys::table_open(catalog, lock);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            ptr::null_mut(),
            0,
            ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            each(tuple, (*relation).rd_att);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
}

fn address(role: pg_sys::Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: pg_sys::AuthIdRelationId, objectId: role, objectSubId: 0 }
}

/// The label of ours that a role has.
pub(crate) fn label(role: pg_sys::Oid) -> Option<CString> {
    // SAFETY: a role's address and a C string; the result is null or a palloc'd C string.
    unsafe {
        let label = pg_sys::GetSecurityLabel(&address(role), PROVIDER_NAME.as_ptr());
        (!label.is_null()).then(|| CStr::from_ptr(label).to_owned())
    }
}

/// Gives a role a label, or takes it away. Asks nobody for permission.
pub(crate) fn set_label(role: pg_sys::Oid, label: Option<&CStr>) {
    // SAFETY: as above; null removes the label.
    unsafe {
        let label = label.map_or(ptr::null(), CStr::as_ptr);
        pg_sys::SetSecurityLabel(&address(role), PROVIDER_NAME.as_ptr(), label);
    }
}

/// What this server would store for a role's password, as its settings have it.
///
/// # Errors
/// If there are no random numbers to be had.
pub(crate) fn verifier_of(name: &RoleName, password: &Secret) -> Result<Secret, NoRandomness> {
    // SAFETY: reads a setting.
    if unsafe { pg_sys::Password_encryption } == pg_sys::PasswordType::PASSWORD_TYPE_MD5 as i32 {
        return Ok(verifier::md5(password, name.0.to_bytes()));
    }
    verifier::scram(password, server::scram_iterations())
}

/// `CREATE USER name PASSWORD '...'`, with a verifier in place of the password. It goes the way of a
/// statement of a client, so that extensions that look at those, such as Citus, see it; but its text does not have
/// the verifier, and no log, no statistics and no CONTEXT line can show it.
///
/// Returns `None` if there is no such role afterwards.
pub(crate) fn create_with_verifier(name: &RoleName, verifier: &Secret) -> Option<pg_sys::Oid> {
    let verifier = CString::new(verifier.expose()).ok()?;
    // SAFETY: a C string; the result is that or a palloc'd one.
    let quoted = unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.0.as_ptr())) };
    let text = [b"CREATE USER ", quoted.to_bytes(), b" /* create_role_with_secret */"].concat();
    let text = CString::new(text).ok()?;
    // SAFETY: the statement's node is put together as the grammar does (gram.y, CreateUserStmt), and run as
    // SPI runs a utility statement (spi.c, _SPI_execute_plan), in memory of this call.
    unsafe {
        let option = pg_sys::makeDefElem(
            c"password".as_ptr().cast_mut(),
            pg_sys::makeString(pg_sys::pstrdup(verifier.as_ptr())).cast::<pg_sys::Node>(),
            -1,
        );
        let statement = pg_sys::palloc0(size_of::<pg_sys::CreateRoleStmt>()).cast::<pg_sys::CreateRoleStmt>();
        (*statement).type_ = pg_sys::NodeTag::T_CreateRoleStmt;
        // The kind that can log in.
        (*statement).stmt_type = pg_sys::RoleStmtType::ROLESTMT_USER;
        (*statement).role = pg_sys::pstrdup(name.0.as_ptr());
        (*statement).options = pg_sys::lappend(ptr::null_mut(), option.cast());
        let planned = pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
        (*planned).type_ = pg_sys::NodeTag::T_PlannedStmt;
        (*planned).commandType = pg_sys::CmdType::CMD_UTILITY;
        (*planned).utilityStmt = statement.cast();
        (*planned).stmt_location = -1;
        pg_sys::ProcessUtility(
            planned,
            text.as_ptr(),
            false,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
            ptr::null_mut(),
            ptr::null_mut(),
            pg_sys::None_Receiver,
            ptr::null_mut(),
        );
        pg_sys::CommandCounterIncrement();
    }
    find(&name.0)
}
