//! The only file, with its child, that speaks proxy-wasm: Envoy's callbacks → [`Filter`] → Envoy's functions.

mod hostcalls;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use log::{debug, error, warn};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use self::hostcalls::{Buffer, Map, Metric};
use crate::config::{Config, header_value};
use crate::filter::{Event, Filter, Happening, HeaderEdit, Step};
use crate::host::{Answer, Body, CallId, Callout, Host, RequestId, Version, WorkerId};
use crate::jwt::Signatures;
use crate::protobuf::push_bytes;
use crate::request::{Head, header_pairs};
use crate::tenant::Tenant;

/// How often a root context does what is due, and looks for callouts whose wake-up was lost.
const TICK_MILLISECONDS: u32 = 1000;
/// How soon it does so for the first time. Not while it is configured: Envoy first configures one that it throws away, to see
/// whether the configuration is taken, and what that one has begun nobody ends.
const FIRST_TICK_MILLISECONDS: u32 = 10;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|context_id| Box::new(Root { context_id, worker: Rc::new(Worker::new()) }));
}}

/// What a root context and its requests share.
struct Worker {
    /// Set once the configuration was taken.
    filter: RefCell<Option<Filter>>,
    host: Envoy,
    decisions: RefCell<HashMap<&'static str, Option<u32>>>,
    /// Envoy's counter of answers that are none.
    faults: OnceCell<Option<u32>>,
    /// Envoy's counters of what quotas have to report.
    events: RefCell<HashMap<Event, Option<u32>>>,
}

/// The root context: one for each configuration of the filter in each worker.
struct Root {
    context_id: u32,
    worker: Rc<Worker>,
}

/// One request.
struct Request {
    id: RequestId,
    worker: Rc<Worker>,
}

/// Envoy, as the filter's core sees it.
///
/// Only a root context may send a callout, from a callback of its own: an answer goes to the context that asked, and one
/// that asked for a request is lost with it. So callouts wait here for the root context, which an entry in a queue of this
/// context's own wakes at once.
struct Envoy {
    queue: Cell<Option<u32>>,
    last_call: Cell<u64>,
    to_send: RefCell<Vec<(CallId, Callout)>>,
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

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(sent) = self.worker.host.sent.borrow_mut().remove(&token) else { return };
        self.worker.host.record_duration(&sent);
        self.land(sent.call, answer(headers, body_size, sent.answer_limit));
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let Some(sent) = self.worker.host.sent.borrow_mut().remove(&token) else { return };
        self.worker.host.record_duration(&sent);
        let answer = match status {
            0 if size > sent.answer_limit => Answer::TooLarge,
            0 => Answer::Reply { status: 200, body: hostcalls::buffer(Buffer::GrpcMessage, size).unwrap_or_default() },
            4 => Answer::Failed { why: "gRPC status 4, it took too long" },
            8 => Answer::Failed { why: "gRPC status 8, it has too much to do" },
            12 => Answer::Failed { why: "gRPC status 12, it has no such method" },
            14 => Answer::Failed { why: "gRPC status 14, it can't be reached" },
            _ => Answer::Failed { why: "a gRPC status that is an error" },
        };
        self.land(sent.call, answer);
    }

    fn on_done(&mut self) -> bool {
        if let Some(filter) = &mut *self.worker.filter.borrow_mut() {
            filter.close(&self.worker.host);
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        log::set_max_level(hostcalls::log_level());
        let bytes = hostcalls::buffer(Buffer::PluginConfiguration, usize::MAX).unwrap_or_default();
        let variable = |name: &str| std::env::var(name).ok();
        match Config::from_bytes(&bytes).and_then(|config| Filter::new(config, variable)) {
            Ok(filter) => {
                self.worker.filter.replace(Some(filter));
            }
            Err(faults) => {
                error!("tenancy: the configuration is refused: {faults}");
                return false;
            }
        }
        // A queue's name is one for all workers, and who registers it last owns it; a random one is this context's alone.
        let name = format!("tenancy-{:016x}", RandomState::new().build_hasher().finish());
        self.worker.host.queue.set(hostcalls::register_queue(&name));
        hostcalls::set_tick_period(FIRST_TICK_MILLISECONDS);
        true
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Some(letter) = hostcalls::dequeue(queue) {
            // An empty one is our own, which says that a callout is to be sent.
            if !letter.is_empty() {
                let steps = match &mut *self.worker.filter.borrow_mut() {
                    Some(filter) => filter.letter(&letter, &self.worker.host),
                    None => Vec::new(),
                };
                self.perform_all(steps);
            }
        }
        self.send_callouts();
    }

    fn on_tick(&mut self) {
        hostcalls::set_tick_period(TICK_MILLISECONDS);
        log::set_max_level(hostcalls::log_level());
        let (steps, fault) = match &mut *self.worker.filter.borrow_mut() {
            Some(filter) => filter.tick(&self.worker.host),
            None => (Vec::new(), None),
        };
        if let Some(fault) = fault {
            warn!("tenancy: {fault}");
        }
        self.perform_all(steps);
        self.send_callouts();
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { id: RequestId(context_id), worker: Rc::clone(&self.worker) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn send_callouts(&self) {
        for (call, callout) in self.worker.host.to_send.take() {
            if let Err(why) = self.worker.host.send(call, &callout) {
                self.land(call, Answer::Failed { why });
            }
        }
    }

    fn land(&self, call: CallId, answer: Answer) {
        let (steps, faults) = match &mut *self.worker.filter.borrow_mut() {
            Some(filter) => filter.answer(call, answer, &self.worker.host),
            None => return,
        };
        for fault in faults {
            warn!("tenancy: {fault}");
            let define = || hostcalls::define_metric(Metric::Counter, "tenancy.directory.faults");
            if let Some(metric) = self.worker.faults.get_or_init(define) {
                hostcalls::increment(*metric);
            }
        }
        self.perform_all(steps);
    }

    /// Carries out steps on requests that waited.
    fn perform_all(&self, steps: Vec<(RequestId, Step)>) {
        for (id, step) in steps {
            // A request that is gone has no context, and what follows would act on the one before it.
            if hostcalls::set_effective_context(id.0) && self.worker.perform(step) == Action::Continue {
                hostcalls::resume_request();
            }
        }
        hostcalls::set_effective_context(self.context_id);
    }
}

fn answer(headers: usize, body_size: usize, limit: usize) -> Answer {
    if headers == 0 {
        return Answer::Failed { why: "the connection broke" };
    }
    if body_size > limit {
        return Answer::TooLarge;
    }
    let map = hostcalls::header_map(Map::CalloutResponse).unwrap_or_default();
    let status = header_pairs(&map)
        .and_then(|pairs| pairs.iter().find(|(name, _)| *name == b":status").map(|(_, value)| *value))
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    match status {
        Some(status) => {
            Answer::Reply { status, body: hostcalls::buffer(Buffer::CalloutResponse, body_size).unwrap_or_default() }
        }
        None => Answer::Failed { why: "the answer has no status" },
    }
}

impl Context for Request {
    fn on_done(&mut self) -> bool {
        if let Some(filter) = &mut *self.worker.filter.borrow_mut() {
            filter.end(self.id, &self.worker.host);
        }
        true
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let map = hostcalls::header_map(Map::Request);
        // Without its headers a request would look like one that names no tenant, and its forged headers would go on.
        let Some(pairs) = map.as_deref().and_then(header_pairs) else {
            return refuse_unjudged("Envoy gave no headers of a request that can be read");
        };
        let head = Head::new(pairs);
        let step = match &mut *self.worker.filter.borrow_mut() {
            Some(filter) => filter.request(self.id, &head, &self.worker.host),
            // Envoy sends no request to a filter whose configuration was refused.
            None => Step::Wait,
        };
        self.worker.perform(step)
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.response_headers();
        Action::Continue
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.hold()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        self.hold()
    }
}

impl Request {
    fn response_headers(&self) {
        let header = |name: &str| hostcalls::header(Map::Response, name);
        let fields = match &mut *self.worker.filter.borrow_mut() {
            Some(filter) => filter.response(self.id, &header, &self.worker.host),
            None => Vec::new(),
        };
        for (name, value) in fields {
            hostcalls::add_response_header(name, &value);
        }
    }

    /// Where `allow_on_headers_stop_iteration` is set, a body arrives while the headers wait, and letting it go on would
    /// let the request go on, unjudged.
    fn hold(&self) -> Action {
        let waiting = self.worker.filter.borrow().as_ref().is_none_or(|filter| filter.is_waiting(self.id));
        if waiting { Action::Pause } else { Action::Continue }
    }
}

/// Answers a request that Envoy itself keeps from being judged with 500.
fn refuse_unjudged(why: &str) -> Action {
    error!("tenancy: {why}");
    hostcalls::send_local_response::<&str>(500, "tenancy_internal_error", &[], "", 13);
    Action::Pause
}

impl Worker {
    fn new() -> Self {
        Self {
            filter: RefCell::new(None),
            host: Envoy::new(),
            decisions: RefCell::default(),
            faults: OnceCell::new(),
            events: RefCell::default(),
        }
    }

    /// Carries out a step on the effective context's request.
    fn perform(&self, step: Step) -> Action {
        match step {
            Step::Wait => Action::Pause,
            Step::Forward(forwarding) => {
                for edit in &forwarding.edits {
                    let done = match edit {
                        HeaderEdit::Set(name, value) => hostcalls::set_header(name.as_bytes(), value),
                        HeaderEdit::Remove(name) => hostcalls::remove_header(name),
                    };
                    if !done {
                        // A request whose headers could not be made true must not reach the service.
                        return refuse_unjudged("Envoy refused a change of the request's headers");
                    }
                }
                self.record(forwarding.decision.as_str(), forwarding.tenant.as_deref());
                self.count(&forwarding.events);
                Action::Continue
            }
            Step::Deny(refusal) => {
                let denial = &refusal.denial;
                let details = denial.response_code_details();
                self.record(details.strip_prefix("tenancy_").unwrap_or(details), refusal.tenant.as_deref());
                self.count(&refusal.events);
                let body = denial.body();
                debug!("tenancy: refused: {body}");
                hostcalls::send_local_response(
                    denial.status(),
                    details,
                    &denial.headers(),
                    &body,
                    denial.grpc_status(),
                );
                Action::Pause
            }
        }
    }

    /// Writes the log fields of the effective context's request, and counts its decision.
    fn record(&self, decision: &'static str, tenant: Option<&Tenant>) {
        hostcalls::set_property("tenant_decision", decision.as_bytes());
        if let Some(tenant) = tenant {
            hostcalls::set_property("tenant_id", tenant.id.as_str().as_bytes());
            if let Some(slug) = &tenant.slug {
                hostcalls::set_property("tenant_slug", slug.as_str().as_bytes());
            }
            if let Some(plan) = tenant.plan() {
                hostcalls::set_property("tenant_plan", &header_value(plan));
            }
        }
        let metric = *self.decisions.borrow_mut().entry(decision).or_insert_with(|| {
            hostcalls::define_metric(Metric::Counter, &format!("tenancy.requests.decision.{decision}"))
        });
        if let Some(metric) = metric {
            hostcalls::increment(metric);
        }
    }
}

impl Worker {
    /// Counts what quotas have to report.
    fn count(&self, events: &[Event]) {
        for event in events {
            let metric = *self.events.borrow_mut().entry(event.clone()).or_insert_with(|| {
                // A dot would end the part of the name that Envoy's stats_tags take for the quota.
                let quota = event.quota_key.as_str().replace('.', "_");
                let what = match event.what {
                    Happening::Refused => "refused".to_owned(),
                    Happening::Shadowed => "shadowed".to_owned(),
                    Happening::Unavailable => "unavailable".to_owned(),
                    Happening::Reached(percent) => format!("reached_{percent}"),
                };
                hostcalls::define_metric(Metric::Counter, &format!("tenancy.quotas.quota.{quota}.{what}"))
            });
            if let Some(metric) = metric {
                hostcalls::increment(metric);
            }
        }
    }
}

impl Envoy {
    fn new() -> Self {
        Self {
            queue: Cell::new(None),
            last_call: Cell::new(0),
            to_send: RefCell::default(),
            sent: RefCell::default(),
            durations: RefCell::default(),
        }
    }

    fn record_duration(&self, sent: &Sent) {
        let took = self.now().duration_since(sent.at).unwrap_or_default().as_millis();
        let mut durations = self.durations.borrow_mut();
        let metric = durations.entry(sent.cluster.clone()).or_insert_with(|| {
            let name = format!("tenancy.callout.cluster.{}.duration_ms", sent.cluster);
            hostcalls::define_metric(Metric::Histogram, &name)
        });
        if let Some(metric) = *metric {
            hostcalls::record(metric, u64::try_from(took).unwrap_or(u64::MAX));
        }
    }

    fn send(&self, call: CallId, callout: &Callout) -> Result<(), &'static str> {
        let (method, body) = match &callout.body {
            Body::None => ("GET", None),
            Body::Json(body) => ("POST", Some(body.as_slice())),
            Body::Grpc(message) => return self.send_grpc(call, callout, message),
        };
        let mut headers = vec![
            (":method", method),
            (":path", callout.path.as_str()),
            (":authority", callout.cluster.as_str()),
            ("accept", "application/json"),
        ];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        // The SDK takes header values as text; a trace header that isn't text is nobody's trace.
        headers
            .extend(callout.headers.iter().filter_map(|(name, value)| Some((*name, std::str::from_utf8(value).ok()?))));
        let sent =
            proxy_wasm::hostcalls::dispatch_http_call(&callout.cluster, headers, body, Vec::new(), callout.timeout);
        self.note_sent(call, callout, sent)
    }

    fn send_grpc(&self, call: CallId, callout: &Callout, message: &[u8]) -> Result<(), &'static str> {
        let Some((service, method)) = callout.path.trim_start_matches('/').split_once('/') else {
            return Err("no gRPC method");
        };
        let metadata = callout.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        // Envoy takes a GrpcService here: envoy_grpc = 1, and in it cluster_name = 1.
        let mut envoy_grpc = Vec::new();
        push_bytes(&mut envoy_grpc, 1, callout.cluster.as_bytes());
        let mut target = Vec::new();
        push_bytes(&mut target, 1, &envoy_grpc);
        let Ok(target) = String::from_utf8(target) else { return Err("a cluster's name that is too long") };
        let sent = proxy_wasm::hostcalls::dispatch_grpc_call(
            &target,
            service,
            method,
            metadata,
            Some(message),
            callout.timeout,
        );
        self.note_sent(call, callout, sent)
    }

    fn note_sent(
        &self,
        call: CallId,
        callout: &Callout,
        sent: Result<u32, proxy_wasm::types::Status>,
    ) -> Result<(), &'static str> {
        match sent {
            Ok(token) => {
                let (cluster, at, answer_limit) = (callout.cluster.clone(), self.now(), callout.answer_limit);
                self.sent.borrow_mut().insert(token, Sent { call, cluster, at, answer_limit });
                Ok(())
            }
            Err(proxy_wasm::types::Status::BadArgument) => Err("Envoy has no cluster of that name"),
            Err(_) => Err("no endpoint, or a full circuit breaker"),
        }
    }
}

impl Signatures for Envoy {
    fn verify_signature(&self, arguments: &[u8]) -> Option<Vec<u8>> {
        hostcalls::call_foreign_function("verify_signature", arguments)
    }
}

impl Host for Envoy {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        hostcalls::shared_data_version(key).0
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        // A value that can't be shared is looked up again by the other workers, and that is all.
        hostcalls::set_shared_data(key, value.unwrap_or_default(), hostcalls::ANY_VERSION);
    }

    fn monotonic(&self) -> Duration {
        hostcalls::monotonic()
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
        self.to_send.borrow_mut().push((call, callout));
        if let Some(queue) = self.queue.get() {
            // If that fails, the next tick sends it.
            hostcalls::enqueue(queue, &[]);
        }
        call
    }
}
