//! What a refused client gets.

use serde_json::{Value, json};

use super::world::*;

pub fn every_refusal_has_its_status_code_and_details<W: World>() {
    let config = looked_up(json!({"resolution": ["header", "query"]}));
    let directory = Directory::of(&tenants()).with("/tenants/broken", Reply::is(500, "secret stack trace"));
    let world = &mut W::start(config, directory);
    let named = |name: &str| get("any.example/").header("x-tenant-id", name);
    let rows = [
        (get("any.example/"), 404, "TENANT_NOT_FOUND", json!({})),
        (named("nobody"), 404, "TENANT_NOT_FOUND", json!({"tenantId": "nobody"})),
        (named("globex"), 403, "TENANT_SUSPENDED", json!({"tenantId": "globex"})),
        (named("initech"), 403, "TENANT_INACTIVE", json!({"tenantId": "initech"})),
        (get("any.example/?tenant=acme").header("x-tenant-id", "hooli"), 403, "TENANT_MISMATCH", json!({})),
        (get("any.example/?tenant=a&tenant=b"), 403, "TENANT_AMBIGUOUS", json!({"source": "query"})),
        (named("broken"), 503, "SERVICE_UNAVAILABLE", json!({})),
    ];
    for (request, status, code, details) in rows {
        for request in [request.clone(), request.clone().http2(), request.clone().post(b"{}".to_vec())] {
            let outcome = world.send(&request);
            assert_eq!(outcome.is_refused(status, code), details);
            assert_eq!(outcome.header("cache-control"), ["no-store"]);
            assert_eq!(outcome.header("retry-after").is_empty(), status != 503, "{outcome:?}");
            assert!(!outcome.body.contains("secret"), "{outcome:?}");
            let body: Value = serde_json::from_str(&outcome.body).unwrap();
            let keys: Vec<&String> = body["error"].as_object().unwrap().keys().collect();
            assert_eq!(keys, ["code", "details", "message"]);
        }
    }
    // What the client sent comes back only where it is a valid identifier.
    let outcome = world.send(&get("any.example/?tenant=%3Cscript%3E"));
    outcome.is_refused(404, "TENANT_NOT_FOUND");
    assert!(!outcome.body.contains("script"), "{outcome:?}");
}

pub fn a_head_request_is_refused_without_a_body<W: World>() {
    let world = &mut W::start(inline(json!({"resolution": "header"})), Directory::default());
    let outcome = world.send(&get("any.example/").method("HEAD").header("x-tenant-id", "globex"));
    assert_eq!((outcome.status, &*outcome.body), (403, ""));
    assert_eq!(outcome.details.as_deref(), Some("tenancy_tenant_suspended"));
    world.send(&get("any.example/").method("HEAD").header("x-tenant-id", "acme"));
    world.send(&get("any.example/").header("x-tenant-id", "acme")).reaches(&[("x-tenant-id", "acme")]);
}

pub fn grpc_clients_get_a_grpc_status<W: World>() {
    let config = looked_up(json!({"resolution": ["header", "query"]}));
    let directory = Directory::of(&tenants()).with("/tenants/broken", Reply::is(500, ""));
    let world = &mut W::start(config, directory);
    let call = |name: &str| {
        let request = get("any.example/pkg.Service/Method?tenant=hooli").method("POST").http2();
        request.header("content-type", "application/grpc").header("te", "trailers").header("x-tenant-id", name)
    };
    let rows = [
        ("nobody", "5", "TENANT_NOT_FOUND"),
        ("acme", "7", "TENANT_MISMATCH"),
        ("a,b", "7", "TENANT_AMBIGUOUS"),
        ("broken", "14", "SERVICE_UNAVAILABLE"),
    ];
    for (name, grpc_status, code) in rows {
        let outcome = world.send(&call(name));
        assert_eq!(outcome.status, 200, "{outcome:?}");
        assert_eq!(outcome.header("grpc-status"), [grpc_status], "{outcome:?}");
        assert_eq!(outcome.header("content-type"), ["application/grpc"], "{outcome:?}");
        let message = outcome.header("grpc-message").concat();
        let message = percent_encoding::percent_decode_str(&message).decode_utf8().unwrap().into_owned();
        let body: Value = serde_json::from_str(&message).unwrap_or_else(|error| panic!("{error}: {message}"));
        assert_eq!(body["error"]["code"], code, "{message}");
        assert_eq!(outcome.body, "");
        assert!(outcome.details.is_some());
    }
    world.send(&call("hooli")).reaches(&[("x-tenant-id", "hooli")]);
}

pub fn log_fields_show_tenant_and_decision<W: World>() {
    let config = inline(json!({"resolution": "header", "required": false, "exclude": ["/healthz"]}));
    let world = &mut W::start(config, Directory::default());
    let rows = [
        (
            get("any.example/").header("x-tenant-id", "acme-slug"),
            json!({"id": "acme", "slug": "acme-slug", "plan": "pro", "decision": "allow"}),
        ),
        (get("any.example/healthz").header("x-tenant-id", "acme"), json!({"decision": "excluded"})),
        (get("any.example/"), json!({"decision": "no_tenant"})),
        (get("any.example/").header("x-tenant-id", "nobody"), json!({"decision": "tenant_not_found"})),
        (
            get("any.example/").header("x-tenant-id", "globex"),
            json!({"id": "globex", "slug": "globex", "decision": "tenant_suspended"}),
        ),
    ];
    for (request, expected) in rows {
        let outcome = world.send(&request);
        assert_eq!(json!(outcome.log), expected, "{request:?}");
    }
}

pub fn only_the_listed_log_fields_are_written<W: World>() {
    let rows = [
        (json!([]), json!({}), json!({})),
        (
            json!(["decision", "id"]),
            json!({"id": "acme", "decision": "allow"}),
            json!({"decision": "tenant_not_found"}),
        ),
        (json!(["plan"]), json!({"plan": "pro"}), json!({})),
    ];
    for (fields, allowed, refused) in rows {
        let mut config = inline(json!({"resolution": "header"}));
        config["logFields"] = fields;
        let world = &mut W::start(config, Directory::default());
        for (tenant, expected) in [("acme", allowed), ("nobody", refused)] {
            let outcome = world.send(&get("any.example/").header("x-tenant-id", tenant));
            assert_eq!(json!(outcome.log), expected, "{tenant}");
        }
    }
}
