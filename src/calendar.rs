//! The calendar: which second, minute, hour, day or month an instant is in, by the clocks of a time zone.
//!
//! A period begins at the first instant at which the zone's clocks show it or anything after it, and ends where the next one
//! begins. So periods follow each other without a gap, whatever is done to the clocks:
//!
//! - Where the clocks go forward over midnight, the day begins when they do. A day that they leave out altogether is no period.
//! - Where they go back over midnight, the day began at the first midnight and goes on through the second one.
//! - An hour is never longer than an hour: where the clocks show the same hour twice, those are two periods. To that end an
//!   hour's period also begins where the clocks are changed, so those around a change by half an hour are shorter.

mod date;
mod zone;
#[rustfmt::skip]
mod zones;

pub use self::zone::Zone;

/// Seconds of a minute, an hour and a day.
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Farther from 1970, in seconds, nothing is counted, so that nothing can overflow: some 36 billion years.
const EDGE: i64 = 1 << 60;

/// A unit that a quota's period may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, which the clocks may make longer or shorter.
    Day,
    /// A month of the Gregorian calendar.
    Month,
}

impl Unit {
    /// The names, as the configuration gives them.
    pub const NAMES: [&str; 5] = ["second", "minute", "hour", "day", "month"];

    /// The unit of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "second" => Some(Self::Second),
            "minute" => Some(Self::Minute),
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            "month" => Some(Self::Month),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// A period, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    /// Its first second.
    pub start: i64,
    /// The first second after it, or `i64::MAX`, which is still in it.
    pub end: i64,
}

impl Period {
    /// Whether an instant is in it.
    pub fn contains(self, now: i64) -> bool {
        self.start <= now && (now < self.end || self.end == i64::MAX)
    }

    /// How long it is.
    pub fn seconds(self) -> u64 {
        self.start.abs_diff(self.end)
    }
}

/// The period that an instant is in.
///
/// All time that is more than 36 billion years away is one period, on either side.
pub fn period_at(unit: Unit, zone: &Zone, now: i64) -> Period {
    if now < -EDGE {
        return Period { start: i64::MIN, end: -EDGE };
    }
    if now >= EDGE {
        return Period { start: EDGE, end: i64::MAX };
    }
    let Period { start, end } = match unit {
        Unit::Second => Period { start: now, end: now.saturating_add(1) },
        // All clocks are whole minutes away from UTC.
        Unit::Minute => whole(now, MINUTE),
        Unit::Hour => {
            let span = zone.span(now);
            let local = whole(now.saturating_add(span.offset), HOUR);
            Period {
                start: local.start.saturating_sub(span.offset).max(span.from),
                end: local.end.saturating_sub(span.offset).min(span.until),
            }
        }
        Unit::Day => numbered(zone, now, |day| day, |day| day),
        Unit::Month => numbered(zone, now, date::month_of, date::first_day),
    };
    Period { start: start.max(-EDGE), end: end.min(EDGE) }
}

/// RFC 3339's text for an instant, in UTC: `2026-12-01T00:00:00Z`.
///
/// A year after 9999 has as many digits as it needs, and one before the year 0 a minus; RFC 3339 has neither.
pub fn rfc3339(unix_seconds: i64) -> String {
    let day = unix_seconds.div_euclid(DAY);
    let second = unix_seconds.rem_euclid(DAY);
    let number = date::month_of(day);
    let (year, month) = date::year_and_month(number);
    let sign = if year < 0 { "-" } else { "" };
    let year = year.unsigned_abs();
    let day = day.saturating_sub(date::first_day(number)).saturating_add(1);
    let (hour, minute, second) = (second / HOUR, second % HOUR / MINUTE, second % MINUTE);
    format!("{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The whole multiple of so many seconds.
fn whole(now: i64, seconds: i64) -> Period {
    let start = now.saturating_sub(now.rem_euclid(seconds));
    Period { start, end: start.saturating_add(seconds) }
}

/// A period that has a number: `number_of` a local day, and `first_day`, the other way round.
fn numbered(zone: &Zone, now: i64, number_of: impl Fn(i64) -> i64, first_day: impl Fn(i64) -> i64) -> Period {
    let begins = |number: i64| zone.first(first_day(number).saturating_mul(DAY));
    let local = now.saturating_add(zone.span(now).offset);
    let mut number = number_of(local.div_euclid(DAY));
    let mut period = Period { start: begins(number), end: begins(number.saturating_add(1)) };
    // The clocks may have gone back over a midnight: the day that they show has ended already.
    while period.end <= now {
        number = number.saturating_add(1);
        period = Period { start: period.end, end: begins(number.saturating_add(1)) };
    }
    period
}
