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
];

/// Brings the database to the newest version, all of the way or not at all.
pub fn migrate(connection: &mut Connection) -> Result<(), String> {
    migrate_through(connection, MIGRATIONS)
}

fn migrate_through(connection: &mut Connection, migrations: &[&str]) -> Result<(), String> {
    let broken = |error: rusqlite::Error| error.to_string();
    // Immediate, so that of two that start at once one migrates and the other finds it done.
    let transaction =
        Transaction::new(connection, TransactionBehavior::Immediate).map_err(broken)?;
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
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(broken)?;
    if version == 0 && tables > 0 {
        return Err("it has tables but no schema version; it is another program's".to_owned());
    }
    for migration in migrations.iter().skip(version) {
        transaction.execute_batch(migration).map_err(broken)?;
    }
    if version < migrations.len() {
        let newest = i64::try_from(migrations.len()).map_err(|error| error.to_string())?;
        transaction
            .pragma_update(None, "user_version", newest)
            .map_err(broken)?;
    }
    transaction.commit().map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn an_older_database_gets_only_what_it_lacks() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_through(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        connection.execute("INSERT INTO a VALUES (1)", []).unwrap();
        migrate_through(
            &mut connection,
            &[
                "CREATE TABLE a (x)",
                "CREATE TABLE b (y); INSERT INTO b SELECT x FROM a",
            ],
        )
        .unwrap();
        assert_eq!(version(&connection), 2);
        assert_eq!(
            connection
                .query_row("SELECT y FROM b", [], |row| row.get::<_, i64>(0))
                .unwrap(),
            1
        );
    }

    #[test]
    fn a_failed_migration_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(
            migrate_through(
                &mut connection,
                &["CREATE TABLE a (x)", "CREATE TABLE a (x)"]
            )
            .is_err()
        );
        assert_eq!(version(&connection), 0);
        assert!(connection.execute("INSERT INTO a VALUES (1)", []).is_err());
    }

    #[test]
    fn a_database_of_a_newer_version_or_another_program_is_refused() {
        let mut newer = Connection::open_in_memory().unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        assert!(
            migrate(&mut newer)
                .unwrap_err()
                .contains("schema version 99")
        );
        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute("CREATE TABLE theirs (x)", []).unwrap();
        assert!(
            migrate(&mut foreign)
                .unwrap_err()
                .contains("another program's")
        );
    }
}
