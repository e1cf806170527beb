//! Schedules by an independent implementation of AWS's syntax: aws-croniter, in Python. `EXPRESSIONS` says how
//! many are compared, `SEED` which.

use crate::ground::ground;
use secretlink_e2e::Moto;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How many expressions in an ordinary run of the tests.
const EXPRESSIONS: usize = 40;
/// At how many random moments of the next hundred years each is asked for its next windows, and for how many.
const MOMENTS: usize = 8;
const WINDOWS: i32 = 30;

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;
const CENTURY: i64 = 100 * 365 * 86_400;
/// 2200-01-01, where the other implementation ends.
const THEIR_END: i64 = 7_258_118_400;

/// The other implementation.
struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Oracle {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cron_oracle.py");
        let mut process = Command::new(Moto::python())
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot run Python");
        let (questions, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Oracle { process, questions, answers: BufReader::new(answers) }
    }

    fn next(&mut self, expression: &str, after: i64, count: i32) -> Result<Vec<i64>, String> {
        writeln!(self.questions, "{after} {count} {expression}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| line.trim_end().to_owned())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ours. Windows of days with several hours are as many windows.
fn ours(session: &mut postgres::Client, expression: &str, after: i64, count: i32) -> Vec<i64> {
    let sql = "SELECT coalesce(array_agg(extract(epoch FROM lower(w))::bigint), '{}')
               FROM next_rotations($1, NULL, to_timestamp($2::float8), $3) w";
    let (schedule, after) = (format!("cron({expression})"), after as f64);
    session.query_one(sql, &[&schedule, &after, &count]).unwrap().get(0)
}

/// A part of a field between commas.
fn part(random: &mut fastrand::Rng, first: u32, last: u32, names: &[&str]) -> String {
    let name = |number: u32, random: &mut fastrand::Rng| match names.get((number - first) as usize) {
        Some(name) if random.bool() => (*name).to_owned(),
        _ => number.to_string(),
    };
    let (one, other) = (random.u32(first..=last), random.u32(first..=last));
    let step = random.u32(1..=last.min(12));
    match random.u32(0..6) {
        0 if names.len() != 7 => format!("{}/{step}", name(one, random)),
        1 if names.len() != 7 => {
            format!("{}-{}/{step}", name(one.min(other), random), name(one.max(other), random))
        }
        2 => format!("{}-{}", name(one.min(other), random), name(one.max(other), random)),
        _ => name(one, random),
    }
}

fn field(random: &mut fastrand::Rng, first: u32, last: u32, names: &[&str]) -> String {
    match random.u32(0..5) {
        0 => "*".to_owned(),
        1 if names.len() != 7 => format!("*/{}", random.u32(1..=last.min(12))),
        _ => {
            let parts: Vec<_> = (0..random.usize(1..=3)).map(|_| part(random, first, last, names)).collect();
            parts.join(",")
        }
    }
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

fn expression(random: &mut fastrand::Rng) -> String {
    let hours = field(random, 0, 23, &[]);
    let months = field(random, 1, 12, &MONTHS);
    let weekday = |random: &mut fastrand::Rng| match random.bool() {
        true => (*random.choice(&WEEKDAYS).unwrap()).to_owned(),
        false => random.u32(1..=7).to_string(),
    };
    let (of_month, of_week) = match random.u32(0..8) {
        0 => ("L".to_owned(), "?".to_owned()),
        1 => ("?".to_owned(), format!("{}#{}", weekday(random), random.u32(1..=5))),
        2 => ("?".to_owned(), format!("{}L", weekday(random))),
        3 | 4 => ("?".to_owned(), field(random, 1, 7, &WEEKDAYS)),
        _ => (field(random, 1, 31, &[]), "?".to_owned()),
    };
    format!("0 {hours} {of_month} {months} {of_week} *")
}

#[test]
fn windows_are_where_another_implementation_has_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let expressions = number("EXPRESSIONS").map_or(EXPRESSIONS, |number| number as usize);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed} EXPRESSIONS={expressions}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut oracle, mut session) = (Oracle::start(), ground().session());
    // Those of AWS's page "Schedule expressions", and some of ranges over the end.
    let known = [
        "0 /8 * * ? *",
        "0 8 * * ? *",
        "0 10 ? * 1-5 *",
        "0 8 1 * ? *",
        "0 8 1 JAN,APR,JUL,OCT ? *",
        "0 1 L * ? *",
        "0 2 ? * SUN#1 *",
        "0 2 ? * SUN *",
        "0 16 ? * THUL *",
        "0 22-3 1 * ? *",
        "0 8 ? * FRI-MON *",
        "0 8 29 2 ? *",
        "0 8 1 NOV-FEB ? *",
    ];
    let mut all: Vec<_> = known.into_iter().map(str::to_owned).collect();
    all.extend((0..expressions).map(|_| expression(&mut random)));
    let mut compared = 0;
    for expression in all {
        for moment in 0..MOMENTS {
            let after = if moment == 0 { NOW } else { NOW + random.i64(0..CENTURY) };
            let windows = ours(&mut session, &expression, after, WINDOWS);
            let (mut theirs, mut from) = (Vec::new(), after);
            loop {
                // The other one writes a step from the beginning in one way only.
                let found = oracle.next(&expression.replace(" /", " */"), from, WINDOWS);
                theirs.extend(found.unwrap_or_else(|error| panic!("SEED={seed}: {expression}: {error}")));
                // It gives up where there is none for a few years, as on the 29th of February around 2100.
                match windows.get(theirs.len()).copied() {
                    Some(next) if next < THEIR_END => from = next - 1,
                    _ => break,
                }
            }
            let both = windows.len().min(theirs.len());
            assert_eq!(windows[..both], theirs[..both], "SEED={seed}: {expression} after {after}");
            // A search ends after a hundred years here, and in 2200 there.
            let missed = |one: &[i64], other: &[i64]| {
                one.len() < WINDOWS as usize
                    && other.get(both).is_some_and(|t| *t < after + CENTURY && *t < THEIR_END)
            };
            let is_whole = !missed(&windows, &theirs) && !missed(&theirs, &windows);
            assert!(is_whole, "SEED={seed}: {expression} after {after}: {windows:?}, {theirs:?}");
            compared += both;
        }
    }
    println!("{compared} windows are the same");
}
