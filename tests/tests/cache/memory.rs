//! Values are nowhere readable in shared memory.

use crate::ground::{Ground, connect, holds, login, remote, secret};
use secretlink_e2e::{MemoryHit, Process, backend_pid, random_password};

/// What all processes share: an anonymous mapping, which Linux shows as a deleted file.
fn is_shared(hit: &MemoryHit) -> bool {
    hit.mapping.contains("/dev/zero") || hit.mapping.contains("(deleted)")
}

#[test]
fn values_are_nowhere_readable_but_where_they_are_used() {
    let ground = Ground::start();
    let remote = remote(|remote| remote);
    let marker = random_password();
    remote.create_login("app", &marker, "scram-sha-256");
    let name = secret(&login("app", &marker));
    let mut bystander = ground.session();
    let processes = [Process::new(ground.local.postmaster_pid()), backend_pid(&mut bystander)];
    {
        let mut session = ground.session();
        holds(&mut session, &name, &login("app", &marker));
        session.batch_execute(&connect(&name, remote.port())).unwrap();
        holds(&mut session, &name, &login("app", &marker));
    }
    for process in processes {
        let names = process.find_in_memory(name.as_bytes());
        assert!(names.iter().any(is_shared), "the search sees the cache: {names:?}");
        assert_eq!(process.find_in_memory(marker.as_bytes()), [], "{process:?}");
    }
    // The bystander can use it even so.
    holds(&mut bystander, &name, &login("app", &marker));
    assert_eq!(ground.asked(&name), 1);
    // What is forgotten is gone, with its name.
    bystander.batch_execute("SELECT forget_all_secrets()").unwrap();
    let postmaster = processes[0];
    let names = postmaster.find_in_memory(name.as_bytes());
    assert!(!names.iter().any(is_shared), "{names:?}");
}
