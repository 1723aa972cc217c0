//! Who the tenants are: identifier or domain → tenant, through tiers that each have an age.
//!
//! The inline list comes first, then this worker's memory, then what all workers of this Envoy share, then the directory
//! service by callout. What the service said is kept with the time at which it was **asked**, so that an answer on its way
//! can't look younger than it is. Only a 404 says that something does not exist; whatever else isn't an answer says nothing,
//! and then an older answer may serve for a while.
//!
//! However many requests miss on one name at once, there is one callout for it in each worker.

mod held;
mod service;
mod snapshot;

use std::collections::HashMap;
use std::fmt;
use std::hash::RandomState;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, UnitWeighter};

use self::held::{Held, NoAnswer, age, read};
use self::service::{May, Service, jitter};
use self::snapshot::{Covered, Snapshot};

use crate::config::{Config, OnError, Source};
use crate::host::{Answer, Body, CallId, Callout, Host, RequestId};
use crate::request::{HostName, Trace};
use crate::tenant::{Identifier, Tenant};

/// How many tenants and domains a worker remembers. Beyond that the ones not asked for lately make room, in an order that a
/// scan of many names doesn't disturb.
pub const MEMORY_ENTRIES: usize = 10_000;
/// How many names a worker remembers as unknown; apart from the others, so that made-up names never displace a tenant.
pub const UNKNOWN_ENTRIES: usize = 10_000;
/// How long at most a worker that got no answer for a name waits before it asks for it again.
const HOLD_BACK: Duration = Duration::from_secs(1);

/// The largest answer that is read; a tenant's record is a few hundred bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A tenant, by id or slug.
    Tenant(Identifier),
    /// A tenant's own domain.
    Domain(HostName),
    /// A question to the team's own resolver, by its digest.
    Custom([u8; 32]),
    /// How much of a quota a tenant has used, as the application says.
    Usage(Identifier, Identifier),
}

impl Key {
    /// What goes into the service's path.
    fn name(&self) -> &str {
        match self {
            Self::Tenant(identifier) => identifier.as_str(),
            Self::Domain(domain) => domain.as_str(),
            Self::Custom(_) => "",
            Self::Usage(_, tenant) => tenant.as_str(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(identifier) => write!(f, "the lookup of tenant {identifier}"),
            Self::Domain(domain) => write!(f, "the lookup of domain {domain}"),
            Self::Custom(_) => f.write_str("the custom resolver"),
            Self::Usage(quota, tenant) => write!(f, "the usage of {quota} by {tenant}"),
        }
    }
}

/// Who looks something up.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The request.
    pub id: RequestId,
    /// Its trace, which a callout for it carries on.
    pub trace: Trace<'a>,
    /// What it would ask the team's own resolver.
    pub question: Option<&'a [u8]>,
    /// For a usage: what this proxy has counted by itself until now.
    pub mark: u64,
    /// For a usage: when the period began that it is about, in Unix seconds. What was asked for before says nothing of it.
    pub since: i64,
}

impl<'a> Asker<'a> {
    /// A request that looks up a name.
    pub fn new(id: RequestId, trace: Trace<'a>) -> Self {
        Self { id, trace, question: None, mark: 0, since: 0 }
    }
}

/// What the directory says.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// It is this tenant.
    Tenant(Rc<Tenant>),
    /// The domain belongs to the tenant of this name.
    Named(Identifier),
    /// So much is used.
    Usage(Usage),
    /// It doesn't exist.
    Unknown,
    /// Nobody can say, and nothing held may serve.
    Unavailable(OnError),
    /// The answer is under way; the request that asked is told when it is here.
    Waiting,
}

/// What the application says of a tenant's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How much is used.
    pub usage: u64,
    /// What this proxy had counted by itself when it asked.
    pub mark: u64,
    /// When it asked, in Unix seconds.
    pub asked_at: i64,
}

/// A callout under way, and who waits for it.
struct Flight {
    key: Key,
    asked_at: SystemTime,
    mark: u64,
    waiting: Vec<RequestId>,
}

/// An answer that has come, and the requests that waited for it.
pub struct Landed {
    /// What was asked.
    pub key: Key,
    /// What came of it.
    pub lookup: Lookup,
    /// Who waited.
    pub waiting: Vec<RequestId>,
    /// Why it is no answer, for the log.
    pub fault: Option<String>,
}

/// Names that clients choose, so their hash is one that nobody can find collisions of.
type Names = Cache<Key, SystemTime, UnitWeighter, RandomState>;

fn names() -> Names {
    let most = u64::try_from(UNKNOWN_ENTRIES).unwrap_or(u64::MAX);
    Cache::with(UNKNOWN_ENTRIES, most, UnitWeighter, RandomState::new(), DefaultLifecycle::default())
}

/// One worker's view of the directory.
pub struct Directory {
    inline: HashMap<Identifier, Rc<Tenant>, DefaultHashBuilder>,
    services: Services,
    /// The whole directory, where it is held.
    snapshot: Option<Snapshot>,
    memory: Cache<Key, Held>,
    unknown: Names,
    /// Names that got no answer a moment ago, and until when they aren't asked for.
    held_back: Names,
    flights: HashMap<CallId, Flight>,
    calls: HashMap<Key, CallId>,
}

/// The services that a configuration names, each for one kind of name.
struct Services {
    tenants: Option<Service>,
    domains: Option<Service>,
    custom: Option<Service>,
    /// By quota.
    usage: HashMap<Identifier, Service>,
}

impl Services {
    fn of(&mut self, key: &Key) -> Option<&mut Service> {
        match key {
            Key::Tenant(_) => self.tenants.as_mut(),
            Key::Domain(_) => self.domains.as_mut(),
            Key::Custom(_) => self.custom.as_mut(),
            Key::Usage(quota, _) => self.usage.get_mut(quota),
        }
    }
}

impl Directory {
    /// A directory that has asked nothing yet.
    pub fn new(config: &Config) -> Self {
        let mut inline = HashMap::default();
        for tenant in &config.tenants.0 {
            let tenant = Rc::new(tenant.clone());
            for name in std::iter::once(&tenant.id).chain(&tenant.slug) {
                inline.insert(name.clone(), Rc::clone(&tenant));
            }
        }
        Self {
            inline,
            services: Services {
                tenants: config.lookup_tenant.as_ref().map(|settings| Service::new(settings.into())),
                domains: config.isolation.domain_lookup.as_ref().map(|settings| Service::new(settings.into())),
                custom: config.isolation.custom_resolver.as_ref().map(|settings| Service::new(settings.into())),
                usage: config
                    .quotas
                    .0
                    .iter()
                    .filter_map(|quota| {
                        let source = quota.check_usage.as_ref()?.source(quota);
                        Some((quota.quota_key.clone(), Service::new(source)))
                    })
                    .collect(),
            },
            snapshot: config.lookup_tenant.as_ref().and_then(|settings| settings.snapshot.clone()).map(Snapshot::new),
            memory: Cache::new(MEMORY_ENTRIES),
            unknown: names(),
            held_back: names(),
            flights: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    /// Looks a name up for a request.
    pub fn find(&mut self, key: &Key, asker: Asker<'_>, host: &dyn Host) -> Lookup {
        if let Key::Tenant(identifier) = key
            && let Some(tenant) = self.inline.get(identifier)
        {
            return Lookup::Tenant(Rc::clone(tenant));
        }
        // Without a service the inline list is all there is, and what isn't in it doesn't exist.
        let Some(service) = self.services.of(key) else { return Lookup::Unknown };
        let now = host.now();

        if let (Key::Tenant(name), Some(snapshot)) = (key, &self.snapshot) {
            match snapshot.covers(name, self.memory.get(key), service, now, host) {
                Covered::Held(held) => {
                    let lookup = held.lookup();
                    let same = |own: &Held| own.version == held.version && own.asked_at == held.asked_at;
                    if !self.memory.get(key).is_some_and(same) {
                        self.memory.insert(key.clone(), held);
                    }
                    return lookup;
                }
                Covered::Unknown(_) => return Lookup::Unknown,
                Covered::No => {}
            }
        }
        let held = match self.memory.get(key) {
            Some(held) if held.is_fresh(&service.source, now) && held.is_of(asker.since) => {
                let mut lookup = held.lookup();
                // One that is in use is asked for before it is due, so that nobody waits for it.
                if held.age(now) >= refresh_age(&service.source)
                    && !self.calls.contains_key(key)
                    && !is_held_back(&self.held_back, key, now)
                    && service.may_ask(true, now) == May::Ask
                {
                    match youngest(&self.memory, self.snapshot.as_ref(), service, key, host, now) {
                        Some(newer) if newer.age(now) < refresh_age(&service.source) => {
                            lookup = newer.lookup();
                            self.memory.insert(key.clone(), newer);
                        }
                        _ => {
                            let call = ask(service, key, asker, host);
                            self.take_off(call, key, now, asker.mark, Vec::new());
                        }
                    }
                }
                return lookup;
            }
            _ => youngest(&self.memory, self.snapshot.as_ref(), service, key, host, now)
                .filter(|held| held.is_of(asker.since))
                .inspect(|held| self.memory.insert(key.clone(), held.clone())),
        };
        if let Some(held) = held.as_ref().filter(|held| held.is_fresh(&service.source, now)) {
            return held.lookup();
        }
        if held.is_none() && self.unknown.get(key).is_some_and(|asked_at| age(*asked_at, now) < service.source.negative)
        {
            return Lookup::Unknown;
        }
        if let Some(flight) = self.calls.get(key).and_then(|call| self.flights.get_mut(call)) {
            flight.waiting.push(asker.id);
            return Lookup::Waiting;
        }
        let may = service.may_ask(held.is_some(), now);
        if may == May::Ask && !is_held_back(&self.held_back, key, now) {
            let call = ask(service, key, asker, host);
            self.take_off(call, key, now, asker.mark, vec![asker.id]);
            return Lookup::Waiting;
        }
        match held {
            // That too many questions are under way says nothing of the service, so nothing old may serve for it.
            Some(held) if may != May::NotWhileBusy && held.may_serve_stale(&service.source, now) => held.lookup(),
            _ => Lookup::Unavailable(service.source.on_error),
        }
    }

    fn take_off(&mut self, call: CallId, key: &Key, asked_at: SystemTime, mark: u64, waiting: Vec<RequestId>) {
        self.calls.insert(key.clone(), call);
        self.flights.insert(call, Flight { key: key.clone(), asked_at, mark, waiting });
    }

    /// Does what is due without any request. To be called at the start, and about once a second.
    pub fn tick(&mut self, host: &dyn Host) {
        if let (Some(service), Some(snapshot)) = (&self.services.tenants, &mut self.snapshot) {
            snapshot.tick(service, host);
        }
    }

    /// Takes a page of a snapshot, and gives what to log; `None` if the answer isn't one.
    pub fn land_page(&mut self, call: CallId, answer: &Answer, host: &dyn Host) -> Option<Vec<String>> {
        self.snapshot.as_mut()?.land(call, answer, self.services.tenants.as_ref()?, host)
    }

    /// Takes a callout's answer; `None` if it isn't one of this directory's.
    pub fn land(&mut self, call: CallId, answer: Answer, host: &dyn Host) -> Option<Landed> {
        let Flight { key, asked_at, mark, waiting } = self.flights.remove(&call)?;
        self.calls.remove(&key);
        let service = self.services.of(&key)?;
        let shared_key = service.shared_key(&key);
        let now = host.now();
        let answer = read(&key, answer);
        match &answer {
            Err(NoAnswer::Service(_)) => service.stayed_silent(&key, call, now),
            Ok(_) | Err(NoAnswer::Record(_)) => service.answered(),
        }

        let (lookup, fault) = match answer {
            Ok(Some(found)) => {
                let held = Held { asked_at, found: found.with_mark(mark), generation: 0, version: 0 };
                let lookup = held.lookup();
                // An answer on its way for long doesn't take the place of one that was asked for later.
                let is_older = |other: &Held| other.age(now) < held.age(now);
                if let Some(shared_key) =
                    shared_key.filter(|_| !service.shared(&key, host).as_ref().is_some_and(is_older))
                {
                    host.set_shared(&shared_key, Some(&held.to_bytes()));
                }
                if held.may_serve_stale(&service.source, asked_at) && !self.memory.get(&key).is_some_and(is_older) {
                    self.memory.insert(key.clone(), held);
                }
                self.unknown.remove(&key);
                (lookup, None)
            }
            Ok(None) => {
                // Whatever was held of it is over for every worker, not for this one alone.
                if let Some(shared_key) = shared_key.filter(|shared_key| host.shared(shared_key).is_some()) {
                    host.set_shared(&shared_key, None);
                }
                self.memory.remove(&key);
                if !service.source.negative.is_zero() {
                    self.unknown.insert(key.clone(), asked_at);
                }
                (Lookup::Unknown, None)
            }
            Err(fault) => {
                if let Some(until) = now.checked_add(jitter(HOLD_BACK, call, now)) {
                    self.held_back.insert(key.clone(), until);
                }
                let held = youngest(&self.memory, self.snapshot.as_ref(), service, &key, host, now);
                let stale = held.filter(|held| held.may_serve_stale(&service.source, now)).map(|held| {
                    let lookup = held.lookup();
                    self.memory.insert(key.clone(), held);
                    lookup
                });
                (stale.unwrap_or(Lookup::Unavailable(service.source.on_error)), Some(fault.to_string()))
            }
        };
        Some(Landed { key, lookup, waiting, fault })
    }
}

/// The youngest of what is held of a name: by this worker, by others, and by the last snapshot. By age, not by time: what was
/// asked in the future, before the clock was set back, may not serve, and must not hide what may.
fn youngest(
    memory: &Cache<Key, Held>,
    snapshot: Option<&Snapshot>,
    service: &Service,
    key: &Key,
    host: &dyn Host,
    now: SystemTime,
) -> Option<Held> {
    let younger = |one: Option<Held>, other: Option<Held>| match (one, other) {
        (Some(one), Some(other)) if one.age(now) <= other.age(now) => Some(one),
        (one, other) => other.or(one),
    };
    let looked_up = younger(memory.get(key).cloned(), service.shared(key, host));
    let (Key::Tenant(name), Some(snapshot)) = (key, snapshot) else { return looked_up };
    match snapshot.says(name, service, host) {
        Covered::Held(held) => younger(Some(held), looked_up),
        // What was looked up before that is over.
        Covered::Unknown(confirmed_at) => looked_up.filter(|held| held.age(now) < age(confirmed_at, now)),
        Covered::No => looked_up,
    }
}

/// The age from which on something that is in use is asked for again, before it is due.
fn refresh_age(source: &Source) -> Duration {
    source.cache.saturating_mul(4).checked_div(5).unwrap_or(source.cache)
}

/// Whether a name got no answer a moment ago, and isn't asked for yet.
fn is_held_back(held_back: &Names, key: &Key, now: SystemTime) -> bool {
    let left = held_back.get(key).and_then(|until| until.duration_since(now).ok());
    left.is_some_and(|left| !left.is_zero() && left <= HOLD_BACK)
}

fn ask(service: &mut Service, key: &Key, asker: Asker<'_>, host: &dyn Host) -> CallId {
    service.asks();
    host.call(Callout {
        cluster: service.source.cluster.clone(),
        path: service.source.path.fill(key.name()),
        body: match (key, asker.question) {
            (Key::Custom(_), Some(question)) => Body::Json(question.to_vec()),
            _ => Body::None,
        },
        headers: asker.trace.headers(),
        timeout: service.source.timeout,
        answer_limit: MAX_ANSWER_BYTES,
    })
}
