use serde_json::json;

use crate::client::Tenancyd;

#[test]
fn a_tenant_is_found_by_id_and_by_slug_and_by_nothing_else() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", r#"{"slug":"acme-inc","metadata":{"plan":"pro"}}"#);
    let record = r#"{"id":"acme","slug":"acme-inc","status":"active","metadata":{"plan":"pro"}}"#;
    for path in ["/tenants/acme", "/tenants/acme-inc", "/tenants/%61cme", "/tenants/acme?x=1"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.text.as_str()), (200, record), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let head = server.call("HEAD", "/tenants/acme", None, &[]);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for path in ["/tenants/ACME", "/tenants/acme-", "/tenants/acm", "/tenants/nobody"] {
        let details = server.get(path).refused(404, "NOT_FOUND");
        let id = path.strip_prefix("/tenants/").unwrap();
        assert_eq!(details, json!({"resource": "Tenant", "id": id}));
    }
}

#[test]
fn what_is_no_identifier_is_not_found_and_not_repeated() {
    let server = Tenancyd::empty();
    let long = format!("/tenants/{}", "a".repeat(129));
    for path in ["/tenants/..", "/tenants/a%2Fb", "/tenants/%3Cb%3E", "/tenants/%00", "/tenants/caf%C3%A9", &long] {
        let answer = server.get(path);
        assert_eq!(answer.refused(404, "NOT_FOUND"), json!({"resource": "Tenant"}), "{path}");
    }
}

#[test]
fn a_domain_is_found_in_every_spelling() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", "{}");
    assert_eq!(server.put("/domains/App.Acme.com", r#"{"tenantId":"acme"}"#).status, 201);
    assert_eq!(server.put("/domains/b%C3%BCro.example.", r#"{"tenantId":"acme"}"#).status, 201);
    for path in ["app.acme.com", "APP.ACME.COM", "app.acme.com.", "xn--bro-hoa.example", "B%C3%9CRO.example"] {
        let answer = server.get(&format!("/domains/{path}"));
        assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"tenantId":"acme"}"#), "{path}");
    }
    for (path, id) in [("Evil.acme.com.", Some("evil.acme.com")), ("app.acme.com:80", None), ("a..b", None)] {
        let details = server.get(&format!("/domains/{path}")).refused(404, "NOT_FOUND");
        let expected = id.map_or(json!({"resource": "Domain"}), |id| json!({"resource": "Domain", "id": id}));
        assert_eq!(details, expected, "{path}");
    }
}

#[test]
fn a_page_of_large_records_is_cut_short() {
    let server = Tenancyd::empty();
    let body = json!({"metadata": {"note": "x".repeat(200_000)}}).to_string();
    for number in 0..25 {
        assert_eq!(server.put(&format!("/tenants/t{number:02}"), &body).status, 201);
    }
    let page = server.get("/tenants?limit=1000");
    assert!(page.text.len() < 4 * 1024 * 1024 + 200);
    let page = page.json();
    assert_eq!(page["tenants"].as_array().unwrap().len(), 20);
    let rest = server.get(&format!("/tenants?after={}", page["next"].as_str().unwrap())).json();
    assert_eq!(rest["tenants"].as_array().unwrap().len(), 5);
}

#[test]
fn a_bad_cursor_or_limit_is_refused_with_every_fault() {
    let server = Tenancyd::empty();
    for (query, paths) in [
        ("after=!!!&limit=0", vec!["after", "limit"]),
        ("after=YWNtZQ", vec!["after"]),
        ("after=0123456789abcdef", vec!["after"]),
        ("after=0123456789abcdef-01", vec!["after"]),
        ("after=0123456789abcdef-1-", vec!["after"]),
        ("after=0123456789abcdef-1-2-3", vec!["after"]),
        ("after=0123456789ABCDEF-1", vec!["after"]),
        ("after=0123456789abcdef-99999999999999999999", vec!["after"]),
        ("limit=1001", vec!["limit"]),
        ("page=2", vec!["query"]),
    ] {
        let details = server.get(&format!("/tenants?{query}")).refused(422, "VALIDATION_ERROR");
        let faults = details["faults"].as_array().unwrap().iter();
        assert_eq!(faults.map(|fault| fault["path"].as_str().unwrap()).collect::<Vec<_>>(), paths, "{query}");
    }
}

#[test]
fn a_tenants_domains_come_in_pages() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    server.put("/tenants/globex", "{}");
    for (domain, tenant) in
        [("c.example", "acme"), ("a.example", "acme"), ("x.example", "globex"), ("b.example", "acme")]
    {
        server.put(&format!("/domains/{domain}"), &json!({"tenantId": tenant}).to_string());
    }
    let all = json!({"domains": ["a.example", "b.example", "c.example"], "next": null});
    assert_eq!(server.get("/tenants/acme/domains").json(), all);
    let page = server.get("/tenants/a/domains?limit=2").json();
    assert_eq!(page["domains"], json!(["a.example", "b.example"]));
    let rest = server.get(&format!("/tenants/a/domains?after={}", page["next"].as_str().unwrap())).json();
    assert_eq!(rest, json!({"domains": ["c.example"], "next": null}));
    server.get("/tenants/nobody/domains").refused(404, "NOT_FOUND");
    server.get("/tenants/acme/domains?after=x").refused(422, "VALIDATION_ERROR");
}
