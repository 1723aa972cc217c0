//! Usage and leases in Redis, for several `tenancyd` that count together.
//!
//! Each operation is one script, which Redis runs in one piece; there are no locks. The clock is Redis' own, so that no two
//! of us differ about which period lasts. Redis knows no calendar: we tell it what period we think lasts, and where its clock
//! says otherwise the script changes nothing and says what time it is.

pub mod link;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use redis::{FromRedisValue, Script};

use crate::calendar::{Kind, Period, Zone};
use crate::counts::{
    Clock, Entry, LEVEL, MAX_BEHIND, MAX_COUNTERS, MAX_PROXIES, Place, REMEMBERED, Target, Which, too_far_ahead,
    too_many_counters, too_many_proxies,
};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::lease::{Ask, Lease, Outcome, bounded};
use crate::store::directory::Page;
use link::Link;

/// How often a script is run again because Redis' clock is in another period than we thought.
const ATTEMPTS: usize = 4;
/// A page of usage ends once this many leases were added up for it: nobody else is served meanwhile.
const MAX_PAGE_ROWS: u32 = 10_000;
/// When a level "begins": the largest whole number that is exact in Lua, so that it is listed first.
const ALWAYS: i64 = 1 << 53;

/// A Redis.
pub struct Redis {
    link: Link,
    /// How far Redis' clock was ahead of ours when we last heard, in milliseconds.
    skew: AtomicI64,
    failures: AtomicU64,
    scripts: Scripts,
}

struct Scripts {
    lease: Script,
    find: Script,
    usage: Script,
    set: Script,
    set_level: Script,
    list: Script,
    forget: Script,
    ping: Script,
}

impl Redis {
    /// The one at this address. Nothing is asked of it yet, so it may be away.
    pub fn at(url: &str) -> Result<Self, String> {
        let link = Link::to(url)?;
        let script = |operation: &str| Script::new(&format!("{}{operation}", include_str!("redis/common.lua")));
        let scripts = Scripts {
            lease: script(include_str!("redis/lease.lua")),
            find: script(include_str!("redis/find.lua")),
            usage: script(include_str!("redis/usage.lua")),
            set: script(include_str!("redis/set.lua")),
            set_level: script(include_str!("redis/set_level.lua")),
            list: script(include_str!("redis/list.lua")),
            forget: script(include_str!("redis/forget.lua")),
            ping: Script::new("return {}"),
        };
        Ok(Self { link, skew: AtomicI64::new(0), failures: AtomicU64::new(0), scripts })
    }

    /// Takes over a proxy's message about a tenant's quota.
    pub async fn lease(
        &self,
        tenant: &str,
        quota: &Identifier,
        ask: &Ask,
        clock: &Clock,
        silence: i64,
    ) -> Result<Lease, Refusal> {
        // What no calendar reaches is refused by the script.
        let named = ask.period_start.and_then(|start| ask.zone.period(ask.kind, start).ok());
        let [named_start, named_end] = [named.map(|named| named.start), named.map(|named| named.end)].map(optional);
        let arguments = |period: Period| {
            vec![
                counter(quota, ask.kind.as_str(), ask.zone.as_str()),
                ask.proxy.to_string(),
                period.start.to_string(),
                period.end.to_string(),
                named_start.clone(),
                named_end.clone(),
                ask.sequence.to_string(),
                ask.limit.to_string(),
                ask.used.to_string(),
                ask.up_to.to_string(),
                optional(ask.period_start),
                ask.kind.leases_kept().to_string(),
                ask.kind.totals_kept().to_string(),
                silence.to_string(),
                clock.ahead().to_string(),
                MAX_COUNTERS.to_string(),
                MAX_PROXIES.to_string(),
                REMEMBERED.to_string(),
                MAX_BEHIND.to_string(),
            ]
        };
        let answer = self.by_clock(&self.scripts.lease, tenant, clock, ask.kind, &ask.zone, arguments).await?;
        let [start, end, now, granted, usage, leased, outcome, grown] = answer.as_slice() else {
            return Err(foreign(&answer));
        };
        let outcome = match outcome.as_str() {
            "granted" => Outcome::Granted(number(grown)?),
            "refused" => Outcome::Refused,
            _ => Outcome::Settled,
        };
        let period = Period { start: number(start)?, end: number(end)? };
        let (granted, usage, leased) = (number(granted)?, number(usage)?, number(leased)?);
        Ok(Lease { period, now: number(now)?, granted, usage, leased, outcome })
    }

    /// How much of a quota is used: in the period that lasts, or of the level.
    pub async fn usage(&self, tenant: &str, quota: &Identifier, which: &Which, clock: &Clock) -> Result<i64, Refusal> {
        let Some(target) = self.find(tenant, quota, which).await? else { return Ok(0) };
        let counter = counter(quota, target.kind(), target.zone());
        let answer = match &target {
            Target::Period(kind, zone) => {
                let arguments = |period: Period| {
                    vec![counter.clone(), period.start.to_string(), period.end.to_string(), clock.ahead().to_string()]
                };
                self.by_clock(&self.scripts.usage, tenant, clock, *kind, zone, arguments).await?
            }
            Target::Level => checked(self.run(&self.scripts.usage, tenant, vec![counter, ALWAYS.to_string()]).await?)?,
        };
        match answer.as_slice() {
            [usage] => number(usage),
            _ => Err(foreign(&answer)),
        }
    }

    /// A tenant's usage after this place, newest periods first.
    pub async fn list(
        &self,
        tenant: &str,
        after: Option<&Place>,
        limit: usize,
        clock: &Clock,
        silence: i64,
    ) -> Result<Page<Entry>, Refusal> {
        let (start, after) = match after {
            Some(place) => {
                let counter = format!("{} {} {}", place.quota, place.kind, place.zone);
                (place.start.unwrap_or(ALWAYS).to_string(), counter)
            }
            None => (String::new(), String::new()),
        };
        let arguments = vec![
            start,
            after,
            limit.to_string(),
            silence.to_string(),
            clock.ahead().to_string(),
            MAX_PAGE_ROWS.to_string(),
        ];
        let (found, more): (Vec<Vec<String>>, String) = self.run(&self.scripts.list, tenant, arguments).await?;
        let items = found.iter().map(|entry| as_entry(entry)).collect::<Result<Vec<_>, _>>()?;
        let next = items.last().filter(|_| more == "more").map(|last| last.place.to_string());
        Ok(Page { items, next })
    }

    /// Sets how much of a quota is used. What lies in abandoned leases comes back.
    pub async fn set(
        &self,
        tenant: &str,
        quota: &Identifier,
        target: &Target,
        usage: i64,
        clock: &Clock,
        silence: i64,
    ) -> Result<(), Refusal> {
        let Target::Period(kind, zone) = target else {
            return self.set_level(tenant, quota, Some(usage), clock).await;
        };
        let arguments = |period: Period| {
            vec![
                counter(quota, kind.as_str(), zone.as_str()),
                period.start.to_string(),
                period.end.to_string(),
                usage.to_string(),
                kind.leases_kept().to_string(),
                kind.totals_kept().to_string(),
                silence.to_string(),
                clock.ahead().to_string(),
                MAX_COUNTERS.to_string(),
            ]
        };
        self.by_clock(&self.scripts.set, tenant, clock, *kind, zone, arguments).await.map(|_| ())
    }

    /// Sets how much of a quota is used to nothing, or forgets its level.
    pub async fn reset(
        &self,
        tenant: &str,
        quota: &Identifier,
        which: &Which,
        clock: &Clock,
        silence: i64,
    ) -> Result<(), Refusal> {
        match self.find(tenant, quota, which).await? {
            None => Ok(()),
            Some(Target::Level) => self.set_level(tenant, quota, None, clock).await,
            Some(target) => self.set(tenant, quota, &target, 0, clock, silence).await,
        }
    }

    /// Forgets all that a tenant has used.
    pub async fn forget(&self, tenant: &str) -> Result<(), Refusal> {
        self.run::<Vec<String>>(&self.scripts.forget, tenant, Vec::new()).await.map(|_| ())
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.run::<Vec<String>>(&self.scripts.ping, "", Vec::new()).await.map(|_| ())
    }

    /// How often Redis gave no answer, or a wrong one.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    async fn find(&self, tenant: &str, quota: &Identifier, which: &Which) -> Result<Option<Target>, Refusal> {
        let arguments = [quota.as_str(), which.kind().unwrap_or_default(), which.zone().unwrap_or_default()];
        let found: Vec<String> = self.run(&self.scripts.find, tenant, arguments.map(str::to_owned).to_vec()).await?;
        match found.as_slice() {
            [] => Ok(None),
            [kind, zone] => Target::stored(kind, zone).map(Some),
            _ => Err(foreign(&found)),
        }
    }

    async fn set_level(
        &self,
        tenant: &str,
        quota: &Identifier,
        usage: Option<i64>,
        clock: &Clock,
    ) -> Result<(), Refusal> {
        let arguments = vec![
            counter(quota, LEVEL, ""),
            ALWAYS.to_string(),
            optional(usage),
            clock.ahead().to_string(),
            MAX_COUNTERS.to_string(),
        ];
        checked(self.run(&self.scripts.set_level, tenant, arguments).await?).map(|_| ())
    }

    /// Runs a script with the period that lasts by Redis' clock, and gives what it answers to that.
    async fn by_clock(
        &self,
        script: &Script,
        tenant: &str,
        clock: &Clock,
        kind: Kind,
        zone: &Zone,
        arguments: impl Fn(Period) -> Vec<String>,
    ) -> Result<Vec<String>, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = clock.now().saturating_add(self.skew.load(Ordering::Relaxed));
            let period = zone.period(kind, now.div_euclid(1000))?;
            let answer: Vec<String> = self.run(script, tenant, arguments(period)).await?;
            match answer.as_slice() {
                [word, now] if word == "clock" => {
                    self.skew.store(number(now)?.saturating_sub(clock.now()), Ordering::Relaxed);
                }
                _ => return checked(answer),
            }
        }
        Err(Refusal::Unavailable("Redis' clock doesn't keep still".to_owned()))
    }

    /// Runs a script. Every script may be run twice.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        tenant: &str,
        arguments: Vec<String>,
    ) -> Result<T, Refusal> {
        // An identifier has no braces, so these keep all keys of a tenant together.
        let mut invocation = script.key(format!("tenancyd:{{{tenant}}}:"));
        for argument in arguments {
            invocation.arg(argument);
        }
        let invocation = &invocation;
        let done = self.link.ask(|mut connection| async move { invocation.invoke_async(&mut connection).await }).await;
        if done.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

/// What follows the first word of a script's answer, if that isn't a refusal.
fn checked(answer: Vec<String>) -> Result<Vec<String>, Refusal> {
    let words: Vec<&str> = answer.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ok", ..] => Ok(answer.into_iter().skip(1).collect()),
        ["refused", "ahead"] => Err(too_far_ahead()),
        ["refused", "counters"] => Err(too_many_counters()),
        ["refused", "proxies"] => Err(too_many_proxies()),
        _ => Err(foreign(&answer)),
    }
}

fn as_entry(entry: &[String]) -> Result<Entry, Refusal> {
    let [counter, start, end, usage, leased, abandoned] = entry else { return Err(foreign(entry)) };
    let mut parts = counter.splitn(3, ' ');
    let [Some(quota), Some(kind), Some(zone)] =
        [parts.next(), parts.next(), parts.next()].map(|part| part.map(str::to_owned))
    else {
        return Err(foreign(entry));
    };
    let period = Some((number(start)?, number(end)?)).filter(|_| kind != LEVEL);
    let place = Place { start: period.map(|(start, _)| start), quota, kind, zone };
    let (usage, leased, abandoned) = (number(usage)?, number(leased)?, number(abandoned)?);
    Ok(Entry { place, end: period.map(|(_, end)| end), usage, leased, abandoned })
}

/// How Redis calls a counter. No part of it has a space.
fn counter(quota: &Identifier, kind: &str, zone: &str) -> String {
    format!("{quota} {kind} {zone}")
}

fn optional(number: Option<i64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

fn number(text: &str) -> Result<i64, Refusal> {
    text.parse().map(bounded).map_err(|error| Refusal::Internal(format!("Redis: {text:?} is no number: {error}")))
}

fn foreign(answer: &[String]) -> Refusal {
    Refusal::Internal(format!("Redis: no answer of a script of ours: {answer:?}"))
}
