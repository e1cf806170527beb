//! The staging labels that AWS itself gives a meaning (Secrets Manager user guide, "Secret versions"), and
//! that of password sync.

/// The version to use. Every secret with a value has one.
pub const CURRENT: &str = "AWSCURRENT";

/// The version that a change or a rotation is about to make current.
pub const PENDING: &str = "AWSPENDING";

/// The version that was current before. Secrets Manager moves this label by itself.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// The version that password sync has stored last: the next password of a role, until the transaction that
/// sets it has committed and `AWSCURRENT` has moved. A label of its own leaves `AWSPENDING` to rotations.
pub const STAGED: &str = "SECRETLINK";
