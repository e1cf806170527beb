//! Secrets in SQL when somebody has read them before: the shared cache, beside a setting and beside what
//! people have used so far, boto3 in PL/Python with the client kept.

use crate::boto3::Boto3;
use crate::connect::in_new_backend;
use crate::measure::{Candidate, Difference, Ratio, Subject, Unit, timed};
use crate::{SECRET, Setting};

/// One call of many in a statement.
pub fn each<'a>(setting: &'a Setting<'a>, boto3: Option<&'a Boto3>) -> Subject<'a> {
    let candidate = |name, expression: String, calls: u32| {
        let mut client = setting.session();
        let sql = format!("SELECT count({expression}) FROM generate_series(1, {calls})");
        Candidate {
            name,
            once: Box::new(move || {
                timed(|| client.batch_execute(&sql).expect("the statement works")) / f64::from(calls)
            }),
        }
    };
    let mut candidates = vec![
        candidate(NO_CALL, "generate_series".into(), 10_000),
        candidate(A_SETTING, "current_setting('application_name')".into(), 10_000),
        candidate(STRING, format!("get_secret_string('{SECRET}')"), 10_000),
        candidate(VALUE, format!("get_secret_value('{SECRET}')"), 10_000),
    ];
    let mut ratios = Vec::new();
    if let Some(boto3) = boto3 {
        candidates.push(candidate(PYTHON, boto3.call(), 20));
        ratios.push(Ratio { title: "boto3 / get_secret_value", over: PYTHON, less: None, under: VALUE });
    }
    Subject {
        title: "A cached secret, each of many calls in a statement".into(),
        unit: Unit::Seconds,
        repeats: 2,
        candidates,
        ratios,
        differences: vec![
            Difference { title: "get_secret_value - current_setting", of: VALUE, less: A_SETTING },
            Difference { title: "get_secret_string - current_setting", of: STRING, less: A_SETTING },
        ],
    }
}

/// The first call of a new backend.
pub fn first<'a>(setting: &'a Setting<'a>, boto3: Option<&'a Boto3>) -> Subject<'a> {
    let candidate = |name, expression: String| in_new_backend(setting, name, format!("SELECT {expression}"));
    let mut candidates = vec![
        candidate(A_SETTING, "current_setting('application_name')".into()),
        candidate(VALUE, format!("get_secret_value('{SECRET}')")),
    ];
    let mut ratios = Vec::new();
    if let Some(boto3) = boto3 {
        candidates.push(candidate(PYTHON, boto3.call()));
        ratios.push(Ratio { title: "boto3 / get_secret_value", over: PYTHON, less: None, under: VALUE });
    }
    Subject {
        title: "A cached secret, the first statement of a new backend".into(),
        unit: Unit::Seconds,
        repeats: 3,
        candidates,
        ratios,
        differences: vec![Difference {
            title: "get_secret_value - current_setting",
            of: VALUE,
            less: A_SETTING,
        }],
    }
}

const NO_CALL: &str = "nothing but the loop";
const A_SETTING: &str = "current_setting";
const STRING: &str = "get_secret_string, cached";
const VALUE: &str = "get_secret_value, cached";
const PYTHON: &str = "boto3 in PL/Python, client kept";
