//! Who the tenants are: identifier or domain → tenant, through tiers that each have an age.
//!
//! The inline list comes first, then this worker's memory, then what all workers of this Envoy share, then the directory
//! service by callout. What the service said is kept with the time at which it was **asked**, so that an answer on its way
//! can't look younger than it is. Only a 404 says that something does not exist; whatever else isn't an answer says nothing,
//! and then an older answer may serve for a while.
//!
//! However many requests miss on one name at once, there is one callout for it in each worker.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quick_cache::unsync::Cache;
use serde_json::{Value, json};

use crate::config::{Config, OnError, Source};
use crate::host::{Answer, CallId, Callout, Host, RequestId};
use crate::request::HostName;
use crate::tenant::{Identifier, Tenant};

/// How many tenants and domains a worker remembers. Beyond that the ones not asked for lately make room, in an order that a
/// scan of many names doesn't disturb.
pub const MEMORY_ENTRIES: usize = 10_000;
/// How many names a worker remembers as unknown; apart from the others, so that made-up names never displace a tenant.
pub const UNKNOWN_ENTRIES: usize = 10_000;
/// How long a worker that got no answer for a name serves what it holds before it asks again.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A tenant, by id or slug.
    Tenant(Identifier),
    /// A tenant's own domain.
    Domain(HostName),
    /// A question to the team's own resolver, by its digest.
    Custom([u8; 32]),
}

impl Key {
    /// What goes into the service's path.
    fn name(&self) -> &str {
        match self {
            Self::Tenant(identifier) => identifier.as_str(),
            Self::Domain(domain) => domain.as_str(),
            Self::Custom(_) => "",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(identifier) => write!(f, "the lookup of tenant {identifier}"),
            Self::Domain(domain) => write!(f, "the lookup of domain {domain}"),
            Self::Custom(_) => f.write_str("the custom resolver"),
        }
    }
}

/// Who looks something up.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The request.
    pub id: RequestId,
    /// The headers of its trace, which a callout for it carries on.
    pub trace: &'a [(&'static str, Vec<u8>)],
    /// What it would ask the team's own resolver.
    pub question: Option<&'a [u8]>,
}

/// What the directory says.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// It is this tenant.
    Tenant(Rc<Tenant>),
    /// The domain belongs to the tenant of this name.
    Named(Identifier),
    /// It doesn't exist.
    Unknown,
    /// Nobody can say, and nothing held may serve.
    Unavailable(OnError),
    /// The answer is under way; the request that asked is told when it is here.
    Waiting,
}

/// What the service answered to one question, and when it was asked.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    asked_at: SystemTime,
    found: Found,
    /// Set where the service last gave no answer: until then, what is held serves without a new question.
    hold_until: Option<SystemTime>,
}

#[derive(Debug, Clone, PartialEq)]
enum Found {
    Tenant(Rc<Tenant>),
    Named(Identifier),
}

impl From<&Found> for Lookup {
    fn from(found: &Found) -> Self {
        match found {
            Found::Tenant(tenant) => Self::Tenant(Rc::clone(tenant)),
            Found::Named(identifier) => Self::Named(identifier.clone()),
        }
    }
}

/// A callout under way, and who waits for it.
struct Flight {
    key: Key,
    asked_at: SystemTime,
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

/// One worker's view of the directory.
pub struct Directory {
    inline: HashMap<Identifier, Rc<Tenant>>,
    tenants: Option<Service>,
    domains: Option<Service>,
    custom: Option<Service>,
    memory: Cache<Key, Held>,
    unknown: Cache<Key, SystemTime>,
    flights: HashMap<CallId, Flight>,
    calls: HashMap<Key, CallId>,
}

/// A service to ask.
struct Service {
    source: Source,
    /// Under which workers share its answers.
    shared_prefix: String,
    in_flight: usize,
}

impl Service {
    fn new(source: Source) -> Self {
        // Two listeners with different directories may share one VM id, and so one space of shared data.
        let mut hasher = DefaultHasher::new();
        (&source.cluster, source.path.fill("")).hash(&mut hasher);
        Self { shared_prefix: format!("tenancy:1:{:016x}:", hasher.finish()), source, in_flight: 0 }
    }

    /// What this worker holds, or what another one has learnt since.
    fn newer_than(&self, held: Option<&Held>, key: &Key, host: &dyn Host) -> Option<Held> {
        let shared = self.shared_key(key).and_then(|shared_key| Held::from_bytes(key, &host.shared(&shared_key)?));
        match (held, shared) {
            (Some(held), Some(shared)) if held.asked_at >= shared.asked_at => Some(held.clone()),
            (held, shared) => shared.or_else(|| held.cloned()),
        }
    }

    /// Where workers share the answer: for names that the directory knows, of which there are only so many, and never for
    /// what clients make up.
    fn shared_key(&self, key: &Key) -> Option<String> {
        match key {
            Key::Tenant(_) | Key::Domain(_) => Some([&self.shared_prefix, key.name()].concat()),
            Key::Custom(_) => None,
        }
    }
}

impl Directory {
    /// A directory that has asked nothing yet.
    pub fn new(config: &Config) -> Self {
        let mut inline = HashMap::new();
        for tenant in &config.tenants.0 {
            let tenant = Rc::new(tenant.clone());
            for name in std::iter::once(&tenant.id).chain(&tenant.slug) {
                inline.insert(name.clone(), Rc::clone(&tenant));
            }
        }
        Self {
            inline,
            tenants: config.lookup_tenant.as_ref().map(|settings| Service::new(settings.into())),
            domains: config.isolation.domain_lookup.as_ref().map(|settings| Service::new(settings.into())),
            custom: config.isolation.custom_resolver.as_ref().map(|settings| Service::new(settings.into())),
            memory: Cache::new(MEMORY_ENTRIES),
            unknown: Cache::new(UNKNOWN_ENTRIES),
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
        let service = match key {
            Key::Tenant(_) => &mut self.tenants,
            Key::Domain(_) => &mut self.domains,
            Key::Custom(_) => &mut self.custom,
        };
        // Without a service the inline list is all there is, and what isn't in it doesn't exist.
        let Some(service) = service else { return Lookup::Unknown };
        let now = host.now();

        let held = match self.memory.get(key) {
            Some(held) if held.serves(&service.source, now) => return (&held.found).into(),
            held => service.newer_than(held, key, host).inspect(|held| self.memory.insert(key.clone(), held.clone())),
        };
        if let Some(held) = &held
            && held.serves(&service.source, now)
        {
            return (&held.found).into();
        }
        if held.is_none() && self.unknown.get(key).is_some_and(|asked_at| age(*asked_at, now) < service.source.negative)
        {
            return Lookup::Unknown;
        }

        if let Some(flight) = self.calls.get(key).and_then(|call| self.flights.get_mut(call)) {
            flight.waiting.push(asker.id);
            return Lookup::Waiting;
        }
        if service.in_flight >= service.source.max_in_flight {
            return match &held {
                Some(held) if held.may_serve_stale(&service.source, now) => (&held.found).into(),
                _ => Lookup::Unavailable(service.source.on_error),
            };
        }
        let call = host.call(Callout {
            cluster: service.source.cluster.clone(),
            path: service.source.path.fill(key.name()),
            body: asker.question.filter(|_| matches!(key, Key::Custom(_))).map(<[u8]>::to_vec),
            headers: asker.trace.to_vec(),
            timeout: service.source.timeout,
        });
        service.in_flight = service.in_flight.saturating_add(1);
        self.calls.insert(key.clone(), call);
        self.flights.insert(call, Flight { key: key.clone(), asked_at: now, waiting: vec![asker.id] });
        Lookup::Waiting
    }

    /// Takes a callout's answer; `None` if it isn't one of this directory's.
    pub fn land(&mut self, call: CallId, answer: Answer, host: &dyn Host) -> Option<Landed> {
        let Flight { key, asked_at, waiting } = self.flights.remove(&call)?;
        self.calls.remove(&key);
        let service = match &key {
            Key::Tenant(_) => self.tenants.as_mut(),
            Key::Domain(_) => self.domains.as_mut(),
            Key::Custom(_) => self.custom.as_mut(),
        }?;
        service.in_flight = service.in_flight.saturating_sub(1);
        let shared_key = service.shared_key(&key);

        let (lookup, fault) = match read(&key, answer) {
            Ok(Some(found)) => {
                let lookup = Lookup::from(&found);
                let held = Held { asked_at, found, hold_until: None };
                if let Some(shared_key) = shared_key {
                    host.set_shared(&shared_key, Some(&held.to_bytes()));
                }
                if held.may_serve_stale(&service.source, asked_at) {
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
                let now = host.now();
                let held = service.newer_than(self.memory.get(&key), &key, host);
                let stale = held.filter(|held| held.may_serve_stale(&service.source, now)).map(|mut held| {
                    held.hold_until = now.checked_add(RETRY_AFTER_FAILURE);
                    let lookup = Lookup::from(&held.found);
                    self.memory.insert(key.clone(), held);
                    lookup
                });
                (stale.unwrap_or(Lookup::Unavailable(service.source.on_error)), Some(fault))
            }
        };
        Some(Landed { key, lookup, waiting, fault })
    }
}

impl Held {
    /// Whether it answers without a question: it is young enough, or the service couldn't answer a moment ago.
    fn serves(&self, source: &Source, now: SystemTime) -> bool {
        let age = age(self.asked_at, now);
        age < source.cache || (self.hold_until.is_some_and(|until| now < until) && self.may_serve_stale(source, now))
    }

    /// Whether it may serve where the service can't answer.
    fn may_serve_stale(&self, source: &Source, now: SystemTime) -> bool {
        age(self.asked_at, now) < source.cache.saturating_add(source.stale)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let asked_at = self.asked_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let answer = match &self.found {
            Found::Tenant(tenant) => Value::Object(tenant.record.clone()),
            Found::Named(identifier) => json!({"tenantId": identifier.as_str()}),
        };
        json!({"askedAt": u64::try_from(asked_at).unwrap_or(u64::MAX), "answer": answer}).to_string().into_bytes()
    }

    fn from_bytes(key: &Key, bytes: &[u8]) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(bytes).ok()?;
        let asked_at = UNIX_EPOCH.checked_add(Duration::from_millis(value.get("askedAt")?.as_u64()?))?;
        let found = found(key, value.get_mut("answer")?.take()).ok()??;
        Some(Self { asked_at, found, hold_until: None })
    }
}

/// How old something is. A clock that was set back makes it old rather than young for ever: then it is asked again.
fn age(asked_at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(asked_at).unwrap_or(Duration::MAX)
}

/// Reads a service's answer: found, doesn't exist, or no answer at all, and why.
fn read(key: &Key, answer: Answer) -> Result<Option<Found>, String> {
    match answer {
        Answer::Reply { status: 404, .. } => Ok(None),
        Answer::Reply { status: 200, body } => {
            let value =
                serde_json::from_slice(&body).map_err(|_| "answered 200 with a body that is not JSON".to_owned())?;
            found(key, value).map_err(|why| format!("answered 200 with a body that {why}"))
        }
        Answer::Reply { status, .. } => Err(format!("answered {status}")),
        Answer::Failed { why } => Err(format!("failed: {why}")),
    }
}

/// Reads the body of a 200: what was asked for, or where the team's own resolver says so, nothing.
fn found(key: &Key, value: Value) -> Result<Option<Found>, &'static str> {
    let named = |name: &Value| match name.as_str().and_then(|name| Identifier::parse(name.as_bytes())) {
        Some(identifier) => Ok(Some(Found::Named(identifier))),
        None => Err("has a tenantId that is not an identifier"),
    };
    match key {
        Key::Tenant(asked) => {
            let tenant = Tenant::parse(value)?;
            // An answer about somebody else, from a cache or a mistaken service, must not become this request's tenant.
            if !tenant.answers_to(asked) {
                return Err("is another tenant than the one asked for");
            }
            Ok(Some(Found::Tenant(Rc::new(tenant))))
        }
        Key::Domain(_) => match value.get("tenantId") {
            Some(name) if value.get("id").is_none() => named(name),
            _ => Ok(Some(Found::Tenant(Rc::new(Tenant::parse(value)?)))),
        },
        Key::Custom(_) => match value.get("tenantId") {
            Some(Value::Null) => Ok(None),
            Some(name) => named(name),
            None => Err("has no tenantId"),
        },
    }
}
