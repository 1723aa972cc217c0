//! Other instances' connections, by way of Redis.
//!
//! Messages go by publish/subscribe, over one channel that every instance hears. Besides, each instance keeps a
//! register of its connections there, one sorted set a tenant, which only it writes: so it is known who is connected
//! anywhere. It counts only while its instance goes on saying that it lives, so what a crash leaves behind goes by
//! itself; and it is compared with what is really there now and then, and after every outage of Redis, so what that
//! cost comes back by itself.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, StreamExt};
use redis::{Cmd, Msg, Pipeline, Value, cmd, pipe};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::changes::Change;
use super::name::ConnectionId;
use super::store::{Client, Store};
use super::tally::Relayed;
use super::{Handed, Listed, message};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::redis::link::{CONNECTING, Link};

/// How often an instance says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// After so many seconds without that, its connections are no longer known to others.
const LIFETIME: u32 = 12;
/// How many heartbeats it takes until the register is looked through.
const BEATS_A_CHECK: u32 = 5;
/// After so many seconds without that, Redis drops it.
const REGISTERED: u32 = 60;
/// After so long a silence, its own heartbeats included, an instance connects anew.
const SILENCE: Duration = Duration::from_secs(10);
/// The pause before it does, at first and at the most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// The most messages that wait to be published; those beyond are lost, and counted.
const MAX_WAITING: usize = 256;
/// The most messages that are published at once.
const BATCH: usize = 64;
/// The most entries of the register that are written or looked at at once.
const CHUNK: usize = 500;
const INSTANCES: &str = "tenancyd:connections:instances";

/// The way to the other instances.
pub struct Relay {
    link: Link,
    instance: String,
    channel: String,
    /// Whether Redis has been away since the register was last written.
    was_away: AtomicBool,
    jobs: mpsc::Sender<Job>,
    waiting: Mutex<mpsc::Receiver<Job>>,
}

/// A message that a client has sent.
struct Job {
    from: Arc<Client>,
    to: Option<String>,
    text: Utf8Bytes,
    /// To how many it was handed here.
    here: usize,
}

impl Relay {
    /// By way of this Redis.
    pub fn new(url: &str, instance: String) -> Result<Self, String> {
        let link = Link::to(url)?;
        // Channels are common to all databases of a Redis, and two installations in one must not hear each other.
        let database = link.client().get_connection_info().redis_settings().db();
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let channel = format!("tenancyd:connections:{database}");
        Ok(Self { link, instance, channel, was_away: AtomicBool::new(false), jobs, waiting: Mutex::new(waiting) })
    }

    /// Passes on what a client has sent. Clients don't wait for Redis.
    pub fn pass(&self, relayed: &Relayed, from: &Arc<Client>, to: Option<&str>, text: Utf8Bytes, here: usize) {
        let job = Job { from: from.clone(), to: to.map(str::to_owned), text, here };
        if let Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
            self.jobs.try_send(job)
        {
            lose(relayed, &[job]);
        }
    }

    /// Passes on what the application says, and tells how far that came.
    pub async fn post(&self, tenant: &Identifier, to: Option<&str>, text: &str) -> Result<Handed, Refusal> {
        let command = self.deliver(tenant, to, text);
        let (handed, missed) = self
            .link
            .ask(|mut connection| {
                let command = &command;
                async move { command.query_async::<(usize, usize)>(&mut connection).await }
            })
            .await?;
        Ok(Handed { connections: handed, complete: missed == 0 })
    }

    /// The connections of a tenant after this one on every instance, one more than so many at most.
    pub async fn list(
        &self,
        tenant: &Identifier,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, Refusal> {
        let mut command = cmd("EVAL");
        command.arg(include_str!("list.lua")).arg(0).arg(tenant.as_str());
        command.arg(after.map_or(String::new(), |id| id.to_string())).arg(limit.saturating_add(1)).arg(LIFETIME);
        let found: Vec<(String, String)> = self
            .link
            .ask(|mut connection| {
                let command = &command;
                async move { command.query_async(&mut connection).await }
            })
            .await?;
        let mut listed: Vec<Listed> = found.iter().filter_map(|(instance, entry)| listed(instance, entry)).collect();
        listed.sort_unstable_by_key(|listed| listed.id);
        Ok(listed)
    }

    /// Publishes, registers and listens, for good.
    pub async fn run(&self, store: &Store, relayed: &Relayed) {
        tokio::join!(self.publish(relayed), self.register(store), self.listen(store, relayed));
    }

    /// Tells the others that this instance is gone.
    pub async fn leave(&self) {
        let mut command = cmd("ZREM");
        command.arg(INSTANCES).arg(&self.instance);
        let left = self.link.ask(|mut connection| {
            let command = &command;
            async move { command.query_async::<()>(&mut connection).await }
        });
        // Its register expires by itself.
        let _ = timeout(CONNECTING, left).await;
    }

    async fn publish(&self, relayed: &Relayed) {
        let mut waiting = self.waiting.lock().await;
        let mut works = true;
        loop {
            let mut batch = Vec::new();
            if waiting.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            let done = self.publish_batch(&batch).await;
            if done.is_ok() != works {
                works = done.is_ok();
                match &done {
                    Ok(_) => tracing::info!("messages reach the other instances again"),
                    Err(refusal) => tracing::warn!(error = refusal.private(), "messages to other instances are lost"),
                }
            }
            match done {
                Ok(found) => {
                    for (job, elsewhere) in batch.iter().zip(found) {
                        if let Some(to) = &job.to
                            && job.here == 0
                            && elsewhere == 0
                        {
                            job.from.outbox.push(&message::no_such_recipient(to).into());
                        }
                    }
                }
                Err(_) => lose(relayed, &batch),
            }
        }
    }

    /// On how many connections elsewhere each of these is for.
    async fn publish_batch(&self, batch: &[Job]) -> Result<Vec<usize>, Refusal> {
        let mut pipeline = pipe();
        for job in batch {
            match &job.to {
                Some(to) => pipeline.add_command(self.deliver(&job.from.tenant, Some(to), &job.text)),
                None => {
                    let mut publish = cmd("PUBLISH");
                    publish.arg(&self.channel).arg(self.payload(&job.from.tenant, None, &job.text));
                    pipeline.add_command(publish)
                }
            };
        }
        let answers: Vec<Value> = self.run_all(&pipeline).await?;
        let found = |answer: &Value| match redis::from_redis_value_ref::<(usize, usize)>(answer) {
            Ok((handed, missed)) => handed.saturating_add(missed),
            Err(_) => 0,
        };
        Ok(answers.iter().map(found).collect())
    }

    async fn run_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Refusal> {
        self.link.ask(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    fn deliver(&self, tenant: &Identifier, to: Option<&str>, text: &str) -> Cmd {
        let to_connection = to.filter(|to| ConnectionId::parse(to).is_some()).unwrap_or_default();
        let mut command = cmd("EVAL");
        command.arg(include_str!("deliver.lua")).arg(0).arg(&self.instance).arg(tenant.as_str()).arg(&self.channel);
        command.arg(to_connection).arg(to.map_or(String::new(), encoded));
        command.arg(self.payload(tenant, to, text)).arg(LIFETIME);
        command
    }

    /// A message as it travels: from where, whose, for whom, and then its text.
    fn payload(&self, tenant: &Identifier, to: Option<&str>, text: &str) -> String {
        format!("{} {tenant} {}\n{text}", self.instance, to.map_or("-".to_owned(), encoded))
    }

    async fn listen(&self, store: &Store, relayed: &Relayed) {
        let mut pause = PAUSES.0;
        loop {
            match timeout(CONNECTING, self.subscribe()).await {
                Ok(Ok(messages)) => {
                    tracing::info!(instance = self.instance, "other instances are heard");
                    relayed.listening.store(true, Ordering::Relaxed);
                    pause = PAUSES.0;
                    let mut messages = pin!(messages);
                    while let Ok(Some(message)) = timeout(SILENCE, messages.next()).await {
                        self.hear(store, message.get_payload_bytes());
                    }
                    relayed.listening.store(false, Ordering::Relaxed);
                    relayed.breaks.fetch_add(1, Ordering::Relaxed);
                    self.was_away.store(true, Ordering::Relaxed);
                    tracing::warn!("other instances are not heard; what they say meanwhile is lost here");
                }
                Ok(Err(error)) => tracing::debug!(%error, "can't subscribe"),
                Err(_) => tracing::debug!("can't subscribe in time"),
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSES.1);
        }
    }

    async fn subscribe(&self) -> redis::RedisResult<impl Stream<Item = Msg> + use<>> {
        let mut subscription = self.link.client().get_async_pubsub().await?;
        subscription.subscribe(&[&self.channel, &format!("{}:{}", self.channel, self.instance)]).await?;
        Ok(subscription.into_on_message())
    }

    /// Takes over a message of another instance. A heartbeat is an empty one.
    fn hear(&self, store: &Store, payload: &[u8]) {
        let Some((head, text)) = std::str::from_utf8(payload).ok().and_then(|payload| payload.split_once('\n')) else {
            return;
        };
        let mut words = head.split(' ');
        let (Some(from), Some(tenant), Some(to), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return;
        };
        let (Some(tenant), false) = (Identifier::parse(tenant), from == self.instance) else { return };
        match to {
            "-" => _ = store.deliver(&tenant, None, &text.into()),
            to => {
                if let Some(to) = decoded(to) {
                    store.deliver(&tenant, Some(&to), &text.into());
                }
            }
        }
    }

    async fn register(&self, store: &Store) {
        let Some(changes) = &store.changes else { return };
        let (mut beat, mut beats) = (Instant::now(), 0_u32);
        // Whether the register may be wrong in more than numbers show.
        let mut stale = false;
        loop {
            // It is for a heartbeat that this ends without a change.
            let _ = timeout_at(beat, changes.some()).await;
            let taken = changes.take();
            stale |= taken.is_none() || self.was_away.swap(false, Ordering::Relaxed);
            let due = stale || Instant::now() >= beat;
            let done = async {
                self.apply(&taken.unwrap_or_default()).await?;
                if due {
                    self.beat().await?;
                }
                if stale || (due && beats.is_multiple_of(BEATS_A_CHECK)) {
                    self.check(store, stale).await?;
                }
                Ok::<_, Refusal>(())
            };
            stale = match done.await {
                Ok(()) => false,
                Err(refusal) => {
                    tracing::debug!(error = refusal.private(), "can't register connections");
                    sleep(PAUSES.1).await;
                    true
                }
            };
            if due {
                beats = beats.wrapping_add(1);
                beat = Instant::now().checked_add(HEARTBEAT).unwrap_or(beat);
            }
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), Refusal> {
        for chunk in changes.chunks(CHUNK) {
            let mut pipeline = pipe();
            let mut keys = HashSet::new();
            for change in chunk {
                let (client, mut command) = match change {
                    Change::Opened(client) => (client, cmd("ZADD")),
                    Change::Closed(client) => (client, cmd("ZREM")),
                };
                let key = self.key(&client.tenant);
                command.arg(&key);
                for entry in entries(client) {
                    if matches!(change, Change::Opened(_)) {
                        command.arg(0);
                    }
                    command.arg(entry);
                }
                pipeline.add_command(command).ignore();
                keys.insert(key);
            }
            for key in keys {
                pipeline.cmd("EXPIRE").arg(key).arg(REGISTERED).ignore();
            }
            self.run_all(&pipeline).await?;
        }
        Ok(())
    }

    /// Says that this instance lives.
    async fn beat(&self) -> Result<(), Refusal> {
        let mut pipeline = pipe();
        pipeline
            .cmd("EVAL")
            .arg(include_str!("heartbeat.lua"))
            .arg(0)
            .arg(&self.instance)
            .arg(&self.channel)
            .arg(LIFETIME);
        self.run_all(&pipeline).await.map(|_| ())
    }

    /// Puts right what the register has wrong: where the numbers differ, or everywhere.
    async fn check(&self, store: &Store, stale: bool) -> Result<(), Refusal> {
        for chunk in store.census().chunks(CHUNK) {
            let mut pipeline = pipe();
            for (tenant, _) in chunk {
                pipeline.cmd("EXPIRE").arg(self.key(tenant)).arg(REGISTERED).ignore();
                pipeline.cmd("ZCARD").arg(self.key(tenant));
            }
            let counts = self.run_all(&pipeline).await?;
            for ((tenant, expected), count) in chunk.iter().zip(counts) {
                if stale || redis::from_redis_value::<usize>(count).ok() != Some(*expected) {
                    self.rewrite(store, tenant).await?;
                }
            }
        }
        Ok(())
    }

    async fn rewrite(&self, store: &Store, tenant: &Identifier) -> Result<(), Refusal> {
        let key = self.key(tenant);
        let mut pipeline = pipe();
        pipeline.atomic().cmd("DEL").arg(&key).ignore();
        let mut after = None;
        loop {
            let clients = store.list(tenant, after, CHUNK);
            if let Some(last) = clients.last() {
                let add = pipeline.cmd("ZADD").arg(&key);
                for entry in clients.iter().flat_map(|client| entries(client)) {
                    add.arg(0).arg(entry);
                }
                pipeline.ignore().cmd("EXPIRE").arg(&key).arg(REGISTERED).ignore();
                after = Some(last.id);
            }
            self.run_all(&pipeline).await?;
            pipeline = pipe();
            if clients.len() < CHUNK {
                return Ok(());
            }
        }
    }

    fn key(&self, tenant: &Identifier) -> String {
        format!("tenancyd:{{{tenant}}}:connections:{}", self.instance)
    }
}

/// Counts messages that are lost, and tells those who sent to somebody who isn't here, since they alone expect an answer.
fn lose(relayed: &Relayed, jobs: &[Job]) {
    relayed.lost.fetch_add(u64::try_from(jobs.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    for job in jobs.iter().filter(|job| job.to.is_some() && job.here == 0) {
        job.from.outbox.push(&message::unreachable().into());
    }
}

/// What the register says of a connection. In the order of bytes, which is that of sorted sets whose scores are equal,
/// these are found by the connection's name, and by its user's.
fn entries(client: &Client) -> impl Iterator<Item = String> {
    let Client { id, user, since, .. } = client;
    let user = user.as_deref().map(encoded);
    let of_user = user.as_ref().map(|user| format!("u {user} {id}"));
    [format!("c {id} {since} {}", user.unwrap_or("-".to_owned()))].into_iter().chain(of_user)
}

fn listed(instance: &str, entry: &str) -> Option<Listed> {
    let mut words = entry.split(' ').skip(1);
    let (id, since, user) = (words.next()?, words.next()?, words.next()?);
    let user_id = match user {
        "-" => None,
        user => Some(decoded(user)?),
    };
    let (id, since) = (ConnectionId::parse(id)?, since.parse().ok()?);
    Some(Listed { id, user_id, since, instance: instance.to_owned() })
}

/// A name without spaces. No name is so short that this would be `-`.
fn encoded(name: impl AsRef<str>) -> String {
    URL_SAFE_NO_PAD.encode(name.as_ref())
}

fn decoded(text: &str) -> Option<String> {
    URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}
