//! The calendar of quotas' periods, held against jiff and its own copy of IANA's tz database.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::collections::BTreeSet;
use std::time::SystemTime;

use envoy_tenancy::calendar::{Period, Unit, Zone, period_at, rfc3339};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

const UNITS: [Unit; 5] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Month];
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What is compared: from 2026 to the end of 2060.
const FIRST: i64 = 1_767_225_600;
const LAST: i64 = 2_871_763_199;

/// The Unix seconds of RFC 3339's text.
fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().expect(text).as_second()
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap_or_else(|| panic!("there is no zone {name}"))
}

/// A zone as jiff has it.
fn theirs(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap_or_else(|error| panic!("{error}"))
}

fn offset(theirs: &TimeZone, second: i64) -> i64 {
    theirs.to_offset(Timestamp::from_second(second).unwrap()).seconds().into()
}

fn date(theirs: &TimeZone, second: i64) -> Date {
    theirs.to_datetime(Timestamp::from_second(second).unwrap()).date()
}

fn start(theirs: &TimeZone, date: Date) -> i64 {
    date.to_zoned_datetime(theirs.clone()).unwrap().timestamp().as_second()
}

/// When a zone's clocks are changed.
fn changes(theirs: &TimeZone) -> Vec<i64> {
    theirs
        .following(Timestamp::from_second(FIRST).unwrap())
        .map(|change| change.timestamp().as_second())
        .take_while(|second| *second < LAST)
        .filter(|second| offset(theirs, *second) != offset(theirs, second - 1))
        .collect()
}

/// The period by jiff's account: between two neighbours of the boundaries that lie around it.
fn expected(unit: Unit, theirs: &TimeZone, now: i64) -> Period {
    let today = date(theirs, now);
    let boundaries: BTreeSet<i64> = match unit {
        Unit::Second => BTreeSet::from([now, now + 1]),
        Unit::Minute => BTreeSet::from([now - now.rem_euclid(MINUTE), now - now.rem_euclid(MINUTE) + MINUTE]),
        // No clock is changed, and none shows a full hour, but at a quarter of one of UTC's.
        Unit::Hour => (-5..=5)
            .map(|quarter| now - now.rem_euclid(15 * MINUTE) + quarter * 15 * MINUTE)
            .filter(|quarter| {
                let offset_now = offset(theirs, *quarter);
                (quarter + offset_now) % HOUR == 0 || offset(theirs, quarter - 1) != offset_now
            })
            .collect(),
        Unit::Day => (-2..=3).map(|days| start(theirs, today + jiff::Span::new().days(days))).collect(),
        Unit::Month => {
            (-2..=3).map(|months| start(theirs, today.first_of_month() + jiff::Span::new().months(months))).collect()
        }
    };
    let start = *boundaries.range(..=now).next_back().expect("a boundary before");
    let end = *boundaries.range(now + 1..).next().expect("a boundary after");
    Period { start, end }
}

fn check(name: &str, theirs: &TimeZone, now: i64, why: &str) {
    let zone = zone(name);
    for unit in UNITS {
        let (period, expected) = (period_at(unit, &zone, now), expected(unit, theirs, now));
        assert_eq!(period, expected, "the {} of {} in {name} ({why})", unit.as_str(), rfc3339(now));
    }
}

/// SplitMix64: enough chance for a test, and the same again for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((word ^ (word >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[test]
fn the_names_are_those_of_the_database() {
    let mut ours: Vec<&str> = Zone::names().collect();
    ours.sort_unstable();
    let database = TimeZoneDatabase::bundled();
    let mut theirs: Vec<String> = database.available().map(|name| name.as_str().to_owned()).collect();
    // jiff has the placeholder for a zone that nobody has set, too.
    theirs.retain(|name| name != "Factory");
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    for name in ours {
        assert_eq!(zone(name).name(), name);
    }
    for no_name in
        ["", " ", "europe/berlin", "Europe/Berlin ", "Europe", "Africa/Abidjan Africa/Accra", "Factory", "+01:00"]
    {
        assert_eq!(Zone::parse(no_name), None, "{no_name}");
    }
    assert_eq!(Zone::parse("UTC"), Some(Zone::utc()));
}

#[test]
fn every_zone_agrees_around_each_change_of_its_clocks() {
    let (mut seen, mut known) = (0, BTreeSet::new());
    for name in Zone::names() {
        let theirs = theirs(name);
        let changes = changes(&theirs);
        seen += changes.len();
        let clocks: Vec<_> = changes.iter().map(|change| (*change, offset(&theirs, *change))).collect();
        // Zones have namesakes, for which the seconds of the changes are enough.
        let new = known.insert(clocks);
        for change in changes {
            check(name, &theirs, change - 1, "before a change");
            check(name, &theirs, change, "at a change");
            if !new {
                continue;
            }
            let day = date(&theirs, change);
            for near in [change, start(&theirs, day), start(&theirs, day.first_of_month())] {
                for away in [-DAY, -HOUR - 1, -HOUR, -1, 0, 1, 30 * MINUTE, HOUR - 1, HOUR, 2 * HOUR, DAY] {
                    check(name, &theirs, near + away, "around a change");
                }
            }
        }
    }
    assert!(seen > 10_000, "{seen} changes are too few to be all of them");
}

#[test]
fn every_zone_agrees_at_random() {
    let seed = std::env::var("CALENDAR_SEED").ok().map_or_else(
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(),
        |seed| seed.parse().expect("CALENDAR_SEED is a number"),
    );
    println!("CALENDAR_SEED={seed}");
    let mut random = Random(seed);
    for name in Zone::names() {
        let theirs = theirs(name);
        for _ in 0..30 {
            let now = FIRST + 3 * DAY + random.below(LAST - FIRST - 6 * DAY);
            check(name, &theirs, now, "at random");
            // And the seconds around the next midnight.
            let midnight = expected(Unit::Day, &theirs, now).end;
            check(name, &theirs, midnight - 1, "before midnight");
            check(name, &theirs, midnight, "at midnight");
        }
    }
}

/// Going through all days and months from 2026 to 2060 meets every boundary, and each once.
#[test]
fn every_day_and_month_of_every_zone_is_met_once() {
    for name in Zone::names() {
        let (zone, theirs) = (zone(name), theirs(name));
        for unit in [Unit::Day, Unit::Month] {
            let mut day = jiff::civil::date(2026, 1, 2);
            if unit == Unit::Month {
                day = jiff::civil::date(2026, 2, 1);
            }
            let mut now = start(&theirs, day);
            while day.year() < 2061 {
                let period = period_at(unit, &zone, now);
                assert_eq!(period.start, now, "{name} {day}");
                day = if unit == Unit::Day { day.tomorrow().unwrap() } else { day + jiff::Span::new().months(1) };
                now = start(&theirs, day);
                assert_eq!(period.end, now, "{name} {day}");
            }
        }
    }
}

#[test]
fn each_kind_of_boundary_is_where_it_should_be() {
    // The unit, the zone, an instant, and its period.
    let cases = [
        (Unit::Second, "UTC", "2026-12-31T23:59:59Z", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        (Unit::Minute, "Asia/Kolkata", "2026-12-31T23:59:59Z", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
        (Unit::Hour, "UTC", "2026-12-31T23:59:59Z", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"),
        (Unit::Day, "UTC", "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
        (Unit::Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        // The second of the roll-over belongs to the new period.
        (Unit::Day, "UTC", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"),
        (Unit::Month, "UTC", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        // Leap days, and centuries without one.
        (Unit::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Unit::Day, "UTC", "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Unit::Month, "UTC", "2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
        (Unit::Day, "UTC", "2100-02-28T12:00:00Z", "2100-02-28T00:00:00Z", "2100-03-01T00:00:00Z"),
        (Unit::Month, "UTC", "1969-02-28T12:00:00Z", "1969-02-01T00:00:00Z", "1969-03-01T00:00:00Z"),
        (Unit::Month, "UTC", "1600-02-29T12:00:00Z", "1600-02-01T00:00:00Z", "1600-03-01T00:00:00Z"),
        // Summer time begins: a day of 23 hours, an hour that isn't there.
        (Unit::Day, "Europe/Berlin", "2027-03-28T12:00:00Z", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z"),
        (Unit::Hour, "Europe/Berlin", "2027-03-28T01:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T02:00:00Z"),
        (Unit::Month, "Europe/Berlin", "2027-03-28T12:00:00Z", "2027-02-28T23:00:00Z", "2027-03-31T22:00:00Z"),
        // It ends: a day of 25 hours, and an hour shown twice, which is two periods.
        (Unit::Day, "Europe/Berlin", "2027-10-31T12:00:00Z", "2027-10-30T22:00:00Z", "2027-10-31T23:00:00Z"),
        (Unit::Hour, "Europe/Berlin", "2027-10-31T00:30:00Z", "2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z"),
        (Unit::Hour, "Europe/Berlin", "2027-10-31T01:30:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"),
        // South of the equator.
        (Unit::Day, "Australia/Sydney", "2027-01-01T00:00:00Z", "2026-12-31T13:00:00Z", "2027-01-01T13:00:00Z"),
        (Unit::Day, "Australia/Sydney", "2027-07-01T00:00:00Z", "2027-06-30T14:00:00Z", "2027-07-01T14:00:00Z"),
        // Midnight is left out: the day begins at one o'clock.
        (Unit::Day, "America/Havana", "2028-03-12T12:00:00Z", "2028-03-12T05:00:00Z", "2028-03-13T04:00:00Z"),
        (Unit::Day, "Africa/Cairo", "2027-04-30T12:00:00Z", "2027-04-29T22:00:00Z", "2027-04-30T21:00:00Z"),
        (Unit::Day, "Asia/Beirut", "2027-03-28T12:00:00Z", "2027-03-27T22:00:00Z", "2027-03-28T21:00:00Z"),
        // Midnight is shown twice: the day begins at the first one. The second is at 05:00 in UTC.
        (Unit::Day, "America/Havana", "2028-11-05T04:00:00Z", "2028-11-05T04:00:00Z", "2028-11-06T05:00:00Z"),
        (Unit::Day, "America/Havana", "2028-11-05T05:00:00Z", "2028-11-05T04:00:00Z", "2028-11-06T05:00:00Z"),
        // The clocks go back from midnight: the day isn't over yet.
        (Unit::Day, "Asia/Beirut", "2027-10-30T21:30:00Z", "2027-10-29T21:00:00Z", "2027-10-30T22:00:00Z"),
        (Unit::Day, "Africa/Cairo", "2027-10-28T21:30:00Z", "2027-10-27T21:00:00Z", "2027-10-28T22:00:00Z"),
        // Hours of clocks that aren't whole hours away from UTC.
        (Unit::Hour, "Asia/Kathmandu", "2026-12-01T00:00:00Z", "2026-11-30T23:15:00Z", "2026-12-01T00:15:00Z"),
        (Unit::Day, "Asia/Kathmandu", "2026-12-01T00:00:00Z", "2026-11-30T18:15:00Z", "2026-12-01T18:15:00Z"),
        (Unit::Hour, "Asia/Kolkata", "2026-12-01T00:00:00Z", "2026-11-30T23:30:00Z", "2026-12-01T00:30:00Z"),
        // Half an hour forward, 02:00 to 02:30, and back, 02:00 to 01:30: no hour is longer for it.
        (Unit::Hour, "Australia/Lord_Howe", "2027-10-02T15:40:00Z", "2027-10-02T15:30:00Z", "2027-10-02T16:00:00Z"),
        (Unit::Hour, "Australia/Lord_Howe", "2027-04-03T14:59:59Z", "2027-04-03T14:00:00Z", "2027-04-03T15:00:00Z"),
        (Unit::Hour, "Australia/Lord_Howe", "2027-04-03T15:00:00Z", "2027-04-03T15:00:00Z", "2027-04-03T15:30:00Z"),
        (Unit::Day, "Australia/Lord_Howe", "2027-04-03T15:00:00Z", "2027-04-03T13:00:00Z", "2027-04-04T13:30:00Z"),
        // A quarter to three becomes a quarter to four.
        (Unit::Hour, "Pacific/Chatham", "2027-09-25T13:50:00Z", "2027-09-25T13:15:00Z", "2027-09-25T14:00:00Z"),
        // Two hours at once.
        (Unit::Day, "Antarctica/Troll", "2027-03-28T12:00:00Z", "2027-03-28T00:00:00Z", "2027-03-28T22:00:00Z"),
        (Unit::Hour, "Antarctica/Troll", "2027-10-31T02:30:00Z", "2027-10-31T02:00:00Z", "2027-10-31T03:00:00Z"),
        // The first clocks that show a day, and the last.
        (Unit::Day, "Pacific/Kiritimati", "2026-12-01T09:59:59Z", "2026-11-30T10:00:00Z", "2026-12-01T10:00:00Z"),
        (Unit::Day, "Pacific/Apia", "2026-12-01T11:00:00Z", "2026-12-01T11:00:00Z", "2026-12-02T11:00:00Z"),
        (Unit::Month, "Etc/GMT+12", "2026-12-01T11:59:59Z", "2026-11-01T12:00:00Z", "2026-12-01T12:00:00Z"),
    ];
    for (unit, name, now, start, end) in cases {
        let now = at(now);
        let period = period_at(unit, &zone(name), now);
        let found = (rfc3339(period.start), rfc3339(period.end));
        assert_eq!(found, (start.to_owned(), end.to_owned()), "the {} of {} in {name}", unit.as_str(), rfc3339(now));
    }
}

#[test]
fn a_unit_has_its_name() {
    assert_eq!(UNITS.map(Unit::as_str), Unit::NAMES);
    assert_eq!(Unit::NAMES.map(Unit::parse), UNITS.map(Some));
    assert_eq!(["", "Day", "days", "week"].map(Unit::parse), [None; 4]);
}

#[test]
fn an_instant_is_written_by_rfc_3339() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (1_796_083_200, "2026-12-01T00:00:00Z"),
        (1_835_481_599, "2028-02-29T23:59:59Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "10000-01-01T00:00:00Z"),
        (-62_167_219_200, "0000-01-01T00:00:00Z"),
        (-62_167_219_201, "-0001-12-31T23:59:59Z"),
        (i64::MAX, "292277026596-12-04T15:30:07Z"),
        (i64::MIN, "-292277022657-01-27T08:29:52Z"),
    ];
    for (second, text) in cases {
        assert_eq!(rfc3339(second), text);
    }
}

#[test]
fn the_ends_of_time_are_periods_too() {
    let edge = 1 << 60;
    for name in ["UTC", "Europe/Berlin", "Asia/Gaza", "Pacific/Kiritimati", "Etc/GMT+12"] {
        for unit in UNITS {
            let zone = zone(name);
            for now in [i64::MIN, i64::MIN + 1, -edge - 1] {
                assert_eq!(period_at(unit, &zone, now), Period { start: i64::MIN, end: -edge });
            }
            for now in [edge, i64::MAX - 1, i64::MAX] {
                assert_eq!(period_at(unit, &zone, now), Period { start: edge, end: i64::MAX });
                assert!(period_at(unit, &zone, now).contains(now));
            }
            assert_eq!(period_at(unit, &zone, -edge).start, -edge);
            assert_eq!(period_at(unit, &zone, edge - 1).end, edge);
        }
    }
}

fn any_zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(Zone::names().collect::<Vec<_>>()).prop_map(zone)
}

fn any_now() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -(1_i64 << 40)..1 << 40, FIRST..LAST, Just(i64::MIN), Just(i64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn periods_follow_each_other(unit in prop::sample::select(&UNITS[..]), zone in any_zone(), now in any_now(), part in 0.0..1.0) {
        let period = period_at(unit, &zone, now);
        prop_assert!(period.contains(now));
        prop_assert!(period.start < period.end);
        prop_assert_eq!(period.seconds(), period.end.abs_diff(period.start));
        let longest = [1, 60, 3600, 27 * 3600, 32 * 86400][usize::from(unit as u8)];
        prop_assert!(period.seconds() <= longest || period.start == i64::MIN || period.end == i64::MAX);
        // All its instants are in it, and those next to it in the next.
        let within = period.start.saturating_add_unsigned((period.seconds() as f64 * part) as u64).min(period.end - 1);
        for same in [period.start, within, period.end - 1] {
            prop_assert_eq!(period_at(unit, &zone, same), period);
        }
        if period.end != i64::MAX {
            prop_assert_eq!(period_at(unit, &zone, period.end).start, period.end);
        }
        if period.start != i64::MIN {
            prop_assert_eq!(period_at(unit, &zone, period.start - 1).end, period.start);
        }
    }

    /// Without a zone everything is plain arithmetic, of which this is another account.
    #[test]
    fn utc_agrees_over_all_years(now in -62_167_219_200_i64 + 90 * DAY..253_402_300_800 - 120 * DAY) {
        check("UTC", &TimeZone::UTC, now, "over all years");
    }
}
