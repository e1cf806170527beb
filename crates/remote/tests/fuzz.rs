//! A bounded run of the fuzz targets: their seeds, then mutations of them, the same each time.
//!
//! `FUZZ_RUNS` (mutations for each target), `FUZZ_SEED` and `FUZZ_INPUT` (one input in hexadecimal)
//! change that; see `fuzz/README.md`, also for libFuzzer.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};

#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code)] // each test uses its part
mod targets;

use targets::{TARGETS, Target};

/// Enough to take a few seconds unoptimised.
const RUNS: usize = 20_000;

/// No input makes the client allocate more than this at once, over what its own length explains, if it is said once.
const LARGEST_ALLOCATION: usize = 1 << 20;

/// Notes the largest allocation of each thread. A target does all of its work on the thread that
/// runs it.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

#[test]
fn conninfo() {
    fuzz("conninfo");
}

#[test]
fn rows() {
    fuzz("rows");
}

#[test]
fn answer() {
    fuzz("answer");
}

#[test]
fn driven() {
    fuzz("driven");
}

#[test]
fn login() {
    fuzz("login");
}

/// Mutations of what fails at once would not reach far.
#[test]
fn seeds_of_logins_reach_a_session() {
    // A row for each login in login.rs, a column for what the user asks for there.
    let expected = "10101110 10100010 10100010 00000000 10110110 11110110 \
                    00000000 00000000 00000000 00000000 00000000 10101110";
    let expected = expected.bytes().filter(u8::is_ascii_digit).flat_map(|reached| [reached == b'1'; 2]);
    let seeds = targets::login::seeds();
    let reached: Vec<bool> = seeds.iter().map(|seed| targets::login::logs_in(seed)).collect();
    assert_eq!(reached, expected.collect::<Vec<_>>());
}

fn fuzz(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("a target of that name");
    if let Ok(input) = std::env::var("FUZZ_INPUT") {
        return run(&target, &from_hex(&input), "FUZZ_INPUT");
    }
    let seed = setting("FUZZ_SEED", 1);
    let seeds = (target.seeds)();
    for (number, input) in seeds.iter().enumerate() {
        run(&target, input, &format!("seed {number}"));
    }
    for number in 0..setting("FUZZ_RUNS", RUNS) / target.cost {
        let mut random = Random::new(seed as u64, number as u64);
        run(&target, &mutated(&seeds, &mut random), &format!("mutation {number} of FUZZ_SEED={seed}"));
    }
}

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value:?}")),
        Err(_) => default,
    }
}

fn run(target: &Target, input: &[u8], which: &str) {
    LARGEST.set(0);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let largest = LARGEST.get();
    let too_large = target.name != "driven" && largest > LARGEST_ALLOCATION + 4 * input.len();
    if outcome.is_err() || too_large {
        panic!(
            "{}, {which}; largest allocation {largest} bytes\nreproduce with FUZZ_INPUT={}\n{}",
            target.name,
            hex(input),
            input.escape_ascii()
        );
    }
}

/// One of the seeds, with one to four changes.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut input, seeds, random);
    }
    input
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const LENGTHS: [u32; 12] =
        [0, 1, 3, 4, 5, 6, 0xff, 0x7530, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0xffff_ffff];
    const BYTES: &[u8] = b"\0\x01\x7f\x80\xff '\"\\=@:/?%&,[]DTCZERNSKI0";
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(40) + 1);
    match random.below(10) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = BYTES[random.below(BYTES.len())],
        2 => input.insert(at, BYTES[random.below(BYTES.len())]),
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        5 => {
            let copy = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        6 if at + 4 <= input.len() => {
            input[at..at + 4].copy_from_slice(&LENGTHS[random.below(LENGTHS.len())].to_be_bytes());
        }
        7 if at < input.len() => input[at] = input[at].wrapping_add(random.below(5) as u8).wrapping_sub(2),
        8 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let to = from + random.below((other.len() - from).min(80) + 1);
            input.splice(at..at, other[from..to].iter().copied());
        }
        9 => input[at..end].reverse(),
        _ => {}
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    digits.collect::<Option<_>>().expect("FUZZ_INPUT is hexadecimal")
}
