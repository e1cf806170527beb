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
        Author::of(version_id).origin
    }

    /// A new version id of this origin, of the length that Secrets Manager takes, which does not say which
    /// server it is of.
    ///
    /// # Errors
    /// If there are no random numbers to be had.
    pub fn new_version_id(self) -> Result<String, NoRandomness> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes)?;
        Ok(format!("{}{}", self.prefix(), uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }

    fn prefix(self) -> &'static str {
        PREFIXES.into_iter().find(|(_, origin)| *origin == self).map_or("", |(prefix, _)| prefix)
    }
}

/// A server, as far as the ids of its versions tell it from others: its system identifier, and its timeline,
/// which grows with each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `system_identifier` of `pg_control_system()`.
    pub system: u64,
    /// The timeline it writes.
    pub timeline: u32,
}

impl Issuer {
    /// A new version id of this server: `PREFIX-SYSTEM-TIMELINE-RANDOM`, in hexadecimal digits.
    ///
    /// # Errors
    /// If there are no random numbers to be had.
    pub fn new_version_id(self, origin: Origin) -> Result<String, NoRandomness> {
        let mut bytes = [0; 8];
        random::fill(&mut bytes)?;
        let (prefix, random) = (origin.prefix(), u64::from_be_bytes(bytes));
        Ok(format!("{prefix}{:016x}-{:08x}-{random:016x}", self.system, self.timeline))
    }

    /// Whether a version of this origin is of this server, or of what it was before a promotion.
    pub fn made(self, origin: Origin, version_id: &str) -> bool {
        let author = Author::of(version_id);
        author.origin == origin
            && author.issuer.is_some_and(|by| by.system == self.system && by.timeline <= self.timeline)
    }

    /// Whether a version is of password sync, and of this server, or of what it was before a promotion. Those of
    /// the release before, which do not say of which server they are, count as its own.
    pub fn staged(self, version_id: &str) -> bool {
        let author = Author::of(version_id);
        author.origin == Origin::Sync
            && author.issuer.is_none_or(|by| by.system == self.system && by.timeline <= self.timeline)
    }

    /// Whether this server is sure of a version of password sync that the transaction which staged it has
    /// committed, or has not, as this server's catalogs tell it. If the version was staged before a promotion, they
    /// may lack what the server before had committed.
    pub fn knows_the_end_of(self, version_id: &str) -> bool {
        Author::of(version_id).issuer.map_or(1, |by| by.timeline) == self.timeline
    }

    /// Whether a version, of password sync or of a rotation, is of a server that was promoted in place of
    /// this server.
    pub fn is_superseded_by(self, version_id: &str) -> bool {
        let by = Author::of(version_id).issuer;
        by.is_some_and(|by| by.system == self.system && by.timeline > self.timeline)
    }
}

/// What the id of a version tells of its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// Who wrote it.
    pub origin: Origin,
    /// The server that did, if the id says so. Those of password sync did not in the releases before.
    pub issuer: Option<Issuer>,
}

impl Author {
    /// Reads it from a version id.
    pub fn of(version_id: &str) -> Author {
        let known = PREFIXES
            .into_iter()
            .find_map(|(prefix, origin)| Some((origin, version_id.strip_prefix(prefix)?)));
        match known {
            Some((origin, rest)) => Author { origin, issuer: issuer(rest) },
            None => Author { origin: Origin::Other, issuer: None },
        }
    }
}

/// Who has written a version, in words, for somebody who looks for the one that did.
pub fn writer(version_id: &str, server: Issuer) -> String {
    let author = Author::of(version_id);
    let what = match author.origin {
        Origin::Sync => "password sync",
        Origin::Rotation => "a rotation of secretlink",
        Origin::Other => {
            return format!("Version {version_id} was written by somebody else than secretlink.");
        }
    };
    let of = match author.issuer {
        None => "of an earlier release".to_owned(),
        Some(by) if by == server => "of this server".to_owned(),
        Some(by) if by.system == server.system => {
            format!("of this cluster on timeline {}", by.timeline)
        }
        Some(by) => format!("of the cluster with system identifier {}", by.system),
    };
    format!("Version {version_id} was written by {what} {of}.")
}

/// `SYSTEM-TIMELINE-RANDOM`.
fn issuer(text: &str) -> Option<Issuer> {
    let (system, rest) = text.split_once('-')?;
    let (timeline, random) = rest.split_once('-')?;
    hex(random, 16)?;
    Some(Issuer { system: hex(system, 16)?, timeline: u32::try_from(hex(timeline, 8)?).ok()? })
}

/// A number in exactly so many hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok())?
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
            assert_eq!(Author::of(&id), Author { origin, issuer: None });
        }
        assert_eq!(Origin::of("EXAMPLE1-90ab-cdef-fedc-ba987SECRET1"), Origin::Other);
        assert_eq!(Origin::of("secretlink"), Origin::Other);
    }

    #[test]
    fn a_version_id_tells_its_server() {
        let issuer = Issuer { system: u64::MAX, timeline: 7 };
        let (promoted, before) = (Issuer { timeline: 8, ..issuer }, Issuer { timeline: 6, ..issuer });
        for origin in [Origin::Sync, Origin::Rotation] {
            let id = issuer.new_version_id(origin).unwrap();
            assert!((32..=64).contains(&id.len()), "{id}");
            assert_eq!(Author::of(&id), Author { origin, issuer: Some(issuer) });
            assert!(issuer.made(origin, &id) && promoted.made(origin, &id) && !before.made(origin, &id));
            assert!(before.is_superseded_by(&id) && !issuer.is_superseded_by(&id));
            assert!(!Issuer { system: 1, ..issuer }.made(origin, &id));
            let other = if origin == Origin::Sync { Origin::Rotation } else { Origin::Sync };
            assert!(!issuer.made(other, &id), "the other writer's are not its own");
        }
        let (system, random) = ("00000000000000ab", "0123456789abcdef");
        for rest in [
            format!("{system}-00000001"),
            format!("{system}-00000001-{random}-0"),
            format!("{system}-+0000001-{random}"),
            format!("{}-00000001-{random}", &system[1..]),
            format!("{system}-00000001-{}", &random[1..]),
            format!("{system}-0000000x-{random}"),
            String::new(),
        ] {
            let author = Author::of(&format!("slrotate-{rest}"));
            assert_eq!(author, Author { origin: Origin::Rotation, issuer: None }, "{rest}");
        }
    }
}
