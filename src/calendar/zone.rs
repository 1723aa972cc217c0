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
