//! Where and as whom to connect with a secret.

use secretlink_aws::{DatabaseSecret, SecretValue};
use secretlink_remote::conninfo::{ConnInfo, Environment, Options};

use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::error::Error;
use crate::secrets::cache::Sealed;

/// Who says what is not left to the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The arguments of `connect_with_secret`, whose caller may decide everything.
    Arguments,
    /// A foreign server and a user mapping. Anybody with USAGE on the server can make himself a mapping,
    /// so it may not decide as whom the secret's password is used.
    Server,
}

impl Given {
    /// What to do about a field that the secret does not have.
    fn instead(self, field: &str) -> &'static str {
        match (self, field) {
            (Given::Arguments, "host") => "pass remote_host",
            (Given::Arguments, _) => "pass remote_user",
            (Given::Server, "host") => "set it as an option of the foreign server",
            (Given::Server, _) => "set user as an option of the user mapping",
        }
    }
}

/// Opens the secret and fills in from it what is not given.
///
/// All on the I/O thread: this one never touches the password. This one takes signals, and the frame
/// that a signal leaves on the stack, where nobody wipes it, has the CPU's vector registers in it and
/// with them what was copied last.
///
/// # Errors
/// If the secret leaves open what must be known, or something of it all makes no sense.
pub fn open(secret_id: &str, sealed: Sealed, options: Options, given: Given) -> Result<ConnInfo, Error> {
    let (secret_id, environment) = (secret_id.to_owned(), Environment::from_process());
    io::run(WaitEvent::SecretsManager, async move {
        complete(options, &sealed.open()?, secret_id, given, &environment)
    })?
}

fn complete(
    mut options: Options,
    value: &SecretValue,
    secret_id: String,
    given: Given,
    environment: &Environment,
) -> Result<ConnInfo, Error> {
    let secret = DatabaseSecret::from_value(value)?;
    let own_credentials = options.has_credentials();
    if given == Given::Server
        && !own_credentials
        && let Some(username) = &secret.username
        && options.has("user")
        && options.get("user") != Some(username)
    {
        return Err(Error::UserFixedBySecret { secret: secret_id });
    }
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
            options.set(keyword, &value)?;
        }
    }
    let missing =
        |field| Error::FieldMissing { secret: secret_id.clone(), field, instead: given.instead(field) };
    // libpq would fall back on a local socket and on the server's operating system user: neither is
    // what somebody means who connects with a secret.
    if !options.has("host") && !options.has("hostaddr") {
        return Err(missing("host"));
    }
    // The address belongs to the host: one of the server's environment is that of another.
    if !options.has("hostaddr") {
        options.set("hostaddr", "")?;
    }
    if !options.has("user") {
        return Err(missing("username"));
    }
    // Encrypted unless told otherwise. With sslrootcert=system the default is stricter still.
    if options.get("sslmode").is_none() && options.get("sslrootcert") != Some("system") {
        options.set("sslmode", "require")?;
    }
    if !own_credentials {
        options.set_password(secret.password);
    }
    Ok(options.resolve(environment)?)
}
