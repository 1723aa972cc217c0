//! A directory that fails, and a flood of made-up names, while known tenants are served.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::load::{Client, Tally, steady};
use crate::scenarios::world::*;

const KNOWN: &[&str] = &["acme", "acme-slug", "hooli"];

#[test]
fn known_tenants_notice_no_outage_of_the_directory() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["lookupTenant"]["staleSeconds"] = json!(120);
    config["lookupTenant"]["timeoutMs"] = json!(300);
    let world = &mut EnvoyWorld::start(config, Directory::of(&tenants()));
    for name in KNOWN {
        world.send(&get("any.example/").header("x-tenant-id", name)).reaches(&[]);
    }
    let cut = &Reply::is(200, r#"{"id":"acme","#);
    let failures = [
        ("503", Some(Reply::is(503, ""))),
        ("500", Some(Reply::is(500, ""))),
        ("429", Some(Reply::is(429, ""))),
        ("HTML", Some(Reply::is(200, "<!doctype html><title>Sign in</title>"))),
        ("[]", Some(Reply::is(200, "[]"))),
        ("cut JSON", Some(cut.clone())),
        ("silence", Some(Reply::Never)),
        ("refused connections", None),
    ];
    for (failure, reply) in failures {
        match &reply {
            Some(reply) => KNOWN.iter().for_each(|name| world.script(&format!("/tenants/{name}"), reply.clone())),
            None => world.stop_directory(),
        }
        // Long enough for what is held to grow too old by itself, again and again.
        let tally = steady(world.envoy.listener, KNOWN, 200, Duration::from_millis(2500)).join().expect("it ends");
        let slowest = tally.percentile(100);
        println!(
            "{failure}: {} served, p50 {:?}, p99 {:?}, slowest {slowest:?}",
            tally.good,
            tally.percentile(50),
            tally.percentile(99)
        );
        assert!(tally.others.is_empty(), "{failure}: {:?}", tally.others);
        assert!(tally.good >= 400, "{failure}: {} requests only", tally.good);
        assert!(slowest < Duration::from_secs(2), "{failure}: {slowest:?}");
    }
}

#[test]
fn known_tenants_notice_no_lack_of_endpoints() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["lookupTenant"]["staleSeconds"] = json!(120);
    let directory = Directory::of(&tenants()).with("/healthz", Reply::is(200, ""));
    let world = &mut EnvoyWorld::start_changed(structure(&config), directory, |bootstrap| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][1];
        assert_eq!(cluster["name"], "directory");
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
        cluster["health_checks"] = json!([{
            "timeout": "1s", "interval": "0.2s", "no_traffic_interval": "0.2s", "unhealthy_threshold": 1,
            "healthy_threshold": 1, "http_health_check": {"path": "/healthz"},
        }]);
    });
    // Until the first check has passed there is no endpoint either.
    world.wait(Duration::from_millis(1000));
    for name in KNOWN {
        world.send(&get("any.example/").header("x-tenant-id", name)).reaches(&[]);
    }
    // Envoy takes the directory's one endpoint out, and refuses callouts at once.
    world.script("/healthz", Reply::is(503, ""));
    world.wait(Duration::from_millis(1000));
    let asked = world.asked().iter().filter(|asked| asked.path.starts_with("/tenants/")).count();
    let tally = steady(world.envoy.listener, KNOWN, 200, Duration::from_millis(2500)).join().expect("it ends");
    let slowest = tally.percentile(100);
    println!("no endpoint: {} served, p99 {:?}, slowest {slowest:?}", tally.good, tally.percentile(99));
    assert!(tally.others.is_empty() && tally.good >= 400, "{:?}", tally.others);
    assert_eq!(world.asked().iter().filter(|asked| asked.path.starts_with("/tenants/")).count(), asked);
    world.send(&get("any.example/").header("x-tenant-id", "globex")).is_refused(503, "SERVICE_UNAVAILABLE");
    // It comes back, and so do lookups.
    world.script("/healthz", Reply::is(200, ""));
    world.wait(Duration::from_secs(7));
    world.send(&get("any.example/").header("x-tenant-id", "globex")).is_refused(403, "TENANT_SUSPENDED");
}

/// Resident memory of Envoy, in KiB.
fn resident(world: &EnvoyWorld) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.envoy.pid())).expect("Envoy runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is told");
    line.trim().trim_end_matches(" kB").parse().expect("in kB")
}

#[test]
fn a_flood_of_made_up_names_costs_known_tenants_nothing() {
    // FLOOD=100000 make e2e for the figures of the manual.
    let flood: u32 = std::env::var("FLOOD").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000);
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(2);
    config["lookupTenant"]["staleSeconds"] = json!(0);
    let world = &mut EnvoyWorld::start(config, Directory::of(&tenants()));
    let traffic = |world: &EnvoyWorld, time| steady(world.envoy.listener, KNOWN, 200, time);
    let before = traffic(world, Duration::from_secs(3)).join().expect("it ends");
    let memory_before = resident(world);

    // More at once than there are callouts for such names, so that some are refused at once.
    let (listener, threads) = (world.envoy.listener, 96);
    let start = Instant::now();
    let flooders: Vec<_> = (0..threads)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut client = Client::connect(listener);
                let mut tally = Tally::default();
                for number in 0..flood / threads {
                    let sent = Instant::now();
                    tally.note(client.get(&format!("made-up-{thread}-{number}")), sent.elapsed());
                }
                tally
            })
        })
        .collect();
    let mut during = Tally::default();
    while !flooders.iter().all(std::thread::JoinHandle::is_finished) {
        let tally = traffic(world, Duration::from_secs(1)).join().expect("it ends");
        during.good += tally.good;
        during.others.extend(tally.others);
        during.times.extend(tally.times);
    }
    let took = start.elapsed();
    let flooded: Vec<Tally> = flooders.into_iter().map(|flooder| flooder.join().expect("it ends")).collect();
    let memory_after = resident(world);
    let refused =
        |status: u16| flooded.iter().flat_map(|tally| &tally.others).filter(|other| **other == status).count();
    println!(
        "{flood} made-up names in {took:?}: {} got 404, {} got 503; known tenants before: {} served, p50 {:?}, p99 {:?}; during: {} \
         served, {} not, p50 {:?}, p99 {:?}; Envoy's memory {memory_before} KiB before, {memory_after} KiB after; {} questions",
        refused(404),
        refused(503),
        before.good,
        before.percentile(50),
        before.percentile(99),
        during.good,
        during.others.len(),
        during.percentile(50),
        during.percentile(99),
        world.asked().len(),
    );
    assert!(before.others.is_empty() && during.others.is_empty(), "{:?}", during.others);
    assert_eq!(refused(404) + refused(503), usize::try_from(flood / threads * threads).expect("it is small"));
    assert!(memory_after < memory_before + 64 * 1024, "{memory_before} KiB before, {memory_after} KiB after");
}
