//! Rotations at random, with something going wrong in each: single and alternating, of roles of this server
//! and of another, four at a time. `ROTATIONS` says how many, `SEED` which; `make storm` runs a thousand.

use crate::crashes::{
    BLOWS, Blow, MOMENTS, Moment, SERVER_BLOWS, SERVER_MOMENTS, Target, assert_in_order, faults_end,
    storm_ground, strike,
};
use crate::ground::{Ground, Subject, api, major, master_of, rotate};
use secretlink_e2e::{Cluster, ServerRelay, backend_pid};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How many in an ordinary run of the tests.
const ROTATIONS: usize = 16;

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// A role that takes blows, and what stands before its server.
struct Known {
    own: bool,
    secret: String,
    role: String,
    relay: ServerRelay,
}

impl Known {
    /// A role of one of the two servers and its secret, with a master if it takes turns.
    fn new(ground: &Ground, own: bool, alternating: bool) -> Known {
        let server = if own { &ground.local } else { &ground.remote };
        let subject = ground.subject_at(server, "storm");
        let relay = ServerRelay::to(server.port());
        let behind_it = |secret: &str, more: Option<String>| {
            let text = api().get_secret_value(secret).unwrap();
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value["port"] = json!(relay.port());
            value["ssl"] = json!(false);
            if let Some(master) = more {
                value["masterarn"] = json!(master);
            }
            api().put_secret_value(secret, &value.to_string(), &["AWSCURRENT"]);
        };
        let master = alternating.then(|| {
            let master = master_of(server, (major() >= 16).then_some(&subject.role));
            behind_it(&master, None);
            master
        });
        behind_it(&subject.secret, master);
        let Subject { secret, role, .. } = subject;
        Known { own, secret, role, relay }
    }

    fn subject<'a>(&self, ground: &'a Ground) -> Subject<'a> {
        let server: &Cluster = if self.own { &ground.local } else { &ground.remote };
        Subject { ground, server, secret: self.secret.clone(), role: self.role.clone() }
    }
}

/// Each blow at each moment comes once before any comes again.
struct Deck {
    all: Vec<(Moment, Blow)>,
    left: Vec<(Moment, Blow)>,
}

impl Deck {
    fn new() -> Deck {
        let of = |moments: &[Moment], blows: &[Blow]| -> Vec<(Moment, Blow)> {
            moments.iter().flat_map(|moment| blows.iter().map(|blow| (*moment, *blow))).collect()
        };
        let all = [of(&MOMENTS, &BLOWS), of(&SERVER_MOMENTS, SERVER_BLOWS)].concat();
        Deck { all, left: Vec::new() }
    }

    fn draw(&mut self, random: &mut fastrand::Rng) -> (Moment, Blow) {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            random.shuffle(&mut self.left);
        }
        self.left.pop().unwrap()
    }
}

#[test]
fn whatever_goes_wrong_the_secret_logs_in() {
    let rotations = number("ROTATIONS").unwrap_or(ROTATIONS);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed} ROTATIONS={rotations}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ground = storm_ground();
    let known: Vec<Known> = [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .map(|(own, alternating)| Known::new(&ground, own, alternating))
        .collect();
    let mut deck = Deck::new();
    let mut fell = BTreeMap::<(Moment, Blow), usize>::new();
    let mut missed = BTreeMap::<Moment, usize>::new();
    let mut longest = Duration::ZERO;
    for round in 0..rotations.div_ceil(known.len()) {
        // All before the first blow, which may end the server.
        let mut sessions: Vec<_> = known.iter().map(|_| ground.session()).collect();
        let mut blows = Vec::new();
        for (known, session) in known.iter().zip(&mut sessions) {
            let (moment, blow) = deck.draw(&mut random);
            let caller = backend_pid(session);
            let target = Target { ground: &ground, secret: &known.secret, relay: Some(&known.relay), caller };
            blows.push((moment, blow, strike(&target, moment, blow)));
        }
        std::thread::scope(|scope| {
            for (known, mut session) in known.iter().zip(sessions) {
                // It may well fail; what matters is what is left.
                scope.spawn(move || rotate(&mut session, &known.secret, None).is_ok());
            }
        });
        faults_end(&mut ground, known.iter().map(|known| &known.relay));
        let ended = Instant::now();
        for (known, (moment, blow, fallen)) in known.iter().zip(blows) {
            match fallen.load(Ordering::SeqCst) {
                true => *fell.entry((moment, blow)).or_default() += 1,
                false => *missed.entry(moment).or_default() += 1,
            }
            let what = format!("SEED={seed}, round {round}: {blow:?} at {moment:?}, of {}", known.secret);
            assert_in_order(&known.subject(&ground), &what);
        }
        longest = longest.max(ended.elapsed());
    }
    for known in &known {
        known.subject(&ground).rotate().unwrap();
    }
    let of = |is_it: &dyn Fn(&(Moment, Blow)) -> bool| -> usize {
        fell.iter().filter(|(key, _)| is_it(key)).map(|(_, count)| count).sum()
    };
    println!(
        "{rotations} rotations; all was settled {longest:?} after the last fault at the latest; \
         blows that fell, and those that did not as another had ended the server:"
    );
    let moments = || MOMENTS.into_iter().chain(SERVER_MOMENTS);
    for moment in moments() {
        let not = missed.get(&moment).copied().unwrap_or_default();
        println!("{:6} {not:6} {moment:?}", of(&|key| key.0 == moment));
    }
    for blow in BLOWS {
        println!("{:6}        {blow:?}", of(&|key| key.1 == blow));
    }
    // With so many, each has been hit several times.
    if rotations >= 1000 {
        for moment in moments() {
            assert!(of(&|key| key.0 == moment) > 0, "no blow has fallen at {moment:?}");
        }
    }
    assert!(!ground.local.log().contains("PANIC:"));
}
