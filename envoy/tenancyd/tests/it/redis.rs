//! What happens while Redis is away, and after.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Tenancyd;
use crate::keepers::Redis;
use crate::leases::{ask, lease};

fn server(redis: &Redis) -> Tenancyd {
    Tenancyd::start(&["--database", ":memory:", "--redis", &redis.url])
}

#[test]
fn no_count_is_lost_where_redis_is_killed() {
    let mut redis = Redis::on_a_port();
    let server = server(&redis);
    server.put("/tenants/acme", "{}");
    assert_eq!(lease(&server, &ask("p", 1, 1000, 40, 100))["granted"], 100);
    assert_eq!(server.get("/readyz").status, 200);
    redis.kill();
    let begun = Instant::now();
    let message = ask("p", 2, 1000, 70, 120).to_string();
    let away = || server.call("POST", "/tenants/acme/leases/api", Some(&message), &[]);
    for _ in 0..3 {
        away().refused(503, "SERVICE_UNAVAILABLE");
    }
    server.get("/tenants/acme/usage/api").refused(503, "SERVICE_UNAVAILABLE");
    server.get("/tenants/acme/usage").refused(503, "SERVICE_UNAVAILABLE");
    server.put("/tenants/acme/usage/api", r#"{"usage":1}"#).refused(503, "SERVICE_UNAVAILABLE");
    server.get("/readyz").refused(503, "SERVICE_UNAVAILABLE");
    // The directory goes on.
    assert_eq!(server.get("/tenants/acme").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let failures = server.get("/metrics").text;
    assert!(failures.contains("tenancyd_redis_errors_total 7\n"), "{failures}");
    redis.again();
    let answer = lease(&server, &ask("p", 2, 1000, 70, 120));
    assert_eq!((&answer["granted"], &answer["usage"]), (&120.into(), &70.into()));
    // A restart that nobody asked anything meanwhile is not noticed at all.
    redis.kill();
    redis.again();
    assert_eq!(lease(&server, &ask("q", 1, 1000, 0, 10))["leased"], 60);
}

#[test]
fn a_redis_that_hangs_holds_nobody_up_for_long() {
    let redis = Redis::start();
    let server = server(&redis);
    server.put("/tenants/acme", "{}");
    lease(&server, &ask("p", 1, 1000, 40, 100));
    redis.signal("STOP");
    let begun = Instant::now();
    let message = ask("p", 2, 1000, 50, 100).to_string();
    for _ in 0..3 {
        let answer = server.call("POST", "/tenants/acme/leases/api", Some(&message), &[]);
        answer.refused(503, "SERVICE_UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    redis.signal("CONT");
    assert_eq!(lease(&server, &ask("p", 3, 1000, 60, 100))["usage"], 60);
}

#[test]
fn several_count_together_and_a_tenants_counts_go_with_it() {
    let redis = Redis::start();
    let (one, other) = (server(&redis), server(&redis));
    one.put("/tenants/acme", "{}");
    other.put("/tenants/acme", r#"{"slug":"a"}"#);
    assert_eq!(lease(&one, &ask("p", 1, 100, 0, 50))["granted"], 50);
    assert_eq!(lease(&other, &ask("q", 1, 100, 0, 50))["granted"], 13);
    other.put("/tenants/acme/usage/storage", r#"{"usage":7}"#);
    assert_eq!(one.get("/tenants/acme/usage").json()["usage"].as_array().unwrap().len(), 2);
    one.delete("/tenants/acme");
    assert_eq!(other.get("/tenants/acme/usage").json(), json!({"usage": [], "next": null}));
    // Where Redis is away a tenant goes none the less.
    drop(redis);
    assert_eq!(other.delete("/tenants/acme").status, 204);
    other.logged("its usage could not be forgotten");
}
