//! One connection to SQLite, set up so that it keeps what it acknowledged.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Location;

/// How long SQLite waits for another process's lock.
const BUSY: Duration = Duration::from_secs(2);

/// A connection that reads and writes.
pub fn open(location: &Location) -> Result<Connection, String> {
    // Without SQLITE_OPEN_URI, so that a file's name is nothing but a file's name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = match location {
        Location::Memory => Connection::open_in_memory_with_flags(flags),
        Location::File(path) => Connection::open_with_flags(path, flags),
    };
    opened.and_then(|connection| set_up(connection, location)).map_err(|error| error.to_string())
}

/// A connection to a database that is there, for a copy of it.
pub fn open_existing(path: &Path) -> Result<Connection, String> {
    // To read a write-ahead log one has to be able to write beside it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    });
    opened.map_err(|error| error.to_string())
}

/// A connection that can't write.
pub fn open_reader(location: &Location) -> Result<Connection, String> {
    let connection = open(location)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| error.to_string())?;
    Ok(connection)
}

fn set_up(connection: Connection, location: &Location) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // In WAL, NORMAL may lose the last commits when the power goes; FULL syncs before a commit is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL")?;
    if matches!(location, Location::File(_)) {
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            let no = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(
                no,
                Some("its file system can't hold a write-ahead log".to_owned()),
            ));
        }
    }
    Ok(connection)
}
