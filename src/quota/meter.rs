//! One quota in one worker: units for requests, from this worker's hands or from the shared pool.
//!
//! A tenant that is busy gets its units in small leases: the worker takes some from the pool in one step and hands them out
//! without looking at the pool again. The nearer the limit, the smaller they are; and a worker that finds the pool empty calls
//! back what others hold. So a request is refused only when no unit is left in any hand.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use quick_cache::DefaultHashBuilder;

use super::charge::{Charge, give_back};
use super::letter::{PREFIX, recall};
use super::limit::{Limit, Unreadable, limit};
use super::pool::{Living, Pool, Write, milliseconds};
use super::room::{Bound, Free, Standing, Taken, Want};
use super::supply::{Question, Supplier};
use crate::calendar::{self, period_at};
use crate::config::{Period, Quota};
use crate::host::{Host, RequestId, WorkerId, unix_seconds};
use crate::tenant::{Identifier, Tenant};

/// The largest lease. What a crash of a worker's VM can lose of a tenant's units is this times the workers.
const LARGEST_LEASE: u64 = 64;
/// A lease that lasted shorter is followed by one of twice its size.
const SHORT: Duration = Duration::from_millis(100);
/// A lease that lasted longer is followed by one of half its size; and what lies unused for so long goes back to the pool.
const LONG: Duration = Duration::from_secs(1);
/// How long a tenant is without a request until the service gets back what lies unused here.
const UNUSED: Duration = Duration::from_secs(3);
/// How long a worker may take to give back what is called back.
const PATIENCE: Duration = Duration::from_secs(1);
/// After which time without a request a worker forgets a tenant.
const FORGET: Duration = Duration::from_secs(60);

/// One quota's state in one worker.
pub struct Meter {
    /// Its settings.
    pub quota: Quota,
    /// Who grants units, where the edge doesn't count by itself.
    pub supplier: Option<Supplier>,
    tenants: HashMap<Identifier, Local, DefaultHashBuilder>,
}

/// What a worker has of one tenant.
struct Local {
    /// The record that the limit was read from.
    tenant: Rc<Tenant>,
    limit: Result<Option<Limit>, Unreadable>,
    /// Where the pool is in shared data.
    key: Rc<str>,
    period: calendar::Period,
    /// When the period ends where a service grants units, in milliseconds of the monotonic clock.
    ends: u64,
    /// What was taken from the pool when it was looked at last, to see whether it is in use.
    seen: Option<u64>,
    /// Units of a lease that nobody has used yet.
    left: u64,
    /// What the pool had beside them.
    beside: u64,
    lease: u64,
    leased_at: Duration,
    touched: Duration,
    waiting: Vec<RequestId>,
    recalled_at: Option<Duration>,
}

/// What came of asking for units.
pub enum Draw {
    /// They are there. `exceeded` if they are more than the limit leaves, and the caller wanted them all the same.
    Units { charge: Charge, standing: Standing, exceeded: bool },
    /// Units may come; the request is told.
    Wait,
    /// There are none.
    Empty(Standing),
    /// Nobody can say.
    NoAnswer,
}

/// What a service is due to be told of a tenant's pool, unasked.
pub type Report = (Rc<Tenant>, Rc<str>, Question);

impl Meter {
    /// A meter that has counted nothing yet.
    pub fn new(quota: Quota, supplier: Option<Supplier>) -> Self {
        Self { quota, supplier, tenants: HashMap::default() }
    }

    /// The limit that holds for a tenant.
    pub fn limit(&mut self, tenant: &Rc<Tenant>, host: &dyn Host) -> Result<Option<Limit>, Unreadable> {
        self.local(tenant, host).limit
    }

    /// The worker's state of a tenant, by the tenant's present record.
    fn local(&mut self, tenant: &Rc<Tenant>, host: &dyn Host) -> &mut Local {
        let quota = &self.quota;
        let kind = self.supplier.as_ref().map_or("", Supplier::kind);
        let local = self.tenants.entry(tenant.id.clone()).or_insert_with(|| Local::new(quota, kind, tenant));
        if !Rc::ptr_eq(&local.tenant, tenant) {
            let mut renewed = Local::new(quota, kind, tenant);
            if (renewed.limit, &renewed.key) == (local.limit, &local.key) {
                local.tenant = renewed.tenant;
                return local;
            }
            // What was leased under the old limit may be more than the new one leaves. Without a lease nobody is told: workers where
            // requests wait with older and newer records would wake each other for ever.
            if local.lease > 0 {
                local.give_back(host);
            }
            if renewed.key == local.key {
                (renewed.period, renewed.ends) = (local.period, local.ends);
            }
            renewed.waiting = std::mem::take(&mut local.waiting);
            *local = renewed;
        }
        local
    }

    /// Whether a tenant certainly has no units: then nothing need be taken from other quotas first. May be wrong the other way.
    pub fn is_empty(&mut self, tenant: &Rc<Tenant>, units: u64, bound: Bound, host: &dyn Host) -> Option<Standing> {
        let (supplied, is_level) = (self.supplier.is_some(), self.quota.own_period() == Period::None);
        let zone = self.quota.timezone;
        let local = self.local(tenant, host);
        let limit = local.limit.ok().flatten()?;
        local.turn(limit, &zone, host);
        // A service may have more to grant, and of a level the dead may hold some.
        if supplied || is_level || local.left >= units {
            return None;
        }
        let pool = Pool::read(host, &local.key).filter(|pool| pool.label == local.period.start).unwrap_or_default();
        let ceiling = bound.ceiling(local.period.start);
        let empty = pool.taken.saturating_sub(pool.held()).saturating_add(units) > ceiling;
        empty.then(|| local.standing(limit, bound.elsewhere(limit.units), pool.taken))
    }

    /// Takes units of a quota that the edge counts by the calendar.
    pub fn draw(&mut self, tenant: &Rc<Tenant>, want: Want, bound: Bound, host: &dyn Host) -> Draw {
        let zone = self.quota.timezone;
        let local = self.local(tenant, host);
        let Ok(Some(limit)) = local.limit else { return Draw::NoAnswer };
        local.turn(limit, &zone, host);
        let (now, me) = (host.monotonic(), host.worker());
        local.touched = now;
        if let Some(draw) = local.hand_out(want, limit) {
            return draw;
        }
        let lease = local.next_lease(now);
        let outcome = Pool::update(host, &local.key, |pool| {
            if pool.label < local.period.start {
                pool.roll(local.period.start);
            }
            let mine = if pool.label == local.period.start { local.left } else { 0 };
            let before = pool.clone();
            let taken = Free::of(pool, mine, bound.ceiling(pool.label)).take(pool, me, want, lease);
            // A tenant that is refused again and again costs the others no try of theirs.
            (if *pool == before { Write::No } else { Write::Yes }, taken)
        });
        let elsewhere = bound.elsewhere(limit.units);
        match outcome {
            None => Draw::NoAnswer,
            Some(Taken::Units { label, left, beside, exceeded, taken }) => {
                local.adopt(label, limit, &zone);
                (local.left, local.beside, local.lease, local.leased_at) = (left, beside, lease, now);
                let standing = local.standing(limit, elsewhere, taken.saturating_sub(left));
                Draw::Units { charge: local.charge(want.units), standing, exceeded }
            }
            Some(Taken::Recall { label, holders }) => {
                local.adopt(label, limit, &zone);
                (local.left, local.lease) = (0, 0);
                local.recall(&holders, want.id, now, host);
                Draw::Wait
            }
            Some(Taken::Empty { label, taken }) => {
                local.adopt(label, limit, &zone);
                (local.left, local.lease) = (0, 0);
                Draw::Empty(local.standing(limit, elsewhere, taken))
            }
        }
    }

    /// Takes units of a level, until the request ends.
    pub fn hold(&mut self, tenant: &Rc<Tenant>, want: Want, host: &dyn Host) -> Draw {
        let local = self.local(tenant, host);
        let Ok(Some(limit)) = local.limit else { return Draw::NoAnswer };
        let me = host.worker();
        local.touched = host.monotonic();
        // The second time without those that died with requests under way.
        for without_dead in [false, true] {
            let outcome = Pool::update(host, &local.key, |pool| {
                if without_dead {
                    // Whoever holds a unit has said before that it lives. So this is read after the pool: a worker that has begun
                    // in between must not look dead.
                    let living = Living::read(host);
                    pool.bury(|worker| worker == me || living.has(worker), false);
                }
                let exceeded = pool.taken.saturating_add(want.units) > limit.units;
                if exceeded && !want.forced {
                    return (
                        if without_dead { Write::Yes } else { Write::No },
                        Err((pool.taken, pool.others(me).next().is_some())),
                    );
                }
                pool.taken = pool.taken.saturating_add(want.units);
                pool.set_held(me, pool.held_by(me).saturating_add(want.units));
                (Write::Yes, Ok((pool.taken, exceeded)))
            });
            match outcome {
                None => return Draw::NoAnswer,
                Some(Ok((taken, exceeded))) => {
                    let standing = local.standing(limit, 0, taken);
                    return Draw::Units { charge: local.charge(want.units), standing, exceeded };
                }
                Some(Err((_, true))) if !without_dead => {}
                Some(Err((taken, _))) => return Draw::Empty(local.standing(limit, 0, taken)),
            }
        }
        Draw::NoAnswer
    }

    /// Takes units that a service grants. The question to ask it, if it is time to, is returned beside.
    pub fn draw_supplied(&mut self, tenant: &Rc<Tenant>, want: Want, host: &dyn Host) -> (Draw, Option<Question>) {
        let Some(supplier) = self.supplier.clone() else { return (Draw::NoAnswer, None) };
        let own_period = self.quota.own_period();
        let local = self.local(tenant, host);
        let limit = match local.limit {
            Ok(Some(limit)) => limit,
            // The service may know a limit that we don't.
            Ok(None) => Limit { units: crate::config::MOST_UNITS, period: own_period },
            Err(Unreadable) => return (Draw::NoAnswer, None),
        };
        let (now, me) = (host.monotonic(), host.worker());
        let at = milliseconds(now);
        local.touched = now;
        if at < local.ends
            && let Some(draw) = local.hand_out(want, limit)
        {
            return (draw, None);
        }
        let lease = local.next_lease(now);
        let outcome = Pool::update(host, &local.key, |pool| {
            // The service's clock says when the period is over, and nothing of it is left then.
            let current = at < pool.supply.ends;
            let mine = if pool.label == local.period.start { local.left } else { 0 };
            let ceiling = if current { supplier.ceiling(&pool.supply, limit) } else { 0 };
            let taken = Free::of(pool, mine, ceiling).take(pool, me, want, lease);
            let served = matches!(taken, Taken::Units { .. });
            let question = supplier.question(pool, limit, want.units, at, served);
            let next = if served {
                Next::Done
            } else if question.is_some() || at < pool.supply.asked_until {
                pool.wait(me);
                Next::Wait
            } else if at < pool.supply.silent_until {
                Next::NoAnswer
            } else {
                Next::Done
            };
            (Write::Yes, (taken, question, next, pool.supply))
        });
        let Some((taken, question, next, supply)) = outcome else { return (Draw::NoAnswer, None) };
        let limit = supplier.limit(&supply, limit);
        local.ends = supply.ends;
        local.period = calendar::Period { start: taken.label(), end: supply.resets_at };
        (local.left, local.lease) = (0, 0);
        let draw = match (next, taken) {
            (Next::Wait, _) => {
                local.waiting.push(want.id);
                Draw::Wait
            }
            (Next::NoAnswer, _) => Draw::NoAnswer,
            (Next::Done, Taken::Units { left, exceeded, taken, .. }) => {
                let used = taken.saturating_sub(left).saturating_add_signed(supply.elsewhere);
                (local.left, local.lease, local.leased_at) = (left, lease, now);
                local.beside = limit.units.saturating_sub(used).saturating_sub(left);
                Draw::Units { charge: local.charge(want.units), standing: local.standing(limit, 0, used), exceeded }
            }
            (Next::Done, Taken::Recall { holders, .. }) => {
                local.recall(&holders, want.id, now, host);
                Draw::Wait
            }
            (Next::Done, Taken::Empty { taken, .. }) => {
                Draw::Empty(local.standing(limit, 0, taken.saturating_add_signed(supply.elsewhere)))
            }
        };
        (draw, question)
    }

    /// Where a tenant's pool is in shared data.
    pub fn key(&mut self, tenant: &Rc<Tenant>, host: &dyn Host) -> Rc<str> {
        Rc::clone(&self.local(tenant, host).key)
    }

    /// The beginning of a tenant's present period, in Unix seconds, and what this proxy has certainly counted in it, for the mark
    /// of a reading: what workers hold may be used after it.
    pub fn counted(&mut self, tenant: &Rc<Tenant>, host: &dyn Host) -> (i64, u64) {
        let zone = self.quota.timezone;
        let local = self.local(tenant, host);
        if let Ok(Some(limit)) = local.limit {
            local.turn(limit, &zone, host);
        }
        let pool = Pool::read(host, &local.key).filter(|pool| pool.label == local.period.start);
        (local.period.start, pool.map_or(0, |pool| pool.taken.saturating_sub(pool.held())))
    }

    /// Gives back what this worker holds of a pool, and tells those who wait for it.
    pub fn give_back(&mut self, tenant: &Identifier, key: &str, host: &dyn Host) {
        match self.tenants.get_mut(tenant).filter(|local| &*local.key == key) {
            Some(local) => local.give_back(host),
            // Whoever waits must not wait for a worker that has forgotten the tenant.
            None => give_back(key, None, host),
        }
    }

    /// Who waits for units of a pool.
    pub fn take_waiting(&mut self, tenant: &Identifier, key: &str) -> Vec<RequestId> {
        let local = self.tenants.get_mut(tenant).filter(|local| &*local.key == key);
        local.map(Local::take_waiting).unwrap_or_default()
    }

    /// Does what time brings: what lies unused goes back, and nobody waits for the dead. Gives who may try again, and which
    /// tenants' services are due a report.
    pub fn tick(&mut self, host: &dyn Host) -> (Vec<RequestId>, Vec<Report>) {
        let now = host.monotonic();
        let me = host.worker();
        let (mut awake, mut questions) = (Vec::new(), Vec::new());
        for local in self.tenants.values_mut() {
            let idle = now.saturating_sub(local.touched);
            // A lease that is used up is still noted in the pool as held.
            if local.lease > 0 && now.saturating_sub(local.leased_at) >= LONG {
                local.give_back(host);
            }
            if local.waiting.is_empty() {
                local.recalled_at = None;
            } else if local.recalled_at.is_none_or(|at| now.saturating_sub(at) >= PATIENCE) {
                // Whoever was called and gave nothing back is dead, or too busy: what it holds counts as used.
                if local.recalled_at.take().is_some() {
                    Pool::update(host, &local.key, |pool| {
                        pool.bury(|worker| worker == me, true);
                        (Write::Yes, ())
                    });
                }
                awake.extend(local.take_waiting());
            }
            if let Some(supplier) = self.supplier.as_ref().filter(|_| idle >= UNUSED) {
                let limit = local.limit.ok().flatten();
                let report = Pool::update(host, &local.key, |pool| {
                    let in_use = local.seen != Some(pool.taken);
                    local.seen = Some(pool.taken);
                    let question = if in_use { None } else { supplier.report(pool, limit, milliseconds(now)) };
                    (if question.is_some() { Write::Yes } else { Write::No }, question)
                });
                let report = report.flatten();
                questions.extend(report.map(|question| (Rc::clone(&local.tenant), Rc::clone(&local.key), question)));
            }
        }
        let owes = |local: &Local| match &self.supplier {
            Some(supplier) => Pool::read(host, &local.key).is_some_and(|pool| supplier.owes(&pool)),
            None => false,
        };
        self.tenants.retain(|_, local| {
            now.saturating_sub(local.touched) < FORGET || local.left > 0 || !local.waiting.is_empty() || owes(local)
        });
        (awake, questions)
    }

    /// Gives back all that this worker holds.
    pub fn close(&mut self, host: &dyn Host) {
        self.tenants.values_mut().for_each(|local| local.give_back(host));
    }
}

/// What a supplied draw does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Done,
    Wait,
    NoAnswer,
}

impl Local {
    fn new(quota: &Quota, kind: &str, tenant: &Rc<Tenant>) -> Self {
        let limit = limit(quota, tenant);
        let period = limit.ok().flatten().map_or(quota.own_period(), |limit| limit.period);
        let (key, name, zone) = (&quota.quota_key, period.as_str(), quota.timezone.name());
        Self {
            tenant: Rc::clone(tenant),
            limit,
            key: format!("{PREFIX}{key}:{name}@{zone}{kind}:{}", tenant.id).into(),
            period: calendar::Period { start: 0, end: 0 },
            ends: 0,
            seen: None,
            left: 0,
            beside: 0,
            lease: 0,
            leased_at: Duration::ZERO,
            touched: Duration::ZERO,
            waiting: Vec::new(),
            recalled_at: None,
        }
    }

    /// Goes on to the period that it is now; never back, whatever the clock does.
    fn turn(&mut self, limit: Limit, zone: &calendar::Zone, host: &dyn Host) {
        let Period::Calendar(unit) = limit.period else { return };
        let now = unix_seconds(host.now());
        if now >= self.period.end {
            self.period = period_at(unit, zone, now);
            self.left = 0;
        }
    }

    /// Goes on to a period that another worker has begun.
    fn adopt(&mut self, label: i64, limit: Limit, zone: &calendar::Zone) {
        if let Period::Calendar(unit) = limit.period
            && label != self.period.start
        {
            self.period = period_at(unit, zone, label);
            self.left = 0;
        }
    }

    /// Units of the lease in this worker's hands, if they are enough.
    fn hand_out(&mut self, want: Want, limit: Limit) -> Option<Draw> {
        self.left = self.left.checked_sub(want.units)?;
        let used = limit.units.saturating_sub(self.left.saturating_add(self.beside));
        Some(Draw::Units { charge: self.charge(want.units), standing: self.standing(limit, 0, used), exceeded: false })
    }

    fn next_lease(&self, now: Duration) -> u64 {
        let lasted = now.saturating_sub(self.leased_at);
        if lasted < SHORT {
            self.lease.saturating_mul(2).clamp(1, LARGEST_LEASE)
        } else if lasted < LONG {
            self.lease
        } else {
            self.lease.checked_div(2).unwrap_or(0)
        }
    }

    fn is_level(&self) -> bool {
        self.limit.is_ok_and(|limit| limit.is_some_and(|limit| limit.period == Period::None))
    }

    fn charge(&self, units: u64) -> Charge {
        Charge { key: Rc::clone(&self.key), label: self.period.start, units, is_level: self.is_level() }
    }

    fn standing(&self, limit: Limit, elsewhere: i128, taken: u64) -> Standing {
        let used = u64::try_from(i128::from(taken).saturating_add(elsewhere)).unwrap_or(0);
        let counted = limit.period != Period::None;
        Standing {
            limit: limit.units,
            used,
            resets_at: counted.then_some(self.period.end),
            window: counted.then(|| self.period.seconds()),
        }
    }

    fn recall(&mut self, holders: &[WorkerId], id: RequestId, now: Duration, host: &dyn Host) {
        self.waiting.push(id);
        if self.recalled_at.is_none() {
            self.recalled_at = Some(now);
            recall(holders, &self.key, host);
        }
    }

    fn take_waiting(&mut self) -> Vec<RequestId> {
        self.recalled_at = None;
        std::mem::take(&mut self.waiting)
    }

    /// Gives back what lies unused here. What is held of a level is in use, until its requests end.
    fn give_back(&mut self, host: &dyn Host) {
        if self.is_level() {
            return;
        }
        let left = std::mem::take(&mut self.left);
        self.lease = 0;
        give_back(&self.key, Some((self.period.start, left)), host);
    }
}
