//! Which version of a secret is meant.

/// Which version of a secret; nothing set means the current one (`AWSCURRENT`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionSelector {
    /// A staging label, such as `AWSCURRENT`, `AWSPENDING` or `AWSPREVIOUS`.
    pub stage: Option<String>,
    /// A version's id. With `stage`, the version must carry that label.
    pub version_id: Option<String>,
}
