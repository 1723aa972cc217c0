use serde_json::json;

use crate::client::{TOKEN, Tenancyd, command};

#[test]
fn what_was_put_is_what_is_read() {
    let server = Tenancyd::empty();
    let whole = r#"{"id":"acme","slug":"acme-inc","status":"suspended","metadata":{"plan":"pro","n":12345678901234567890123},"quotas":{"apiRequests":10000,"free":null,"storage":{"limit":18446744073709551615},"burst":{"limit":null,"period":"second"}},"isolation":{"strategy":"schema","schema":"t_acme"}}"#;
    for (id, body, expected) in [
        ("acme", whole, whole),
        ("plain", "{}", r#"{"id":"plain","slug":"plain","status":"active"}"#),
        (
            "empty",
            r#"{"quotas":{},"metadata":{},"isolation":{}}"#,
            r#"{"id":"empty","slug":"empty","status":"active","metadata":{},"quotas":{},"isolation":{}}"#,
        ),
    ] {
        for status in [201, 200] {
            let answer = server.put(&format!("/tenants/{id}"), body);
            assert_eq!((answer.status, answer.text.as_str()), (status, expected));
        }
        assert_eq!(server.get(&format!("/tenants/{id}")).text, expected);
    }
}

#[test]
fn a_put_replaces_the_whole_record_and_its_slug() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", r#"{"slug":"old","metadata":{"plan":"pro"}}"#);
    server.put("/domains/app.acme.com", r#"{"tenantId":"acme"}"#);
    assert_eq!(server.put("/tenants/acme", r#"{"slug":"new","status":"inactive"}"#).status, 200);
    assert_eq!(server.get("/tenants/new").text, r#"{"id":"acme","slug":"new","status":"inactive"}"#);
    server.get("/tenants/old").refused(404, "NOT_FOUND");
    assert_eq!(server.get("/domains/app.acme.com").status, 200);
}

#[test]
fn a_name_already_taken_is_a_conflict() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", r#"{"slug":"acme-inc"}"#);
    for (path, body, field, name) in [
        ("/tenants/other", r#"{"slug":"acme-inc"}"#, "slug", "acme-inc"),
        ("/tenants/other", r#"{"slug":"acme"}"#, "slug", "acme"),
        ("/tenants/acme-inc", "{}", "id", "acme-inc"),
    ] {
        let details = server.put(path, body).refused(409, "CONFLICT");
        assert_eq!(details, json!({"resource": "Tenant", "field": field, "id": name}));
    }
    assert_eq!(server.get("/tenants").json()["tenants"].as_array().unwrap().len(), 1);
    server.put("/tenants/other", r#"{"metadata":{"kept":1}}"#);
    server.put("/tenants/other", r#"{"slug":"acme"}"#).refused(409, "CONFLICT");
    assert_eq!(server.get("/tenants/other").json()["metadata"], json!({"kept": 1}));
    server.delete("/tenants/acme");
    assert_eq!(server.put("/tenants/other", r#"{"slug":"acme"}"#).status, 200);
}

#[test]
fn every_fault_of_a_body_is_listed() {
    let server = Tenancyd::empty();
    let long = "é".repeat(10_000);
    for (path, body, paths) in [
        ("/tenants/a", "", vec![""]),
        ("/tenants/a", "{", vec![""]),
        ("/tenants/a", "[]", vec![""]),
        ("/tenants/a", "{} {}", vec![""]),
        ("/tenants/a", r#"{"id":"b","status":"on","plan":"pro"}"#, vec!["status", "plan", "id"]),
        ("/tenants/a", r#"{"quotas":{"x":1.5,"y":{"limit":1,"period":"week"}}}"#, vec!["quotas.x", "quotas.y.period"]),
        ("/tenants/a", &format!(r#"{{"status":"{long}"}}"#), vec!["status"]),
        ("/tenants/a%20b", r#"{"id":"a","status":"on"}"#, vec!["path", "status"]),
        ("/domains/a.example", "{}", vec![""]),
        ("/domains/a.example", r#"{"tenantId":"nobody"}"#, vec!["tenantId"]),
        ("/domains/a.example:80", r#"{"tenantId":"..","x":1}"#, vec!["path", "tenantId", "x"]),
    ] {
        let answer = server.put(path, body);
        let details = answer.refused(422, "VALIDATION_ERROR");
        let faults = details["faults"].as_array().unwrap().iter();
        assert_eq!(faults.map(|fault| fault["path"].as_str().unwrap()).collect::<Vec<_>>(), paths, "{path} {body:.80}");
        assert!(answer.text.len() < 2000, "{}", answer.text);
    }
    assert_eq!(server.get("/tenants").json()["tenants"], json!([]));
}

#[test]
fn a_deleted_tenant_takes_its_domains_along() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    server.put("/domains/app.acme.com", r#"{"tenantId":"acme"}"#);
    server.delete("/tenants/a").refused(404, "NOT_FOUND");
    let gone = server.delete("/tenants/acme");
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    for path in ["/tenants/acme", "/tenants/a", "/domains/app.acme.com"] {
        server.get(path).refused(404, "NOT_FOUND");
    }
    server.delete("/tenants/acme").refused(404, "NOT_FOUND");
}

#[test]
fn a_status_changes_alone() {
    let server = Tenancyd::empty();
    let record =
        r#"{"id":"acme","slug":"a","status":"active","metadata":{"n":12345678901234567890123,"status":"mine"}}"#;
    server.put("/tenants/acme", record);
    let suspended = record.replace("active", "suspended");
    let answer = server.put("/tenants/acme/status", r#"{"status":"suspended"}"#);
    assert_eq!((answer.status, answer.text.as_str()), (200, suspended.as_str()));
    assert_eq!(server.get("/tenants/a").text, suspended);
    server.put("/tenants/a/status", r#"{"status":"active"}"#).refused(404, "NOT_FOUND");
    server.put("/tenants/no%20body/status", r#"{"status":"active"}"#).refused(404, "NOT_FOUND");
    for body in ["", "[]", "{}", r#"{"status":"on"}"#, r#"{"status":"active","id":"acme"}"#, r#"{"status":null}"#] {
        server.put("/tenants/acme/status", body).refused(422, "VALIDATION_ERROR");
    }
    server.call("PUT", "/tenants/acme/status", Some(r#"{"status":"active"}"#), &[]).refused(401, "UNAUTHORIZED");
    assert_eq!(server.get("/tenants/acme").text, suspended);
}

#[test]
fn a_domain_moves_and_goes() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", "{}");
    server.put("/tenants/globex", "{}");
    assert_eq!(server.put("/domains/d.example", r#"{"tenantId":"acme"}"#).status, 201);
    let moved = server.put("/domains/D.example", r#"{"tenantId":"globex"}"#);
    assert_eq!((moved.status, moved.text.as_str()), (200, r#"{"tenantId":"globex"}"#));
    assert_eq!(server.get("/domains/d.example").json(), json!({"tenantId": "globex"}));
    assert_eq!(server.delete("/domains/D.EXAMPLE.").status, 204);
    server.delete("/domains/d.example").refused(404, "NOT_FOUND");
    server.get("/domains/d.example").refused(404, "NOT_FOUND");
}

#[test]
fn only_the_token_writes() {
    let server = Tenancyd::empty();
    server.put("/tenants/kept", "{}");
    let right = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let more = format!("Bearer {TOKEN}x");
    let less = format!("Bearer {}", TOKEN.get(1..).unwrap());
    let basic = format!("Basic {TOKEN}");
    for (method, path) in [
        ("PUT", "/tenants/a"),
        ("DELETE", "/tenants/kept"),
        ("PUT", "/domains/a.example"),
        ("DELETE", "/domains/a.example"),
    ] {
        let body = (method == "PUT").then_some("{}");
        let call = |headers: &[(&str, &str)]| server.call(method, path, body, headers);
        let missing = call(&[]);
        assert_eq!(missing.refused(401, "UNAUTHORIZED"), json!({"reason": "missing"}));
        assert_eq!(missing.header("www-authenticate"), Some(r#"Bearer realm="tenancyd""#));
        for wrong in [more.as_str(), &less, &basic, "Bearer", "Bearer ", TOKEN] {
            let refused = call(&[("authorization", wrong)]);
            assert_eq!(refused.refused(401, "UNAUTHORIZED"), json!({"reason": "invalid"}), "{wrong}");
            assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
        }
        call(&[("authorization", &right), ("authorization", &right)]).refused(401, "UNAUTHORIZED");
    }
    assert_eq!(server.call("PUT", "/tenants/a", Some("{}"), &[("authorization", &lower)]).status, 201);
    assert_eq!(server.get("/tenants/kept").status, 200);
}

#[test]
fn without_a_token_nobody_writes() {
    let server = Tenancyd::spawn(&mut command(&["--database", ":memory:", "--listen", "127.0.0.1:0"]));
    for answer in [
        server.put("/tenants/a", "{}"),
        server.delete("/tenants/a"),
        server.put("/domains/a.b", "{}"),
        server.delete("/domains/a.b"),
    ] {
        answer.refused(403, "FORBIDDEN");
        assert!(answer.text.contains("Writes are off"));
    }
    assert_eq!(server.get("/tenants").status, 200);
}

#[test]
fn a_token_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let arguments = ["--database", ":memory:", "--listen", "127.0.0.1:0", "--token-file", file.to_str().unwrap()];
    let server = Tenancyd::spawn(&mut command(&arguments));
    assert_eq!(server.put("/tenants/a", "{}").status, 201);
}

#[test]
fn of_writers_at_once_each_gets_a_true_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Tenancyd::on(&folder.path().join("t.db"));
    let server = &server;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                scope.spawn(move || {
                    // Everybody wants the same slug, and a few tenants of their own.
                    for number in 0..10 {
                        assert_eq!(server.put(&format!("/tenants/w{writer}-{number}"), "{}").status, 201);
                    }
                    server.put(&format!("/tenants/wanting-{writer}"), r#"{"slug":"wanted"}"#).status
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    assert_eq!(server.get("/tenants?limit=1000").json()["tenants"].as_array().unwrap().len(), 81);
}
