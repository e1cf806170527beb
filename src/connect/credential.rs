//! What a login is made with.

use secretlink_aws::Identity;

/// As whom to log in, and how that is proven.
#[derive(Clone, Debug)]
pub enum Credential {
    /// What the options give themselves: a password, a certificate, or nothing.
    Given,
    /// What a secret says, for all that the options leave open.
    Secret {
        /// The secret, as it was named.
        id: String,
        /// Where and as whom it is read, where the settings do not say that.
        identity: Identity,
    },
}
