//! What the store promises, with a clock that the tests turn.

use std::collections::HashMap;
use std::time::Duration;

use crate::*;

const TIMING: Timing = Timing { ttl: Duration::from_secs(100), max_stale: Duration::from_secs(1000) };
const KEY: &str = "f\0\0\0\0secret\0x\0AWSCURRENT\0";

fn ask<'a>(wanted: &'a Wanted, asking: &'a Asking) -> Ask<'a> {
    Ask { wanted, timing: &TIMING, asking }
}

struct Bench {
    memory: Vec<u64>,
}

fn at(seconds: u64) -> Moment {
    Moment(seconds * 1_000_000)
}

fn me(arrived: Moment) -> Asking {
    Asking {
        owner: 1,
        arrived,
        patience: Duration::from_secs(10),
        connect_patience: Duration::from_secs(3),
        attempts: 3,
    }
}

type Came = Result<Contents, Failure>;

fn version(version_id: &str) -> Came {
    Ok(Contents {
        sealed: format!("sealed {version_id}").into_bytes(),
        version_id: version_id.into(),
        arn: "arn:aws:secretsmanager:r:1:secret:x-AbCdEf".into(),
        name: "x".into(),
        ends: None,
    })
}

fn secret_key(id: &str, stage: &str) -> Key {
    key_of(Subject::Secret { id: id.into(), stage: stage.into(), version_id: String::new() })
}

fn key_of(subject: Subject) -> Key {
    let none = String::new;
    Key { fingerprint: none(), region: none(), role_arn: none(), external_id: none(), subject }
}

fn unreachable() -> Came {
    Err(Failure { unreachable: true, report: b"unreachable".to_vec() })
}

fn refused() -> Came {
    Err(Failure { unreachable: false, report: b"refused".to_vec() })
}

impl Bench {
    fn new() -> Bench {
        Bench { memory: vec![0; 8 * 1024] }
    }

    fn store(&mut self) -> Store<'_> {
        Store::over(&mut self.memory).unwrap()
    }

    fn look(&mut self, wanted: &Wanted, now: Moment) -> Look {
        self.look_as(wanted, &me(now), now)
    }

    fn look_as(&mut self, wanted: &Wanted, asking: &Asking, now: Moment) -> Look {
        self.store().look(KEY.as_bytes(), &ask(wanted, asking), now)
    }

    fn ask(&mut self, wanted: &Wanted, now: Moment) -> Ticket {
        match self.look(wanted, now) {
            Look::Ask(ticket) => ticket,
            other => panic!("{other:?} at {now:?}"),
        }
    }

    fn finish(&mut self, ticket: Ticket, outcome: &Came, wanted: &Wanted, now: Moment) -> Finish {
        self.store().finish(ticket, outcome.as_ref().map_err(Failure::clone), &ask(wanted, &me(now)), now)
    }

    /// Asks and answers at once.
    fn fill(&mut self, outcome: &Came, now: Moment) -> Finish {
        let ticket = self.ask(&Wanted::Fresh, now);
        self.finish(ticket, outcome, &Wanted::Fresh, now)
    }

    fn hit(&mut self, wanted: &Wanted, now: Moment) -> String {
        match self.look(wanted, now) {
            Look::Hit(found) => {
                assert_eq!(found.sealed, format!("sealed {}", found.version_id).into_bytes());
                found.version_id
            }
            other => panic!("{other:?} at {now:?}"),
        }
    }
}

fn other_than(version_id: &str, since: Moment) -> Wanted {
    Wanted::Other { than: vec![version_id.into()], since, patient: false }
}

#[test]
fn one_asks_and_the_others_wait() {
    let mut bench = Bench::new();
    let ticket = bench.ask(&Wanted::Fresh, at(1));
    assert_eq!(bench.look(&Wanted::Fresh, at(2)), Look::Wait(at(12)));
    let waiting = me(at(2));
    let short = Asking { patience: Duration::from_secs(1), ..waiting };
    assert_eq!(bench.look_as(&Wanted::Fresh, &short, at(2)), Look::Wait(at(3)));
    assert_eq!(bench.look_as(&Wanted::Fresh, &short, at(3)), Look::GaveUp);
    assert!(matches!(bench.finish(ticket, &version("a"), &Wanted::Fresh, at(3)), Finish::Kept { .. }));
    assert!(matches!(bench.look_as(&Wanted::Fresh, &waiting, at(3)), Look::Hit(_)));
    assert_eq!(bench.hit(&Wanted::Fresh, at(100)), "a");
    assert!(matches!(bench.look(&Wanted::Fresh, at(101)), Look::Ask(_)), "too old");
}

#[test]
fn an_error_is_for_all_who_waited_and_for_nobody_else() {
    for outcome in [unreachable(), refused()] {
        let mut bench = Bench::new();
        let ticket = bench.ask(&Wanted::Fresh, at(1));
        let waiting = me(at(2));
        bench.finish(ticket, &outcome, &Wanted::Fresh, at(3));
        let report = outcome.unwrap_err().report;
        assert_eq!(bench.look_as(&Wanted::Fresh, &waiting, at(3)), Look::Failed(report));
        // A session that had more patience than the one who asked tries again.
        let patient = Asking { patience: Duration::from_secs(11), ..waiting };
        assert!(matches!(bench.look_as(&Wanted::Fresh, &patient, at(3)), Look::Ask(_)));
    }
    let mut bench = Bench::new();
    bench.fill(&refused(), at(1));
    assert!(matches!(bench.look(&Wanted::Fresh, at(2)), Look::Ask(_)));
}

#[test]
fn who_hardly_tries_does_not_speak_for_others() {
    let patient = Duration::from_secs(3600);
    let lazy = |now| {
        [
            Asking { patience: patient, connect_patience: Duration::from_millis(1), ..me(now) },
            Asking { patience: patient, attempts: 1, ..me(now) },
        ]
    };
    for i in 0..2 {
        let mut bench = Bench::new();
        bench.fill(&version("a"), at(0));
        let waiting = me(at(100));
        let Look::Ask(ticket) = bench.look_as(&Wanted::Fresh, &lazy(at(100))[i], at(100)) else { panic!() };
        let finish = bench.store().finish(
            ticket,
            unreachable().as_ref().map_err(Failure::clone),
            &ask(&Wanted::Fresh, &lazy(at(100))[i]),
            at(100),
        );
        assert!(matches!(finish, Finish::Stale { .. }));
        assert!(matches!(bench.look_as(&Wanted::Fresh, &lazy(at(100))[i], at(100)), Look::Stale(_)));
        let renewed =
            bench.store().renew(|key| Some(key.clone()), &ask(&Wanted::Fresh, &waiting), 16, at(100));
        assert_eq!(renewed.len(), 1, "nor does it keep the value from being renewed");
        bench.store().abandon(renewed[0].1);
        assert!(matches!(bench.look_as(&Wanted::Fresh, &waiting, at(100)), Look::Ask(_)));
    }
}

#[test]
fn nobody_waits_for_an_hour() {
    let mut bench = Bench::new();
    let hour = Asking { patience: Duration::from_secs(3600), ..me(at(1)) };
    let Look::Ask(ticket) = bench.look_as(&Wanted::Fresh, &hour, at(1)) else { panic!() };
    assert!(matches!(bench.look(&Wanted::Fresh, at(31)), Look::Wait(_)));
    assert!(matches!(bench.look(&Wanted::Fresh, at(32)), Look::Ask(_)));
    assert_eq!(bench.finish(ticket, &version("old"), &Wanted::Fresh, at(33)), Finish::Superseded);
}

#[test]
fn who_asks_and_dies_or_hangs() {
    let mut bench = Bench::new();
    let _lost = bench.ask(&Wanted::Fresh, at(1));
    bench.store().abandon_all(2);
    assert!(matches!(bench.look(&Wanted::Fresh, at(2)), Look::Wait(_)), "that was somebody else");
    bench.store().abandon_all(1);
    let slow = bench.ask(&Wanted::Fresh, at(3));
    let second = bench.ask(&Wanted::Fresh, at(14));
    assert_eq!(bench.finish(slow, &version("old"), &Wanted::Fresh, at(15)), Finish::Superseded);
    bench.store().abandon(slow);
    assert!(matches!(bench.look(&Wanted::Fresh, at(15)), Look::Wait(_)), "the second one still asks");
    assert!(matches!(bench.finish(second, &version("a"), &Wanted::Fresh, at(16)), Finish::Kept { .. }));
    assert_eq!(bench.hit(&Wanted::Fresh, at(17)), "a");
    let cancelled = bench.ask(&Wanted::Fresh, at(200));
    bench.store().abandon(cancelled);
    assert!(matches!(bench.look(&Wanted::Fresh, at(200)), Look::Ask(_)));
}

#[test]
fn old_values_while_nobody_answers() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let ticket = bench.ask(&Wanted::Fresh, at(100));
    let waiting = me(at(101));
    let stale = |look: &Look| matches!(look, Look::Stale(found) if found.version_id == "a");
    assert!(matches!(bench.finish(ticket, &unreachable(), &Wanted::Fresh, at(102)), Finish::Stale { .. }));
    assert!(stale(&bench.look_as(&Wanted::Fresh, &waiting, at(102))));
    // For a second it is not tried again; then by one, and the others need not wait for that.
    assert!(stale(&bench.look(&Wanted::Fresh, at(102))));
    let ticket = bench.ask(&Wanted::Fresh, at(103));
    assert!(stale(&bench.look(&Wanted::Fresh, at(103))));
    bench.finish(ticket, &unreachable(), &Wanted::Fresh, at(104));
    // Nor does an impatient one decide for the others.
    let patient = Asking { patience: Duration::from_secs(60), ..me(at(104)) };
    let Look::Ask(ticket) = bench.look_as(&Wanted::Fresh, &patient, at(104)) else { panic!() };
    bench.store().abandon(ticket);
    // Who wants more than any value gets the error.
    for (wanted, now) in [(Wanted::Since(at(105)), at(105)), (other_than("a", at(107)), at(108))] {
        let ticket = bench.ask(&wanted, now);
        assert!(matches!(bench.finish(ticket, &unreachable(), &wanted, now), Finish::Kept { .. }));
    }
    // Too old for that, too.
    assert!(matches!(bench.look(&Wanted::Fresh, at(1099)), Look::Ask(t) if {
        matches!(bench.finish(t, &unreachable(), &Wanted::Fresh, at(1099)), Finish::Stale { .. })
    }));
    let ticket = bench.ask(&Wanted::Fresh, at(1200));
    assert!(matches!(bench.finish(ticket, &unreachable(), &Wanted::Fresh, at(1200)), Finish::Kept { .. }));
    // It recovers.
    let ticket = bench.ask(&Wanted::Fresh, at(1300));
    bench.finish(ticket, &version("b"), &Wanted::Fresh, at(1300));
    assert_eq!(bench.hit(&Wanted::Fresh, at(1301)), "b");
    assert_eq!(bench.store().list()[0].error, None);
}

#[test]
fn never_an_old_value_after_a_refusal() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    assert!(matches!(bench.fill(&refused(), at(100)), Finish::Kept { .. }));
    assert_eq!(bench.store().version(KEY.as_bytes()), None);
    let ticket = bench.ask(&Wanted::Fresh, at(101));
    assert!(matches!(bench.finish(ticket, &unreachable(), &Wanted::Fresh, at(102)), Finish::Kept { .. }));
}

#[test]
fn a_doubted_value_is_asked_for_once() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let ticket = bench.ask(&other_than("a", at(10)), at(11));
    assert!(matches!(bench.look(&other_than("a", at(10)), at(11)), Look::Wait(_)), "the others wait");
    assert_eq!(bench.look(&Wanted::Fresh, at(11)), bench.look(&Wanted::Fresh, at(11)), "and not for long");
    bench.finish(ticket, &version("b"), &other_than("a", at(10)), at(12));
    assert_eq!(bench.hit(&other_than("a", at(12)), at(13)), "b");
    // It is the current one: said once, that holds for a moment, and for longer each time.
    let ticket = bench.ask(&other_than("b", at(20)), at(20));
    bench.finish(ticket, &version("b"), &other_than("b", at(20)), at(20));
    let soon = Moment(at(20).0 + 90_000);
    assert_eq!(bench.hit(&other_than("b", soon), soon), "b");
    let patient = Wanted::Other { than: vec!["b".into()], since: soon, patient: true };
    let later = Moment(at(20).0 + 110_000);
    assert_eq!(bench.look(&patient, soon), Look::Wait(Moment(at(20).0 + 100_000)));
    let ticket = bench.ask(&other_than("b", later), later);
    bench.finish(ticket, &version("b"), &other_than("b", later), later);
    let soon = Moment(later.0 + 190_000);
    assert_eq!(bench.hit(&other_than("b", soon), soon), "b");
    // Another one ends that.
    let ticket = bench.ask(&other_than("b", at(30)), at(30));
    bench.finish(ticket, &version("c"), &other_than("b", at(30)), at(30));
    assert!(matches!(bench.look(&other_than("c", at(31)), at(31)), Look::Ask(_)));
}

#[test]
fn that_there_is_none_holds_for_a_moment_when_doubted() {
    let mut bench = Bench::new();
    let wanted = other_than("a", at(10));
    let ticket = bench.ask(&wanted, at(10));
    bench.finish(ticket, &refused(), &wanted, at(10));
    let soon = Moment(at(10).0 + 50_000);
    assert_eq!(bench.look(&other_than("a", soon), soon), Look::Failed(b"refused".to_vec()));
    let patient = Wanted::Other { than: vec!["a".into()], since: soon, patient: true };
    assert_eq!(bench.look(&patient, soon), Look::Wait(Moment(at(10).0 + 100_000)));
    assert!(matches!(bench.look(&Wanted::Fresh, soon), Look::Ask(_)), "but only then");
}

#[test]
fn what_came_late_does_not_undo_a_change() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let late = bench.ask(&Wanted::Fresh, at(100));
    let new = version("b").unwrap();
    bench.store().replace(|_, named| named.is("x").then(|| Some(new.clone())), at(101));
    assert_eq!(bench.hit(&Wanted::Fresh, at(101)), "b");
    assert_eq!(bench.finish(late, &version("a"), &Wanted::Fresh, at(102)), Finish::Superseded);
    assert_eq!(bench.hit(&Wanted::Fresh, at(102)), "b");

    let late = bench.ask(&Wanted::Since(at(103)), at(103));
    assert_eq!(bench.store().forget("arn:aws:secretsmanager:r:1:secret:x"), 1);
    assert_eq!(bench.finish(late, &version("a"), &Wanted::Fresh, at(104)), Finish::Superseded);
    assert!(matches!(bench.look(&Wanted::Fresh, at(104)), Look::Ask(_)));
    assert_eq!(bench.store().forget("y"), 0);
}

#[test]
fn nor_does_what_came_late_under_a_name_not_known_yet() {
    let mut bench = Bench::new();
    // Nobody knows yet that this is "y", too.
    let late = bench.ask(&Wanted::Fresh, at(0));
    assert_eq!(bench.store().forget("y"), 0);
    assert_eq!(bench.finish(late, &version("a"), &Wanted::Fresh, at(1)), Finish::Superseded);
    assert!(matches!(bench.look(&Wanted::Fresh, at(1)), Look::Ask(_)));
    // Of this one it is known that it is not.
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let late = bench.ask(&Wanted::Fresh, at(100));
    bench.store().forget("y");
    assert!(matches!(bench.finish(late, &version("b"), &Wanted::Fresh, at(101)), Finish::Kept { .. }));
}

#[test]
fn another_password_that_is_too_old_will_not_do() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    assert_eq!(bench.hit(&other_than("b", at(50)), at(50)), "a");
    assert!(matches!(bench.look(&other_than("b", at(2000)), at(2000)), Look::Ask(_)));
}

#[test]
fn refresh_asks_anew() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let early = bench.ask(&Wanted::Since(at(5)), at(5));
    assert!(matches!(bench.look(&Wanted::Since(at(6)), at(6)), Look::Wait(_)));
    bench.finish(early, &version("a"), &Wanted::Since(at(5)), at(7));
    assert_eq!(bench.hit(&Wanted::Since(at(5)), at(7)), "a");
    assert!(matches!(bench.look(&Wanted::Since(at(6)), at(7)), Look::Ask(_)), "asked for before");
}

#[test]
fn renewal() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let renew = |bench: &mut Bench, now| {
        bench.store().renew(|key| Some(key.clone()), &ask(&Wanted::Fresh, &me(now)), 16, now)
    };
    assert!(renew(&mut bench, at(79)).is_empty());
    let begun = renew(&mut bench, at(80));
    assert_eq!(begun[0].0, Key::from_bytes(KEY.as_bytes()).unwrap());
    assert!(renew(&mut bench, at(80)).is_empty(), "once");
    assert_eq!(bench.hit(&Wanted::Fresh, at(90)), "a");
    bench.finish(begun[0].1, &version("b"), &Wanted::Fresh, at(91));
    assert_eq!(bench.hit(&Wanted::Fresh, at(179)), "b");
    let begun = renew(&mut bench, at(170));
    bench.finish(begun[0].1, &unreachable(), &Wanted::Fresh, at(171));
    assert!(renew(&mut bench, at(171)).is_empty(), "after a pause");
    assert_eq!(renew(&mut bench, at(172)).len(), 1);
    assert!(renew(&mut bench, at(500)).is_empty(), "nobody uses it any more");
}

#[test]
fn what_does_not_fit_is_not_kept() {
    let mut bench = Bench::new();
    let big = Ok(Contents { sealed: vec![1; 100_000], ..version("a").unwrap() });
    assert!(matches!(bench.fill(&big, at(1)), Finish::Kept { .. }));
    assert_eq!(bench.look(&Wanted::Fresh, at(2)), Look::Uncached);
    let other = b"f\0\0\0\0secret\0other\0AWSCURRENT\0";
    let look = bench.store().look(other, &ask(&Wanted::Fresh, &me(at(2))), at(2));
    assert!(matches!(look, Look::Ask(_)));
    bench.fill(&big, at(120));
    assert_eq!(bench.store().list().len(), 2, "nor does it push out anything");
    assert!(Store::over(&mut [0; 16]).is_none());
}

#[test]
fn a_doubted_value_is_not_waited_for_while_nobody_answers() {
    let mut bench = Bench::new();
    bench.fill(&version("a"), at(0));
    let wanted = other_than("a", at(10));
    let ticket = bench.ask(&wanted, at(10));
    bench.finish(ticket, &unreachable(), &wanted, at(20));
    let soon = Moment(at(20).0 + 500_000);
    assert_eq!(bench.look(&other_than("a", soon), soon), Look::Failed(b"unreachable".to_vec()));
    let patient = Wanted::Other { than: vec!["a".into()], since: soon, patient: true };
    assert_eq!(bench.look(&patient, soon), Look::Wait(at(21)));
    assert_eq!(bench.hit(&other_than("b", soon), soon), "a", "it is only doubted by some");
    assert_eq!(bench.hit(&Wanted::Fresh, soon), "a");
    // It is tried again soon, lest a login fail for long when somebody answers again.
    let ticket = bench.ask(&other_than("a", at(21)), at(21));
    bench.finish(ticket, &version("b"), &other_than("a", at(21)), at(21));
    assert_eq!(bench.hit(&Wanted::Fresh, at(22)), "b");
}

#[test]
fn what_is_too_large_is_not_waited_for_in_a_queue() {
    let mut bench = Bench::new();
    let big = Ok(Contents { sealed: vec![1; 100_000], ..version("a").unwrap() });
    let ticket = bench.ask(&Wanted::Fresh, at(1));
    let waiting = me(at(2));
    assert!(matches!(bench.look_as(&Wanted::Fresh, &waiting, at(2)), Look::Wait(_)));
    bench.finish(ticket, &big, &Wanted::Fresh, at(3));
    for _ in 0..3 {
        assert_eq!(bench.look_as(&Wanted::Fresh, &waiting, at(3)), Look::Uncached);
        assert_eq!(bench.look(&Wanted::Fresh, at(4)), Look::Uncached);
    }
    // It may have become smaller.
    bench.fill(&version("b"), at(101));
    assert_eq!(bench.hit(&Wanted::Fresh, at(102)), "b");
}

#[test]
fn a_first_answer_that_came_late_does_not_undo_a_change() {
    let arn = "arn:aws:secretsmanager:r:1:secret:x-AbCdEf";
    for (asked, changed) in [("x", arn), (arn, "x"), ("arn:aws:secretsmanager:r:1:secret:x", "x"), ("x", "x")]
    {
        let mut bench = Bench::new();
        let key = secret_key(asked, "").to_bytes();
        let look = |bench: &mut Bench, now| bench.store().look(&key, &ask(&Wanted::Fresh, &me(now)), now);
        let Look::Ask(late) = look(&mut bench, at(1)) else { panic!() };
        bench.store().replace(|_, named| named.is(changed).then_some(None), at(2));
        let finish = bench.finish(late, &version("old"), &Wanted::Fresh, at(3));
        assert_eq!(finish, Finish::Superseded, "{asked} {changed}");
        assert!(matches!(look(&mut bench, at(3)), Look::Ask(_)));
    }
}

/// A token, which ends by itself.
struct TokenBench {
    memory: Vec<u64>,
    key: Vec<u8>,
}

impl TokenBench {
    fn new() -> TokenBench {
        let login = "u@db.example:5432".to_owned();
        let key = key_of(Subject::IamToken { region: "us-east-1".into(), login }).to_bytes();
        TokenBench { memory: vec![0; 8 * 1024], key }
    }

    fn store(&mut self) -> Store<'_> {
        Store::over(&mut self.memory).unwrap()
    }

    fn look(&mut self, wanted: &Wanted, now: Moment) -> Look {
        let key = self.key.clone();
        self.store().look(&key, &ask(wanted, &me(now)), now)
    }

    /// Signs one if one is to be signed. Returns the version that is found then.
    fn log_in(&mut self, version_id: &str, ends: Moment, now: Moment) -> String {
        match self.look(&Wanted::Fresh, now) {
            Look::Hit(found) => found.version_id,
            Look::Ask(ticket) => {
                self.sign(ticket, version_id, ends, now);
                version_id.to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    fn sign(&mut self, ticket: Ticket, version_id: &str, ends: Moment, now: Moment) -> Finish {
        let token = Contents { ends: Some(ends), ..version(version_id).unwrap() };
        self.store().finish(ticket, Ok(&token), &ask(&Wanted::Fresh, &me(now)), now)
    }

    fn renew(&mut self, now: Moment) -> Vec<Ticket> {
        let begun = self.store().renew(|key| Some(key.clone()), &ask(&Wanted::Fresh, &me(now)), 10, now);
        begun.into_iter().map(|(_, ticket)| ticket).collect()
    }
}

#[test]
fn a_token_is_used_to_its_end_and_never_longer() {
    let mut bench = TokenBench::new();
    assert_eq!(bench.log_in("a", at(840), at(0)), "a");
    // Neither cache_ttl, 100 s in these tests, nor cache_max_stale has a say in it.
    assert_eq!(bench.log_in("-", at(0), at(839)), "a");
    assert_eq!(bench.log_in("b", at(1700), at(840)), "b");
    // A session that doubts one does not get one that has ended, either.
    let doubt = Wanted::Other { than: vec!["c".into()], since: at(1699), patient: false };
    assert!(matches!(bench.look(&doubt, at(1699)), Look::Hit(found) if found.version_id == "b"));
    assert!(matches!(bench.look(&doubt, at(1700)), Look::Ask(_)));
}

#[test]
fn a_token_in_use_is_renewed_after_ten_minutes() {
    let mut bench = TokenBench::new();
    bench.log_in("a", at(1000), at(1));
    assert!(bench.renew(at(700)).is_empty(), "only the session that had it made has used it");
    bench.log_in("-", at(0), at(2));
    assert!(bench.renew(at(600)).is_empty());
    let [ticket] = bench.renew(at(601))[..] else { panic!() };
    // Meanwhile the old one does.
    assert_eq!(bench.log_in("-", at(0), at(602)), "a");
    assert!(matches!(bench.sign(ticket, "b", at(1600), at(603)), Finish::Kept { .. }));
    assert_eq!(bench.log_in("-", at(0), at(604)), "b");
}

#[test]
fn a_renewal_that_fails_leaves_a_token_to_its_end() {
    let mut bench = TokenBench::new();
    bench.log_in("a", at(840), at(0));
    bench.log_in("-", at(0), at(1));
    let [ticket] = bench.renew(at(600))[..] else { panic!() };
    let failed = unreachable().unwrap_err();
    bench.store().finish(ticket, Err(failed), &ask(&Wanted::Fresh, &me(at(600))), at(610));
    assert_eq!(bench.log_in("-", at(0), at(839)), "a");
    assert!(matches!(bench.look(&Wanted::Fresh, at(840)), Look::Ask(_)));
}

#[test]
fn a_change_of_a_secret_leaves_tokens_alone() {
    let mut bench = TokenBench::new();
    let Look::Ask(ticket) = bench.look(&Wanted::Fresh, at(1)) else { panic!() };
    bench.store().replace(|_, named| named.is("x").then_some(None), at(2));
    assert!(matches!(bench.sign(ticket, "a", at(840), at(3)), Finish::Kept { .. }));
    assert_eq!(bench.store().list()[0].ends, Some(at(840)));
    assert_eq!(bench.store().forget("u@db.example:5432"), 1);
    bench.log_in("b", at(840), at(4));
    assert_eq!(bench.store().forget_all(), 1);
}

/// Many secrets, processes that come, go and hang, and a cache too small for all: what is found is never
/// older than the last change.
#[test]
fn at_random() {
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut memory = vec![0; 2 * 1024];
    let mut truth: HashMap<String, u64> = HashMap::new();
    let mut flights: Vec<(String, Ticket, u64)> = Vec::new();
    let (mut now, mut hits) = (at(1), 0);
    for _ in 0..200_000 {
        now = now + Duration::from_millis(next(200));
        let id = format!("secret-{}", next(12));
        let key = secret_key(&id, "AWSCURRENT");
        let current = *truth.entry(id.clone()).or_default();
        let contents = |version: u64| Contents {
            sealed: vec![7; 300],
            version_id: version.to_string(),
            arn: format!("arn-{id}"),
            name: id.clone(),
            ends: None,
        };
        let mut store = Store::over(&mut memory).unwrap();
        match next(10) {
            0 => {
                truth.insert(id.clone(), current + 1);
                let new = contents(current + 1);
                store.replace(|_, named| named.is(&id).then(|| Some(new.clone())), now);
            }
            1 => {
                store.forget(&id);
            }
            2..=4 if !flights.is_empty() => {
                let (id, ticket, version) = flights.swap_remove(next(flights.len() as u64) as usize);
                let outcome = match next(6) {
                    0 => unreachable(),
                    1 => refused(),
                    _ => Ok(Contents {
                        version_id: version.to_string(),
                        name: id.clone(),
                        arn: format!("arn-{id}"),
                        sealed: vec![7; 300],
                        ends: None,
                    }),
                };
                let _ = store.finish(
                    ticket,
                    outcome.as_ref().map_err(Failure::clone),
                    &ask(&Wanted::Fresh, &me(now)),
                    now,
                );
            }
            _ => match store.look(&key.to_bytes(), &ask(&Wanted::Fresh, &me(now)), now) {
                Look::Hit(found) | Look::Stale(found) => {
                    // Every change goes through the cache here, so nothing older may ever be found.
                    assert_eq!(found.version_id, current.to_string());
                    hits += 1;
                }
                Look::Ask(ticket) => flights.push((id, ticket, current)),
                Look::Wait(until) => assert!(until > now),
                Look::Failed(_) | Look::GaveUp | Look::Uncached => {}
            },
        }
    }
    assert!(hits > 10_000, "{hits}");
}
