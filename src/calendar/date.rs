//! Days, months and years of the Gregorian calendar, which goes on for ever in both directions.
//!
//! Months are counted from March of the year 0. A year that begins in March has its leap day at its end, and every month but
//! the last one is as long in each year.

/// Days from the first of March of the year 0 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
/// Days, and months, of 400 years: then the calendar repeats.
const DAYS_OF_400_YEARS: i64 = 146_097;
const MONTHS_OF_400_YEARS: i64 = 4_800;

/// The month's number, of a year and a month from 1 to 12.
pub(super) fn month(year: i64, month: i64) -> i64 {
    year.saturating_mul(12).saturating_add(month).saturating_sub(3)
}

/// The year and the month, 1 to 12, of a month's number.
pub(super) fn year_and_month(month: i64) -> (i64, i64) {
    let from_january = month.saturating_add(2);
    (from_january.div_euclid(12), from_january.rem_euclid(12).saturating_add(1))
}

/// The month's first day, in days since 1970-01-01.
pub(super) fn first_day(month: i64) -> i64 {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
    // March to July have 153 days, so have August to December, and January begins the same again.
    let of_months = month.saturating_mul(153).saturating_add(2) / 5;
    let leap_days = year.div_euclid(4).saturating_sub(year.div_euclid(100)).saturating_add(year.div_euclid(400));
    year.saturating_mul(365).saturating_add(leap_days).saturating_add(of_months).saturating_sub(DAYS_TO_1970)
}

/// The number of the month that a day is in, of days since 1970-01-01.
pub(super) fn month_of(day: i64) -> i64 {
    let days = day.saturating_add(DAYS_TO_1970);
    // By the mean month, which is wrong by one at most.
    let near = days.saturating_mul(MONTHS_OF_400_YEARS).div_euclid(DAYS_OF_400_YEARS);
    if first_day(near) > day {
        near.saturating_sub(1)
    } else if first_day(near.saturating_add(1)) <= day {
        near.saturating_add(1)
    } else {
        near
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by a panic")]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_is_in_its_month() {
        let (mut year, mut number, mut day) = (1500, 1, 1);
        for days in -171_664..200_000 {
            let first = first_day(month(year, number));
            assert_eq!((year_and_month(month_of(days)), days - first + 1), ((year, number), day), "{days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match number {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, number, day) = match (number, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, number + 1, 1),
                (_, day) => (year, number, day + 1),
            };
        }
    }

    #[test]
    fn days_far_away_are_in_their_month() {
        for days in [-100_000_000_000_000, 100_000_000_000_000] {
            for days in days - 800..days + 800 {
                let month = month_of(days);
                assert!(first_day(month) <= days && days < first_day(month + 1), "{days}");
            }
        }
    }
}
