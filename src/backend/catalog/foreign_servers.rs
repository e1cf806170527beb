//! Foreign servers and user mappings, read by the functions of foreign.h: no SQL, so no `search_path`
//! and no operator has a say.

use pgrx::{FromDatum, PgList, pg_sys};
use std::ffi::{CStr, CString, c_char};

use crate::backend::text::{ServerText, argument, make_room};

/// The name of the extension, for those of its objects that Postgres knows by number only.
const EXTENSION: &CStr = c"secretlink";

/// An option of a server, a user mapping or a wrapper.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ForeignOption {
    /// The option's name.
    pub name: String,
    /// The option's value.
    pub value: String,
}

/// `text[]` of `name=value`: what a validator gets.
#[derive(Default)]
pub(crate) struct OptionList(pub Vec<ForeignOption>);

/// A foreign server.
pub(crate) struct ForeignServer {
    id: pg_sys::Oid,
    wrapper: pg_sys::Oid,
    owner: pg_sys::Oid,
    name: CString,
    options: Vec<ForeignOption>,
}

/// A user mapping.
pub(crate) struct UserMapping {
    /// What was given with `CREATE USER MAPPING` or `ALTER USER MAPPING`.
    pub options: Vec<ForeignOption>,
    /// The version of the catalog's row, which is another after each change.
    pub version: RowVersion,
}

/// Which version of a row in a catalog it is: another after each change of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowVersion {
    transaction: pg_sys::TransactionId,
    block: (u16, u16),
    place: u16,
}

impl ForeignServer {
    /// The server of that name, which is cut to the length of an identifier.
    pub(crate) fn find(name: ServerText) -> Option<ForeignServer> {
        let name = name.into_identifier(false);
        // SAFETY: a C string in; null or a server with valid pointers out, in the current context.
        unsafe { Self::from_raw(pg_sys::GetForeignServerByName(name.as_ptr(), true)) }
    }

    /// The server of that number, if it is still there.
    pub(crate) fn by_id(id: pg_sys::Oid) -> Option<ForeignServer> {
        // SAFETY: null or a server with valid pointers, in the current context.
        unsafe { Self::from_raw(pg_sys::GetForeignServerExtended(id, pg_sys::FSV_MISSING_OK as _)) }
    }

    /// # Safety
    /// `server` must be null or have valid pointers.
    unsafe fn from_raw(server: *const pg_sys::ForeignServer) -> Option<ForeignServer> {
        // SAFETY: as the caller promised; the name is a C string.
        unsafe {
            let server = server.as_ref()?;
            Some(ForeignServer {
                id: server.serverid,
                wrapper: server.fdwid,
                owner: server.owner,
                name: CStr::from_ptr(server.servername).to_owned(),
                options: read(server.options),
            })
        }
    }

    /// The server's OID, which stays when the server is renamed.
    pub(crate) fn id(&self) -> pg_sys::Oid {
        self.id
    }

    /// The server's name, as UTF-8.
    pub(crate) fn name(&self) -> String {
        ServerText(self.name.to_bytes().to_vec()).to_utf8()
    }

    /// What was given with `CREATE SERVER` or `ALTER SERVER`.
    pub(crate) fn options(&self) -> &[ForeignOption] {
        &self.options
    }

    /// Whether only superusers can change it.
    pub(crate) fn belongs_to_superuser(&self) -> bool {
        // SAFETY: looks into the catalogs.
        unsafe { pg_sys::superuser_arg(self.owner) }
    }

    /// Whether the server's wrapper is part of this extension. Only superusers can make a wrapper so; any other
    /// wrapper may have no validator, and then the options are whatever its server's owner liked.
    pub(crate) fn is_ours(&self) -> bool {
        // SAFETY: look into the catalogs, as a running function may.
        unsafe {
            let extension = pg_sys::getExtensionOfObject(pg_sys::ForeignDataWrapperRelationId, self.wrapper);
            extension != pg_sys::InvalidOid
                && extension == pg_sys::get_extension_oid(EXTENSION.as_ptr(), true)
        }
    }

    /// Whether there is a mapping for `user`, or for everybody.
    pub(crate) fn has_user_mapping(&self, user: pg_sys::Oid) -> bool {
        let exists = |user: pg_sys::Oid| {
            let (cache, none) =
                (pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32, pg_sys::Datum::from(0));
            // SAFETY: the cache's two keys, a role and a server; the others are not looked at.
            unsafe { pg_sys::SearchSysCacheExists(cache, user.into(), self.id.into(), none, none) }
        };
        exists(user) || exists(pg_sys::InvalidOid)
    }

    /// The mapping for `user`, or else for everybody. Raises ERROR if there is none.
    pub(crate) fn user_mapping(&self, user: pg_sys::Oid) -> UserMapping {
        // SAFETY: gives a mapping with valid pointers, or raises ERROR. Its row is in the catalog, in
        // which nothing that is newer has been looked for since.
        unsafe {
            let mapping = pg_sys::GetUserMapping(user, self.id);
            UserMapping { options: read((*mapping).options), version: row_version((*mapping).umid) }
        }
    }

    /// Raises ERROR unless `user` has USAGE.
    pub(crate) fn check_usage(&self, user: pg_sys::Oid) {
        // SAFETY: looks into the catalogs; the name is a C string.
        unsafe {
            let usage = pg_sys::ACL_USAGE as pg_sys::AclMode;
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

/// The version of a user mapping's row; the same for two that are not there.
fn row_version(mapping: pg_sys::Oid) -> RowVersion {
    let none = RowVersion { transaction: pg_sys::InvalidTransactionId, block: (0, 0), place: 0 };
    // SAFETY: the cache's one key. An entry has the header that its row has, and is read between
    // finding and releasing it.
    unsafe {
        let entry =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::USERMAPPINGOID as i32, mapping.into());
        let Some(row) = entry.as_ref() else { return none };
        let (block, place) = (row.t_self.ip_blkid, row.t_self.ip_posid);
        let transaction = (*row.t_data).t_choice.t_heap.t_xmin;
        pg_sys::ReleaseSysCache(entry);
        RowVersion { transaction, block: (block.bi_hi, block.bi_lo), place }
    }
}

/// # Safety
/// `options` must be a list of DefElem made from stored options.
unsafe fn read(options: *mut pg_sys::List) -> Vec<ForeignOption> {
    // SAFETY: as the caller promised. The name is a C string. The argument is a string, or null where
    // an array that no DDL has written has no "=".
    unsafe {
        let text = |s: *const c_char| {
            let text = CStr::from_ptr(s).to_bytes();
            make_room(text.len());
            ServerText(text.to_vec()).to_utf8()
        };
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
