//! Which database a token is signed for, and for which region.

use secretlink_aws::{
    AwsError, SettingsOverrides, TokenSubject, check_token_region, dsql_cluster_host, is_aws_database_host,
    is_dsql_cluster_id, region_of_host,
};
use secretlink_remote::aliases::aliases;
use secretlink_remote::conninfo::{Host, HostAddress};
use std::net::IpAddr;

use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::connect::credential::IamToken;
use crate::secrets::cache::TokenRequest;
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;

/// What is known of a database that somebody logs in to with a token.
#[derive(Clone, Debug)]
pub(crate) struct TokenHost {
    /// The name that AWS gave it, or whatever other name is to be signed.
    pub name: String,
    /// The region in the signature.
    pub region: String,
}

impl TokenHost {
    /// The database that somebody connects to as `host`, and its port. `iam_host` says what AWS calls it, and
    /// perhaps its port: behind a tunnel both are others. Otherwise a name that is not AWS's own, and is looked
    /// up, may be an alias of one: the first in the chain that is, is the database.
    ///
    /// # Errors
    /// As [`TokenHost::new`].
    pub(crate) fn of_connection(host: &Host, token: &IamToken) -> Result<(TokenHost, u16), SecretsError> {
        let with_region = |name: &str| TokenHost::new(name, token.region.as_deref(), &token.overrides);
        if let Some(own) = &token.iam_host {
            let (name, port) = split_port(own).unwrap_or((own, host.port));
            return Ok((with_region(name)?, port));
        }
        let is_looked_up =
            matches!(host.address, HostAddress::Name(_)) && host.name.parse::<IpAddr>().is_err();
        let alias = match is_looked_up && host.name.contains('.') && !is_aws_database_host(&host.name) {
            true => own_name_of(&host.name)?,
            false => None,
        };
        Ok((with_region(alias.as_ref().unwrap_or(&host.name))?, host.port))
    }

    /// Finds out the region: the host name says it, else `region`, else the settings. A bare identifier of an
    /// Aurora DSQL cluster becomes its host name.
    ///
    /// # Errors
    /// If `region` cannot be one, a setting was refused, or nothing names a region.
    pub(crate) fn new(
        host: &str,
        region: Option<&str>,
        overrides: &SettingsOverrides,
    ) -> Result<TokenHost, SecretsError> {
        region.map_or(Ok(()), check_token_region).map_err(AwsError::from)?;
        // As a resolver takes it, a name may end in a dot. AWS's own do not.
        let host = host.strip_suffix('.').unwrap_or(host);
        let region = match region_of_host(host).or_else(|| region.map(str::to_owned)) {
            Some(region) => region,
            None => region_of_settings(host, overrides)?,
        };
        let name = match is_dsql_cluster_id(host) {
            true => dsql_cluster_host(host, &region).unwrap_or_default(),
            false => host.to_owned(),
        };
        Ok(TokenHost { name, region })
    }

    /// A request for the token of one of its users, signed as whom `overrides` says and otherwise the settings.
    ///
    /// # Errors
    /// If host or user cannot be in a token, or a setting was refused.
    pub(crate) fn token_for(
        &self,
        user: &str,
        port: u16,
        overrides: &SettingsOverrides,
    ) -> Result<TokenRequest, SecretsError> {
        let login = TokenSubject::new(&self.name, port, user).map_err(AwsError::from)?;
        TokenRequest::new(login, self.region.clone(), overrides)
    }
}

/// The first name that AWS gave among those that `host` is an alias of.
fn own_name_of(host: &str) -> Result<Option<String>, SecretsError> {
    let host = host.strip_suffix('.').unwrap_or(host).to_owned();
    let aliases = io::run(WaitEvent::Connect, async move { aliases(&host).await })?;
    Ok(aliases.into_iter().find(|name| is_aws_database_host(name)))
}

/// Host and port of `host:port`, but not of an address that has colons itself.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_whole = host.ends_with(']') || !host.contains(':');
    is_whole.then_some(())?;
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
}

/// Checks the option `iam_host` of a foreign server.
///
/// # Errors
/// If it can be no host.
pub(crate) fn check_iam_host(text: &str) -> Result<(), SecretsError> {
    let (host, port) = split_port(text).unwrap_or((text, 1));
    TokenSubject::new(host, port, "u").map_err(AwsError::from)?;
    Ok(())
}

fn region_of_settings(host: &str, overrides: &SettingsOverrides) -> Result<String, SecretsError> {
    let settings = settings::aws::current()?.with(overrides);
    if let Some(region) = &settings.region {
        return Ok(region.clone());
    }
    let (client, host) = (client::with(settings), host.to_owned());
    let region = async move { client.region_for_token(&host).await };
    Ok(io::run(WaitEvent::SecretsManager, region)??)
}
