//! Who wrote a version of a secret: its id says it.

use secretlink_core::random::{self, NoRandomness};

/// Who wrote a version. Each writer leaves the versions of the others alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Password sync.
    Sync,
    /// A rotation that secretlink runs.
    Rotation,
    /// Anybody else, such as a rotation Lambda or a person.
    Other,
}

/// How the ids of our own versions begin. Not `secretlink-` for a rotation: the release before takes
/// every such version for one of password sync.
const PREFIXES: [(&str, Origin); 2] = [("secretlink-", Origin::Sync), ("slrotate-", Origin::Rotation)];

impl Origin {
    /// Who wrote the version with this id.
    pub fn of(version_id: &str) -> Origin {
        let written_by = |(prefix, _): &(&str, Origin)| version_id.starts_with(prefix);
        PREFIXES.into_iter().find(written_by).map_or(Origin::Other, |(_, origin)| origin)
    }

    /// A new version id of this origin, of the length that Secrets Manager takes.
    ///
    /// # Errors
    /// If there are no random numbers to be had.
    pub fn new_version_id(self) -> Result<String, NoRandomness> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes)?;
        let prefix =
            PREFIXES.into_iter().find(|(_, origin)| *origin == self).map_or("", |(prefix, _)| prefix);
        Ok(format!("{prefix}{}", uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_id_tells_its_origin() {
        for origin in [Origin::Sync, Origin::Rotation, Origin::Other] {
            let id = origin.new_version_id().unwrap();
            // API reference, PutSecretValue, ClientRequestToken: 32 to 64 characters.
            assert!((32..=64).contains(&id.len()), "{id}");
            assert_eq!(Origin::of(&id), origin);
        }
        assert_eq!(Origin::of("EXAMPLE1-90ab-cdef-fedc-ba987SECRET1"), Origin::Other);
        assert_eq!(Origin::of("secretlink"), Origin::Other);
    }
}
