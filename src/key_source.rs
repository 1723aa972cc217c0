//! When the keys of a JWKS URL are asked for: at the start, on time, and at once where a token shows that ours are old.
//!
//! A request whose token names a key that we don't have waits for a set that was asked for after it came: only then is it
//! sure that nobody we know signed it. So a key that its issuer uses from the moment it is published is never refused.
//! Questions are at least one second apart all the same, whatever clients send.

use std::time::{Duration, SystemTime};

use crate::config::RemoteJwks;
use crate::host::{Answer, Body, CallId, Callout, Host, RequestId};
use crate::jwt::{KeySet, MAX_KEY_SET_BYTES};

/// How far apart two questions are, at least.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// How far apart they are at most while the source gives no answer; the pause doubles up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many requests of a worker may wait for keys; one more is refused at once.
const MAX_WAITING: usize = 1000;

/// One worker's way to a key set.
pub struct KeySource {
    remote: RemoteJwks,
    /// When the set that we hold was asked for.
    held_since: Option<SystemTime>,
    flight: Option<(CallId, SystemTime)>,
    waiting: Vec<RequestId>,
    not_before: Option<SystemTime>,
    failures: u32,
}

/// What a tick of the clock changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// The keys hold, or there are none yet.
    Good,
    /// The keys are too old to be believed: the source gave no answer for too long.
    Over,
}

/// An answer that has come.
pub struct LandedKeys {
    /// The new keys, unless it was no answer: then those held go on.
    pub keys: Option<KeySet>,
    /// When they were asked for.
    pub asked_at: SystemTime,
    /// Who waited.
    pub waiting: Vec<RequestId>,
    /// What is wrong with it, for the log.
    pub faults: Vec<String>,
}

impl KeySource {
    /// A source that has asked nothing yet.
    pub fn new(remote: RemoteJwks) -> Self {
        Self { remote, held_since: None, flight: None, waiting: Vec::new(), not_before: None, failures: 0 }
    }

    /// When the set that we hold was asked for, if we hold one.
    pub fn held_since(&self) -> Option<SystemTime> {
        self.held_since
    }

    /// Asks if it is time to. To be called at the start, and about once a second.
    pub fn tick(&mut self, host: &dyn Host) -> Age {
        let now = host.now();
        let age = self.held_since.map(|since| now.duration_since(since).unwrap_or(Duration::MAX));
        let wanted = !self.waiting.is_empty() || age.is_none_or(|age| age >= self.remote.refresh);
        if wanted && self.may_ask(now) {
            self.ask(now, host);
        }
        if age.is_some_and(|age| age >= self.remote.refresh.saturating_add(self.remote.stale)) {
            self.held_since = None;
            return Age::Over;
        }
        Age::Good
    }

    /// Lets a request wait for the next key set; whether it may.
    pub fn wait(&mut self, id: RequestId, host: &dyn Host) -> bool {
        let now = host.now();
        let can_ask = self.may_ask(now);
        // While the source gives no answer, nobody waits for the end of a pause.
        if self.waiting.len() >= MAX_WAITING || (self.failures > 0 && self.flight.is_none() && !can_ask) {
            return false;
        }
        if can_ask {
            self.ask(now, host);
        }
        self.waiting.push(id);
        true
    }

    /// Takes a callout's answer; `None` if it isn't this source's.
    pub fn land(&mut self, call: CallId, answer: &Answer, host: &dyn Host) -> Option<LandedKeys> {
        let (_, asked_at) = self.flight.take_if(|(flight, _)| *flight == call)?;
        let fetched = match answer {
            Answer::Reply { status: 200, body } => KeySet::read(body),
            Answer::Reply { status, .. } => Err(format!("answered {status}")),
            Answer::TooLarge => Err("is larger than any key set".to_owned()),
            Answer::Failed { why } => Err(format!("failed: {why}")),
        };
        let waiting = std::mem::take(&mut self.waiting);
        match fetched {
            Ok(fetched) => {
                self.failures = 0;
                self.held_since = Some(asked_at);
                self.not_before = asked_at.checked_add(LEAST_INTERVAL);
                Some(LandedKeys { keys: Some(fetched.keys), asked_at, waiting, faults: fetched.skipped })
            }
            Err(why) => {
                let pause = LEAST_INTERVAL.saturating_mul(1 << self.failures.min(5)).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.not_before = host.now().checked_add(pause);
                Some(LandedKeys { keys: None, asked_at, waiting, faults: vec![why] })
            }
        }
    }

    fn may_ask(&self, now: SystemTime) -> bool {
        // A pause can't be longer than the longest one; if it looks so, the clock was set back.
        let paused =
            |until: SystemTime| until.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= LONGEST_PAUSE);
        self.flight.is_none() && !self.not_before.is_some_and(paused)
    }

    fn ask(&mut self, now: SystemTime, host: &dyn Host) {
        let call = host.call(Callout {
            cluster: self.remote.cluster.clone(),
            path: self.remote.path.clone(),
            body: Body::None,
            headers: Vec::new(),
            timeout: self.remote.timeout,
            answer_limit: MAX_KEY_SET_BYTES,
        });
        self.flight = Some((call, now));
    }
}
