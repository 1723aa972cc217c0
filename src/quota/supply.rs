//! Units that a service grants to this Envoy: when it is asked, for how many, and what its answers change.
//!
//! It is asked ahead of need: as soon as half of what was granted the last time is gone. A request waits only where the tenant
//! has no unit left here. There is one question at a time for each tenant and quota in the whole Envoy; who asks is noted in
//! the pool, with a time after which another worker asks instead.

use std::rc::Rc;
use std::time::Duration;

use super::lease::LeaseService;
use super::limit::Limit;
use super::pool::{Pool, Supply, Write, milliseconds};
use super::rate_limit::RateLimitService;
use crate::host::{Answer, Callout, Host, WorkerId, unix_seconds};
use crate::request::TraceHeaders;
use crate::tenant::Tenant;

/// How many units are asked for at first.
const FIRST_BATCH: u64 = 8;
/// Units that lasted shorter, in milliseconds, are followed by twice as many.
const SHORT: u64 = 1000;
/// Units that lasted longer, in milliseconds, are followed by half as many.
const LONG: u64 = 4000;
/// Beyond an answer's own timeout, how long it may be on its way to the pool until another worker asks, in milliseconds.
const GRACE: u64 = 1000;
/// How long a service that had no unit isn't asked again, in milliseconds, while others hold some that may come back.
const DRY: u64 = 250;
/// The same where nobody holds any: only a changed limit can bring some before the period ends.
const EMPTY: u64 = 1000;
/// What the service was told is taken, where nobody knows what it has heard: no pool has so much.
const UNTOLD: u64 = u64::MAX;
/// The first pause after no answer, in milliseconds; it doubles with each further one.
const FIRST_PAUSE: u64 = 250;
/// The longest pause.
const LONGEST_PAUSE: u64 = 5000;

/// A service that grants units.
#[derive(Clone)]
pub enum Supplier {
    /// By leases.
    Lease(Rc<LeaseService>),
    /// By Envoy's rate limit protocol.
    RateLimit(Rc<RateLimitService>),
}

/// A question to such a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its number.
    pub sequence: u64,
    /// The period that it is about, if one has begun.
    pub label: Option<i64>,
    /// The limit that holds.
    pub limit: Option<Limit>,
    /// How many units are taken: used, or in workers' hands, where they may be used before anybody says so.
    pub used: u64,
    /// How many are wanted beside them.
    pub units: u64,
    /// How many of these a request waits for.
    pub least: u64,
}

/// What a service has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The period that it is about.
    pub label: i64,
    /// When it ends, in Unix seconds by the service's clock.
    pub resets_at: i64,
    /// How long it lasts from when the question was sent, at least.
    pub lasts: Duration,
    /// How many units may be taken in it.
    pub units: Units,
    /// How many are used or held by anybody, this proxy included.
    pub counted: u64,
    /// How many of them may come back before the period ends.
    pub may_come_back: bool,
    /// The limit that the service knows, or 0.
    pub limit: u64,
}

/// Units, as protocols count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// In the whole period.
    InAll(u64),
    /// Beside those granted before.
    More(u64),
    /// None now.
    None,
}

impl Supplier {
    /// What a pool's key has of it: counts of different services are different counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lease(_) => "@lease",
            Self::RateLimit(_) => "@rateLimit",
        }
    }

    /// Whether the service is yet to be told of a pool, or to get units of it back.
    pub fn owes(&self, pool: &Pool) -> bool {
        let supply = &pool.supply;
        matches!(self, Self::Lease(_))
            && supply.sequence > 0
            && (supply.granted > pool.taken.max(supply.kept) || supply.reported != pool.taken)
    }

    /// How long an answer may take.
    fn timeout(&self) -> Duration {
        match self {
            Self::Lease(service) => service.timeout(),
            Self::RateLimit(service) => service.timeout(),
        }
    }

    /// How many unused units this Envoy may hold.
    fn most(&self) -> u64 {
        match self {
            Self::Lease(service) => service.max_units(),
            Self::RateLimit(service) => service.max_batch(),
        }
    }

    /// How many units may be taken from a pool.
    pub fn ceiling(&self, supply: &Supply, limit: Limit) -> u64 {
        match self {
            // The limit may have been lowered since they were granted.
            Self::Lease(_) => supply.granted.min(limit.units.saturating_sub_signed(supply.elsewhere)),
            Self::RateLimit(_) => supply.granted,
        }
    }

    /// The limit that holds: the service's, where it says one.
    pub fn limit(&self, supply: &Supply, limit: Limit) -> Limit {
        match self {
            Self::RateLimit(_) if supply.limit > 0 => Limit { units: supply.limit, ..limit },
            _ => limit,
        }
    }

    /// The question that is due after a request was served, or not, from a pool; the pool notes that it is under way.
    pub fn question(&self, pool: &mut Pool, limit: Limit, units: u64, at: u64, served: bool) -> Option<Question> {
        let supply = pool.supply;
        let current = at < supply.ends;
        // Only a higher one: workers that see a changed record at different times would else ask again and again in turn.
        let raised = matches!(self, Self::Lease(_)) && supply.limit < limit.units;
        if at < supply.asked_until || at < supply.silent_until || (current && at < supply.dry_until && !raised) {
            return None;
        }
        let taken = pool.taken;
        let spare = if current { self.ceiling(&supply, limit).saturating_sub(taken) } else { 0 };
        let lasted = at.saturating_sub(supply.came_at);
        let batch = match supply.batch {
            0 => FIRST_BATCH,
            batch if lasted < SHORT => batch.saturating_mul(2),
            batch if lasted > LONG => batch.div_ceil(2),
            batch => batch,
        };
        let batch = if supply.sparing == 0 { batch.min(self.most()) } else { 1 };
        let enough = spare.saturating_mul(2) >= supply.batch.max(1).min(batch);
        if served && (enough || self.most() == 1) {
            return None;
        }
        pool.supply.batch = batch;
        let least = if served { 0 } else { units };
        Some(self.ask(pool, Some(limit), spare, batch.max(least), least, at))
    }

    /// The report that is due of a pool that is not in use: what lies unused goes back, and what was used is said.
    pub fn report(&self, pool: &mut Pool, limit: Option<Limit>, at: u64) -> Option<Question> {
        let supply = pool.supply;
        if !self.owes(pool) || at < supply.asked_until || at < supply.silent_until {
            return None;
        }
        Some(self.ask(pool, limit, 0, 0, 0, at))
    }

    fn ask(&self, pool: &mut Pool, limit: Option<Limit>, spare: u64, batch: u64, least: u64, at: u64) -> Question {
        let supply = &mut pool.supply;
        supply.sequence = supply.sequence.saturating_add(1);
        supply.asked_until = at.saturating_add(milliseconds(self.timeout())).saturating_add(GRACE);
        let label = Some(pool.label).filter(|label| *label != 0);
        // What is there still counts: leases are asked for in all, batches on top.
        let units = match self {
            Self::Lease(_) => batch.max(spare),
            Self::RateLimit(_) => batch,
        };
        if matches!(self, Self::Lease(_)) && supply.granted > pool.taken.saturating_add(units) {
            // What isn't asked for any more may be another Envoy's before the answer is here, so it isn't used from now on. If
            // the question is lost, the service is yet to be told.
            supply.granted = pool.taken.saturating_add(units);
            supply.reported = UNTOLD;
        }
        Question { sequence: supply.sequence, label, limit, used: pool.taken, units, least }
    }

    /// The question, as the service takes it.
    pub fn callout(&self, question: &Question, tenant: &Tenant, trace: TraceHeaders, host: &dyn Host) -> Callout {
        match self {
            Self::Lease(service) => service.callout(question, tenant, trace, host),
            Self::RateLimit(service) => service.callout(question, tenant, trace),
        }
    }

    /// Takes a service's answer to a question that was sent at `sent_at`; whom to tell, and what is wrong with the answer.
    pub fn land(
        &self,
        key: &str,
        question: &Question,
        answer: Answer,
        sent_at: u64,
        host: &dyn Host,
    ) -> (Vec<WorkerId>, Option<String>) {
        let grant = match self {
            Self::Lease(service) => service.read(answer),
            Self::RateLimit(service) => service.read(question, answer, unix_seconds(host.now())),
        };
        let at = milliseconds(host.monotonic());
        let waiters = Pool::update(host, key, |pool| {
            // An answer that was given up as lost says nothing of what was asked since.
            if pool.supply.sequence == question.sequence {
                pool.supply.asked_until = 0;
                match &grant {
                    Ok(grant) => {
                        apply(pool, question, grant, sent_at, at);
                        self.note_refusal(pool, question, grant, at);
                    }
                    Err(_) => silence(&mut pool.supply, at),
                }
            }
            (Write::Yes, pool.take_waiters())
        });
        (waiters.unwrap_or_default(), grant.err())
    }

    /// Notes for how long there is no use in asking again, if the answer brought nothing that may be taken.
    fn note_refusal(&self, pool: &mut Pool, question: &Question, grant: &Grant, at: u64) {
        let ceiling = match question.limit {
            Some(limit) => self.ceiling(&pool.supply, limit),
            None => pool.supply.granted,
        };
        // Too few for the request that waits are none: they may be more than it can ever have.
        let refused = question.units > 0 && ceiling.saturating_sub(pool.taken) < question.least.max(1);
        // Where more was asked for than a request needs, the next question is for no more than that.
        let may_do_with_less = grant.units == Units::None && question.units > question.least.max(1);
        pool.supply.sparing = u64::from(may_do_with_less || (refused && grant.units == Units::None));
        let pause = if grant.may_come_back { DRY } else { EMPTY };
        pool.supply.dry_until =
            if refused && !may_do_with_less { at.saturating_add(pause).min(pool.supply.ends) } else { 0 };
    }
}

fn apply(pool: &mut Pool, question: &Question, grant: &Grant, sent_at: u64, at: u64) {
    let over = sent_at >= pool.supply.ends;
    let begins = match grant.units {
        Units::InAll(_) => pool.label != grant.label,
        Units::More(_) | Units::None => over,
    };
    if begins && pool.label != 0 {
        // What was taken while the question was on its way is nobody's but the new period's.
        let since = pool.taken.saturating_sub(question.used);
        pool.roll(grant.label);
        pool.taken = since;
        pool.supply.granted = 0;
        pool.supply.kept = 0;
    }
    if begins {
        pool.label = grant.label;
    }
    let supply = &mut pool.supply;
    let ends = sent_at.saturating_add(milliseconds(grant.lasts));
    supply.ends = match grant.units {
        // The service's clock may have been set, and what it says now is what it goes by.
        Units::InAll(_) => ends,
        Units::More(_) | Units::None if begins => ends,
        // The service may have answered in its next period; then the earlier end is the surer one.
        Units::More(_) | Units::None => ends.min(supply.ends.max(at)),
    };
    supply.granted = match grant.units {
        Units::InAll(units) => units,
        Units::More(units) => supply.granted.saturating_add(units),
        Units::None => supply.granted,
    };
    if question.units == 0 {
        // What a worker held was reported as used, and given back later. The service doesn't take it back.
        supply.kept = supply.granted;
    }
    supply.resets_at = grant.resets_at;
    supply.reported = question.used;
    supply.elsewhere = difference(grant.counted, supply.granted);
    supply.limit = if grant.limit > 0 { grant.limit } else { question.limit.map_or(0, |limit| limit.units) };
    supply.silences = 0;
    supply.silent_until = 0;
    supply.came_at = at;
}

fn difference(one: u64, other: u64) -> i64 {
    let signed = i128::from(one).saturating_sub(i128::from(other));
    i64::try_from(signed).unwrap_or(if signed < 0 { i64::MIN } else { i64::MAX })
}

fn silence(supply: &mut Supply, at: u64) {
    let pause = FIRST_PAUSE.saturating_mul(1 << supply.silences.min(16)).min(LONGEST_PAUSE);
    supply.silences = supply.silences.saturating_add(1);
    supply.silent_until = at.saturating_add(pause);
}
