//! What the filter asks of the proxy in the middle of a decision, and no more. Everything else is a returned value.

use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::jwt::Signatures;

/// A request under way, for as long as the proxy knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// Hashes the ids that Envoy itself gives out, one after the other: no client chooses them, so nothing need be mixed well.
pub type Ids = BuildHasherDefault<IdHasher>;

/// See [`Ids`].
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // An odd number near 2^64 divided by the golden ratio spreads neighbours over the high bits, which a table uses, too.
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A callout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// The address of a worker of this proxy: of one configuration of the filter in one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// Which of the values that were held under a key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u32);

/// What a question to another service carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: a GET.
    None,
    /// JSON: a POST.
    Json(Vec<u8>),
    /// A message to a gRPC method, whose path is `/package.Service/Method`. The reply's message comes as a body with status 200.
    Grpc(Vec<u8>),
}

/// A question to another service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// The Envoy cluster to ask.
    pub cluster: String,
    /// The request target.
    pub path: String,
    /// What it carries.
    pub body: Body,
    /// Headers beside the method, path and authority: the trace of the request that asks.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// The bound on the wait.
    pub timeout: Duration,
    /// The bound on the answer, in bytes.
    pub answer_limit: usize,
}

/// How a callout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The service answered, or Envoy did in its place: 503 for a refused connection, 504 for one that took too long.
    Reply {
        /// The status.
        status: u16,
        /// The whole body.
        body: Vec<u8>,
    },
    /// What came is larger than any answer.
    TooLarge,
    /// No answer came, or the question wasn't sent: no such cluster, no endpoint, a full circuit breaker.
    Failed {
        /// Why, for the log.
        why: &'static str,
    },
}

/// A time in whole Unix seconds; one before 1970 is taken for its beginning.
pub fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The proxy, as the filter needs it.
pub trait Host: Signatures {
    /// The time.
    fn now(&self) -> SystemTime;

    /// The time since some moment that is the same for all workers of this proxy. Nobody sets this clock.
    fn monotonic(&self) -> Duration;

    /// What all workers of this proxy hold under a key.
    fn shared(&self, key: &str) -> Option<Vec<u8>>;

    /// Holds a value under a key for all workers, or forgets it. Another worker's value is overwritten.
    fn set_shared(&self, key: &str, value: Option<&[u8]>);

    /// What all workers hold under a key, and the version to name where it is to be replaced.
    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version);

    /// Holds a value under a key for all workers where what is held there still has that version; whether it had.
    fn replace_shared(&self, key: &str, new: &[u8], version: Version) -> bool;

    /// Holds a value under a key for all workers where what is held there still is `old`; whether it was.
    fn swap_shared(&self, key: &str, old: Option<&[u8]>, new: &[u8]) -> bool {
        let (held, version) = self.shared_version(key);
        held.as_deref() == old && self.replace_shared(key, new, version)
    }

    /// The address of this worker, for letters of the others.
    fn worker(&self) -> WorkerId;

    /// Sends a letter to a worker; it comes through [`Filter::letter`](crate::filter::Filter::letter). Whether it is on its way:
    /// one to a worker that is gone isn't, or is lost.
    fn post(&self, to: WorkerId, letter: &[u8]) -> bool;

    /// A value of Envoy's own about a request: a property, by its path.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// Starts a callout. Its answer always comes, later, through [`Filter::answer`](crate::filter::Filter::answer),
    /// even where it can't be sent; a request that ends meanwhile doesn't end it.
    fn call(&self, callout: Callout) -> CallId;
}
