//! Days and hours in UTC, as far as schedules need them. There are no leap seconds, as with Postgres.

/// Seconds of an hour.
pub(crate) const HOUR: i64 = 3_600;
/// Seconds of a day.
pub(crate) const DAY: i64 = 24 * HOUR;

/// A day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// The year of the Gregorian calendar.
    pub year: i64,
    /// The month, from 1.
    pub month: u32,
    /// The day of the month, from 1.
    pub day: u32,
}

impl Date {
    /// The day of a number of days since 1970-01-01.
    ///
    /// Years are counted from March, so that a leap day is the last of its year.
    pub(crate) fn of_days(days: i64) -> Date {
        // Days of 400 years, of 100, of 4.
        const ERA: i64 = 146_097;
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Date { year, month: month as u32, day: day as u32 }
    }

    /// How many days its month has.
    pub(crate) fn days_in_month(self) -> u32 {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        match self.month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

/// The day of the week of a number of days since 1970-01-01, a Thursday: 1 is Sunday, 7 is Saturday.
pub(crate) fn day_of_week(days: i64) -> u32 {
    ((days + 4).rem_euclid(7) + 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_787, (2026, 11, 30)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (-719_468, (0, 3, 1)),
        ] {
            let (year, month, day) = date;
            assert_eq!(Date::of_days(days), Date { year, month, day }, "{days}");
        }
        assert_eq!(day_of_week(0), 5);
        assert_eq!(day_of_week(20_787), 2, "a Monday");
        assert_eq!(day_of_week(-4), 1);
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut before = Date::of_days(-100_000);
        for days in -99_999..200_000 {
            let date = Date::of_days(days);
            let follows = match before.day < before.days_in_month() {
                true => Date { day: before.day + 1, ..before } == date,
                false if before.month < 12 => Date { month: before.month + 1, day: 1, ..before } == date,
                false => Date { year: before.year + 1, month: 1, day: 1 } == date,
            };
            assert!(follows, "{before:?} {date:?}");
            before = date;
        }
    }
}
