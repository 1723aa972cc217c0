//! The team's own resolver.

use serde_json::{Value, json};

use super::world::Expect::{NoTenant, Tenant};
use super::world::*;

fn config(resolution: Value, more: Value) -> Value {
    let mut config = looked_up(json!({"resolution": resolution}));
    let mut resolver = json!({"cluster": "directory", "path": "/resolve", "headers": ["x-api-key", "X-Region"]});
    resolver.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config["isolation"]["customResolver"] = resolver;
    config
}

fn directory(answer: &Value) -> Directory {
    Directory::of(&tenants()).with("/resolve", Reply::json(answer))
}

fn questions<W: World>(world: &mut W) -> Vec<Value> {
    let bodies = world.asked().into_iter().filter(|asked| asked.path == "/resolve").filter_map(|asked| asked.body);
    bodies.map(|body| serde_json::from_str(&body).unwrap()).collect()
}

pub fn a_resolver_names_the_tenant<W: World>() {
    let world = &mut W::start(config(json!("custom"), json!({})), directory(&json!({"tenantId": "acme-slug"})));
    let request =
        get("any.example/x?y=%20").header("x-api-key", "k1").header("X-Region", "eu").header("X-Region", "us");
    let request = request.header("cookie", "session=secret").header("authorization", "Bearer secret");
    for request in [request.clone(), request.clone().http2().post(b"secret".to_vec())] {
        world.send(&request).reaches(&[("x-tenant-id", "acme"), ("x-tenant-plan", "pro"), ("x-api-key", "k1")]);
    }
    let expected = |method: &str| {
        json!({
            "method": method, "authority": "any.example", "path": "/x?y=%20",
            "headers": {"x-api-key": "k1", "x-region": "eu, us"},
        })
    };
    assert_eq!(questions(world), [expected("GET"), expected("POST")]);
    let asked = world.asked();
    assert!(asked.iter().all(|asked| asked.headers.iter().all(|(_, value)| !value.contains("secret"))), "{asked:?}");
}

pub fn a_resolver_may_name_none<W: World>() {
    for (required, expected) in [(true, NOT_FOUND), (false, NoTenant)] {
        for reply in [Reply::is(404, ""), Reply::json(&json!({"tenantId": null}))] {
            let mut config = config(json!(["custom", "header"]), json!({}));
            config["isolation"]["required"] = json!(required);
            let world = &mut W::start(config, Directory::of(&tenants()).with("/resolve", reply));
            check(
                world,
                &[
                    (get("any.example/"), expected),
                    (get("any.example/").header("x-tenant-id", "acme"), Tenant("acme")),
                    (get("any.example/").header("x-tenant-id", "nobody"), NOT_FOUND),
                ],
            );
        }
    }
}

pub fn a_resolver_has_to_agree<W: World>() {
    let world = &mut W::start(config(json!(["custom", "header"]), json!({})), directory(&json!({"tenantId": "acme"})));
    check(
        world,
        &[
            (get("any.example/"), Tenant("acme")),
            (get("any.example/").header("x-tenant-id", "acme-slug"), Tenant("acme")),
            (get("any.example/").header("x-tenant-id", "hooli"), MISMATCH),
            (get("any.example/").header("x-tenant-id", "nobody"), NOT_FOUND),
        ],
    );
    world.script("/resolve", Reply::json(&json!({"tenantId": "nobody"})));
    check(world, &[(get("any.example/"), NOT_FOUND)]);
    world.script("/resolve", Reply::json(&json!({"tenantId": "globex"})));
    check(world, &[(get("any.example/"), Expect::Refused(403, "TENANT_SUSPENDED"))]);
}

pub fn a_resolver_that_fails_is_a_directory_that_fails<W: World>() {
    let replies = [
        Reply::is(500, ""),
        Reply::is(200, "<html>"),
        Reply::is(200, "{}"),
        Reply::is(200, "[]"),
        Reply::json(&json!({"tenantId": 7})),
        Reply::json(&json!({"tenantId": "a/b"})),
        Reply::json(&json!({"id": "acme"})),
        Reply::Never,
    ];
    for (on_error, expected) in [("deny", UNAVAILABLE), ("allow", NoTenant)] {
        let world = &mut W::start(
            config(json!("custom"), json!({"timeoutMs": 200, "onError": on_error})),
            Directory::of(&tenants()),
        );
        for (number, reply) in replies.iter().enumerate() {
            world.script("/resolve", reply.clone());
            // Another question each time: one that got no answer isn't asked again at once.
            check(world, &[(get(&format!("any.example/{number}")).header("x-tenant-id", "forged"), expected)]);
        }
        assert_eq!(questions(world).len(), replies.len());
    }
}

pub fn a_resolvers_answer_is_kept_by_its_headers<W: World>() {
    let keyed = |key: &str, path: &str| get(&format!("any.example{path}")).header("x-api-key", key);
    // Without cacheSeconds every request is a question.
    let world = &mut W::start(config(json!("custom"), json!({})), directory(&json!({"tenantId": "acme"})));
    for _ in 0..3 {
        world.send(&keyed("k1", "/")).reaches(&[]);
    }
    assert_eq!(questions(world).len(), 3);

    let more = json!({"cacheSeconds": 4, "staleSeconds": 2});
    let world = &mut W::start(config(json!("custom"), more), directory(&json!({"tenantId": "acme"})));
    for path in ["/", "/a", "/b", "/c", "/d", "/e"] {
        world.send(&keyed("k1", path)).reaches(&[("x-tenant-id", "acme")]);
    }
    let asked = questions(world).len();
    assert!((1..=2).contains(&asked), "once for each worker at most, not {asked} times");
    world.script("/resolve", Reply::json(&json!({"tenantId": "hooli"})));
    for request in [keyed("k2", "/"), get("any.example/"), keyed("", "/"), keyed("k1", "/").header("x-api-key", "k1")] {
        world.send(&request).reaches(&[("x-tenant-id", "hooli")]);
    }
    world.send(&keyed("k1", "/")).reaches(&[("x-tenant-id", "acme")]);
    world.script("/resolve", Reply::is(500, ""));
    world.wait(std::time::Duration::from_millis(4100));
    // Twice as many as there are workers, so that a worker that holds nothing of it would show.
    let served = (0..4).filter(|_| world.send(&keyed("k1", "/")).arrived.is_some()).count();
    assert!(served > 0, "what is held serves while the resolver is down");
    world.wait(std::time::Duration::from_millis(2100));
    check(world, &[(keyed("k1", "/"), UNAVAILABLE), (keyed("k1", "/"), UNAVAILABLE)]);
}
