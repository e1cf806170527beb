//! What a synced role's new password does to the cache.

use crate::ground::{Ground, PATIENCE, api, get, holds, login, stat, text};
use secretlink_e2e::{Fault, random_password, unique};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::mpsc;

struct Synced {
    ground: Ground,
    role: String,
    secret: String,
    arn: String,
}

impl Synced {
    fn start() -> Synced {
        let ground = Ground::start();
        let (role, secret) = (unique("synced").replace('-', "_"), unique("synced"));
        let first = random_password();
        let arn = api().create_secret(&secret, &login(&role, &first));
        ground
            .session()
            .batch_execute(&format!(
                "CREATE ROLE {role} LOGIN PASSWORD '{first}'; SELECT sync_role('{role}', '{secret}')"
            ))
            .unwrap();
        Synced { ground, role, secret, arn }
    }

    fn alter(&self) -> (String, String) {
        let password = random_password();
        (format!("ALTER ROLE {} PASSWORD '{password}'", self.role), password)
    }
}

/// The password that a session sees in a secret.
#[track_caller]
fn password(client: &mut postgres::Client, secret: &str) -> String {
    let value = get(client, secret).unwrap_or_else(|e| panic!("{secret}: {e:?}"));
    let value: Value = serde_json::from_str(&value).unwrap();
    value["password"].as_str().unwrap().to_owned()
}

#[test]
fn others_have_it_without_asking_when_it_is_committed() {
    let synced = Synced::start();
    let (mut session, mut other) = (synced.ground.session(), synced.ground.session());
    let names = [&synced.secret, &synced.arn];
    let old = password(&mut other, &synced.secret);
    let misses = |other: &mut postgres::Client| stat(other, "cache_misses");
    for round in 0..3 {
        for name in names {
            password(&mut other, name);
        }
        let (alter, new) = synced.alter();
        let before = misses(&mut other);
        session.batch_execute("BEGIN").unwrap();
        session.batch_execute(&alter).unwrap();
        if round == 0 {
            assert_eq!(password(&mut other, &synced.secret), old, "not before the commit");
        }
        session.batch_execute("COMMIT").unwrap();
        for name in names {
            assert_eq!(password(&mut other, name), new);
        }
        assert_eq!(misses(&mut other), before);
    }
    // What was rolled back is seen by nobody.
    let before = password(&mut other, &synced.secret);
    let (alter, _) = synced.alter();
    session.batch_execute(&format!("BEGIN; {alter}; ROLLBACK")).unwrap();
    assert_eq!(password(&mut other, &synced.secret), before);
}

#[test]
fn also_when_it_cannot_be_promoted_yet() {
    let ways: [fn() -> Fault; 2] = [|| Fault::Cut, || Fault::Refuse(500, "InternalServiceError")];
    for way in ways {
        let synced = Synced::start();
        let (mut session, mut other) = (synced.ground.session(), synced.ground.session());
        password(&mut other, &synced.secret);
        synced.ground.relay.rule(&synced.secret, move |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => way(),
            _ => Fault::None,
        });
        let before = stat(&mut other, "cache_misses");
        let (alter, new) = synced.alter();
        session.batch_execute(&alter).unwrap();
        assert_eq!(password(&mut other, &synced.secret), new);
        assert_eq!(stat(&mut other, "cache_misses"), before);
        let at_aws: Value = serde_json::from_str(&api().get_secret_value(&synced.secret).unwrap()).unwrap();
        assert_ne!(at_aws["password"], new.as_str(), "it is not promoted");
    }
}

/// A session that asked before the change, or before the promotion, does not bring the old password back, however
/// it named the secret.
#[test]
fn nobody_brings_the_old_one_back() {
    let synced = Synced::start();
    let partial = synced.arn.rsplit_once('-').unwrap().0.to_owned();
    for (asked_as, cached_before) in
        [(&synced.secret, true), (&synced.secret, false), (&synced.arn, false), (&partial, false)]
    {
        let (mut session, mut other) = (synced.ground.session(), synced.ground.session());
        text(&mut session, "SELECT forget_all_secrets()");
        if cached_before {
            password(&mut other, asked_as);
        }
        // Answered with the old value, which arrives between the commit and the promotion.
        let (hold, held) = mpsc::channel::<()>();
        let held = Mutex::new(Some(held));
        let hold = Mutex::new(Some(hold));
        let reader = secretlink_e2e::backend_pid(&mut other);
        let relay = &synced.ground.relay;
        for name in [&synced.secret, &synced.arn, &partial] {
            relay.forget(name);
            relay.pass(name);
        }
        let hold = std::sync::Arc::new(hold);
        let held = std::sync::Arc::new(held);
        let rule = move |request: &secretlink_e2e::SecretsRequest| match request.operation.as_str() {
            "GetSecretValue" if request.sender() == Some(reader) => match held.lock().unwrap().take() {
                Some(held) => Fault::BeforeAnswer(Box::new(move || {
                    let _ = held.recv_timeout(PATIENCE);
                })),
                None => Fault::None,
            },
            "UpdateSecretVersionStage" => {
                drop(hold.lock().unwrap().take());
                Fault::Delay(std::time::Duration::from_millis(700))
            }
            _ => Fault::None,
        };
        for name in [&synced.secret, &synced.arn, &partial] {
            relay.rule(name, rule.clone());
        }
        let asks = if cached_before {
            format!("SELECT refresh_secret('{asked_as}')")
        } else {
            format!("SELECT get_secret_string('{asked_as}')")
        };
        let asking = std::thread::spawn(move || other.batch_execute(&asks));
        synced.ground.until_asked(asked_as, 1);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (alter, new) = synced.alter();
        session.batch_execute(&alter).unwrap();
        asking.join().unwrap().unwrap();
        for name in [&synced.secret, asked_as] {
            assert_eq!(password(&mut session, name), new, "{asked_as} {cached_before}");
        }
        holds(&mut session, &synced.secret, &api().get_secret_value(&synced.secret).unwrap());
    }
}
