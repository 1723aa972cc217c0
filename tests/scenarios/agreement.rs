//! Several strategies, and requests that need none.

use serde_json::json;

use super::world::Expect::{NoTenant, Tenant};
use super::world::*;

const SUSPENDED: Expect = Expect::Refused(403, "TENANT_SUSPENDED");

pub fn consistent_strategies_name_one_tenant<W: World>() {
    let config = looked_up(json!({
        "resolution": ["subdomain", "custom_domain", "path", "header", "query"],
        "baseDomain": "app.example.com",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }));
    let directory = Directory::of(&tenants()).with("/domains/app.acme.com", Reply::json(&json!({"tenantId": "acme"})));
    let world = &mut W::start(config, directory);
    check(world, &[
        (get("acme.app.example.com/"), Tenant("acme")),
        (get("app.acme.com/t/acme-slug/?tenant=acme").header("x-tenant-id", "acme-slug"), Tenant("acme")),
        (get("acme-slug.app.example.com/t/acme"), Tenant("acme")),
        (get("acme.app.example.com/t/hooli"), MISMATCH),
        (get("acme.app.example.com/").header("x-tenant-id", "hooli"), MISMATCH),
        (get("app.acme.com/?tenant=hooli"), MISMATCH),
        (get("acme.app.example.com/?tenant=globex"), MISMATCH),
        (get("acme.app.example.com/").header("x-tenant-id", "nobody"), NOT_FOUND),
        (get("nobody.app.example.com/").header("x-tenant-id", "acme"), NOT_FOUND),
        (get("globex.app.example.com/?tenant=globex"), SUSPENDED),
        (get("acme.app.example.com/?tenant=a&tenant=b"), AMBIGUOUS),
        (get("acme.app.example.com/").header("x-tenant-id", "not an identifier"), Tenant("acme")),
        (get("www.example.com/x").header("x-tenant-id", "acme"), Tenant("acme")),
        (get("www.example.com/x"), NOT_FOUND),
    ]);
}

pub fn unanimous_strategies_all_answer<W: World>() {
    let isolation = json!({
        "resolution": ["header", "subdomain"], "agreement": "unanimous", "baseDomain": "app.example.com", "required": false,
    });
    let world = &mut W::start(inline(isolation), Directory::default());
    check(world, &[
        (get("acme.app.example.com/").header("x-tenant-id", "acme"), Tenant("acme")),
        (get("acme.app.example.com/").header("x-tenant-id", "acme-slug"), Tenant("acme")),
        (get("acme.app.example.com/"), NOT_FOUND),
        (get("any.example/").header("x-tenant-id", "acme"), NOT_FOUND),
        (get("any.example/"), NOT_FOUND),
        (get("acme.app.example.com/").header("x-tenant-id", "hooli"), MISMATCH),
        (get("acme.app.example.com/").header("x-tenant-id", "nobody"), NOT_FOUND),
        (get("acme.app.example.com/").header("x-tenant-id", "a,b"), AMBIGUOUS),
    ]);
    let config = looked_up(json!({
        "resolution": ["header", "custom_domain"],
        "agreement": "unanimous",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }));
    let directory = Directory::of(&tenants()).with("/domains/app.acme.com", Reply::json(&json!({"tenantId": "acme"})));
    let world = &mut W::start(config, directory);
    check(world, &[
        (get("app.acme.com/").header("x-tenant-id", "acme"), Tenant("acme")),
        (get("other.example/").header("x-tenant-id", "acme"), NOT_FOUND),
    ]);
}

pub fn the_first_answer_wins<W: World>() {
    let config = looked_up(json!({
        "resolution": ["custom_domain", "header", "query"],
        "agreement": "first",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }));
    let directory = Directory::of(&tenants())
        .with("/domains/app.acme.com", Reply::json(&json!({"tenantId": "acme"})))
        .with("/domains/broken.example", Reply::is(500, "oops"));
    let world = &mut W::start(config, directory);
    check(world, &[
        (get("app.acme.com/?tenant=hooli").header("x-tenant-id", "hooli"), Tenant("acme")),
        (get("any.example/?tenant=acme").header("x-tenant-id", "hooli"), Tenant("hooli")),
        (get("any.example/?tenant=acme&tenant=x").header("x-tenant-id", "hooli"), Tenant("hooli")),
        (get("any.example/?tenant=acme"), Tenant("acme")),
        (get("any.example/?tenant=acme").header("x-tenant-id", "a,b"), AMBIGUOUS),
        (get("any.example/?tenant=acme").header("x-tenant-id", "nobody"), NOT_FOUND),
        (get("any.example/?tenant=acme").header("x-tenant-id", "globex"), SUSPENDED),
        // A strategy that can't tell is never passed over: the request could be another tenant's.
        (get("broken.example/?tenant=acme"), UNAVAILABLE),
        (get("any.example/"), NOT_FOUND),
    ]);
}

pub fn a_request_without_a_tenant_may_pass<W: World>() {
    let isolation = json!({"resolution": ["header", "query"], "required": false});
    let world = &mut W::start(inline(isolation), Directory::default());
    check(world, &[
        (get("any.example/"), NoTenant),
        (get("any.example/").header("x-tenant-id", "not an identifier"), NoTenant),
        (get("any.example/").header("x-tenant-plan", "forged"), NoTenant),
        (get("any.example/").header("x-tenant-id", "acme"), Tenant("acme")),
        (get("any.example/").header("x-tenant-id", "nobody"), NOT_FOUND),
        (get("any.example/").header("x-tenant-id", "globex"), SUSPENDED),
        (get("any.example/?tenant=a&tenant=b"), AMBIGUOUS),
    ]);
}

pub fn excluded_paths_need_no_tenant<W: World>() {
    let isolation = json!({
        "resolution": "header", "exclude": ["/healthz", "/.well-known/*", "/a%20b"],
    });
    let world = &mut W::start(inline(isolation), Directory::default());
    check(world, &[
        (get("any.example/healthz"), NoTenant),
        (get("any.example/healthz?x=1"), NoTenant),
        (get("any.example/healthz").header("x-tenant-id", "acme"), NoTenant),
        (get("any.example/healthz").header("x-tenant-id", "a,b"), NoTenant),
        (get("any.example/.well-known/acme-challenge/x").http2(), NoTenant),
        (get("any.example/.well-known/"), NoTenant),
        (get("any.example/a%20b"), NoTenant),
        (get("any.example/healthz/"), NOT_FOUND),
        (get("any.example/healthzz"), NOT_FOUND),
        (get("any.example/Healthz"), NOT_FOUND),
        (get("any.example/.well-known"), NOT_FOUND),
        (get("any.example/.well-known/../api"), NOT_FOUND),
        (get("any.example/.well-known/%2e%2e/api"), NOT_FOUND),
        (get("any.example/.well-known/..%2fapi"), NOT_FOUND),
        (get("any.example/.well-known/..%5Capi"), NOT_FOUND),
        (get("any.example/x/../healthz"), NOT_FOUND),
        (get("any.example/?/healthz"), NOT_FOUND),
    ]);
}
