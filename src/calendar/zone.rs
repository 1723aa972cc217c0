//! Time zones: how far from UTC a zone's clocks are at an instant, and how long that holds.

use std::fmt;

use super::zones::ZONES;
use super::{DAY, date};

/// More than the clocks of any zone are ever away from UTC.
const FARTHEST: i64 = 26 * 60 * 60;

/// A time zone: UTC, or another one that has a name in IANA's tz database.
///
/// Of each zone what is known is what was announced for 2026 and later. Before that its clocks are taken to have always
/// shown what they show by today's rule.
#[derive(Clone, Copy)]
pub struct Zone {
    name: &'static str,
    clocks: &'static Clocks,
}

impl Zone {
    /// UTC.
    pub const fn utc() -> Self {
        const UTC: &Clocks = &Clocks::fixed(0);
        Self { name: "UTC", clocks: UTC }
    }

    /// The zone of that name, in IANA's spelling, such as `Europe/Berlin`.
    pub fn parse(name: &str) -> Option<Self> {
        // A configuration is read seldom: going through 9 kB costs less than an index would weigh.
        Self::all().find(|zone| zone.name == name)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// All names there are, in no particular order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(|zone| zone.name)
    }

    fn all() -> impl Iterator<Item = Self> {
        ZONES.iter().flat_map(|(clocks, names)| names.split(' ').map(move |name| Self { name, clocks }))
    }

    /// The time around an instant in which the clocks aren't changed.
    pub(super) fn span(&self, at: i64) -> Span {
        let Clocks { before, changes, standard, summer } = self.clocks;
        let mut span = summer.as_ref().map_or(Span::always(*standard), |summer| summer.span(*standard, at));
        let Some((last, _)) = changes.last() else { return span };
        if at >= i64::from(*last) {
            // Here the rule begins.
            span.from = span.from.max(i64::from(*last));
            return span;
        }
        span = Span::always(*before);
        for (instant, offset) in *changes {
            span.pass(at, i64::from(*instant), *offset);
        }
        span
    }

    /// The first instant at which the clocks show that local time or a later one. Local times are in seconds as if UTC's.
    ///
    /// Where the clocks go forward over a time, that is when they do; where they show it twice, it is the first time.
    pub(super) fn first(&self, local: i64) -> i64 {
        let mut span = self.span(local.saturating_sub(FARTHEST));
        loop {
            let instant = span.from.max(local.saturating_sub(span.offset));
            if instant < span.until || span.until == i64::MAX {
                return instant;
            }
            span = self.span(span.until);
        }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name, f)
    }
}

/// A time in which a zone's clocks aren't changed: from an instant until just before another, seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) until: i64,
    /// Seconds east of UTC.
    pub(super) offset: i64,
}

impl Span {
    /// The clocks were never changed, and never will be.
    fn always(offset: i16) -> Self {
        Self { from: i64::MIN, until: i64::MAX, offset: i64::from(offset).saturating_mul(60) }
    }

    /// Makes the span around `at` end at a change of the clocks, or begin there. Changes come in any order.
    fn pass(&mut self, at: i64, instant: i64, offset: i16) {
        if instant > at {
            self.until = self.until.min(instant);
        } else if instant > self.from {
            (self.from, self.offset) = (instant, i64::from(offset).saturating_mul(60));
        }
    }
}

/// What a zone's clocks show. Offsets are minutes east of UTC, to which all clocks have kept for half a century.
pub(super) struct Clocks {
    /// The offset before the first of the changes, if there are any.
    before: i16,
    /// Changes that the rule doesn't tell of, and all others up to the last one of them: seconds since 1970, and the offset
    /// from then on. The rule holds from the last one on.
    changes: &'static [(u32, i16)],
    standard: i16,
    summer: Option<Summer>,
}

impl Clocks {
    /// Clocks that show the same all the year.
    pub(super) const fn fixed(standard: i16) -> Self {
        Self { before: standard, changes: &[], standard, summer: None }
    }

    /// Clocks that show something else for a part of each year, from one day to another.
    pub(super) const fn summer(standard: i16, begins: Day, offset: i16, ends: Day) -> Self {
        Self { summer: Some(Summer { offset, begins, ends }), ..Self::fixed(standard) }
    }

    /// The same, but only from the last of these changes on.
    pub(super) const fn after(self, before: i16, changes: &'static [(u32, i16)]) -> Self {
        Self { before, changes, ..self }
    }
}

/// The part of each year in which the clocks don't show standard time. South of the equator it goes on into the next year.
struct Summer {
    offset: i16,
    begins: Day,
    ends: Day,
}

impl Summer {
    fn span(&self, standard: i16, at: i64) -> Span {
        let (year, _) = date::year_and_month(date::month_of(at.div_euclid(DAY)));
        let mut span = Span::always(standard);
        // A year has one change of either kind, so the nearest ones are no farther than the years next to it.
        for year in [year.saturating_sub(1), year, year.saturating_add(1)] {
            span.pass(at, self.begins.instant(year, standard), self.offset);
            span.pass(at, self.ends.instant(year, self.offset), standard);
        }
        span
    }
}

/// A day of each year: such a weekday of that week of a month, and the minute, which may be on another day.
pub(super) struct Day {
    month: u8,
    week: u8,
    weekday: u8,
    minute: i16,
}

impl Day {
    /// The month from 1 to 12, the week from 1 to 5, the last one, and the day of the week from Sunday, which is 0.
    pub(super) const fn new(month: u8, week: u8, weekday: u8, minute: i16) -> Self {
        Self { month, week, weekday, minute }
    }

    /// When it is that minute of that day in a year, by clocks with that offset.
    fn instant(&self, year: i64, offset: i16) -> i64 {
        let month = date::month(year, i64::from(self.month));
        let first = date::first_day(month);
        // The first day of 1970 was a Thursday.
        let weekday = first.saturating_add(4).rem_euclid(7);
        let ahead = i64::from(self.weekday).saturating_sub(weekday).rem_euclid(7);
        let weeks = i64::from(self.week).saturating_sub(1).saturating_mul(7);
        let mut day = first.saturating_add(ahead).saturating_add(weeks);
        if day >= date::first_day(month.saturating_add(1)) {
            day = day.saturating_sub(7);
        }
        let minutes = i64::from(self.minute).saturating_sub(i64::from(offset));
        day.saturating_mul(DAY).saturating_add(minutes.saturating_mul(60))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by a panic")]
mod tests {
    use proptest::prelude::*;

    use super::super::{HOUR, Period, Unit, period_at};
    use super::*;

    const QUARTER: i64 = 15 * 60;
    /// 2027-01-15T08:00:00Z.
    const START: u32 = 1_800_000_000;

    /// A zone of those offsets in quarters of an hour, each after so many quarters of the one before it.
    fn zone(before: i16, changes: &[(u32, i16)]) -> Zone {
        let mut instant = START;
        let mut listed = Vec::new();
        for (wait, offset) in changes {
            instant += wait * 900;
            // The table has no change that changes nothing.
            if listed.last().map_or(before * 15, |(_, offset)| *offset) != offset * 15 {
                listed.push((instant, offset * 15));
            }
        }
        let standard = listed.last().map_or(before * 15, |(_, offset)| *offset);
        let clocks = Clocks::fixed(standard).after(before * 15, listed.leak());
        Zone { name: "made up", clocks: Box::leak(Box::new(clocks)) }
    }

    /// Every period of some weeks, by looking at the clocks each quarter of an hour: a new one begins when they show more
    /// than ever before.
    fn looked_up(unit: Unit, zone: &Zone) -> Vec<i64> {
        let offset = |at: i64| zone.span(at).offset;
        let number = |at: i64| match unit {
            Unit::Day => (at + offset(at)).div_euclid(DAY),
            _ => date::month_of((at + offset(at)).div_euclid(DAY)),
        };
        let first = i64::from(START) - 40 * DAY;
        let mut most = number(first);
        let mut starts = Vec::new();
        for at in (first..i64::from(START) + 80 * DAY).step_by(900) {
            let begins = match unit {
                Unit::Hour => (at + offset(at)) % HOUR == 0 || offset(at - 1) != offset(at),
                _ => number(at) > most,
            };
            if begins {
                starts.push(at);
            }
            most = most.max(number(at));
        }
        starts
    }

    fn check(zone: &Zone) {
        for unit in [Unit::Hour, Unit::Day, Unit::Month] {
            for neighbours in looked_up(unit, zone).windows(2) {
                let (start, end) = (neighbours[0], neighbours[1]);
                for at in (start..end).step_by(900).chain([end - 1]) {
                    assert_eq!(period_at(unit, zone, at), Period { start, end }, "{unit:?} of {at}");
                }
            }
        }
    }

    #[test]
    fn a_day_that_the_clocks_show_again_has_ended() {
        // At half past midnight, the clocks go back to half past eleven: to the day before, and from the first of February
        // to January.
        let zone = zone(0, &[(66, -4)]);
        let changed = i64::from(START) + 66 * QUARTER;
        let day = period_at(Unit::Day, &zone, changed);
        assert_eq!(day, Period { start: changed - HOUR / 2, end: changed + HOUR / 2 + DAY });
        check(&zone);
        check(&self::zone(0, &[(66 + 16 * 96, -4)]));
    }

    #[test]
    fn a_day_that_the_clocks_leave_out_is_none() {
        // As Samoa's did at the end of 2011.
        let zone = zone(-40, &[(8 + 96, 56)]);
        let changed = i64::from(START) + 104 * QUARTER;
        assert_eq!(period_at(Unit::Day, &zone, changed - 1), Period { start: changed - DAY, end: changed });
        assert_eq!(period_at(Unit::Day, &zone, changed), Period { start: changed, end: changed + DAY });
        check(&zone);
    }

    #[test]
    fn a_rule_may_mean_another_day_or_year_than_it_names() {
        let (last_friday, first_sunday) = (Day::new(12, 5, 5, 170 * 60), Day::new(3, 1, 0, -25 * 60));
        // 2028-01-07T02:00:00Z, a week and two hours after the last day of 2027.
        assert_eq!(last_friday.instant(2027, 0), 1_830_823_200);
        // 2026-02-27T22:00:00Z, when clocks one hour ahead are 25 hours from the first of March.
        assert_eq!(first_sunday.instant(2026, 60), 1_772_229_600);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_done_to_the_clocks_periods_are_what_they_show(
            before in -56..=56_i16,
            changes in prop::collection::vec((1..400_u32, -56..=56_i16), 0..8),
        ) {
            check(&zone(before, &changes));
        }
    }
}
