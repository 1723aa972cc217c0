//! The schema, and how older databases get to it.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// What brings version N to version N+1. The list only grows: what stands here has run on somebody's database.
const MIGRATIONS: &[&str] = &[
    // 1: the directory. `names` has every id and every slug, so that one name can never mean two tenants.
    "CREATE TABLE tenants (
        id TEXT NOT NULL PRIMARY KEY,
        record TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE names (
        name TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX names_by_tenant ON names (tenant_id);
     CREATE TABLE domains (
        domain TEXT NOT NULL PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX domains_by_tenant ON domains (tenant_id, domain);",
    // 2: what changed, and when. `changes` has one row for every tenant, that of its last change, and one for every deleted
    // tenant for a while. Triggers write it, so that no write can forget to. AUTOINCREMENT never gives a number twice.
    // The tenants of a version-1 database get numbers in the order in which version 1 listed them. `status` is that of the
    // record, where it can be counted quickly. `horizon` has one row: up to which revision deletions may be forgotten, and
    // how many there were since somebody last looked.
    "ALTER TABLE tenants ADD COLUMN status TEXT;
     UPDATE tenants SET status = json_extract(record, '$.status');
     CREATE TABLE changes (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant_id TEXT NOT NULL UNIQUE,
        deleted_at INTEGER
     ) STRICT;
     INSERT INTO changes (tenant_id) SELECT id FROM tenants ORDER BY id;
     CREATE INDEX tombstones ON changes (revision, deleted_at) WHERE deleted_at IS NOT NULL;
     CREATE TRIGGER tenant_created AFTER INSERT ON tenants BEGIN
        DELETE FROM changes WHERE tenant_id = new.id;
        INSERT INTO changes (tenant_id) VALUES (new.id);
     END;
     CREATE TRIGGER tenant_changed AFTER UPDATE ON tenants BEGIN
        DELETE FROM changes WHERE tenant_id = new.id;
        INSERT INTO changes (tenant_id) VALUES (new.id);
     END;
     CREATE TRIGGER tenant_deleted AFTER DELETE ON tenants BEGIN
        DELETE FROM changes WHERE tenant_id = old.id;
        INSERT INTO changes (tenant_id, deleted_at) VALUES (old.id, unixepoch());
     END;
     CREATE TABLE horizon (revision INTEGER NOT NULL, deletions INTEGER NOT NULL) STRICT;
     INSERT INTO horizon VALUES (0, 0);
     CREATE TABLE epochs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        epoch TEXT NOT NULL UNIQUE,
        begun_after INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX tenants_by_status ON tenants (status);",
    // 3: what is counted. A counter is a quota of a tenant by one kind of period, or a level, whose kind is none. `base` is what was
    // set by hand, less what leases had used by then. `folded_used` and `folded_granted` are what the rows of leases came to that
    // are gone; those of a period go at `fold_at`, and the period itself at `expires`.
    "CREATE TABLE counters (
        id INTEGER PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        quota_key TEXT NOT NULL,
        kind TEXT NOT NULL,
        timezone TEXT NOT NULL,
        touched INTEGER NOT NULL,
        UNIQUE (tenant_id, quota_key, kind, timezone)
     ) STRICT;
     CREATE TABLE periods (
        counter INTEGER NOT NULL REFERENCES counters (id) ON DELETE CASCADE,
        start INTEGER NOT NULL,
        end INTEGER NOT NULL,
        tenant_id TEXT NOT NULL,
        base INTEGER NOT NULL DEFAULT 0,
        folded_used INTEGER NOT NULL DEFAULT 0,
        folded_granted INTEGER NOT NULL DEFAULT 0,
        fold_at INTEGER,
        expires INTEGER NOT NULL,
        PRIMARY KEY (counter, start)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX periods_by_tenant ON periods (tenant_id, start DESC);
     CREATE INDEX periods_to_fold ON periods (fold_at) WHERE fold_at IS NOT NULL;
     CREATE INDEX periods_by_expiry ON periods (expires);
     CREATE TABLE leases (
        counter INTEGER NOT NULL,
        start INTEGER NOT NULL,
        proxy TEXT NOT NULL,
        used INTEGER NOT NULL,
        granted INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (counter, start, proxy),
        FOREIGN KEY (counter, start) REFERENCES periods (counter, start) ON DELETE CASCADE
     ) STRICT, WITHOUT ROWID;",
];

/// Brings the database to the newest version, all of the way or not at all.
pub fn migrate(connection: &mut Connection) -> Result<(), String> {
    migrate_through(connection, MIGRATIONS)
}

/// The schema's version of a database that is a `tenancyd`'s, of whatever age.
pub fn version(connection: &Connection) -> Result<usize, String> {
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error: rusqlite::Error| error.to_string())?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('tenants', 'names', 'domains')", [], |row| {
            row.get(0)
        })
        .map_err(|error| error.to_string())?;
    match usize::try_from(version) {
        Ok(version) if version > 0 && tables == 3 => Ok(version),
        _ => Err("it is no database of tenancyd".to_owned()),
    }
}

fn migrate_through(connection: &mut Connection, migrations: &[&str]) -> Result<(), String> {
    let broken = |error: rusqlite::Error| error.to_string();
    // Immediate, so that of two that start at once one migrates and the other finds it done.
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate).map_err(broken)?;
    let version: usize = transaction
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(broken)?
        .try_into()
        .map_err(|_| "it is another program's".to_owned())?;
    if version > migrations.len() {
        return Err(format!(
            "it has schema version {version}, and this tenancyd knows versions up to {}; a newer tenancyd wrote it",
            migrations.len()
        ));
    }
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(broken)?;
    if version == 0 && tables > 0 {
        return Err("it has tables but no schema version; it is another program's".to_owned());
    }
    for migration in migrations.iter().skip(version) {
        transaction.execute_batch(migration).map_err(broken)?;
    }
    if version < migrations.len() {
        let newest = i64::try_from(migrations.len()).map_err(|error| error.to_string())?;
        transaction.pragma_update(None, "user_version", newest).map_err(broken)?;
    }
    transaction.commit().map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_database_of_version_1_keeps_its_tenants_in_their_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_through(&mut connection, MIGRATIONS.get(..1).unwrap()).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO tenants VALUES ('b', '{"id":"b","slug":"b","status":"suspended"}'), ('a', '{"id":"a","slug":"a","status":"active"}');
                   INSERT INTO names VALUES ('a', 'a'), ('b', 'b');
                   INSERT INTO domains VALUES ('b.example', 'b');"#,
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let all = |sql: &str| {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.collect::<Result<Vec<(String, String)>, _>>().unwrap()
        };
        let pairs = |pairs: [(&str, &str); 2]| pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        assert_eq!(
            all("SELECT tenant_id, CAST(revision AS TEXT) FROM changes ORDER BY revision"),
            pairs([("a", "1"), ("b", "2")])
        );
        assert_eq!(all("SELECT id, status FROM tenants ORDER BY id"), pairs([("a", "active"), ("b", "suspended")]));
        assert_eq!(super::version(&connection), Ok(MIGRATIONS.len()));
    }

    #[test]
    fn an_older_database_gets_only_what_it_lacks() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_through(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        connection.execute("INSERT INTO a VALUES (1)", []).unwrap();
        migrate_through(&mut connection, &["CREATE TABLE a (x)", "CREATE TABLE b (y); INSERT INTO b SELECT x FROM a"])
            .unwrap();
        assert_eq!(user_version(&connection), 2);
        assert_eq!(connection.query_row("SELECT y FROM b", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[test]
    fn a_failed_migration_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate_through(&mut connection, &["CREATE TABLE a (x)", "CREATE TABLE a (x)"]).is_err());
        assert_eq!(user_version(&connection), 0);
        assert!(connection.execute("INSERT INTO a VALUES (1)", []).is_err());
    }

    #[test]
    fn a_database_of_a_newer_version_or_another_program_is_refused() {
        let mut newer = Connection::open_in_memory().unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        assert!(migrate(&mut newer).unwrap_err().contains("schema version 99"));
        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute("CREATE TABLE theirs (x)", []).unwrap();
        assert!(migrate(&mut foreign).unwrap_err().contains("another program's"));
    }
}
