//! What a login is made with.

use secretlink_aws::SettingsOverrides;

/// What proves to a remote server who logs in.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// What the options give themselves: a password, a certificate, or nothing.
    Given,
    /// What a secret says, for all that the options leave open.
    Secret {
        /// The secret, as it was named.
        id: String,
        /// Where and as whom the secret is read, where the settings do not say that.
        overrides: SettingsOverrides,
        /// What else to know if the secret asks for a token in place of a password.
        iam_host: Option<String>,
    },
    /// An IAM token for the user and the host that the options give.
    IamToken(IamToken),
}

/// How an IAM token is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct IamToken {
    /// The name that AWS gave the database, if the host is another name of it; and its port, if that is
    /// another one.
    pub iam_host: Option<String>,
    /// The region to sign for, where the host name does not say it.
    pub region: Option<String>,
    /// Where and as whom the token is signed, where the settings do not say that.
    pub overrides: SettingsOverrides,
}
