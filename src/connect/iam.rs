//! Which database a token is signed for, and for which region.

use secretlink_aws::{
    Identity, TokenSubject, check_token_region, dsql_cluster_host, is_dsql_cluster_id, region_of_host,
};

use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::secrets::cache::TokenRequest;
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;

/// What is known of a database that somebody logs in to with a token.
#[derive(Clone, Debug)]
pub struct TokenHost {
    /// The name that AWS gave it, or whatever other name is to be signed.
    pub name: String,
    /// The region in the signature.
    pub region: String,
}

impl TokenHost {
    /// Finds out the region: the host name says it, else `region`, else the settings. A bare identifier of an
    /// Aurora DSQL cluster becomes its host name.
    ///
    /// # Errors
    /// If `region` cannot be one, a setting was refused, or nothing names a region.
    pub fn new(host: &str, region: Option<&str>, identity: &Identity) -> Result<TokenHost, SecretsError> {
        region.map_or(Ok(()), check_token_region).map_err(secretlink_aws::AwsError::from)?;
        // As a resolver takes it, a name may end in a dot. AWS's own do not.
        let host = host.strip_suffix('.').unwrap_or(host);
        let region = match region_of_host(host).or_else(|| region.map(str::to_owned)) {
            Some(region) => region,
            None => region_of_settings(host, identity)?,
        };
        let name = match is_dsql_cluster_id(host) {
            true => dsql_cluster_host(host, &region).unwrap_or_default(),
            false => host.to_owned(),
        };
        Ok(TokenHost { name, region })
    }

    /// A request for the token of one of its users, signed as whom `identity` says and otherwise the settings.
    ///
    /// # Errors
    /// If host or user cannot be in a token, or a setting was refused.
    pub fn token_for(
        &self,
        user: &str,
        port: u16,
        identity: &Identity,
    ) -> Result<TokenRequest, SecretsError> {
        let login = TokenSubject::new(&self.name, port, user).map_err(secretlink_aws::AwsError::from)?;
        TokenRequest::new(login, self.region.clone(), identity)
    }
}

fn region_of_settings(host: &str, identity: &Identity) -> Result<String, SecretsError> {
    let settings = settings::aws::current()?.with(identity);
    if let Some(region) = &settings.region {
        return Ok(region.clone());
    }
    let (client, host) = (client::with(settings), host.to_owned());
    let region = async move { client.region_for_token(&host).await };
    Ok(io::run(WaitEvent::SecretsManager, region)??)
}
