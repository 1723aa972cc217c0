//! The connection to Redis that all requests of one kind share, and the bounds of what is asked over it.

use std::future::Future;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::Refusal;

/// The longest that a connection takes.
pub const CONNECTING: Duration = Duration::from_secs(1);
/// The longest that Redis takes for one answer.
const ANSWERING: Duration = Duration::from_millis(500);
/// The longest that a request waits for all of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A way to a Redis.
pub struct Link {
    client: Client,
    /// The connection, if there is one, and its number.
    connection: Mutex<(u64, Option<MultiplexedConnection>)>,
}

impl Link {
    /// To the one at this address. Nothing is asked of it yet, so it may be away.
    pub fn to(url: &str) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| format!("Redis: {error}"))?;
        Ok(Self { client, connection: Mutex::default() })
    }

    /// What makes connections.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks within bounds. Where the connection turns out to be gone it is asked once more over a new one: so a restart
    /// of Redis is nothing that anybody need notice, and nothing may be asked here that must not be done twice.
    pub async fn ask<T, F: Future<Output = RedisResult<T>>>(
        &self,
        question: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, Refusal> {
        match timeout(PATIENCE, self.ask_twice(question)).await {
            Ok(done) => done.map_err(refusal),
            Err(_) => Err(Refusal::Unavailable("Redis: no answer in time".to_owned())),
        }
    }

    async fn ask_twice<T, F: Future<Output = RedisResult<T>>>(
        &self,
        question: impl Fn(MultiplexedConnection) -> F,
    ) -> RedisResult<T> {
        let (number, connection) = self.connection().await?;
        let done = question(connection).await;
        match &done {
            Err(error) if is_the_connections(error) => {
                self.give_up(number).await;
                if error.is_timeout() {
                    return done;
                }
                question(self.connection().await?.1).await
            }
            _ => done,
        }
    }

    /// The connection that all share, and its number. Whoever needs one first makes it, and the others wait for that.
    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut held = self.connection.lock().await;
        if let (number, Some(connection)) = &*held {
            return Ok((*number, connection.clone()));
        }
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTING)).set_response_timeout(Some(ANSWERING));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let number = held.0.wrapping_add(1);
        *held = (number, Some(connection.clone()));
        Ok((number, connection))
    }

    async fn give_up(&self, number: u64) {
        let mut held = self.connection.lock().await;
        if held.0 == number {
            held.1 = None;
        }
    }
}

/// Whether it is the connection that failed, and not what was asked over it.
fn is_the_connections(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

fn refusal(error: RedisError) -> Refusal {
    match error.kind() {
        // What a script of ours does wrong; all else passes: no connection, no memory, no permission to write at
        // present.
        ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::UnexpectedReturnType | ErrorKind::Parse => {
            Refusal::Internal(format!("Redis: {error}"))
        }
        _ => Refusal::Unavailable(format!("Redis: {error}")),
    }
}
