//! A copy of the database, made while a server may be writing in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{Location, connection, schema};

/// Copies the database to a file that isn't there yet: whole, of one moment, on the disk when this says so; or not at all.
pub fn backup(from: &Location, to: &Path) -> Result<(), String> {
    let Location::File(from) = from else {
        return Err("a database in memory is its process's alone; there is nothing to back up".to_owned());
    };
    let taken = || format!("back-up {}: there is something already; it stays as it is", to.display());
    if to.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let source = connection::open_existing(from)
        .and_then(|source| schema::version(&source).map(|_| source))
        .map_err(|error| format!("database {}: {error}", from.display()))?;
    // Under another name until it is whole.
    let part = Part::beside(to);
    let wrong = |error: &dyn std::fmt::Display| format!("back-up {}: {error}", to.display());
    let name = part.0.to_str().ok_or_else(|| wrong(&"its name is no UTF-8"))?;
    source.execute("VACUUM INTO ?", [name]).map_err(|error| wrong(&error))?;
    check(&part.0).map_err(|error| wrong(&error))?;
    File::open(&part.0).and_then(|file| file.sync_all()).map_err(|error| wrong(&error))?;
    // A link, since a rename would replace what somebody else may have put there meanwhile.
    std::fs::hard_link(&part.0, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(),
        _ => wrong(&error),
    })?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| wrong(&error))
}

/// A file that is gone once this is dropped.
struct Part(PathBuf);

impl Part {
    fn beside(file: &Path) -> Self {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = Self(name.into());
        // One of a process that was killed: in a container every process has the same number.
        let _ = std::fs::remove_file(&part.0);
        part
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Where the copy failed at once there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn check(copy: &Path) -> Result<(), String> {
    let connection: Connection = connection::open_existing(copy)?;
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(|error| error.to_string())?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(format!("the copy is damaged: {found}")),
    }
}
