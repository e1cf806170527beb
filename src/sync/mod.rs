//! Password sync, the half that runs in the backend: hooks, the transaction's end, and settling what a
//! crash or an outage left. The other half is the crate `secretlink-versions`.

pub(crate) mod audit;
mod changes;
pub(crate) mod error;
mod look;
pub(crate) mod notice;
pub(crate) mod pace;
pub(crate) mod pass;
mod promote;
pub(crate) mod roles;
mod settle;
mod stage;
pub(crate) mod states;
pub(crate) mod target;
mod turn;

use crate::backend::catalog::{role_hooks, role_statements};
use crate::backend::process::{shared_memory, transaction};

/// Installs hooks and shared memory. To be called while the library is preloaded: what only some
/// sessions had would miss the changes that others make.
pub(crate) fn init() {
    shared_memory::install(states::request, states::attach);
    role_hooks::install(role_hooks::Handlers {
        password: changes::on_password,
        created: changes::on_created,
        altered: changes::on_altered,
        dropped: changes::on_dropped,
        labelled: changes::on_labelled,
        not_a_role: changes::on_label_elsewhere,
    });
    role_statements::install(changes::before_statement);
    transaction::register(transaction::Callbacks {
        before_commit: stage::before_commit,
        after_commit: promote::after_commit,
        after_abort: promote::after_abort,
        before_prepare: stage::before_prepare,
        subtransaction_committed: changes::on_subtransaction_committed,
        subtransaction_aborted: changes::on_subtransaction_aborted,
    });
}
