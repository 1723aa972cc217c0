//! Clients' WebSocket connections, by tenant, behind an Envoy whose filter has judged every upgrade.
//!
//! A [`socket`] is one connection's life. Once its tenant is known it is in the [`store`], where messages find it, and
//! put themselves into its [`outbox`]. [`message`] is what is said, [`name`] who says it. What is for connections of
//! other instances goes by the [`relay`]; [`tally`] counts.

pub mod changes;
pub mod message;
pub mod name;
pub mod outbox;
pub mod relay;
pub mod socket;
pub mod store;
pub mod tally;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use axum::http::{HeaderMap, header};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::token::{Token, bearer};
use changes::Changes;
use name::ConnectionId;
use relay::Relay;
use store::{Client, Store};
use tally::Tally;

/// The longest that connections may take to end once we were told to stop. It is a little less than requests may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// What a connection may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most connections.
    pub connections: u32,
    /// The longest message of a client.
    pub message_bytes: usize,
    /// The longest silence of a client.
    pub idle: Duration,
    /// The longest wait for an auth message.
    pub auth: Duration,
}

/// The connections.
pub struct Connections {
    /// What a connection may cost.
    pub bounds: Bounds,
    /// What they came to.
    pub tally: Tally,
    /// How other instances call this one.
    pub instance: String,
    secret: Option<Token>,
    store: Arc<Store>,
    relay: Option<Relay>,
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

/// What the filter says about an upgrade.
#[derive(Debug)]
pub struct Vouched {
    /// The tenant, where it is known already.
    tenant: Option<Identifier>,
    /// Whether the client comes without a token, and is judged by its first message.
    by_message: bool,
    /// The token that it comes with.
    token: Option<String>,
}

/// How far a message came.
#[derive(Debug, PartialEq, Eq)]
pub struct Handed {
    /// To how many connections it was handed.
    pub connections: usize,
    /// Whether these are all.
    pub complete: bool,
}

/// A connection in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name.
    pub id: ConnectionId,
    /// Its user's.
    pub user_id: Option<String>,
    /// Since when, in Unix seconds.
    pub since: i64,
    /// Through which instance.
    pub instance: String,
}

impl Connections {
    /// None yet. With a Redis there may be others elsewhere.
    pub fn new(bounds: Bounds, secret: Option<Token>, redis: Option<&str>) -> Result<Self, String> {
        let instance = ConnectionId::random()?.to_string();
        let relay = redis.map(|url| Relay::new(url, instance.clone())).transpose()?;
        let store = Arc::new(Store::new(relay.is_some().then(Changes::default)));
        let places = usize::try_from(bounds.connections).map_err(|error| error.to_string())?;
        let (places, stop) = (Arc::new(Semaphore::new(places)), watch::Sender::default());
        Ok(Self { bounds, tally: Tally::default(), instance, secret, store, relay, places, stop })
    }

    /// What the filter says about an upgrade with these headers, if this is it that speaks.
    pub fn vouched(&self, headers: &HeaderMap) -> Option<Vouched> {
        // One that is there twice might have come from a client.
        let only = |name: &str| {
            let mut all = headers.get_all(name).iter();
            match (all.next(), all.next()) {
                (None, _) => Some(None),
                (Some(value), None) => Some(Some(value.as_bytes())),
                _ => None,
            }
        };
        let shown = only("x-tenancy-secret")?;
        if self.secret.as_ref().is_some_and(|secret| !shown.is_some_and(|shown| secret.is(shown))) {
            return None;
        }
        let tenant = match only("x-tenant-id")? {
            Some(id) => Some(std::str::from_utf8(id).ok().and_then(Identifier::parse)?),
            None => None,
        };
        let by_message = match only("x-tenant-auth")? {
            Some(b"message") => true,
            Some(_) => return None,
            None => false,
        };
        let token = only(header::AUTHORIZATION.as_str()).flatten().and_then(bearer);
        let token = token.and_then(|token| String::from_utf8(token.to_vec()).ok());
        (tenant.is_some() || by_message).then_some(Vouched { tenant, by_message, token })
    }

    /// A place for one more, unless there are too many or we are about to stop.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        if *self.stop.borrow() {
            return None;
        }
        self.places.clone().try_acquire_owned().ok()
    }

    /// Hands a client's message to every connection of its tenant.
    fn broadcast(&self, from: &Arc<Client>, text: String) {
        let text = Utf8Bytes::from(text);
        let here = self.store.deliver(&from.tenant, None, &text);
        if let Some(relay) = &self.relay {
            relay.pass(&self.tally.relayed, from, None, text, here);
        }
    }

    /// Hands a client's message to some connections of its tenant, and tells the client if there are none.
    fn send(&self, from: &Arc<Client>, to: &str, text: String) {
        let text = Utf8Bytes::from(text);
        let here = self.store.deliver(&from.tenant, Some(to), &text);
        match &self.relay {
            Some(relay) => relay.pass(&self.tally.relayed, from, Some(to), text, here),
            None if here == 0 => from.outbox.push(&message::no_such_recipient(to).into()),
            None => {}
        }
    }

    /// Hands what the application says to a tenant's connections.
    pub async fn post(&self, tenant: &Identifier, to: Option<&str>, data: &RawValue) -> Handed {
        let text = Utf8Bytes::from(message::message(data));
        let here = self.store.deliver(tenant, to, &text);
        let Some(relay) = &self.relay else { return Handed { connections: here, complete: true } };
        match relay.post(tenant, to, &text).await {
            Ok(handed) => Handed { connections: here.saturating_add(handed.connections), ..handed },
            Err(refusal) => {
                self.tally.relayed.lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = refusal.private(), "a message may not have reached the other instances");
                Handed { connections: here, complete: false }
            }
        }
    }

    /// The connections of a tenant after this one, wherever they are, so many at most, and whether there are more.
    pub async fn list(
        &self,
        tenant: &Identifier,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool), Refusal> {
        let mut all = match &self.relay {
            Some(relay) => relay.list(tenant, after, limit).await?,
            None => self.list_here(tenant, after, limit.saturating_add(1)),
        };
        let more = all.len() > limit;
        all.truncate(limit);
        Ok((all, more))
    }

    fn list_here(&self, tenant: &Identifier, after: Option<ConnectionId>, limit: usize) -> Vec<Listed> {
        let listed = |client: &Arc<Client>| Listed {
            id: client.id,
            user_id: client.user.as_deref().map(str::to_owned),
            since: client.since,
            instance: self.instance.clone(),
        };
        self.store.list(tenant, after, limit).iter().map(listed).collect()
    }

    /// Keeps in touch with the other instances, where there are any, for good.
    pub async fn keep_in_touch(&self) {
        if let Some(relay) = &self.relay {
            self.tally.relayed.wanted.store(true, Ordering::Relaxed);
            relay.run(&self.store, &self.tally.relayed).await;
        }
    }

    /// Whether there may be other instances.
    pub fn relays(&self) -> bool {
        self.relay.is_some()
    }

    /// Closes every connection, and waits for their ends.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        if timeout(STOP_TIMEOUT, self.places.acquire_many(self.bounds.connections)).await.is_err() {
            tracing::warn!("some connections didn't end in time; they are cut");
        }
    }

    /// Tells the other instances, where there are any, that this one is gone.
    pub async fn leave(&self) {
        if let Some(relay) = &self.relay {
            relay.leave().await;
        }
    }
}
