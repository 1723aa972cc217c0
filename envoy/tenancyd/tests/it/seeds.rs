use serde_json::json;

use crate::client::{Tenancyd, command, failed_start};

#[test]
fn a_seed_is_loaded_over_what_the_database_has() {
    let folder = tempfile::tempdir().unwrap();
    let (database, seed) = (folder.path().join("t.db"), folder.path().join("seed.json"));
    let server = Tenancyd::on(&database);
    server.put("/tenants/acme", r#"{"status":"suspended"}"#);
    server.put("/tenants/kept", "{}");
    drop(server);
    std::fs::write(
        &seed,
        r#"{"tenants":[{"id":"acme","metadata":{"plan":"pro"}}],"domains":{"App.Acme.com.":"acme"}}"#,
    )
    .unwrap();
    for _ in 0..2 {
        let server = Tenancyd::start(&["--database", database.to_str().unwrap(), "--seed", seed.to_str().unwrap()]);
        assert_eq!(
            server.get("/tenants/acme").text,
            r#"{"id":"acme","slug":"acme","status":"active","metadata":{"plan":"pro"}}"#
        );
        assert_eq!(server.get("/domains/app.acme.com").json(), json!({"tenantId": "acme"}));
        assert_eq!(server.get("/tenants/kept").status, 200);
        let line = server.logged("seed loaded");
        assert_eq!((&line["tenants"], &line["domains"]), (&json!(1), &json!(1)));
    }
}

#[test]
fn a_bad_seed_stops_the_start_with_every_fault_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (database, seed) = (folder.path().join("t.db"), folder.path().join("seed.json"));
    let missing = folder.path().join("missing.json");
    std::fs::write(
        &seed,
        r#"{"tenants":[{"id":"good"},{"id":"a b","plan":1},{"id":"x","slug":"good"}],"domains":{"d.example":"nobody"},"users":[]}"#,
    )
    .unwrap();
    let start =
        |seed: &str| command(&["--listen", "127.0.0.1:0", "--database", database.to_str().unwrap(), "--seed", seed]);
    let said = failed_start(&mut start(seed.to_str().unwrap()));
    let faults: Vec<&str> = said.lines().skip(1).map(str::trim_start).collect();
    let expected = [
        "tenants[1].id: not an identifier",
        "tenants[1].plan: unknown key",
        "users: unknown key",
        "tenants[2].slug: \"good\" already names another tenant",
        "domains[\"d.example\"]: no tenant has the id \"nobody\"",
    ];
    assert_eq!(faults.len(), expected.len(), "{said}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{said}");
    }
    assert!(failed_start(&mut start(missing.to_str().unwrap())).contains("missing.json: No such file"));
    assert_eq!(Tenancyd::on(&database).get("/tenants").json()["tenants"], json!([]));
}
