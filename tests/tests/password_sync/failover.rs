//! The primary dies in the middle of a change, its standby is promoted, and the old primary comes back.

use crate::crashes::{
    Moment::{self, Arrives, Done},
    at,
};
use crate::ground::{Ground, RECONCILE_INTERVAL, SETTLED, api};
use crate::synced_role::SyncedRole;
use crate::visibility::until_notified;
use secretlink_e2e::{Cluster, Fault, Process, StopMode, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;

/// What the standby has of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standby {
    /// All that was committed.
    Synchronous,
    /// Nothing of it.
    Behind,
}

/// A server that was promoted after the one before it died at `moment` of a change, and that one.
struct Failover {
    ground: Ground,
    old: Cluster,
    name: String,
    secret: String,
    before: String,
    new: String,
}

impl Failover {
    fn at(moment: Moment, standby: Standby) -> Self {
        Self::with_aws_away_until(moment, standby, &Arc::new(AtomicBool::new(true)))
    }

    /// The new primary has no answer from AWS until `is_back`.
    fn with_aws_away_until(moment: Moment, standby: Standby, is_back: &Arc<AtomicBool>) -> Self {
        let mut ground = Ground::with(|cluster| {
            cluster.conf("wal_log_hints = on").conf("full_page_writes = on").conf("wal_keep_size = 256")
        });
        let (name, secret, before) = {
            let role = ground.synced_role("failover");
            // A version of this server is current.
            let (sql, password) = role.alter();
            ground.session().run_quietly(&sql);
            (role.name.clone(), role.secret.clone(), password)
        };
        let mut second = match standby {
            Standby::Synchronous => ground.cluster.synchronous_standby(),
            Standby::Behind => ground.cluster.standby(),
        };
        if standby == Standby::Behind {
            second.stop(StopMode::Fast);
        }
        let (sql, new) = SyncedRole { ground: &ground, name: name.clone(), secret: secret.clone() }.alter();
        let postmaster = Process::new(ground.cluster.postmaster_pid());
        at(&ground.relay, &secret, moment, move |backend| {
            postmaster.quit();
            backend.until_gone(SETTLED);
        });
        ground.session().client.batch_execute(&sql).unwrap_err();
        ground.cluster.stop(StopMode::Immediate);
        // AWS is not itself either, at first.
        let (faults, is_back) = (AtomicUsize::new(3), Arc::clone(is_back));
        ground.relay.rule(&secret, move |_| {
            if !is_back.load(Ordering::SeqCst) {
                return Fault::Refuse(500, "InternalServiceError");
            }
            match faults.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(left) if left % 2 == 0 => Fault::Refuse(500, "InternalServiceError"),
                Ok(_) => Fault::CutAnswer,
                Err(_) => Fault::None,
            }
        });
        if standby == Standby::Behind {
            second.start();
        }
        let old = std::mem::replace(&mut ground.cluster, second);
        ground.session().run("SELECT pg_promote()");
        Self { ground, old, name, secret, before, new }
    }

    fn role(&self) -> SyncedRole<'_> {
        SyncedRole { ground: &self.ground, name: self.name.clone(), secret: self.secret.clone() }
    }

    /// The versions of the secret with their labels, which the old primary would change.
    fn standing(&self) -> (Vec<String>, [Option<String>; 3]) {
        let mut versions: Vec<_> =
            api().versions(&self.secret).into_iter().map(|v| format!("{v:?}")).collect();
        versions.sort();
        let at = |label| api().version_at(&self.secret, label);
        (versions, [at("AWSCURRENT"), at("SECRETLINK"), at("AWSPENDING")])
    }

    /// The old primary comes back beside the new one, as if nothing had happened.
    fn old_comes_back(&mut self) {
        // Its commits are to wait for nobody: that alone would keep it from doing harm.
        std::fs::write(self.old.data_dir().join("postgresql.auto.conf"), "").unwrap();
        self.old.start();
        sleep(RECONCILE_INTERVAL * 4);
    }
}

#[test]
fn a_change_that_was_committed_survives_a_failover_to_a_synchronous_standby() {
    for (moment, committed) in [
        (Done("PutSecretValue"), false),
        (Arrives("UpdateSecretVersionStage"), true),
        (Done("UpdateSecretVersionStage"), true),
    ] {
        let mut failover = Failover::at(moment, Standby::Synchronous);
        let role = failover.role();
        eventually("the secret logs in", SETTLED, || role.try_log_in());
        eventually("nothing is left over", SETTLED, || role.left_over().map_or(Ok(()), Err));
        let expected = if committed { &failover.new } else { &failover.before };
        role.assert_password(expected);
        let standing = failover.standing();
        failover.old_comes_back();
        assert_eq!(failover.standing(), standing, "{moment:?}: the old primary has written");
        failover.role().assert_password(if committed { &failover.new } else { &failover.before });
        // Where a change was in flight, the new primary has left its mark.
        if moment != Done("UpdateSecretVersionStage") {
            let sql = failover.role().alter().0;
            let mut zombie = crate::session::Session::start(&failover.old.conninfo("postgres", "postgres"));
            let error = zombie.fails(&sql);
            assert_eq!(error.code().code(), "55000", "{error:?}");
            assert!(error.detail().is_some_and(|detail| detail.contains("superseded")), "{error:?}");
            assert_eq!(failover.standing(), standing);
        }
        let (sql, password) = failover.role().alter();
        failover.ground.session().run_quietly(&sql);
        failover.role().assert_password(&password);
    }
}

#[test]
fn what_an_asynchronous_standby_does_not_have_is_never_made_current_again() {
    // Not committed at all, and committed and lost: nobody can tell.
    for moment in [Done("PutSecretValue"), Arrives("UpdateSecretVersionStage")] {
        let mut failover = Failover::at(moment, Standby::Behind);
        let role = failover.role();
        eventually("the version is discarded", SETTLED, || role.left_over().map_or(Ok(()), Err));
        role.assert_password(&failover.before);
        let current = api().version_at(&failover.secret, "AWSCURRENT").unwrap();
        assert_eq!(
            current.split('-').nth(2),
            Some("00000002"),
            "{current}: written again by the new primary"
        );
        let standing = failover.standing();
        failover.old_comes_back();
        assert_eq!(failover.standing(), standing, "{moment:?}: the old primary has written");
        failover.role().assert_password(&failover.before);
        if moment != Done("PutSecretValue") {
            eventually("the old primary says so", SETTLED, || {
                let log = failover.old.log();
                if log.contains("This server has been superseded") { Ok(()) } else { Err(log) }
            });
        }
    }
}

#[test]
fn what_was_lost_after_it_was_current_is_drift() {
    let is_back = Arc::new(AtomicBool::new(false));
    let failover = Failover::with_aws_away_until(Done("UpdateSecretVersionStage"), Standby::Behind, &is_back);
    let role = failover.role();
    let mut listener = failover.ground.session();
    listener.run("LISTEN secretlink");
    // The worker finds it out when somebody listens.
    is_back.store(true, Ordering::SeqCst);
    until_notified(&mut listener, |payload| {
        payload["role"] == role.name.as_str() && payload["state"] == "drifted"
    });
    let seen = role.until_state("drifted");
    assert!(seen.last_error.is_some_and(|error| error.contains("was lost when this server was promoted")));
    let log = failover.ground.cluster.log();
    let lines: Vec<_> = log.lines().skip_while(|line| !line.contains("have drifted apart")).take(3).collect();
    let [said, detail, hint] = lines[..] else { panic!("{log}") };
    assert!(said.contains(&role.name) && said.contains(&role.secret), "{said}");
    assert!(
        detail.contains("DETAIL:") && detail.contains("was lost when this server was promoted"),
        "{detail}"
    );
    assert!(hint.contains("HINT:") && hint.contains("Set the role's password again"), "{hint}");
    assert_eq!(role.password(), failover.new);
    failover.ground.session().run_quietly(&role.alter_to(&failover.new));
    role.assert_password(&failover.new);
    until_notified(&mut listener, |payload| {
        payload["role"] == role.name.as_str() && payload["state"] == "in_sync"
    });
}

#[test]
fn an_old_primary_that_is_rewound_follows_the_new_one() {
    let mut failover = Failover::at(Arrives("UpdateSecretVersionStage"), Standby::Behind);
    let role = failover.role();
    eventually("the version is discarded", SETTLED, || role.left_over().map_or(Ok(()), Err));
    let standing = failover.standing();
    failover.old.rewind_to(&failover.ground.cluster);
    let port = failover.old.port();
    std::fs::write(failover.old.data_dir().join("postgresql.auto.conf"), "").unwrap();
    failover.old.append_conf(&[
        format!("port = {port}"),
        format!("unix_socket_directories = '{}'", failover.old.socket_dir().display()),
    ]);
    failover.old.follow(&failover.ground.cluster);
    failover.old.start();
    sleep(RECONCILE_INTERVAL * 3);
    let mut session = failover.old.connect("postgres", "postgres");
    let standby: bool = session.query_one("SELECT pg_is_in_recovery()", &[]).unwrap().get(0);
    assert!(standby);
    assert_eq!(failover.standing(), standing);
    // What the new one changes is there, too.
    let (sql, password) = failover.role().alter();
    failover.ground.session().run_quietly(&sql);
    failover.role().assert_password(&password);
    eventually("the change has arrived", SETTLED, || {
        crate::ground::log_in(port, &failover.name, &password).map(|_| ())
    });
}
