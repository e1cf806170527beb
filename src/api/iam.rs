//! Logging in with IAM tokens.

use pgrx::prelude::*;
use secretlink_aws::SettingsOverrides;
use secretlink_core::Secret;

use super::error::ArgumentError;
use super::{optional, port_number, required};
use crate::backend::process::report::OrRaise;
use crate::backend::text::Text;
use crate::connect::iam::TokenHost;
use crate::error::Error;
use crate::secrets::cache::Wanted;

/// A token for a user of a database of RDS, Aurora or Aurora DSQL.
#[pg_extern(volatile, parallel_restricted)]
fn iam_auth_token(
    host: Option<Text>,
    username: Option<Text>,
    port: default!(Option<i32>, "5432"),
    region: default!(Option<Text>, "NULL"),
) -> Text {
    let token = || -> Result<Secret, Error> {
        let host = required(host, "host")?;
        let user = required(username, "username")?;
        let port = port_number(port.ok_or(ArgumentError::Null("port"))?)?;
        let region = optional(region, "region")?;
        let overrides = SettingsOverrides::default();
        let host = TokenHost::new(&host, region.as_deref(), &overrides)?;
        Ok(host.token_for(&user, port, &overrides)?.get(&Wanted::Fresh)?.open_token()?)
    };
    Text(token().or_raise().expose_str().unwrap_or_default().to_owned())
}
