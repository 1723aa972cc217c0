//! A service that is asked: how many questions it gets at once, and how it is left alone while it gives no answers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use super::Key;
use super::held::{Held, Shared};
use crate::config::Source;
use crate::host::{CallId, Host};
use crate::tenant::Identifier;

/// How many different names in a row have to get no answer until the service as a whole is left alone. One name that the
/// service stumbles over isn't enough: it must not keep the others from being asked for.
const SILENT_NAMES: u32 = 3;
/// The first pause in which a silent service isn't asked at all; it doubles with every further silence.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause. It bounds how long after its return a service still looks silent.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A service to ask.
pub struct Service {
    /// Its settings.
    pub source: Source,
    /// Under which workers share its answers.
    shared_prefix: String,
    in_flight: usize,
    /// How many different names in a row got no answer.
    silent: u32,
    /// The first few of them.
    silent_names: Vec<Key>,
    paused_until: Option<SystemTime>,
}

/// Whether a question may go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// It may.
    Ask,
    /// The service gave no answers lately and is left alone for now.
    NotWhileSilent,
    /// Too many are under way.
    NotWhileBusy,
}

impl Service {
    /// A service that was never asked.
    pub fn new(source: Source) -> Self {
        // Two listeners with different directories may share one VM id, and so one space of shared data.
        let mut hasher = DefaultHasher::new();
        (&source.cluster, source.path.fill("")).hash(&mut hasher);
        let shared_prefix = format!("tenancy:1:{:016x}:", hasher.finish());
        Self { source, shared_prefix, in_flight: 0, silent: 0, silent_names: Vec::new(), paused_until: None }
    }

    /// Whether a question may go out now. Names that nothing is held of may take half of the callouts only: made-up ones,
    /// however many come, leave the other half to tenants that are known.
    pub fn may_ask(&self, known: bool, now: SystemTime) -> May {
        // A pause can't be longer than the longest one; if it looks so, the clock was set back.
        let paused =
            |until: SystemTime| until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= LONGEST_PAUSE);
        // A silence that is long past says nothing of now: who comes after a quiet hour isn't refused for it.
        let recent = |until: SystemTime| now.duration_since(until).is_ok_and(|since| since <= LONGEST_PAUSE);
        let probing = self.in_flight > 0 && self.paused_until.is_some_and(recent);
        if self.paused_until.is_some_and(paused) || (self.silent >= SILENT_NAMES && probing) {
            // After a pause one question goes first, and the others follow once it has an answer.
            return May::NotWhileSilent;
        }
        let most = if known { self.source.max_in_flight } else { self.source.max_in_flight.div_ceil(2) };
        if self.in_flight < most { May::Ask } else { May::NotWhileBusy }
    }

    /// Notes that a question goes out.
    pub fn asks(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// Notes that a question has got its answer.
    pub fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.silent = 0;
        self.silent_names.clear();
        self.paused_until = None;
    }

    /// Notes that a question got no answer.
    pub fn stayed_silent(&mut self, key: &Key, call: CallId, now: SystemTime) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.silent < SILENT_NAMES {
            if self.silent_names.contains(key) {
                return;
            }
            self.silent_names.push(key.clone());
        }
        self.silent = self.silent.saturating_add(1);
        if let Some(further) = self.silent.checked_sub(SILENT_NAMES) {
            let pause = FIRST_PAUSE.saturating_mul(1 << further.min(16)).min(LONGEST_PAUSE);
            self.paused_until = now.checked_add(jitter(pause, call, now));
        }
    }

    /// What a worker has looked up and shared.
    pub fn shared(&self, key: &Key, host: &dyn Host) -> Option<Held> {
        match Shared::from_bytes(key, &host.shared(&self.shared_key(key)?)?)? {
            Shared::Held(held) => Some(held),
            Shared::Broken(_) => None,
        }
    }

    /// Where workers share something about all names. No name has a colon, so no name's key is like that.
    pub fn control_key(&self, what: &str) -> String {
        [&self.shared_prefix, ":", what].concat()
    }

    /// Where workers share what the snapshot holds of a tenant's name.
    pub fn snapshot_key(&self, name: &Identifier) -> String {
        [&self.shared_prefix, ":name:", name.as_str()].concat()
    }

    /// Where workers share the answer: for names that the directory knows, of which there are only so many, and never for
    /// what clients make up.
    pub fn shared_key(&self, key: &Key) -> Option<String> {
        match key {
            Key::Tenant(_) | Key::Domain(_) | Key::Usage(..) => Some([&self.shared_prefix, key.name()].concat()),
            Key::Custom(_) => None,
        }
    }
}

/// Between half of a pause and the whole: so that workers and proxies that stopped asking together don't start together.
pub fn jitter(pause: Duration, call: CallId, now: SystemTime) -> Duration {
    let mut hasher = DefaultHasher::new();
    (call, now).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 512).unwrap_or_default();
    let half = pause.checked_div(2).unwrap_or_default();
    half.saturating_add(half.saturating_mul(share).checked_div(512).unwrap_or_default())
}
