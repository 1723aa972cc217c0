//! A service that leases units, written from its contract and not from tenancyd: envoy/tenancyd/README.md says what its numbers
//! mean, and openapi.yaml how they are spelt.

use std::collections::BTreeMap;

use envoy_tenancy::calendar::{Period, Unit, Zone, period_at};
use serde_json::{Value, json};

/// What one proxy has in one period.
#[derive(Default, Clone)]
pub struct Row {
    pub used: u64,
    pub granted: u64,
    sequence: u64,
}

/// The service, with one tenant and one quota.
#[derive(Default)]
pub struct Service {
    /// By the beginning of the period, and by proxy.
    pub rows: BTreeMap<(i64, String), Row>,
    newest: Option<i64>,
    /// How far its clock is from true time, in milliseconds.
    pub ahead: i64,
    /// A fault: what a proxy holds that was silent is granted again.
    pub forgets: bool,
}

impl Service {
    /// Takes a message in, and answers it. `now` is true time, in milliseconds since 1970.
    pub fn hear(&mut self, message: &Value, now: i64) -> Value {
        let now = now + self.ahead;
        let number = |name: &str| message[name].as_u64().unwrap_or_else(|| panic!("no {name} in {message}"));
        let proxy = message["proxy"].as_str().expect("a name").to_owned();
        let unit = Unit::parse(message["period"].as_str().expect("a period")).expect("a unit");
        let zone = Zone::parse(message["timezone"].as_str().expect("a zone")).expect("a known zone");
        let (sequence, limit) = (number("sequence"), number("limit"));
        let (used, up_to) = (number("used"), number("upTo"));
        let period = |at: i64| period_at(unit, &zone, at);
        let named = message["periodStart"].as_i64();
        // Time never goes back, neither for us nor for whoever was told of a period.
        let start = period(now.div_euclid(1000)).start.max(self.newest.unwrap_or(i64::MIN));
        let start = named.map_or(start, |named| named.max(start));
        self.newest = Some(start);
        let Period { end, .. } = period(start);
        let mut wanted = up_to;
        if let Some(named) = named.filter(|named| *named < start) {
            let row = self.rows.entry((named, proxy.clone())).or_default();
            if sequence > row.sequence {
                // What is over gets its count and nothing else; as much more is wanted now.
                *row = Row { used: row.used.max(used), granted: row.used.max(used), sequence };
            }
            wanted = up_to.saturating_sub(used);
        }
        let forgets = self.forgets;
        let others = self.rows.iter().filter(|((of, whose), _)| *of == start && *whose != proxy);
        let (mut spent, mut used_by_others, mut count) = (0_u64, 0_u64, 1_u64);
        for (_, row) in others {
            spent = spent.saturating_add(if forgets { row.used } else { row.granted });
            used_by_others = used_by_others.saturating_add(row.used);
            count += 1;
        }
        let row = self.rows.entry((start, proxy)).or_default();
        if sequence > row.sequence {
            row.sequence = sequence;
            if named.is_none_or(|named| named == start) {
                row.used = row.used.max(used);
                row.granted = row.granted.min(up_to).max(row.used);
            }
            let left = limit.saturating_sub(spent.saturating_add(row.granted));
            // Half of an even share, and never nothing.
            let share = left.div_ceil(2 * count);
            row.granted += wanted.saturating_sub(row.granted).min(share);
        }
        let leased = spent.saturating_sub(used_by_others).saturating_add(row.granted - row.used);
        json!({
            "periodStart": start,
            "resetsAt": end,
            "resetsInMs": (end * 1000 - now).max(1),
            "granted": row.granted,
            "usage": used_by_others.saturating_add(row.used),
            "leased": leased,
            "expiresInMs": 30000,
        })
    }

    /// All that was said to be used.
    pub fn used(&self) -> u64 {
        self.rows.values().map(|row| row.used).sum()
    }

    /// What was said to be used in each period.
    pub fn counts(&self) -> BTreeMap<i64, u64> {
        let mut counts = BTreeMap::new();
        self.rows.iter().for_each(|((start, _), row)| *counts.entry(*start).or_default() += row.used);
        counts
    }

    /// All that lies unused with proxies, of the newest period.
    pub fn leased(&self) -> u64 {
        let newest = self.rows.iter().filter(|((start, _), _)| Some(*start) == self.newest);
        newest.map(|(_, row)| row.granted - row.used).sum()
    }
}
