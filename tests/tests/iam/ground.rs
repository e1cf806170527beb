//! A server with a cache, and a database that takes tokens.

use postgres::Client;
use secretlink_e2e::{Cluster, ClusterBuilder};

/// The server under test. Nobody needs Secrets Manager: there is none.
pub fn local(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Cluster {
    adjust(Cluster::local_with_endpoint("http://127.0.0.1:9").preload(true)).start()
}

/// The one value of a query, as text.
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    let rows = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let value = rows.iter().find_map(|row| match row {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.unwrap_or_default()
}
