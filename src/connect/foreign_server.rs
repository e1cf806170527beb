//! Foreign servers in place of connection strings, and their options.
//!
//! Source: PostgreSQL documentation, dblink_connect; contrib/dblink/dblink.c, get_connect_string and
//! dblink_fdw_validator.

use secretlink_aws::{SecretId, SettingsOverrides};
use secretlink_remote::conninfo::{ConnInfoError, OptionOf, Options, closest_match, foreign_options};
use std::cell::Cell;

use crate::backend::catalog::changes;
use crate::backend::catalog::foreign_servers::{ForeignOption, ForeignServer, RowVersion};
use crate::backend::process::user;
use crate::backend::text::ServerText;
use crate::connect::credential::{Credential, IamToken};
use crate::connect::error::ConnectionError;
use crate::connect::iam::check_iam_host;

/// The option of a server or user mapping that names its secret.
const SECRET_ID: &str = "secret_id";

/// The options of a server that say where and as whom its secrets are read.
const REGION: &str = "region";
const ROLE_ARN: &str = "role_arn";
const EXTERNAL_ID: &str = "external_id";

/// The options of a server to log in with IAM tokens: whether, and what AWS calls the host.
const IAM_AUTH: &str = "iam_auth";
const IAM_HOST: &str = "iam_host";

/// Options that only superusers set: who sets them decides which secret is read or as whom a token is signed, and
/// the server's owner where that goes.
const OF_SUPERUSERS: [&str; 6] = [SECRET_ID, REGION, ROLE_ARN, EXTERNAL_ID, IAM_AUTH, IAM_HOST];

/// The option of a server or user mapping to log in with the keys that the client logged in with.
const PASS_THROUGH: &str = "use_scram_passthrough";

/// Keywords of libpq that are newer than the server it came with change nothing in what we understand.
const ANY_LIBPQ: u16 = u16::MAX;

/// The libpq that comes with this server.
const THIS_LIBPQ: u16 = pgrx::pg_sys::PG_MAJORVERSION_NUM as u16;

/// What a foreign server and a user mapping say.
pub(crate) struct ServerLogin {
    /// The connection keywords.
    pub options: Options,
    /// What to log in with. Only servers of our own wrapper have a secret.
    pub credential: Credential,
    /// The object that said it.
    pub by: ServerUse,
}

/// A server as one role uses it.
pub(crate) struct ServerUse {
    id: pgrx::pg_sys::Oid,
    user: pgrx::pg_sys::Oid,
    name: String,
    is_ours: bool,
    definition: Definition,
    /// When that was read, as [`changes`] counts.
    read_at: Cell<u64>,
}

/// What server and mapping said, to tell whether they say something else now. It has no password in it.
#[derive(PartialEq, Eq)]
struct Definition {
    server: Vec<ForeignOption>,
    mapping: Option<RowVersion>,
    secret_id: Option<String>,
}

/// What the server of that name says to the current user, if there is one. Raises ERROR if he has no
/// mapping, unless the server has a secret, and if he has not USAGE.
///
/// # Errors
/// If a stored value is one that no connection keyword can have, or the mapping has a secret that is
/// not for this server.
pub(crate) fn find(name: ServerText) -> Result<Option<ServerLogin>, ConnectionError> {
    let read_at = changes::count();
    ForeignServer::find(name).map(|server| read(&server, user::current(), read_at)).transpose()
}

impl ServerUse {
    /// The server's name when this was read.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What server and mapping say now. Raises ERROR as [`find`] does.
    ///
    /// # Errors
    /// If the server is gone, and as [`find`].
    pub(crate) fn ask_again(&self) -> Result<ServerLogin, ConnectionError> {
        let read_at = changes::count();
        let server =
            ForeignServer::by_id(self.id).ok_or_else(|| ConnectionError::ServerGone(self.name.clone()))?;
        read(&server, self.user, read_at)
    }

    /// Whether there is reason to ask again. Servers of other wrappers do not act on connections that
    /// are open: so it is with contrib dblink.
    pub(crate) fn may_have_changed(&self) -> bool {
        self.is_ours && self.read_at.get() != changes::count()
    }

    /// What server and mapping say now, if that is something else. Raises ERROR as [`find`] does.
    ///
    /// # Errors
    /// As [`ServerUse::ask_again`].
    pub(crate) fn ask_if_changed(&self) -> Result<Option<ServerLogin>, ConnectionError> {
        let said = self.ask_again()?;
        if said.by.definition != self.definition {
            return Ok(Some(said));
        }
        self.read_at.set(said.by.read_at.get());
        Ok(None)
    }
}

fn read(
    server: &ForeignServer,
    user: pgrx::pg_sys::Oid,
    read_at: u64,
) -> Result<ServerLogin, ConnectionError> {
    let is_ours = server.is_ours();
    let of_server = value(server.options(), SECRET_ID).filter(|_| is_ours);
    // The mapping before USAGE, as in contrib dblink: a role that has neither is told of the mapping.
    let mapping = match of_server.is_some() && !server.has_user_mapping(user) {
        true => None,
        false => Some(server.user_mapping(user)),
    };
    server.check_usage(user);

    let (mapping, version) = mapping.map_or_else(Default::default, |m| (m.options, Some(m.version)));
    let secret_id = match value(&mapping, SECRET_ID).filter(|_| is_ours) {
        // The owner of the server may set its host, and see the password there.
        Some(_) if of_server.is_none() && !server.belongs_to_superuser() => {
            return Err(ConnectionError::SecretNotForServer { server: server.name() });
        }
        of_mapping => of_mapping.or(of_server).map(str::to_owned),
    };
    let options = keywords(server.options(), &mapping).map_err(ConnectionError::ConnectionString)?;
    let iam_auth = value(server.options(), IAM_AUTH).filter(|_| is_ours).and_then(boolean) == Some(true);
    let iam_host = value(server.options(), IAM_HOST).filter(|_| is_ours).map(str::to_owned);
    let overrides = overrides(server.options());
    Ok(ServerLogin {
        credential: match secret_id.clone() {
            Some(id) => Credential::Secret { id, overrides, iam_host },
            // A mapping with a password of its own does without a token.
            None if iam_auth && !options.has_credentials() => {
                Credential::IamToken(IamToken { iam_host, region: None, overrides })
            }
            None => Credential::Given,
        },
        options,
        by: ServerUse {
            id: server.id(),
            user,
            name: server.name(),
            is_ours,
            definition: Definition { server: server.options().to_vec(), mapping: version, secret_id },
            read_at: Cell::new(read_at),
        },
    })
}

fn overrides(server: &[ForeignOption]) -> SettingsOverrides {
    let text = |name| value(server, name).map(str::to_owned);
    SettingsOverrides { region: text(REGION), role_arn: text(ROLE_ARN), external_id: text(EXTERNAL_ID) }
}

/// The connection keywords among the options of a server and a user mapping.
fn keywords(server: &[ForeignOption], mapping: &[ForeignOption]) -> Result<Options, ConnInfoError> {
    let mut options = Options::default();
    // First, so that a server which sets require_auth otherwise is found out.
    let asked = value(mapping, PASS_THROUGH).or_else(|| value(server, PASS_THROUGH));
    if asked.and_then(boolean) == Some(true)
        && let Some(keys) = user::scram_keys()
    {
        options.set_scram_keys(&keys);
        options.set("require_auth", "scram-sha-256")?;
    }
    for (of, stored) in [(OptionOf::Server, server), (OptionOf::UserMapping, mapping)] {
        for option in stored {
            if foreign_options(of, ANY_LIBPQ).any(|keyword| keyword == option.name) {
                options.set(&option.name, &option.value)?;
            }
        }
    }
    Ok(options)
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

fn check_pass_through(option: &ForeignOption) -> Result<(), ConnectionError> {
    match option.name == PASS_THROUGH && boolean(&option.value).is_none() {
        true => Err(ConnectionError::NotBoolean(PASS_THROUGH)),
        false => Ok(()),
    }
}

/// What contrib's `dblink_fdw_validator` says about options of a server, of a user mapping, or of
/// something that has none.
///
/// # Errors
/// On the first that is not allowed.
pub(crate) fn validate_for_dblink(
    options: &[ForeignOption],
    of: Option<OptionOf>,
) -> Result<(), ConnectionError> {
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
        return Err(ConnectionError::InvalidOption { name: name.to_owned(), hint });
    }
    Ok(())
}

/// What `secretlink_fdw_validator` says.
///
/// # Errors
/// On an option that is not allowed, a value that makes no sense, and an option for superusers that
/// somebody else sets, or keeps while he changes others.
pub(crate) fn validate(options: &[ForeignOption], of: Option<OptionOf>) -> Result<(), ConnectionError> {
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
            return Err(ConnectionError::InvalidOption { name: name.to_owned(), hint });
        }
        if let Some(name) = OF_SUPERUSERS.into_iter().find(|&of_superusers| of_superusers == name)
            && !user::is_superuser()
        {
            return Err(ConnectionError::OptionForSuperusers(name));
        }
        match name {
            SECRET_ID => drop(SecretId::parse(&option.value)?),
            // Checked together, below.
            REGION | ROLE_ARN | EXTERNAL_ID => {}
            IAM_AUTH if boolean(&option.value).is_none() => {
                return Err(ConnectionError::NotBoolean(IAM_AUTH));
            }
            IAM_AUTH => {}
            IAM_HOST => check_iam_host(&option.value)?,
            PASS_THROUGH => check_pass_through(option)?,
            keyword => keywords.set(keyword, &option.value)?,
        }
    }
    let uses_tokens = value(options, IAM_AUTH).and_then(boolean) == Some(true);
    if uses_tokens && value(options, SECRET_ID).is_some() {
        return Err(ConnectionError::SecretAndToken);
    }
    overrides(options)
        .validate()
        .map_err(|(name, problem)| ConnectionError::InvalidOptionValue { name, problem })?;
    Ok(keywords.check_values()?)
}

fn valid_options(of: Option<OptionOf>) -> Vec<&'static str> {
    let Some(of) = of else { return Vec::new() };
    let of_secret: &[&str] = match of {
        OptionOf::Server => &OF_SUPERUSERS,
        OptionOf::UserMapping => &[SECRET_ID],
    };
    let pass_through = has_pass_through(Some(of)).then_some(PASS_THROUGH);
    foreign_options(of, ANY_LIBPQ).chain(of_secret.iter().copied()).chain(pass_through).collect()
}

fn meant(name: &str, valid: &[&str]) -> Option<String> {
    let meant = closest_match(name, valid.iter().copied(), 4)?;
    Some(format!("Perhaps you meant the option \"{meant}\"."))
}
