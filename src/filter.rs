//! The conductor: a request's way from its first header to a verdict.

mod headers;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::SystemTime;

use serde_json::Value;

pub use self::headers::HeaderEdit;
use self::headers::{Rewrite, forged, owned, remove_forged, trace};
use crate::config::{Agreement, Config, DataModel, Faults, HeaderName, Jwks, OnError, Resolution, header_value};
use crate::denial::Denial;
use crate::directory::{Asker, Directory, Key, Lookup};
use crate::host::{Answer, CallId, Host, RequestId};
use crate::jwt::{KeySet, Presented, TokenFault, Tokens, tenant_in_metadata};
use crate::key_source::{Age, KeySource};
use crate::request::Head;
use crate::resolve::{Claim, claim};
use crate::tenant::{Status, Tenant};

/// What happens with a request next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It goes on to the service, with these changes.
    Forward(Forwarding),
    /// It waits for a lookup.
    Wait,
    /// It is refused.
    Deny(Refusal),
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
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Why.
    pub denial: Denial,
    /// Its tenant, where the directory knows it.
    pub tenant: Option<Rc<Tenant>>,
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
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Excluded, Self::NoTenant, Self::Unavailable];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Excluded => "excluded",
            Self::NoTenant => "no_tenant",
            Self::Unavailable => "unavailable_allowed",
        }
    }
}

/// One worker's filter.
pub struct Filter {
    config: Config,
    /// Every header that only the filter may set; a client's own are removed, whatever follows.
    owned: Vec<HeaderName>,
    directory: Directory,
    /// What judges tokens, where they are judged here.
    tokens: Option<Tokens>,
    /// Where keys come from, if from a URL.
    key_source: Option<KeySource>,
    waiting: HashMap<RequestId, Pending>,
}

/// A request on its way to a verdict.
struct Pending {
    arrived: SystemTime,
    claims: Vec<(Resolution, State)>,
    /// The client's own copies of headers that are the filter's, by the names it sent.
    forged: Vec<Vec<u8>>,
    rewrite: Rewrite,
    trace: Vec<(&'static str, Vec<u8>)>,
    /// What the team's own resolver is asked.
    question: Option<Vec<u8>>,
}

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
    pub fn new(config: Config, environment: impl FnOnce(&str) -> Option<String>) -> Result<Self, Faults> {
        let owned = owned(&config);
        let isolation = &config.isolation;
        let directory = Directory::new(&config);
        let jwt = isolation.jwt.as_ref().filter(|jwt| jwt.envoy_metadata.is_none() && isolation.uses(Resolution::Jwt));
        let tokens = jwt.map(|jwt| Tokens::new(jwt, &isolation.jwt_claim, environment)).transpose()?;
        let key_source = match jwt.and_then(|jwt| jwt.jwks.as_ref()) {
            Some(Jwks::Remote(remote)) => Some(KeySource::new(remote.clone())),
            Some(Jwks::Inline(_)) | None => None,
        };
        Ok(Self { config, owned, directory, tokens, key_source, waiting: HashMap::new() })
    }

    /// Does what is due without any request. To be called at the start, and about once a second; gives what to log.
    pub fn tick(&mut self, host: &dyn Host) -> Option<String> {
        self.directory.tick(host);
        let (source, tokens) = (self.key_source.as_mut()?, self.tokens.as_mut()?);
        if source.tick(host) == Age::Good {
            return None;
        }
        tokens.set_keys(KeySet::default());
        Some("the keys for tokens are too old to be believed: their source has given no answer for too long".to_owned())
    }

    /// Judges a request by its headers.
    pub fn request(&mut self, id: RequestId, head: &Head<'_>, host: &dyn Host) -> Step {
        let forged = forged(&self.owned, head);
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
        let claims = isolation.resolution.0.iter().map(|strategy| (*strategy, state(*strategy))).collect();
        let arrived = host.now();
        let mut pending = Pending {
            arrived,
            claims,
            forged,
            rewrite: Rewrite::new(&self.config.isolation, head),
            trace: trace(head),
            question,
        };
        let step = self.advance(id, &mut pending, host);
        if step == Step::Wait {
            self.waiting.insert(id, pending);
        }
        step
    }

    /// Takes a callout's answer, and gives what happens with each request that waited for it, and what to log.
    pub fn answer(&mut self, call: CallId, answer: Answer, host: &dyn Host) -> (Vec<(RequestId, Step)>, Vec<String>) {
        if let Some(landed) = self.key_source.as_mut().and_then(|source| source.land(call, &answer, host)) {
            let faults = landed.faults.iter().map(|why| format!("the key set {why}")).collect();
            let came = landed.keys.is_some();
            if let (Some(tokens), Some(keys)) = (&mut self.tokens, landed.keys) {
                tokens.set_keys(keys);
            }
            let steps = self.wake(landed.waiting, host, |state| {
                if let State::AwaitsKeys(token) = state {
                    *state = if came { State::Token(std::mem::take(token)) } else { State::Unavailable(OnError::Deny) };
                }
            });
            return (steps, faults);
        }
        if let Some(faults) = self.directory.land_page(call, &answer, host) {
            return (Vec::new(), faults);
        }
        let Some(landed) = self.directory.land(call, answer, host) else { return (Vec::new(), Vec::new()) };
        let steps = self.wake(landed.waiting, host, |state| {
            if *state == State::Waiting(landed.key.clone()) {
                *state = State::from_lookup(landed.key.clone(), landed.lookup.clone());
            }
        });
        (steps, landed.fault.map(|why| format!("{} {why}", landed.key)).into_iter().collect())
    }

    /// Goes on with requests whose wait is over, after `change` has told each of their claims what has come.
    fn wake(
        &mut self,
        waiting: Vec<RequestId>,
        host: &dyn Host,
        change: impl Fn(&mut State),
    ) -> Vec<(RequestId, Step)> {
        let mut steps = Vec::new();
        for id in waiting {
            // A request that has ended meanwhile waits for nothing.
            let Some(mut pending) = self.waiting.remove(&id) else { continue };
            pending.claims.iter_mut().for_each(|(_, state)| change(state));
            match self.advance(id, &mut pending, host) {
                Step::Wait => {
                    self.waiting.insert(id, pending);
                }
                step => steps.push((id, step)),
            }
        }
        steps
    }

    /// Forgets a request that has ended.
    pub fn end(&mut self, id: RequestId) {
        self.waiting.remove(&id);
    }

    /// Whether a request waits for a lookup.
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    fn advance(&mut self, id: RequestId, pending: &mut Pending, host: &dyn Host) -> Step {
        // A bad token is refused whatever the other strategies say, so it comes first.
        for (_, state) in &mut pending.claims {
            if let State::Token(token) = state {
                let token = std::mem::take(token);
                *state = self.verify(token, id, pending.arrived, host);
            }
            if let State::Refused(fault) = state {
                return refuse(Denial::Unauthorized(*fault));
            }
        }
        let awaits_keys = pending.claims.iter().any(|(_, state)| matches!(state, State::AwaitsKeys(_)));
        match self.config.isolation.agreement {
            // Whether the token is bad has to be known before another strategy's answer may win.
            Agreement::First if awaits_keys => Step::Wait,
            Agreement::First => self.first(id, pending, host),
            Agreement::Consistent | Agreement::Unanimous => self.together(id, pending, host),
        }
    }

    /// The first strategy that answers decides. One that can't tell yet, or at all, is never passed over.
    fn first(&mut self, id: RequestId, pending: &mut Pending, host: &dyn Host) -> Step {
        let Pending { claims, trace, question, .. } = pending;
        let asker = Asker { id, trace, question: question.as_deref() };
        for (strategy, state) in claims {
            self.look_up(state, asker, host);
            match state {
                State::Absent => {}
                State::Ambiguous => return refuse(Denial::TenantAmbiguous(*strategy)),
                State::Ask(_) | State::Waiting(_) | State::Token(_) | State::AwaitsKeys(_) => return Step::Wait,
                State::Refused(fault) => return refuse(Denial::Unauthorized(*fault)),
                State::Unknown(key) => return refuse(not_found(key)),
                State::Unavailable(on_error) => return unavailable(*on_error, &mut pending.forged),
                State::Tenant(tenant) => {
                    let tenant = Rc::clone(tenant);
                    return self.judge(tenant, pending);
                }
            }
        }
        self.no_tenant(pending)
    }

    /// All that answer have to name one tenant, though one gives an id, one a slug, and one a domain.
    fn together(&mut self, id: RequestId, pending: &mut Pending, host: &dyn Host) -> Step {
        let unanimous = self.config.isolation.agreement == Agreement::Unanimous;
        // What needs no lookup comes first: a request that is refused anyway costs the directory nothing.
        if let Some((strategy, _)) = pending.claims.iter().find(|(_, state)| *state == State::Ambiguous) {
            return refuse(Denial::TenantAmbiguous(*strategy));
        }
        if unanimous && let Some((strategy, _)) = pending.claims.iter().find(|(_, state)| *state == State::Absent) {
            return refuse(no_answer(*strategy));
        }
        let asker = Asker { id, trace: &pending.trace, question: pending.question.as_deref() };
        for (_, state) in &mut pending.claims {
            self.look_up(state, asker, host);
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
            Some(tenant) => self.judge(tenant, pending),
            None => self.no_tenant(pending),
        }
    }

    /// What becomes of a token.
    fn verify(&mut self, token: Vec<u8>, id: RequestId, arrived: SystemTime, host: &dyn Host) -> State {
        let Some(tokens) = &mut self.tokens else { return State::Absent };
        match tokens.verify(&token, host.now(), host) {
            Ok(verified) => State::Ask(Key::Tenant(verified.tenant)),
            Err(TokenFault::NoClaim) if !self.config.isolation.needs_token() => State::Absent,
            Err(fault) if fault.newer_keys_may_help() => {
                match &mut self.key_source {
                    Some(source) if source.held_since().is_none_or(|since| since < arrived) => {
                        if source.wait(id, host) { State::AwaitsKeys(token) } else { State::Unavailable(OnError::Deny) }
                    }
                    _ => State::Refused(fault),
                }
            }
            Err(fault) => State::Refused(fault),
        }
    }

    /// The tenant in what Envoy's jwt_authn has left of a token, if there was one, and if it says so.
    fn in_metadata(&self, name: &str, host: &dyn Host) -> State {
        let mut path = vec!["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", name];
        path.extend(self.config.isolation.jwt_claim.segments());
        match host.property(&path).map(|property| tenant_in_metadata(&property)) {
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

    fn judge(&self, tenant: Rc<Tenant>, pending: &mut Pending) -> Step {
        match tenant.status {
            Status::Active => {}
            Status::Suspended => {
                return Step::Deny(Refusal {
                    denial: Denial::TenantSuspended(tenant.id.clone()),
                    tenant: Some(tenant),
                });
            }
            Status::Inactive => {
                return Step::Deny(Refusal { denial: Denial::TenantInactive(tenant.id.clone()), tenant: Some(tenant) });
            }
        }
        let mut edits: Vec<HeaderEdit> = Vec::new();
        for (name, field) in &self.config.forward.0 {
            let value = if field.is_data_model() { self.data_model(&tenant) } else { field.of(&tenant).cloned() };
            let value = value.or_else(|| field.is_status().then(|| Value::from("active")));
            if let Some(value) = value {
                edits.push(HeaderEdit::Set(name.as_str().to_owned(), header_value(&value)));
            }
        }
        // The path is the tenant's only where the path named it; with `first` another strategy may have.
        let by_path = pending.claims.iter().any(|(strategy, state)| {
            *strategy == Resolution::Path && matches!(state, State::Tenant(named) if named.id == tenant.id)
        });
        pending.rewrite.edits(by_path, &mut edits);
        remove_forged(&mut pending.forged, &mut edits);
        Step::Forward(Forwarding { decision: Decision::Allow, tenant: Some(tenant), edits })
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
        if self.config.isolation.required {
            // Where a token is the one way to name a tenant, a client needs to be told that it lacks one.
            return refuse(match self.config.isolation.resolution.0.as_slice() {
                [only] => no_answer(*only),
                _ => Denial::TenantNotFound(None),
            });
        }
        let mut edits = Vec::new();
        pending.rewrite.edits(false, &mut edits);
        remove_forged(&mut pending.forged, &mut edits);
        Step::Forward(Forwarding { decision: Decision::NoTenant, tenant: None, edits })
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

fn not_found(key: &Key) -> Denial {
    match key {
        Key::Tenant(identifier) => Denial::TenantNotFound(Some(identifier.clone())),
        Key::Domain(_) | Key::Custom(_) => Denial::TenantNotFound(None),
    }
}

fn refuse(denial: Denial) -> Step {
    Step::Deny(Refusal { denial, tenant: None })
}

fn unavailable(on_error: OnError, forged: &mut Vec<Vec<u8>>) -> Step {
    match on_error {
        OnError::Deny => refuse(Denial::ServiceUnavailable),
        OnError::Allow => pass(Decision::Unavailable, std::mem::take(forged)),
    }
}

/// A request that goes on without a tenant, and without any header that only the filter may set.
fn pass(decision: Decision, mut forged: Vec<Vec<u8>>) -> Step {
    let mut edits = Vec::new();
    remove_forged(&mut forged, &mut edits);
    Step::Forward(Forwarding { decision, tenant: None, edits })
}
