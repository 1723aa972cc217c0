//! Quotas that a service counts which speaks Envoy's rate limit protocol.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::flood::{Flood, send, settled};
use crate::load::Client;
use crate::quotas_under_load::config;
use crate::rate_limiter::RateLimiter;
use crate::scenarios::world::*;

const TENANT: &str = "plain";

fn quota(limit: Option<u64>, max_batch: u64) -> Value {
    let count = json!({"rateLimit": {"cluster": "limiter", "domain": "edge", "maxBatch": max_batch}});
    let mut quota = json!({"quotaKey": "api", "period": "month", "count": count});
    if let Some(limit) = limit {
        quota["limit"] = json!(limit);
    }
    quota
}

/// Envoy with a cluster `limiter` over HTTP/2.
fn world(config: Value, at: std::net::SocketAddr) -> EnvoyWorld {
    EnvoyWorld::start_changed(structure(&config), Directory::default(), |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("there are some");
        let mut limiter = crate::bootstrap::cluster("limiter", at);
        limiter["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
        clusters.push(limiter);
    })
}

/// What arrives of as many requests as both workers can bear, when nothing more does.
fn flooded(world: &EnvoyWorld) -> usize {
    let flood = Flood::start(world.envoy.listener, TENANT, 48, Duration::ZERO);
    let received = settled(&world.service, Duration::from_millis(1500));
    let statuses = flood.end();
    println!("{received} arrived; {statuses:?}");
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(send(world.envoy.listener, TENANT, 8, 3).into_iter().collect::<Vec<_>>(), [(429, 24)]);
    assert_eq!(world.received(), received);
    received
}

#[test]
fn asked_for_every_request_exactly_the_limit_passes() {
    let limiter = RateLimiter::start();
    let world = world(config(quota(Some(500), 1)), limiter.service.addr);
    assert_eq!(flooded(&world), 500);
    let first = limiter.asked().first().cloned().expect("it was asked");
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let entries = [entry("quota_key", "api"), entry("plan", "none"), entry("tenant_id", TENANT)];
    assert_eq!((first.domain.as_str(), first.entries.as_slice(), first.hits), ("edge", entries.as_slice(), 1));
    let asked = limiter.asked();
    let most = asked.iter().map(|question| question.hits).max();
    println!("limit 500, maxBatch 1: {} questions, of {most:?} hits at the most", asked.len());
}

#[test]
fn asked_for_batches_less_than_one_batch_is_lost() {
    let limiter = RateLimiter::start();
    let world = world(config(quota(Some(2000), 50)), limiter.service.addr);
    let received = flooded(&world);
    let asked = limiter.asked();
    println!("limit 2000, maxBatch 50: {received} arrived, {} questions, {} counted", asked.len(), limiter.counted());
    assert!((1951..=2000).contains(&received), "{received}");
    assert!(asked.iter().all(|question| question.hits <= 50) && asked.iter().any(|question| question.hits == 50));
    assert!(asked.len() < 250, "{} questions", asked.len());
}

#[test]
fn what_clients_are_told_is_what_the_service_says() {
    let limiter = RateLimiter::with_own_limit(5);
    for limit in [None, Some(1_000_000)] {
        let mut config = config(quota(limit, 1));
        config["rateLimitHeaders"] = json!({"style": "legacy", "when": "all"});
        config["tenants"] = json!([{"id": if limit.is_some() { "other" } else { TENANT }}]);
        let tenant = if limit.is_some() { "other" } else { TENANT };
        let world = world(config, limiter.service.addr);
        let mut client = Client::connect(world.envoy.listener);
        for left in (0..5).rev() {
            let answer = client.ask(&[("x-tenant-id", tenant)]).expect("an answer");
            let header = |name| answer.header(name).unwrap_or("-");
            assert_eq!(
                (answer.status, header("x-ratelimit-limit"), header("x-ratelimit-remaining")),
                (200, "5", left.to_string().as_str())
            );
            let reset: u64 = header("x-ratelimit-reset").parse().expect("seconds");
            assert!(reset <= 3600, "{reset}");
        }
        let refused = client.ask(&[("x-tenant-id", tenant)]).expect("an answer");
        assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, Some("0")));
        let details: Value = serde_json::from_slice(&refused.body).expect("JSON");
        assert_eq!(details["error"]["details"]["limit"], json!(5));
        let retry_after: u64 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("seconds");
        assert!(retry_after <= 3600, "{retry_after}");
        assert_eq!(world.received(), 5);
    }
}

#[test]
fn without_an_answer_on_error_decides() {
    let mut limiter = RateLimiter::start();
    let world_1 = world(config(quota(Some(100), 1)), limiter.service.addr);
    let mut client = Client::connect(world_1.envoy.listener);
    assert_eq!(client.get(TENANT), 200);
    limiter.service.stop();
    for _ in 0..5 {
        let refused = client.ask(&[("x-tenant-id", TENANT)]).expect("an answer");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    }
    assert_eq!(world_1.received(), 1);
    let mut quota = quota(Some(100), 1);
    quota["onError"] = json!("allow");
    let world_2 = world(config(quota), limiter.service.addr);
    assert_eq!(send(world_2.envoy.listener, TENANT, 4, 5).into_iter().collect::<Vec<_>>(), [(200, 20)]);
}

#[test]
fn a_service_of_another_kind_is_none() {
    // The test's service answers everything with 200 and JSON, also over HTTP/2.
    let other = upstream::Upstream::start("other").expect("it starts");
    let world = world(config(quota(Some(100), 1)), other.addr);
    assert_eq!(send(world.envoy.listener, TENANT, 4, 3).into_iter().collect::<Vec<_>>(), [(503, 12)]);
    assert_eq!(world.received(), 0);
    assert!(other.received() > 0);
}
