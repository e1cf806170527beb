//! The connections to AWS that a change of a password takes.

use crate::ground::{Ground, SETTLED, api, moto};
use secretlink_e2e::{Gateway, eventually, unique};

#[test]
fn a_change_takes_three_calls_and_two_connections_of_which_none_stays() {
    let gateway = Gateway::to(moto(), &["localhost"]);
    let ground = Ground::with(|cluster| {
        cluster
            .conf(&format!("secretlink.endpoint_url = 'https://localhost:{}'", gateway.port()))
            .conf(&format!("secretlink.ca_bundle = '{}'", gateway.ca().display()))
    });
    let role = ground.synced_role("connections");
    let mut session = ground.session();
    // The relay, which tells other tests when the worker has looked, is not in the way here.
    eventually("the worker has looked", SETTLED, || match gateway.requests_with(&role.secret).len() {
        5.. => Ok(()),
        few => Err(few.to_string()),
    });
    let all_closed = || match gateway.sessions() {
        (count, 0) => Ok(count),
        (_, open) => Err(format!("{open} are open")),
    };
    // The worker may look at the role at any moment, with calls and connections of its own. It does not do
    // so each time: of ten changes, three are to be undisturbed.
    let mut seen = Vec::new();
    while seen.iter().filter(|seen| **seen == (vec![1, 1, 1, 1], 2)).count() < 3 {
        assert!(seen.len() < 10, "describe, get, put, update; connections: {seen:?}");
        let (before, calls) = (
            eventually("nobody is connected", SETTLED, all_closed),
            gateway.requests_with(&role.secret).len(),
        );
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        let requests = gateway.requests_with(&role.secret);
        let operations: Vec<_> =
            ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]
                .map(|name| requests[calls..].iter().filter(|request| request.contains(name)).count())
                .into();
        // The first two at the same time, on a connection each.
        let after = eventually("every connection has ended", SETTLED, all_closed);
        seen.push((operations, after - before));
        role.assert_password(&password);
    }
    // Nor after one that is rolled back, or refused.
    for end in ["ROLLBACK", "COMMIT"] {
        let (sql, _) = role.alter();
        let fail = if end == "COMMIT" { "ALTER ROLE nobody_of_this_name RENAME TO x" } else { "SELECT 1" };
        let _ = session.client.batch_execute(&format!("BEGIN; {sql}; {fail}; {end}"));
        let _ = session.client.batch_execute("ROLLBACK");
        eventually("every connection has ended", SETTLED, all_closed);
    }
    // A secret that is to be made: looked for by the function, and again when it is made.
    let (name, secret) = (unique("made").replace('-', "_"), unique("made"));
    let before = eventually("nobody is connected", SETTLED, all_closed);
    session.run(&format!("SELECT create_role_with_secret('{name}', '{secret}')"));
    let after = eventually("every connection has ended", SETTLED, all_closed);
    assert!(after - before <= 3, "{} connections", after - before);
    assert!(api().get_secret_value(&secret).unwrap().contains(&name));
}
