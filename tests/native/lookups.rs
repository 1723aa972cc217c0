//! What only the fake host can show: how lookups go on beside each other, and what ends a wait.

use std::time::Duration;

use envoy_tenancy::denial::Denial;
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

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

fn is_unavailable(step: &Step) -> bool {
    matches!(step, Step::Deny(refusal) if refusal.denial == Denial::ServiceUnavailable)
}

#[test]
fn made_up_names_leave_half_of_the_callouts_to_known_tenants() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["maxInFlight"] = json!(8);
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    let mut world = NativeWorld::start(config, Directory::of(&tenants()));
    for name in ["acme", "hooli"] {
        world.send(&named(name)).reaches(&[]);
    }
    world.wait(Duration::from_secs(2));
    let steps: Vec<Step> = (0..100).map(|number| world.begin(&named(&format!("made-up-{number}"))).1).collect();
    assert_eq!(steps.iter().filter(|step| **step == Step::Wait).count(), 4);
    assert!(steps.iter().filter(|step| **step != Step::Wait).all(is_unavailable));
    // Known tenants that are due are asked for all the same.
    for name in ["acme", "hooli"] {
        assert_eq!(world.begin(&named(name)).1, Step::Wait, "{name}");
    }
    assert_eq!(world.under_way().len(), 6);
    let forwarded = world.answer_all().into_iter().filter(|(_, step)| matches!(step, Step::Forward(_))).count();
    assert_eq!(forwarded, 2);
}

#[test]
fn a_silent_directory_is_left_alone_and_found_again() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    let mut directory = Directory::of(&tenants());
    for name in ["a", "b", "c", "d", "e"] {
        directory = directory.with(&format!("/tenants/{name}"), Reply::is(503, ""));
    }
    let mut world = NativeWorld::start(config, directory);
    world.send(&named("acme")).reaches(&[]);
    // One name that gets no answer says nothing of the others.
    for _ in 0..5 {
        world.send(&named("a")).is_refused(503, "SERVICE_UNAVAILABLE");
        world.wait(Duration::from_millis(1100));
    }
    world.send(&named("hooli")).reaches(&[]);
    world.wait(Duration::from_millis(1100));
    for name in ["a", "b", "c"] {
        world.send(&named(name)).is_refused(503, "SERVICE_UNAVAILABLE");
    }
    // Three in a row do: nobody is asked for, what is held serves, and the rest is refused at once.
    assert!(is_unavailable(&world.begin(&named("globex")).1));
    world.send(&named("acme")).reaches(&[("x-tenant-id", "acme")]);
    assert_eq!(world.under_way(), [""; 0]);
    // After the pause one question goes first; what it brings decides.
    world.pause(Duration::from_millis(300));
    assert_eq!(world.begin(&named("globex")).1, Step::Wait);
    assert!(is_unavailable(&world.begin(&named("d")).1));
    assert_eq!(world.under_way(), ["/tenants/globex"]);
    world.answer_all();
    assert_eq!(world.begin(&named("initech")).1, Step::Wait);
    assert_eq!(world.begin(&named("d")).1, Step::Wait);
}

#[test]
fn a_name_that_the_directory_stumbles_over_keeps_no_other_from_being_asked_for() {
    let mut directory = Directory::of(&tenants());
    for name in ["a", "b", "c", "d", "e"] {
        directory = directory.with(&format!("/tenants/{name}"), Reply::is(500, ""));
    }
    let mut world = NativeWorld::start(looked_up(json!({"resolution": "header"})), directory);
    for name in ["a", "b", "c", "d", "e"] {
        world.send(&named(name)).is_refused(503, "SERVICE_UNAVAILABLE");
    }
    world.send(&named("acme")).reaches(&[]);
    // It isn't itself asked for again and again.
    let asked = world.asked().len();
    for _ in 0..10 {
        world.send(&named("a")).is_refused(503, "SERVICE_UNAVAILABLE");
    }
    assert_eq!(world.asked().len(), asked);
}

#[test]
fn a_scan_of_cold_tenants_displaces_no_hot_one() {
    use envoy_tenancy::directory::MEMORY_ENTRIES;
    let mut directory = Directory::default();
    let cold: Vec<String> = (0..3 * MEMORY_ENTRIES).map(|number| format!("cold-{number}")).collect();
    let hot: Vec<String> = (0..20).map(|number| format!("hot-{number}")).collect();
    for name in cold.iter().chain(&hot) {
        directory = directory.with(&format!("/tenants/{name}"), Reply::json(&json!({"id": name})));
    }
    let mut world = NativeWorld::start(looked_up(json!({"resolution": "header"})), directory);
    for _ in 0..3 {
        for name in &hot {
            world.send(&named(name)).reaches(&[]);
        }
    }
    for (number, name) in cold.iter().enumerate() {
        world.send(&named(name)).reaches(&[]);
        // The hot ones go on being asked for, though much less often than cold ones come by.
        if number % 100 == 0 {
            world.send(&named(&hot[number / 100 % hot.len()])).reaches(&[]);
        }
    }
    // What this worker remembers needs no look at shared data.
    let reads = world.shared_reads();
    for name in &hot {
        world.send(&named(name)).reaches(&[]);
    }
    assert_eq!(world.shared_reads(), reads, "a hot tenant was displaced");
    // And the scan did fill the memory: most of the cold ones are no longer remembered.
    for name in &cold {
        world.send(&named(name)).reaches(&[]);
    }
    let looked_at = world.shared_reads() - reads;
    assert!(looked_at >= cold.len() - MEMORY_ENTRIES, "{looked_at} of {} are forgotten", cold.len());
}

/// However briefly an answer may be kept, what comes about an open connection's tenant decides about the connection.
#[test]
fn an_answer_about_an_open_connection_is_taken_when_it_comes() {
    let suspended = || Reply::json(&json!({"id": "acme", "status": "suspended"}));
    for (reply, decision) in [(suspended(), "tenant_suspended"), (Reply::is(404, ""), "tenant_not_found")] {
        for cache in [0_u64, 1, 2, 60] {
            let mut config = looked_up(json!({"resolution": "header"}));
            config["lookupTenant"]["cacheSeconds"] = json!(cache);
            config["lookupTenant"]["negativeSeconds"] = json!(0);
            config["websocket"] = json!({"recheckSeconds": 1});
            let mut world = NativeWorld::start(config, Directory::of(&tenants()));
            let upgrade = named("acme").header("connection", "upgrade").header("upgrade", "websocket");
            let (id, _) = world.begin(&upgrade);
            world.answer_all();
            assert_eq!(world.answers_upgrade(id, b"101"), None);
            world.script("/tenants/acme", reply.clone());
            let decided = (0..=cache + 2).find_map(|second| {
                // A little more than a second, as timers have it.
                world.pause(Duration::from_millis(1005));
                let steps = [world.tick(), world.answer_all()].concat();
                let mut verdicts = steps.into_iter().filter_map(|(of, step)| match step {
                    Step::Flow(flow) if of == id => flow.verdicts.first().map(|verdict| verdict.decision),
                    _ => None,
                });
                verdicts.next().map(|decision| (decision, second))
            });
            let (told, second) = decided.unwrap_or(("nothing", 0));
            assert_eq!(told, decision, "cacheSeconds: {cache}");
            assert!(second <= cache, "cacheSeconds: {cache}, after {second} s");
        }
    }
}
