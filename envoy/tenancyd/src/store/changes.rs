//! What changed in which order: the list of tenants as its readers follow it.
//!
//! Every change of a tenant takes the next revision. A reader holds a [`Cursor`]: up to which revision it knows
//! everything. Revisions alone can't tell one history from another: a database that is put back from a back-up gives the same
//! numbers to other changes. So every start of the process begins an epoch of its own, with a random name, and the database
//! remembers its epochs and after which revision each began. A cursor names the epoch in which it was given. If that is one of
//! this database's, and it lasted at least to the cursor's revision, then all that the cursor's reader knows is part
//! of this database's history, and it may go on; a restart costs it nothing. If not, the reader knows what was never here.
//! That holds however the file came back, as long as it wasn't exchanged under a running process.

use rusqlite::{Connection, OptionalExtension};

use crate::error::Refusal;

/// A page ends before it has more bytes than this, if it has a record at all.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long a deletion is remembered, in seconds: a week.
const TOMBSTONE_AGE: i64 = 7 * 24 * 3600;
/// How many deletions are remembered.
const MAX_TOMBSTONES: i64 = 100_000;
/// After how many deletions one looks whether there are too many; counting them each time would cost more than deleting.
const PURGE_EVERY: i64 = 256;
/// How many epochs are remembered, and so the starts that a cursor can outlive.
const MAX_EPOCHS: i64 = 1000;

/// How far a reader has come. It is written `EPOCH-POSITION`, or `EPOCH-POSITION-DELETIONS` in the middle of a first reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    epoch: String,
    /// The reader knows every tenant whose last change has at most this revision.
    position: i64,
    /// No deletion up to this revision concerns it: it came later, or was told.
    deletions: i64,
}

impl Cursor {
    /// The cursor that this text is, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let epoch = parts.next()?;
        let position = revision(parts.next()?)?;
        let deletions = match parts.next() {
            Some(deletions) => revision(deletions)?.max(position),
            None => position,
        };
        let is_epoch = epoch.len() == 16 && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_epoch.then(|| Self { epoch: epoch.to_owned(), position, deletions })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position)?;
        match self.deletions > self.position {
            true => write!(f, "-{}", self.deletions),
            false => Ok(()),
        }
    }
}

/// A number in the one way in which a cursor writes it.
fn revision(text: &str) -> Option<i64> {
    let is_plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|_| is_plain && text.len() <= 18)
}

/// Some of the list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Records, and `{"id":…,"deleted":true}` for tenants that are gone: JSON, in the order of their last changes.
    pub tenants: Vec<String>,
    /// After the last one of these; after everything, where the list ends with them.
    pub latest: Cursor,
    /// Whether there is more.
    pub is_last: bool,
}

/// What changed after the cursor, or without one every tenant there is.
pub fn page(connection: &Connection, after: Option<Cursor>, limit: usize) -> Result<Page, Refusal> {
    let newest = newest(connection)?;
    let epoch = epoch(connection)?;
    let Cursor { position, deletions, .. } = match after {
        Some(cursor) => {
            check(connection, &cursor, newest)?;
            cursor
        }
        // Whoever begins now has nothing that was deleted before.
        None => Cursor { epoch: epoch.clone(), position: 0, deletions: newest },
    };
    let sql = "SELECT revision, tenant_id, record FROM changes LEFT JOIN tenants ON tenants.id = tenant_id
        WHERE revision > ?1 AND (deleted_at IS NULL OR revision > ?2) ORDER BY revision";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([position, deletions])?;
    let mut tenants = Vec::new();
    let (mut last, mut bytes) = (position, 0_usize);
    while let Some(row) = rows.next()? {
        let record = match row.get("record")? {
            Some(record) => record,
            // An identifier needs no escapes.
            None => format!(r#"{{"id":"{}","deleted":true}}"#, row.get_ref("tenant_id")?.as_str().unwrap_or_default()),
        };
        bytes = bytes.saturating_add(record.len());
        if tenants.len() >= limit || (bytes > MAX_PAGE_BYTES && !tenants.is_empty()) {
            let latest = Cursor { epoch, position: last, deletions: deletions.max(last) };
            return Ok(Page { tenants, latest, is_last: false });
        }
        tenants.push(record);
        last = row.get("revision")?;
    }
    Ok(Page { tenants, latest: Cursor { epoch, position: newest, deletions: newest }, is_last: true })
}

/// The revision of the last change, 0 before the first one.
pub fn newest(connection: &Connection) -> Result<i64, Refusal> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// How many deletions are remembered.
pub fn tombstones(connection: &Connection) -> Result<i64, Refusal> {
    let sql = "SELECT count(*) FROM changes WHERE deleted_at IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Begins an epoch. Whoever opens the database to write in it does this first.
pub fn begin_epoch(connection: &Connection) -> Result<(), Refusal> {
    connection.execute(
        "INSERT INTO epochs (epoch, begun_after) VALUES (lower(hex(randomblob(8))), ?)",
        [newest(connection)?],
    )?;
    connection.execute("DELETE FROM epochs WHERE number <= (SELECT max(number) FROM epochs) - ?", [MAX_EPOCHS])?;
    purge(connection)
}

/// Now and then, forgets deletions that are too old or too many.
pub fn after_deletion(connection: &Connection) -> Result<(), Refusal> {
    let sql = "UPDATE horizon SET deletions = deletions + 1 RETURNING deletions";
    let deletions: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    match deletions < PURGE_EVERY {
        true => Ok(()),
        false => purge(connection),
    }
}

fn purge(connection: &Connection) -> Result<(), Refusal> {
    let old = "SELECT max(revision) FROM changes WHERE deleted_at IS NOT NULL AND deleted_at < unixepoch() - ?";
    let old: Option<i64> = connection.prepare_cached(old)?.query_row([TOMBSTONE_AGE], |row| row.get(0))?;
    let beyond = "SELECT revision FROM changes WHERE deleted_at IS NOT NULL ORDER BY revision DESC LIMIT 1 OFFSET ?";
    let beyond: Option<i64> =
        connection.prepare_cached(beyond)?.query_row([MAX_TOMBSTONES], |row| row.get(0)).optional()?;
    connection.execute("UPDATE horizon SET deletions = 0", [])?;
    if let Some(last) = old.max(beyond) {
        connection.execute("DELETE FROM changes WHERE deleted_at IS NOT NULL AND revision <= ?", [last])?;
        connection.execute("UPDATE horizon SET revision = max(revision, ?)", [last])?;
    }
    Ok(())
}

/// The epoch that lasts. Read from the database every time: another process may have begun it.
fn epoch(connection: &Connection) -> Result<String, Refusal> {
    let sql = "SELECT epoch FROM epochs ORDER BY number DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Whether all that this cursor's reader knows is part of this history, and no deletion since then is forgotten.
fn check(connection: &Connection, cursor: &Cursor, newest: i64) -> Result<(), Refusal> {
    let sql = "SELECT coalesce((SELECT min(begun_after) FROM epochs AS later WHERE later.number > this.number), ?2)
        FROM epochs AS this WHERE epoch = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let ended: Option<i64> = statement.query_row((&cursor.epoch, newest), |row| row.get(0)).optional()?;
    if ended.is_none_or(|ended| cursor.deletions > ended) {
        return Err(Refusal::Gone { reason: "foreign" });
    }
    let horizon: i64 = connection.prepare_cached("SELECT revision FROM horizon")?.query_row([], |row| row.get(0))?;
    match cursor.deletions < horizon {
        true => Err(Refusal::Gone { reason: "purged" }),
        false => Ok(()),
    }
}
