//! What the connections came to, for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that were opened.
    pub opened: AtomicU64,
    /// Connections that are gone, by reason.
    closed: Mutex<BTreeMap<&'static str, u64>>,
    /// Clients' messages.
    pub received: AtomicU64,
    /// Messages that were written to clients.
    pub sent: AtomicU64,
    /// What goes between instances.
    pub relayed: Relayed,
}

/// What goes between instances.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Messages that may not have reached the other instances.
    pub lost: AtomicU64,
    /// How often the other instances could no longer be heard.
    pub breaks: AtomicU64,
    /// Whether they are to be heard at all: an instance that takes no connections has nobody to pass it on to.
    pub wanted: AtomicBool,
    /// Whether they can be.
    pub listening: AtomicBool,
}

impl Tally {
    /// Counts a connection's end.
    pub fn closed(&self, reason: &'static str) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = closed.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// How many ended for each reason.
    pub fn ends(&self) -> BTreeMap<&'static str, u64> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are now.
    pub fn open(&self) -> u64 {
        let closed = self.ends().values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        self.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }
}
