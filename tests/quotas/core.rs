//! The world that the workers share, and what is judged at every step of theirs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::denial::Denial;
use envoy_tenancy::filter::Step;
use envoy_tenancy::host::{Answer, Body, CallId, Callout, Version, WorkerId};
use serde_json::{Value, json};

use crate::service::Service;

/// A step of a worker that others can notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Read(String),
    Write(String),
    Post(WorkerId),
}

/// What a worker is given to do.
#[derive(Debug, Clone)]
pub enum Event {
    /// To begin, with this configuration.
    Start(Value),
    Tick,
    Request(u32),
    /// The response has come, with what it says of its cost.
    Response(u32, Option<u64>),
    End(u32),
    Letter(Vec<u8>),
    Answer(CallId, Answer),
    /// To give back what it holds, at the end of its configuration.
    Close,
}

/// What is wrong with this world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutation {
    #[default]
    None,
    /// Shared data is replaced whatever version it has.
    BlindReplace,
    /// Every other letter is lost.
    LostLetters,
    /// What a proxy that fell silent has may be granted to others.
    ForgetfulService,
    /// Some writes of shared data are said to be done, and aren't.
    LostWrites,
    /// A worker's word that it lives is not heard.
    DeafToLife,
}

#[derive(Default)]
pub struct Worker {
    pub proxy: usize,
    pub address: u32,
    pub alive: bool,
    /// It gets no new request, and ends with its last one.
    pub drains: bool,
    pub crashes: bool,
    pub letters: VecDeque<Vec<u8>>,
    pub op: Option<Op>,
    pub event: Option<Event>,
    pub ticked_at: u64,
}

impl Worker {
    pub fn is_busy(&self) -> bool {
        self.op.is_some() || self.event.is_some()
    }
}

#[derive(Default)]
pub struct Proxy {
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    /// How far its clock is from true time, in milliseconds.
    pub ahead: i64,
}

/// A callout under way.
pub struct Call {
    pub id: CallId,
    pub slot: usize,
    /// Of which worker: an answer to one that is gone is lost.
    pub address: u32,
    pub callout: Callout,
    pub sent_at: u64,
    /// What the service has answered.
    pub answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Waits,
    Passed,
    /// By a quota.
    Refused,
    /// Nobody could say.
    Unavailable,
    Ended,
    /// With its worker.
    Lost,
}

pub struct Request {
    pub slot: usize,
    pub sent_at: u64,
    pub fate: Fate,
    /// What it was counted for, by quota: the end of the period, and how many units.
    pub counted: Vec<(String, i64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Edge,
    Lease,
    Level,
}

/// A quota, as the judge knows it.
#[derive(Debug, Clone)]
pub struct Rule {
    pub key: &'static str,
    pub kind: Kind,
    pub cost: u64,
    /// Whether never a unit more than the limit may pass.
    pub strict: bool,
}

#[derive(Default)]
pub struct Core {
    pub workers: Vec<Worker>,
    pub proxies: Vec<Proxy>,
    /// Milliseconds of the clock that nobody sets.
    pub time: u64,
    /// True time when that began, in milliseconds since 1970.
    pub epoch: i64,
    pub calls: Vec<Call>,
    pub service: Service,
    pub requests: BTreeMap<u32, Request>,
    pub rules: Vec<Rule>,
    /// The limits that held, each since when, by quota.
    pub limits: BTreeMap<&'static str, Vec<(u64, u64)>>,
    pub passed: BTreeMap<(Option<usize>, String, i64), u64>,
    allowed: BTreeMap<(Option<usize>, String, i64), u64>,
    pub mutation: Mutation,
    /// Nobody crashed, and no letter was late: then no unit may lie where nobody finds it.
    pub calm: bool,
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub traces: bool,
    pub seen: BTreeMap<&'static str, u64>,
    pub longest_wait: u64,
    addresses: u32,
    last_call: u64,
    versions: u32,
    writes: u32,
    letters: u32,
}

/// How old the clock that nobody sets is at first, in milliseconds: nothing may depend on its having begun just now.
const BEGUN: i64 = 100_000;
/// For how long an older limit may still be counted by: a request waits no longer with an older record.
const OLD_LIMIT: u64 = 40_000;
/// The longest that any request waits for a verdict, in milliseconds: sixteen waits, each ended by a tick.
pub const LONGEST_WAIT: u64 = 34_000;

impl Core {
    pub fn new(proxies: usize, slots: usize, epoch: i64) -> Self {
        Self {
            workers: (0..slots).map(|_| Worker::default()).collect(),
            proxies: (0..proxies).map(|_| Proxy::default()).collect(),
            epoch: epoch * 1000 - BEGUN,
            time: 100_000,
            ..Self::default()
        }
    }

    /// What true time is, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.epoch + i64::try_from(self.time).expect("a time")
    }

    pub fn wall(&self, proxy: usize) -> SystemTime {
        let now = self.now() + self.proxies[proxy].ahead;
        UNIX_EPOCH + Duration::from_millis(u64::try_from(now).expect("a time after 1970"))
    }

    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if self.traces {
            let what = format!("{:>8} {}", self.time, what());
            self.trace.push(what);
        }
    }

    pub fn violate(&mut self, why: String) {
        self.note(|| why.clone());
        self.violation.get_or_insert(why);
    }

    /// A new worker.
    pub fn hire(&mut self, slot: usize, proxy: usize, config: Value) {
        self.addresses += 1;
        let address = self.addresses;
        let ticked_at = self.time;
        self.workers[slot] = Worker { proxy, address, alive: true, ticked_at, ..Worker::default() };
        self.give(slot, Event::Start(config));
    }

    pub fn give(&mut self, slot: usize, event: Event) {
        assert!(self.workers[slot].alive && !self.workers[slot].is_busy(), "slot {slot} can't do anything");
        self.note(|| format!("{slot}: {event:?}"));
        match &event {
            Event::Request(id) => {
                let request = Request { slot, sent_at: self.time, fate: Fate::Waits, counted: Vec::new() };
                assert!(self.requests.insert(*id, request).is_none());
            }
            Event::Tick => self.workers[slot].ticked_at = self.time,
            _ => {}
        }
        self.workers[slot].event = Some(event);
    }

    /// The worker's VM is gone.
    pub fn died(&mut self, slot: usize) {
        self.note(|| format!("{slot}: crashed"));
        let worker = &mut self.workers[slot];
        *worker = Worker { proxy: worker.proxy, ..Worker::default() };
        for request in self.requests.values_mut().filter(|request| request.slot == slot) {
            if matches!(request.fate, Fate::Waits | Fate::Passed) {
                request.fate = Fate::Lost;
            }
        }
        self.free_lost(slot);
    }

    pub fn read(&mut self, slot: usize, key: &str) -> (Option<Vec<u8>>, Version) {
        let proxy = &self.proxies[self.workers[slot].proxy];
        match proxy.shared.get(key) {
            Some((value, version)) => (Some(value.clone()), Version(*version)),
            None => (None, Version(0)),
        }
    }

    pub fn write(&mut self, slot: usize, key: &str, value: Option<&[u8]>) {
        self.versions += 1;
        let proxy = &mut self.proxies[self.workers[slot].proxy];
        match value {
            Some(value) => drop(proxy.shared.insert(key.to_owned(), (value.to_vec(), self.versions))),
            None => drop(proxy.shared.remove(key)),
        }
    }

    pub fn replace(&mut self, slot: usize, key: &str, new: &[u8], version: Version) -> bool {
        let is = self.read(slot, key).1;
        if is != version && self.mutation != Mutation::BlindReplace {
            self.count("others were first");
            self.note(|| format!("{slot}: {key} has changed"));
            return false;
        }
        self.writes += 1;
        if self.mutation == Mutation::LostWrites && self.writes.is_multiple_of(7) {
            return true;
        }
        if self.mutation == Mutation::DeafToLife && key.ends_with(":workers") {
            return true;
        }
        self.write(slot, key, Some(new));
        self.note(|| {
            if key.contains(":quota:") { format!("{slot}: {key} is {}", shown(new)) } else { format!("{slot}: {key}") }
        });
        true
    }

    pub fn post(&mut self, from: usize, to: WorkerId, letter: &[u8]) -> bool {
        self.note(|| format!("{from}: to {}: {}", to.0, String::from_utf8_lossy(letter)));
        self.letters += 1;
        if self.mutation == Mutation::LostLetters && self.letters.is_multiple_of(2) {
            return true;
        }
        let proxy = self.workers[from].proxy;
        let Some(worker) =
            self.workers.iter_mut().find(|worker| worker.alive && worker.proxy == proxy && worker.address == to.0)
        else {
            return false;
        };
        worker.letters.push_back(letter.to_vec());
        self.count("letters");
        true
    }

    pub fn call(&mut self, slot: usize, callout: Callout) -> CallId {
        self.last_call += 1;
        let id = CallId(self.last_call);
        self.note(|| format!("{slot}: call {} {} {}", id.0, callout.path, body(&callout)));
        let address = self.workers[slot].address;
        self.calls.push(Call { id, slot, address, callout, sent_at: self.time, answer: None });
        self.count("callouts");
        id
    }

    /// The service, or the directory, hears a question; it may hear one again.
    pub fn hear(&mut self, index: usize) {
        let now = self.now();
        let callout = &self.calls[index].callout;
        let answer = if callout.cluster == "directory" {
            json!({"id": "acme", "quotas": self.limits.iter().map(|(key, limits)| (*key, limits[limits.len() - 1].1)).collect::<BTreeMap<_, _>>()})
        } else {
            let message = serde_json::from_str(&body(callout)).expect("JSON");
            self.service.hear(&message, now)
        };
        self.note(|| format!("heard: {answer}"));
        self.calls[index].answer = Some(Answer::Reply { status: 200, body: answer.to_string().into_bytes() });
    }

    /// What is under way to its asker, as an event of it; `None` if that is gone.
    pub fn take_answer(&mut self, index: usize, answer: Answer) -> Option<(usize, Event)> {
        let call = self.calls.remove(index);
        let worker = &self.workers[call.slot];
        (worker.alive && worker.address == call.address).then_some((call.slot, Event::Answer(call.id, answer)))
    }

    /// The limit that holds.
    pub fn limit(&self, key: &str) -> u64 {
        self.limits[key].last().expect("a limit").1
    }

    pub fn set_limit(&mut self, key: &'static str, limit: u64) {
        let time = self.time;
        self.note(|| format!("the limit of {key} is {limit}"));
        self.limits.entry(key).or_default().push((time, limit));
    }

    /// The limits that somebody may count by, now.
    fn limits_in_use(&self, key: &str) -> Vec<u64> {
        let limits = &self.limits[key];
        let until = limits.iter().skip(1).map(|(since, _)| *since).chain([u64::MAX]);
        limits
            .iter()
            .zip(until)
            .filter(|(_, until)| *until + OLD_LIMIT.min(u64::MAX - until) >= self.time)
            .map(|((_, limit), _)| *limit)
            .collect()
    }

    /// A request's way has gone on.
    pub fn stepped(&mut self, slot: usize, id: u32, step: &Step, field: &str) {
        let waited = self.time - self.requests[&id].sent_at;
        let fate = match step {
            Step::Wait | Step::Flow(_) => {
                self.count("waited");
                return;
            }
            Step::Forward(_) => Fate::Passed,
            Step::Deny(refusal) => match &refusal.denial {
                Denial::QuotaExceeded(_) => Fate::Refused,
                Denial::ServiceUnavailable | Denial::QuotaUnavailable => Fate::Unavailable,
                other => return self.violate(format!("request {id} is refused: {other:?}")),
            },
        };
        self.note(|| format!("{slot}: request {id}: {fate:?} {field}"));
        self.longest_wait = self.longest_wait.max(waited);
        let request = self.requests.get_mut(&id).expect("a request");
        if request.fate != Fate::Waits {
            return self.violate(format!("request {id} is answered twice"));
        }
        request.fate = fate;
        self.count(match fate {
            Fate::Passed => "passed",
            Fate::Refused => "refused",
            _ => "unavailable",
        });
        match step {
            Step::Forward(_) => self.passes(slot, id, field),
            Step::Deny(refusal) => {
                if let Denial::QuotaExceeded(exceeded) = &refusal.denial {
                    self.refused(slot, exceeded.quota_key.as_str(), exceeded.resets_at);
                }
            }
            Step::Wait | Step::Flow(_) => {}
        }
    }

    fn passes(&mut self, slot: usize, id: u32, field: &str) {
        let proxy = self.workers[slot].proxy;
        for rule in self.rules.clone() {
            let Some(end) = period_end(field, rule.key) else {
                if rule.strict {
                    self.violate(format!("request {id} passes and isn't counted by {}", rule.key));
                }
                continue;
            };
            let request = self.requests.get_mut(&id).expect("a request");
            request.counted.push((rule.key.to_owned(), end, rule.cost));
            self.add(&rule, proxy, end, rule.cost);
        }
    }

    fn add(&mut self, rule: &Rule, proxy: usize, end: i64, units: u64) {
        let scope = (rule.kind != Kind::Lease).then_some(proxy);
        let key = (scope, rule.key.to_owned(), end);
        let largest = self.limits_in_use(rule.key).into_iter().max().unwrap_or(0);
        let allowed = self.allowed.entry(key.clone()).or_default();
        *allowed = (*allowed).max(largest);
        let allowed = *allowed;
        let passed = self.passed.entry(key).or_default();
        *passed = passed.saturating_add(units);
        let passed = *passed;
        if rule.strict && passed > allowed {
            self.violate(format!("{}: {passed} pass of {allowed}, until {end}", rule.key));
        }
    }

    fn refused(&mut self, slot: usize, key: &str, resets_at: Option<i64>) {
        let Some(rule) = self.rules.iter().find(|rule| rule.key == key).cloned() else { return };
        // Where another quota's refusal gives units back, or the units are elsewhere, a refusal may be a moment early.
        if !self.calm || self.rules.len() > 1 || rule.kind != Kind::Edge {
            return;
        }
        let proxy = self.workers[slot].proxy;
        let end = resets_at.unwrap_or(0);
        let passed = self.passed.get(&(Some(proxy), key.to_owned(), end)).copied().unwrap_or(0);
        // Those that others are just about to let pass have their units already.
        let busy = |slot: usize| self.workers[slot].is_busy() && self.workers[slot].proxy == proxy;
        let about = self.requests.values().filter(|request| request.fate == Fate::Waits && busy(request.slot)).count();
        let about = u64::try_from(about).expect("a number").saturating_mul(rule.cost);
        let least = self.limits_in_use(key).into_iter().min().unwrap_or(0);
        if passed.saturating_add(about).saturating_add(rule.cost) <= least {
            self.violate(format!("{key}: refused at {passed} and {about} of {least}, until {end}"));
        }
        self.count("refusals that were judged");
    }

    /// A response has said what its request has cost.
    pub fn settled(&mut self, id: u32, cost: Option<u64>) {
        let (Some(cost), Some(request)) = (cost, self.requests.get_mut(&id)) else { return };
        let proxy = self.workers[request.slot].proxy;
        for (key, end, units) in std::mem::take(&mut request.counted) {
            let lease = self.rules.iter().any(|rule| rule.key == key && rule.kind == Kind::Lease);
            let scope = (!lease).then_some(proxy);
            let passed = self.passed.entry((scope, key, end)).or_default();
            *passed = passed.saturating_sub(units).saturating_add(cost);
        }
    }

    /// A request is at its end, and with it what it held of levels.
    pub fn ended(&mut self, id: u32) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let passed = std::mem::replace(&mut request.fate, Fate::Ended) == Fate::Passed;
        let (slot, counted) = (request.slot, std::mem::take(&mut request.counted));
        if passed {
            self.free(slot, &counted);
        }
    }

    fn free(&mut self, slot: usize, counted: &[(String, i64, u64)]) {
        let proxy = self.workers[slot].proxy;
        for (key, end, units) in counted {
            if self.rules.iter().any(|rule| rule.key == key && rule.kind == Kind::Level) {
                // A proxy that crashed took the count with it.
                if let Some(passed) = self.passed.get_mut(&(Some(proxy), key.clone(), *end)) {
                    *passed = passed.saturating_sub(*units);
                }
            }
        }
    }

    /// What requests of a worker that is gone held of levels: they aren't under way any more.
    fn free_lost(&mut self, slot: usize) {
        let lost = self.requests.values_mut().filter(|request| request.slot == slot && request.fate == Fate::Lost);
        let counted: Vec<_> = lost.flat_map(|request| std::mem::take(&mut request.counted)).collect();
        self.free(slot, &counted);
    }

    /// Nobody may wait for ever.
    pub fn judge_waits(&mut self) {
        let time = self.time;
        let late = |request: &&Request| request.fate == Fate::Waits && time - request.sent_at > LONGEST_WAIT;
        let late: BTreeSet<u64> = self.requests.values().filter(late).map(|request| request.sent_at).collect();
        if let Some(since) = late.first() {
            self.violate(format!("a request waits since {since}"));
        }
    }

    /// Units that are taken of a pool, and those that workers hold unused.
    pub fn pool(&self, proxy: usize, key: &str) -> (u64, u64) {
        let prefix = format!("tenancy:1:quota:{key}:");
        let newest = self.proxies[proxy].shared.iter().filter(|(key, _)| key.starts_with(&prefix));
        newest
            .map(|(_, (bytes, _))| counts(bytes))
            .max_by_key(|(label, ..)| *label)
            .map_or((0, 0), |(_, taken, held)| (taken, held))
    }
}

/// When the period ends that a quota has counted a request in; 0 for a level.
fn period_end(field: &str, key: &str) -> Option<i64> {
    let one = field.split(", ").find_map(|one| one.strip_prefix(&format!("\"{key}\";")))?;
    Some(one.split(';').find_map(|part| part.strip_prefix("t=")).map_or(0, |end| end.parse().expect("a time")))
}

/// The label of a pool, and its units that are taken and held.
fn counts(bytes: &[u8]) -> (i64, u64, u64) {
    let eight = |at: usize| <[u8; 8]>::try_from(&bytes[at..at + 8]).expect("eight bytes");
    let holders = usize::try_from(u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes"))).expect("few");
    let held = (0..holders).map(|holder| u64::from_le_bytes(eight(24 + 12 * holder + 4))).sum();
    (i64::from_le_bytes(eight(0)), u64::from_le_bytes(eight(8)), held)
}

fn shown(bytes: &[u8]) -> String {
    let (label, taken, held) = counts(bytes);
    format!("{taken} taken, {held} held of {label}, {bytes:?}")
}

fn body(callout: &Callout) -> String {
    match &callout.body {
        Body::None => String::new(),
        Body::Json(body) | Body::Grpc(body) => String::from_utf8_lossy(body).into_owned(),
    }
}
