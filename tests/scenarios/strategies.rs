//! Each strategy alone, and what a request can do to it.

use serde_json::json;

use super::world::Expect::{NoTenant, Tenant};
use super::world::*;

pub fn a_subdomain_names_the_tenant<W: World>() {
    let config = inline(json!({
        "resolution": "subdomain", "baseDomain": ["app.example.com", "bücher.example"], "reservedSubdomains": ["www"],
    }));
    let world = &mut W::start(config, Directory::default());
    check(
        world,
        &[
            (get("acme.app.example.com/"), Tenant("acme")),
            (get("acme-slug.app.example.com/"), Tenant("acme")),
            (get("ACME.App.Example.COM/"), Tenant("acme")),
            (get("acme.app.example.com:8443/"), Tenant("acme")),
            (get("acme.app.example.com./"), Tenant("acme")),
            (get("acme.app.example.com.:80/"), Tenant("acme")),
            (get("acme.xn--bcher-kva.example/"), Tenant("acme")),
            (get("acme.XN--BCHER-KVA.example/"), Tenant("acme")),
            (get("nobody.app.example.com/"), NOT_FOUND),
            (get("www.app.example.com/"), NOT_FOUND),
            (get("app.example.com/"), NOT_FOUND),
            (get("acme.evilapp.example.com/"), NOT_FOUND),
            (get("evilapp.example.com/"), NOT_FOUND),
            (get("acme.app.example.com.evil.com/"), NOT_FOUND),
            (get("acme.x.app.example.com/"), NOT_FOUND),
            (get("a.b.acme.app.example.com/"), NOT_FOUND),
            (get("[::1]:8080/"), NOT_FOUND),
            (get("127.0.0.1/"), NOT_FOUND),
            (get("acme.app.example.com/t/hooli?tenant=hooli").header("x-tenant-id", "hooli"), Tenant("acme")),
            (get("acme.app.example.com/").http2(), Tenant("acme")),
        ],
    );
}

pub fn a_custom_domain_names_the_tenant<W: World>() {
    let mut config = looked_up(json!({
        "resolution": ["subdomain", "custom-domain"],
        "baseDomain": "app.example.com",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }));
    config["lookupTenant"]["negativeSeconds"] = json!(0);
    let directory = Directory::of(&tenants())
        .with("/domains/app.acme.com", Reply::json(&json!({"tenantId": "acme-slug"})))
        .with("/domains/gone.example", Reply::json(&json!({"tenantId": "nobody"})))
        .with("/domains/globex.example", Reply::json(&json!({"tenantId": "globex"})))
        .with("/domains/xn--bcher-kva.example", Reply::json(&json!({"tenantId": "hooli"})));
    let world = &mut W::start(config, directory);
    check(
        world,
        &[
            (get("app.acme.com/"), Tenant("acme")),
            (get("App.ACME.com.:444/"), Tenant("acme")),
            (get("xn--bcher-kva.example/"), Tenant("hooli")),
            (get("acme.app.example.com/"), Tenant("acme")),
            (get("other.example/"), NOT_FOUND),
            (get("gone.example/"), NOT_FOUND),
            (get("globex.example/"), Expect::Refused(403, "TENANT_SUSPENDED")),
            (get("app.example.com/"), NOT_FOUND),
            (get("x.acme.app.example.com/"), NOT_FOUND),
            (get("[::1]/"), NOT_FOUND),
        ],
    );
    let paths: Vec<String> = world.asked().into_iter().map(|asked| asked.path).collect();
    assert!(
        !paths.iter().any(|path| path.contains("app.example.com")),
        "the platform's own hosts are nobody's: {paths:?}"
    );
}

pub fn a_path_names_the_tenant<W: World>() {
    let world = &mut W::start(inline(json!({"resolution": "path"})), Directory::default());
    let long = format!("any.example/t/{}/x", "a".repeat(300));
    check(
        world,
        &[
            (get("any.example/t/acme/api/tasks"), Tenant("acme")),
            (get("any.example/t/acme"), Tenant("acme")),
            (get("any.example/t/acme?tenant=hooli"), Tenant("acme")),
            (get("any.example/t/%61cme/api"), Tenant("acme")),
            (get("any.example/t/acme-slug/"), Tenant("acme")),
            (get("any.example/t/acme/a%2Fb"), Tenant("acme")),
            (get("any.example/t/Acme/"), NOT_FOUND),
            (get("any.example/t//acme"), NOT_FOUND),
            (get("any.example/t/"), NOT_FOUND),
            (get("any.example/t"), NOT_FOUND),
            (get("any.example/"), NOT_FOUND),
            (get("any.example/tt/acme"), NOT_FOUND),
            (get("any.example/x/t/acme"), NOT_FOUND),
            (get("any.example/t/acme%2fapi"), NOT_FOUND),
            (get("any.example/t/acme%"), NOT_FOUND),
            (get("any.example/t/%zzacme"), NOT_FOUND),
            (get("any.example/t/%2561cme"), NOT_FOUND),
            (get("any.example/t/acme+x/"), NOT_FOUND),
            (get("any.example/t/../acme"), NOT_FOUND),
            (get("any.example/t/acme/../hooli/x"), NOT_FOUND),
            (get("any.example/t/acme/%2e%2e/hooli/x"), NOT_FOUND),
            (get("any.example/t/acme/..%2fhooli/x"), NOT_FOUND),
            (get(&long), NOT_FOUND),
            (get("any.example/t/acme/x").http2(), Tenant("acme")),
        ],
    );
    let arrived = world.send(&get("any.example/t/acme/api?x=1")).reaches(&[("x-forwarded-prefix", "")]).clone();
    assert_eq!(arrived.target, "/t/acme/api?x=1", "nothing is stripped unless asked for");
}

pub fn a_header_names_the_tenant<W: World>() {
    let world = &mut W::start(inline(json!({"resolution": "header"})), Directory::default());
    let with = |value: &str| get("any.example/").header("X-Tenant-ID", value);
    check(
        world,
        &[
            (with("acme"), Tenant("acme")),
            (with("  acme  "), Tenant("acme")),
            (with("acme-slug"), Tenant("acme")),
            (with("acme").http2(), Tenant("acme")),
            (with("ACME"), NOT_FOUND),
            (with("nobody"), NOT_FOUND),
            (with(""), NOT_FOUND),
            (with("a/b"), NOT_FOUND),
            (with("acme hooli"), NOT_FOUND),
            (with(&"a".repeat(300)), NOT_FOUND),
            (get("any.example/"), NOT_FOUND),
            (with("acme, hooli"), AMBIGUOUS),
            (with("acme,acme"), AMBIGUOUS),
            (with("acme").header("x-tenant-id", "hooli"), AMBIGUOUS),
            (with("acme").header("x-tenant-id", "acme"), AMBIGUOUS),
            (with("acme").header("x-tenant-id", "acme").http2(), AMBIGUOUS),
        ],
    );
    assert_eq!(world.send(&with("a,b")).is_refused(403, "TENANT_AMBIGUOUS"), json!({"source": "header"}));
}

pub fn a_query_names_the_tenant<W: World>() {
    let world = &mut W::start(inline(json!({"resolution": "query", "queryParam": "org"})), Directory::default());
    let long = format!("any.example/?org={}", "a".repeat(300));
    check(
        world,
        &[
            (get("any.example/?org=acme"), Tenant("acme")),
            (get("any.example/x?a=1&org=acme&b"), Tenant("acme")),
            (get("any.example/?org=%61cme"), Tenant("acme")),
            (get("any.example/?%6frg=acme"), Tenant("acme")),
            (get("any.example/?org=acme").http2(), Tenant("acme")),
            (get("any.example/?ORG=acme"), NOT_FOUND),
            (get("any.example/?org="), NOT_FOUND),
            (get("any.example/?org"), NOT_FOUND),
            (get("any.example/?org=ac+me"), NOT_FOUND),
            (get("any.example/?org=%zz"), NOT_FOUND),
            (get("any.example/?org=%2561cme"), NOT_FOUND),
            (get("any.example/?org=.."), NOT_FOUND),
            (get("any.example/?org=a%2fb"), NOT_FOUND),
            (get("any.example/?org=%ff%fe"), NOT_FOUND),
            (get(&long), NOT_FOUND),
            (get("any.example/org=acme"), NOT_FOUND),
            (get("any.example/?org=acme&org=hooli"), AMBIGUOUS),
            (get("any.example/?org=acme&org=acme"), AMBIGUOUS),
            (get("any.example/?org=acme&%6Frg=hooli"), AMBIGUOUS),
        ],
    );
    assert_eq!(
        world.send(&get("any.example/?org=a&org=b")).is_refused(403, "TENANT_AMBIGUOUS"),
        json!({"source": "query"})
    );
}

pub fn a_stripped_path_comes_with_its_prefix<W: World>() {
    let isolation = json!({
        "resolution": ["header", "path"], "agreement": "first", "pathPrefix": "/api/orgs", "stripPath": true, "required": false,
    });
    let world = &mut W::start(inline(isolation), Directory::default());
    let rows = [
        ("/api/orgs/acme/tasks?x=%20", "/tasks?x=%20", "/api/orgs/acme"),
        ("/api/orgs/acme", "/", "/api/orgs/acme"),
        ("/api/orgs/acme?x", "/?x", "/api/orgs/acme"),
        ("/api/orgs/%61cme/", "/", "/api/orgs/acme"),
        ("/api/orgs/acme-slug//evil.example/x", "/evil.example/x", "/api/orgs/acme-slug"),
        ("/other", "/other", ""),
    ];
    for (target, stripped, prefix) in rows {
        let request = get(&format!("any.example{target}")).header("x-forwarded-prefix", "/forged");
        let outcome = world.send(&request);
        let arrived = outcome.reaches(&[("x-forwarded-prefix", prefix)]);
        assert_eq!(arrived.target, stripped, "{target}");
    }
    // Another strategy named another tenant: then the path is the service's own business.
    let outcome = world.send(&get("any.example/api/orgs/hooli/x").header("x-tenant-id", "acme"));
    let arrived = outcome.reaches(&[("x-tenant-id", "acme"), ("x-forwarded-prefix", "")]);
    assert_eq!(arrived.target, "/api/orgs/hooli/x");
}

pub fn a_stripped_query_keeps_the_rest<W: World>() {
    let isolation = json!({"resolution": "query", "stripQuery": true});
    let world = &mut W::start(inline(isolation), Directory::default());
    let rows =
        [("/x?tenant=acme", "/x"), ("/x?a=%41&tenant=acme&b=+&c", "/x?a=%41&b=+&c"), ("/x?%74enant=acme&a", "/x?a")];
    for (target, stripped) in rows {
        let outcome = world.send(&get(&format!("any.example{target}")));
        assert_eq!(outcome.reaches(&[("x-tenant-id", "acme")]).target, stripped, "{target}");
    }
}

pub fn only_the_authority_names_the_host<W: World>() {
    let isolation = json!({"resolution": "subdomain", "baseDomain": "app.example.com", "required": false});
    let world = &mut W::start(inline(isolation), Directory::default());
    check(
        world,
        &[
            (get("other.example/").header("x-forwarded-host", "acme.app.example.com"), NoTenant),
            (get("other.example/").header("forwarded", "host=acme.app.example.com"), NoTenant),
            (get("acme.app.example.com/").header("x-forwarded-host", "hooli.app.example.com"), Tenant("acme")),
        ],
    );
}

pub fn old_and_new_http_are_one<W: World>() {
    let isolation = json!({"resolution": ["subdomain", "header"], "baseDomain": "app.example.com"});
    let world = &mut W::start(inline(isolation), Directory::default());
    for request in [get("acme.app.example.com/x?y").header("X-Tenant-Id", "acme-slug"), get("hooli.app.example.com/")] {
        let (old, new) = (world.send(&request), world.send(&request.clone().http2()));
        let (old, new) = (old.reaches(&[]), new.reaches(&[]));
        assert_eq!(old.all("x-tenant-id"), new.all("x-tenant-id"));
        assert_eq!(old.target, new.target);
    }
    for request in [get("globex.app.example.com/"), get("acme.app.example.com/").header("x-tenant-id", "hooli")] {
        let (old, new) = (world.send(&request), world.send(&request.clone().http2()));
        assert_eq!((old.status, &old.body, &old.details), (new.status, &new.body, &new.details));
    }
}
