//! What a root context and its requests share: one configuration's filter, and how its verdicts are carried out.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use log::{debug, error, warn};

use super::envoy::Envoy;
use super::hostcalls::{self, Buffer, Map, Metric, Stream};
use super::{CONTINUE, PAUSE};
use crate::config::Config;
use crate::denial::Denial;
use crate::filter::{Cut, Event, Filter, Flow, Happening, HeaderEdit, Passage, Piece, Step};
use crate::host::{Answer, CallId, Host, RequestId};
use crate::request::{Head, header_pairs};
use crate::tenant::Tenant;

/// How often a root context does what is due.
const TICK_MILLISECONDS: u32 = 1000;
/// How soon it does so for the first time. Not while it is configured: Envoy first configures one that it throws away, to see
/// whether the configuration is taken, and what that one has begun nobody ends.
const FIRST_TICK_MILLISECONDS: u32 = 10;

/// One configuration of the filter in one of Envoy's threads.
pub struct Worker {
    /// The root context.
    context: u32,
    /// Set once the configuration was taken.
    filter: RefCell<Option<Filter>>,
    envoy: Envoy,
    /// Envoy's counters of decisions, by name. There are a dozen, and the first is nearly always the one.
    decisions: RefCell<Vec<(&'static str, Option<u32>)>>,
    /// Envoy's counter of answers that are none.
    faults: OnceCell<Option<u32>>,
    /// Envoy's counters of what quotas have to report.
    events: RefCell<HashMap<Event, Option<u32>>>,
}

impl Worker {
    /// A worker that has no configuration yet, of that root context.
    pub fn new(context: u32) -> Self {
        Self {
            context,
            filter: RefCell::new(None),
            envoy: Envoy::new(context),
            decisions: RefCell::default(),
            faults: OnceCell::new(),
            events: RefCell::default(),
        }
    }

    /// Reads the configuration; whether it is taken.
    pub fn configure(&self) -> bool {
        log::set_max_level(hostcalls::log_level());
        let bytes = hostcalls::buffer(Buffer::PluginConfiguration, usize::MAX).unwrap_or_default();
        let variable = |name: &str| std::env::var(name).ok();
        match Config::from_bytes(&bytes).and_then(|config| Filter::new(config, variable)) {
            Ok(filter) => {
                self.filter.replace(Some(filter));
            }
            Err(faults) => {
                error!("tenancy: the configuration is refused: {faults}");
                return false;
            }
        }
        // A queue's name is one for all workers, and who registers it last owns it; a random one is this context's alone.
        let name = format!("tenancy-{:016x}", RandomState::new().build_hasher().finish());
        self.envoy.use_queue(hostcalls::register_queue(&name));
        hostcalls::set_tick_period(FIRST_TICK_MILLISECONDS);
        true
    }

    /// Does what is due.
    pub fn tick(&self) {
        hostcalls::set_tick_period(TICK_MILLISECONDS);
        log::set_max_level(hostcalls::log_level());
        let Some((steps, fault)) = self.with_filter(self.context, Filter::tick) else { return };
        if let Some(fault) = fault {
            warn!("tenancy: {fault}");
        }
        self.perform_all(steps);
        self.land_unsent();
    }

    /// Takes what is in its queue: other workers' letters, and its own word that a callout could not be sent.
    pub fn empty_queue(&self, queue: u32) {
        while let Some(letter) = hostcalls::dequeue(queue) {
            // An empty one is our own.
            if !letter.is_empty() {
                let steps = self.with_filter(self.context, |filter, envoy| filter.letter(&letter, envoy));
                self.perform_all(steps.unwrap_or_default());
            }
        }
        self.land_unsent();
    }

    /// Takes the answer of a callout by HTTP, which has headers unless the connection broke.
    pub fn take_http_answer(&self, token: u32, has_headers: bool, body_size: usize) {
        let Some((call, answer_limit)) = self.envoy.note_answered(token) else { return };
        self.land(call, http_answer(has_headers, body_size, answer_limit));
    }

    /// Takes the answer of a callout by gRPC.
    pub fn take_grpc_answer(&self, token: u32, status: u32, size: usize) {
        let Some((call, answer_limit)) = self.envoy.note_answered(token) else { return };
        let answer = match status {
            0 if size > answer_limit => Answer::TooLarge,
            0 => Answer::Reply { status: 200, body: hostcalls::buffer(Buffer::GrpcMessage, size).unwrap_or_default() },
            4 => Answer::Failed { why: "gRPC status 4, it took too long" },
            8 => Answer::Failed { why: "gRPC status 8, it has too much to do" },
            12 => Answer::Failed { why: "gRPC status 12, it has no such method" },
            14 => Answer::Failed { why: "gRPC status 14, it can't be reached" },
            _ => Answer::Failed { why: "a gRPC status that is an error" },
        };
        self.land(call, answer);
    }

    /// Judges a request by its headers, and carries the verdict out.
    pub fn judge(&self, id: RequestId) -> u32 {
        let map = hostcalls::header_map(Map::Request);
        // Without its headers a request would look like one that names no tenant, and its forged headers would go on.
        let Some(pairs) = map.as_deref().and_then(header_pairs) else {
            return refuse_unjudged("Envoy gave no headers of a request that can be read");
        };
        let head = Head::new(pairs);
        match self.with_filter(id.0, |filter, envoy| filter.request(id, &head, envoy)) {
            Some(step) => self.perform(step, id),
            // Envoy sends no request to a filter whose configuration was refused.
            None => PAUSE,
        }
    }

    /// Has a request that waits for its verdict wait.
    pub fn hold(&self, id: RequestId) -> u32 {
        let waits = |filter: &Filter| filter.is_waiting(id) && !filter.is_connection(id);
        if self.filter.borrow().as_ref().is_none_or(waits) { PAUSE } else { CONTINUE }
    }

    /// Takes what a client has sent behind its request's headers.
    pub fn take_client(&self, id: RequestId, size: usize, is_last: bool) -> u32 {
        self.take_piece(id, Buffer::RequestBody, size, is_last)
    }

    /// Takes what a service has sent behind its response's headers.
    pub fn take_service(&self, id: RequestId, size: usize, is_last: bool) -> u32 {
        self.take_piece(id, Buffer::ResponseBody, size, is_last)
    }

    fn take_piece(&self, id: RequestId, buffer: Buffer, size: usize, is_last: bool) -> u32 {
        let is_connection = |filter: &Filter| filter.is_connection(id);
        if !self.filter.borrow().as_ref().is_some_and(is_connection) {
            return CONTINUE;
        }
        match self.flow(id, buffer, size, is_last) {
            Some(flow) => self.carry_out(flow, id, Some(buffer)),
            None => CONTINUE,
        }
    }

    /// What happens with bytes of a connection that are in hand.
    fn flow(&self, id: RequestId, buffer: Buffer, size: usize, is_last: bool) -> Option<Flow> {
        let read = |from, most| hostcalls::buffer_part(buffer, from, most).unwrap_or_default();
        let piece = Piece { size, read: &read, is_last };
        self.with_filter(id.0, |filter, envoy| match buffer {
            Buffer::RequestBody => filter.client_piece(id, piece, envoy),
            _ => filter.service_piece(id, piece, envoy),
        })
    }

    /// Carries out what happens with a connection, in the callback for what is in a buffer or in none.
    fn carry_out(&self, flow: Flow, id: RequestId, in_hand: Option<Buffer>) -> u32 {
        for verdict in &flow.verdicts {
            self.record(verdict.decision, verdict.tenant.as_deref());
        }
        self.count(&flow.events);
        let mut returned = CONTINUE;
        let mut resumed = Vec::new();
        for (passage, buffer, stream) in [
            (flow.service, Buffer::ResponseBody, Stream::Response),
            (flow.client, Buffer::RequestBody, Stream::Request),
        ] {
            let is_in_hand = in_hand == Some(buffer);
            let goes_on = match passage {
                Passage::Unchanged => false,
                Passage::Hold => {
                    returned = if is_in_hand { PAUSE } else { returned };
                    false
                }
                Passage::Pass => true,
                Passage::Rewrite { keep, then } => {
                    let mut bytes =
                        if keep > 0 { hostcalls::buffer(buffer, keep).unwrap_or_default() } else { Vec::new() };
                    bytes.extend(then);
                    if !hostcalls::set_buffer(buffer, &bytes) {
                        // What must not go on would.
                        error!("tenancy: Envoy refused a change of a connection's bytes");
                        hostcalls::send_local_response(500, "tenancy_internal_error", &[], "", 13);
                        return PAUSE;
                    }
                    true
                }
            };
            if goes_on && !is_in_hand {
                resumed.push(stream);
            }
        }
        // Not before: once a direction is to go on, Envoy gives nobody the bytes in hand any more, of either.
        for stream in resumed {
            hostcalls::resume(stream);
        }
        if let Some(cut) = flow.cut {
            match cut {
                Cut::Refusal(denial) => refuse(&denial),
                Cut::Fault { status, details } => hostcalls::send_local_response(status, details, &[], "", 13),
            };
            return PAUSE;
        }
        if flow.proceeds
            && let Some(flow) = self.flow(id, Buffer::RequestBody, hostcalls::buffer_size(Buffer::RequestBody), false)
        {
            return self.carry_out(flow, id, None);
        }
        returned
    }

    /// Takes the headers of a response, and adds what the client is told.
    pub fn respond(&self, id: RequestId) -> u32 {
        let is_connection = |filter: &Filter| filter.is_connection(id);
        if self.filter.borrow().as_ref().is_some_and(is_connection) {
            let status = hostcalls::header(Map::Response, ":status").unwrap_or_default();
            let step = self.with_filter(id.0, |filter, envoy| filter.opened(id, &status, envoy)).flatten();
            match step {
                Some(Step::Flow(flow)) => {
                    self.carry_out(*flow, id, None);
                }
                Some(step) => return self.perform(step, id),
                None => {}
            }
        }
        let header = |name: &str| hostcalls::header(Map::Response, name);
        let fields = self.with_filter(id.0, |filter, envoy| filter.response(id, &header, envoy));
        for (name, value) in fields.unwrap_or_default() {
            hostcalls::add_header(Map::Response, name.as_bytes(), value.as_bytes());
        }
        CONTINUE
    }

    /// Forgets a request that has ended.
    pub fn end(&self, id: RequestId) {
        self.with_filter(id.0, |filter, envoy| filter.end(id, envoy));
    }

    /// Ends the configuration.
    pub fn close(&self) {
        self.with_filter(self.context, Filter::close);
    }

    /// Has the filter do something in a context's callback; `None` where the configuration was not taken.
    fn with_filter<R>(&self, context: u32, run: impl FnOnce(&mut Filter, &dyn Host) -> R) -> Option<R> {
        self.envoy.begin_callback(context);
        self.filter.borrow_mut().as_mut().map(|filter| run(filter, &self.envoy))
    }

    fn land_unsent(&self) {
        for (call, why) in self.envoy.take_unsent() {
            self.land(call, Answer::Failed { why });
        }
    }

    fn land(&self, call: CallId, answer: Answer) {
        let Some((steps, faults)) = self.with_filter(self.context, |filter, envoy| filter.answer(call, answer, envoy))
        else {
            return;
        };
        for fault in faults {
            warn!("tenancy: {fault}");
            let define = || hostcalls::define_metric(Metric::Counter, "tenancy.directory.faults");
            if let Some(metric) = self.faults.get_or_init(define) {
                hostcalls::increment(*metric);
            }
        }
        self.perform_all(steps);
    }

    /// Carries out steps on requests that waited.
    fn perform_all(&self, steps: Vec<(RequestId, Step)>) {
        if steps.is_empty() {
            return;
        }
        for (id, step) in steps {
            // A request that is gone has no context, and what follows would act on the one before it.
            if hostcalls::set_effective_context(id.0) && self.perform(step, id) == CONTINUE {
                hostcalls::resume(Stream::Request);
            }
        }
        hostcalls::set_effective_context(self.context);
    }

    /// Carries out a step on the effective context's request.
    fn perform(&self, step: Step, id: RequestId) -> u32 {
        match step {
            Step::Wait => PAUSE,
            Step::Flow(flow) => {
                self.carry_out(*flow, id, None);
                // It has let go on what may go on.
                PAUSE
            }
            Step::Forward(forwarding) => {
                for edit in &forwarding.edits {
                    let done = match edit {
                        HeaderEdit::Add(name, value) => hostcalls::add_header(Map::Request, name.as_bytes(), value),
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
                CONTINUE
            }
            Step::Deny(refusal) => {
                let details = refusal.denial.response_code_details();
                self.record(details.strip_prefix("tenancy_").unwrap_or(details), refusal.tenant.as_deref());
                self.count(&refusal.events);
                refuse(&refusal.denial);
                PAUSE
            }
        }
    }

    /// Writes the log fields of the effective context's request, and counts its decision.
    fn record(&self, decision: &'static str, tenant: Option<&Tenant>) {
        if let Some(filter) = &*self.filter.borrow() {
            for (field, value) in filter.log_fields(decision, tenant) {
                hostcalls::set_property(field.property(), value);
            }
        }
        let mut decisions = self.decisions.borrow_mut();
        let known = decisions.iter().find(|(name, _)| *name == decision).map(|(_, metric)| *metric);
        let metric = known.unwrap_or_else(|| {
            let name = format!("tenancy.requests.decision.{decision}");
            let metric = hostcalls::define_metric(Metric::Counter, &name);
            decisions.push((decision, metric));
            metric
        });
        if let Some(metric) = metric {
            hostcalls::increment(metric);
        }
    }

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

/// Answers the effective context's request with a refusal.
fn refuse(denial: &Denial) -> bool {
    let (headers, body) = (denial.headers(), denial.body());
    debug!("tenancy: refused: {body}");
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let (details, grpc_status) = (denial.response_code_details(), denial.grpc_status());
    hostcalls::send_local_response(denial.status(), details, &headers, &body, grpc_status)
}

/// Answers a request that Envoy itself keeps from being judged with 500.
pub fn refuse_unjudged(why: &str) -> u32 {
    error!("tenancy: {why}");
    hostcalls::send_local_response(500, "tenancy_internal_error", &[], "", 13);
    PAUSE
}

fn http_answer(has_headers: bool, body_size: usize, limit: usize) -> Answer {
    if !has_headers {
        return Answer::Failed { why: "the connection broke" };
    }
    if body_size > limit {
        return Answer::TooLarge;
    }
    let status = hostcalls::header(Map::CalloutResponse, ":status");
    match status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok()) {
        Some(status) => {
            Answer::Reply { status, body: hostcalls::buffer(Buffer::CalloutResponse, body_size).unwrap_or_default() }
        }
        None => Answer::Failed { why: "the answer has no status" },
    }
}
