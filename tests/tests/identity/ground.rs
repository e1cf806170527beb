//! What these tests share.

use postgres::Client;
use secretlink_e2e::{Moto, db_error};

/// The Secrets Manager and STS of this process.
pub fn moto() -> &'static Moto {
    Moto::shared()
}

pub fn text(client: &mut Client, sql: &str) -> String {
    client.query_one(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// That `sql` is refused with this SQLSTATE and message. Returns everything that was said.
#[track_caller]
pub fn refused(client: &mut Client, sql: &str, sqlstate: &str, message: &str) -> String {
    let error = db_error(client.simple_query(sql));
    assert_eq!((error.code().code(), error.message()), (sqlstate, message), "{sql}: {error:?}");
    format!("{error:?}")
}
