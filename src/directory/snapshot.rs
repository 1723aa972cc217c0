//! The whole directory, held by all workers of a proxy: one worker reads it page by page, and then what has changed.
//!
//! A snapshot is an entry in shared data for each name, apart from those of single lookups, and a **marker**: which generation of
//! entries is whole, and when the directory was last asked and confirmed it. While the marker is young a name that has no
//! entry of its generation doesn't exist, and nobody has to be asked. When it grows old, because the directory gives no
//! answer, entries age like any other answer, and names are looked up one by one again; of the two the younger one counts.
//!
//! Who reads is decided by a lease in shared data, so that one worker does, and another one goes on where it crashed. A read
//! of the whole directory writes entries of a new generation; only when the last page is here does the marker name it. So a
//! read that breaks off changes nothing but entries that the directory has just confirmed.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Key;
use super::held::{Found, Held, Shared, age};
use super::service::{Service, jitter};
use crate::config::SnapshotSettings;
use crate::host::{Answer, Body, CallId, Callout, Host};
use crate::tenant::{Identifier, Tenant};

/// The largest page that is read.
pub const MAX_PAGE_BYTES: usize = 8 << 20;
/// How long a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker that reads may be silent until another one takes over. It renews its lease with every tick.
const LEASE: Duration = Duration::from_secs(5);
/// How many faults of one page are logged one by one.
const FAULTS_SHOWN: usize = 5;

/// One worker's part in the snapshot.
pub struct Snapshot {
    settings: SnapshotSettings,
    owner: u64,
    marker: Option<Marker>,
    reading: Option<Reading>,
    flight: Option<CallId>,
    next_read: Option<SystemTime>,
    failures: u32,
    /// Set where the directory no longer knows our cursor.
    start_over: bool,
}

/// What is whole, as all workers share it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marker {
    /// Entries of this generation or a later one exist; older ones don't any more.
    generation: u64,
    /// Another one for each change, so that workers know what they remember is still so.
    version: u64,
    /// When the directory was asked for what the marker says.
    confirmed_at: SystemTime,
    /// Where changes are asked for; without one the whole directory is read each time.
    cursor: Option<String>,
    /// Of all pages of the last whole read: the same again is no change.
    digest: u64,
}

/// A read that is under way.
struct Reading {
    generation: u64,
    started_at: SystemTime,
    after: Option<String>,
    /// Whether only changes are read.
    changes_only: bool,
    /// What has changed, in order.
    changes: Vec<Value>,
    /// Names that their tenants no longer have; they are forgotten once the read is whole.
    given_up: HashSet<Identifier>,
    digest: DefaultHasher,
}

/// What the snapshot says of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Covered {
    /// This.
    Held(Held),
    /// That it didn't exist when the directory was last asked for changes.
    Unknown(SystemTime),
    /// Nothing: there is no snapshot, or none that is young, or its record of this name can't be understood.
    No,
}

impl Snapshot {
    /// A part that has read nothing yet.
    pub fn new(settings: SnapshotSettings) -> Self {
        let owner = RandomState::new().hash_one("snapshot");
        Self {
            settings,
            owner,
            marker: None,
            reading: None,
            flight: None,
            next_read: None,
            failures: 0,
            start_over: false,
        }
    }

    /// Learns what other workers have read, and reads if it is this worker's turn.
    pub fn tick(&mut self, service: &Service, host: &dyn Host) {
        let now = host.now();
        self.marker = host.shared(&service.control_key("marker")).and_then(|bytes| Marker::from_bytes(&bytes));
        let Some(last_generation) = self.renew_lease(service, None, host) else {
            self.reading = None;
            return;
        };
        let wait = |next: SystemTime| next.duration_since(now).is_ok_and(|left| left <= self.settings.interval());
        if self.flight.is_some() || self.next_read.is_some_and(wait) {
            return;
        }
        let marker = self.marker.as_ref().filter(|_| !self.start_over);
        let cursor = marker.and_then(|marker| marker.cursor.clone());
        let generation = match (&cursor, marker) {
            (Some(_), Some(marker)) => marker.generation,
            _ => {
                // Later than whatever an earlier read, by whomever, may have left behind. The lease remembers it.
                let known = self.marker.as_ref().map_or(0, |marker| marker.generation).max(last_generation);
                let generation = milliseconds(now).max(known.saturating_add(1));
                if self.renew_lease(service, Some(generation), host).is_none() {
                    return;
                }
                generation
            }
        };
        self.reading = Some(Reading {
            generation,
            started_at: now,
            changes_only: cursor.is_some(),
            after: cursor,
            changes: Vec::new(),
            given_up: HashSet::new(),
            digest: DefaultHasher::new(),
        });
        self.ask(service, host);
    }

    /// What the snapshot says of a name, while it is young; `remembered` is what this worker remembers of it.
    pub fn covers(
        &self,
        name: &Identifier,
        remembered: Option<&Held>,
        service: &Service,
        now: SystemTime,
        host: &dyn Host,
    ) -> Covered {
        let Some(marker) = self.marker.as_ref().filter(|marker| age(marker.confirmed_at, now) < service.source.cache)
        else {
            return Covered::No;
        };
        if let Some(held) = remembered {
            // This worker has looked it up since the directory was last asked for changes.
            if held.asked_at > marker.confirmed_at && held.is_fresh(&service.source, now) {
                return Covered::Held(held.clone());
            }
            if held.version == marker.version && held.generation >= marker.generation {
                return Covered::Held(marker.confirms(held.clone()));
            }
        }
        self.says(name, service, host)
    }

    /// What the last snapshot says of a name, however old it is.
    pub fn says(&self, name: &Identifier, service: &Service, host: &dyn Host) -> Covered {
        let Some(marker) = &self.marker else { return Covered::No };
        let shared = host.shared(&service.snapshot_key(name));
        match shared.and_then(|bytes| Shared::from_bytes(&Key::Tenant(name.clone()), &bytes)) {
            Some(Shared::Held(held)) if held.generation >= marker.generation => Covered::Held(marker.confirms(held)),
            Some(Shared::Broken(generation)) if generation >= marker.generation => Covered::No,
            _ => Covered::Unknown(marker.confirmed_at),
        }
    }

    /// Takes a page, and gives what to log; `None` if the answer isn't this snapshot's.
    pub fn land(&mut self, call: CallId, answer: &Answer, service: &Service, host: &dyn Host) -> Option<Vec<String>> {
        self.flight.take_if(|flight| *flight == call)?;
        // Whoever has the lease now reads by itself.
        let reading = self.reading.take().filter(|_| self.renew_lease(service, None, host).is_some());
        let Some(mut reading) = reading else { return Some(Vec::new()) };
        let page = match Page::read(answer) {
            Ok(page) if page.next.is_some() && page.next == reading.after => {
                Err("has a cursor that doesn't move".to_owned())
            }
            page => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(why) => {
                self.start_over |= matches!(answer, Answer::Reply { status: 410, .. });
                let pause =
                    Duration::from_secs(1).saturating_mul(1 << self.failures.min(5)).min(self.settings.interval());
                self.failures = self.failures.saturating_add(1);
                let now = host.now();
                self.next_read = now.checked_add(jitter(pause, call, now));
                return Some(vec![format!("the snapshot {why}")]);
            }
        };
        let mut faults = Vec::new();
        for record in page.tenants {
            record.to_string().hash(&mut reading.digest);
            if reading.changes_only {
                // They count together, once all are here: a slug that goes from one tenant to another is always somebody's.
                reading.changes.push(record);
            } else {
                faults.extend(store(record, &mut reading, service, host).err());
            }
        }
        match page.next {
            Some(next) => {
                reading.after = Some(next);
                self.reading = Some(reading);
                self.ask(service, host);
            }
            None => {
                let changes = std::mem::take(&mut reading.changes);
                let changed = !changes.is_empty();
                faults
                    .extend(changes.into_iter().filter_map(|record| store(record, &mut reading, service, host).err()));
                for name in &reading.given_up {
                    host.set_shared(&service.snapshot_key(name), None);
                }
                self.publish(&reading, changed, page.latest, service, host);
            }
        }
        if let more @ 1.. = faults.len().saturating_sub(FAULTS_SHOWN) {
            faults.truncate(FAULTS_SHOWN);
            faults.push(format!("{more} more of its tenants can't be understood"));
        }
        Some(faults.into_iter().map(|fault| format!("the snapshot: {fault}")).collect())
    }

    fn publish(
        &mut self,
        reading: &Reading,
        changed: bool,
        latest: Option<String>,
        service: &Service,
        host: &dyn Host,
    ) {
        let digest = reading.digest.finish();
        let before = self.marker.as_ref();
        let same = before.is_some_and(|marker| match reading.changes_only {
            true => !changed,
            false => marker.digest == digest,
        });
        // What is the same to the last byte is still of a new generation, but what workers remember of the old one holds.
        let version = before.map_or(1, |marker| marker.version.saturating_add(u64::from(!same)));
        let marker = Marker {
            generation: reading.generation,
            version,
            confirmed_at: reading.started_at,
            cursor: latest.or_else(|| reading.after.clone().filter(|_| reading.changes_only)),
            digest: if reading.changes_only { before.map_or(0, |marker| marker.digest) } else { digest },
        };
        host.set_shared(&service.control_key("marker"), Some(&marker.to_bytes()));
        self.marker = Some(marker);
        self.failures = 0;
        self.start_over = false;
        self.next_read = reading.started_at.checked_add(self.settings.interval());
    }

    fn ask(&mut self, service: &Service, host: &dyn Host) {
        let after = self.reading.as_ref().and_then(|reading| reading.after.as_deref());
        let mut path = self.settings.path.0.clone();
        if let Some(after) = after {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("after=");
            path.extend(utf8_percent_encode(after, NON_ALPHANUMERIC));
        }
        self.flight = Some(host.call(Callout {
            cluster: service.source.cluster.clone(),
            path,
            body: Body::None,
            headers: Vec::new(),
            timeout: PAGE_TIMEOUT,
            answer_limit: MAX_PAGE_BYTES,
        }));
    }

    /// Takes or renews the lease of whoever reads, and gives the generation of the last whole read that somebody began; `None`
    /// where another worker has it. `begun` is the generation of a whole read that begins now.
    fn renew_lease(&self, service: &Service, begun: Option<u64>, host: &dyn Host) -> Option<u64> {
        let key = service.control_key("lease");
        let held = host.shared(&key);
        let lease: Value = held.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let number = |name: &str| lease.get(name).and_then(Value::as_u64);
        let now = milliseconds(host.now());
        let length = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        // One that ends later than any lease was written before the clock was set back.
        let is_over = number("until").is_none_or(|until| until <= now || until > now.saturating_add(length));
        if number("owner") != Some(self.owner) && !is_over {
            return None;
        }
        let generation = begun.or(number("generation")).unwrap_or(0);
        let until = now.saturating_add(length);
        let renewed = json!({"owner": self.owner, "until": until, "generation": generation}).to_string();
        host.swap_shared(&key, held.as_deref(), renewed.as_bytes()).then_some(generation)
    }
}

/// Writes what a page says of one tenant, and notes the names that it gives up. The error names it, if it has a name.
fn store(record: Value, reading: &mut Reading, service: &Service, host: &dyn Host) -> Result<(), String> {
    let name = |field: &str| record.get(field)?.as_str().and_then(|name| Identifier::parse(name.as_bytes()));
    let (id, slug) = (name("id"), name("slug"));
    let held = |name: &Identifier| {
        let bytes = host.shared(&service.snapshot_key(name))?;
        match Shared::from_bytes(&Key::Tenant(name.clone()), &bytes)? {
            Shared::Held(Held { found: Found::Tenant(tenant), generation, .. }) => Some((tenant, generation)),
            _ => None,
        }
    };
    // A tenant whose slug changed, or that is gone, leaves its old names. After a whole read they are of an old generation, but
    // for those of a tenant that came twice in it, because it changed meanwhile.
    if let Some((old, generation)) = id.as_ref().and_then(held)
        && (reading.changes_only || generation == reading.generation)
    {
        for name in std::iter::once(&old.id).chain(&old.slug) {
            // One that has gone to another tenant meanwhile is that one's now.
            if held(name).is_none_or(|(now, _)| now.id == old.id) {
                reading.given_up.insert(name.clone());
            }
        }
    }
    if record.get("deleted") == Some(&Value::Bool(true)) {
        if let Some(id) = &id {
            // Also where its record could not be understood.
            reading.given_up.insert(id.clone());
        }
        return id.map(drop).ok_or_else(|| "a deleted tenant has no id".to_owned());
    }
    let mut write = |names: &[&Identifier], bytes: &[u8]| {
        for name in names {
            host.set_shared(&service.snapshot_key(name), Some(bytes));
            reading.given_up.remove(*name);
        }
    };
    match Tenant::parse(record) {
        Ok(tenant) => {
            let tenant = Rc::new(tenant);
            let found = Found::Tenant(Rc::clone(&tenant));
            let held = Held { asked_at: reading.started_at, found, generation: reading.generation, version: 0 };
            write(&std::iter::once(&tenant.id).chain(&tenant.slug).collect::<Vec<_>>(), &held.to_bytes());
            Ok(())
        }
        Err(why) => {
            let Some(id) = id else { return Err(format!("a record {why}")) };
            // It isn't unknown: the directory has it. Whoever asks for it, by either name, has it looked up by itself.
            write(&std::iter::once(&id).chain(&slug).collect::<Vec<_>>(), &Shared::broken(reading.generation));
            Err(format!("tenant {id} {why}"))
        }
    }
}

struct Page {
    tenants: Vec<Value>,
    next: Option<String>,
    latest: Option<String>,
}

impl Page {
    fn read(answer: &Answer) -> Result<Self, String> {
        let body = match answer {
            Answer::Reply { status: 200, body } => body,
            Answer::Reply { status, .. } => return Err(format!("answered {status}")),
            Answer::TooLarge => return Err(format!("has a page of more than {MAX_PAGE_BYTES} bytes")),
            Answer::Failed { why } => return Err(format!("failed: {why}")),
        };
        let mut page: Value = serde_json::from_slice(body).map_err(|_| "answered 200 with a page that is not JSON")?;
        let cursor = |value: Option<&Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(cursor)) if !cursor.is_empty() => Ok(Some(cursor.clone())),
            Some(_) => Err("answered 200 with a page whose cursor is not a string"),
        };
        let (next, latest) = (cursor(page.get("next"))?, cursor(page.get("latest"))?);
        match page.get_mut("tenants").map(Value::take) {
            Some(Value::Array(tenants)) => Ok(Self { tenants, next, latest }),
            _ => Err("answered 200 with a page that has no list of tenants".to_owned()),
        }
    }
}

impl Marker {
    /// What the snapshot holds of a name, as young as it was last confirmed.
    fn confirms(&self, held: Held) -> Held {
        Held { asked_at: held.asked_at.max(self.confirmed_at), version: self.version, ..held }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let confirmed_at = milliseconds(self.confirmed_at);
        json!({
            "generation": self.generation,
            "version": self.version,
            "confirmedAt": confirmed_at,
            "cursor": self.cursor,
            "digest": self.digest,
        })
        .to_string()
        .into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        Some(Self {
            generation: number("generation")?,
            version: number("version")?,
            confirmed_at: UNIX_EPOCH.checked_add(Duration::from_millis(number("confirmedAt")?))?,
            cursor: value.get("cursor").and_then(Value::as_str).map(str::to_owned),
            digest: number("digest")?,
        })
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
