//! Units on their way back into a pool, and beyond a limit: from a worker's hands, and from a request's.

use std::rc::Rc;

use super::letter::tell;
use super::pool::{Pool, Write};
use crate::host::Host;

/// Units that a request has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The pool that they are from.
    pub key: Rc<str>,
    /// Of which period.
    pub label: i64,
    /// How many.
    pub units: u64,
    /// Whether they are given back when the request ends.
    pub is_level: bool,
}

/// Takes a worker's units out of its hands, and tells those who wait for some.
pub fn give_back(key: &str, lease: Option<(i64, u64)>, host: &dyn Host) {
    let me = host.worker();
    let waiters = Pool::update(host, key, |pool| {
        let held = pool.held_by(me);
        if held == 0 {
            let waiters = pool.take_waiters();
            return (if waiters.is_empty() { Write::No } else { Write::Yes }, waiters);
        }
        // What isn't known to be unused counts as used.
        let unused = lease.filter(|(label, _)| *label == pool.label).map_or(0, |(_, units)| units.min(held));
        pool.taken = pool.taken.saturating_sub(unused);
        pool.set_held(me, 0);
        (Write::Yes, pool.take_waiters())
    });
    tell(&waiters.unwrap_or_default(), key, host);
}

/// Gives back units that a request has taken and not used.
pub fn refund(charge: &Charge, units: u64, host: &dyn Host) {
    let me = host.worker();
    let waiters = Pool::update(host, &charge.key, |pool| {
        if pool.label != charge.label {
            return (Write::No, Vec::new());
        }
        let mut units = units;
        if charge.is_level {
            // Of a worker that was taken for dead the units are free already.
            let held = pool.held_by(me);
            units = units.min(held);
            pool.set_held(me, held.saturating_sub(units));
        }
        pool.taken = pool.taken.saturating_sub(units);
        (Write::Yes, pool.take_waiters())
    });
    tell(&waiters.unwrap_or_default(), &charge.key, host);
}

/// Takes units that are used already, whatever the limit is.
pub fn charge_more(charge: &Charge, units: u64, host: &dyn Host) {
    Pool::update(host, &charge.key, |pool| {
        if pool.label != charge.label {
            return (Write::No, ());
        }
        pool.taken = pool.taken.saturating_add(units);
        (Write::Yes, ())
    });
}
