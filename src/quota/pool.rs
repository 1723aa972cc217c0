//! What all workers of an Envoy share of one tenant's count in one quota.
//!
//! A pool says how many units are taken: used, or lying in a worker's hands. Workers change it by compare-and-swap, so no
//! unit is ever given twice. What a worker holds is noted with its address, so that another one that finds the pool empty
//! can call it back, and so that what a dead worker held of a level comes back.

use std::time::Duration;

use crate::host::{Host, WorkerId};

/// How often a worker tries to change a pool that others change at the same time. Each failure is another one's success.
const TRIES: usize = 1000;

/// The shared count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// The beginning of the period that is counted, in Unix seconds; 0 for a level. It never goes back, whatever clocks do.
    pub label: i64,
    /// Units that are used, or in a worker's hands.
    pub taken: u64,
    /// Units that workers hold: not yet used, or of a level, in use.
    holders: Vec<(WorkerId, u64)>,
    /// Workers to be told when units come back.
    waiters: Vec<WorkerId>,
    /// Where a service grants units, what it has granted.
    pub supply: Supply,
}

/// What a service has granted to this proxy. Times are milliseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supply {
    /// Units that may be taken in this period.
    pub granted: u64,
    /// When the period ends.
    pub ends: u64,
    /// The same in Unix seconds, by the service's clock.
    pub resets_at: i64,
    /// The number of the last question.
    pub sequence: u64,
    /// Until when a question is under way.
    pub asked_until: u64,
    /// Until when there is no use in asking: the service has no unit.
    pub dry_until: u64,
    /// Until when there is no use in asking: the service gives no answer.
    pub silent_until: u64,
    /// How often in a row it gave none.
    pub silences: u64,
    /// How many units were asked for, the last time.
    pub batch: u64,
    /// When units came, the last time.
    pub came_at: u64,
    /// How many units the service was told are taken.
    pub reported: u64,
    /// Units that are used or held elsewhere, as far as the service said. Less than none where somebody has set the usage back.
    pub elsewhere: i64,
    /// The limit that the service said holds.
    pub limit: u64,
    /// 1 where the service refused more than a request needs, and the next question is for no more than that; else 0.
    pub sparing: u64,
    /// Units that the service counts as used here, though nothing was asked for but what is: it was told of more before.
    pub kept: u64,
}

impl Supply {
    /// Shows each field, always in the same order: to write it, and to read it again. `None` as soon as the visitor gives that.
    fn each(&mut self, mut visit: impl FnMut(&mut u64) -> Option<()>) -> Option<()> {
        visit(&mut self.granted)?;
        visit(&mut self.ends)?;
        let mut resets_at = self.resets_at.cast_unsigned();
        visit(&mut resets_at)?;
        self.resets_at = resets_at.cast_signed();
        visit(&mut self.sequence)?;
        visit(&mut self.asked_until)?;
        visit(&mut self.dry_until)?;
        visit(&mut self.silent_until)?;
        visit(&mut self.silences)?;
        visit(&mut self.batch)?;
        visit(&mut self.came_at)?;
        visit(&mut self.reported)?;
        let mut elsewhere = self.elsewhere.cast_unsigned();
        visit(&mut elsewhere)?;
        self.elsewhere = elsewhere.cast_signed();
        visit(&mut self.limit)?;
        visit(&mut self.sparing)?;
        visit(&mut self.kept)
    }
}

impl Pool {
    /// Begins a new period. What workers hold of the old one is void.
    pub fn roll(&mut self, label: i64) {
        self.label = label;
        self.taken = 0;
        self.holders.clear();
    }

    /// Units in a worker's hands.
    pub fn held_by(&self, worker: WorkerId) -> u64 {
        self.holders.iter().find(|(holder, _)| *holder == worker).map_or(0, |(_, units)| *units)
    }

    /// Notes how many units are in a worker's hands.
    pub fn set_held(&mut self, worker: WorkerId, units: u64) {
        match self.holders.iter_mut().find(|(holder, _)| *holder == worker) {
            Some((_, held)) => *held = units,
            None if units > 0 => self.holders.push((worker, units)),
            None => {}
        }
        self.holders.retain(|(_, units)| *units > 0);
    }

    /// Who else holds units.
    pub fn others(&self, worker: WorkerId) -> impl Iterator<Item = WorkerId> {
        self.holders.iter().map(|(holder, _)| *holder).filter(move |holder| *holder != worker)
    }

    /// Units in all workers' hands.
    pub fn held(&self) -> u64 {
        self.holders.iter().fold(0, |sum: u64, (_, units)| sum.saturating_add(*units))
    }

    /// Forgets what workers hold that aren't among the living. `counts_as_used` says whether it is used then, or is free again.
    pub fn bury(&mut self, living: impl Fn(WorkerId) -> bool, counts_as_used: bool) {
        let dead: u64 = self
            .holders
            .iter()
            .filter(|(holder, _)| !living(*holder))
            .fold(0, |sum: u64, (_, units)| sum.saturating_add(*units));
        self.holders.retain(|(holder, _)| living(*holder));
        if !counts_as_used {
            self.taken = self.taken.saturating_sub(dead);
        }
    }

    /// Has a worker told when units come back.
    pub fn wait(&mut self, worker: WorkerId) {
        if !self.waiters.contains(&worker) {
            self.waiters.push(worker);
        }
    }

    /// Whom to tell that units have come back; they are told once.
    pub fn take_waiters(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.waiters)
    }

    /// Reads a pool; `None` where there is none yet.
    pub fn read(host: &dyn Host, key: &str) -> Option<Self> {
        Self::from_bytes(&host.shared(key)?)
    }

    /// Changes a pool, or makes it. `change` sees the present one, may be called again where another worker was first, and says
    /// whether there is anything to write. `None` only where no try succeeded.
    pub fn update<R>(host: &dyn Host, key: &str, mut change: impl FnMut(&mut Self) -> (Write, R)) -> Option<R> {
        for _ in 0..TRIES {
            let (bytes, version) = host.shared_version(key);
            let mut pool = bytes.as_deref().and_then(Self::from_bytes).unwrap_or_default();
            let (write, result) = change(&mut pool);
            if write == Write::No || host.replace_shared(key, &pool.to_bytes(), version) {
                return Some(result);
            }
        }
        None
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.extend(self.label.to_le_bytes());
        bytes.extend(self.taken.to_le_bytes());
        bytes.extend(u32::try_from(self.holders.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(u32::try_from(self.waiters.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (holder, units) in &self.holders {
            bytes.extend(holder.0.to_le_bytes());
            bytes.extend(units.to_le_bytes());
        }
        for waiter in &self.waiters {
            bytes.extend(waiter.0.to_le_bytes());
        }
        if self.supply != Supply::default() {
            let mut supply = self.supply;
            supply.each(|field| {
                bytes.extend(field.to_le_bytes());
                Some(())
            });
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (label, taken) = (i64::from_le_bytes(reader.take()?), reader.u64()?);
        let (holders, waiters) = (reader.u32()?, reader.u32()?);
        let mut pool = Self { label, taken, ..Self::default() };
        for _ in 0..holders {
            pool.holders.push((WorkerId(reader.u32()?), reader.u64()?));
        }
        for _ in 0..waiters {
            pool.waiters.push(WorkerId(reader.u32()?));
        }
        if !reader.0.is_empty() {
            pool.supply.each(|field| {
                *field = reader.u64()?;
                Some(())
            })?;
        }
        Some(pool)
    }
}

/// Whether a change is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It is.
    Yes,
    /// Nothing has changed.
    No,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

/// Milliseconds, as pools hold times.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which workers of this proxy live. Each says so about once a second.
pub struct Living {
    beats: Vec<(WorkerId, u64)>,
    now: u64,
}

impl Living {
    const KEY: &str = "tenancy:1:workers";
    /// How long a worker may be silent before it is taken for dead: several times the second after which each speaks.
    const SILENCE: u64 = 5000;

    /// Says that this worker lives.
    pub fn beat(host: &dyn Host) {
        let now = milliseconds(host.monotonic());
        let me = host.worker();
        for _ in 0..TRIES {
            let (bytes, version) = host.shared_version(Self::KEY);
            let mut living = Self::from_bytes(bytes.as_deref().unwrap_or_default(), now);
            // Nothing can be deleted from shared data, so the dead are left out of the one list.
            living.beats.retain(|(worker, at)| *worker != me && now.saturating_sub(*at) <= Self::SILENCE);
            living.beats.push((me, now));
            let bytes: Vec<u8> = living
                .beats
                .iter()
                .flat_map(|(worker, at)| worker.0.to_le_bytes().into_iter().chain(at.to_le_bytes()))
                .collect();
            if host.replace_shared(Self::KEY, &bytes, version) {
                return;
            }
        }
    }

    /// Those who live now.
    pub fn read(host: &dyn Host) -> Self {
        Self::from_bytes(&host.shared(Self::KEY).unwrap_or_default(), milliseconds(host.monotonic()))
    }

    /// Whether a worker is among them.
    pub fn has(&self, worker: WorkerId) -> bool {
        self.beats.iter().any(|(other, at)| *other == worker && self.now.saturating_sub(*at) <= Self::SILENCE)
    }

    fn from_bytes(bytes: &[u8], now: u64) -> Self {
        let mut reader = Reader(bytes);
        let mut beats = Vec::new();
        while let (Some(worker), Some(at)) = (reader.u32(), reader.u64()) {
            beats.push((WorkerId(worker), at));
        }
        Self { beats, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_written_and_read_as_it_is() {
        let mut pool = Pool { label: -5, taken: u64::MAX, ..Pool::default() };
        pool.set_held(WorkerId(7), 3);
        pool.set_held(WorkerId(8), 1);
        pool.set_held(WorkerId(7), 0);
        pool.wait(WorkerId(9));
        pool.wait(WorkerId(9));
        assert_eq!(Pool::from_bytes(&pool.to_bytes()), Some(pool.clone()));
        let without_supply = pool.to_bytes().len();
        pool.supply = Supply { granted: 1, resets_at: -2, limit: u64::MAX, ..Supply::default() };
        assert_eq!(Pool::from_bytes(&pool.to_bytes()), Some(pool.clone()));
        for cut in 1..pool.to_bytes().len() {
            let whole_without_supply = cut == without_supply;
            assert_eq!(Pool::from_bytes(&pool.to_bytes()[..cut]).is_some(), whole_without_supply, "{cut}");
        }
        assert_eq!(pool.take_waiters(), [WorkerId(9)]);
    }

    #[test]
    fn the_dead_leave_a_level_and_keep_what_may_be_used() {
        let mut pool = Pool { taken: 10, ..Pool::default() };
        pool.set_held(WorkerId(1), 4);
        pool.set_held(WorkerId(2), 5);
        let mut level = pool.clone();
        level.bury(|worker| worker == WorkerId(1), false);
        assert_eq!((level.taken, level.held()), (5, 4));
        pool.bury(|worker| worker == WorkerId(1), true);
        assert_eq!((pool.taken, pool.held()), (10, 4));
    }
}
