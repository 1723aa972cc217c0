//! The conductor's part for WebSocket connections: the auth message judged, messages counted, and tenants looked up again.

use std::time::{Duration, SystemTime};

use super::connection::{Connection, Ending, Flow, Found, Passage, Piece, Place, Stage, Verdict};
use super::headers::HeaderEdit;
use super::{Decision, Event, Filter, Pending, Phase, State, Step, Turn};
use crate::config::{AuthMessage, Counted, OnError, Resolution};
use crate::denial::Denial;
use crate::directory::{Asker, Key, Landed, Lookup};
use crate::host::{Host, RequestId};
use crate::jwt::{TokenFault, expiry_in_metadata};
use crate::request::{Head, Trace, TraceHeaders};
use crate::websocket::{AuthMessage as Message, AuthText, Unfit};

/// The header that tells the service of an upgrade whose first message the filter will have verified.
pub(super) const AUTH: &str = "x-tenant-auth";
/// Its one value.
const BY_MESSAGE: &[u8] = b"message";
/// After how long a connection is looked at again whose tenant is being asked for.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// How long after its end jwt_authn takes a token: its own `clock_skew_seconds`, where nothing else is said.
const JWT_AUTHN_SKEW: Duration = Duration::from_secs(60);
/// The header by which a client asks for extensions of the protocol, such as compression.
const EXTENSIONS: &str = "sec-websocket-extensions";

impl Filter {
    /// What a request is, by its head and what its strategies say. From one that may bring its token in a message, none is expected.
    pub(super) fn phase(&self, head: &Head<'_>, claims: &mut Vec<(Resolution, State)>) -> Phase {
        if !head.is_websocket_upgrade() {
            return Phase::Request;
        }
        let settings = &self.config.websocket;
        let token = claims.iter_mut().find(|(strategy, _)| *strategy == Resolution::Jwt).map(|(_, state)| state);
        let Some(token) = token.filter(|token| **token == State::Absent) else { return Phase::Upgrade };
        if settings.auth_message == AuthMessage::Off {
            return Phase::Upgrade;
        }
        if !settings.paths.0.iter().any(|path| path.covers(&head.target)) {
            // Whatever else names its tenant: no connection is opened without a token.
            *token = State::Refused(TokenFault::Missing);
            return Phase::Upgrade;
        }
        claims.retain(|(strategy, _)| *strategy != Resolution::Jwt);
        Phase::Awaiting { removes_extensions: head.values(EXTENSIONS).next().is_some() }
    }

    /// Goes on with a request that was judged: one that opens a connection is followed.
    pub(super) fn follow(&mut self, id: RequestId, pending: &Pending, step: Step, host: &dyn Host) -> Step {
        let Step::Forward(mut forwarding) = step else { return step };
        let tenant = forwarding.tenant.clone();
        match pending.phase {
            Phase::Awaiting { removes_extensions } => {
                // What is compressed, nobody here could read.
                if removes_extensions {
                    forwarding.edits.push(HeaderEdit::Remove(EXTENSIONS.as_bytes().to_vec()));
                }
                forwarding.edits.push(HeaderEdit::Add(AUTH.into(), BY_MESSAGE.into()));
                forwarding.decision = Decision::AwaitsMessage;
                let deadline = host.monotonic().saturating_add(self.config.websocket.auth_timeout());
                let stage = Stage::Awaits { deadline, text: AuthText::default() };
                let connection = Connection::new(stage, tenant, false, self.counts_messages());
                self.connections.insert(id, Box::new(connection));
            }
            Phase::Upgrade if tenant.is_some() => {
                let mut connection = Connection::new(Stage::Passes, tenant, true, self.counts_messages());
                self.watch(&mut connection, pending, host);
                if self.counts_messages() || connection.recheck_at.is_some() {
                    self.connections.insert(id, Box::new(connection));
                }
            }
            _ => {}
        }
        Step::Forward(forwarding)
    }

    fn counts_messages(&self) -> bool {
        self.config.quotas.0.iter().any(|quota| quota.unit == Counted::Message)
    }

    /// Has a connection looked at again in time, where the configuration says so.
    fn watch(&self, connection: &mut Connection, pending: &Pending, host: &dyn Host) {
        let Some(after) = self.config.websocket.recheck() else { return };
        connection.token_until = pending.token_until.or_else(|| self.expiry_in_metadata(host));
        connection.recheck_at = Some(host.monotonic().saturating_add(after));
    }

    /// When the token expires that Envoy's jwt_authn has verified, if it is the one to be believed.
    fn expiry_in_metadata(&self, host: &dyn Host) -> Option<SystemTime> {
        let jwt = self.config.isolation.jwt.as_ref()?;
        let exp = super::claim_in_metadata(jwt.envoy_metadata.as_ref()?, ["exp"].into_iter(), host)?;
        expiry_in_metadata(&exp)?.checked_add(JWT_AUTHN_SKEW)
    }

    /// Whether it is a connection whose bytes have to be looked at.
    pub fn is_connection(&self, id: RequestId) -> bool {
        self.connections.contains_key(&id)
    }

    /// Takes the status of the response to an upgrade, and gives what happens with the request, or with the connection.
    pub fn opened(&mut self, id: RequestId, status: &[u8], host: &dyn Host) -> Option<Step> {
        let connection = self.connections.get_mut(&id)?;
        if status == b"101" {
            connection.is_open = true;
            if let Stage::Awaits { deadline, .. } = &mut connection.stage {
                *deadline = host.monotonic().saturating_add(self.config.websocket.auth_timeout());
            }
            let proceeds = connection.holds_client();
            return proceeds.then(|| Step::Flow(Box::new(Flow { proceeds, ..Flow::unchanged() })));
        }
        let by_message = connection.by_message;
        self.connections.remove(&id);
        self.waiting.remove(&id);
        // The service has taken it for a plain request, and its answer is not for somebody who hasn't said who it is. That there was
        // an error is nobody's secret.
        let is_answer = matches!(status, [b'1'..=b'3', ..]);
        (by_message && is_answer).then(|| super::refuse(Denial::Unauthorized(TokenFault::Missing)))
    }

    /// Takes what a client has sent, after what Envoy holds of it.
    pub fn client_piece(&mut self, id: RequestId, piece: Piece<'_>, host: &dyn Host) -> Flow {
        let Some(mut connection) = self.connections.remove(&id) else { return Flow::of_client(Passage::Pass) };
        let flow = self.take_client(id, &mut connection, piece, host);
        self.connections.insert(id, connection);
        flow
    }

    fn take_client(&mut self, id: RequestId, connection: &mut Connection, piece: Piece<'_>, host: &dyn Host) -> Flow {
        let now = host.monotonic();
        let mut flow = Flow::unchanged();
        if matches!(connection.stage, Stage::Awaits { .. }) {
            let ending = match connection.find_auth(piece, self.config.websocket.max_message()) {
                Found::Text(text) => {
                    connection.stage = Stage::Judged;
                    let Some(first) = self.judge_message(id, connection, &text, host) else {
                        return connection.hold_client();
                    };
                    flow = first;
                    None
                }
                Found::End(ending) => Some(ending),
                // It can't come any more.
                Found::Nothing if piece.is_last => Some(Ending::unfit(Unfit::Closed)),
                Found::Nothing => return connection.hold_client(),
            };
            if let Some(ending) = ending {
                return connection.end(ending, Place::At(0), now);
            }
        } else if let Some(ending) = self.due(id, connection, host) {
            let place = connection.place(piece);
            return connection.end(ending, place, now);
        }
        match connection.stage {
            Stage::Awaits { .. } | Stage::Judged => return connection.hold_client(),
            Stage::Counts => {
                // Should it end while it waits, it must be known where in its frames the client is.
                connection.find_messages(piece);
                return connection.hold_client();
            }
            Stage::Ends(_) if !flow.verdicts.is_empty() => return flow,
            Stage::Ends(_) => return connection.client_at_end(piece, now),
            // A service that refuses the upgrade would read what comes early as another request.
            Stage::Passes if connection.by_message && !connection.is_open => {
                return connection.hold_client().after(flow);
            }
            Stage::Passes => {}
        }
        connection.find_messages(piece);
        while let Some(start) = connection.uncounted.front().copied() {
            match self.count(id, connection, host) {
                Counting::Passes(more) => flow.events.extend(more),
                Counting::Waits => {
                    connection.stage = Stage::Counts;
                    return connection.hold_client().after(flow);
                }
                Counting::Refused(ending, more) => {
                    flow.events.extend(more);
                    return connection.end(ending, Place::of(start), now).after(flow);
                }
            }
            connection.uncounted.pop_front();
        }
        match connection.violation {
            Some((violation, start)) => connection.end(Ending::violation(violation), Place::of(start), now).after(flow),
            None => Flow::of_client(connection.pass_client()).after(flow),
        }
    }

    /// Takes what a service has sent, after what Envoy holds of it.
    pub fn service_piece(&mut self, id: RequestId, piece: Piece<'_>, host: &dyn Host) -> Flow {
        let Some(mut connection) = self.connections.remove(&id) else { return Flow::of_service(Passage::Pass) };
        let now = host.monotonic();
        let ended = self.due(id, &mut connection, host).map(|ending| {
            let place = connection.held_place();
            connection.end(ending, place, now)
        });
        let flow = match connection.stage {
            // A service that leaves before the client has said who it is leaves it nothing to see.
            Stage::Awaits { .. } | Stage::Judged if piece.is_last => {
                connection.release_service();
                Flow::of_service(Passage::NOTHING)
            }
            // After the upgrade's response comes an empty piece. To hold it has a price: what comes next, Envoy adds to it, and cuts the
            // connection where that is more than its buffers' limit. It is held where nothing of the client is, as over HTTP/2: without either
            // one who never says anything could be told nothing.
            Stage::Awaits { .. } | Stage::Judged if piece.size == 0 && connection.holds_client() => {
                connection.release_service();
                Flow::of_service(Passage::Pass)
            }
            Stage::Awaits { .. } | Stage::Judged => connection.hold_service(piece),
            Stage::Passes | Stage::Counts => connection.pass_service(piece),
            Stage::Ends(_) => connection.service_at_end(piece, now),
        };
        self.connections.insert(id, connection);
        match ended {
            Some(ended) => Flow { service: flow.service, ..ended },
            None => flow,
        }
    }

    /// Judges the auth message, and gives what happens with the connection; `None` where that takes a callout.
    fn judge_message(
        &mut self,
        id: RequestId,
        connection: &mut Connection,
        text: &[u8],
        host: &dyn Host,
    ) -> Option<Flow> {
        let Some(message) = Message::read(text) else {
            let ending = Ending::unfit(Unfit::NotText);
            return Some(connection.end(ending, Place::At(0), host.monotonic()));
        };
        let mut claims = vec![(Resolution::Jwt, State::Token(message.token))];
        // It was looked up at the upgrade; whether it may be served, the token's own lookup tells.
        claims.extend(connection.tenant.clone().map(|tenant| (Resolution::Jwt, State::Tenant(tenant))));
        let mut pending = Pending::of_connection(Phase::Message { names: message.tenant }, claims);
        match self.advance(&mut pending, Turn { id, head: None, host }) {
            Step::Wait => {
                self.waiting.insert(id, Box::new(pending));
                None
            }
            step => Some(self.settle(connection, &pending, step, host)),
        }
    }

    /// Takes the verdict on an auth message that Envoy holds.
    fn settle(&self, connection: &mut Connection, pending: &Pending, step: Step, host: &dyn Host) -> Flow {
        let (ending, more) = match step {
            Step::Forward(forwarding) if forwarding.tenant.is_some() => {
                connection.stage = Stage::Passes;
                connection.tenant = forwarding.tenant.clone();
                self.watch(connection, pending, host);
                let verdict = Verdict { decision: Decision::Allow.as_str(), tenant: forwarding.tenant };
                let service = connection.release_service();
                return Flow { service, verdicts: vec![verdict], events: forwarding.events, ..Flow::unchanged() };
            }
            Step::Deny(refusal) => {
                connection.tenant = refusal.tenant.or(connection.tenant.take());
                (Ending::refused(refusal.denial), refusal.events)
            }
            // Where nobody can say which tenant it is, onError may let a request pass without one. But the service believes what
            // the message says.
            _ => (Ending::refused(Denial::ServiceUnavailable), Vec::new()),
        };
        Flow { events: more, ..connection.end(ending, Place::At(0), host.monotonic()) }
    }

    /// Counts a message.
    fn count(&mut self, id: RequestId, connection: &Connection, host: &dyn Host) -> Counting {
        let Some(tenant) = connection.tenant.clone() else { return Counting::Passes(Vec::new()) };
        let mut pending = Pending::of_connection(Phase::Count, vec![(Resolution::Jwt, State::Tenant(tenant))]);
        let step = self.advance(&mut pending, Turn { id, head: None, host });
        if step == Step::Wait {
            self.waiting.insert(id, Box::new(pending));
        }
        Counting::of(step)
    }

    /// Goes on with a connection whose wait is over.
    pub(super) fn resume(&mut self, id: RequestId, pending: &Pending, step: Step, host: &dyn Host) -> Option<Flow> {
        let mut connection = self.connections.remove(&id)?;
        let flow = match (&connection.stage, &pending.phase) {
            (Stage::Judged, Phase::Message { .. }) => {
                let flow = self.settle(&mut connection, pending, step, host);
                Some(Flow { proceeds: matches!(connection.stage, Stage::Passes), ..flow })
            }
            (Stage::Counts, Phase::Count) => match Counting::of(step) {
                Counting::Passes(events) => {
                    connection.stage = Stage::Passes;
                    connection.uncounted.pop_front();
                    Some(Flow { proceeds: true, events, ..Flow::unchanged() })
                }
                Counting::Refused(ending, events) => {
                    let place = connection.held_place();
                    Some(Flow { events, ..connection.end(ending, place, host.monotonic()) })
                }
                Counting::Waits => None,
            },
            // It has come to its end meanwhile.
            _ => None,
        };
        self.connections.insert(id, connection);
        flow
    }

    /// Why a connection that is its tenant's may be so no longer, if that is due to be looked at.
    fn due(&mut self, id: RequestId, connection: &mut Connection, host: &dyn Host) -> Option<Ending> {
        if !matches!(connection.stage, Stage::Passes | Stage::Counts) {
            return None;
        }
        if connection.token_until.is_some_and(|until| host.now() >= until) {
            return Some(Ending::refused(Denial::Unauthorized(TokenFault::Expired)));
        }
        let now = host.monotonic();
        let tenant = connection.tenant.as_ref().filter(|_| connection.recheck_at.is_some_and(|at| now >= at))?;
        let key = Key::Tenant(tenant.id.clone());
        let trace = TraceHeaders::new();
        let lookup = self.directory.find(&key, Asker::new(id, Trace::Kept(&trace)), host);
        self.recheck(connection, lookup, now)
    }

    /// Takes what the directory says of a connection's tenant now, and gives why the connection ends, if that is the end.
    fn recheck(&self, connection: &mut Connection, lookup: Lookup, now: Duration) -> Option<Ending> {
        let after = |time: Duration| Some(now.saturating_add(time));
        connection.recheck_at = self.config.websocket.recheck().and_then(after);
        let denial = match lookup {
            Lookup::Tenant(tenant) => {
                let denial = super::status_denial(&tenant);
                connection.tenant = Some(tenant);
                denial
            }
            Lookup::Unknown => Some(Denial::TenantNotFound(connection.tenant.as_ref().map(|tenant| tenant.id.clone()))),
            Lookup::Unavailable(OnError::Deny) => Some(Denial::ServiceUnavailable),
            Lookup::Unavailable(OnError::Allow) => None,
            Lookup::Waiting | Lookup::Named(_) | Lookup::Usage(_) => {
                connection.recheck_at = after(ASKED_AGAIN);
                None
            }
        };
        denial.map(Ending::refused)
    }

    /// Takes an answer for the connections that wait for it. By the next tick it may be too old to be believed, and if it is kept
    /// for less than that, each would be.
    pub(super) fn rechecked(&mut self, landed: &Landed, host: &dyn Host) -> Vec<(RequestId, Step)> {
        let Key::Tenant(name) = &landed.key else { return Vec::new() };
        let now = host.monotonic();
        let mut steps = Vec::new();
        for id in &landed.waiting {
            let Some(mut connection) = self.connections.remove(id) else { continue };
            let is_theirs = connection.tenant.as_ref().is_some_and(|tenant| tenant.id == *name);
            let passes = matches!(connection.stage, Stage::Passes | Stage::Counts);
            if passes
                && is_theirs
                && let Some(ending) = self.recheck(&mut connection, landed.lookup.clone(), now)
            {
                self.waiting.remove(id);
                let place = connection.held_place();
                steps.push((*id, Step::Flow(Box::new(connection.end(ending, place, now)))));
            }
            self.connections.insert(*id, connection);
        }
        steps
    }

    /// Looks at all connections, and gives what happens with each that is due.
    pub(super) fn tick_connections(&mut self, host: &dyn Host) -> Vec<(RequestId, Step)> {
        let (now, wall) = (host.monotonic(), host.now());
        let is_due = |connection: &Connection| connection.is_due(now, wall);
        let due: Vec<RequestId> =
            self.connections.iter().filter(|(_, connection)| is_due(connection)).map(|(id, _)| *id).collect();
        let mut steps = Vec::new();
        for id in due {
            let Some(mut connection) = self.connections.remove(&id) else { continue };
            let ending = match connection.stage {
                Stage::Awaits { .. } => Some(Ending::too_late()),
                Stage::Judged | Stage::Ends(_) => None,
                Stage::Passes | Stage::Counts => self.due(id, &mut connection, host),
            };
            let flow = match ending {
                Some(ending) => {
                    self.waiting.remove(&id);
                    let place = connection.held_place();
                    Some(connection.end(ending, place, now))
                }
                None => connection.overdue(now).map(|cut| Flow { cut: Some(cut), ..Flow::unchanged() }),
            };
            steps.extend(flow.map(|flow| (id, Step::Flow(Box::new(flow)))));
            self.connections.insert(id, connection);
        }
        steps
    }
}

/// What came of counting a message.
enum Counting {
    /// There is room for it.
    Passes(Vec<Event>),
    /// It waits.
    Waits,
    /// There is none, or nobody can say.
    Refused(Ending, Vec<Event>),
}

impl Counting {
    fn of(step: Step) -> Self {
        match step {
            Step::Forward(forwarding) => Self::Passes(forwarding.events),
            Step::Wait => Self::Waits,
            Step::Deny(refusal) => Self::Refused(Ending::refused(refusal.denial), refusal.events),
            Step::Flow(_) => Self::Refused(Ending::refused(Denial::ServiceUnavailable), Vec::new()),
        }
    }
}
