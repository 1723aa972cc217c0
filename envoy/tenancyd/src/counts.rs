//! Usage and leases, wherever they are kept: what can be asked, and the bounds that hold in every keeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::calendar::{KINDS, Kind, Period, Zone};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::lease::{Ask, Lease, Outcome};
use crate::redis::Redis;
use crate::store::directory::{self, Page};
use crate::store::{self, Store};

/// The most counters that a tenant has: quotas, each by one kind of period and in one time zone.
pub const MAX_COUNTERS: i64 = 1000;
/// The most proxies whose leases are kept for one period; then the one that has been silent for longest makes room.
pub const MAX_PROXIES: i64 = 4096;
/// For how many milliseconds a silent proxy is sure not to make room for another.
pub const REMEMBERED: i64 = 3_600_000;
/// How many seconds this clock may be behind that of whoever named a period before.
pub const MAX_BEHIND: i64 = 24 * 3600;
/// The word for a quota that is a level, and has no periods.
pub const LEVEL: &str = "none";

/// What is set: the usage of the period that lasts, or a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A figure that has no periods.
    Level,
    /// The period of this kind that lasts in this zone.
    Period(Kind, Zone),
}

impl Target {
    /// The word for its periods.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Level => LEVEL,
            Self::Period(kind, _) => kind.as_str(),
        }
    }

    /// The name of its time zone; a level has none.
    pub fn zone(&self) -> &str {
        match self {
            Self::Level => "",
            Self::Period(_, zone) => zone.as_str(),
        }
    }

    /// What was kept under these words.
    pub fn stored(kind: &str, zone: &str) -> Result<Self, Refusal> {
        if kind == LEVEL {
            return Ok(Self::Level);
        }
        let known = Kind::parse(kind).zip(Zone::parse(zone)).map(|(kind, zone)| Self::Period(kind, zone));
        known.ok_or_else(|| Refusal::Internal(format!("a counter of {kind} in {zone}")))
    }
}

/// Which of a quota's counters is meant; of those that fit the one that was touched last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    kind: Option<&'static str>,
    zone: Option<Zone>,
}

impl Which {
    /// What a query says, if it says something known. The other way round: which of the two isn't known.
    pub fn parse(period: Option<&str>, timezone: Option<&str>) -> Result<Self, Vec<&'static str>> {
        let known = |word: &str| KINDS.iter().map(|(kind, _)| *kind).chain([LEVEL]).find(|kind| *kind == word);
        let (kind, zone) = (period.map(known), timezone.map(Zone::parse));
        let wrong = [("period", matches!(kind, Some(None))), ("timezone", matches!(zone, Some(None)))];
        let wrong: Vec<_> = wrong.into_iter().filter(|(_, wrong)| *wrong).map(|(name, _)| name).collect();
        match wrong.is_empty() {
            true => Ok(Self { kind: kind.flatten(), zone: zone.flatten() }),
            false => Err(wrong),
        }
    }

    /// The word for its periods.
    pub fn kind(&self) -> Option<&'static str> {
        self.kind
    }

    /// The name of its time zone.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_ref().map(Zone::as_str)
    }
}

/// Where an entry stands in a tenant's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When its period began; a level has none, and comes before all others.
    pub start: Option<i64>,
    /// The quota's key.
    pub quota: String,
    /// The word for its periods.
    pub kind: String,
    /// The name of its time zone, nothing for a level.
    pub zone: String,
}

impl Place {
    /// The place that was written like this.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ' ');
        let start = match parts.next()? {
            LEVEL => None,
            start => Some(start.parse().ok()?),
        };
        let [quota, kind, zone] = [parts.next()?, parts.next()?, parts.next()?].map(str::to_owned);
        Identifier::parse(&quota).map(|_| Self { start, quota, kind, zone })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.start {
            Some(start) => write!(f, "{start} ")?,
            None => write!(f, "{LEVEL} ")?,
        }
        write!(f, "{} {} {}", self.quota, self.kind, self.zone)
    }
}

/// What was counted in one period, or a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which quota, and when.
    pub place: Place,
    /// When the period ends.
    pub end: Option<i64>,
    /// Units used.
    pub usage: i64,
    /// Units that lie unused in leases.
    pub leased: i64,
    /// How many of these are leased to proxies that fell silent.
    pub abandoned: i64,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Place { start, quota, kind, zone } = &self.place;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("quotaKey", quota)?;
        map.serialize_entry("period", kind)?;
        map.serialize_entry("timezone", &Some(zone).filter(|zone| !zone.is_empty()))?;
        map.serialize_entry("periodStart", start)?;
        map.serialize_entry("resetsAt", &self.end)?;
        map.serialize_entry("usage", &self.usage)?;
        map.serialize_entry("leased", &self.leased)?;
        map.serialize_entry("abandoned", &self.abandoned)?;
        map.end()
    }
}

/// The period that a message names, or why it can't mean that.
pub fn named(ask: &Ask, start: i64, second: i64) -> Result<Period, Refusal> {
    // This clock may have gone back; but what is far ahead of it is nothing that it has ever told.
    if start > second.saturating_add(MAX_BEHIND) {
        return Err(too_far_ahead());
    }
    ask.zone.period(ask.kind, start)
}

/// Whether a report about this period, which is over, is still heard.
pub fn is_heard(kind: Kind, period: Period, second: i64) -> bool {
    second < period.end.saturating_add(kind.leases_kept())
}

/// No service can have named this period.
pub fn too_far_ahead() -> Refusal {
    Refusal::invalid("periodStart", "more than a day ahead of this service's clock")
}

/// A tenant can't have one counter more.
pub fn too_many_counters() -> Refusal {
    Refusal::invalid("path", format!("the tenant has {MAX_COUNTERS} counters already, by quota, period and time zone"))
}

/// A period can't have one proxy more.
pub fn too_many_proxies() -> Refusal {
    Refusal::Unavailable(format!("{MAX_PROXIES} proxies were heard of within the last hour for one quota"))
}

/// Usage and leases.
pub struct Counts {
    store: Arc<Store>,
    /// Where they are, if it isn't in the database.
    redis: Option<Redis>,
    silence: Duration,
    clock: Arc<Clock>,
    outcomes: Outcomes,
}

/// What came of the messages so far.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// How many brought units.
    pub granted: AtomicU64,
    /// How many asked for units and got none.
    pub refused: AtomicU64,
    /// How many asked for no more, or were heard before.
    pub settled: AtomicU64,
    /// How many units were granted.
    pub units: AtomicU64,
}

impl Counts {
    /// Those in Redis, or else in the database. After so much silence a proxy's units are shown as abandoned.
    pub fn new(store: Arc<Store>, redis: Option<Redis>, silence: Duration) -> Self {
        Self { store, redis, silence, clock: Arc::default(), outcomes: Outcomes::default() }
    }

    /// Takes over a message about a quota of the tenant with this id or slug, if there is one.
    pub async fn lease(&self, name: Identifier, quota: Identifier, ask: Ask) -> Result<Option<Lease>, Refusal> {
        let (clock, silence) = (self.clock.clone(), self.silence_ms());
        let lease = match &self.redis {
            Some(redis) => match self.tenant_id(name).await? {
                Some(tenant) => Some(redis.lease(&tenant, &quota, &ask, &clock, silence).await?),
                None => None,
            },
            None => {
                let job = move |connection: &Connection, tenant: &str| {
                    store::counts::lease(connection, tenant, &quota, &ask, clock.now(), silence)
                };
                self.store.write(for_tenant(name, job)).await?
            }
        };
        if let Some(lease) = &lease {
            self.outcomes.count(lease.outcome);
        }
        Ok(lease)
    }

    /// How much of a quota the tenant with this id or slug has used, if there is one.
    pub async fn usage(&self, name: Identifier, quota: Identifier, which: Which) -> Result<Option<i64>, Refusal> {
        let clock = self.clock.clone();
        if let Some(redis) = &self.redis {
            let Some(tenant) = self.tenant_id(name).await? else { return Ok(None) };
            return redis.usage(&tenant, &quota, &which, &clock).await.map(Some);
        }
        let job = move |connection: &Connection, tenant: &str| {
            store::counts::usage(connection, tenant, &quota, &which, clock.now())
        };
        self.store.read(for_tenant(name, job)).await
    }

    /// What the tenant with this id or slug has used, after this place of the list, if there is one.
    pub async fn list(
        &self,
        name: Identifier,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Option<Page<Entry>>, Refusal> {
        let (clock, silence) = (self.clock.clone(), self.silence_ms());
        if let Some(redis) = &self.redis {
            let Some(tenant) = self.tenant_id(name).await? else { return Ok(None) };
            return redis.list(&tenant, after.as_ref(), limit, &clock, silence).await.map(Some);
        }
        let job = move |connection: &Connection, tenant: &str| {
            let silent_before = clock.now().saturating_sub(silence);
            store::counts::list(connection, tenant, after.as_ref(), limit, silent_before)
        };
        self.store.read(for_tenant(name, job)).await
    }

    /// Sets how much of a quota the tenant with this id has used. Whether there is one.
    pub async fn set(&self, id: Identifier, quota: Identifier, target: Target, usage: i64) -> Result<bool, Refusal> {
        let (clock, silence) = (self.clock.clone(), self.silence_ms());
        let Some(tenant) = self.tenant_id(id.clone()).await?.filter(|tenant| tenant == id.as_str()) else {
            return Ok(false);
        };
        if let Some(redis) = &self.redis {
            return redis.set(&tenant, &quota, &target, usage, &clock, silence).await.map(|()| true);
        }
        let job = move |connection: &Connection, tenant: &str| {
            store::counts::set(connection, tenant, &quota, &target, usage, clock.now(), silence)
        };
        Ok(self.store.write(for_tenant(id, job)).await?.is_some())
    }

    /// Sets how much of a quota the tenant with this id has used to nothing, or forgets its level. Whether there is a tenant.
    pub async fn reset(&self, id: Identifier, quota: Identifier, which: Which) -> Result<bool, Refusal> {
        let (clock, silence) = (self.clock.clone(), self.silence_ms());
        let Some(tenant) = self.tenant_id(id.clone()).await?.filter(|tenant| tenant == id.as_str()) else {
            return Ok(false);
        };
        if let Some(redis) = &self.redis {
            return redis.reset(&tenant, &quota, &which, &clock, silence).await.map(|()| true);
        }
        let job = move |connection: &Connection, tenant: &str| {
            store::counts::reset(connection, tenant, &quota, &which, clock.now(), silence)
        };
        Ok(self.store.write(for_tenant(id, job)).await?.is_some())
    }

    /// Forgets what a tenant has used that is deleted; in the database that is so already.
    pub async fn forget(&self, id: &Identifier) -> Result<(), Refusal> {
        match &self.redis {
            Some(redis) => redis.forget(id.as_str()).await,
            None => Ok(()),
        }
    }

    /// Whether what keeps them answers, besides the database.
    pub async fn ping(&self) -> Result<(), Refusal> {
        match &self.redis {
            Some(redis) => redis.ping().await,
            None => Ok(()),
        }
    }

    /// How often Redis failed, if there is one.
    pub fn redis_failures(&self) -> Option<u64> {
        self.redis.as_ref().map(Redis::failures)
    }

    async fn tenant_id(&self, name: Identifier) -> Result<Option<String>, Refusal> {
        self.store.read(move |connection| directory::tenant_id(connection, &name)).await
    }

    /// After how many milliseconds of silence a proxy's units are shown as abandoned.
    pub fn silence_ms(&self) -> i64 {
        i64::try_from(self.silence.as_millis()).unwrap_or(i64::MAX)
    }

    /// What came of the messages so far.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// The clock, for tests to move.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// A job for the tenant with this id or slug, if there is one.
fn for_tenant<T>(
    name: Identifier,
    job: impl FnOnce(&Connection, &str) -> Result<T, Refusal>,
) -> impl FnOnce(&Connection) -> Result<Option<T>, Refusal> {
    move |connection| match directory::tenant_id(connection, &name)? {
        Some(tenant) => job(connection, &tenant).map(Some),
        None => Ok(None),
    }
}

impl Outcomes {
    fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Granted(units) => {
                self.units.fetch_add(units.unsigned_abs(), Ordering::Relaxed);
                &self.granted
            }
            Outcome::Refused => &self.refused,
            Outcome::Settled => &self.settled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The keeper's clock, and how far from it ours is.
#[derive(Debug, Default)]
pub struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    /// Moves it by so many milliseconds.
    pub fn move_by(&self, milliseconds: i64) {
        self.ahead.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// By how many milliseconds it was moved.
    pub fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(self.ahead())
    }
}
