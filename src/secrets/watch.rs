//! The secret that a session logged in with.

use std::cell::Cell;

use crate::secrets::cache::{self, SecretRequest};

/// Remembered, to tell when there is another version. It has no password.
pub(crate) struct UsedSecret {
    id: String,
    current: SecretRequest,
    /// The version that was current.
    version_id: String,
    /// What was cached when this was last looked at.
    generation: Cell<u64>,
}

impl UsedSecret {
    /// `version_id` was current when the cache was at `generation`.
    pub(crate) fn new(id: &str, current: SecretRequest, version_id: String, generation: u64) -> UsedSecret {
        UsedSecret { id: id.to_owned(), current, version_id, generation: Cell::new(generation) }
    }

    /// The secret as it was named.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether the secret is known to have another current version now. Asks nobody.
    pub(crate) fn has_changed(&self) -> bool {
        let generation = cache::generation();
        if self.generation.get() == generation {
            return false;
        }
        let changed = self.current.cached_version().is_some_and(|version| version != self.version_id);
        if !changed {
            self.generation.set(generation);
        }
        changed
    }
}
