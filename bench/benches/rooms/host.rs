//! A host whose clock stands still, and which holds what it is given.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::host::{CallId, Callout, Host, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;

/// Each value with the number of times that its key was written.
#[derive(Default)]
pub struct StillHost {
    shared: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    calls: Cell<u64>,
}

impl Signatures for StillHost {
    fn verify_signature(&self, _: &[u8]) -> Option<Vec<u8>> {
        // Then the filter verifies by itself.
        None
    }
}

impl Host for StillHost {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1000)
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.shared_version(key).0
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        let mut shared = self.shared.borrow_mut();
        let entry = shared.entry(key.to_owned()).or_default();
        *entry = (value.unwrap_or_default().to_vec(), entry.1 + 1);
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let shared = self.shared.borrow();
        let entry = shared.get(key);
        let value = entry.map(|(value, _)| value.clone()).filter(|value| !value.is_empty());
        (value, Version(entry.map_or(0, |(_, version)| *version)))
    }

    fn replace_shared(&self, key: &str, new: &[u8], version: Version) -> bool {
        let is_same = self.shared_version(key).1 == version;
        if is_same {
            self.set_shared(key, Some(new));
        }
        is_same
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn post(&self, _: WorkerId, _: &[u8]) -> bool {
        false
    }

    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn call(&self, _: Callout) -> CallId {
        self.calls.set(self.calls.get() + 1);
        CallId(self.calls.get())
    }
}
