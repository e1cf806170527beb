//! A thousand changes in a row.

use crate::ground::ground;
use std::thread;
use std::time::Instant;

const CHANGES: usize = 1000;
const ROLES: usize = 4;

#[test]
fn after_each_of_a_thousand_changes_the_fetched_secret_logs_in() {
    let ground = ground();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..ROLES {
            scope.spawn(|| {
                let role = ground.synced_role("thousand");
                let mut session = ground.session();
                for change in 0..CHANGES / ROLES {
                    let (sql, password) = role.alter();
                    session.run_quietly(&sql);
                    assert_eq!(role.password(), password, "change {change} of {}", role.name);
                    role.try_log_in().unwrap_or_else(|e| panic!("change {change} of {}: {e}", role.name));
                }
            });
        }
    });
    println!("{CHANGES} changes of {ROLES} roles, each with a login: {:?}", began.elapsed());
}
