use crate::client::Tenancyd;

#[test]
fn while_another_process_holds_the_database_reads_go_on_and_writes_are_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    server.put("/tenants/acme", "{}");
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = server.put("/tenants/late", "{}");
    refused.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.get("/tenants/acme").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    other.execute_batch("ROLLBACK").unwrap();
    server.get("/tenants/late").refused(404, "NOT_FOUND");
    assert_eq!(server.put("/tenants/late", "{}").status, 201);
}

#[test]
fn a_fault_of_ours_is_logged_and_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    server.put("/tenants/acme", "{}");
    let other = rusqlite::Connection::open(&database).unwrap();
    other
        .execute_batch(
            "PRAGMA foreign_keys = OFF; DROP TABLE names; DROP TABLE domains; DROP TABLE tenants",
        )
        .unwrap();
    let answer = server.get("/tenants/acme");
    answer.refused(500, "INTERNAL_ERROR");
    assert!(
        !answer.text.contains("SQL") && !answer.text.contains("names"),
        "{answer:?}"
    );
    server.get("/readyz").refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(server.get("/healthz").status, 200);
    let line = server.logged_with("code", "INTERNAL_ERROR");
    assert!(
        line["error"].as_str().unwrap().contains("no such table"),
        "{line}"
    );
    assert_eq!(line["level"], "ERROR");
}
