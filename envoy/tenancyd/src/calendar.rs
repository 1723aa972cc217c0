//! Periods by the calendar of a time zone: which one a moment is in, where it begins and where it ends.
//!
//! A zone's local clock divides time into units: this second, minute, hour, day or month. A boundary is the first instant
//! at which the local clock shows a unit, and the period of a moment is what lies between the last boundary up to it and
//! the next one. So an hour that the clock shows twice is one period of two hours, a midnight that the clock leaps over
//! begins its day where the clock lands, and periods never overlap and never run backwards.

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Span, Timestamp};

use crate::error::Refusal;

/// Which unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

/// Every kind with its word.
pub const KINDS: &[(&str, Kind)] = &[
    ("second", Kind::Second),
    ("minute", Kind::Minute),
    ("hour", Kind::Hour),
    ("day", Kind::Day),
    ("month", Kind::Month),
];

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

impl Kind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The kind that this word is.
    pub fn parse(word: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }

    /// For how many seconds after its end a period's total is kept: the longer the periods, the longer, so that one quota never
    /// has more than a few thousand of them.
    pub fn totals_kept(self) -> i64 {
        match self {
            Self::Second => HOUR,
            Self::Minute => DAY,
            Self::Hour => 31 * DAY,
            Self::Day | Self::Month => 400 * DAY,
        }
    }

    /// For how many seconds after its end a period's leases are kept, and so a late report is heard.
    pub fn leases_kept(self) -> i64 {
        self.totals_kept().min(DAY)
    }

    /// The unit that the local clock shows, by its first local second.
    fn floor(self, local: DateTime) -> Result<DateTime, jiff::Error> {
        let whole = local.with().subsec_nanosecond(0);
        match self {
            Self::Second => whole.build(),
            Self::Minute => whole.second(0).build(),
            Self::Hour => whole.second(0).minute(0).build(),
            Self::Day => Ok(local.date().to_datetime(Time::midnight())),
            Self::Month => Ok(local.date().first_of_month().to_datetime(Time::midnight())),
        }
    }

    fn one(self) -> Span {
        match self {
            Self::Second => Span::new().seconds(1),
            Self::Minute => Span::new().minutes(1),
            Self::Hour => Span::new().hours(1),
            Self::Day => Span::new().days(1),
            Self::Month => Span::new().months(1),
        }
    }
}

/// A period, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Its first second.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

/// A time zone of the IANA database that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// What a text must be, for messages.
    pub const EXPECTED: &str = "a name of the IANA time zone database, like UTC or Europe/Berlin";

    /// UTC.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// The zone with this name, whatever its capitals.
    pub fn parse(name: &str) -> Option<Self> {
        let rules = TimeZone::get(name).ok().filter(|rules| !rules.is_unknown())?;
        // In the database's spelling, since it is part of what is counted under.
        let name = rules.iana_name()?.to_owned();
        Some(Self { name, rules })
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The period that this Unix second is in.
    pub fn period(&self, kind: Kind, second: i64) -> Result<Period, Refusal> {
        self.try_period(kind, second)
            .map_err(|error| Refusal::Internal(format!("no {} of {second}: {error}", kind.as_str())))
    }

    fn try_period(&self, kind: Kind, second: i64) -> Result<Period, jiff::Error> {
        let local = self.rules.to_datetime(Timestamp::from_second(second)?);
        let mut unit = kind.floor(local)?;
        let mut start = self.first_instant(unit)?;
        loop {
            unit = unit.checked_add(kind.one())?;
            let end = self.first_instant(unit)?;
            // Where the clock was put back into a former unit, the later one has begun and goes on.
            if end > second {
                return Ok(Period { start, end });
            }
            start = end;
        }
    }

    /// The first second at which the local clock shows this time, or one after it where it leaps over it.
    fn first_instant(&self, local: DateTime) -> Result<i64, jiff::Error> {
        let at = |offset: Offset| offset.to_timestamp(local);
        match self.rules.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok(at(offset)?.as_second()),
            AmbiguousOffset::Fold { before, .. } => Ok(at(before)?.as_second()),
            AmbiguousOffset::Gap { before, after } => {
                // The leap is after the one of these, and no later than the other.
                let (least, most) = (at(after)?, at(before)?);
                let leap = self.rules.following(least).map(|transition| transition.timestamp());
                let lands = leap
                    .take_while(|instant| *instant <= most)
                    .find(|instant| self.rules.to_datetime(*instant) >= local);
                Ok(lands.unwrap_or(most).as_second())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn shown(second: i64) -> String {
        Timestamp::from_second(second).unwrap().to_string()
    }

    #[test]
    fn a_period_is_what_the_local_clock_shows() {
        for (zone, kind, moment, start, end) in [
            ("UTC", Kind::Month, "2026-11-24T12:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("UTC", Kind::Month, "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("UTC", Kind::Second, "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z"),
            ("UTC", Kind::Minute, "2026-11-24T12:00:59Z", "2026-11-24T12:00:00Z", "2026-11-24T12:01:00Z"),
            ("UTC", Kind::Day, "1969-12-31T12:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("Asia/Kolkata", Kind::Hour, "2026-11-24T12:00:00Z", "2026-11-24T11:30:00Z", "2026-11-24T12:30:00Z"),
            ("Europe/Berlin", Kind::Month, "2026-10-31T23:30:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
            // A day of 23 hours, and one of 25.
            ("Europe/Berlin", Kind::Day, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Europe/Berlin", Kind::Day, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // An hour that is shown twice, and one that isn't.
            ("Europe/Berlin", Kind::Hour, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ("Europe/Berlin", Kind::Hour, "2026-10-25T01:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ("Europe/Berlin", Kind::Hour, "2026-03-29T00:30:00Z", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            ("Australia/Lord_Howe", Kind::Hour, "2026-04-04T15:10:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"),
            // No midnight.
            ("America/Sao_Paulo", Kind::Day, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
            ("America/Sao_Paulo", Kind::Day, "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"),
            // The clock leapt from 23:30 to 0:30.
            ("America/Toronto", Kind::Day, "1919-03-31T12:00:00Z", "1919-03-31T04:30:00Z", "1919-04-01T04:00:00Z"),
            // A day that never was.
            ("Pacific/Apia", Kind::Day, "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", Kind::Day, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
            // At 0:01 the clock went back to 23:01: the new day has begun and doesn't end.
            ("America/St_Johns", Kind::Day, "2010-11-07T02:40:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
            ("America/St_Johns", Kind::Day, "2010-11-07T02:30:30Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
        ] {
            let found = Zone::parse(zone).unwrap().period(kind, second(moment)).unwrap();
            assert_eq!(
                (shown(found.start), shown(found.end)),
                (start.to_owned(), end.to_owned()),
                "{zone} {kind:?} {moment}"
            );
        }
    }

    #[test]
    fn periods_follow_each_other_without_gap_or_overlap() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Africa/Casablanca",
            "Asia/Kathmandu",
            "Antarctica/Troll",
            "America/Sao_Paulo",
        ] {
            let zone = Zone::parse(zone).unwrap();
            for (kind, steps) in [(Kind::Hour, 20_000), (Kind::Day, 6_000), (Kind::Month, 300)] {
                let mut period = zone.period(kind, second("2008-01-01T00:00:00Z")).unwrap();
                for _ in 0..steps {
                    assert!(period.start < period.end, "{zone:?} {period:?}");
                    for inside in [period.start, period.start + (period.end - period.start) / 2, period.end - 1] {
                        assert_eq!(
                            zone.period(kind, inside).unwrap(),
                            period,
                            "{} {kind:?} {}",
                            zone.name,
                            shown(inside)
                        );
                    }
                    let next = zone.period(kind, period.end).unwrap();
                    assert_eq!(next.start, period.end, "{} {kind:?} {}", zone.name, shown(period.end));
                    period = next;
                }
            }
        }
    }

    #[test]
    fn a_zone_has_one_name() {
        for (given, expected) in [
            ("UTC", Some("UTC")),
            ("utc", Some("UTC")),
            ("europe/BERLIN", Some("Europe/Berlin")),
            ("Mars/Olympus", None),
            ("Etc/Unknown", None),
            ("", None),
            ("+01:00", None),
            ("../UTC", None),
        ] {
            assert_eq!(Zone::parse(given).as_ref().map(Zone::as_str), expected, "{given:?}");
        }
    }
}
