//! Statements about roles, before Postgres carries them out.

use pgrx::{pg_guard, pg_sys};
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use crate::backend::catalog::roles;

/// What is to be done before a statement that alters, renames or drops a role. Says whether it has kept
/// others from doing so.
type Handler = fn(pg_sys::Oid) -> bool;

type UtilityHook = unsafe extern "C-unwind" fn(
    *mut pg_sys::PlannedStmt,
    *const c_char,
    bool,
    pg_sys::ProcessUtilityContext::Type,
    pg_sys::ParamListInfo,
    *mut pg_sys::QueryEnvironment,
    *mut pg_sys::DestReceiver,
    *mut pg_sys::QueryCompletion,
);

static HANDLER: OnceLock<Handler> = OnceLock::new();
static PREVIOUS: OnceLock<UtilityHook> = OnceLock::new();

// SAFETY: declared as in utility.h, without the guard that pgrx puts around each call.
unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        source: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Has this called in every process that is forked from here on. To be called once, while the library is
/// preloaded.
pub(crate) fn install(handler: Handler) {
    if HANDLER.set(handler).is_err() {
        return;
    }
    // SAFETY: only the postmaster is running, with one thread; the hook found is called by ours.
    unsafe {
        if let Some(previous) = pg_sys::ProcessUtility_hook {
            let _ = PREVIOUS.set(previous);
        }
        pg_sys::ProcessUtility_hook = Some(on_utility);
    }
}

/// Sees every command but queries. Not guarded as a whole: some commands end transactions, and none
/// of that is our business. An ERROR of a command passes over this frame, which has nothing to drop.
///
/// # Safety
/// For Postgres to call, as its `ProcessUtility_hook` (utility.h).
#[allow(clippy::too_many_arguments, reason = "those of the hook")]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    source: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a planned statement; then what would have been called without us, with the arguments it would
    // have got.
    unsafe {
        before((*statement).utilityStmt);
        let next = match PREVIOUS.get() {
            Some(previous) => *previous,
            None => standard_ProcessUtility as UtilityHook,
        };
        next(statement, source, read_only_tree, context, parameters, environment, receiver, completion);
    }
}

/// # Safety
/// The statement must be a node of the parser's.
#[pg_guard]
unsafe extern "C-unwind" fn before(statement: *mut pg_sys::Node) {
    let Some(handler) = HANDLER.get() else { return };
    // SAFETY: a node, which is what its tag says.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_AlterRoleStmt => {
                alone(handler, by_spec((*statement.cast::<pg_sys::AlterRoleStmt>()).role));
            }
            pg_sys::NodeTag::T_AlterRoleSetStmt => {
                alone(handler, by_spec((*statement.cast::<pg_sys::AlterRoleSetStmt>()).role));
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = statement.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType == pg_sys::ObjectType::OBJECT_ROLE && !(*rename).subname.is_null() {
                    let name = CStr::from_ptr((*rename).subname);
                    alone(handler, || roles::find(name));
                }
            }
            pg_sys::NodeTag::T_DropRoleStmt => {
                let roles = (*statement.cast::<pg_sys::DropRoleStmt>()).roles;
                let length = if roles.is_null() { 0 } else { (*roles).length };
                for place in 0..length {
                    let role = pg_sys::list_nth(roles, place).cast::<pg_sys::RoleSpec>();
                    alone(handler, by_spec(role));
                }
            }
            _ => {}
        }
    }
}

/// Calls the handler for the role that is meant. Until nobody else could change it, the name may have become
/// another role's.
fn alone(handler: &Handler, find: impl Fn() -> Option<pg_sys::Oid>) {
    let mut role = find();
    while let Some(oid) = role
        && handler(oid)
    {
        role = find().filter(|now| *now != oid);
    }
}

/// The role of a name or of a word such as CURRENT_USER; none if Postgres will find something wrong with it.
///
/// # Safety
/// Null, or a role as the parser makes it.
unsafe fn by_spec(role: *const pg_sys::RoleSpec) -> impl Fn() -> Option<pg_sys::Oid> {
    move || {
        // SAFETY: as the caller promised; missing roles raise no ERROR, and PUBLIC is not asked for.
        unsafe {
            if role.is_null() || (*role).roletype == pg_sys::RoleSpecType::ROLESPEC_PUBLIC {
                return None;
            }
            Some(pg_sys::get_rolespec_oid(role, true)).filter(|oid| *oid != pg_sys::InvalidOid)
        }
    }
}
