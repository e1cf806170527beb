//! Schedules in AWS's syntax: `rate(10 days)`, `cron(0 8 1 * ? *)`, and how long their windows are.
//!
//! Source: Secrets Manager user guide, "Schedule expressions in Secrets Manager rotation", and API
//! reference, RotationRulesType. Times are in UTC.

use secretlink_core::{Report, SqlState};

use crate::calendar::{DAY, Date, HOUR, day_of_week};

/// The shortest interval in hours.
const LEAST_HOURS: i64 = 4;
/// The longest interval in days.
const MOST_DAYS: i64 = 999;
/// How far ahead a window is looked for: the 29th of February may be eight years away, and with a day of
/// the week besides that, there is none at all.
const HORIZON: i64 = 366 * 100;

/// When a secret is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    kind: Kind,
    /// Hours of a window; `None` for the default.
    duration: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Every so many seconds, from midnight on.
    Rate {
        every: i64,
        hours: bool,
    },
    Cron(Cron),
}

/// Which hours of which days.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cron {
    hours: Vec<bool>,
    /// The hours as they were written.
    hours_text: String,
    /// Whether the schedule repeats within a day.
    repeats: bool,
    days: Days,
    months: Vec<bool>,
}

/// Which days of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    /// Days by their number in the month; with `last`, the month's last day, too; and the last days of the names in `named`.
    OfMonth { days: Vec<bool>, last: bool, named: Vec<u32> },
    /// Days by their name: all of that name, or only the n-th or the last of a month.
    OfWeek { days: Vec<bool>, nth: Vec<(u32, u32)>, last: Vec<u32> },
}

/// The time in which a secret is to be rotated, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The window's first second.
    pub from: i64,
    /// The first second after the window.
    pub to: i64,
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} of a schedule: \"{text}\"")]
pub struct ScheduleError {
    what: &'static str,
    text: String,
    problem: &'static str,
}

impl Report for ScheduleError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("22023")
    }

    fn detail(&self) -> Option<String> {
        Some(self.problem.to_owned())
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Examples are rate(10 days), rate(12 hours), cron(0 8 1 * ? *) and cron(0 2 ? * SUN#1 *).".into(),
        )
    }
}

fn wrong<T>(what: &'static str, text: &str, problem: &'static str) -> Result<T, ScheduleError> {
    Err(ScheduleError { what, text: text.to_owned(), problem })
}

impl Schedule {
    /// Reads an expression and a duration such as `3h`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(expression: &str, duration: Option<&str>) -> Result<Schedule, ScheduleError> {
        let inside = |name: &str| expression.trim().strip_prefix(name)?.strip_suffix(')');
        let kind = if let Some(inside) = inside("rate(") {
            rate(inside)?
        } else if let Some(inside) = inside("cron(") {
            Kind::Cron(cron(inside)?)
        } else {
            return wrong("expression", expression, "It must be rate(...) or cron(...).");
        };
        let hours = duration.map(hours_of).transpose()?;
        let schedule = Schedule { kind, duration: hours };
        schedule.check_duration(duration.unwrap_or_default())?;
        Ok(schedule)
    }

    /// A window must not reach the next one; for schedules in days, nor the next day.
    fn check_duration(&self, text: &str) -> Result<(), ScheduleError> {
        let Some(duration) = self.duration else { return Ok(()) };
        let starts: Vec<i64> = match &self.kind {
            Kind::Rate { every, .. } if duration * HOUR > *every => {
                return wrong("duration", text, "The window would reach the next one.");
            }
            Kind::Rate { hours: true, .. } => return Ok(()),
            Kind::Rate { .. } => vec![0],
            Kind::Cron(cron) => {
                (0..24).zip(&cron.hours).filter(|(_, set)| **set).map(|(hour, _)| hour).collect()
            }
        };
        // Of one day's last window the next one may be the first of the day after.
        let next_day = starts.first().map(|first| first + 24);
        let mut following = starts.iter().skip(1).chain(&next_day);
        if starts.iter().any(|start| following.next().is_some_and(|next| start + duration > *next)) {
            return wrong("duration", text, "The window would reach the next one.");
        }
        match starts[..] {
            [start] if start + duration > 24 => {
                wrong("duration", text, "The window would reach the next day.")
            }
            _ => Ok(()),
        }
    }

    /// The first window that begins after `after`. A schedule by `rate` counts from midnight of the day
    /// `since`, on which it was made. `None` if there is none in a hundred years.
    pub fn next(&self, since: i64, after: i64) -> Option<Window> {
        match &self.kind {
            Kind::Rate { every, .. } => {
                let midnight = since.div_euclid(DAY) * DAY;
                let from = midnight + ((after - midnight).div_euclid(*every) + 1).max(0) * every;
                Some(self.window(from))
            }
            Kind::Cron(cron) => {
                let mut days = after.div_euclid(DAY);
                let last = days + HORIZON;
                while days <= last {
                    if cron.has_day(days) {
                        let hours = (0..24).zip(&cron.hours).filter(|(_, set)| **set);
                        let mut starts = hours.map(|(hour, _)| days * DAY + hour * HOUR);
                        if let Some(from) = starts.find(|from| *from > after) {
                            return Some(self.window(from));
                        }
                    }
                    days += 1;
                }
                None
            }
        }
    }

    /// Whether secrets may be rotated by it: every four hours at most, as with AWS.
    ///
    /// # Errors
    /// If windows follow each other sooner.
    pub fn check_interval(&self) -> Result<(), ScheduleError> {
        let Kind::Cron(cron) = &self.kind else { return Ok(()) };
        // Some days that follow each other, if there are any.
        let (mut last, mut left) = (None, 100);
        let mut window = self.next(0, 0);
        while let Some(Window { from, .. }) = window.filter(|_| left > 0) {
            if last.is_some_and(|last| from - last < LEAST_HOURS * HOUR) {
                return wrong(
                    HOURS.what,
                    &cron.hours_text,
                    "Secrets can be rotated every four hours at most.",
                );
            }
            last = Some(from);
            left -= 1;
            window = self.next(0, from);
        }
        Ok(())
    }

    /// Whether a window that was missed is made up for at once.
    pub fn catches_up(&self) -> bool {
        matches!(self.kind, Kind::Rate { .. })
    }

    fn window(&self, from: i64) -> Window {
        let of_day = from.rem_euclid(DAY);
        let in_hours = match &self.kind {
            Kind::Rate { hours, .. } => *hours,
            Kind::Cron(cron) => cron.repeats,
        };
        let length = match self.duration {
            Some(hours) => hours * HOUR,
            None if in_hours => HOUR,
            None => DAY - of_day,
        };
        Window { from, to: from + length }
    }
}

/// A whole number of hours, such as `3h`.
fn hours_of(text: &str) -> Result<i64, ScheduleError> {
    match text.strip_suffix('h').and_then(digits) {
        Some(hours) if (1..=24).contains(&hours) => Ok(hours.into()),
        _ => wrong("duration", text, "It must be whole hours from 1h to 24h."),
    }
}

/// A number of digits alone.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn rate(inside: &str) -> Result<Kind, ScheduleError> {
    let mut words = inside.split_ascii_whitespace();
    let (Some(value), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return wrong("rate", inside, "It must be a number and a unit, such as 10 days.");
    };
    let Some(value) = digits(value).map(i64::from).filter(|value| *value > 0) else {
        return wrong("rate", inside, "The value must be a positive whole number.");
    };
    match unit {
        "hour" | "hours" if value < LEAST_HOURS => wrong("rate", inside, "It must be 4 hours at least."),
        "hour" | "hours" if value > MOST_DAYS * 24 => wrong("rate", inside, "It must be 999 days at most."),
        "hour" | "hours" => Ok(Kind::Rate { every: value * HOUR, hours: true }),
        "day" | "days" if value > MOST_DAYS => wrong("rate", inside, "It must be 999 days at most."),
        "day" | "days" => Ok(Kind::Rate { every: value * DAY, hours: false }),
        _ => wrong("rate", inside, "The unit must be hours or days."),
    }
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The numbers that a field of a cron expression may have, and their names.
struct Field {
    what: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
    problem: &'static str,
}

const HOURS: Field = Field {
    what: "hours field",
    first: 0,
    last: 23,
    names: &[],
    problem: "It must be hours from 0 to 23, with the wildcards , - * and /.",
};
const DAYS_OF_MONTH: Field = Field {
    what: "day-of-month field",
    first: 1,
    last: 31,
    names: &[],
    problem: "It must be days from 1 to 31, with the wildcards , - * ? / and L, or the last one of a name, as SUNL.",
};
const MONTHS_OF_YEAR: Field = Field {
    what: "month field",
    first: 1,
    last: 12,
    names: &MONTHS,
    problem: "It must be months from 1 to 12 or JAN to DEC, with the wildcards , - * and /.",
};
const DAYS_OF_WEEK: Field = Field {
    what: "day-of-week field",
    first: 1,
    last: 7,
    names: &WEEKDAYS,
    problem: "It must be days from 1 to 7 or SUN to SAT, with the wildcards , - * ? / L and #.",
};

impl Field {
    fn wrong<T>(&self, text: &str) -> Result<T, ScheduleError> {
        wrong(self.what, text, self.problem)
    }

    /// A number, or the name of one.
    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(place) => self.first + place as u32,
            None => digits(text)?,
        };
        (self.first..=self.last).contains(&number).then_some(number)
    }

    /// Adds the numbers of one part between commas: `*`, `5`, `5-8`, each perhaps with a step.
    fn add(&self, part: &str, set: &mut [bool]) -> Option<()> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(digits(step).filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            // The docs write a step from the beginning both ways.
            _ if range == "*" || (range.is_empty() && step.is_some()) => (self.first, self.last),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            // With a step, from there on to the end.
            None if step.is_some() => (self.number(range)?, self.last),
            None => (self.number(range)?, self.number(range)?),
        };
        let count = self.last - self.first + 1;
        // A range may go over the end, as FRI-MON.
        let length = (to + count - from) % count;
        for offset in (0..=length).step_by(step.unwrap_or(1) as usize) {
            set[((from - self.first + offset) % count) as usize] = true;
        }
        Some(())
    }

    fn empty(&self) -> Vec<bool> {
        vec![false; (self.last - self.first + 1) as usize]
    }

    fn set(&self, text: &str) -> Result<Vec<bool>, ScheduleError> {
        let mut set = self.empty();
        match text.split(',').try_for_each(|part| self.add(part, &mut set)) {
            Some(()) => Ok(set),
            None => self.wrong(text),
        }
    }
}

fn cron(inside: &str) -> Result<Cron, ScheduleError> {
    let fields: Vec<&str> = inside.split_ascii_whitespace().collect();
    let [minutes, hours, of_month, months, of_week, year] = fields[..] else {
        return wrong(
            "cron expression",
            inside,
            "It must have six fields: minutes, hours, day-of-month, month, day-of-week and year.",
        );
    };
    if minutes != "0" {
        return wrong("minutes field", minutes, "It must be 0, since windows open on the hour.");
    }
    if year != "*" {
        return wrong("year field", year, "It must be *.");
    }
    let hour_set = HOURS.set(hours)?;
    let days = match (of_month, of_week) {
        ("?", "?") => {
            return wrong(
                "day-of-week field",
                of_week,
                "One of day-of-month and day-of-week must be ?, and the other must not.",
            );
        }
        (_, "?") => days_of_month(of_month)?,
        ("?", _) => days_of_week(of_week)?,
        _ => {
            return wrong(
                "day-of-week field",
                of_week,
                "One of day-of-month and day-of-week must be ?, and the other must not.",
            );
        }
    };
    Ok(Cron {
        repeats: hour_set.iter().filter(|set| **set).count() > 1,
        hours: hour_set,
        hours_text: hours.to_owned(),
        days,
        months: MONTHS_OF_YEAR.set(months)?,
    })
}

fn days_of_month(text: &str) -> Result<Days, ScheduleError> {
    let (mut days, mut last, mut named) = (DAYS_OF_MONTH.empty(), false, Vec::new());
    for part in text.split(',') {
        if part.eq_ignore_ascii_case("L") {
            last = true;
        } else if let Some(day) = last_day_of_name(part) {
            named.push(day);
        } else if DAYS_OF_MONTH.add(part, &mut days).is_none() {
            return DAYS_OF_MONTH.wrong(text);
        }
    }
    Ok(Days::OfMonth { days, last, named })
}

/// `SUNL`, the last Sunday of a month, which AWS has in this field. A number would be that of a day of the month.
fn last_day_of_name(part: &str) -> Option<u32> {
    let name = part.strip_suffix(['L', 'l']).filter(|name| digits(name).is_none())?;
    DAYS_OF_WEEK.number(name)
}

fn days_of_week(text: &str) -> Result<Days, ScheduleError> {
    let (mut days, mut nth, mut last) = (DAYS_OF_WEEK.empty(), Vec::new(), Vec::new());
    for part in text.split(',') {
        let known = if let Some((day, n)) = part.split_once('#') {
            let n = digits(n).filter(|n| (1..=5).contains(n));
            DAYS_OF_WEEK.number(day).zip(n).map(|found| nth.push(found))
        } else if part.eq_ignore_ascii_case("L") {
            // By itself it is the last day of the week, Saturday.
            DAYS_OF_WEEK.add("7", &mut days)
        } else if let Some(day) = part.strip_suffix(['L', 'l']) {
            DAYS_OF_WEEK.number(day).map(|day| last.push(day))
        } else {
            DAYS_OF_WEEK.add(part, &mut days)
        };
        if known.is_none() {
            return DAYS_OF_WEEK.wrong(text);
        }
    }
    Ok(Days::OfWeek { days, nth, last })
}

impl Cron {
    fn has_day(&self, days: i64) -> bool {
        let date = Date::of_days(days);
        if !self.months[date.month as usize - 1] {
            return false;
        }
        match &self.days {
            Days::OfMonth { days: numbers, last, named } => {
                numbers[date.day as usize - 1]
                    || (*last && date.day == date.days_in_month())
                    || (named.contains(&day_of_week(days)) && date.day + 7 > date.days_in_month())
            }
            Days::OfWeek { days: named, nth, last } => {
                let weekday = day_of_week(days);
                let n = (date.day - 1) / 7 + 1;
                named[weekday as usize - 1]
                    || nth.contains(&(weekday, n))
                    || (last.contains(&weekday) && date.day + 7 > date.days_in_month())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30 10:30, a Monday.
    const NOW: i64 = 20_787 * DAY + 10 * HOUR + 1_800;

    fn show(seconds: i64) -> String {
        let Date { year, month, day } = Date::of_days(seconds.div_euclid(DAY));
        let of_day = seconds.rem_euclid(DAY);
        format!("{year}-{month:02}-{day:02} {:02}:{:02}", of_day / HOUR, of_day % HOUR / 60)
    }

    fn windows(expression: &str, duration: Option<&str>, count: usize) -> Vec<(String, i64)> {
        let schedule = Schedule::parse(expression, duration).unwrap();
        let mut after = NOW;
        std::iter::from_fn(|| {
            let window = schedule.next(NOW, after)?;
            after = window.from;
            Some((show(window.from), (window.to - window.from) / HOUR))
        })
        .take(count)
        .collect()
    }

    /// An example: the expression, its duration, and the first windows: when they begin, and their hours.
    type Example = (&'static str, Option<&'static str>, &'static [(&'static str, i64)]);

    /// Secrets Manager user guide, "Rotation schedules" (once "Schedule expressions in Secrets Manager rotation"): the
    /// examples in its text and tables, those for single wildcards in its last table, and of the command line
    /// reference, rotate-secret.
    const EXAMPLES: [Example; 38] = [
        ("rate(4 hours)", None, &[("2026-11-30 12:00", 1), ("2026-11-30 16:00", 1), ("2026-11-30 20:00", 1)]),
        ("rate(1 day)", None, &[("2026-12-01 00:00", 24), ("2026-12-02 00:00", 24)]),
        ("rate(8 days)", None, &[("2026-12-08 00:00", 24), ("2026-12-16 00:00", 24)]),
        ("rate(10 days)", None, &[("2026-12-10 00:00", 24), ("2026-12-20 00:00", 24)]),
        ("rate(12 hours)", None, &[("2026-11-30 12:00", 1), ("2026-12-01 00:00", 1)]),
        ("rate(999 days)", None, &[("2029-08-25 00:00", 24)]),
        (
            "cron(0 4/12 * * ? *)",
            None,
            &[("2026-11-30 16:00", 1), ("2026-12-01 04:00", 1), ("2026-12-01 16:00", 1)],
        ),
        (
            "cron(0 /8 * * ? *)",
            None,
            &[("2026-11-30 16:00", 1), ("2026-12-01 00:00", 1), ("2026-12-01 08:00", 1)],
        ),
        (
            "cron(0 8/8 * * ? *)",
            None,
            &[("2026-11-30 16:00", 1), ("2026-12-01 08:00", 1), ("2026-12-01 16:00", 1)],
        ),
        ("cron(0 8/8 * * ? *)", Some("2h"), &[("2026-11-30 16:00", 2), ("2026-12-01 08:00", 2)]),
        (
            "cron(0 2/10 * * ? *)",
            None,
            &[("2026-11-30 12:00", 1), ("2026-11-30 22:00", 1), ("2026-12-01 02:00", 1)],
        ),
        ("cron(0 10 * * ? *)", None, &[("2026-12-01 10:00", 14), ("2026-12-02 10:00", 14)]),
        ("cron(0 18 ? * SAT *)", None, &[("2026-12-05 18:00", 6), ("2026-12-12 18:00", 6)]),
        (
            "cron(0 8 1 * ? *)",
            None,
            &[("2026-12-01 08:00", 16), ("2027-01-01 08:00", 16), ("2027-02-01 08:00", 16)],
        ),
        ("cron(0 8 1 * ? *)", Some("3h"), &[("2026-12-01 08:00", 3)]),
        (
            "cron(0 1 ? 1/3 SUN#1 *)",
            None,
            &[("2027-01-03 01:00", 23), ("2027-04-04 01:00", 23), ("2027-07-04 01:00", 23)],
        ),
        (
            "cron(0 17 L * ? *)",
            None,
            &[("2026-11-30 17:00", 7), ("2026-12-31 17:00", 7), ("2027-01-31 17:00", 7)],
        ),
        (
            "cron(0 8 ? * MON-FRI *)",
            None,
            &[("2026-12-01 08:00", 16), ("2026-12-02 08:00", 16), ("2026-12-03 08:00", 16)],
        ),
        (
            "cron(0 16 1,15 * ? *)",
            None,
            &[("2026-12-01 16:00", 8), ("2026-12-15 16:00", 8), ("2027-01-01 16:00", 8)],
        ),
        (
            "cron(0 0 ? * SUN#1 *)",
            None,
            &[("2026-12-06 00:00", 24), ("2027-01-03 00:00", 24), ("2027-02-07 00:00", 24)],
        ),
        (
            "cron(0 0 ? 1/11 2#1 *)",
            None,
            &[("2026-12-07 00:00", 24), ("2027-01-04 00:00", 24), ("2027-12-06 00:00", 24)],
        ),
        // Wildcards: of the day of the month,
        ("cron(0 0 1-15 * ? *)", None, &[("2026-12-01 00:00", 24), ("2026-12-02 00:00", 24)]),
        ("cron(0 0 * * ? *)", None, &[("2026-12-01 00:00", 24), ("2026-12-02 00:00", 24)]),
        (
            "cron(0 0 1/2 * ? *)",
            None,
            &[("2026-12-01 00:00", 24), ("2026-12-03 00:00", 24), ("2026-12-05 00:00", 24)],
        ),
        (
            "cron(0 0 SUNL * ? *)",
            None,
            &[("2026-12-27 00:00", 24), ("2027-01-31 00:00", 24), ("2027-02-28 00:00", 24)],
        ),
        // of the month,
        ("cron(0 20 ? JAN,APR,JUL,OCT 1#1 *)", None, &[("2027-01-03 20:00", 4), ("2027-04-04 20:00", 4)]),
        (
            "cron(0 0 1 1-3 ? *)",
            None,
            &[("2027-01-01 00:00", 24), ("2027-02-01 00:00", 24), ("2027-03-01 00:00", 24)],
        ),
        (
            "cron(0 0 1 1/3 ? *)",
            None,
            &[("2027-01-01 00:00", 24), ("2027-04-01 00:00", 24), ("2027-07-01 00:00", 24)],
        ),
        // and of the day of the week.
        ("cron(0 0 ? * TUE#3 *)", None, &[("2026-12-15 00:00", 24), ("2027-01-19 00:00", 24)]),
        (
            "cron(0 0 ? * 1,4 *)",
            None,
            &[("2026-12-02 00:00", 24), ("2026-12-06 00:00", 24), ("2026-12-09 00:00", 24)],
        ),
        (
            "cron(0 0 ? * 1-4 *)",
            None,
            &[("2026-12-01 00:00", 24), ("2026-12-02 00:00", 24), ("2026-12-06 00:00", 24)],
        ),
        ("cron(0 0 ? * * *)", None, &[("2026-12-01 00:00", 24), ("2026-12-02 00:00", 24)]),
        (
            "cron(0 0 ? * 1/2 *)",
            None,
            &[
                ("2026-12-01 00:00", 24),
                ("2026-12-03 00:00", 24),
                ("2026-12-05 00:00", 24),
                ("2026-12-06 00:00", 24),
            ],
        ),
        ("cron(0 0 ? * L *)", None, &[("2026-12-05 00:00", 24), ("2026-12-12 00:00", 24)]),
        ("cron(0 8 ? * 6L *)", None, &[("2026-12-25 08:00", 16), ("2027-01-29 08:00", 16)]),
        // Over the end, and over many years.
        (
            "cron(0 8 ? * FRI-MON *)",
            None,
            &[("2026-12-04 08:00", 16), ("2026-12-05 08:00", 16), ("2026-12-06 08:00", 16)],
        ),
        (
            "cron(0 0 29 FEB ? *)",
            None,
            &[("2028-02-29 00:00", 24), ("2032-02-29 00:00", 24), ("2036-02-29 00:00", 24)],
        ),
        ("cron(0 0 31 FEB ? *)", None, &[]),
    ];

    #[test]
    fn the_examples_of_awss_documentation() {
        for (expression, duration, expected) in EXAMPLES {
            let found = windows(expression, duration, expected.len().max(1));
            let expected: Vec<_> =
                expected.iter().map(|(from, hours)| ((*from).to_owned(), *hours)).collect();
            assert_eq!(found, expected, "{expression}, {duration:?}");
            let schedule = Schedule::parse(expression, duration).unwrap();
            assert_eq!(schedule.check_interval(), Ok(()), "{expression}");
        }
    }

    #[test]
    fn secrets_are_rotated_every_four_hours_at_most() {
        let check = |expression| Schedule::parse(expression, None).unwrap().check_interval();
        for good in
            ["cron(0 /4 * * ? *)", "cron(0 2,22 * * ? *)", "cron(0 1,23 1,15 * ? *)", "cron(0 0,23 L 2 ? *)"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, hours) in [
            ("cron(0 * * * ? *)", "*"),
            ("cron(0 /3 * * ? *)", "/3"),
            ("cron(0 8-10 1 * ? *)", "8-10"),
            ("cron(0 1,23 * * ? *)", "1,23"),
            ("cron(0 1,23 ? * SAT,SUN *)", "1,23"),
        ] {
            let error = check(bad).unwrap_err();
            assert_eq!((error.what, error.text.as_str()), ("hours field", hours), "{bad}");
        }
    }

    #[test]
    fn windows_have_awss_lengths() {
        let length = |expression, duration| windows(expression, duration, 1)[0].1;
        assert_eq!(length("rate(4 hours)", None), 1);
        assert_eq!(length("rate(1 day)", None), 24);
        assert_eq!(length("cron(0 8 * * ? *)", None), 16);
        assert_eq!(length("cron(0 8,16 * * ? *)", None), 1);
        assert_eq!(length("cron(0 8 * * ? *)", Some("3h")), 3);
        assert_eq!(length("cron(0 8 * * ? *)", Some("16h")), 16);
        assert_eq!(length("rate(4 hours)", Some("4h")), 4);
        assert_eq!(length("cron(0 2,22 * * ? *)", Some("4h")), 4);
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (expression, duration, what) in [
            ("", None, "expression"),
            ("10 days", None, "expression"),
            ("Rate(10 days)", None, "expression"),
            ("rate(10 days", None, "expression"),
            ("rate()", None, "rate"),
            ("rate(10)", None, "rate"),
            ("rate(0 days)", None, "rate"),
            ("rate(-1 days)", None, "rate"),
            ("rate(+10 days)", None, "rate"),
            ("rate(3 hours)", None, "rate"),
            ("rate(1000 days)", None, "rate"),
            ("rate(23977 hours)", None, "rate"),
            ("rate(10 minutes)", None, "rate"),
            ("rate(99999999999 days)", None, "rate"),
            ("cron(0 8 * * ?)", None, "cron expression"),
            ("cron(0 8 * * ? * *)", None, "cron expression"),
            ("cron(5 8 * * ? *)", None, "minutes field"),
            ("cron(* 8 * * ? *)", None, "minutes field"),
            ("cron(0 24 * * ? *)", None, "hours field"),
            ("cron(0 ? * * ? *)", None, "hours field"),
            ("cron(0 8/0 * * ? *)", None, "hours field"),
            ("cron(0 8, * * ? *)", None, "hours field"),
            ("cron(0 8 32 * ? *)", None, "day-of-month field"),
            ("cron(0 8 0 * ? *)", None, "day-of-month field"),
            ("cron(0 8 1W * ? *)", None, "day-of-month field"),
            ("cron(0 8 15L * ? *)", None, "day-of-month field"),
            ("cron(0 8 SUN * ? *)", None, "day-of-month field"),
            ("cron(0 8 SUNL * SUN *)", None, "day-of-week field"),
            ("cron(0 8 1/0 * ? *)", None, "day-of-month field"),
            ("cron(0 8 1- * ? *)", None, "day-of-month field"),
            ("cron(0 8 ? *)", None, "cron expression"),
            ("cron()", None, "cron expression"),
            ("cron(0 8 1 * ? *", None, "expression"),
            ("cron (0 8 1 * ? *)", None, "expression"),
            ("rate(4.5 hours)", None, "rate"),
            ("rate(1 week)", None, "rate"),
            ("rate(4 HOURS)", None, "rate"),
            ("cron(0 8 1 13 ? *)", None, "month field"),
            ("cron(0 8 1 JANUARY ? *)", None, "month field"),
            ("cron(0 8 ? * 8 *)", None, "day-of-week field"),
            ("cron(0 8 ? * 0 *)", None, "day-of-week field"),
            ("cron(0 8 ? * SUN#6 *)", None, "day-of-week field"),
            ("cron(0 8 ? * SUN#0 *)", None, "day-of-week field"),
            ("cron(0 8 ? * ? *)", None, "day-of-week field"),
            ("cron(0 8 * * * *)", None, "day-of-week field"),
            ("cron(0 8 1 * 2 *)", None, "day-of-week field"),
            ("cron(0 8 1 * ? 2027)", None, "year field"),
            ("rate(10 days)", Some("3"), "duration"),
            ("rate(10 days)", Some("0h"), "duration"),
            ("rate(10 days)", Some("25h"), "duration"),
            ("rate(10 days)", Some("1.5h"), "duration"),
            ("rate(10 days)", Some(""), "duration"),
            ("rate(4 hours)", Some("5h"), "duration"),
            ("cron(0 8 * * ? *)", Some("17h"), "duration"),
            ("cron(0 8/4 * * ? *)", Some("5h"), "duration"),
            ("cron(0 2,22 * * ? *)", Some("5h"), "duration"),
        ] {
            let error = Schedule::parse(expression, duration).unwrap_err();
            assert_eq!(error.what, what, "{expression} {duration:?}");
        }
    }

    #[test]
    fn a_rate_counts_from_the_day_it_was_made() {
        let schedule = Schedule::parse("rate(5 hours)", None).unwrap();
        let midnight = NOW / DAY * DAY;
        assert_eq!(schedule.next(NOW, NOW).unwrap().from, midnight + 15 * HOUR);
        assert_eq!(schedule.next(NOW, midnight + 20 * HOUR).unwrap().from, midnight + 25 * HOUR);
        assert_eq!(schedule.next(NOW, midnight - DAY).unwrap().from, midnight);
    }
}
