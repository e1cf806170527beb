//! IAM tokens: from the shared cache, and signed anew.

use std::cell::Cell;

use crate::Setting;
use crate::measure::{Candidate, Difference, Subject, Unit, timed};

/// One call of many in a statement.
pub fn each<'a>(setting: &'a Setting<'a>) -> Subject<'a> {
    let candidate = |name, user: &'static str, calls: u32| {
        let mut client = setting.session();
        // Nobody has had a token for a user of another round.
        let round = Cell::new(0);
        Candidate {
            name,
            once: Box::new(move || {
                round.set(round.get() + 1);
                let expression = match user {
                    "" => "generate_series".to_owned(),
                    user => format!(
                        "iam_auth_token('{HOST}', {})",
                        user.replace("ROUND", &round.get().to_string())
                    ),
                };
                let sql = format!("SELECT count({expression}) FROM generate_series(1, {calls})");
                timed(|| client.batch_execute(&sql).expect("the statement works")) / f64::from(calls)
            }),
        }
    };
    Subject {
        title: "An IAM token, each of many calls in a statement".into(),
        unit: Unit::Seconds,
        repeats: 2,
        candidates: vec![
            candidate(NO_CALL, "", 10_000),
            candidate(CACHED, "'app'", 10_000),
            candidate(ANEW, "'u' || ROUND || '_' || generate_series", 500),
        ],
        ratios: Vec::new(),
        differences: vec![Difference { title: "made anew - from the cache", of: ANEW, less: CACHED }],
    }
}

const HOST: &str = "bench.cluster-abc.eu-west-1.rds.amazonaws.com";
const NO_CALL: &str = "nothing but the loop";
const CACHED: &str = "iam_auth_token, from the cache";
const ANEW: &str = "iam_auth_token, made anew";
