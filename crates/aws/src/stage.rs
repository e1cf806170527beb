//! The staging labels that AWS itself gives a meaning (Secrets Manager user guide, "Secret versions").

/// The version to use. Every secret with a value has one.
pub const CURRENT: &str = "AWSCURRENT";

/// The version that a change or a rotation is about to make current.
pub const PENDING: &str = "AWSPENDING";

/// The version that was current before. Secrets Manager moves this label by itself.
pub const PREVIOUS: &str = "AWSPREVIOUS";
