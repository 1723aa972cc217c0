//! One connection, from its upgrade to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::message::{self, FromClient};
use super::name::{ConnectionId, subject};
use super::outbox::Outbox;
use super::store::{Client, Entered};
use super::{Connections, Vouched};
use crate::identifier::Identifier;

/// The longest that a client may take for one message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that a close may take, the client's answer included.
const CLOSING: Duration = Duration::from_secs(3);
/// How long a client that sent something unreadable has to read why; a connection with unread bytes is reset.
const LINGERING: Duration = Duration::from_secs(1);
/// The longest time between two pings. Every proxy on the way is patient for longer.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(30);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client, or the filter, closed it.
    Closed,
    /// It broke.
    Lost,
    /// Nothing came for too long.
    Idle,
    /// The first message didn't come.
    Unauthenticated,
    /// The first message was another one.
    NotAuth,
    /// A message names another tenant.
    Mismatch,
    /// Its messages came faster than it read them.
    Slow,
    /// It read nothing of a message for too long.
    Stuck,
    /// A message beyond the limit.
    TooLarge,
    /// What came is no WebSocket.
    Unreadable,
    /// A text that is none.
    NotUtf8,
    /// We were told to stop.
    Stopped,
    /// A fault of ours.
    Fault,
}

impl End {
    /// For the log and the metrics.
    fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::Unauthenticated => "unauthenticated",
            Self::NotAuth => "not_auth",
            Self::Mismatch => "tenant_mismatch",
            Self::Slow => "slow_reader",
            Self::Stuck => "write_timeout",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::NotUtf8 => "not_utf8",
            Self::Stopped => "stopped",
            Self::Fault => "fault",
        }
    }

    /// What the client is told, where it can be told anything.
    fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Closed | Self::Lost | Self::Stuck => None,
            Self::Idle => Some((1001, "IDLE_TIMEOUT: nothing came for too long")),
            Self::Unauthenticated => Some((1008, "AUTHENTICATION_REQUIRED: no auth message came in time")),
            Self::NotAuth => Some((1008, "AUTHENTICATION_REQUIRED: the first message must be the auth message")),
            Self::Mismatch => Some((1008, "TENANT_MISMATCH: this connection is another tenant's")),
            Self::Slow => Some((1013, "SLOW_READER: messages were lost, connect again")),
            Self::TooLarge => Some((1009, "MESSAGE_TOO_LARGE")),
            Self::Unreadable => Some((1002, "PROTOCOL_ERROR")),
            Self::NotUtf8 => Some((1007, "NOT_UTF8")),
            Self::Stopped => Some((1001, "GOING_AWAY: connect again")),
            Self::Fault => Some((1011, "INTERNAL_ERROR")),
        }
    }
}

/// What happens to a connection.
enum Next {
    /// There is something to send, or there was no room for it.
    Text(Option<Utf8Bytes>),
    /// Something came, or nothing will any more.
    Frame(Option<Result<Message, axum::Error>>),
    /// It is time for something.
    Time,
}

/// Serves a connection to its end.
pub async fn serve(
    connections: Arc<Connections>,
    id: ConnectionId,
    vouched: Vouched,
    mut socket: WebSocket,
    place: OwnedSemaphorePermit,
) {
    let mut life = Life::begin(connections, id, place);
    let mut session = Session::new(life.connections.clone(), id, vouched);
    let end = session.run(&mut socket).await;
    life.end = end;
    life.tenant = session.entered.as_ref().map(|entered| entered.client.tenant.clone());
    // From here on nobody delivers to it.
    drop(session);
    if timeout(CLOSING, close(&mut socket, end)).await.is_err() {
        tracing::debug!(connection = %id, "cut, since it didn't answer the close in time");
    }
}

/// That a connection is there. When it is dropped, also by a panic, the connection is counted as ended, and its place
/// is free.
struct Life {
    connections: Arc<Connections>,
    id: ConnectionId,
    begun: Instant,
    tenant: Option<Identifier>,
    end: End,
    _place: OwnedSemaphorePermit,
}

impl Life {
    fn begin(connections: Arc<Connections>, id: ConnectionId, place: OwnedSemaphorePermit) -> Self {
        connections.tally.opened.fetch_add(1, Ordering::Relaxed);
        Self { connections, id, begun: Instant::now(), tenant: None, end: End::Fault, _place: place }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let reason = self.end.reason();
        self.connections.tally.closed(reason);
        let tenant = self.tenant.as_ref().map(Identifier::as_str);
        let seconds = self.begun.elapsed().as_secs();
        tracing::info!(connection = %self.id, tenant, reason, seconds, "connection ended");
    }
}

/// What is known of a connection while it lasts.
struct Session {
    connections: Arc<Connections>,
    id: ConnectionId,
    vouched: Vouched,
    outbox: Arc<Outbox>,
    /// Once the tenant is known, and the client belongs to it.
    entered: Option<Entered>,
    stop: watch::Receiver<bool>,
    opened: Instant,
    heard: Instant,
    pinged: Instant,
}

impl Session {
    fn new(connections: Arc<Connections>, id: ConnectionId, vouched: Vouched) -> Self {
        let (stop, now) = (connections.stop.subscribe(), Instant::now());
        let outbox = Arc::default();
        Self { connections, id, vouched, outbox, entered: None, stop, opened: now, heard: now, pinged: now }
    }

    async fn run(&mut self, socket: &mut WebSocket) -> End {
        if let (Some(tenant), false) = (self.vouched.tenant.clone(), self.vouched.by_message) {
            let user = self.vouched.token.take().and_then(|token| subject(&token));
            self.enter(tenant, user);
        }
        loop {
            match self.step(socket).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Whatever happens next.
    async fn step(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let deadline = self.next_deadline();
        let next = tokio::select! {
            () = stopped(&mut self.stop) => return Err(End::Stopped),
            text = self.outbox.next() => Next::Text(text),
            frame = socket.recv() => Next::Frame(frame),
            () = sleep_until(deadline) => Next::Time,
        };
        match next {
            Next::Text(text) => {
                self.write(socket, Message::Text(text.ok_or(End::Slow)?)).await?;
                self.connections.tally.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Next::Frame(frame) => {
                let frame = frame.ok_or(End::Lost)?.map_err(unreadable)?;
                self.heard = Instant::now();
                match frame {
                    Message::Text(text) => self.take(text.as_str()),
                    // It is no JSON text, whatever is in it.
                    Message::Binary(_) => self.take(""),
                    // The library has its answer to each ready already.
                    Message::Ping(_) | Message::Pong(_) => Ok(()),
                    Message::Close(_) => Err(End::Closed),
                }
            }
            Next::Time => self.on_time(socket).await,
        }
    }

    /// Takes over a client's message.
    fn take(&mut self, text: &str) -> Result<(), End> {
        self.connections.tally.received.fetch_add(1, Ordering::Relaxed);
        let message = FromClient::parse(text);
        let Some(entered) = &self.entered else {
            return match message {
                Ok(FromClient::Auth { token, tenant_id }) => self.authenticate(token, tenant_id),
                _ => Err(End::NotAuth),
            };
        };
        let client = &entered.client;
        match message {
            // Nobody has verified this token: only the first message of a client that came without one is judged. So it
            // changes nothing.
            Ok(FromClient::Auth { tenant_id, .. }) if tenant_id == client.tenant => {
                self.answer(Utf8Bytes::from_static(message::AUTHENTICATED));
            }
            Ok(FromClient::Auth { .. }) => return Err(End::Mismatch),
            Ok(FromClient::Ping) => self.answer(Utf8Bytes::from_static(message::PONG)),
            Ok(FromClient::Broadcast { data }) => {
                self.connections.broadcast(client, message::broadcast(&client.name(), data));
            }
            Ok(FromClient::Send { to, data }) => {
                self.connections.send(client, &to, message::sent(&client.name(), data));
            }
            Err(faults) => self.answer(message::invalid(&faults).into()),
        }
        Ok(())
    }

    /// The first message, which the filter has judged: its token is good, and its tenant exists and may pass.
    fn authenticate(&mut self, token: Option<String>, tenant: Identifier) -> Result<(), End> {
        if self.vouched.tenant.as_ref().is_some_and(|vouched| *vouched != tenant) {
            return Err(End::Mismatch);
        }
        self.answer(Utf8Bytes::from_static(message::AUTHENTICATED));
        self.enter(tenant, token.as_deref().and_then(subject));
        Ok(())
    }

    fn enter(&mut self, tenant: Identifier, user: Option<String>) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let since = i64::try_from(now).unwrap_or(i64::MAX);
        let user = user.map(Into::into);
        let client = Client { id: self.id, tenant, user, since, outbox: self.outbox.clone() };
        self.entered = Some(self.connections.store.enter(client));
    }

    /// Through the queue, so that answers and messages keep their order, and a client that only asks is bounded, too.
    fn answer(&self, text: Utf8Bytes) {
        self.outbox.push(&text);
    }

    /// Writes, unless the client is too slow for that.
    async fn write(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), End> {
        tokio::select! {
            written = timeout(WRITE_TIMEOUT, socket.send(message)) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Lost),
                Err(_) => Err(End::Stuck),
            },
            () = self.outbox.overflown() => Err(End::Slow),
            () = stopped(&mut self.stop) => Err(End::Stopped),
        }
    }

    async fn on_time(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let now = Instant::now();
        let bounds = &self.connections.bounds;
        if self.entered.is_none() && now.duration_since(self.opened) >= bounds.auth {
            return Err(End::Unauthenticated);
        }
        if now.duration_since(self.heard) >= bounds.idle {
            return Err(End::Idle);
        }
        if now.duration_since(self.pinged) >= self.ping_interval() {
            self.pinged = now;
            self.write(socket, Message::Ping(Vec::new().into())).await?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let bounds = &self.connections.bounds;
        let after = |moment: Instant, time: Duration| moment.checked_add(time).unwrap_or(moment);
        let next = after(self.heard, bounds.idle).min(after(self.pinged, self.ping_interval()));
        match self.entered {
            Some(_) => next,
            None => next.min(after(self.opened, bounds.auth)),
        }
    }

    /// Several pings before the connection counts as idle: a client that is there answers one of them.
    fn ping_interval(&self) -> Duration {
        self.connections.bounds.idle.checked_div(4).map_or(MAX_PING_INTERVAL, |quarter| quarter.min(MAX_PING_INTERVAL))
    }
}

/// Waits until we are told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Only where nobody can tell us any more there is an error, and then there is nothing to go on for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Says why, and waits for the client's answer. Where the client said it, the library answers while we wait for the
/// end.
async fn close(socket: &mut WebSocket, end: End) {
    if let Some((code, reason)) = end.close() {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
    }
    match end {
        End::Lost | End::Stuck => {}
        End::TooLarge | End::Unreadable | End::NotUtf8 => sleep(LINGERING).await,
        _ => while let Some(Ok(_)) = socket.recv().await {},
    }
}

fn unreadable(error: axum::Error) -> End {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error.into_inner().downcast_ref() {
        Some(Error::Capacity(_)) => End::TooLarge,
        Some(Error::Utf8(_)) => End::NotUtf8,
        // Who breaks off has nobody left who could be told so.
        Some(Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ResetWithoutClosingHandshake)) => End::Lost,
        _ => End::Unreadable,
    }
}
