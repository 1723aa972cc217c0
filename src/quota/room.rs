//! How much room a limit leaves: what bounds a pool, and what a worker can take of it.

use super::pool::Pool;
use crate::host::{RequestId, WorkerId};

/// A lease is at most this part of what the pool has left, so near the limit there are none.
const SHARE: u64 = 64;

/// How far a tenant is from a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: u64,
    /// Units used, as far as is known here.
    pub used: u64,
    /// When the count starts anew, in Unix seconds; `None` for a level.
    pub resets_at: Option<i64>,
    /// How long the period is, in seconds.
    pub window: Option<u64>,
}

impl Standing {
    /// Units that are left.
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// The request.
    pub id: RequestId,
    /// How many units.
    pub units: u64,
    /// Whether to take them though the limit leaves none.
    pub forced: bool,
}

/// What the application says of a tenant's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The usage.
    pub usage: u64,
    /// What this proxy had counted when it asked.
    pub mark: u64,
    /// When it asked, in Unix seconds.
    pub asked_at: i64,
}

/// What bounds a pool.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// The limit.
    Limit(u64),
    /// The limit, of which others than this pool have used so much.
    Beside(u64, Reading),
}

impl Bound {
    /// Up to where a pool's count may go.
    pub fn ceiling(self, label: i64) -> u64 {
        match self {
            Self::Limit(units) => units,
            // A reading of an earlier period says nothing of this one; it is never used for it.
            Self::Beside(_, reading) if reading.asked_at < label => 0,
            Self::Beside(limit, reading) => limit.saturating_sub(reading.usage).saturating_add(reading.mark),
        }
    }

    /// What of the limit is used beside the pool's count.
    pub fn elsewhere(self, limit: u64) -> i128 {
        match self {
            Self::Limit(_) => 0,
            Self::Beside(_, reading) => i128::from(reading.usage.min(limit)).saturating_sub(i128::from(reading.mark)),
        }
    }
}

/// What a pool has left for a worker.
pub struct Free {
    mine: u64,
    available: u64,
}

/// What a worker got.
pub enum Taken {
    Units { label: i64, left: u64, beside: u64, exceeded: bool, taken: u64 },
    Recall { label: i64, holders: Vec<WorkerId> },
    Empty { label: i64, taken: u64 },
}

impl Free {
    pub fn of(pool: &Pool, mine: u64, ceiling: u64) -> Self {
        Self { mine, available: ceiling.saturating_sub(pool.taken.saturating_sub(mine)) }
    }

    /// Takes units, and a lease where there are plenty.
    pub fn take(&self, pool: &mut Pool, me: WorkerId, want: Want, lease: u64) -> Taken {
        let (label, others) = (pool.label, pool.taken.saturating_sub(self.mine));
        let exceeded = self.available < want.units;
        if !exceeded || want.forced {
            let after = self.available.saturating_sub(want.units);
            let left = lease.min(after.checked_div(SHARE).unwrap_or(0));
            pool.taken = others.saturating_add(want.units).saturating_add(left);
            pool.set_held(me, left);
            let beside = after.saturating_sub(left);
            return Taken::Units { label, left, beside, exceeded, taken: pool.taken };
        }
        // Too few for this request may be enough for another worker's.
        pool.taken = others;
        pool.set_held(me, 0);
        let holders: Vec<WorkerId> = pool.others(me).collect();
        if holders.is_empty() {
            return Taken::Empty { label, taken: pool.taken };
        }
        pool.wait(me);
        Taken::Recall { label, holders }
    }
}

impl Taken {
    pub fn label(&self) -> i64 {
        match self {
            Self::Units { label, .. } | Self::Recall { label, .. } | Self::Empty { label, .. } => *label,
        }
    }
}
