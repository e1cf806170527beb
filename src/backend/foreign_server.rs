//! Foreign servers and user mappings, read by the functions of foreign.h: no SQL, so no `search_path`
//! and no operator has a say.

use pgrx::{FromDatum, PgList, pg_sys};
use std::ffi::{CStr, CString, c_char};

use super::text::{ServerText, argument};

/// The name of the extension, for those of its objects that Postgres knows by number only.
const EXTENSION: &CStr = c"secretlink";

/// An option of a server, a user mapping or a wrapper.
pub struct ForeignOption {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// `text[]` of `name=value`: what a validator gets.
#[derive(Default)]
pub struct OptionList(pub Vec<ForeignOption>);

/// A foreign server.
pub struct ForeignServer {
    id: pg_sys::Oid,
    wrapper: pg_sys::Oid,
    name: CString,
    options: Vec<ForeignOption>,
}

impl ForeignServer {
    /// The server of that name, which is cut to the length of an identifier.
    pub fn find(name: ServerText) -> Option<ForeignServer> {
        let name = name.into_identifier(false);
        // SAFETY: a C string in; null or a server with valid pointers out, in the current context.
        unsafe {
            let server = pg_sys::GetForeignServerByName(name.as_ptr(), true).as_ref()?;
            Some(ForeignServer {
                id: server.serverid,
                wrapper: server.fdwid,
                name,
                options: read(server.options),
            })
        }
    }

    /// What was given with `CREATE SERVER` or `ALTER SERVER`.
    pub fn options(&self) -> &[ForeignOption] {
        &self.options
    }

    /// Whether its wrapper is part of this extension. Only superusers can make a wrapper so; any other
    /// wrapper may have no validator, and then the options are whatever its server's owner liked.
    pub fn is_ours(&self) -> bool {
        // SAFETY: look into the catalogs, as a running function may.
        unsafe {
            let extension = pg_sys::getExtensionOfObject(pg_sys::ForeignDataWrapperRelationId, self.wrapper);
            extension != pg_sys::InvalidOid
                && extension == pg_sys::get_extension_oid(EXTENSION.as_ptr(), true)
        }
    }

    /// Whether there is a mapping for the current user, or for everybody.
    pub fn has_user_mapping(&self) -> bool {
        let exists = |user: pg_sys::Oid| {
            let (cache, none) =
                (pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32, pg_sys::Datum::from(0));
            // SAFETY: the cache's two keys, a role and a server; the others are not looked at.
            unsafe { pg_sys::SearchSysCacheExists(cache, user.into(), self.id.into(), none, none) }
        };
        // SAFETY: reads a variable.
        exists(unsafe { pg_sys::GetUserId() }) || exists(pg_sys::InvalidOid)
    }

    /// The options of the mapping for the current user, or else for everybody. Raises ERROR if there
    /// is none.
    pub fn user_mapping(&self) -> Vec<ForeignOption> {
        // SAFETY: gives a mapping with valid pointers, or raises ERROR.
        unsafe { read((*pg_sys::GetUserMapping(pg_sys::GetUserId(), self.id)).options) }
    }

    /// Raises ERROR unless the current user has USAGE.
    pub fn check_usage(&self) {
        // SAFETY: looks into the catalogs; the name is a C string.
        unsafe {
            let (user, usage) = (pg_sys::GetUserId(), pg_sys::ACL_USAGE as pg_sys::AclMode);
            #[cfg(any(feature = "pg14", feature = "pg15"))]
            let verdict = pg_sys::pg_foreign_server_aclcheck(self.id, user, usage);
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            let verdict = pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, self.id, user, usage);
            if verdict != pg_sys::AclResult::ACLCHECK_OK {
                pg_sys::aclcheck_error(
                    verdict,
                    pg_sys::ObjectType::OBJECT_FOREIGN_SERVER,
                    self.name.as_ptr(),
                );
            }
        }
    }
}

/// # Safety
/// `options` must be a list of DefElem made from stored options.
unsafe fn read(options: *mut pg_sys::List) -> Vec<ForeignOption> {
    // SAFETY: as the caller promised. The name is a C string. The argument is a string, or null where
    // an array that no DDL has written has no "=".
    unsafe {
        let text = |s: *const c_char| ServerText(CStr::from_ptr(s).to_bytes().to_vec()).to_utf8();
        PgList::<pg_sys::DefElem>::from_pg(options)
            .iter_ptr()
            .map(|option| ForeignOption {
                name: text((*option).defname),
                value: match (*option).arg.is_null() {
                    true => String::new(),
                    false => text(pg_sys::defGetString(option)),
                },
            })
            .collect()
    }
}

impl FromDatum for OptionList {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<OptionList> {
        // SAFETY: the caller promises a `text[]`, from which this makes a list of DefElem.
        (!is_null).then(|| OptionList(unsafe { read(pg_sys::untransformRelOptions(datum)) }))
    }
}

argument!(OptionList, "text[]");
