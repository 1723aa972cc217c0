//! Leases of a quota's units: what a proxy says, and the rules by which it gets more.
//!
//! All of a proxy's numbers are totals of one period, so a message that comes twice says nothing new. A proxy may use what it
//! was granted without asking again; so **what was granted counts against the limit until the proxy itself gives it back.**
//! Units are never handed out a second time merely because a proxy fell silent: it may have used them. After a while of
//! silence they are shown as abandoned, and that is all; a proxy that comes back can still report and give back. That is why
//! never one unit over the limit is used, whatever crashes; the price is what abandoned leases hold until their period ends.
//!
//! The rules are here for SQLite, and once more in `redis/lease.lua`, since Redis runs nothing else in one piece. The same tests
//! hold both to the same behaviour.

use serde_json::value::RawValue;

use crate::calendar::{KINDS, Kind, Period, Zone};
use crate::document::{Faults, Member, fault, identifier, members, text, word};
use crate::identifier::Identifier;

const KEYS: &[&str] = &["proxy", "sequence", "period", "timezone", "limit", "periodStart", "used", "upTo"];

/// A proxy's message about one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub proxy: Identifier,
    /// Grows with each new message of this proxy; a repeated one repeats it.
    pub sequence: i64,
    /// Which periods the quota has.
    pub kind: Kind,
    /// By whose calendar.
    pub zone: Zone,
    /// The most units that all proxies together may use.
    pub limit: i64,
    /// The period that `used` and `up_to` are about; nothing in a first message.
    pub period_start: Option<i64>,
    /// The most units that this proxy may have used so far.
    pub used: i64,
    /// How many it would like to hold in total, the used ones included.
    pub up_to: i64,
}

/// What one proxy has in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// How many units it may have used.
    pub used: i64,
    /// How many it may use.
    pub granted: i64,
    /// Its last message.
    pub sequence: i64,
    /// When that came, in milliseconds.
    pub seen: i64,
}

/// What all proxies have in one period, and what was set by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Units used.
    pub used: i128,
    /// Units used or leased.
    pub allocated: i128,
    /// Units leased by proxies that fell silent.
    pub abandoned: i128,
    /// Proxies that didn't.
    pub live: u32,
    /// Proxies whose leases were added up.
    pub proxies: u32,
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It brought this many units.
    Granted(i64),
    /// It asked for more, and there was nothing.
    Refused,
    /// It asked for no more, or was heard before.
    Settled,
}

/// The answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The period that the rest is about.
    pub period: Period,
    /// The service's time, in milliseconds.
    pub now: i64,
    /// How many units this proxy may use in it.
    pub granted: i64,
    /// How many all have used.
    pub usage: i64,
    /// How many lie unused in leases.
    pub leased: i64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Ask {
    /// The message that this value is, or every fault that it has.
    pub fn parse(raw: &RawValue, faults: &mut Faults) -> Option<Self> {
        let before = faults.len();
        let (mut proxy, mut sequence, mut kind, mut zone) = (None, None, None, Some(Zone::utc()));
        let (mut limit, mut period_start, mut used, mut up_to) = (None, None, None, None);
        let members = members(raw, "", faults)?;
        for member in &members {
            let Member { key, path, value } = member;
            match key.as_str() {
                "proxy" => proxy = identifier(value, path, faults),
                "sequence" => sequence = number(value, path, 1, faults),
                "period" => kind = word(value, path, KINDS, faults),
                "timezone" => zone = timezone(value, path, faults),
                "limit" => limit = number(value, path, 0, faults),
                "periodStart" => period_start = number(value, path, 0, faults),
                "used" => used = number(value, path, 0, faults),
                "upTo" => up_to = number(value, path, 0, faults),
                _ => member.unknown(KEYS, faults),
            }
        }
        for required in ["proxy", "sequence", "period", "limit", "used", "upTo"] {
            if !members.iter().any(|member| member.key == required) {
                fault(faults, "", format!("{required} is missing"));
            }
        }
        if faults.len() > before {
            return None;
        }
        let (sequence, limit, used, up_to) = (sequence?, limit?, used?, up_to?);
        Some(Self { proxy: proxy?, sequence, kind: kind?, zone: zone?, limit, period_start, used, up_to })
    }
}

/// A whole number that 63 bits hold, in whatever spelling.
pub fn number(raw: &RawValue, path: &str, least: i64, faults: &mut Faults) -> Option<i64> {
    let number = serde_json::from_str(raw.get()).ok().or_else(|| serde_json::from_str(raw.get()).ok().and_then(whole));
    let number = number.filter(|number| *number >= least);
    if number.is_none() {
        fault(faults, path, format!("expected a whole number from {least} to {}", i64::MAX));
    }
    number
}

/// 10000.0 and 1e4 are the same number to whoever knows numbers only as JSON has them.
fn whole(number: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    // Exact: it is whole and within bounds.
    (number.fract() == 0.0 && (0.0..BEYOND).contains(&number)).then_some(number as i64)
}

/// A time zone.
pub fn timezone(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Zone> {
    let zone = Zone::parse(&text(raw, path, faults)?);
    if zone.is_none() {
        fault(faults, path, format!("unknown time zone, expected {}", Zone::EXPECTED));
    }
    zone
}

impl Row {
    /// Takes over a message about the period that lasts. `others` is without this row.
    pub fn hear(&mut self, ask: &Ask, now: i64, others: &Sums) -> Outcome {
        if !self.is_news(ask, now) {
            return Outcome::Settled;
        }
        self.report(ask.used);
        if ask.up_to < self.granted {
            self.granted = ask.up_to.max(self.used);
        }
        self.grow(ask.up_to, ask.limit, others)
    }

    /// Takes over a message about a period that is over, for that period: what wasn't used is given back.
    pub fn hear_late(&mut self, ask: &Ask, now: i64) {
        if self.is_news(ask, now) {
            self.report(ask.used);
            self.granted = self.used;
        }
    }

    /// Takes over a message about a period that is over, for the one that lasts: as much more is wanted of this one.
    pub fn hear_moving(&mut self, ask: &Ask, now: i64, others: &Sums) -> Outcome {
        match self.is_news(ask, now) {
            true => self.grow(ask.up_to.saturating_sub(ask.used), ask.limit, others),
            false => Outcome::Settled,
        }
    }

    /// A delayed or repeated message must never undo a later one.
    fn is_news(&mut self, ask: &Ask, now: i64) -> bool {
        let is_news = ask.sequence > self.sequence;
        if is_news {
            self.sequence = ask.sequence;
            self.seen = now;
        }
        is_news
    }

    /// More may be used than was granted: by a proxy that lets requests pass while this service is away, or because the database
    /// was put back. No count is lost.
    fn report(&mut self, used: i64) {
        self.used = self.used.max(used);
        self.granted = self.granted.max(self.used);
    }

    fn grow(&mut self, up_to: i64, limit: i64, others: &Sums) -> Outcome {
        let wanted = up_to.saturating_sub(self.granted);
        if wanted <= 0 {
            return Outcome::Settled;
        }
        let allocated = others.allocated.saturating_add(self.granted.into());
        let left = bounded(i128::from(limit).saturating_sub(allocated));
        let grant = wanted.min(share(left, others.live.saturating_add(1)));
        if grant <= 0 {
            return Outcome::Refused;
        }
        self.granted = self.granted.saturating_add(grant);
        Outcome::Granted(grant)
    }
}

/// The most that one of so many proxies gets at once of what is left: half of an even share, so that the last units are not
/// one proxy's alone, and never nothing.
fn share(left: i64, proxies: u32) -> i64 {
    let parts = i64::from(proxies).saturating_mul(2).max(1);
    match left.checked_rem(parts) {
        Some(0) => left.checked_div(parts).unwrap_or(0),
        _ if left > 0 => left.checked_div(parts).unwrap_or(0).saturating_add(1),
        _ => 0,
    }
}

impl Sums {
    /// Adds a proxy's.
    pub fn add(&mut self, row: &Row, silent_before: i64) {
        let unused = i128::from(row.granted).saturating_sub(row.used.into());
        self.used = self.used.saturating_add(row.used.into());
        self.allocated = self.allocated.saturating_add(row.granted.into());
        self.proxies = self.proxies.saturating_add(1);
        match row.seen < silent_before {
            true => self.abandoned = self.abandoned.saturating_add(unused),
            false => self.live = self.live.saturating_add(1),
        }
    }

    /// How many units are used, as an answer says it.
    pub fn usage(&self) -> i64 {
        bounded(self.used)
    }

    /// How many units lie unused in leases.
    pub fn leased(&self) -> i64 {
        bounded(self.allocated.saturating_sub(self.used))
    }
}

/// The nearest number that an answer may have.
pub fn bounded(number: i128) -> i64 {
    i64::try_from(number.max(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::document;

    fn ask(sequence: i64, limit: i64, used: i64, up_to: i64) -> Ask {
        let proxy = Identifier::parse("p").unwrap();
        Ask { proxy, sequence, kind: Kind::Month, zone: Zone::utc(), limit, period_start: None, used, up_to }
    }

    fn others(allocated: i128, live: u32) -> Sums {
        Sums { allocated, live, ..Sums::default() }
    }

    #[test]
    fn what_a_message_does_to_its_row() {
        let row = |used, granted| Row { used, granted, sequence: 5, seen: 1 };
        for (what, before, ask, others, used, granted, outcome) in [
            ("more", row(10, 20), ask(6, 1000, 15, 60), others(0, 0), 15, 60, Outcome::Granted(40)),
            ("no more", row(10, 20), ask(6, 1000, 15, 20), others(0, 0), 15, 20, Outcome::Settled),
            ("less", row(10, 20), ask(6, 1000, 12, 15), others(0, 0), 12, 15, Outcome::Settled),
            ("less than is used", row(10, 20), ask(6, 1000, 12, 0), others(0, 0), 12, 12, Outcome::Settled),
            ("used never sinks", row(10, 20), ask(6, 1000, 3, 20), others(0, 0), 10, 20, Outcome::Settled),
            ("again", row(10, 20), ask(5, 1000, 15, 60), others(0, 0), 10, 20, Outcome::Settled),
            ("late", row(10, 20), ask(4, 1000, 15, 0), others(0, 0), 10, 20, Outcome::Settled),
            ("more used than granted", row(10, 20), ask(6, 25, 30, 40), others(0, 0), 30, 30, Outcome::Refused),
            ("the last unit", row(10, 20), ask(6, 100, 20, 40), others(79, 9), 20, 21, Outcome::Granted(1)),
            ("nothing left", row(10, 20), ask(6, 100, 20, 40), others(80, 9), 20, 20, Outcome::Refused),
            ("over a lowered limit", row(10, 20), ask(6, 50, 20, 40), others(80, 9), 20, 20, Outcome::Refused),
            ("a share", row(0, 0), ask(6, 100, 0, 100), others(0, 4), 0, 10, Outcome::Granted(10)),
            ("a limit of nothing", row(0, 0), ask(6, 0, 0, 1), others(0, 0), 0, 0, Outcome::Refused),
            ("after a reset", row(9, 20), ask(6, 30, 20, 50), others(-9, 0), 20, 30, Outcome::Granted(10)),
            ("largest", row(0, 0), ask(6, i64::MAX, 0, i64::MAX), others(0, 0), 0, 1 << 62, Outcome::Granted(1 << 62)),
            ("beyond", row(0, 0), ask(6, i64::MAX, 0, 1), others(i128::MAX, 0), 0, 0, Outcome::Refused),
        ] {
            let mut row = before;
            assert_eq!(row.hear(&ask, 7, &others), outcome, "{what}");
            assert_eq!((row.used, row.granted), (used, granted), "{what}");
            assert_eq!((row.sequence, row.seen), if ask.sequence > 5 { (6, 7) } else { (5, 1) }, "{what}");
        }
    }

    #[test]
    fn what_is_over_takes_its_count_and_gives_the_rest_to_what_lasts() {
        let late = ask(6, 1000, 12, 50);
        let mut past = Row { used: 10, granted: 20, sequence: 5, seen: 1 };
        past.hear_late(&late, 7);
        assert_eq!(past, Row { used: 12, granted: 12, sequence: 6, seen: 7 });
        let mut current = Row::default();
        assert_eq!(current.hear_moving(&late, 7, &others(0, 0)), Outcome::Granted(38));
        assert_eq!(current, Row { used: 0, granted: 38, sequence: 6, seen: 7 });
        assert_eq!(current.hear_moving(&late, 8, &others(0, 0)), Outcome::Settled);
        assert_eq!(current.hear_moving(&ask(7, 1000, 12, 13), 8, &others(0, 0)), Outcome::Settled);
        assert_eq!(current.granted, 38);
    }

    #[test]
    fn however_many_ask_all_is_given_and_the_first_leaves_some_for_the_others() {
        for limit in [1_i64, 2, 3, 7, 10, 99, 1000, 12_345] {
            for proxies in [1_usize, 2, 3, 10, 50] {
                let mut rows = vec![Row::default(); proxies];
                let mut first = None;
                for sequence in 1.. {
                    let before = rows.iter().map(|row| row.granted).sum::<i64>();
                    for at in 0..proxies {
                        let mut sums = Sums::default();
                        rows.iter().enumerate().filter(|(other, _)| *other != at).for_each(|(_, row)| sums.add(row, 0));
                        rows[at].hear(&ask(sequence, limit, 0, limit), 1, &sums);
                        first.get_or_insert(rows[at].granted);
                        assert!(rows.iter().map(|row| row.granted).sum::<i64>() <= limit);
                    }
                    if rows.iter().map(|row| row.granted).sum::<i64>() == before {
                        assert_eq!(before, limit, "{proxies}");
                        break;
                    }
                }
                assert!(first.unwrap() <= (limit + 1) / 2, "{first:?} of {limit}");
            }
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let parse = |json: &str| {
            let mut faults = Faults::new();
            let ask = document(json.as_bytes(), &mut faults).and_then(|raw| Ask::parse(raw, &mut faults));
            assert_eq!(ask.is_none(), !faults.is_empty());
            ask.ok_or_else(|| faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>())
        };
        let whole = r#"{"proxy":"a-1","sequence":7,"period":"day","timezone":"europe/berlin","limit":9223372036854775807,
            "periodStart":1793491200,"used":1.2e2,"upTo":200.0}"#;
        let parsed = parse(whole).unwrap();
        assert_eq!(
            (parsed.limit, parsed.period_start, parsed.used, parsed.up_to),
            (i64::MAX, Some(1_793_491_200), 120, 200)
        );
        assert_eq!((parsed.zone.as_str(), parsed.kind), ("Europe/Berlin", Kind::Day));
        for (json, expected) in [
            ("[]", vec!["expected an object"]),
            (
                "{}",
                vec![
                    "proxy is missing",
                    "sequence is missing",
                    "period is missing",
                    "limit is missing",
                    "used is missing",
                    "upTo is missing",
                ],
            ),
            (
                r#"{"proxy":"a b","sequence":0,"period":"none","timezone":"Mars","limit":-1,"periodStart":null,"used":1.5,"upTo":9223372036854775808,"x":1}"#,
                vec![
                    "proxy: not an identifier",
                    "sequence: expected a whole number from 1",
                    "period: unknown value \"none\", expected one of second",
                    "timezone: unknown time zone",
                    "limit: expected a whole number from 0",
                    "periodStart: expected",
                    "used: expected",
                    "upTo: expected",
                    "x: unknown key",
                ],
            ),
        ] {
            let faults = parse(json).unwrap_err();
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, expected) in faults.iter().zip(expected) {
                assert!(fault.starts_with(expected), "{fault} is not {expected}");
            }
        }
    }
}
