//! Quotas that the edge counts, where many want the last units: by the service's own count, exactly the limit arrives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::flood::{Flood, send, settled};
use crate::listeners::Listeners;
use crate::load::Client;
use crate::scenarios::world::*;

const TENANT: &str = "plain";
const NO_PACE: Duration = Duration::ZERO;

/// A configuration with that tenant, and one quota.
pub fn config(quota: Value) -> Value {
    json!({"isolation": {"resolution": "header"}, "tenants": [{"id": TENANT}], "quotas": [quota]})
}

fn monthly(limit: u64) -> Value {
    config(json!({"quotaKey": "api", "period": "month", "limit": limit}))
}

/// Sends requests over one connection until one is refused, and gives how many weren't; after it none may pass.
fn pass(client: &mut Client) -> usize {
    let passed = std::iter::repeat_with(|| client.get(TENANT)).take_while(|status| *status == 200).count();
    for _ in 0..50 {
        assert_eq!(client.get(TENANT), 429, "after a refusal");
    }
    passed
}

#[test]
fn exactly_the_limit_passes_under_load_on_both_workers() {
    let world = EnvoyWorld::start(monthly(10_000), Directory::default());
    let flood = Flood::start(world.envoy.listener, TENANT, 16, NO_PACE);
    let received = settled(&world.service, Duration::from_millis(700));
    let statuses = flood.end();
    println!("limit 10000: {received} arrived; {statuses:?}");
    assert_eq!((received, statuses.get(&200)), (10_000, Some(&10_000)), "{statuses:?}");
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    // Not one more, on old connections or new ones, at once or later.
    assert_eq!(send(world.envoy.listener, TENANT, 16, 20).into_iter().collect::<Vec<_>>(), [(429, 320)]);
    assert_eq!(world.received(), 10_000);
}

#[test]
fn units_in_another_workers_hands_are_called_back() {
    for limit in [700, 3000] {
        let world = EnvoyWorld::start(monthly(limit), Directory::default());
        let half = usize::try_from(limit / 2).expect("it is small");
        let sent = send(world.envoy.listener, TENANT, 10, half / 10);
        assert_eq!(sent.into_iter().collect::<Vec<_>>(), [(200, half)]);
        // At once, while the worker that this connection isn't on holds a part.
        assert_eq!(pass(&mut Client::connect(world.envoy.listener)), half);
        assert_eq!(world.received(), half * 2);
    }
}

#[test]
fn counts_outlive_an_update_of_the_listener() {
    let mut listeners = None;
    let world = EnvoyWorld::start_changed(structure(&monthly(400)), Directory::default(), |bootstrap| {
        listeners = Some(Listeners::of(bootstrap));
    });
    let mut listeners = listeners.expect("the bootstrap was changed");
    let on_both = |each| send(world.envoy.listener, TENANT, 10, each).into_iter().collect::<Vec<_>>();
    assert_eq!(on_both(30), [(200, 300)]);
    listeners.configure(&monthly(350), &world.envoy);
    assert_eq!(pass(&mut Client::connect(world.envoy.listener)), 50, "a lowered limit");
    listeners.configure(&monthly(500), &world.envoy);
    assert_eq!(on_both(10), [(200, 100)]);
    assert_eq!(pass(&mut Client::connect(world.envoy.listener)), 50, "a raised limit");
    listeners.configure(&monthly(100), &world.envoy);
    assert_eq!(pass(&mut Client::connect(world.envoy.listener)), 0, "one below what is used");
    listeners.configure(&monthly(5000), &world.envoy);
    // Updates while requests are under way, on connections of the old and of the new configuration.
    let flood = Flood::start(world.envoy.listener, TENANT, 12, Duration::from_millis(8));
    std::thread::sleep(Duration::from_millis(300));
    listeners.configure(&monthly(4000), &world.envoy);
    listeners.configure(&monthly(5000), &world.envoy);
    let received = settled(&world.service, Duration::from_millis(1500));
    println!("limit 5000 after {} updates: {received} arrived; {:?}", 6, flood.end());
    assert_eq!(received, 5000);
}
