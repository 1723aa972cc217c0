//! The conductor: a request's way from its first header to a verdict.

mod connection;
mod headers;
mod websockets;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use self::connection::Connection;
pub use self::connection::{Cut, Flow, Passage, Piece, Verdict};
pub use self::headers::HeaderEdit;
use self::headers::{Edits, Owned, Rewrite};
use crate::config::{
    Agreement, Config, Counted, DataModel, Faults, Field, HeaderName, Jwks, LogField, OnError, RateLimitWhen,
    Resolution,
};
use crate::denial::{Denial, QuotaExceeded, RETRY_AFTER_SECONDS};
use crate::directory::{Asker, Directory, Key, Lookup};
use crate::host::{Answer, CallId, Host, Ids, RequestId, unix_seconds};
use crate::jwt::{KeySet, Presented, TokenFault, Tokens, tenant_in_metadata};
use crate::key_source::{Age, KeySource};
use crate::quota::{Exceeded, Metered, Metering, Meters, fields, seconds_left};
use crate::request::{Head, Trace, TraceHeaders};
use crate::resolve::{Claim, claim};
use crate::tenant::{ForwardedHeader, Identifier, Status, Tenant, header_value};

/// What happens with a request next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It goes on to the service, with these changes.
    Forward(Forwarding),
    /// It waits for a lookup.
    Wait,
    /// It is refused.
    Deny(Refusal),
    /// It is a WebSocket connection, and this happens with it.
    Flow(Box<Flow>),
}

/// A request that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Forwarding {
    /// Why it goes on.
    pub decision: Decision,
    /// Its tenant, if it has one.
    pub tenant: Option<Rc<Tenant>>,
    /// The changes to its headers, each name at most once.
    pub edits: Vec<HeaderEdit>,
    /// What its quotas have to report.
    pub events: Vec<Event>,
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Why.
    pub denial: Denial,
    /// Its tenant, where the directory knows it.
    pub tenant: Option<Rc<Tenant>>,
    /// What its quotas have to report.
    pub events: Vec<Event>,
}

/// What a quota has to report of a request, for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The quota.
    pub quota_key: Identifier,
    /// What has happened.
    pub what: Happening,
}

/// What has happened with a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// It has refused the request.
    Refused,
    /// It would have refused the request, if it enforced.
    Shadowed,
    /// Nobody could say whether it has room.
    Unavailable,
    /// So many percent of it are used.
    Reached(u64),
}

/// Why a request goes on to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Its tenant may be served.
    Allow,
    /// Its path belongs to no tenant.
    Excluded,
    /// It names no tenant, and needn't.
    NoTenant,
    /// Nobody could say which tenant it is, and `onError` allows that.
    Unavailable,
    /// It opens a WebSocket connection, whose first message is to say which tenant it is.
    AwaitsMessage,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Allow, Self::Excluded, Self::NoTenant, Self::Unavailable, Self::AwaitsMessage];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Excluded => "excluded",
            Self::NoTenant => "no_tenant",
            Self::Unavailable => "unavailable_allowed",
            Self::AwaitsMessage => "awaits_message",
        }
    }
}

/// One worker's filter.
pub struct Filter {
    config: Config,
    owned: Owned,
    directory: Directory,
    /// What judges tokens, where they are judged here.
    tokens: Option<Tokens>,
    /// Where keys come from, if from a URL.
    key_source: Option<KeySource>,
    /// Boxed, as connections are: with keys and values of the same sizes, all these maps share their code.
    waiting: HashMap<RequestId, Box<Pending>, Ids>,
    meters: Meters,
    /// Requests that went on, and whose response or end has to do with a quota.
    metered: HashMap<RequestId, Metered, Ids>,
    /// WebSocket connections whose bytes are looked at.
    connections: HashMap<RequestId, Box<Connection>, Ids>,
}

/// A request on its way to a verdict.
struct Pending {
    phase: Phase,
    /// The first moment at which its token no longer holds.
    token_until: Option<SystemTime>,
    /// When its token was looked at for the first time.
    arrived: Option<SystemTime>,
    claims: Vec<(Resolution, State)>,
    /// The client's own copies of headers that are the filter's, by the names it sent.
    forged: Vec<Vec<u8>>,
    rewrite: Rewrite,
    /// The headers of its trace, once it waits.
    trace: TraceHeaders,
    /// What the team's own resolver is asked.
    question: Option<Vec<u8>>,
    /// What the application said of usages that the request has waited for.
    usages: Vec<(Key, Lookup)>,
    /// Since when it waits for a quota, by the monotonic clock.
    waits_since: Option<Duration>,
}

/// What of a request, or of the connection that it opens, is on its way to a verdict.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// A request.
    Request,
    /// A request that opens a WebSocket connection.
    Upgrade,
    /// One whose token is to come in the first message. Who it is and what it may use is decided then.
    Awaiting { removes_extensions: bool },
    /// The first message, which names a tenant beside its token.
    Message { names: Identifier },
    /// A further message, which is counted.
    Count,
}

impl Phase {
    /// What quotas count it as.
    const fn counted(&self) -> &'static [Counted] {
        match self {
            Self::Request => &[Counted::Request],
            // What a client that comes without a token may use, it uses when it has said who it is.
            Self::Upgrade | Self::Message { .. } => &[Counted::Request, Counted::Connection],
            Self::Awaiting { .. } => &[],
            Self::Count => &[Counted::Message],
        }
    }

    /// Whether it is of a connection that is open.
    const fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Count)
    }
}

impl Pending {
    /// A message's.
    fn of_connection(phase: Phase, claims: Vec<(Resolution, State)>) -> Self {
        Self {
            phase,
            token_until: None,
            arrived: None,
            claims,
            forged: Vec::new(),
            rewrite: Rewrite::default(),
            trace: TraceHeaders::new(),
            question: None,
            usages: Vec::new(),
            waits_since: None,
        }
    }
}

/// A callback in which a request may get further.
#[derive(Clone, Copy)]
struct Turn<'t> {
    id: RequestId,
    /// Its head, the first time.
    head: Option<&'t Head<'t>>,
    host: &'t dyn Host,
}

impl<'t> Turn<'t> {
    /// The request as one that looks something up, with the trace that was kept of it if its head is gone.
    fn asker(self, kept: &'t TraceHeaders) -> Asker<'t> {
        Asker::new(self.id, self.head.map_or(Trace::Kept(kept), Trace::In))
    }
}

/// How long a request waits for a quota at most. Each wait has a bound of its own, and mostly one is enough; but where many
/// want units that come one by one, others may be faster again and again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The header that tells the service of quotas that are nearly used up.
const WARNING: &str = "x-tenant-quota-warning";

/// What has become of one strategy's claim.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// The strategy names no tenant.
    Absent,
    /// It gives several values.
    Ambiguous,
    /// It gives a token that is yet to be verified.
    Token(Vec<u8>),
    /// The token waits for newer keys than ours.
    AwaitsKeys(Vec<u8>),
    /// Its token is bad.
    Refused(TokenFault),
    /// It names something that is yet to be looked up.
    Ask(Key),
    /// The lookup is under way.
    Waiting(Key),
    /// It names this tenant.
    Tenant(Rc<Tenant>),
    /// It names something that the directory doesn't have.
    Unknown(Key),
    /// Nobody can say.
    Unavailable(OnError),
}

impl Filter {
    /// A filter that has seen no request yet. `environment` gives the VM's environment variables, where a secret is kept.
    pub fn new(config: Config, environment: impl Fn(&str) -> Option<String>) -> Result<Self, Faults> {
        let owned = Owned::new(&config, WARNING);
        let isolation = &config.isolation;
        let directory = Directory::new(&config);
        let jwt = isolation.jwt.as_ref().filter(|jwt| jwt.envoy_metadata.is_none() && isolation.uses(Resolution::Jwt));
        let tokens = jwt.map(|jwt| Tokens::new(jwt, &isolation.jwt_claim, &environment)).transpose()?;
        let meters = Meters::new(&config, &environment)?;
        let key_source = match jwt.and_then(|jwt| jwt.jwks.as_ref()) {
            Some(Jwks::Remote(remote)) => Some(KeySource::new(remote.clone())),
            Some(Jwks::Inline(_)) | None => None,
        };
        Ok(Self {
            config,
            owned,
            directory,
            tokens,
            key_source,
            waiting: HashMap::default(),
            meters,
            metered: HashMap::default(),
            connections: HashMap::default(),
        })
    }

    /// Does what is due without any request. To be called at the start, and about once a second; gives what happens with requests
    /// whose wait is over, and what to log.
    pub fn tick(&mut self, host: &dyn Host) -> (Vec<(RequestId, Step)>, Option<String>) {
        self.directory.tick(host);
        let awake = self.meters.tick(host);
        // One that ends waits for nothing any more, and is told of one thing only.
        let mut steps = self.tick_connections(host);
        steps.extend(self.wake(awake, host, |_| {}));
        let (Some(source), Some(tokens)) = (&mut self.key_source, &mut self.tokens) else { return (steps, None) };
        if source.tick(host) == Age::Good {
            return (steps, None);
        }
        tokens.set_keys(KeySet::default());
        let fault = "the keys for tokens are too old to be believed: their source has given no answer for too long";
        (steps, Some(fault.to_owned()))
    }

    /// Takes a letter of another worker, and gives what happens with each request whose wait is over.
    pub fn letter(&mut self, letter: &[u8], host: &dyn Host) -> Vec<(RequestId, Step)> {
        let awake = self.meters.letter(letter, host);
        self.wake(awake, host, |_| {})
    }

    /// Takes the headers of a response, which `header` gives by name, and gives those to add to it.
    pub fn response(
        &mut self,
        id: RequestId,
        header: &dyn Fn(&str) -> Option<Vec<u8>>,
        host: &dyn Host,
    ) -> Vec<(&'static str, String)> {
        let Some(metered) = self.metered.get_mut(&id) else { return Vec::new() };
        self.meters.settle(metered, header, host);
        match self.config.rate_limit_headers.when {
            RateLimitWhen::Refused => Vec::new(),
            RateLimitWhen::All => {
                fields(self.config.rate_limit_headers.style, &metered.standings, unix_seconds(host.now()))
            }
        }
    }

    /// What the access log can tell of a request: the fields that the configuration lists, with their values.
    pub fn log_fields<'t>(
        &'t self,
        decision: &'t str,
        tenant: Option<&'t Tenant>,
    ) -> impl Iterator<Item = (LogField, &'t [u8])> {
        self.config.log_fields.iter().filter_map(move |field| {
            let value = match field {
                LogField::Id => tenant?.id.as_str().as_bytes(),
                LogField::Slug => tenant?.slug.as_ref()?.as_str().as_bytes(),
                LogField::Plan => tenant?.plan_text.as_deref()?,
                LogField::Decision => decision.as_bytes(),
            };
            Some((*field, value))
        })
    }

    /// Gives back to the other workers what this one holds, at the end of its configuration.
    pub fn close(&mut self, host: &dyn Host) {
        self.meters.close(host);
    }

    /// Judges a request by its headers.
    pub fn request(&mut self, id: RequestId, head: &Head<'_>, host: &dyn Host) -> Step {
        let forged = self.owned.forged(head);
        let isolation = &self.config.isolation;
        if isolation.exclude.iter().any(|exclude| exclude.covers(&head.target)) {
            return pass(Decision::Excluded, forged);
        }
        let mut question = None;
        let mut state = |strategy: Resolution| match claim(strategy, isolation, head) {
            Claim::Absent | Claim::Token(Presented::Missing) => State::Absent,
            Claim::Ambiguous | Claim::Token(Presented::Ambiguous) => State::Ambiguous,
            Claim::Token(Presented::Malformed) => State::Refused(TokenFault::Malformed),
            Claim::Token(Presented::Token(token)) => State::Token(token.to_vec()),
            Claim::Metadata(name) => self.in_metadata(name, host),
            Claim::Tenant(identifier) => State::Ask(Key::Tenant(identifier)),
            Claim::Domain(domain) => State::Ask(Key::Domain(domain)),
            Claim::Custom(asked) => {
                question = Some(asked.body);
                State::Ask(Key::Custom(asked.digest))
            }
        };
        let mut claims = isolation.resolution.0.iter().map(|strategy| (*strategy, state(*strategy))).collect();
        let phase = self.phase(head, &mut claims);
        let mut pending = Pending {
            phase,
            token_until: None,
            arrived: None,
            claims,
            forged,
            rewrite: Rewrite::new(&self.config.isolation, head),
            trace: TraceHeaders::new(),
            question,
            usages: Vec::new(),
            waits_since: None,
        };
        let step = self.advance(&mut pending, Turn { id, head: Some(head), host });
        if matches!(step, Step::Wait) {
            pending.trace = Trace::In(head).headers();
            self.waiting.insert(id, Box::new(pending));
            return step;
        }
        if pending.phase == Phase::Request { step } else { self.follow(id, &pending, step, host) }
    }

    /// Takes a callout's answer, and gives what happens with each request that waited for it, and what to log.
    pub fn answer(&mut self, call: CallId, answer: Answer, host: &dyn Host) -> (Vec<(RequestId, Step)>, Vec<String>) {
        if let Some(landed) = self.key_source.as_mut().and_then(|source| source.land(call, &answer, host)) {
            let faults = landed.faults.iter().map(|why| format!("the key set {why}")).collect();
            let came = landed.keys.is_some();
            if let (Some(tokens), Some(keys)) = (&mut self.tokens, landed.keys) {
                tokens.set_keys(keys);
            }
            let steps = self.wake(landed.waiting, host, |pending| {
                for (_, state) in &mut pending.claims {
                    if let State::AwaitsKeys(token) = state {
                        let token = std::mem::take(token);
                        *state = if came { State::Token(token) } else { State::Unavailable(OnError::Deny) };
                    }
                }
            });
            return (steps, faults);
        }
        if let Some(faults) = self.directory.land_page(call, &answer, host) {
            return (Vec::new(), faults);
        }
        if let Some((awake, fault)) = self.meters.land(call, &answer, host) {
            return (self.wake(awake, host, |_| {}), fault.into_iter().collect());
        }
        let Some(landed) = self.directory.land(call, answer, host) else { return (Vec::new(), Vec::new()) };
        let mut steps = self.rechecked(&landed, host);
        steps.extend(self.wake(landed.waiting, host, |pending| {
            if matches!(landed.key, Key::Usage(..)) {
                pending.usages.push((landed.key.clone(), landed.lookup.clone()));
            }
            for (_, state) in &mut pending.claims {
                if *state == State::Waiting(landed.key.clone()) {
                    *state = State::from_lookup(landed.key.clone(), landed.lookup.clone());
                }
            }
        }));
        (steps, landed.fault.map(|why| format!("{} {why}", landed.key)).into_iter().collect())
    }

    /// Goes on with requests whose wait is over, after `change` has told each what has come.
    fn wake(
        &mut self,
        waiting: Vec<RequestId>,
        host: &dyn Host,
        change: impl Fn(&mut Pending),
    ) -> Vec<(RequestId, Step)> {
        let mut steps = Vec::new();
        for id in waiting {
            // A request that has ended meanwhile waits for nothing.
            let Some(mut pending) = self.waiting.remove(&id) else { continue };
            change(&mut pending);
            match self.advance(&mut pending, Turn { id, head: None, host }) {
                Step::Wait => {
                    self.waiting.insert(id, pending);
                }
                step if pending.phase == Phase::Request => steps.push((id, step)),
                step if pending.phase.is_message() => {
                    steps.extend(self.resume(id, &pending, step, host).map(|flow| (id, Step::Flow(Box::new(flow)))));
                }
                step => {
                    let step = self.follow(id, &pending, step, host);
                    steps.push((id, step));
                }
            }
        }
        steps
    }

    /// Forgets a request that has ended.
    pub fn end(&mut self, id: RequestId, host: &dyn Host) {
        self.waiting.remove(&id);
        self.connections.remove(&id);
        if let Some(metered) = self.metered.remove(&id) {
            self.meters.release(&metered, host);
        }
    }

    /// Whether a request waits for a lookup.
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Goes on with a request as far as it goes now.
    fn advance(&mut self, pending: &mut Pending, turn: Turn<'_>) -> Step {
        // A bad token is refused whatever the other strategies say, so it comes first.
        for (_, state) in &mut pending.claims {
            if let State::Token(token) = state {
                let token = std::mem::take(token);
                let arrived = *pending.arrived.get_or_insert_with(|| turn.host.now());
                let is_needed = pending.phase.is_message() || self.config.isolation.needs_token();
                (*state, pending.token_until) = self.verify(token, arrived, is_needed, turn);
            }
            if let State::Refused(fault) = state {
                return refuse(Denial::Unauthorized(*fault));
            }
        }
        let awaits_keys = pending.claims.iter().any(|(_, state)| matches!(state, State::AwaitsKeys(_)));
        match self.config.isolation.agreement {
            // Whether the token is bad has to be known before another strategy's answer may win.
            _ if pending.phase.is_message() => self.together(pending, turn),
            Agreement::First if awaits_keys => Step::Wait,
            Agreement::First => self.first(pending, turn),
            Agreement::Consistent | Agreement::Unanimous => self.together(pending, turn),
        }
    }

    /// The first strategy that answers decides. One that can't tell yet, or at all, is never passed over.
    fn first(&mut self, pending: &mut Pending, turn: Turn<'_>) -> Step {
        let Pending { claims, trace, question, .. } = pending;
        let asker = Asker { question: question.as_deref(), ..turn.asker(trace) };
        for (strategy, state) in claims {
            self.look_up(state, asker, turn.host);
            match state {
                State::Absent => {}
                State::Ambiguous => return refuse(Denial::TenantAmbiguous(*strategy)),
                State::Ask(_) | State::Waiting(_) | State::Token(_) | State::AwaitsKeys(_) => return Step::Wait,
                State::Refused(fault) => return refuse(Denial::Unauthorized(*fault)),
                State::Unknown(key) => return refuse(not_found(key)),
                State::Unavailable(on_error) => return unavailable(*on_error, &mut pending.forged),
                State::Tenant(tenant) => {
                    let tenant = Rc::clone(tenant);
                    return self.judge(tenant, pending, turn);
                }
            }
        }
        self.no_tenant(pending)
    }

    /// All that answer have to name one tenant, though one gives an id, one a slug, and one a domain.
    fn together(&mut self, pending: &mut Pending, turn: Turn<'_>) -> Step {
        let unanimous = self.config.isolation.agreement == Agreement::Unanimous && !pending.phase.is_message();
        // What needs no lookup comes first: a request that is refused anyway costs the directory nothing.
        if let Some((strategy, _)) = pending.claims.iter().find(|(_, state)| *state == State::Ambiguous) {
            return refuse(Denial::TenantAmbiguous(*strategy));
        }
        if unanimous && let Some((strategy, _)) = pending.claims.iter().find(|(_, state)| *state == State::Absent) {
            return refuse(no_answer(*strategy));
        }
        let asker = Asker { question: pending.question.as_deref(), ..turn.asker(&pending.trace) };
        for (_, state) in &mut pending.claims {
            self.look_up(state, asker, turn.host);
        }
        let states = || pending.claims.iter().map(|(_, state)| state);
        if states().any(|state| matches!(state, State::Waiting(_) | State::Ask(_) | State::AwaitsKeys(_))) {
            return Step::Wait;
        }
        // A domain that turned out to be nobody's names no tenant either.
        if unanimous && states().any(|state| *state == State::Absent) {
            return refuse(Denial::TenantNotFound(None));
        }
        let unknown = |state: &State| if let State::Unknown(key) = state { Some(not_found(key)) } else { None };
        if let Some(denial) = states().find_map(unknown) {
            return refuse(denial);
        }
        let mut tenants =
            states().filter_map(|state| if let State::Tenant(tenant) = state { Some(tenant) } else { None });
        let tenant = tenants.next().cloned();
        if let Some(tenant) = &tenant
            && tenants.any(|other| other.id != tenant.id)
        {
            return refuse(Denial::TenantMismatch);
        }
        // Where several services can't answer, the strictest wish counts.
        let failures = || {
            states().filter_map(|state| if let State::Unavailable(on_error) = state { Some(*on_error) } else { None })
        };
        if let Some(any) = failures().find(|on_error| *on_error == OnError::Deny).or_else(|| failures().next()) {
            return unavailable(any, &mut pending.forged);
        }
        match tenant {
            Some(tenant) => self.judge(tenant, pending, turn),
            None => self.no_tenant(pending),
        }
    }

    /// What becomes of a token, and until when it holds. One that `is_needed` can't leave it to other strategies to name a tenant.
    fn verify(
        &mut self,
        token: Vec<u8>,
        arrived: SystemTime,
        is_needed: bool,
        turn: Turn<'_>,
    ) -> (State, Option<SystemTime>) {
        let Some(tokens) = &mut self.tokens else { return (State::Absent, None) };
        let state = match tokens.verify(&token, turn.host.now(), turn.host) {
            Ok(verified) => return (State::Ask(Key::Tenant(verified.tenant)), Some(verified.until)),
            Err(TokenFault::NoClaim) if !is_needed => State::Absent,
            Err(fault) if fault.newer_keys_may_help() => match &mut self.key_source {
                Some(source) if source.held_since().is_none_or(|since| since < arrived) => {
                    if source.wait(turn.id, turn.host) {
                        State::AwaitsKeys(token)
                    } else {
                        State::Unavailable(OnError::Deny)
                    }
                }
                _ => State::Refused(fault),
            },
            Err(fault) => State::Refused(fault),
        };
        (state, None)
    }

    /// The tenant in what Envoy's jwt_authn has left of a token, if there was one, and if it says so.
    fn in_metadata(&self, name: &str, host: &dyn Host) -> State {
        let claim = claim_in_metadata(name, self.config.isolation.jwt_claim.segments(), host);
        match claim.map(|property| tenant_in_metadata(&property)) {
            None => State::Absent,
            Some(Ok(tenant)) => State::Ask(Key::Tenant(tenant)),
            Some(Err(fault)) => State::Refused(fault),
        }
    }

    /// Looks up what a claim names, if that is yet to be done.
    fn look_up(&mut self, state: &mut State, asker: Asker<'_>, host: &dyn Host) {
        // A domain or a resolver's answer leads to a name, and a name to a tenant; nothing leads further.
        while let State::Ask(key) = state {
            let lookup = self.directory.find(key, asker, host);
            *state = State::from_lookup(key.clone(), lookup);
        }
    }

    fn judge(&mut self, tenant: Rc<Tenant>, pending: &mut Pending, turn: Turn<'_>) -> Step {
        let is_another = matches!(&pending.phase, Phase::Message { names } if *names != tenant.id);
        let denial = if is_another { Some(Denial::TenantMismatch) } else { status_denial(&tenant) };
        if let Some(denial) = denial {
            return Step::Deny(Refusal { denial, tenant: Some(tenant), events: Vec::new() });
        }
        if self.meters.is_empty() {
            return self.forward(tenant, &Metered::default(), pending);
        }
        match self.meter(&tenant, pending, turn) {
            Ok(metered) => {
                let step = self.forward(tenant, &metered, pending);
                if !pending.phase.is_message() && self.config.rate_limit_headers.tells_all()
                    || self.meters.follows(&metered)
                {
                    self.metered.insert(turn.id, metered);
                }
                step
            }
            Err(step) => step,
        }
    }

    /// Counts a request of a tenant that may be served.
    fn meter(&mut self, tenant: &Rc<Tenant>, pending: &mut Pending, turn: Turn<'_>) -> Result<Metered, Step> {
        let Turn { host, .. } = turn;
        let asker = turn.asker(&pending.trace);
        let refuse = |denial, quota_key, what| {
            let events = vec![Event { quota_key, what }];
            Err(Step::Deny(Refusal { denial, tenant: Some(Rc::clone(tenant)), events }))
        };
        let now = host.monotonic();
        let counted = pending.phase.counted();
        match self.meters.meter(asker, counted, tenant, &pending.usages, &mut self.directory, host) {
            Metering::Pass(metered) => Ok(metered),
            Metering::Wait if now.saturating_sub(*pending.waits_since.get_or_insert(now)) < LONGEST_WAIT => {
                Err(Step::Wait)
            }
            Metering::Wait => Err(Step::Deny(Refusal {
                denial: Denial::QuotaUnavailable,
                tenant: Some(Rc::clone(tenant)),
                events: Vec::new(),
            })),
            Metering::NoAnswer(key) => refuse(Denial::QuotaUnavailable, key, Happening::Unavailable),
            Metering::Exceeded(Exceeded { quota_key, standing, standings }) => {
                let now = unix_seconds(host.now());
                let denial = QuotaExceeded {
                    tenant: tenant.id.clone(),
                    quota_key: quota_key.clone(),
                    limit: standing.limit,
                    usage: standing.used,
                    resets_at: standing.resets_at,
                    retry_after: seconds_left(&standing, now).unwrap_or(RETRY_AFTER_SECONDS),
                    fields: fields(self.config.rate_limit_headers.style, &standings, now),
                };
                refuse(Denial::QuotaExceeded(Box::new(denial)), quota_key, Happening::Refused)
            }
        }
    }

    /// Lets a request of a tenant go on.
    fn forward(&self, tenant: Rc<Tenant>, metered: &Metered, pending: &mut Pending) -> Step {
        let event = |key: &Identifier, what| Event { quota_key: key.clone(), what };
        let mut events: Vec<Event> =
            metered.warnings.iter().map(|(key, percent)| event(key, Happening::Reached(*percent))).collect();
        events.extend(metered.shadowed.iter().map(|key| event(key, Happening::Shadowed)));
        events.extend(metered.unanswered.iter().map(|key| event(key, Happening::Unavailable)));
        if pending.phase.is_message() {
            // Its headers have gone long ago.
            let edits = Vec::new();
            return Step::Forward(Forwarding { decision: Decision::Allow, tenant: Some(tenant), edits, events });
        }
        let forwarded = tenant.forwarded.get_or_init(|| self.forwarded(&tenant));
        let mut edits = Edits::new(std::mem::take(&mut pending.forged), forwarded.len());
        for (name, value) in forwarded {
            edits.set(Rc::clone(name), Rc::clone(value));
        }
        // The path is the tenant's only where the path named it; with `first` another strategy may have.
        let by_path = pending.claims.iter().any(|(strategy, state)| {
            *strategy == Resolution::Path && matches!(state, State::Tenant(named) if named.id == tenant.id)
        });
        pending.rewrite.edits(by_path, &mut edits);
        if !metered.warnings.is_empty() {
            let warnings: Vec<String> =
                metered.warnings.iter().map(|(key, percent)| format!("{key}={percent}")).collect();
            edits.set(WARNING.into(), warnings.join(", ").into_bytes().into());
        }
        Step::Forward(Forwarding { decision: Decision::Allow, tenant: Some(tenant), edits: edits.finish(), events })
    }

    /// The headers that a tenant's requests carry to the service.
    fn forwarded(&self, tenant: &Tenant) -> Box<[ForwardedHeader]> {
        let header = |(name, field): &(HeaderName, Field)| {
            let value = if field.is_data_model() { self.data_model(tenant) } else { field.of(tenant).cloned() };
            let value = value.or_else(|| field.is_status().then(|| Value::from("active")))?;
            Some((name.text(), header_value(&value).into()))
        };
        self.config.forward.0.iter().filter_map(header).collect()
    }

    /// The data model that holds for a tenant: its own under `hybrid`, else the configured one.
    fn data_model(&self, tenant: &Tenant) -> Option<Value> {
        match self.config.isolation.strategy {
            DataModel::Hybrid => {
                tenant.record.get("isolation")?.get("strategy").filter(|value| !value.is_null()).cloned()
            }
            strategy => Some(Value::from(strategy.as_str())),
        }
    }

    fn no_tenant(&self, pending: &mut Pending) -> Step {
        if self.config.isolation.required && !matches!(pending.phase, Phase::Awaiting { .. }) {
            // Where a token is the one way to name a tenant, a client needs to be told that it lacks one.
            return refuse(match self.config.isolation.resolution.0.as_slice() {
                [only] => no_answer(*only),
                _ => Denial::TenantNotFound(None),
            });
        }
        let mut edits = Edits::new(std::mem::take(&mut pending.forged), 0);
        pending.rewrite.edits(false, &mut edits);
        Step::Forward(Forwarding {
            decision: Decision::NoTenant,
            tenant: None,
            edits: edits.finish(),
            events: Vec::new(),
        })
    }
}

impl State {
    fn from_lookup(key: Key, lookup: Lookup) -> Self {
        match (lookup, key) {
            (Lookup::Tenant(tenant), _) => Self::Tenant(tenant),
            (Lookup::Named(identifier), _) => Self::Ask(Key::Tenant(identifier)),
            // A host that is nobody's custom domain names no tenant, nor does a resolver that says so; there may be other ways
            // in which the request does.
            (Lookup::Unknown, Key::Domain(_) | Key::Custom(_)) => Self::Absent,
            (Lookup::Unknown, key) => Self::Unknown(key),
            (Lookup::Unavailable(on_error), _) => Self::Unavailable(on_error),
            (Lookup::Waiting, key) => Self::Waiting(key),
            // Nobody looks a usage up to find a tenant.
            (Lookup::Usage(_), key) => Self::Unknown(key),
        }
    }
}

/// What a client is told where a strategy that has to answer doesn't.
fn no_answer(strategy: Resolution) -> Denial {
    match strategy {
        Resolution::Jwt => Denial::Unauthorized(TokenFault::Missing),
        _ => Denial::TenantNotFound(None),
    }
}

/// A claim in what Envoy's jwt_authn has left of a token under a name.
fn claim_in_metadata<'n>(name: &'n str, claim: impl Iterator<Item = &'n str>, host: &dyn Host) -> Option<Vec<u8>> {
    let mut path = vec!["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", name];
    path.extend(claim);
    host.property(&path)
}

/// Why a tenant may not be served, if its status says so.
fn status_denial(tenant: &Tenant) -> Option<Denial> {
    match tenant.status {
        Status::Active => None,
        Status::Suspended => Some(Denial::TenantSuspended(tenant.id.clone())),
        Status::Inactive => Some(Denial::TenantInactive(tenant.id.clone())),
    }
}

fn not_found(key: &Key) -> Denial {
    match key {
        Key::Tenant(identifier) => Denial::TenantNotFound(Some(identifier.clone())),
        Key::Domain(_) | Key::Custom(_) | Key::Usage(..) => Denial::TenantNotFound(None),
    }
}

fn refuse(denial: Denial) -> Step {
    Step::Deny(Refusal { denial, tenant: None, events: Vec::new() })
}

fn unavailable(on_error: OnError, forged: &mut Vec<Vec<u8>>) -> Step {
    match on_error {
        OnError::Deny => refuse(Denial::ServiceUnavailable),
        OnError::Allow => pass(Decision::Unavailable, std::mem::take(forged)),
    }
}

/// A request that goes on without a tenant, and without any header that only the filter may set.
fn pass(decision: Decision, forged: Vec<Vec<u8>>) -> Step {
    let edits = Edits::new(forged, 0).finish();
    Step::Forward(Forwarding { decision, tenant: None, edits, events: Vec::new() })
}
