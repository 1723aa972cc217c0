//! What only the fake host can show of quotas: what is held while requests are under way, and who waits for whom.

use std::time::Duration;

use envoy_tenancy::denial::Denial;
use envoy_tenancy::filter::Step;
use envoy_tenancy::host::RequestId;
use serde_json::json;

use crate::scenarios::world::*;
use crate::world::NativeWorld;

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

/// Begins a request, answers what it asks, and tells whether it goes on.
fn goes_on(world: &mut NativeWorld) -> (RequestId, bool) {
    let (id, step) = world.begin(&named("acme"));
    let step = match step {
        Step::Wait => world.answer_all().into_iter().find(|(other, _)| *other == id).expect("its wait ends").1,
        step => step,
    };
    match step {
        Step::Forward(_) => (id, true),
        Step::Deny(refusal) => {
            assert!(matches!(refusal.denial, Denial::QuotaExceeded(_)), "{refusal:?}");
            (id, false)
        }
        Step::Wait | Step::Flow(_) => panic!("it waits again"),
    }
}

#[test]
fn a_level_holds_what_is_under_way_though_the_record_is_renewed() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["quotas"] = json!([{"quotaKey": "concurrency", "period": "none", "limit": 2}]);
    let mut world = NativeWorld::start(config, Directory::of(&tenants()));
    for _ in 0..5 {
        let (first, passed) = goes_on(&mut world);
        assert!(passed);
        world.pause(Duration::from_secs(2));
        let (second, passed) = goes_on(&mut world);
        assert!(passed);
        world.pause(Duration::from_secs(2));
        assert!(!goes_on(&mut world).1, "both units are held");
        world.end(first);
        world.pause(Duration::from_secs(2));
        let (third, passed) = goes_on(&mut world);
        assert!(passed);
        world.end(second);
        world.end(third);
    }
}

#[test]
fn a_lowered_limit_holds_at_once_and_a_raised_one_too() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["quotas"] = json!([{"quotaKey": "api", "period": "month", "limit": 100}]);
    let mut world = NativeWorld::start(config, Directory::of(&tenants()));
    let set = |world: &mut NativeWorld, limit: u64| {
        world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "quotas": {"api": limit}})));
        world.pause(Duration::from_secs(2));
    };
    let pass = |world: &mut NativeWorld| (0..200).take_while(|_| goes_on(world).1).count();
    set(&mut world, 20);
    assert_eq!(pass(&mut world), 20);
    set(&mut world, 10);
    assert_eq!(pass(&mut world), 0);
    set(&mut world, 25);
    assert_eq!(pass(&mut world), 5);
    set(&mut world, 0);
    assert_eq!(pass(&mut world), 0);
}

#[test]
fn all_who_wait_are_served_by_one_answer() {
    let mut config = inline(json!({"resolution": "header"}));
    config["quotas"] = json!([{
        "quotaKey": "api", "period": "month", "limit": 1000,
        "count": {"lease": {"cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}"}},
    }]);
    let grant = json!({
        "periodStart": 1_798_761_600, "resetsAt": 1_801_440_000, "resetsInMs": 600_000,
        "granted": 40, "usage": 0, "leased": 40, "expiresInMs": 30_000,
    });
    let path = "/tenants/acme/leases/api";
    let mut world = NativeWorld::start(config, Directory::default().with(path, Reply::json(&grant)));
    for _ in 0..30 {
        assert_eq!(world.begin(&named("acme")).1, Step::Wait);
    }
    assert_eq!(world.under_way(), [path], "one question for all");
    let steps = world.answer_all();
    assert_eq!(steps.len(), 30);
    assert!(steps.iter().all(|(_, step)| matches!(step, Step::Forward(_))), "{steps:?}");
}
