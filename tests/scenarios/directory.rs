//! Lookups: answers, ages, failures, and many requests at once.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::Expect::{NoTenant, Tenant};
use super::world::*;

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

fn asked_for<W: World>(world: &mut W, path: &str) -> usize {
    world.asked().iter().filter(|asked| asked.path == path).count()
}

pub fn an_answer_is_kept_for_its_time<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(2);
    let world = &mut W::start(config, Directory::of(&tenants()));
    for _ in 0..20 {
        world.send(&named("acme")).reaches(&[("x-tenant-id", "acme")]);
    }
    assert_eq!(asked_for(world, "/tenants/acme"), 1, "all workers share one answer");
    world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "status": "suspended"})));
    world.wait(Duration::from_millis(2100));
    for _ in 0..4 {
        world.send(&named("acme")).is_refused(403, "TENANT_SUSPENDED");
    }
    world.script("/tenants/acme", Reply::is(404, ""));
    world.wait(Duration::from_millis(2100));
    for _ in 0..4 {
        world.send(&named("acme")).is_refused(404, "TENANT_NOT_FOUND");
    }
}

pub fn only_a_404_means_does_not_exist<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["timeoutMs"] = json!(200);
    let html = "<!doctype html><title>Sign in to the network</title>";
    let replies = [
        ("html", Reply::is(200, html)),
        ("list", Reply::is(200, "[]")),
        ("null", Reply::is(200, "null")),
        ("empty", Reply::is(200, "")),
        ("shape", Reply::is(200, r#"{"tenant":{"id":"shape"}}"#)),
        ("no-status", Reply::is(200, r#"{"id":"no-status","status":"paused"}"#)),
        ("bad-id", Reply::is(200, r#"{"id":"a/b"}"#)),
        ("someone-else", Reply::is(200, r#"{"id":"acme","slug":"acme"}"#)),
        ("cut", Reply::is(200, r#"{"id":"cut","#)),
        ("not-utf8", Reply::Is(200, b"{\"id\":\"not-utf8\",\"slug\":\"\xff\"}".to_vec())),
        ("deep", Reply::is(200, &"[".repeat(100_000))),
        ("large", Reply::is(200, &format!(r#"{{"id":"large","metadata":{{"x":"{}"}}}}"#, "x".repeat(2 << 20)))),
        ("no-content", Reply::is(204, "")),
        ("moved", Reply::is(302, "")),
        ("unauthorized", Reply::is(401, "")),
        ("forbidden", Reply::is(403, "")),
        ("gone", Reply::is(410, "")),
        ("limited", Reply::is(429, "")),
        ("error", Reply::is(500, r#"{"id":"error"}"#)),
        ("down", Reply::is(503, "")),
        ("slow", Reply::Never),
    ];
    let mut directory = Directory::of(&tenants());
    for (name, reply) in &replies {
        directory = directory.with(&format!("/tenants/{name}"), reply.clone());
    }
    let world = &mut W::start(config.clone(), directory);
    for (name, _) in &replies {
        check(world, &[(named(name), UNAVAILABLE)]);
    }
    // Where one worker had the three that got no answer at all, it leaves the service alone for a quarter of a second.
    world.wait(Duration::from_millis(300));
    check(world, &[(named("nobody"), NOT_FOUND), (named("acme"), Tenant("acme"))]);

    for cluster in ["refusing", "no_such_cluster"] {
        config["lookupTenant"]["cluster"] = json!(cluster);
        let world = &mut W::start(config.clone(), Directory::default());
        check(world, &[(named("acme"), UNAVAILABLE), (named("acme"), UNAVAILABLE), (get("any.example/"), NOT_FOUND)]);
    }
}

pub fn what_is_no_answer_may_be_allowed<W: World>() {
    let mut config = looked_up(json!({"resolution": ["header", "query"]}));
    config["lookupTenant"]["onError"] = json!("allow");
    let directory = Directory::of(&tenants()).with("/tenants/broken", Reply::is(500, ""));
    let world = &mut W::start(config, directory);
    check(
        world,
        &[
            (named("broken"), NoTenant),
            (named("broken").header("x-tenant-plan", "forged"), NoTenant),
            (named("nobody"), NOT_FOUND),
            (named("globex"), Expect::Refused(403, "TENANT_SUSPENDED")),
            (get("any.example/?tenant=nobody").header("x-tenant-id", "broken"), NOT_FOUND),
            (named("acme"), Tenant("acme")),
        ],
    );
}

pub fn an_unknown_tenant_is_not_asked_for_again_at_once<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["negativeSeconds"] = json!(2);
    let world = &mut W::start(config, Directory::default());
    for _ in 0..20 {
        world.send(&named("new")).is_refused(404, "TENANT_NOT_FOUND");
    }
    let asked = asked_for(world, "/tenants/new");
    assert!((1..=2).contains(&asked), "once for each worker at most, not {asked} times");
    world.script("/tenants/new", Reply::json(&json!({"id": "new"})));
    world.wait(Duration::from_millis(2100));
    for _ in 0..4 {
        world.send(&named("new")).reaches(&[("x-tenant-id", "new")]);
    }
}

pub fn an_old_answer_serves_while_there_is_none<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["lookupTenant"]["staleSeconds"] = json!(2);
    let world = &mut W::start(config, Directory::of(&tenants()));
    world.send(&named("acme")).reaches(&[]);
    world.script("/tenants/acme", Reply::is(500, ""));
    world.wait(Duration::from_millis(1200));
    for _ in 0..8 {
        world.send(&named("acme")).reaches(&[("x-tenant-id", "acme")]);
    }
    world.wait(Duration::from_millis(2000));
    for _ in 0..4 {
        world.send(&named("acme")).is_refused(503, "SERVICE_UNAVAILABLE");
    }
}

pub fn what_is_in_use_is_asked_for_before_it_is_due<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["cacheSeconds"] = json!(5);
    let world = &mut W::start(config, Directory::of(&tenants()));
    for _ in 0..4 {
        world.send(&named("acme")).reaches(&[("x-tenant-plan", "pro")]);
    }
    assert_eq!(asked_for(world, "/tenants/acme"), 1);
    world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "metadata": {"plan": "free"}})));
    world.wait(Duration::from_millis(4200));
    // It is four fifths of its age old: it serves, and whoever uses it has it asked for.
    for _ in 0..4 {
        world.send(&named("acme")).reaches(&[]);
    }
    world.wait(Duration::from_millis(300));
    let asked = asked_for(world, "/tenants/acme");
    assert!((2..=3).contains(&asked), "once more for each worker at most, not {asked} times");
    for _ in 0..8 {
        world.send(&named("acme")).reaches(&[("x-tenant-plan", "free")]);
    }
    // The old answer would be too old by now; nobody waits for a new one.
    world.wait(Duration::from_millis(1000));
    for _ in 0..8 {
        world.send(&named("acme")).reaches(&[("x-tenant-plan", "free")]);
    }
    assert_eq!(asked_for(world, "/tenants/acme"), asked);
    // What nobody uses, nobody asks for.
    world.wait(Duration::from_millis(4000));
    assert_eq!(asked_for(world, "/tenants/acme"), asked);
}

pub fn inline_tenants_win<W: World>() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["tenants"] = json!([{"id": "acme", "slug": "own", "metadata": {"plan": "inline"}}]);
    let world = &mut W::start(config, Directory::of(&tenants()));
    for name in ["acme", "own"] {
        world.send(&named(name)).reaches(&[("x-tenant-id", "acme"), ("x-tenant-plan", "inline")]);
    }
    world.send(&named("hooli")).reaches(&[("x-tenant-plan", "enterprise")]);
    assert_eq!(asked_for(world, "/tenants/acme"), 0);

    let world = &mut W::start(inline(json!({"resolution": "header"})), Directory::default());
    check(world, &[(named("acme"), Tenant("acme")), (named("nobody"), NOT_FOUND)]);
}

pub fn made_up_names_never_reach_the_directory<W: World>() {
    let config = looked_up(json!({"resolution": ["header", "path", "query"], "agreement": "first", "required": false}));
    let world = &mut W::start(config, Directory::default());
    let long = "a".repeat(129);
    for name in ["", ".", "..", "a/b", "a?b", "a b", "a%2fb", "a:b", "a\u{e9}", &long] {
        world.send(&named(name)).reaches(&[("x-tenant-id", "")]);
    }
    for target in ["/t/a%2f..%2fb", "/t/%2e%2e", "/t/a%00", "/?tenant=../admin", "/?tenant=a%0d%0ax:y", "/?tenant=%23"]
    {
        world.send(&get(&format!("any.example{target}"))).reaches(&[]);
    }
    assert_eq!(world.asked().len(), 0, "{:?}", world.asked());
}

pub fn one_question_serves_all_who_wait<W: World>() {
    let config = looked_up(json!({"resolution": "header"}));
    let world = &mut W::start(config, Directory::of(&tenants()));
    let requests: Vec<Request> = (0..30).map(|n| named(if n % 2 == 0 { "acme" } else { "acme-slug" })).collect();
    for outcome in world.send_all(&requests) {
        outcome.reaches(&[("x-tenant-id", "acme")]);
    }
    for path in ["/tenants/acme", "/tenants/acme-slug"] {
        let asked = asked_for(world, path);
        assert!((1..=2).contains(&asked), "{path} once for each worker at most, not {asked} times");
    }
}

pub fn a_body_waits_for_the_lookup<W: World>() {
    let config = looked_up(json!({"resolution": "header"}));
    let world = &mut W::start(config, Directory::of(&tenants()));
    let body = vec![b'x'; 3_000_000];
    for request in [named("acme").post(body.clone()), named("hooli").post(body.clone()).http2()] {
        let outcome = world.send(&request);
        assert_eq!(outcome.reaches(&[]).body_bytes, body.len());
    }
    world.send(&named("nobody").post(body)).is_refused(404, "TENANT_NOT_FOUND");
}

pub fn an_upgrade_is_judged_like_any_request<W: World>() {
    let config = looked_up(json!({"resolution": "header"}));
    let world = &mut W::start(config, Directory::of(&tenants()));
    let upgrade = |name: &str| {
        let request = named(name).header("connection", "Upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    for _ in 0..2 {
        check(
            world,
            &[
                (upgrade("acme"), Tenant("acme")),
                (upgrade("globex"), Expect::Refused(403, "TENANT_SUSPENDED")),
                (upgrade("nobody"), NOT_FOUND),
            ],
        );
    }
}

pub fn callouts_carry_the_trace<W: World>() {
    let config = looked_up(json!({"resolution": "header"}));
    let world = &mut W::start(config, Directory::of(&tenants()));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = named("acme")
        .header("x-request-id", "1a2b")
        .header("traceparent", parent)
        .header("authorization", "Bearer secret");
    world.send(&request).reaches(&[]);
    let asked = world.asked();
    let headers = &asked[0].headers;
    let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    assert_eq!(value("x-request-id"), Some("1a2b"), "{headers:?}");
    assert_eq!(value("traceparent"), Some(parent), "{headers:?}");
    assert_eq!(value("authorization"), None, "{headers:?}");
}

pub fn a_domain_may_be_answered_with_a_whole_tenant<W: World>() {
    let config = json!({"isolation": {
        "resolution": "custom_domain",
        "domainLookup": {"cluster": "directory", "path": "/domains/{domain}"},
    }});
    let tenant: Value = tenants().remove(0);
    let directory = Directory::default()
        .with("/domains/app.acme.com", Reply::json(&tenant))
        .with("/domains/page.example", Reply::is(200, "<html>"))
        .with("/domains/odd.example", Reply::json(&json!({"tenantId": "a/b"})));
    let world = &mut W::start(config, directory);
    check(
        world,
        &[
            (get("app.acme.com/"), Tenant("acme")),
            (get("app.acme.com/").http2(), Tenant("acme")),
            (get("other.example/"), NOT_FOUND),
            (get("page.example/"), UNAVAILABLE),
            (get("odd.example/"), UNAVAILABLE),
        ],
    );
}
