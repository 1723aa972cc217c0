//! What only the fake host can show: how lookups go on beside each other, and what ends a wait.

use envoy_tenancy::filter::Step;
use envoy_tenancy::host::RequestId;
use serde_json::json;

use crate::scenarios::world::*;
use crate::world::NativeWorld;

#[test]
fn lookups_of_one_request_run_side_by_side() {
    let config = looked_up(json!({
        "resolution": ["custom_domain", "header", "query", "custom"],
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
        "customResolver": {"cluster": "directory", "path": "/resolve"},
    }));
    let mut world = NativeWorld::start(config, Directory::default());
    let request = get("app.acme.com/?tenant=acme-slug").header("x-tenant-id", "acme");
    assert_eq!(world.begin(&request), (RequestId(1), Step::Wait));
    // All four are under way before the first answer has come.
    let mut paths = world.under_way();
    paths.sort();
    assert_eq!(paths, ["/domains/app.acme.com", "/resolve", "/tenants/acme", "/tenants/acme-slug"]);
}

#[test]
fn with_first_nothing_is_asked_that_may_not_be_needed() {
    let config = looked_up(json!({
        "resolution": ["custom_domain", "header"],
        "agreement": "first",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }));
    let mut world = NativeWorld::start(config, Directory::default());
    world.begin(&get("app.acme.com/").header("x-tenant-id", "acme"));
    assert_eq!(world.under_way(), ["/domains/app.acme.com"]);
}

#[test]
fn a_request_that_ends_is_forgotten_and_its_lookup_serves_others() {
    let config = looked_up(json!({"resolution": "header"}));
    let mut world = NativeWorld::start(config, Directory::of(&tenants()));
    let request = get("any.example/").header("x-tenant-id", "acme");
    let (first, _) = world.begin(&request);
    let (second, _) = world.begin(&request);
    world.end(first);
    assert_eq!(world.under_way(), ["/tenants/acme"]);
    let steps = world.answer_all();
    assert_eq!(steps.len(), 1);
    assert!(matches!(&steps[0], (id, Step::Forward(_)) if *id == second));
}
