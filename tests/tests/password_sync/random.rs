//! Thousands of changes from several sessions, with faults and crashes at every moment; in the end
//! every secret logs in.

mod chaos;
mod foreign_rotation;
mod journal;
mod player;
mod world;

use crate::ground::{RECONCILE_INTERVAL, SETTLED};
use chaos::Chaos;
use player::Player;
use secretlink_e2e::eventually;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use world::World;

const OPERATIONS: usize = 2000;
const SESSIONS: usize = 6;
const SECRETS: usize = 12;
/// Those from this one on have roles that are dropped and made anew.
const DROPPED_FROM: usize = 6;

/// Longer than any start may take, recovery included.
const START_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn whatever_happens_every_secret_logs_in_afterwards() {
    let seed = std::env::var("SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let began = Instant::now();
    let world = World::start(seed, SECRETS);

    thread::scope(|scope| {
        let players: Vec<_> = (0..SESSIONS)
            .map(|session| {
                scope.spawn({
                    let world = &world;
                    move || Player::new(world, session, SESSIONS, seed).play(OPERATIONS)
                })
            })
            .collect();
        let chaos = scope.spawn(|| Chaos::new(&world, seed).rage());
        for player in players {
            if let Err(panic) = player.join() {
                world.over.store(true, Ordering::SeqCst);
                eprintln!("SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
        world.over.store(true, Ordering::SeqCst);
        chaos.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let played = began.elapsed();

    // The faults end: what is delayed arrives, and one interval passes.
    world.relay.pass_all();
    world.door_passes();
    eventually("no request is on its way", SETTLED, || match world.relay.open() {
        0 => Ok(()),
        open => Err(open.to_string()),
    });
    let calm = Instant::now();
    eventually("every secret logs in", RECONCILE_INTERVAL + SETTLED, || world.check_all().map(|_| ()));
    let settled = calm.elapsed();
    thread::sleep(RECONCILE_INTERVAL);
    let roles = world.check_all().unwrap_or_else(|e| panic!("SEED={seed}: {e}"));
    assert!(roles >= SECRETS / 2, "too few roles are left to prove anything: {roles}");

    println!("{}", world.report());
    println!(
        "{roles} roles logged in with their secrets {settled:?} after the faults; the whole took {played:?}"
    );
    world.check_windows();
    world.check_repertoire();
    world.check_log();
    let slowest = *world.slowest_start.lock().unwrap();
    assert!(slowest < START_LIMIT, "a start took {slowest:?}");
}
