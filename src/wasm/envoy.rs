//! Envoy, as the filter's core sees it.
//!
//! A callout's answer goes to the context that asked, and one that was asked for a request is lost with it. So the root context
//! asks, also in a request's callback, where it is made the effective context for a moment. Waking it by a queue to send what
//! requests need cost 14 µs a callout.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::hostcalls::{self, Metric};
use crate::host::{Body, CallId, Callout, Host, Version, WorkerId};
use crate::jwt::Signatures;
use crate::protobuf::push_bytes;

/// Envoy, for one worker.
pub struct Envoy {
    /// The root context.
    root: u32,
    /// The context whose callback this is.
    current: Cell<u32>,
    queue: Cell<Option<u32>>,
    /// The time, where this callback has asked for it before: each question costs 0.1 µs.
    now: Cell<Option<SystemTime>>,
    monotonic: Cell<Option<Duration>>,
    last_call: Cell<u64>,
    /// Callouts that could not be sent, and why.
    unsent: RefCell<Vec<(CallId, &'static str)>>,
    /// Callouts under way, by Envoy's tokens.
    sent: RefCell<HashMap<u32, Sent>>,
    /// How long callouts take, by cluster.
    durations: RefCell<HashMap<String, Option<u32>>>,
}

/// A callout under way.
struct Sent {
    call: CallId,
    cluster: String,
    at: SystemTime,
    answer_limit: usize,
}

impl Envoy {
    /// Envoy for that root context, without a queue.
    pub fn new(root: u32) -> Self {
        Self {
            root,
            current: Cell::new(root),
            queue: Cell::new(None),
            now: Cell::new(None),
            monotonic: Cell::new(None),
            last_call: Cell::new(0),
            unsent: RefCell::default(),
            sent: RefCell::default(),
            durations: RefCell::default(),
        }
    }

    /// Takes the queue that wakes the root context.
    pub fn use_queue(&self, queue: Option<u32>) {
        self.queue.set(queue);
    }

    /// From here on it is later, and a context's callback. Whatever one callback does happens at one time.
    pub fn begin_callback(&self, context: u32) {
        self.current.set(context);
        self.now.set(None);
        self.monotonic.set(None);
    }

    /// The callouts that could not be sent, and why.
    pub fn take_unsent(&self) -> Vec<(CallId, &'static str)> {
        self.unsent.take()
    }

    /// Notes that Envoy has an answer for a token: to which callout, and how large it may be.
    pub fn note_answered(&self, token: u32) -> Option<(CallId, usize)> {
        let sent = self.sent.borrow_mut().remove(&token)?;
        let took = SystemTime::now().duration_since(sent.at).unwrap_or_default().as_millis();
        let mut durations = self.durations.borrow_mut();
        let metric = match durations.get(&sent.cluster) {
            Some(metric) => *metric,
            None => {
                let name = format!("tenancy.callout.cluster.{}.duration_ms", sent.cluster);
                let metric = hostcalls::define_metric(Metric::Histogram, &name);
                durations.insert(sent.cluster, metric);
                metric
            }
        };
        if let Some(metric) = metric {
            hostcalls::record(metric, u64::try_from(took).unwrap_or(u64::MAX));
        }
        Some((sent.call, sent.answer_limit))
    }

    /// Sends a callout of the root context.
    fn send(&self, call: CallId, callout: &Callout) -> Result<(), &'static str> {
        let timeout = u32::try_from(callout.timeout.as_millis()).unwrap_or(u32::MAX);
        let current = self.current.get();
        if current != self.root && !hostcalls::set_effective_context(self.root) {
            return Err("Envoy has no root context any more");
        }
        let sent = match &callout.body {
            Body::None => send_http(callout, "GET", &[], timeout),
            Body::Json(body) => send_http(callout, "POST", body, timeout),
            Body::Grpc(message) => send_grpc(callout, message, timeout),
        };
        if current != self.root {
            hostcalls::set_effective_context(current);
        }
        let token = sent?;
        let (cluster, at, answer_limit) = (callout.cluster.clone(), SystemTime::now(), callout.answer_limit);
        self.sent.borrow_mut().insert(token, Sent { call, cluster, at, answer_limit });
        Ok(())
    }
}

/// Why a callout with that status could not be sent.
fn why_unsent(status: u32) -> &'static str {
    match status {
        hostcalls::BAD_ARGUMENT => "Envoy has no cluster of that name",
        _ => "no endpoint, or a full circuit breaker",
    }
}

fn send_http(callout: &Callout, method: &str, body: &[u8], timeout: u32) -> Result<u32, &'static str> {
    let mut headers: Vec<(&str, &[u8])> = vec![
        (":method", method.as_bytes()),
        (":path", callout.path.as_bytes()),
        (":authority", callout.cluster.as_bytes()),
        ("accept", b"application/json"),
    ];
    if callout.body != Body::None {
        headers.push(("content-type", b"application/json"));
    }
    headers.extend(callout.headers.iter().map(|(name, value)| (*name, value.as_slice())));
    hostcalls::http_call(&callout.cluster, &headers, body, timeout).map_err(why_unsent)
}

fn send_grpc(callout: &Callout, message: &[u8], timeout: u32) -> Result<u32, &'static str> {
    let Some((service, method)) = callout.path.trim_start_matches('/').split_once('/') else {
        return Err("no gRPC method");
    };
    let metadata: Vec<(&str, &[u8])> = callout.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    // Envoy takes a GrpcService here: envoy_grpc = 1, and in it cluster_name = 1.
    let mut envoy_grpc = Vec::new();
    push_bytes(&mut envoy_grpc, 1, callout.cluster.as_bytes());
    let mut target = Vec::new();
    push_bytes(&mut target, 1, &envoy_grpc);
    hostcalls::grpc_call(&target, service, method, &metadata, message, timeout).map_err(why_unsent)
}

impl Signatures for Envoy {
    fn verify_signature(&self, arguments: &[u8]) -> Option<Vec<u8>> {
        hostcalls::call_foreign_function("verify_signature", arguments)
    }
}

impl Host for Envoy {
    fn now(&self) -> SystemTime {
        let now = self.now.get().unwrap_or_else(SystemTime::now);
        self.now.set(Some(now));
        now
    }

    fn monotonic(&self) -> Duration {
        let now = self.monotonic.get().unwrap_or_else(hostcalls::monotonic);
        self.monotonic.set(Some(now));
        now
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        hostcalls::shared_data_version(key).0
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        // A value that can't be shared is looked up again by the other workers, and that is all.
        hostcalls::set_shared_data(key, value.unwrap_or_default(), hostcalls::ANY_VERSION);
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let (held, version) = hostcalls::shared_data_version(key);
        (held, Version(version))
    }

    fn replace_shared(&self, key: &str, new: &[u8], version: Version) -> bool {
        hostcalls::set_shared_data(key, new, version.0)
    }

    fn worker(&self) -> WorkerId {
        WorkerId(self.queue.get().unwrap_or(u32::MAX))
    }

    fn post(&self, to: WorkerId, letter: &[u8]) -> bool {
        hostcalls::enqueue(to.0, letter)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        hostcalls::property(&path.join("\0"))
    }

    fn call(&self, callout: Callout) -> CallId {
        let call = CallId(self.last_call.get().wrapping_add(1));
        self.last_call.set(call.0);
        if let Err(why) = self.send(call, &callout) {
            // Whoever asks expects the answer later. The queue wakes the root context; if that fails, the next tick has it.
            self.unsent.borrow_mut().push((call, why));
            if let Some(queue) = self.queue.get() {
                hostcalls::enqueue(queue, &[]);
            }
        }
        call
    }
}
