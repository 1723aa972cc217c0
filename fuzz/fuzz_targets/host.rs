//! A host whose callouts are never answered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::host::{Body, CallId, Callout, Host, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;

/// See above.
#[derive(Default)]
pub struct NoHost {
    /// What its clocks show.
    pub elapsed: Cell<Duration>,
    /// Each value under its key, and how often it was set.
    shared: RefCell<HashMap<String, (Vec<u8>, u32)>>,
}

impl Signatures for NoHost {
    fn verify_signature(&self, _arguments: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl Host for NoHost {
    fn monotonic(&self) -> Duration {
        self.elapsed.get()
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let held = self.shared.borrow().get(key).cloned();
        let version = held.as_ref().map_or(0, |(_, version)| *version);
        (held.map(|(value, _)| value), Version(version))
    }

    fn replace_shared(&self, key: &str, new: &[u8], version: Version) -> bool {
        let is_it = self.shared_version(key).1 == version;
        if is_it {
            self.set_shared(key, Some(new));
        }
        is_it
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn post(&self, _to: WorkerId, _letter: &[u8]) -> bool {
        false
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.elapsed.get()
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.shared_version(key).0
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        let version = self.shared_version(key).1.0 + 1;
        self.shared.borrow_mut().insert(key.to_owned(), (value.unwrap_or_default().to_vec(), version));
    }

    fn call(&self, callout: Callout) -> CallId {
        if callout.body != Body::None {
            return CallId(2);
        }
        let graphic = callout.path.bytes().all(|byte| byte.is_ascii_graphic());
        let segments: Vec<&str> = callout.path.split('/').collect();
        let plain = segments.len() == 3 && !segments.iter().any(|segment| matches!(*segment, "." | ".."));
        assert!(graphic && plain, "{:?} reached a callout", callout.path);
        CallId(1)
    }
}
