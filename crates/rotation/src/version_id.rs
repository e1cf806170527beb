//! The ids of versions that a rotation makes: they say which server made them.

use secretlink_core::random::{self, NoRandomness};

/// What the ids of rotations begin with.
const PREFIX: &str = "slrotate-";

/// A server, as far as its versions tell it from others: its system identifier, and its timeline, which
/// grows with each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `system_identifier` of `pg_control_system()`.
    pub system: u64,
    /// The timeline it writes.
    pub timeline: u32,
}

impl Issuer {
    /// A new version id.
    ///
    /// # Errors
    /// If there are no random numbers to be had.
    pub fn version_id(self) -> Result<String, NoRandomness> {
        let mut bytes = [0; 8];
        random::fill(&mut bytes)?;
        Ok(format!("{PREFIX}{:016x}-{:08x}-{:016x}", self.system, self.timeline, u64::from_be_bytes(bytes)))
    }

    /// Who made a version; `None` if no rotation of secretlink did.
    pub fn of(version_id: &str) -> Option<Issuer> {
        let mut fields = version_id.strip_prefix(PREFIX)?.split('-');
        let system = u64::from_str_radix(fields.next()?, 16).ok()?;
        let timeline = u32::from_str_radix(fields.next()?, 16).ok()?;
        fields.next()?;
        fields.next().is_none().then_some(Issuer { system, timeline })
    }

    /// Whether a version is of this server, or of what it was before a promotion.
    pub fn made(self, version_id: &str) -> bool {
        Issuer::of(version_id).is_some_and(|by| by.system == self.system && by.timeline <= self.timeline)
    }

    /// Whether a version is of a server that was promoted in place of this one.
    pub fn is_superseded_by(self, version_id: &str) -> bool {
        Issuer::of(version_id).is_some_and(|by| by.system == self.system && by.timeline > self.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_who_made_it() {
        let issuer = Issuer { system: u64::MAX, timeline: 7 };
        let id = issuer.version_id().unwrap();
        // API reference, PutSecretValue, ClientRequestToken: 32 to 64 characters.
        assert!((32..=64).contains(&id.len()), "{id}");
        assert_eq!(Issuer::of(&id), Some(issuer));
        assert!(issuer.made(&id) && Issuer { timeline: 8, ..issuer }.made(&id));
        assert!(Issuer { timeline: 6, ..issuer }.is_superseded_by(&id));
        for other in ["secretlink-0-1-2", "slrotate-1-2", "slrotate-1-2-3-4", "slrotate-x-1-2", ""] {
            assert_eq!(Issuer::of(other), None, "{other}");
        }
    }
}
