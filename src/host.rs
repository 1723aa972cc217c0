//! What the filter asks of the proxy in the middle of a decision, and no more. Everything else is a returned value.

use std::time::{Duration, SystemTime};

use crate::jwt::Signatures;

/// A request under way, for as long as the proxy knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// A callout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// A question to another service over HTTP: a GET, or with a body a POST of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// The Envoy cluster to ask.
    pub cluster: String,
    /// The request target.
    pub path: String,
    /// JSON to post.
    pub body: Option<Vec<u8>>,
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

/// The proxy, as the filter needs it.
pub trait Host: Signatures {
    /// The time.
    fn now(&self) -> SystemTime;

    /// What all workers of this proxy hold under a key.
    fn shared(&self, key: &str) -> Option<Vec<u8>>;

    /// Holds a value under a key for all workers, or forgets it. Another worker's value is overwritten.
    fn set_shared(&self, key: &str, value: Option<&[u8]>);

    /// Holds a value under a key for all workers where what is held there still is `old`; whether it was.
    fn swap_shared(&self, key: &str, old: Option<&[u8]>, new: &[u8]) -> bool;

    /// A value of Envoy's own about a request: a property, by its path.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// Starts a callout. Its answer always comes, later, through [`Filter::answer`](crate::filter::Filter::answer),
    /// even where it can't be sent; a request that ends meanwhile doesn't end it.
    fn call(&self, callout: Callout) -> CallId;
}
