//! The world around the filter: workers with shared data between them, a clock that can be set, callouts under way.
//!
//! What happens inside a call of the filter is drawn from streams of their own (`Random::of`), so the order in which it asks
//! its host for things changes nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Step};
use envoy_tenancy::host::{Answer, CallId, Callout, Host, RequestId, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;
use envoy_tenancy::request::Head;
use envoy_tenancy::tenant::Status;
use serde_json::{Value, json};

use crate::judge::{Rule, Violation};
use crate::random::{Random, word};
use crate::settings::Settings;
use crate::truth::{Said, Time, Truth, name_of, tenant_key};

/// What is wrong on purpose, to see that the judge notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Shared data looks as if it had been asked for just now.
    ForgedAge,
    /// The workers' clock goes at a quarter of its speed.
    SlowClock,
    /// What is stale serves as if it were fresh.
    StaleAsFresh,
    /// A name stays unknown a minute too long.
    LongNegative,
    /// What failed arrives as a 404.
    FailureAsNotFound,
    /// Some answers never come.
    LostAnswer,
    /// What is asked is asked twice.
    SecondCall,
    /// One more call is under way than may be.
    WideInFlight,
    /// Shared data gets a name that nobody confirmed.
    UnconfirmedShared,
    /// Suspended tenants arrive as active ones.
    Flattery,
    /// A domain's answer names somebody else.
    OtherOwner,
    /// Some good answers arrive as a sign-in page.
    Deaf,
    /// Chance that doesn't come from the seed.
    Chance,
}

/// How a callout ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// With what is true at that part of its way, from 0 at the start to 100 at the end.
    Answer(u64),
    Status(u16),
    Timeout,
    Html,
    Malformed,
    OtherTenant,
    NotSent,
}

/// What a worker has heard from a callout.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Nothing,
    Answer(Said),
    /// A page of a snapshot.
    Page,
    /// No answer; whether as from a service that gives none to anybody.
    Failure {
        silent: bool,
    },
}

#[derive(Debug)]
pub struct Call {
    pub worker: usize,
    /// How many times that worker had been reloaded.
    pub life: u32,
    pub key: String,
    pub dispatched: Time,
    /// What the worker's clock showed then.
    pub wall: SystemTime,
    /// How far the clock had been set back by then, all in all.
    pub set_back: Time,
    due: Time,
    ending: Ending,
    pub landed: Option<Time>,
    pub heard: Heard,
}

/// A request that a client has sent.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The keys of what it names, in the order of the strategies.
    pub keys: Vec<String>,
    /// Whether one of its sources gives several values.
    pub ambiguous: bool,
    pub authority: String,
    pub header: Option<String>,
    pub arrived: Time,
    /// Whether everything has been well for so long that the verdict must be the truth.
    pub must_be_true: bool,
}

pub struct Worker {
    pub filter: RefCell<Filter>,
    pub life: Cell<u32>,
    pub waiting: RefCell<BTreeMap<RequestId, Asked>>,
    pub flights: RefCell<BTreeSet<usize>>,
    /// When, for each service, as many calls were under way as may be, for the last time.
    pub last_full: RefCell<[Option<Time>; 2]>,
    /// The same for half of them, which is all that names may take of which nothing is held.
    pub last_busy: RefCell<[Option<Time>; 2]>,
    /// The calls whose end this worker has heard of, in that order, since it was reloaded.
    pub heard: RefCell<Vec<usize>>,
    next_tick: Cell<Time>,
    next_request: Cell<u32>,
    nth: RefCell<BTreeMap<String, u64>>,
}

pub struct World {
    pub seed: u64,
    pub settings: Settings,
    pub mutation: Mutation,
    pub now: Cell<Time>,
    pub truth: RefCell<Truth>,
    pub workers: Vec<Worker>,
    pub calls: RefCell<Vec<Call>>,
    pub by_key: RefCell<BTreeMap<String, Vec<usize>>>,
    pub set_back: Cell<Time>,
    pub healthy: Cell<bool>,
    pub violation: RefCell<Option<Violation>>,
    pub trace: RefCell<Vec<String>>,
    pub seen: RefCell<BTreeMap<&'static str, u64>>,
    config: Value,
    set_forward: Cell<Time>,
    down: Cell<[bool; 2]>,
    shared: RefCell<BTreeMap<String, Vec<u8>>>,
    confirmed: RefCell<BTreeSet<String>>,
    /// Whether another worker may get an answer in the middle of what this one does.
    open: Cell<bool>,
    nested: Cell<bool>,
}

/// How long a page of a snapshot may take.
pub const PAGE_TIMEOUT: Time = 10_000;

/// Whether a key is a page of a snapshot.
pub fn is_page(key: &str) -> bool {
    Settings::service(key) == 2
}

static CHANCE: AtomicU64 = AtomicU64::new(0);

impl World {
    pub fn new(seed: u64, mutation: Mutation, random: &mut Random) -> Self {
        let settings = Settings::new(random);
        let config = settings.config(mutation);
        let workers = (0..settings.workers).map(|_| Worker {
            filter: RefCell::new(filter(&config)),
            life: Cell::new(0),
            waiting: RefCell::default(),
            flights: RefCell::default(),
            last_full: RefCell::default(),
            last_busy: RefCell::default(),
            heard: RefCell::default(),
            next_tick: Cell::new(random.below(1000)),
            next_request: Cell::new(1),
            nth: RefCell::default(),
        });
        let workers = workers.collect();
        let world = Self {
            seed,
            mutation,
            now: Cell::new(0),
            truth: RefCell::new(Truth::new(random)),
            workers,
            calls: RefCell::default(),
            by_key: RefCell::default(),
            set_back: Cell::new(0),
            healthy: Cell::new(false),
            violation: RefCell::default(),
            trace: RefCell::default(),
            seen: RefCell::default(),
            config,
            settings,
            set_forward: Cell::new(0),
            down: Cell::default(),
            shared: RefCell::default(),
            confirmed: RefCell::default(),
            open: Cell::new(false),
            nested: Cell::new(false),
        };
        (0..world.workers.len()).for_each(|worker| world.tick(worker));
        world
    }

    /// A client's request, and whatever comes of it at once.
    pub fn request(&self, worker: usize, asked: Asked) -> RequestId {
        let at = &self.workers[worker];
        let id = RequestId(at.next_request.get());
        at.next_request.set(id.0 + 1);
        let mut headers =
            vec![(&b":authority"[..], asked.authority.as_bytes()), (b":path", b"/"), (b":method", b"GET")];
        headers.extend(asked.header.as_ref().map(|header| (&b"x-tenant-id"[..], header.as_bytes())));
        let host = HostOf { world: self, worker };
        self.open.set(true);
        let step = at.filter.borrow_mut().request(id, &Head::new(headers), &host);
        self.open.set(false);
        if step == Step::Wait {
            self.note(|| format!("w{worker} r{} {:?} waits", id.0, asked.keys));
            self.count("waited");
            at.waiting.borrow_mut().insert(id, asked);
        } else {
            self.verdict(worker, id, &asked, &step);
        }
        self.judge_waiting(worker);
        id
    }

    /// A client leaves.
    pub fn leave(&self, worker: usize, id: RequestId) {
        self.note(|| format!("w{worker} r{} leaves", id.0));
        self.workers[worker].waiting.borrow_mut().remove(&id);
        self.workers[worker].filter.borrow_mut().end(id, &HostOf { world: self, worker });
        if self.workers[worker].filter.borrow().is_waiting(id) {
            self.blame(Rule::Wait, || format!("w{worker} r{} has ended and waits", id.0));
        }
        self.judge_waiting(worker);
    }

    /// The VM is made anew: answers to the old one never arrive, requests that wait in it end.
    pub fn reload(&self, worker: usize) {
        self.note(|| format!("w{worker} is reloaded"));
        self.count("reloaded");
        let at = &self.workers[worker];
        at.filter.replace(filter(&self.config));
        at.life.set(at.life.get() + 1);
        at.waiting.borrow_mut().clear();
        at.flights.borrow_mut().clear();
        at.last_full.replace([None; 2]);
        at.last_busy.replace([None; 2]);
        at.heard.borrow_mut().clear();
        self.tick(worker);
    }

    pub fn change(&self, random: &mut Random) {
        self.truth.borrow_mut().change(random, self.now.get());
    }

    /// Sets the clock, forward or back.
    pub fn set_clock(&self, forward: bool, by: Time) {
        self.note(|| format!("the clock is set {} by {by} ms", if forward { "forward" } else { "back" }));
        let total = if forward { &self.set_forward } else { &self.set_back };
        total.set(total.get() + by);
        self.count(if forward { "clock set forward" } else { "clock set back" });
    }

    /// Lets a service fail every call, or no longer.
    pub fn outage(&self, service: usize, down: bool) {
        self.note(|| format!("service {service} {}", if down { "fails" } else { "is back" }));
        let mut all = self.down.get();
        all[service] = down;
        self.down.set(all);
        self.count("outage");
    }

    /// From now on every call is answered soon, and well.
    pub fn heal(&self) {
        self.note(|| "everything is well".to_owned());
        self.down.set([false; 2]);
        self.healthy.set(true);
    }

    /// Lets time pass, with all that is due in it.
    pub fn pass(&self, time: Time) {
        let end = self.now.get() + time;
        while self.violation.borrow().is_none() {
            let ticks = self.workers.iter().map(|worker| worker.next_tick.get());
            let tick = ticks.enumerate().map(|(worker, at)| (at, worker)).min().unwrap();
            let answer = self.next_answer(|_| true);
            if let Some((due, call)) = answer.filter(|(due, _)| *due <= tick.0.min(end)) {
                self.now.set(self.now.get().max(due));
                self.land(call);
            } else if tick.0 <= end {
                self.now.set(self.now.get().max(tick.0));
                self.workers[tick.1].next_tick.set(tick.0 + 1000);
                self.tick(tick.1);
            } else {
                break;
            }
        }
        self.now.set(end.max(self.now.get()));
    }

    /// The time as workers see it.
    pub fn wall(&self) -> SystemTime {
        let slow = if self.mutation == Mutation::SlowClock { self.now.get() / 4 } else { self.now.get() };
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        start + Duration::from_millis(slow + self.set_forward.get()) - Duration::from_millis(self.set_back.get())
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.trace.borrow_mut().push(format!("{:>8} {}", self.now.get(), line()));
    }

    pub fn count(&self, what: &'static str) {
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    /// Notes a violation; the first one counts.
    pub fn blame(&self, rule: Rule, why: impl FnOnce() -> String) {
        let mut violation = self.violation.borrow_mut();
        if violation.is_none() {
            let why = why();
            self.note(|| format!("!! {why}"));
            *violation = Some(Violation { rule, why });
        }
    }

    fn tick(&self, worker: usize) {
        let (_, log) = self.workers[worker].filter.borrow_mut().tick(&HostOf { world: self, worker });
        if let Some(log) = log {
            self.note(|| format!("w{worker} logs {log}"));
        }
        self.judge_waiting(worker);
    }

    /// The callout whose answer comes first.
    fn next_answer(&self, which: impl Fn(&Call) -> bool) -> Option<(Time, usize)> {
        let calls = self.calls.borrow();
        let under_way: Vec<usize> = self.workers.iter().flat_map(|at| at.flights.borrow().clone()).collect();
        let of_interest = under_way.into_iter().filter(|call| which(&calls[*call]));
        let first = of_interest.min_by_key(|call| (calls[*call].due, calls[*call].worker, &calls[*call].key))?;
        Some((calls[first].due, first))
    }

    /// A callout's answer arrives.
    fn land(&self, number: usize) {
        let now = self.now.get();
        let (worker, key, heard, mut answer) = {
            let mut calls = self.calls.borrow_mut();
            let call = &mut calls[number];
            let (heard, answer) = self.ending(number, call);
            call.landed = Some(now);
            call.heard = heard.clone();
            (call.worker, call.key.clone(), heard, answer)
        };
        let at = &self.workers[worker];
        let service = Settings::service(&key);
        if service < 2 && self.is_full(worker, service) {
            at.last_full.borrow_mut()[service] = Some(now);
        }
        if service < 2 && self.is_busy(worker, service) {
            at.last_busy.borrow_mut()[service] = Some(now);
        }
        at.flights.borrow_mut().remove(&number);
        at.heard.borrow_mut().push(number);
        if matches!(&heard, Heard::Answer(said) if *said != Said::Absent) {
            self.confirmed.borrow_mut().insert(name_of(&key).to_owned());
        }
        if heard == Heard::Page
            && let Answer::Reply { body, .. } = &answer
        {
            let page: Value = serde_json::from_slice(body).unwrap();
            for record in page["tenants"].as_array().unwrap() {
                let names = [&record["id"], &record["slug"]].into_iter().filter_map(Value::as_str);
                self.confirmed.borrow_mut().extend(names.map(str::to_owned));
            }
            self.note(|| format!("w{worker} reads {page}"));
            self.count("pages");
        }
        self.note(|| format!("w{worker} hears of {key} (call {number}) {heard:?}"));
        let mut random = Random::of(self.seed, &[word("land"), u64::try_from(number).unwrap()]);
        let sometimes = random.percent(25);
        match (self.mutation, &heard) {
            (Mutation::FailureAsNotFound, Heard::Failure { .. }) => answer = reply(404, ""),
            (Mutation::LostAnswer, _) if sometimes => return self.judge_waiting(worker),
            (Mutation::Deaf, Heard::Answer(_)) if sometimes => answer = reply(200, "<html>"),
            (Mutation::Flattery, Heard::Answer(Said::Tenant { id, slug, status: Status::Suspended })) => {
                let flattered = Said::Tenant { id: id.clone(), slug: slug.clone(), status: Status::Active };
                answer = reply(200, &flattered.body(number).to_string());
            }
            (Mutation::OtherOwner, Heard::Answer(Said::Named(id))) => {
                let other = if id == "id-0" { "id-1" } else { "id-0" };
                answer = reply(200, &json!({"tenantId": other}).to_string());
            }
            _ => {}
        }
        let was_open = self.open.replace(true);
        let call = CallId(u64::try_from(number).unwrap());
        let (steps, _) = at.filter.borrow_mut().answer(call, answer, &HostOf { world: self, worker });
        self.open.set(was_open);
        for (id, step) in steps {
            let Some(asked) = at.waiting.borrow_mut().remove(&id) else {
                self.blame(Rule::Wait, || format!("w{worker} r{} gets a verdict, but doesn't wait", id.0));
                continue;
            };
            self.verdict(worker, id, &asked, &step);
        }
        self.judge_waiting(worker);
    }

    /// What comes of a callout now.
    fn ending(&self, number: usize, call: &Call) -> (Heard, Answer) {
        let answer = match call.ending {
            Ending::Answer(_) if is_page(&call.key) => {
                let limit = usize::try_from(self.seed % 7).unwrap() + 2;
                let mut random = Random::of(self.seed, &[word("page"), u64::try_from(number).unwrap()]);
                let broken = self.settings.flaky / 5;
                let page = self.truth.borrow().page(
                    &call.key,
                    number,
                    limit,
                    !self.seed.is_multiple_of(3),
                    &mut random,
                    broken,
                );
                return match page {
                    Some(page) => (Heard::Page, reply(200, &page.to_string())),
                    None => (Heard::Failure { silent: false }, reply(410, "")),
                };
            }
            Ending::Answer(part) => {
                let moment = call.dispatched + (self.now.get() - call.dispatched) * part / 100;
                let said = self.truth.borrow().at(&call.key, moment);
                let answer = match &said {
                    Said::Absent => reply(404, r#"{"error":"not found"}"#),
                    said => reply(200, &said.body(number).to_string()),
                };
                return (Heard::Answer(said), answer);
            }
            Ending::Status(status) => reply(status, r#"{"error":"sorry"}"#),
            Ending::Timeout => reply(504, "upstream request timeout"),
            Ending::Html => reply(200, "<!doctype html><title>Sign in to the network</title>"),
            Ending::Malformed => reply(200, r#"{"id":["id-1"],"tenantId":7,"status":"active"}"#),
            Ending::OtherTenant if call.key.starts_with("/domains/") => reply(200, r#"{"tenantId":"a/b"}"#),
            Ending::OtherTenant => reply(200, r#"{"id":"somebody-else","slug":"else","status":"active"}"#),
            Ending::NotSent => Answer::Failed { why: "it couldn't be sent" },
        };
        let silent = matches!(call.ending, Ending::Status(503) | Ending::Timeout | Ending::NotSent);
        (Heard::Failure { silent }, answer)
    }

    /// Takes a new callout.
    fn dispatch(&self, worker: usize, callout: &Callout) -> CallId {
        let at = &self.workers[worker];
        let key = callout.path.clone();
        let service = Settings::service(&key);
        let ages = self.settings.services.get(service);
        let timeout = ages.map_or(PAGE_TIMEOUT, |ages| ages.timeout);
        if callout.timeout != Duration::from_millis(timeout) {
            self.blame(Rule::Flight, || format!("w{worker} asks for {key} with a timeout of {:?}", callout.timeout));
        }
        let mut calls = self.calls.borrow_mut();
        if at.flights.borrow().iter().any(|flight| calls[*flight].key == key) {
            self.blame(Rule::Flight, || format!("w{worker} asks for {key} while a call for it is under way"));
        }
        let nth = {
            let mut nths = at.nth.borrow_mut();
            let nth = nths.entry(key.clone()).or_default();
            *nth += 1;
            *nth
        };
        let mut random = Random::of(self.seed, &[word("call"), u64::try_from(worker).unwrap(), word(&key), nth]);
        let (ending, takes) = self.behaviour(&mut random, service % 2, timeout);
        let number = calls.len();
        calls.push(Call {
            worker,
            life: at.life.get(),
            key: key.clone(),
            dispatched: self.now.get(),
            wall: self.wall(),
            set_back: self.set_back.get(),
            due: self.now.get() + takes,
            ending,
            landed: None,
            heard: Heard::Nothing,
        });
        drop(calls);
        self.by_key.borrow_mut().entry(key.clone()).or_default().push(number);
        at.flights.borrow_mut().insert(number);
        let under_way = self.under_way(worker, service);
        if under_way > ages.map_or(1, |ages| ages.max_in_flight) {
            self.blame(Rule::Flight, || format!("w{worker} has {under_way} calls under way with that for {key}"));
        }
        self.count("callouts");
        CallId(u64::try_from(number).unwrap())
    }

    fn behaviour(&self, random: &mut Random, service: usize, timeout: Time) -> (Ending, Time) {
        let mut prompt = random.between(0, (timeout / 4).min(30));
        if self.mutation == Mutation::Chance {
            prompt += CHANCE.fetch_add(1, Ordering::Relaxed) % 7;
        }
        let part = *random.pick(&[0, 0, 50, 100, 100]);
        if self.healthy.get() {
            return (Ending::Answer(part), prompt);
        }
        if self.down.get()[service] || random.percent(self.settings.flaky) {
            let any = random.between(0, timeout);
            return match random.below(8) {
                0 => (Ending::Status(503), 0),
                1 => (Ending::Status(500), any),
                2 => (Ending::Html, prompt),
                3 => (Ending::Malformed, any),
                4 => (Ending::OtherTenant, prompt),
                5 => (Ending::NotSent, 0),
                _ => (Ending::Timeout, timeout),
            };
        }
        let slow = random.percent(20);
        (Ending::Answer(part), if slow { random.between(0, timeout) } else { prompt })
    }

    pub fn is_full(&self, worker: usize, service: usize) -> bool {
        self.under_way(worker, service) >= self.settings.services[service].max_in_flight
    }

    pub fn is_busy(&self, worker: usize, service: usize) -> bool {
        self.under_way(worker, service) >= self.settings.services[service].max_in_flight.div_ceil(2)
    }

    fn under_way(&self, worker: usize, service: usize) -> usize {
        let calls = self.calls.borrow();
        let flights = self.workers[worker].flights.borrow();
        flights.iter().filter(|flight| Settings::service(&calls[**flight].key) == service).count()
    }

    /// Another worker may get its answer just now, in the middle of what this one does: they are threads.
    fn meanwhile(&self, worker: usize, key: &str) {
        let words = [word("meanwhile"), self.now.get(), u64::try_from(worker).unwrap(), word(key)];
        if !self.open.get() || self.nested.get() || !Random::of(self.seed, &words).percent(15) {
            return;
        }
        self.nested.set(true);
        if let Some((_, call)) = self.next_answer(|call| call.worker != worker && call.ending != Ending::Timeout) {
            self.count("meanwhile");
            self.note(|| format!("while w{worker} looks at what is shared:"));
            self.land(call);
        }
        self.nested.set(false);
    }

    fn share(&self, worker: usize, key: &str, value: Option<&[u8]>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            self.shared.borrow_mut().remove(key);
            return;
        };
        let name = key.rsplit(':').next().unwrap();
        let is_a_name = {
            let truth = self.truth.borrow();
            truth.names.iter().chain(&truth.hosts).any(|known| known == name)
        };
        let ghostly = |text: &[u8]| String::from_utf8_lossy(text).contains("ghost");
        if (is_a_name && !self.confirmed.borrow().contains(name)) || ghostly(key.as_bytes()) || ghostly(value) {
            self.blame(Rule::Shared, || format!("w{worker} shares {key}, which the directory never confirmed"));
        }
        self.shared.borrow_mut().insert(key.to_owned(), value.to_vec());
    }

    /// The keys of which one must be under way while that request waits.
    pub fn candidates(&self, asked: &Asked) -> BTreeSet<String> {
        let truth = self.truth.borrow();
        asked.keys.iter().flat_map(|key| truth.ids(key).map(|id| tenant_key(&id)).chain([key.clone()])).collect()
    }
}

struct HostOf<'w> {
    world: &'w World,
    worker: usize,
}

impl Signatures for HostOf<'_> {
    fn verify_signature(&self, _arguments: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl Host for HostOf<'_> {
    fn now(&self) -> SystemTime {
        self.world.wall()
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        let value = self.world.shared.borrow().get(key).cloned();
        self.world.meanwhile(self.worker, key);
        match value {
            Some(value) if self.world.mutation == Mutation::ForgedAge => {
                let mut value: Value = serde_json::from_slice(&value).unwrap();
                let now = self.now().duration_since(UNIX_EPOCH).unwrap().as_millis();
                value["askedAt"] = json!(u64::try_from(now).unwrap());
                Some(value.to_string().into_bytes())
            }
            value => value,
        }
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        self.world.meanwhile(self.worker, key);
        self.world.share(self.worker, key, value);
        if self.world.mutation == Mutation::UnconfirmedShared {
            self.world.share(self.worker, "tenancy:1:0:ghost-1", value);
        }
    }

    fn monotonic(&self) -> Duration {
        self.world.wall().duration_since(UNIX_EPOCH).unwrap()
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let value = self.world.shared.borrow().get(key).cloned();
        let version = version(value.as_deref());
        (value, version)
    }

    fn replace_shared(&self, key: &str, new: &[u8], expected: Version) -> bool {
        let is_old = version(self.world.shared.borrow().get(key).map(Vec::as_slice)) == expected;
        if is_old {
            self.world.share(self.worker, key, Some(new));
        }
        is_old
    }

    fn worker(&self) -> WorkerId {
        WorkerId(u32::try_from(self.worker).unwrap())
    }

    fn post(&self, _to: WorkerId, _letter: &[u8]) -> bool {
        // Only quotas write letters, and there are none here.
        false
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn call(&self, callout: Callout) -> CallId {
        let call = self.world.dispatch(self.worker, &callout);
        if self.world.mutation == Mutation::SecondCall {
            self.world.dispatch(self.worker, &callout);
        }
        call
    }
}

/// A version that changes with the value.
fn version(value: Option<&[u8]>) -> Version {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(&value, &mut hasher);
    Version(std::hash::Hasher::finish(&hasher) as u32)
}

fn filter(config: &Value) -> Filter {
    let config = Config::from_value(config).unwrap_or_else(|faults| panic!("{faults}"));
    Filter::new(config, |_| None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn reply(status: u16, body: &str) -> Answer {
    Answer::Reply { status, body: body.as_bytes().to_vec() }
}

impl Asked {
    pub fn header(name: &str) -> Self {
        Self {
            keys: vec![tenant_key(name)],
            ambiguous: false,
            authority: crate::settings::BASE.to_owned(),
            header: Some(name.to_owned()),
            arrived: 0,
            must_be_true: false,
        }
    }
}
