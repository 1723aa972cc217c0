//! A host that knows nothing, and whose callouts are never answered.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::host::{Body, CallId, Callout, Host, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;

/// See above.
#[derive(Default)]
pub struct NoHost {
    /// What its clocks show.
    pub elapsed: Cell<Duration>,
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

    fn shared_version(&self, _key: &str) -> (Option<Vec<u8>>, Version) {
        (None, Version(0))
    }

    fn replace_shared(&self, _key: &str, _new: &[u8], _version: Version) -> bool {
        false
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

    fn shared(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }

    fn set_shared(&self, _key: &str, _value: Option<&[u8]>) {}

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
