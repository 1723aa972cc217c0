//! What a service has answered, how old that is, and how it is read.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Key, Lookup, Usage};
use crate::config::Source;
use crate::host::{Answer, unix_seconds};
use crate::tenant::{Identifier, Tenant};

/// What the service answered to one question, and when it was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// When it was asked for: the answer was true then or later.
    pub asked_at: SystemTime,
    /// The answer.
    pub found: Found,
    /// Which snapshot of the directory it is from; 0 for one that was asked for by itself.
    pub generation: u64,
    /// Up to which version of the snapshot it is known to be so.
    pub version: u64,
}

/// What workers share under a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Shared {
    /// An answer.
    Held(Held),
    /// A record of this snapshot that can't be understood.
    Broken(u64),
}

impl Shared {
    /// Reads it.
    pub fn from_bytes(key: &Key, bytes: &[u8]) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(bytes).ok()?;
        if let Some(generation) = value.get("broken") {
            return generation.as_u64().map(Self::Broken);
        }
        let asked_at = UNIX_EPOCH.checked_add(Duration::from_millis(value.get("askedAt")?.as_u64()?))?;
        let generation = value.get("generation").and_then(Value::as_u64).unwrap_or(0);
        let found = found(key, value.get_mut("answer")?.take()).ok()??;
        Some(Self::Held(Held { asked_at, found, generation, version: 0 }))
    }

    /// Writes that a record can't be understood.
    pub fn broken(generation: u64) -> Vec<u8> {
        json!({"broken": generation}).to_string().into_bytes()
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A tenant.
    Tenant(Rc<Tenant>),
    /// The name of one.
    Named(Identifier),
    /// How much is used, and what this proxy had counted by itself when it asked.
    Usage {
        /// The application's figure.
        usage: u64,
        /// The proxy's own.
        mark: u64,
    },
}

impl Found {
    /// Notes what this proxy had counted when it asked.
    pub fn with_mark(self, mark: u64) -> Self {
        match self {
            Self::Usage { usage, .. } => Self::Usage { usage, mark },
            other => other,
        }
    }
}

impl Held {
    /// What it says.
    pub fn lookup(&self) -> Lookup {
        match &self.found {
            Found::Tenant(tenant) => Lookup::Tenant(Rc::clone(tenant)),
            Found::Named(identifier) => Lookup::Named(identifier.clone()),
            Found::Usage { usage, mark } => {
                Lookup::Usage(Usage { usage: *usage, mark: *mark, asked_at: self.asked_at_seconds() })
            }
        }
    }

    /// Whether it was asked for in the period that began then, in Unix seconds; what isn't a usage has no period.
    pub fn is_of(&self, since: i64) -> bool {
        !matches!(self.found, Found::Usage { .. }) || self.asked_at_seconds() >= since
    }

    fn asked_at_seconds(&self) -> i64 {
        unix_seconds(self.asked_at)
    }

    /// How old it is.
    pub fn age(&self, now: SystemTime) -> Duration {
        age(self.asked_at, now)
    }

    /// Whether it serves without a question.
    pub fn is_fresh(&self, source: &Source, now: SystemTime) -> bool {
        self.age(now) < source.cache
    }

    /// Whether it may serve where the service gives no answer.
    pub fn may_serve_stale(&self, source: &Source, now: SystemTime) -> bool {
        self.age(now) < source.cache.saturating_add(source.stale)
    }

    /// As workers share it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let asked_at = self.asked_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let answer = match &self.found {
            Found::Tenant(tenant) => serde_json::to_string(&tenant.record).unwrap_or_default(),
            Found::Named(identifier) => json!({"tenantId": identifier.as_str()}).to_string(),
            Found::Usage { usage, mark } => json!({"usage": usage, "mark": mark}).to_string(),
        };
        format!(r#"{{"askedAt":{asked_at},"generation":{},"answer":{answer}}}"#, self.generation).into_bytes()
    }
}

/// How old something is. A clock that was set back makes it old rather than young for ever: then it is asked again.
pub fn age(asked_at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(asked_at).unwrap_or(Duration::MAX)
}

/// Why something is no answer, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The service gives none: others asked for now would fare no better.
    Service(String),
    /// It says something that can't be understood, of this one name.
    Record(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(why) | Self::Record(why) => f.write_str(why),
        }
    }
}

/// Reads a service's answer: found, doesn't exist, or no answer at all, and why.
pub fn read(key: &Key, answer: Answer) -> Result<Option<Found>, NoAnswer> {
    match answer {
        // A tenant that was found has a usage, if it be 0; a path where nobody knows it must not make its limit void.
        Answer::Reply { status: 404, .. } if !matches!(key, Key::Usage(..)) => Ok(None),
        Answer::Reply { status: 200, body } => {
            let record = |why: &str| NoAnswer::Record(format!("answered 200 with a body that {why}"));
            let value = serde_json::from_slice(&body).map_err(|_| record("is not JSON"))?;
            found(key, value).map_err(record)
        }
        // Overload, and what Envoy says of a service that can't be reached or takes too long. Any other status may be about
        // this one name, and whoever finds such names must not be able to make the service look silent.
        Answer::Reply { status: status @ (429 | 503 | 504), .. } => {
            Err(NoAnswer::Service(format!("answered {status}")))
        }
        Answer::Reply { status, .. } => Err(NoAnswer::Record(format!("answered {status}"))),
        Answer::TooLarge => Err(NoAnswer::Record("answered more than is read".to_owned())),
        Answer::Failed { why } => Err(NoAnswer::Service(format!("failed: {why}"))),
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
        Key::Usage(..) => {
            let number = |name: &str| value.get(name).and_then(Value::as_u64);
            let usage = number("usage").ok_or("has no usage that is a whole number")?;
            Ok(Some(Found::Usage { usage, mark: number("mark").unwrap_or(0) }))
        }
    }
}
