//! `secretlink_check`: what works, and what does not.

use pgrx::prelude::*;
use secretlink_aws::Check;

use super::required;
use crate::backend::process::report::OrRaise;
use crate::backend::text::Text;

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

/// The same, and whether this secret can be read and written. Nothing is written.
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

fn rows(checks: Vec<Check>) -> Rows {
    TableIterator::new(
        checks.into_iter().map(|check| (check.item, check.ok, Text(check.detail), check.hint.map(Text))),
    )
}
