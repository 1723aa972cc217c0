//! Quotas: limits, what they cost, what a client is told, and what happens when nobody can say.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::*;

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

fn with(quotas: Value) -> Value {
    let tenants = json!([
        {"id": "acme", "metadata": {"plan": "pro"}},
        {"id": "hooli", "metadata": {"plan": "free"}},
        {"id": "own", "metadata": {"plan": "free"}, "quotas": {"api": 4}},
        {"id": "nothing", "quotas": {"api": 0}},
        {"id": "endless", "quotas": {"api": null}},
        {"id": "vast", "quotas": {"api": {"limit": "9223372036854775807", "period": "day"}}},
        {"id": "plain"},
    ]);
    json!({"isolation": {"resolution": "header"}, "tenants": tenants, "quotas": quotas})
}

fn api() -> Value {
    json!({"quotaKey": "api", "period": "month", "limit": 3, "plans": {"free": 1, "pro": 2}})
}

/// Sends so many requests, one after the other, and gives how many arrived before the first refusal; none may arrive after.
fn pass<W: World>(world: &mut W, name: &str, sent: usize) -> usize {
    let outcomes: Vec<bool> = (0..sent).map(|_| world.send(&named(name)).arrived.is_some()).collect();
    let passed = outcomes.iter().take_while(|arrived| **arrived).count();
    assert!(outcomes.iter().skip(passed).all(|arrived| !arrived), "{name}: {outcomes:?}");
    passed
}

pub fn the_nearest_limit_holds<W: World>() {
    let world = &mut W::start(with(json!([api()])), Directory::default());
    for (name, limit) in [("plain", 3), ("acme", 2), ("hooli", 1), ("own", 4), ("nothing", 0)] {
        assert_eq!(pass(world, name, 6), limit, "{name}");
    }
    for name in ["endless", "vast"] {
        assert_eq!(pass(world, name, 6), 6, "{name}");
    }
}

pub fn a_refusal_says_what_is_so<W: World>() {
    let world = &mut W::start(with(json!([api()])), Directory::default());
    assert_eq!(pass(world, "acme", 2), 2);
    let outcome = world.send(&named("acme"));
    let details = outcome.is_refused(429, "QUOTA_EXCEEDED");
    let (tenant, key) = (&details["tenantId"], &details["quotaKey"]);
    assert_eq!(
        (tenant, key, &details["limit"], &details["usage"]),
        (&json!("acme"), &json!("api"), &json!(2), &json!(2))
    );
    let resets_at = details["resetsAt"].as_str().expect("a time").to_owned();
    assert!(resets_at.ends_with("-01T00:00:00Z"), "{resets_at}");
    let retry_after: u64 = outcome.header("retry-after")[0].parse().expect("seconds");
    assert!((1..=31 * 86_400).contains(&retry_after), "{retry_after}");
    let policy = outcome.header("ratelimit-policy").join("");
    let window: u64 = policy.strip_prefix("\"api\";q=2;w=").expect("the policy").parse().expect("seconds");
    assert!((28 * 86_400..=31 * 86_400).contains(&window), "{policy}");
    let state = outcome.header("ratelimit").join("");
    let left: u64 = state.strip_prefix("\"api\";r=0;t=").expect("the state").parse().expect("seconds");
    assert!(left.abs_diff(retry_after) <= 1, "{state}");
    assert_eq!(outcome.log.get("decision").map(String::as_str), Some("quota_exceeded"));
    assert_eq!(outcome.log.get("id").map(String::as_str), Some("acme"));
    assert_eq!(world.send(&named("plain")).header("ratelimit"), Vec::<&str>::new());
}

pub fn responses_tell_of_quotas_where_wanted<W: World>() {
    let mut config = with(json!([api(), {"quotaKey": "daily", "period": "day", "limit": 10}]));
    config["rateLimitHeaders"] = json!({"when": "all"});
    let world = &mut W::start(config.clone(), Directory::default());
    for left in [1, 0] {
        let outcome = world.send(&named("acme"));
        let state = outcome.header("ratelimit").join("");
        assert!(state.starts_with(&format!("\"api\";r={left};t=")), "{state}");
        assert!(state.contains(&format!(", \"daily\";r={};t=", left + 8)), "{state}");
        assert!(outcome.header("ratelimit-policy").join("").contains("\"daily\";q=10;w=86400"), "{outcome:?}");
    }
    config["rateLimitHeaders"] = json!({"style": "legacy", "when": "all"});
    let world = &mut W::start(config.clone(), Directory::default());
    let outcome = world.send(&named("acme"));
    assert_eq!((outcome.header("x-ratelimit-limit"), outcome.header("x-ratelimit-remaining")), (vec!["2"], vec!["1"]));
    assert_eq!(outcome.header("x-ratelimit-reset").len(), 1);
    config["rateLimitHeaders"] = json!({"style": "off", "when": "all"});
    let world = &mut W::start(config, Directory::default());
    for _ in 0..3 {
        assert!(!world.send(&named("acme")).headers.iter().any(|(name, _)| name.contains("ratelimit")));
    }
}

pub fn what_one_quota_refuses_costs_no_other<W: World>() {
    let mut config = with(json!([
        {"quotaKey": "first", "period": "month", "limit": 100},
        {"quotaKey": "api", "period": "day", "limit": 2},
        {"quotaKey": "last", "period": "hour", "limit": 100},
    ]));
    config["rateLimitHeaders"] = json!({"when": "all"});
    let world = &mut W::start(config, Directory::default());
    assert_eq!(pass(world, "plain", 12), 2);
    let outcome = world.send(&named("own"));
    let remaining = |outcome: &Outcome| outcome.header("ratelimit").join("");
    assert!(remaining(&outcome).contains("\"first\";r=99;"), "{outcome:?}");
    // The refused ones took nothing: the next one that passes, under a raised limit, sees two used.
    let refused = world.send(&named("plain"));
    assert!(remaining(&refused).contains("\"first\";r=98;") || !remaining(&refused).contains("first"), "{refused:?}");
    let details = refused.is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!(details["quotaKey"], "api");
}

pub fn a_shadow_refuses_nothing<W: World>() {
    let mut quota = api();
    quota["mode"] = json!("shadow");
    let mut config = with(json!([quota, {"quotaKey": "enforced", "period": "month", "limit": 5}]));
    config["rateLimitHeaders"] = json!({"when": "all"});
    let world = &mut W::start(config, Directory::default());
    assert_eq!(pass(world, "acme", 7), 5);
    let details = world.send(&named("acme")).is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!(details["quotaKey"], "enforced");
}

pub fn the_service_is_warned<W: World>() {
    let quotas = json!([
        {"quotaKey": "api", "period": "month", "limit": 4, "warnAtPercent": [50, 100]},
        {"quotaKey": "other", "period": "month", "limit": 5, "warnAtPercent": [80]},
    ]);
    let world = &mut W::start(with(quotas), Directory::default());
    let forging = named("plain").header("x-tenant-quota-warning", "api=0").header("x_tenant_quota_warning", "api=0");
    for expected in ["", "api=50", "api=50", "api=100, other=80"] {
        let outcome = world.send(&forging);
        outcome.reaches(&[("x-tenant-quota-warning", expected), ("x_tenant_quota_warning", "")]);
    }
    world.send(&forging).is_refused(429, "QUOTA_EXCEEDED");
}

pub fn a_cost_counts_as_it_is<W: World>() {
    let quotas = json!([{"quotaKey": "api", "period": "month", "limit": 10, "cost": 3}, {"quotaKey": "much", "period": "month", "cost": 7, "limit": 21}]);
    let world = &mut W::start(with(quotas), Directory::default());
    assert_eq!(pass(world, "plain", 5), 3);
    let details = world.send(&named("plain")).is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!((&details["quotaKey"], &details["usage"]), (&json!("api"), &json!(9)));
    assert_eq!(pass(world, "own", 3), 1, "a cost that exceeds what is left");
}

pub fn a_level_is_given_back<W: World>() {
    let world =
        &mut W::start(with(json!([{"quotaKey": "requests", "period": "none", "limit": 2}])), Directory::default());
    for _ in 0..10 {
        world.send(&named("acme")).reaches(&[("x-tenant-id", "acme")]);
    }
}

fn storage() -> Value {
    json!({
        "quotaKey": "storage", "limit": 5_000_000_000_u64,
        "checkUsage": {"cluster": "directory", "path": "/tenants/{tenantId}/usage/{quotaKey}", "cacheSeconds": 1, "staleSeconds": 2},
    })
}

const PATH: &str = "/tenants/plain/usage/storage";

pub fn the_applications_figure_decides<W: World>() {
    let usage = |usage: u64| Reply::json(&json!({"usage": usage}));
    let world = &mut W::start(with(json!([storage()])), Directory::default().with(PATH, usage(4_999_999_999)));
    for _ in 0..6 {
        world.send(&named("plain")).reaches(&[("x-tenant-id", "plain")]);
    }
    assert_eq!(world.asked().iter().filter(|asked| asked.path == PATH).count(), 1, "it is cached");
    world.script(PATH, usage(5_000_000_000));
    world.wait(Duration::from_millis(1300));
    let outcome = world.send(&named("plain"));
    let details = outcome.is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!((&details["usage"], &details["resetsAt"]), (&json!(5_000_000_000_u64), &Value::Null));
    assert_eq!(outcome.header("ratelimit"), ["\"storage\";r=0"]);
    assert_eq!(outcome.header("retry-after"), ["5"]);
    world.script(PATH, usage(1));
    world.wait(Duration::from_millis(1300));
    let requests = vec![named("plain"); 4];
    for outcome in world.send_all(&requests) {
        outcome.reaches(&[("x-tenant-id", "plain")]);
    }
    // It serves for a while when there is none.
    world.script(PATH, Reply::is(503, ""));
    world.wait(Duration::from_millis(1300));
    world.send(&named("plain")).reaches(&[("x-tenant-id", "plain")]);
    world.wait(Duration::from_millis(3000));
    world.send(&named("plain")).is_refused(503, "SERVICE_UNAVAILABLE");
}

pub fn a_figure_that_nobody_knows_is_none<W: World>() {
    let answers = ["", "{}", "[]", r#"{"usage":-1}"#, r#"{"usage":1.5}"#, r#"{"usage":"1"}"#];
    let replies = answers.iter().map(|body| Reply::is(200, body)).chain([Reply::is(404, ""), Reply::is(500, "")]);
    let mut directory = Directory::default();
    let mut config = with(json!([storage()]));
    let mut names = Vec::new();
    for (number, reply) in replies.enumerate() {
        let name = format!("t{number}");
        directory = directory.with(&format!("/tenants/{name}/usage/storage"), reply);
        config["tenants"].as_array_mut().expect("a list").push(json!({"id": name}));
        names.push(name);
    }
    let world = &mut W::start(config.clone(), directory.clone());
    for name in &names {
        world.send(&named(name)).is_refused(503, "SERVICE_UNAVAILABLE");
    }
    config["quotas"][0]["onError"] = json!("allow");
    let world = &mut W::start(config, directory);
    for name in &names {
        world.send(&named(name)).reaches(&[("x-tenant-id", name)]);
    }
}

pub fn the_edge_adds_to_the_applications_figure<W: World>() {
    let mut quota = storage();
    quota["period"] = json!("month");
    quota["limit"] = json!(10);
    quota["checkUsage"]["cacheSeconds"] = json!(60);
    let world = &mut W::start(with(json!([quota])), Directory::default().with(PATH, Reply::is(200, r#"{"usage":6}"#)));
    assert_eq!(pass(world, "plain", 8), 4, "six are used, and four have passed since");
    let details = world.send(&named("plain")).is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!((&details["usage"], &details["limit"]), (&json!(10), &json!(10)));
}

fn lease() -> Value {
    json!({
        "quotaKey": "api", "period": "month", "limit": 100,
        "count": {"lease": {"cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}"}},
    })
}

const LEASES: &str = "/tenants/plain/leases/api";

fn granted(granted: u64, usage: u64, leased: u64) -> Reply {
    Reply::json(&json!({
        "periodStart": 1_793_491_200, "resetsAt": 1_796_083_200, "resetsInMs": 600_000,
        "granted": granted, "usage": usage, "leased": leased, "expiresInMs": 30_000,
    }))
}

pub fn leased_units_are_what_may_pass<W: World>() {
    let world = &mut W::start(with(json!([lease()])), Directory::default().with(LEASES, granted(5, 95, 5)));
    assert_eq!(pass(world, "plain", 9), 5);
    let details = world.send(&named("plain")).is_refused(429, "QUOTA_EXCEEDED");
    assert_eq!((&details["limit"], &details["resetsAt"]), (&json!(100), &json!("2026-12-01T00:00:00Z")));
    let asked: Vec<Value> = world
        .asked()
        .iter()
        .map(|asked| serde_json::from_str(asked.body.as_deref().expect("a POST")).expect("JSON"))
        .collect();
    let first = &asked[0];
    assert_eq!((&first["period"], &first["timezone"], &first["limit"]), (&json!("month"), &json!("UTC"), &json!(100)));
    assert_eq!((&first["used"], &first["upTo"], &first["sequence"]), (&json!(0), &json!(8), &json!(1)));
    assert!(first.get("periodStart").is_none());
    let proxies: std::collections::BTreeSet<&str> =
        asked.iter().map(|asked| asked["proxy"].as_str().expect("a name")).collect();
    assert_eq!(proxies.len(), 1, "all workers are one proxy");
    // What comes back elsewhere is had soon.
    world.script(LEASES, granted(7, 93, 7));
    world.wait(Duration::from_millis(1300));
    assert_eq!(pass(world, "plain", 4), 2);
}

pub fn without_a_lease_on_error_decides<W: World>() {
    let replies = [Reply::is(503, ""), Reply::is(404, "{}"), Reply::is(200, "{}"), Reply::is(200, r#"{"granted":5}"#)];
    for reply in replies {
        let world = &mut W::start(with(json!([lease()])), Directory::default().with(LEASES, reply));
        let outcome = world.send(&named("plain"));
        outcome.is_refused(503, "SERVICE_UNAVAILABLE");
        assert_eq!(outcome.header("retry-after"), ["5"]);
    }
    let mut quota = lease();
    quota["onError"] = json!("allow");
    let world = &mut W::start(with(json!([quota])), Directory::default().with(LEASES, Reply::is(503, "")));
    assert_eq!(pass(world, "plain", 4), 4);
    // What has passed is said as soon as somebody listens.
    world.script(LEASES, granted(4, 4, 0));
    world.wait(Duration::from_millis(6000));
    let asked = world.asked();
    let used = asked.iter().filter_map(|asked| {
        let body: Value = serde_json::from_str(asked.body.as_deref()?).ok()?;
        body["used"].as_u64()
    });
    assert_eq!(used.max(), Some(4));
}
