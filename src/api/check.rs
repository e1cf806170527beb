//! `secretlink_check`: what works, and what does not.

use pgrx::prelude::*;
use secretlink_aws::Check;

use super::error::ArgumentError;
use super::{optional, options_with, port_number, required};
use crate::backend::process::report::OrRaise;
use crate::backend::text::Text;
use crate::error::Error;

type Rows = TableIterator<
    'static,
    (name!(item, &'static str), name!(ok, Option<bool>), name!(detail, Text), name!(hint, Option<Text>)),
>;

/// What a call to AWS needs, and what password sync needs.
#[pg_extern(name = "secretlink_check", volatile, parallel_restricted)]
fn check() -> TableIterator<
    'static,
    (name!(item, &'static str), name!(ok, Option<bool>), name!(detail, Text), name!(hint, Option<Text>)),
> {
    rows(crate::check::check(None).or_raise())
}

/// What [`check`] looks at, and whether this secret can be read and written. Nothing is written.
#[pg_extern(name = "secretlink_check", volatile, parallel_restricted)]
fn check_secret(
    secret_id: Option<Text>,
) -> TableIterator<
    'static,
    (name!(item, &'static str), name!(ok, Option<bool>), name!(detail, Text), name!(hint, Option<Text>)),
> {
    let secret_id = required(secret_id, "secret_id").or_raise();
    rows(crate::check::check(Some(secret_id)).or_raise())
}

/// What a login with an IAM token needs. No token leaves this server.
#[pg_extern(name = "secretlink_check", volatile, parallel_restricted)]
fn check_iam_login(
    host: Option<Text>,
    username: Option<Text>,
    port: default!(Option<i32>, "5432"),
    region: default!(Option<Text>, "NULL"),
    options: default!(Option<Text>, "NULL"),
) -> TableIterator<
    'static,
    (name!(item, &'static str), name!(ok, Option<bool>), name!(detail, Text), name!(hint, Option<Text>)),
> {
    let checks = || -> Result<Vec<Check>, Error> {
        let host = required(host, "host")?;
        let user = required(username, "username")?;
        let port = port_number(port.ok_or(ArgumentError::Null("port"))?)?;
        let given = [
            ("host", "host", Some(host)),
            ("user", "username", Some(user)),
            ("port", "port", Some(port.to_string())),
        ];
        crate::check::check_iam_login(options_with(options, given)?, optional(region, "region")?)
    };
    rows(checks().or_raise())
}

fn rows(checks: Vec<Check>) -> Rows {
    TableIterator::new(
        checks.into_iter().map(|check| (check.item, check.ok, Text(check.detail), check.hint.map(Text))),
    )
}
