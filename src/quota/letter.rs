//! What workers of one Envoy tell each other of a pool.

use crate::host::{Host, WorkerId};
use crate::tenant::Identifier;

/// Where pools are in shared data. What stands behind doesn't depend on a configuration's limits, so a change of them resets no
/// count.
pub const PREFIX: &str = "tenancy:1:quota:";

/// Tells workers that a pool has changed.
pub fn tell(waiters: &[WorkerId], key: &str, host: &dyn Host) {
    for waiter in waiters {
        host.post(*waiter, &write(Letter::Changed, key));
    }
}

/// What one worker tells another of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// Give back what you hold.
    Recall,
    /// Units may have come.
    Changed,
}

fn write(what: Letter, key: &str) -> Vec<u8> {
    let first = match what {
        Letter::Recall => b'r',
        Letter::Changed => b'c',
    };
    [&[first], key.as_bytes()].concat()
}

/// Reads a letter: what it tells, of which quota, which tenant and which pool.
pub fn read_letter(letter: &[u8]) -> Option<(Letter, &str, Identifier, &str)> {
    let (what, key) = match letter.split_first()? {
        (b'r', key) => (Letter::Recall, key),
        (b'c', key) => (Letter::Changed, key),
        _ => return None,
    };
    let key = std::str::from_utf8(key).ok()?;
    let mut parts = key.strip_prefix(PREFIX)?.split(':');
    let (quota, _, tenant) = (parts.next()?, parts.next()?, parts.next()?);
    Some((what, quota, Identifier::parse(tenant.as_bytes())?, key))
}

/// Asks workers for what they hold of a pool.
pub fn recall(holders: &[WorkerId], key: &str, host: &dyn Host) {
    for holder in holders {
        host.post(*holder, &write(Letter::Recall, key));
    }
}
