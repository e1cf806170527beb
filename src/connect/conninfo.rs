//! Where and as whom to connect with one version of a secret.

use secretlink_aws::{DatabaseSecret, SecretValue};
use secretlink_remote::conninfo::{ConnInfo, ConnInfoError, Environment, Options, SslMode};

use crate::connect::error::ConnectionError;
use crate::secrets::cache::Sealed;

/// Who gave the options, and so decides what is not left to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenBy {
    /// A connection string.
    ConnectionString,
    /// The arguments of `connect_with_secret`, whose caller may decide everything.
    Arguments,
    /// A foreign server and a user mapping. Anybody with USAGE on the server can make himself a mapping,
    /// so it may not decide as whom the secret's password is used.
    Server,
}

impl GivenBy {
    /// What to do about a field that the secret does not have.
    fn instead(self, field: &str) -> &'static str {
        match (self, field) {
            (GivenBy::Server, "host") => "set it as an option of the foreign server",
            (GivenBy::Server, _) => "set user as an option of the user mapping",
            (_, "host") => "pass remote_host",
            (_, _) => "pass remote_user",
        }
    }

    /// What is wrong with options is reported as contrib dblink reports it of a connection string, but for
    /// arguments.
    pub(crate) fn refuse(self, error: ConnInfoError) -> ConnectionError {
        match self {
            GivenBy::Arguments => ConnectionError::Options(error),
            GivenBy::ConnectionString | GivenBy::Server => ConnectionError::ConnectionString(error),
        }
    }
}

/// A version of a secret that a login may be made with, for what the options leave open.
pub(crate) struct Candidate {
    /// The secret, as it was named.
    pub id: String,
    /// The version.
    pub sealed: Sealed,
}

impl Candidate {
    /// Fills in what is not given.
    ///
    /// To be called on the I/O thread, so that the backend's own thread never touches the password. That
    /// one takes signals, and the frame that a signal leaves on the stack, where nobody wipes it, has the
    /// CPU's vector registers in it and with them what was copied last.
    ///
    /// # Errors
    /// If the secret leaves open what must be known, or something of it all makes no sense.
    pub(crate) fn into_conninfo(
        self,
        options: Options,
        given_by: GivenBy,
        environment: &Environment,
    ) -> Result<Prepared, ConnectionError> {
        complete(options, &self.sealed.open()?, self.id, given_by, environment)
    }
}

/// Where and as whom to connect.
pub(crate) enum Prepared {
    /// Everything is known.
    Complete {
        /// Where and as whom to connect.
        info: Box<ConnInfo>,
        /// The secret and the user that it is for, if the connection is for another one.
        other_user: Option<(String, String)>,
    },
    /// The secret asks for an IAM token in place of a password. The rest is in these options.
    NeedsToken(Options),
}

impl From<ConnInfo> for Prepared {
    fn from(info: ConnInfo) -> Prepared {
        Prepared::Complete { info: Box::new(info), other_user: None }
    }
}

fn complete(
    mut options: Options,
    value: &SecretValue,
    secret_id: String,
    given_by: GivenBy,
    environment: &Environment,
) -> Result<Prepared, ConnectionError> {
    let refused = |error| given_by.refuse(error);
    let secret = DatabaseSecret::from_value(value)?;
    let own_credentials = options.has_credentials();
    if given_by == GivenBy::Server
        && !own_credentials
        && let Some(username) = &secret.username
        && options.has("user")
        && options.get("user") != Some(username)
    {
        return Err(ConnectionError::UserFixedBySecret { secret: secret_id });
    }
    let is_other =
        |username: &&String| !own_credentials && options.get("user").is_some_and(|user| user != *username);
    let other_user =
        secret.username.as_ref().filter(is_other).map(|username| (secret_id.clone(), username.clone()));
    let from_secret = [
        ("host", secret.host),
        ("port", secret.port.map(|p| p.to_string())),
        ("dbname", secret.dbname),
        ("user", secret.username),
    ];
    for (keyword, value) in from_secret {
        if let Some(value) = value
            && !options.has(keyword)
        {
            options.set(keyword, &value).map_err(refused)?;
        }
    }
    let missing = |field| ConnectionError::FieldMissing {
        secret: secret_id.clone(),
        field,
        instead: given_by.instead(field),
    };
    // libpq would fall back on a local socket and on the server's operating system user: neither is
    // what somebody means who connects with a secret.
    if !options.has("host") && !options.has("hostaddr") {
        return Err(missing("host"));
    }
    // The address belongs to the host: one of the server's environment is that of another.
    if !options.has("hostaddr") {
        options.set("hostaddr", "").map_err(refused)?;
    }
    if !options.has("user") {
        return Err(missing("username"));
    }
    if secret.iam_auth && !own_credentials {
        return Ok(Prepared::NeedsToken(options));
    }
    // Encrypted unless told otherwise. With sslrootcert=system the default is stricter still.
    if options.get("sslmode").is_none() && options.get("sslrootcert") != Some("system") {
        let mode = environment.min_sslmode().max(SslMode::Require);
        options.set("sslmode", mode.name()).map_err(refused)?;
    }
    if !own_credentials {
        options.set_password(secret.password);
    }
    let info = Box::new(options.resolve(environment).map_err(refused)?);
    Ok(Prepared::Complete { info, other_user })
}
