//! The database: one connection that writes, several that read, and nobody who waits for ever.

mod backup;
pub mod changes;
mod connection;
pub mod counts;
pub mod directory;
mod pool;
mod schema;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::Refusal;
pub use backup::backup;
use pool::Pool;

/// How many requests are read for at once.
const READERS: usize = 4;
/// The longest that a request waits for the database, its turn included.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that the stop waits for work under way.
const CLOSING: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In this process, and gone with it.
    Memory,
    /// In a file, with two more beside it (`-wal`, `-shm`) while it is open.
    File(PathBuf),
}

impl std::str::FromStr for Location {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected a file's name, or :memory:".to_owned()),
            ":memory:" => Ok(Self::Memory),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str(":memory:"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The open database.
pub struct Store {
    writer: Pool,
    /// The writer itself where the database is in memory: a second connection would see another database.
    readers: Pool,
    unavailable: AtomicU64,
    broken: AtomicU64,
}

/// How the database fares.
#[derive(Debug, PartialEq, Eq)]
pub struct Health {
    /// How many jobs got no answer in time.
    pub unavailable: u64,
    /// How many jobs failed for a reason that time doesn't mend.
    pub broken: u64,
    /// How many reads wait for their turn now.
    pub reads_waiting: usize,
    /// How many writes wait for their turn now.
    pub writes_waiting: usize,
}

impl Store {
    /// Opens the database, creates it if need be, and brings its schema to this version.
    pub fn open(location: &Location) -> Result<Self, String> {
        let wrong = |error: String| format!("database {location}: {error}");
        let mut writer = connection::open(location).map_err(wrong)?;
        schema::migrate(&mut writer).map_err(wrong)?;
        begin_epoch(&mut writer).map_err(wrong)?;
        let writer_and_readers = match location {
            Location::Memory => {
                let only = Pool::new(vec![writer]);
                (only.clone(), only)
            }
            Location::File(_) => {
                let readers: Result<Vec<_>, _> = (0..READERS).map(|_| connection::open_reader(location)).collect();
                (Pool::new(vec![writer]), Pool::new(readers.map_err(wrong)?))
            }
        };
        let (writer, readers) = writer_and_readers;
        Ok(Self { writer, readers, unavailable: AtomicU64::new(0), broken: AtomicU64::new(0) })
    }

    /// Reads. All that one job sees is of one moment.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.counted(self.readers.run(PATIENCE, move |connection| job(&*connection.transaction()?)).await)
    }

    /// Writes: all of it, on the disk, when this says so; or nothing, where it says anything but that it can't tell.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.write_within(PATIENCE, job).await
    }

    /// Writes more than a request's worth.
    pub async fn write_within<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let in_transaction = move |connection: &mut Connection| {
            let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
            let done = job(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        self.counted(self.writer.run(patience, in_transaction).await)
    }

    /// How the database fares.
    pub fn health(&self) -> Health {
        Health {
            unavailable: self.unavailable.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            reads_waiting: self.readers.waiting(),
            writes_waiting: self.writer.waiting(),
        }
    }

    fn counted<T>(&self, done: Result<T, Refusal>) -> Result<T, Refusal> {
        match &done {
            Err(Refusal::Unavailable(_)) => self.unavailable.fetch_add(1, Ordering::Relaxed),
            Err(Refusal::Internal(_)) => self.broken.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        done
    }

    /// Waits for the work under way and closes every connection; the last one folds the log into the file.
    pub async fn close(&self) -> Result<(), Refusal> {
        self.readers.close(CLOSING).await?;
        self.writer.close(CLOSING).await
    }
}

fn begin_epoch(connection: &mut Connection) -> Result<(), String> {
    let begin = |connection: &mut Connection| -> Result<(), Refusal> {
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
        changes::begin_epoch(&transaction)?;
        Ok(transaction.commit()?)
    };
    begin(connection).map_err(|refusal| refusal.private().unwrap_or("no epoch could begin").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_write_leaves_nothing() {
        let store = Store::open(&Location::Memory).unwrap();
        let insert = |id: &'static str| {
            move |connection: &Connection| {
                connection.execute("INSERT INTO tenants (id, record) VALUES (?, '{}')", [id]).map_err(Refusal::from)
            }
        };
        let failed: Result<(), _> = store
            .write(move |connection| {
                insert("a")(connection)?;
                Err(Refusal::NoRoute)
            })
            .await;
        assert!(matches!(failed, Err(Refusal::NoRoute)));
        store.write(insert("b")).await.unwrap();
        let count = |connection: &Connection| {
            connection
                .query_row("SELECT group_concat(id) FROM tenants", [], |row| row.get::<_, String>(0))
                .map_err(Refusal::from)
        };
        assert_eq!(store.read(count).await.unwrap(), "b");
    }

    #[tokio::test]
    async fn a_reader_is_not_held_up_by_a_writer_and_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(Store::open(&Location::File(folder.path().join("t.db"))).unwrap());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.write(move |_| held.recv().map_err(|_| Refusal::NoRoute)).await }
        });
        let read = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM tenants", [], |row| row.get::<_, i64>(0)).map_err(Refusal::from)
        };
        assert_eq!(store.read(read).await.unwrap(), 0);
        release.send(()).unwrap();
        writing.await.unwrap().unwrap();
        let write = |connection: &Connection| connection.execute("DELETE FROM tenants", []).map_err(Refusal::from);
        assert!(matches!(store.read(write).await, Err(Refusal::Internal(_))));
    }
}
