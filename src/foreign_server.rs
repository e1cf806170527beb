//! Foreign servers in place of connection strings, and their options.
//!
//! Source: PostgreSQL documentation, dblink_connect; contrib/dblink/dblink.c, get_connect_string and
//! dblink_fdw_validator.

use secretlink_aws::SecretId;
use secretlink_remote::conninfo::{ConnInfoError, OptionOf, Options, closest_match, foreign_options};

use crate::backend::foreign_server::{ForeignOption, ForeignServer};
use crate::backend::role;
use crate::backend::text::ServerText;
use crate::error::Error;

/// The option of a server that names its secret.
const SECRET_ID: &str = "secret_id";

/// The option of a server or user mapping to log in with the keys that the client logged in with.
const PASS_THROUGH: &str = "use_scram_passthrough";

/// Keywords of libpq that are newer than the server it came with change nothing in what we understand.
const ANY_LIBPQ: u16 = u16::MAX;

/// The libpq that comes with this server.
const THIS_LIBPQ: u16 = pgrx::pg_sys::PG_MAJORVERSION_NUM as u16;

/// What a connection string says, or a foreign server named in its place with the user mapping of the
/// current user.
pub struct Destination {
    /// The connection keywords.
    pub options: Options,
    /// The secret that has whatever they leave open. Only servers of our own wrapper have one.
    pub secret_id: Option<String>,
}

/// The server of that name, if there is one. Raises ERROR if the current user has no mapping, unless
/// the server has a secret, and if he has not USAGE.
///
/// # Errors
/// If a stored value is one that no connection keyword can have.
pub fn find(name: ServerText) -> Result<Option<Destination>, ConnInfoError> {
    let Some(server) = ForeignServer::find(name) else { return Ok(None) };
    let secret_id = value(server.options(), SECRET_ID).filter(|_| server.is_ours()).map(str::to_owned);
    // The mapping before USAGE, as in contrib dblink: whoever has neither is told of the mapping.
    let mapping = match secret_id.is_some() && !server.has_user_mapping() {
        true => Vec::new(),
        false => server.user_mapping(),
    };
    server.check_usage();

    let mut options = Options::default();
    // First, so that a server which sets require_auth otherwise is found out.
    let asked = value(&mapping, PASS_THROUGH).or_else(|| value(server.options(), PASS_THROUGH));
    if asked.and_then(boolean) == Some(true)
        && let Some(keys) = role::scram_keys()
    {
        options.set_scram_keys(&keys);
        options.set("require_auth", "scram-sha-256")?;
    }
    for (of, stored) in [(OptionOf::Server, server.options()), (OptionOf::UserMapping, &mapping)] {
        for option in stored {
            if foreign_options(of, ANY_LIBPQ).any(|keyword| keyword == option.name) {
                options.set(&option.name, &option.value)?;
            }
        }
    }
    Ok(Some(Destination { options, secret_id }))
}

fn value<'a>(options: &'a [ForeignOption], name: &str) -> Option<&'a str> {
    options.iter().find(|option| option.name == name).map(|option| option.value.as_str())
}

/// What is accepted for a boolean option (define.c, defGetBoolean).
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" => Some(true),
        "false" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a server can have the client's SCRAM keys, and an option to pass them on.
fn has_pass_through(of: Option<OptionOf>) -> bool {
    THIS_LIBPQ >= 18 && of.is_some()
}

fn check_pass_through(option: &ForeignOption) -> Result<(), Error> {
    match option.name == PASS_THROUGH && boolean(&option.value).is_none() {
        true => Err(Error::NotBoolean(PASS_THROUGH)),
        false => Ok(()),
    }
}

/// What contrib's `dblink_fdw_validator` says about options of a server, of a user mapping, or of
/// something that has none.
///
/// # Errors
/// On the first that is not allowed.
pub fn validate_for_dblink(options: &[ForeignOption], of: Option<OptionOf>) -> Result<(), Error> {
    let valid: Vec<_> = of.into_iter().flat_map(|of| foreign_options(of, THIS_LIBPQ)).collect();
    for option in options {
        let name = option.name.as_str();
        if valid.contains(&name) || (name == PASS_THROUGH && has_pass_through(of)) {
            check_pass_through(option)?;
            continue;
        }
        let hint = match valid.is_empty() {
            true => Some("There are no valid options in this context.".to_owned()),
            // Up to PostgreSQL 15 all of them.
            false if THIS_LIBPQ < 16 => {
                Some(format!("Valid options in this context are: {}", valid.join(", ")))
            }
            false => meant(name, &valid),
        };
        return Err(Error::InvalidOption { name: name.to_owned(), hint });
    }
    Ok(())
}

/// What `secretlink_fdw_validator` says.
///
/// # Errors
/// On an option that is not allowed, a value that makes no sense, and a secret given by somebody who is
/// not a superuser.
pub fn validate(options: &[ForeignOption], of: Option<OptionOf>) -> Result<(), Error> {
    let valid = valid_options(of);
    let mut keywords = Options::default();
    for option in options {
        let name = option.name.as_str();
        if !valid.contains(&name) {
            let elsewhere = |of| valid_options(Some(of)).contains(&name);
            let hint = if valid.is_empty() {
                Some("There are no valid options in this context.".to_owned())
            } else if elsewhere(OptionOf::Server) {
                Some("It is an option of the foreign server.".to_owned())
            } else if elsewhere(OptionOf::UserMapping) {
                Some("It is an option of the user mapping.".to_owned())
            } else {
                meant(name, &valid)
            };
            return Err(Error::InvalidOption { name: name.to_owned(), hint });
        }
        match name {
            // Whoever sets it also decides where the password goes, and could read it there.
            SECRET_ID if !role::is_superuser() => return Err(Error::SecretForSuperusers),
            SECRET_ID => drop(SecretId::parse(&option.value)?),
            PASS_THROUGH => check_pass_through(option)?,
            keyword => keywords.set(keyword, &option.value)?,
        }
    }
    Ok(keywords.check_values()?)
}

fn valid_options(of: Option<OptionOf>) -> Vec<&'static str> {
    let Some(of) = of else { return Vec::new() };
    let secret = (of == OptionOf::Server).then_some(SECRET_ID);
    let pass_through = has_pass_through(Some(of)).then_some(PASS_THROUGH);
    foreign_options(of, ANY_LIBPQ).chain(secret).chain(pass_through).collect()
}

fn meant(name: &str, valid: &[&str]) -> Option<String> {
    let meant = closest_match(name, valid.iter().copied(), 4)?;
    Some(format!("Perhaps you meant the option \"{meant}\"."))
}
