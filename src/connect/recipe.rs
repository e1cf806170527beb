//! How a session was made, to make it again.

use secretlink_remote::conninfo::Options;

use crate::connect::foreign_server::ServerUse;
use crate::secrets::watch::UsedSecret;
use crate::session::RemoteSession;

/// A new session, and how it was made.
pub(crate) struct Made {
    /// The session.
    pub session: RemoteSession,
    /// How the session was made.
    pub recipe: Recipe,
}

/// How a session was made. Never what a secret said: that is read again each time.
pub(crate) struct Recipe {
    /// What to go by if it is lost. A connection string is not kept.
    pub way: Option<Way>,
    /// The secret that it logged in with.
    pub secret: Option<UsedSecret>,
}

/// What to go by to make a session.
pub(crate) enum Way {
    /// `connect_with_secret`: a secret, and what else was given.
    Secret {
        /// The secret, as it was named.
        id: String,
        /// The options that the caller gave.
        options: Options,
    },
    /// `connect_with_iam`: where to log in with a token.
    Iam {
        /// The options that the caller gave.
        options: Options,
        /// The region that the caller gave.
        region: Option<String>,
    },
    /// A foreign server, as one role uses it.
    Server(ServerUse),
}

impl Recipe {
    /// The name of the secret that the session logged in with, if any.
    pub(crate) fn secret_id(&self) -> Option<&str> {
        self.secret.as_ref().map(UsedSecret::id)
    }

    /// The secret that the session logged in with, if that has another version now.
    pub(crate) fn new_secret(&self) -> Option<&UsedSecret> {
        self.secret.as_ref().filter(|secret| secret.has_changed())
    }
}
