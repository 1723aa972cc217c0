//! What must hold, whatever happens. Each verdict is judged by what the directory said, and when, and by what was true.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_tenancy::denial::Denial;
use envoy_tenancy::filter::{Decision, HeaderEdit, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::tenant::{Status, Tenant};

use crate::settings::{HOUSE, Settings};
use crate::truth::{Said, Time, name_of, tenant_key};
use crate::world::{Asked, Call, Heard, World};

/// For so long a name that got no answer isn't asked for again, at most.
const HOLD_BACK: Time = 1000;
/// For so long a service that gives no answers isn't asked at all, at most.
pub const LONGEST_PAUSE: Time = 5000;
/// So many names in a row have to get no answer for that.
const SILENT_NAMES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A request waits for a callout that is under way, for no longer than its callouts may take, and gets one verdict.
    Wait,
    /// A tenant's record serves for `cacheSeconds`, and for `staleSeconds` more only where the directory can't be asked.
    Age,
    /// A record serves as it was given, for the name that was asked.
    Record,
    /// "Not found" only where the directory said so to this worker, `negativeSeconds` ago at most.
    NotFound,
    /// One call for a name and worker at once, `maxInFlight` for a service and worker, each with its timeout.
    Flight,
    /// Workers share only names that the directory confirmed.
    Shared,
    /// "Unavailable" only where a service can't be asked and nothing held may serve.
    Unavailable,
    /// When all has been well for long enough, each verdict is the truth.
    Truth,
    /// Nothing else ever comes of a request.
    Verdict,
}

#[derive(Debug, Clone)]
pub struct Violation {
    pub rule: Rule,
    pub why: String,
}

impl World {
    /// Judges a verdict.
    pub fn verdict(&self, worker: usize, id: RequestId, asked: &Asked, step: &Step) {
        let line = || format!("w{worker} r{} {:?} since {}: {}", id.0, asked.keys, asked.arrived, told(step));
        self.note(line);
        let blame = |rule, why: &str| self.blame(rule, || format!("{why}: {}", line()));
        if self.workers[worker].filter.borrow().is_waiting(id) {
            blame(Rule::Wait, "it has its verdict and waits");
        }
        let services = &self.settings.services;
        let tenants = services[0].timeout;
        let longest = if asked.keys.iter().any(|key| Settings::service(key) == 1) {
            services[1].timeout + tenants
        } else {
            tenants
        };
        if self.now.get() - asked.arrived > longest {
            blame(Rule::Wait, "it waited for longer than its callouts may take");
        }
        if asked.must_be_true {
            self.count("verdicts that must be the truth");
            let expected = self.expected(asked);
            if told(step) != expected {
                blame(Rule::Truth, &format!("all is well, and the truth is {expected}"));
            }
        }
        let with = Verdict { world: self, worker, asked, keys: self.effective(asked) };
        if let Err((rule, why)) = with.judge(step) {
            blame(rule, &why);
        }
    }

    /// No request waits but for a callout that is under way.
    pub fn judge_waiting(&self, worker: usize) {
        let at = &self.workers[worker];
        let calls = self.calls.borrow();
        // A worker that is in the middle of something is looked at when it is through.
        let Ok(filter) = at.filter.try_borrow() else { return };
        for (id, asked) in &*at.waiting.borrow() {
            if !filter.is_waiting(*id) {
                self.blame(Rule::Wait, || format!("w{worker} r{} is forgotten: {:?}", id.0, asked.keys));
            }
            let candidates = self.candidates(asked);
            if !at.flights.borrow().iter().any(|flight| candidates.contains(&calls[*flight].key)) {
                self.blame(Rule::Wait, || format!("w{worker} r{} waits for nothing: {:?}", id.0, asked.keys));
            }
        }
    }

    /// The keys that decide.
    fn effective<'a>(&self, asked: &'a Asked) -> &'a [String] {
        // The only domain comes last, and a tenant's name always gives an answer.
        if self.settings.first_wins { asked.keys.get(..1).unwrap_or_default() } else { &asked.keys }
    }

    /// What must come of a request that names one thing, by what is true now.
    fn expected(&self, asked: &Asked) -> String {
        let truth = self.truth.borrow();
        let [key] = asked.keys.as_slice() else { return "404".to_owned() };
        let now = self.now.get();
        let (key, said) = match truth.at(key, now) {
            Said::Named(id) => (tenant_key(&id), truth.at(&tenant_key(&id), now)),
            said => (key.clone(), said),
        };
        match said {
            Said::Tenant { id, status: Status::Active, .. } => format!("allow {id}"),
            Said::Tenant { id, status: Status::Suspended, .. } => format!("suspended {id}"),
            Said::Tenant { id, status: Status::Inactive, .. } => format!("inactive {id}"),
            Said::Absent if Settings::service(&key) == 0 => format!("404 {}", name_of(&key)),
            Said::Absent | Said::Named(_) => "404".to_owned(),
        }
    }
}

/// A verdict in a few words.
fn told(step: &Step) -> String {
    match step {
        Step::Forward(forwarding) => match (&forwarding.tenant, forwarding.decision) {
            (Some(tenant), Decision::Allow) => format!("allow {}", tenant.id),
            (None, Decision::Unavailable) => "unavailable, allowed".to_owned(),
            other => format!("{other:?}"),
        },
        Step::Wait | Step::Flow(_) => "waits".to_owned(),
        Step::Deny(refusal) => match &refusal.denial {
            Denial::TenantNotFound(None) => "404".to_owned(),
            Denial::TenantNotFound(Some(name)) => format!("404 {name}"),
            Denial::TenantSuspended(id) => format!("suspended {id}"),
            Denial::TenantInactive(id) => format!("inactive {id}"),
            Denial::TenantMismatch => "mismatch".to_owned(),
            Denial::TenantAmbiguous(_) => "ambiguous".to_owned(),
            Denial::ServiceUnavailable => "unavailable".to_owned(),
            other @ (Denial::Unauthorized(_) | Denial::QuotaExceeded(_) | Denial::QuotaUnavailable) => {
                format!("{other:?}")
            }
        },
    }
}

type Judged = Result<(), (Rule, String)>;

/// A verdict that is judged.
struct Verdict<'w> {
    world: &'w World,
    worker: usize,
    asked: &'w Asked,
    keys: &'w [String],
}

impl Verdict<'_> {
    fn judge(&self, step: &Step) -> Judged {
        let seen = |what| self.world.count(what);
        match step {
            Step::Forward(forwarding) => match (&forwarding.tenant, forwarding.decision) {
                (Some(tenant), Decision::Allow) => {
                    seen("accepted");
                    let told = |edit: &HeaderEdit| match edit {
                        HeaderEdit::Add(name, value) | HeaderEdit::Set(name, value) => {
                            &**name == "x-tenant-id" && **value == *tenant.id.as_str().as_bytes()
                        }
                        HeaderEdit::Remove(_) => false,
                    };
                    if !forwarding.edits.iter().any(told) {
                        return Err((Rule::Record, "the service isn't told the tenant's id".to_owned()));
                    }
                    self.known(tenant, Status::Active)
                }
                (None, Decision::Unavailable) => self.unavailable(true),
                _ => unexpected(),
            },
            Step::Deny(refusal) => match (&refusal.denial, &refusal.tenant) {
                (Denial::TenantSuspended(id), Some(tenant)) if *id == tenant.id => {
                    seen("suspended");
                    self.known(tenant, Status::Suspended)
                }
                (Denial::TenantInactive(id), Some(tenant)) if *id == tenant.id => {
                    seen("inactive");
                    self.known(tenant, Status::Inactive)
                }
                (Denial::TenantNotFound(Some(name)), None) => {
                    seen("not found");
                    self.not_found(&tenant_key(name.as_str()))
                }
                (Denial::TenantNotFound(None), None) => {
                    seen("names none");
                    self.keys.iter().try_for_each(|key| match Settings::service(key) {
                        0 => Err((Rule::NotFound, format!("{key} names a tenant"))),
                        _ => self.not_found(key),
                    })
                }
                (Denial::TenantMismatch, None) => self.mismatch(),
                (Denial::TenantAmbiguous(_), None) if self.asked.ambiguous => Ok(()),
                (Denial::ServiceUnavailable, None) => self.unavailable(false),
                _ => unexpected(),
            },
            Step::Wait | Step::Flow(_) => unexpected(),
        }
    }

    /// A tenant of that status, by a record that may serve, and every name leads to that tenant.
    fn known(&self, tenant: &Tenant, status: Status) -> Judged {
        let id = tenant.id.as_str();
        for key in self.keys.iter().filter(|key| name_of(key) != HOUSE) {
            let nobody = Settings::service(key) == 1 && self.has_evidence(key, |said| *said == Said::Absent);
            if !nobody && !self.has_evidence(key, |said| said.id() == Some(id)) {
                return Err((Rule::Record, format!("nothing that may serve says that {key} is {id}")));
            }
        }
        if id == HOUSE {
            let named = self.keys.iter().any(|key| name_of(key) == HOUSE);
            return if named { Ok(()) } else { Err((Rule::Record, "nobody named the house".to_owned())) };
        }
        // The record tells which call it answered.
        let calls = self.world.calls.borrow();
        let number = tenant.record.get("metadata").and_then(|metadata| metadata.get("call")?.as_u64());
        let call = number.and_then(|number| calls.get(usize::try_from(number).unwrap()));
        let Some(call) = call else { return Err((Rule::Record, "no call gave that record".to_owned())) };
        if call.heard == Heard::Page {
            self.world.count("by snapshot");
            let by_domain = self.keys.iter().any(|key| Settings::service(key) == 1).then(|| tenant_key(id));
            let mut keys = self.keys.iter().filter(|key| self.by_snapshot(key)).chain(&by_domain);
            return match keys.any(|key| self.was_true(key, id, status).is_ok()) {
                true => Ok(()),
                false => Err((Rule::Age, "that wasn't true of any of its names for long enough".to_owned())),
            };
        }
        let given = match &call.heard {
            Heard::Answer(Said::Tenant { id: given, status: said, slug }) => {
                given == id && *said == status && slug.as_deref() == tenant.slug.as_ref().map(|slug| slug.as_str())
            }
            _ => false,
        };
        if !given {
            return Err((Rule::Record, format!("{} was answered with {:?}", call.key, call.heard)));
        }
        let by_domain = |key: &String| Settings::service(key) == 1 && call.key == tenant_key(id);
        if !self.keys.iter().any(|key| *key == call.key || by_domain(key)) {
            return Err((Rule::Record, format!("it came for {}", call.key)));
        }
        if !self.may_serve(call, false) {
            let (key, since) = (&call.key, call.dispatched);
            return Err((Rule::Age, format!("it was asked for at {since}, by {key}, and may not serve")));
        }
        self.was_true(&call.key, id, status)
    }

    /// Without regard to who asked what: it was true, not too long ago.
    fn was_true(&self, key: &str, id: &str, status: Status) -> Judged {
        let oldest = self.oldest(key, false);
        let such = |said: &Said| matches!(said, Said::Tenant { id: i, status: s, .. } if i == id && *s == status);
        if !self.world.truth.borrow().was(key, oldest, self.world.now.get(), such) {
            return Err((Rule::Age, format!("that wasn't true of {key} since {oldest}")));
        }
        Ok(())
    }

    fn not_found(&self, key: &String) -> Judged {
        if !self.leads_to(key) {
            return Err((Rule::NotFound, format!("nothing leads to {key}")));
        }
        if self.has_evidence(key, |said| *said == Said::Absent) {
            return Ok(());
        }
        Err((Rule::NotFound, format!("the directory didn't say so of {key}")))
    }

    fn mismatch(&self) -> Judged {
        self.world.count("mismatch");
        let leads = |key: &String, id: &str| {
            if name_of(key) == HOUSE { id == HOUSE } else { self.has_evidence(key, |said| said.id() == Some(id)) }
        };
        let ids: BTreeSet<String> = self.keys.iter().flat_map(|key| self.ids(key)).chain([HOUSE.to_owned()]).collect();
        let different = |one: &String, other: &String| {
            ids.iter().any(|a| leads(one, a) && ids.iter().any(|b| a != b && leads(other, b)))
        };
        let mut pairs = self.keys.iter().flat_map(|one| self.keys.iter().map(move |other| (one, other)));
        if pairs.any(|(one, other)| one != other && different(one, other)) {
            return Ok(());
        }
        Err((Rule::Record, "its names lead to one tenant".to_owned()))
    }

    fn unavailable(&self, allowed: bool) -> Judged {
        self.world.count(if allowed { "unavailable, allowed" } else { "unavailable" });
        let calls = self.world.calls.borrow();
        let domains = self.keys.iter().filter(|key| Settings::service(key) == 1);
        let behind: BTreeSet<String> = domains.flat_map(|key| self.ids(key)).map(|id| tenant_key(&id)).collect();
        let behind: Vec<String> = behind.into_iter().filter(|key| self.leads_to(key)).collect();
        let failing = |key: &String| {
            let service = Settings::service(key);
            self.world.settings.services[service].allow == allowed && (self.cannot_ask(key) || self.is_busy(key, false))
        };
        if !self.keys.iter().chain(&behind).any(failing) {
            return Err((Rule::Unavailable, "no call failed, and no service is full".to_owned()));
        }
        // A worker that got a record itself has to serve it while it may.
        let [key] = self.keys else { return Ok(()) };
        let ages = &self.world.settings.services[Settings::service(key)];
        // That all calls are taken doesn't let what is stale serve.
        let stale = if self.is_busy(key, true) { 0 } else { ages.stale };
        let own = |call: &&Call| self.is_own(call) && call.landed.is_some_and(|landed| landed <= self.asked.arrived);
        let by_key = self.world.by_key.borrow();
        let answered = by_key.get(key).into_iter().flatten().rev().map(|number| &calls[*number]);
        let last = answered.filter(own).find(|call| matches!(call.heard, Heard::Answer(_)));
        // A clock that is set back takes what is from the future away, and what that took the place of.
        if let Some(call) = last
            && call.set_back == self.world.set_back.get()
            // What a snapshot has confirmed takes the place of a worker's own answer, though it is older.
            && !self.by_snapshot(key)
            && matches!(call.heard, Heard::Answer(Said::Tenant { .. }))
            && let Ok(age) = self.world.wall().duration_since(call.wall)
            && age + Duration::from_millis(1) < Duration::from_millis(ages.cache + stale)
        {
            return Err((Rule::Unavailable, format!("the answer to the call at {} may serve", call.dispatched)));
        }
        Ok(())
    }

    /// The ids of all tenants that the directory ever gave for a key.
    fn ids(&self, key: &str) -> BTreeSet<String> {
        if self.by_snapshot(key) {
            return self.world.truth.borrow().ids(key).collect();
        }
        let calls = self.world.calls.borrow();
        let by_key = self.world.by_key.borrow();
        by_key.get(key).into_iter().flatten().filter_map(|number| calls[*number].id().map(str::to_owned)).collect()
    }

    /// Whether a key is named, or a domain that is named leads to it.
    fn leads_to(&self, key: &String) -> bool {
        let named = |said: &Said| matches!(said, Said::Named(id) if tenant_key(id) == *key);
        let mut domains = self.keys.iter().filter(|key| Settings::service(key) == 1);
        self.keys.contains(key) || domains.any(|domain| self.has_evidence(domain, named))
    }

    /// Whether an answer of that kind to a call for a key may serve this request.
    fn has_evidence(&self, key: &str, such: impl Fn(&Said) -> bool) -> bool {
        if self.by_snapshot(key) {
            let truth = self.world.truth.borrow();
            return truth.was(key, self.oldest(key, such(&Said::Absent)), self.world.now.get(), such);
        }
        let calls = self.world.calls.borrow();
        let by_key = self.world.by_key.borrow();
        let mut of_key = by_key.get(key).into_iter().flatten().rev().map(|number| &calls[*number]);
        of_key.any(|call| match &call.heard {
            Heard::Answer(said) => such(said) && self.may_serve(call, *said == Said::Absent),
            Heard::Nothing | Heard::Page | Heard::Failure { .. } => false,
        })
    }

    /// Whether a snapshot may speak for a key. It says what is true without a call for the key, so the truth judges it.
    fn by_snapshot(&self, key: &str) -> bool {
        self.world.settings.snapshot.is_some() && Settings::service(key) == 0
    }

    /// The earliest moment at which something may have been true that serves this request.
    fn oldest(&self, key: &str, absent: bool) -> Time {
        let ages = &self.world.settings.services[Settings::service(key)];
        let stale = if !absent && self.cannot_ask(key) { ages.stale } else { 0 };
        let negative = if absent { ages.negative } else { 0 };
        let oldest = (ages.cache + stale).max(ages.timeout).max(negative);
        self.asked.arrived.saturating_sub(oldest + self.world.set_back.get())
    }

    /// Whether the answer to a call may serve this request, by the time at which it was asked.
    fn may_serve(&self, call: &Call, absent: bool) -> bool {
        let Some(landed) = call.landed else { return false };
        if self.is_own(call) && landed >= self.asked.arrived {
            return true;
        }
        let ages = &self.world.settings.services[Settings::service(&call.key)];
        // A clock that is set back makes what is held younger by as much; workers have no other clock.
        let slack = self.world.set_back.get() - call.set_back;
        let until = |age: Time| call.dispatched + age + slack > self.asked.arrived;
        if absent {
            return self.is_own(call) && until(ages.negative);
        }
        if until(ages.cache) {
            return true;
        }
        let stale = until(ages.cache + ages.stale) && self.cannot_ask(&call.key);
        if stale {
            self.world.count("served stale");
        }
        stale
    }

    /// Whether so many calls were under way while this request was that no more might be sent for a key.
    fn is_busy(&self, key: &str, wholly: bool) -> bool {
        let service = Settings::service(key);
        let at = &self.world.workers[self.worker];
        let (last, is) = match wholly {
            true => (at.last_full.borrow()[service], self.world.is_full(self.worker, service)),
            false => (at.last_busy.borrow()[service], self.world.is_busy(self.worker, service)),
        };
        is || last.is_some_and(|last| last >= self.asked.arrived)
    }

    /// Whether this worker gets no answer for a key while this request is under way: its last call for the key failed a moment
    /// ago, or its last calls to the service, and no pause is over since.
    fn cannot_ask(&self, key: &str) -> bool {
        let service = Settings::service(key);
        let arrived = self.asked.arrived;
        let calls = self.world.calls.borrow();
        let heard = self.world.workers[self.worker].heard.borrow();
        let since = |call: &Call, pause: Time| {
            let slack = self.world.set_back.get() - call.set_back;
            call.landed.unwrap_or_default() + pause + slack > arrived
        };
        // A call that lands while the request waits says nothing of what the request found when it came; but the tenant that a
        // domain leads to is asked for later, when the domain's answer is here.
        let came_later = !self.asked.keys.iter().any(|asked| asked == key);
        let before = |call: &&Call| came_later || call.landed <= Some(arrived);
        let own =
            || heard.iter().rev().map(|number| &calls[*number]).filter(|call| Settings::service(&call.key) == service);
        let longest = HOLD_BACK + self.world.set_back.get();
        let recent = |call: &&Call| call.landed.unwrap_or_default() + longest > arrived;
        let failed = |call: &Call| matches!(call.heard, Heard::Failure { .. });
        if own().take_while(recent).filter(|call| since(call, HOLD_BACK)).any(|call| call.key == key && failed(call)) {
            return true;
        }
        // After a pause one question goes first; a silence as long past as the longest pause is forgotten.
        let pause = 2 * LONGEST_PAUSE + self.world.settings.services[service].timeout;
        let silent = |call: &&Call| matches!(call.heard, Heard::Failure { silent: true });
        let skipped = |call: &&Call| !silent(call) && (came_later || call.landed == Some(arrived));
        let mut row = own().filter(before).skip_while(skipped).take_while(silent);
        let Some(last) = row.next() else { return false };
        let names: BTreeSet<&str> = std::iter::once(last).chain(row).map(|call| call.key.as_str()).collect();
        since(last, pause) && names.len() >= SILENT_NAMES
    }

    fn is_own(&self, call: &Call) -> bool {
        call.worker == self.worker && call.life == self.world.workers[self.worker].life.get()
    }
}

impl Call {
    fn id(&self) -> Option<&str> {
        match &self.heard {
            Heard::Answer(said) => said.id(),
            Heard::Nothing | Heard::Page | Heard::Failure { .. } => None,
        }
    }
}

fn unexpected() -> Judged {
    Err((Rule::Verdict, "nothing of that kind may come".to_owned()))
}
