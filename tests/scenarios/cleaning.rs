//! What the service receives of the client's headers, and of the tenant.

use serde_json::json;

use super::world::*;

const FORGED: [&str; 4] = ["x-tenant-id", "x-tenant-slug", "x-tenant-plan", "x-tenant-isolation"];

pub fn a_clients_own_tenant_headers_never_arrive<W: World>() {
    let isolation = json!({
        "resolution": ["subdomain", "path"], "agreement": "first", "baseDomain": "app.example.com",
        "required": false, "exclude": ["/healthz"], "pathPrefix": "/t", "stripPath": true,
    });
    let world = &mut W::start(inline(isolation), Directory::default());
    let forged = |url: &str| {
        let mut request = get(url).header("x-forwarded-prefix", "/forged").header("x-other", "kept");
        for name in FORGED {
            request = request.header(name, "forged").header(&name.to_uppercase(), "forged twice");
            request = request.header(&name.replace('-', "_"), "forged for those who fold").header(&name.replacen('-', "_", 1), "");
        }
        request
    };
    let own = [("x-tenant-id", "acme"), ("x-tenant-slug", "acme-slug"), ("x-tenant-plan", "pro"), ("x-tenant-isolation", "shared")];
    let none = FORGED.map(|name| (name, ""));
    for (url, expected) in [
        ("acme.app.example.com/x", own),
        ("any.example/t/acme/x", own),
        ("any.example/healthz", none),
        ("any.example/x", none),
    ] {
        for request in [forged(url), forged(url).http2()] {
            let outcome = world.send(&request);
            let arrived = outcome.reaches(&expected);
            assert_eq!(arrived.all("x-other"), ["kept"]);
            for (name, value) in &arrived.headers {
                assert!(!value.contains("forged"), "{name}: {value} arrived for {url}");
                assert!(!name.contains('_'), "{name}: {value} arrived for {url}");
            }
        }
    }

    // The strategy's own header is the filter's too, where it isn't forwarded: here another strategy decided.
    let mut config = inline(json!({
        "resolution": ["query", "header"], "agreement": "first", "headerName": "X-Org", "required": false,
    }));
    config["forward"] = json!({"X-Account": "id"});
    let world = &mut W::start(config, Directory::default());
    let outcome = world.send(&get("any.example/?tenant=acme").header("x-org", "hooli").header("x-account", "hooli"));
    outcome.reaches(&[("x-account", "acme"), ("x-org", "")]);
    let outcome = world.send(&get("any.example/").header("x-org", "not an identifier").header("x-tenant-id", "not ours"));
    outcome.reaches(&[("x-account", ""), ("x-org", ""), ("x-tenant-id", "not ours")]);
}

pub fn forwarded_fields_are_the_tenants<W: World>() {
    let config = json!({
        "isolation": {"resolution": "header"},
        "tenants": [{
            "id": "acme",
            "metadata": {
                "plan": "pro", "seats": 12, "ratio": 0.5, "beta": true, "none": null, "empty": "",
                "name": "Zürich  100%\r\nx-evil: 1", "padded": " a b ", "tags": ["a", {"b": 1}], "a/b": {"c.d": "deep"},
            },
            "isolation": {"strategy": "schema", "schema": "t_acme"},
        }],
        "forward": {
            "x-id": "id", "x-slug": "slug", "x-status": "status", "x-plan": "metadata.plan", "x-seats": "metadata.seats",
            "x-ratio": "metadata.ratio", "x-beta": "metadata.beta", "x-none": "metadata.none", "x-empty": "metadata.empty",
            "x-name": "metadata.name", "x-padded": "metadata.padded", "x-tags": "metadata.tags", "x-tag": "metadata.tags.0",
            "x-deep": "/metadata/a~1b/c.d", "x-missing": "metadata.missing.deeper", "x-schema": "isolation.schema",
        },
    });
    let world = &mut W::start(config, Directory::default());
    let outcome = world.send(&get("any.example/").header("x-tenant-id", "acme").header("x-missing", "forged"));
    let arrived = outcome.reaches(&[
        ("x-id", "acme"),
        ("x-slug", ""),
        ("x-status", "active"),
        ("x-plan", "pro"),
        ("x-seats", "12"),
        ("x-ratio", "0.5"),
        ("x-beta", "true"),
        ("x-none", ""),
        ("x-name", "Z%C3%BCrich  100%25%0D%0Ax-evil: 1"),
        ("x-padded", "%20a b%20"),
        ("x-tags", r#"["a",{"b":1}]"#),
        ("x-tag", "a"),
        ("x-deep", "deep"),
        ("x-missing", ""),
        ("x-schema", "t_acme"),
        ("x-evil", ""),
        ("x-tenant-id", ""),
    ]);
    assert_eq!(arrived.all("x-empty"), [""], "an empty field is there, and empty");
}

pub fn values_that_are_not_utf8_harm_nobody<W: World>() {
    let config = looked_up(json!({
        "resolution": ["subdomain", "custom_domain", "path", "header", "query"],
        "baseDomain": "app.example.com",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
        "exclude": ["/healthz"],
        "required": false,
    }));
    let world = &mut W::start(config, Directory::of(&tenants()));
    let bytes = b"\xff\xfe\x80";
    for name in ["x-bin", "x-tenant-id", "x-tenant-plan", "x-request-id", "traceparent", "cookie", "content-type", "x-forwarded-host"] {
        for url in ["acme.app.example.com/x", "any.example/t/acme/x", "any.example/?tenant=acme", "any.example/healthz", "any.example/"] {
            let outcome = world.send(&get(url).raw_header(name, bytes));
            // A request may pass or be refused for what it says, but never fail.
            assert!(outcome.arrived.is_some() || outcome.details.is_some(), "{name} on {url}: {outcome:?}");
        }
    }
    world.send(&get("acme.app.example.com/")).reaches(&[("x-tenant-id", "acme")]);
}

pub fn the_data_model_is_forwarded<W: World>() {
    for (strategy, acme, plain) in [("shared", "shared", "shared"), ("database", "database", "database"), ("hybrid", "schema", "")] {
        let config = json!({
            "isolation": {"strategy": strategy, "resolution": "header"},
            "tenants": [{"id": "acme", "isolation": {"strategy": "schema"}}, {"id": "plain"}],
        });
        let world = &mut W::start(config, Directory::default());
        for (tenant, expected) in [("acme", acme), ("plain", plain)] {
            let outcome = world.send(&get("any.example/").header("x-tenant-id", tenant));
            outcome.reaches(&[("x-tenant-isolation", expected)]);
        }
    }
}
