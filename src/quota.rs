//! Quotas: whether a request's tenant has units left, in every quota at once.
//!
//! Who counts is said by each quota: the edge by itself (`meter`, over the shared `pool`), a service that grants units to this
//! Envoy (`supply`, by `lease` or `rate_limit`), or the application, whose figure is looked up like a tenant is (in
//! [`crate::directory`]). A request passes when its cost fits into all of them, and if one refuses, none is charged.

mod charge;
mod fields;
mod lease;
mod letter;
mod limit;
mod meter;
pub mod pool;
mod rate_limit;
mod room;
mod supply;

use std::collections::HashMap;
use std::rc::Rc;

use self::charge::{Charge, charge_more, refund};
pub use self::fields::{Field, fields, seconds_left};
use self::lease::LeaseService;
use self::letter::{Letter, read_letter, tell};
pub use self::limit::{Limit, Unreadable, limit};
use self::meter::{Draw, Meter};
use self::pool::{Living, milliseconds};
use self::rate_limit::RateLimitService;
pub use self::room::Standing;
use self::room::{Bound, Reading, Want};
use self::supply::{Question, Supplier};
use crate::config::{Config, Cost, Count, Counted, Fault, Faults, Mode, OnError, Period};
use crate::directory::{Asker, Directory, Key, Lookup, Usage};
use crate::host::{Answer, CallId, Host, RequestId};
use crate::request::TraceHeaders;
use crate::tenant::{Identifier, Tenant};

/// All quotas, in one worker.
pub struct Meters {
    meters: Vec<Meter>,
    flights: HashMap<CallId, Flight>,
    /// Whether the other workers know that this one lives.
    known: bool,
}

/// A question under way to a service that grants units.
struct Flight {
    meter: usize,
    tenant: Identifier,
    key: Rc<str>,
    question: Question,
    /// When it was sent, in milliseconds of the monotonic clock.
    sent_at: u64,
}

/// What came of metering a request.
pub enum Metering {
    /// All quotas have room for it.
    Pass(Metered),
    /// It waits: for units, or for an answer.
    Wait,
    /// A quota has no room for it.
    Exceeded(Exceeded),
    /// Nobody can say whether a quota has.
    NoAnswer(Identifier),
}

/// A request that was counted.
#[derive(Debug, Clone, Default)]
pub struct Metered {
    /// What it has taken: from which meter, and what.
    charges: Vec<(usize, Charge)>,
    /// How far the tenant is from each limit.
    pub standings: Vec<(Identifier, Standing)>,
    /// The highest percentage of each quota that is reached, of those to warn of.
    pub warnings: Vec<(Identifier, u64)>,
    /// Quotas that would have refused it, if they enforced.
    pub shadowed: Vec<Identifier>,
    /// Quotas of which nobody can say, and which let it pass.
    pub unanswered: Vec<Identifier>,
}

/// The quota that refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub quota_key: Identifier,
    /// How far the tenant is from its limit.
    pub standing: Standing,
    /// Where every quota stands that was looked at.
    pub standings: Vec<(Identifier, Standing)>,
}

/// What a request has to do with one quota.
enum Part {
    /// Nothing: there is no limit.
    Unlimited,
    /// It is counted.
    Counted { bound: Option<Bound>, units: u64 },
    /// The application's figure decides alone.
    Checked(Standing, bool),
    /// An answer is under way.
    Wait,
    /// Nobody can say.
    NoAnswer,
}

impl Meters {
    /// Meters that have counted nothing yet.
    pub fn new(config: &Config, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Faults> {
        let mut meters = Vec::with_capacity(config.quotas.0.len());
        for (index, quota) in config.quotas.0.iter().enumerate() {
            let supplier = match &quota.count {
                Count::Edge => None,
                Count::RateLimit(settings) => {
                    Some(Supplier::RateLimit(Rc::new(RateLimitService::new(settings, &quota.quota_key))))
                }
                Count::Lease(settings) => match LeaseService::new(settings, quota, environment) {
                    Ok(service) => Some(Supplier::Lease(Rc::new(service))),
                    Err(why) => {
                        let name = settings.token.as_ref().map(|token| token.env.0.as_str()).unwrap_or_default();
                        let path = format!("quotas[{index}].count.lease.token.env");
                        return Err(Fault { path, message: format!("{name} {why}") }.into());
                    }
                },
            };
            meters.push(Meter::new(quota.clone(), supplier));
        }
        Ok(Self { meters, flights: HashMap::new(), known: false })
    }

    /// Whether there is any quota.
    pub fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    /// Counts a request in every quota of what it is counted as, or in none. `answers` are those that it has waited for.
    pub fn meter(
        &mut self,
        asker: Asker<'_>,
        counted: &[Counted],
        tenant: &Rc<Tenant>,
        answers: &[(Key, Lookup)],
        directory: &mut Directory,
        host: &dyn Host,
    ) -> Metering {
        if !self.known {
            // What this worker is about to hold must not look like a dead one's.
            Living::beat(host);
            self.known = true;
        }
        let mut metered = Metered::default();
        let count = self.meters.len();
        let part = |index: usize| {
            if self.meters.get(index).is_none_or(|meter| !counted.contains(&meter.quota.unit)) {
                return Part::Unlimited;
            }
            self.part(index, asker, tenant, answers, directory, host)
        };
        let parts: Vec<Part> = (0..count).map(part).collect();
        if parts.iter().any(|part| matches!(part, Part::Wait)) {
            return Metering::Wait;
        }
        // First whether one surely refuses: then no unit of another is taken, not even for a moment.
        let several = parts.len() > 1;
        for (meter, part) in self.meters.iter_mut().zip(&parts) {
            let (key, enforced) = (meter.quota.quota_key.clone(), meter.quota.mode == Mode::Enforce);
            match part {
                Part::NoAnswer if enforced && meter.quota.on_error == OnError::Deny => return Metering::NoAnswer(key),
                Part::Checked(standing, false) if enforced => return exceeded(metered, key, *standing),
                Part::Counted { bound: Some(bound), units } if several && enforced => {
                    if let Some(standing) = meter.is_empty(tenant, *units, *bound, host) {
                        return exceeded(metered, key, standing);
                    }
                }
                _ => {}
            }
        }
        for (index, part) in parts.into_iter().enumerate() {
            let Some(meter) = self.meters.get(index) else { continue };
            let (key, enforced) = (meter.quota.quota_key.clone(), meter.quota.mode == Mode::Enforce);
            let on_error = meter.quota.on_error;
            match part {
                Part::Unlimited | Part::Wait => {}
                Part::NoAnswer => metered.unanswered.push(key),
                Part::Checked(standing, passes) => {
                    if !passes {
                        metered.shadowed.push(key.clone());
                    }
                    metered.note(key, standing, meter);
                }
                Part::Counted { bound, units } => {
                    let want = Want { id: asker.id, units, forced: !enforced };
                    match self.draw(index, tenant, want, bound, asker, host) {
                        Draw::Units { charge, standing, exceeded } => {
                            if exceeded {
                                metered.shadowed.push(key.clone());
                            }
                            metered.charges.push((index, charge));
                            if let Some(meter) = self.meters.get(index) {
                                metered.note(key, standing, meter);
                            }
                        }
                        Draw::Wait => {
                            self.refund(&metered, host);
                            return Metering::Wait;
                        }
                        Draw::Empty(standing) => {
                            self.refund(&metered, host);
                            return exceeded(metered, key, standing);
                        }
                        Draw::NoAnswer if on_error == OnError::Deny => {
                            self.refund(&metered, host);
                            return Metering::NoAnswer(key);
                        }
                        Draw::NoAnswer => {
                            // It passes all the same, and is counted all the same: the service is told when it is back.
                            let want = Want { forced: true, ..want };
                            if let Draw::Units { charge, .. } = self.draw(index, tenant, want, bound, asker, host) {
                                metered.charges.push((index, charge));
                            }
                            metered.unanswered.push(key);
                        }
                    }
                }
            }
        }
        Metering::Pass(metered)
    }

    fn part(
        &mut self,
        index: usize,
        asker: Asker<'_>,
        tenant: &Rc<Tenant>,
        answers: &[(Key, Lookup)],
        directory: &mut Directory,
        host: &dyn Host,
    ) -> Part {
        let Some(meter) = self.meters.get_mut(index) else { return Part::Unlimited };
        let units = match &meter.quota.cost {
            Cost::Fixed(units) => *units,
            Cost::Response { reserve, .. } => *reserve,
        };
        let limit = match meter.limit(tenant, host) {
            Err(Unreadable) => return Part::NoAnswer,
            // Only a rate limit service may know a limit that we don't.
            Ok(None) if matches!(meter.supplier, Some(Supplier::RateLimit(_))) => {
                return Part::Counted { bound: None, units };
            }
            Ok(None) => return Part::Unlimited,
            Ok(Some(limit)) => limit,
        };
        if meter.quota.check_usage.is_none() {
            let counted_here = meter.supplier.is_none() && limit.period != Period::None;
            return Part::Counted { bound: counted_here.then_some(Bound::Limit(limit.units)), units };
        }
        let is_level = limit.period == Period::None;
        let (began, mark) = if is_level { (0, 0) } else { meter.counted(tenant, host) };
        let key = Key::Usage(meter.quota.quota_key.clone(), tenant.id.clone());
        // What was asked for in the last period says nothing of this one.
        let holds = |lookup: &&Lookup| !matches!(lookup, Lookup::Usage(usage) if usage.asked_at < began);
        let answer = answers.iter().rev().find(|(asked, _)| *asked == key).map(|(_, lookup)| lookup).filter(holds);
        let lookup = match answer {
            Some(lookup) => lookup.clone(),
            None => directory.find(&key, Asker { mark, since: began, ..asker }, host),
        };
        match lookup {
            Lookup::Waiting => Part::Wait,
            Lookup::Usage(Usage { usage, .. }) if is_level => {
                let standing = Standing { limit: limit.units, used: usage, resets_at: None, window: None };
                Part::Checked(standing, usage.saturating_add(units) <= limit.units)
            }
            Lookup::Usage(Usage { usage, mark, asked_at }) => {
                let reading = Reading { usage, mark, asked_at };
                Part::Counted { bound: Some(Bound::Beside(limit.units, reading)), units }
            }
            _ => Part::NoAnswer,
        }
    }

    fn draw(
        &mut self,
        index: usize,
        tenant: &Rc<Tenant>,
        want: Want,
        bound: Option<Bound>,
        asker: Asker<'_>,
        host: &dyn Host,
    ) -> Draw {
        let Some(meter) = self.meters.get_mut(index) else { return Draw::NoAnswer };
        match bound {
            Some(bound) => meter.draw(tenant, want, bound, host),
            None if meter.supplier.is_none() => meter.hold(tenant, want, host),
            None => {
                let (draw, question) = meter.draw_supplied(tenant, want, host);
                if let Some(question) = question {
                    let key = meter.key(tenant, host);
                    self.ask(index, tenant, key, question, asker.trace.headers(), host);
                }
                draw
            }
        }
    }

    fn ask(
        &mut self,
        meter: usize,
        tenant: &Rc<Tenant>,
        key: Rc<str>,
        question: Question,
        trace: TraceHeaders,
        host: &dyn Host,
    ) {
        let Some(supplier) = self.meters.get(meter).and_then(|meter| meter.supplier.as_ref()) else { return };
        let sent_at = milliseconds(host.monotonic());
        let call = host.call(supplier.callout(&question, tenant, trace, host));
        self.flights.insert(call, Flight { meter, tenant: tenant.id.clone(), key, question, sent_at });
    }

    /// Gives back what a request has taken that goes no further.
    fn refund(&self, metered: &Metered, host: &dyn Host) {
        for (_, charge) in &metered.charges {
            refund(charge, charge.units, host);
        }
    }

    /// Whether a counted request has to do with its response, or its end.
    pub fn follows(&self, metered: &Metered) -> bool {
        metered.charges.iter().any(|(index, charge)| charge.is_level || self.cost_header(*index).is_some())
    }

    fn cost_header(&self, index: usize) -> Option<&str> {
        match &self.meters.get(index)?.quota.cost {
            Cost::Fixed(_) => None,
            Cost::Response { header, .. } => Some(header.as_str()),
        }
    }

    /// Takes what a response says that its request has cost: `header` gives the values of its headers, by name.
    pub fn settle(&self, metered: &mut Metered, header: &dyn Fn(&str) -> Option<Vec<u8>>, host: &dyn Host) {
        for (index, charge) in &mut metered.charges {
            let Some(name) = self.cost_header(*index) else { continue };
            let cost = header(name).and_then(|value| std::str::from_utf8(&value).ok()?.trim().parse::<u64>().ok());
            // What isn't said, or isn't a number, costs what was taken for it.
            let Some(cost) = cost else { continue };
            match cost.checked_sub(charge.units) {
                Some(0) => {}
                Some(more) => charge_more(charge, more, host),
                None => refund(charge, charge.units.saturating_sub(cost), host),
            }
            charge.units = cost;
        }
    }

    /// Gives back what a request has held of levels, now that it has ended.
    pub fn release(&self, metered: &Metered, host: &dyn Host) {
        for (_, charge) in metered.charges.iter().filter(|(_, charge)| charge.is_level) {
            refund(charge, charge.units, host);
        }
    }

    /// Takes a callout's answer; `None` if it isn't one of a service that grants units. Gives who may try again, and what to log.
    pub fn land(&mut self, call: CallId, answer: &Answer, host: &dyn Host) -> Option<(Vec<RequestId>, Option<String>)> {
        let flight = self.flights.remove(&call)?;
        let meter = self.meters.get_mut(flight.meter)?;
        let supplier = meter.supplier.as_ref()?;
        let (waiters, fault) = supplier.land(&flight.key, &flight.question, answer.clone(), flight.sent_at, host);
        let others: Vec<_> = waiters.into_iter().filter(|worker| *worker != host.worker()).collect();
        tell(&others, &flight.key, host);
        let awake = meter.take_waiting(&flight.tenant, &flight.key);
        let fault = fault.map(|why| format!("the service that counts {} {why}", meter.quota.quota_key));
        Some((awake, fault))
    }

    /// Takes another worker's letter; gives who may try again.
    pub fn letter(&mut self, letter: &[u8], host: &dyn Host) -> Vec<RequestId> {
        let Some((what, quota, tenant, key)) = read_letter(letter) else { return Vec::new() };
        let Some(meter) = self.meters.iter_mut().find(|meter| meter.quota.quota_key.as_str() == quota) else {
            return Vec::new();
        };
        match what {
            Letter::Recall => {
                meter.give_back(&tenant, key, host);
                Vec::new()
            }
            Letter::Changed => meter.take_waiting(&tenant, key),
        }
    }

    /// Does what time brings; gives who may try again.
    pub fn tick(&mut self, host: &dyn Host) -> Vec<RequestId> {
        if self.meters.is_empty() {
            return Vec::new();
        }
        Living::beat(host);
        self.known = true;
        let mut awake = Vec::new();
        for index in 0..self.meters.len() {
            let Some(meter) = self.meters.get_mut(index) else { continue };
            let (woken, reports) = meter.tick(host);
            awake.extend(woken);
            for (tenant, key, question) in reports {
                self.ask(index, &tenant, key, question, Vec::new(), host);
            }
        }
        awake
    }

    /// Gives back all that this worker holds, at the end of its configuration.
    pub fn close(&mut self, host: &dyn Host) {
        self.meters.iter_mut().for_each(|meter| meter.close(host));
    }
}

impl Metered {
    fn note(&mut self, key: Identifier, standing: Standing, meter: &Meter) {
        let reached = |percent: u64| {
            let limit = u128::from(standing.limit);
            u128::from(standing.used).saturating_mul(100) >= limit.saturating_mul(u128::from(percent))
        };
        let percents = meter.quota.warn_at_percent.iter().map(|percent| percent.0);
        if let Some(highest) = percents.filter(|percent| reached(*percent)).max() {
            self.warnings.push((key.clone(), highest));
        }
        self.standings.push((key, standing));
    }
}

fn exceeded(metered: Metered, quota_key: Identifier, standing: Standing) -> Metering {
    let mut standings = metered.standings;
    standings.push((quota_key.clone(), standing));
    Metering::Exceeded(Exceeded { quota_key, standing, standings })
}
