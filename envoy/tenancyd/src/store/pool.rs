//! A few connections, lent out one job at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::Refusal;

/// The most jobs that wait for a connection; those beyond are refused at once instead of piling up.
const MAX_WAITING: usize = 1024;

/// The connections, and who waits for one.
#[derive(Clone)]
pub struct Pool {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    size: u32,
}

impl Pool {
    /// A pool of these.
    pub fn new(connections: Vec<Connection>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections.len())),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            size: u32::try_from(connections.len()).unwrap_or(u32::MAX),
            idle: Arc::new(Mutex::new(connections)),
        }
    }

    /// Runs a job with a connection, off the threads that serve requests. The job is carried through even where its
    /// caller has gone or lost patience; the connection comes back either way.
    pub async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce(&mut Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let deadline =
            Instant::now().checked_add(patience).ok_or_else(|| Refusal::Internal("no such time".to_owned()))?;
        let permit = {
            let _place = self.waiting.try_acquire().map_err(|_| unavailable("too many wait for the database"))?;
            timeout_at(deadline, self.free.clone().acquire_owned())
                .await
                .map_err(|_| unavailable("no connection to the database came free in time"))?
                .map_err(|_| unavailable("the database is closed"))?
        };
        let mut lent =
            Lent::take(&self.idle, permit).ok_or_else(|| Refusal::Internal("a connection is missing".to_owned()))?;
        let running = tokio::task::spawn_blocking(move || lent.run(job));
        timeout_at(deadline, running)
            .await
            .map_err(|_| unavailable("the database took too long"))?
            .map_err(|error| Refusal::Internal(format!("a database job ended: {error}")))?
    }

    /// How many wait for a connection.
    pub fn waiting(&self) -> usize {
        MAX_WAITING.saturating_sub(self.waiting.available_permits())
    }

    /// Waits for what runs, lets nothing further start, and closes the connections.
    pub async fn close(&self, patience: Duration) -> Result<(), Refusal> {
        let all = tokio::time::timeout(patience, self.free.acquire_many(self.size)).await;
        self.free.close();
        let connections = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in connections {
            connection.close().map_err(|(_, error)| Refusal::from(error))?;
        }
        match all {
            Ok(_) => Ok(()),
            Err(_) => Err(unavailable("some work didn't end in time")),
        }
    }
}

/// A connection that goes back when it is dropped, also from a job that panics.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    fn take(idle: &Arc<Mutex<Vec<Connection>>>, permit: OwnedSemaphorePermit) -> Option<Self> {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self { connection: Some(connection), idle: idle.clone(), _permit: permit })
    }

    fn run<T>(&mut self, job: impl FnOnce(&mut Connection) -> Result<T, Refusal>) -> Result<T, Refusal> {
        match &mut self.connection {
            Some(connection) => job(connection),
            None => Err(Refusal::Internal("a connection is missing".to_owned())),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The permit goes after this, so whoever gets it finds the connection there.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::Unavailable(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_for_a_connection_has_an_end() {
        let pool = Pool::new(vec![Connection::open_in_memory().unwrap()]);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let short = Duration::from_millis(50);
        let block = move |_: &mut Connection| held.recv().map_err(|_| Refusal::NoRoute);
        let why = |refused: Result<(), Refusal>| refused.unwrap_err().private().unwrap().to_owned();
        assert_eq!(why(pool.run(short, block).await), "the database took too long");
        assert_eq!(why(pool.run(short, |_| Ok(())).await), "no connection to the database came free in time");
        assert_eq!(why(pool.close(short).await), "some work didn't end in time");
        release.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_connection_comes_back_from_a_job_that_nobody_waits_for() {
        let pool = Pool::new(vec![Connection::open_in_memory().unwrap()]);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let block = move |_: &mut Connection| held.recv().map_err(|_| Refusal::NoRoute);
        assert!(pool.run(Duration::from_millis(20), block).await.is_err());
        release.send(()).unwrap();
        pool.run(Duration::from_secs(5), |_| Ok(())).await.unwrap();
        pool.close(Duration::from_secs(5)).await.unwrap();
        let closed = pool.run(Duration::from_secs(5), |_| Ok(())).await.unwrap_err();
        assert_eq!(closed.private(), Some("the database is closed"));
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_connection_along() {
        let pool = Pool::new(vec![Connection::open_in_memory().unwrap()]);
        let fail = |_: &mut Connection| -> Result<(), Refusal> { panic!("as the test wants it") };
        let patience = Duration::from_secs(5);
        assert!(matches!(pool.run(patience, fail).await, Err(Refusal::Internal(_))));
        pool.run(patience, |_| Ok(())).await.unwrap();
    }
}
