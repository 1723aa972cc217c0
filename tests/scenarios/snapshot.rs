//! The whole directory, held.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::Expect::Tenant;
use super::world::*;

const SUSPENDED: Expect = Expect::Refused(403, "TENANT_SUSPENDED");

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

fn config(interval: u64, cache: u64, stale: u64) -> Value {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["snapshot"] = json!({"path": "/snap", "intervalSeconds": interval});
    config["lookupTenant"]["cacheSeconds"] = json!(cache);
    config["lookupTenant"]["staleSeconds"] = json!(stale);
    config
}

fn page(tenants: Value, next: Value, latest: Value) -> Reply {
    Reply::json(&json!({"tenants": tenants, "next": next, "latest": latest}))
}

fn lookups<W: World>(world: &mut W) -> Vec<String> {
    world.asked().into_iter().map(|asked| asked.path).filter(|path| path.starts_with("/tenants/")).collect()
}

/// Long enough for every worker to have read, or to have seen what another one read.
fn settle<W: World>(world: &mut W) {
    world.wait(Duration::from_millis(2300));
}

pub fn a_snapshot_answers_for_every_name<W: World>() {
    let all = tenants();
    let directory = Directory::of(&all)
        .with("/snap", page(json!([all[0], all[1]]), json!("c 1"), Value::Null))
        .with("/snap?after=c%201", page(json!([all[2], all[3]]), Value::Null, json!("c2")))
        .with("/snap?after=c2", page(json!([]), Value::Null, json!("c2")));
    let world = &mut W::start(config(2, 60, 60), directory);
    settle(world);
    for _ in 0..3 {
        check(
            world,
            &[
                (named("acme"), Tenant("acme")),
                (named("acme-slug"), Tenant("acme")),
                (named("hooli"), Tenant("hooli")),
                (named("globex"), SUSPENDED),
                (named("initech"), Expect::Refused(403, "TENANT_INACTIVE")),
                (named("nobody"), NOT_FOUND),
                (named("made-up"), NOT_FOUND),
            ],
        );
    }
    assert_eq!(lookups(world), [""; 0], "nobody has to be asked for");
    let whole = world.asked().iter().filter(|asked| asked.path == "/snap").count();
    assert_eq!(whole, 1, "one worker reads for all");
}

pub fn changes_come_by_cursor<W: World>() {
    let all = tenants();
    let directory = Directory::default()
        .with("/snap", page(json!(all), Value::Null, json!("c1")))
        .with("/snap?after=c1", page(json!([]), Value::Null, json!("c1")));
    let world = &mut W::start(config(2, 60, 60), directory);
    settle(world);
    check(world, &[(named("acme-slug"), Tenant("acme")), (named("hooli"), Tenant("hooli")), (named("new"), NOT_FOUND)]);
    let changes = json!([
        {"id": "acme", "slug": "acme-new", "status": "suspended"},
        {"id": "hooli", "deleted": true},
        {"id": "new", "slug": "fresh"},
    ]);
    world.script("/snap?after=c1", page(changes, Value::Null, json!("c2")));
    world.script("/snap?after=c2", page(json!([]), Value::Null, json!("c2")));
    world.wait(Duration::from_millis(4300));
    for _ in 0..3 {
        check(
            world,
            &[
                (named("acme"), SUSPENDED),
                (named("acme-new"), SUSPENDED),
                (named("acme-slug"), NOT_FOUND),
                (named("hooli"), NOT_FOUND),
                (named("new"), Tenant("new")),
                (named("fresh"), Tenant("new")),
                (named("globex"), SUSPENDED),
            ],
        );
    }
    assert_eq!(lookups(world), [""; 0]);
    // A cursor that the directory no longer knows has everything read anew.
    world.script("/snap?after=c2", Reply::is(410, ""));
    world.script("/snap", page(json!([{"id": "acme"}]), Value::Null, json!("d1")));
    world.script("/snap?after=d1", page(json!([]), Value::Null, json!("d1")));
    world.wait(Duration::from_millis(5300));
    for _ in 0..3 {
        check(world, &[(named("acme"), Tenant("acme")), (named("new"), NOT_FOUND), (named("globex"), NOT_FOUND)]);
    }
    assert_eq!(lookups(world), [""; 0]);
}

pub fn a_directory_without_a_cursor_is_read_whole_each_time<W: World>() {
    let world = &mut W::start(
        config(2, 60, 60),
        Directory::default().with("/snap", page(json!(tenants()), Value::Null, Value::Null)),
    );
    settle(world);
    check(world, &[(named("acme"), Tenant("acme")), (named("hooli"), Tenant("hooli"))]);
    world.script("/snap", page(json!([{"id": "acme", "status": "suspended"}]), Value::Null, Value::Null));
    world.wait(Duration::from_millis(4300));
    for _ in 0..3 {
        check(world, &[(named("acme"), SUSPENDED), (named("hooli"), NOT_FOUND), (named("acme-slug"), NOT_FOUND)]);
    }
    assert_eq!(lookups(world), [""; 0]);
}

pub fn one_broken_record_harms_no_other<W: World>() {
    let broken = json!({"id": "broken", "status": "paused"});
    let list = json!([tenants()[0], broken, 7, {"slug": "x"}, {"id": "a/b"}, tenants()[1]]);
    let directory = Directory::of(&tenants())
        .with("/snap", page(list, Value::Null, Value::Null))
        .with("/tenants/broken", Reply::json(&broken));
    let world = &mut W::start(config(2, 60, 60), directory);
    settle(world);
    check(
        world,
        &[
            (named("acme"), Tenant("acme")),
            (named("hooli"), Tenant("hooli")),
            // It is not unknown: it is looked up by itself, and can't be understood there either.
            (named("broken"), UNAVAILABLE),
            (named("nobody"), NOT_FOUND),
        ],
    );
    world.script("/tenants/broken", Reply::json(&json!({"id": "broken"})));
    world.wait(Duration::from_millis(1100));
    check(world, &[(named("broken"), Tenant("broken"))]);
}

pub fn a_half_read_snapshot_replaces_nothing<W: World>() {
    let directory = Directory::of(&tenants()).with("/snap", page(json!(tenants()), Value::Null, Value::Null));
    let world = &mut W::start(config(2, 60, 60), directory);
    settle(world);
    // The next read breaks off after its first page, again and again: what was whole before goes on.
    world.script("/snap", page(json!([{"id": "acme", "slug": "acme-slug"}]), json!("p2"), Value::Null));
    world.script("/snap?after=p2", Reply::is(500, ""));
    world.wait(Duration::from_millis(6300));
    check(
        world,
        &[
            (named("acme"), Tenant("acme")),
            (named("hooli"), Tenant("hooli")),
            (named("globex"), SUSPENDED),
            (named("nobody"), NOT_FOUND),
        ],
    );
    assert_eq!(lookups(world), [""; 0]);
    // A cursor that leads in a circle is no end either.
    world.script("/snap?after=p2", page(json!([]), json!("p2"), Value::Null));
    world.wait(Duration::from_millis(4300));
    check(world, &[(named("hooli"), Tenant("hooli"))]);
    world.script("/snap?after=p2", page(json!([]), Value::Null, Value::Null));
    world.wait(Duration::from_millis(7300));
    check(world, &[(named("acme"), Tenant("acme")), (named("hooli"), NOT_FOUND)]);
}

pub fn without_a_young_snapshot_names_are_looked_up<W: World>() {
    // One that never comes.
    let directory = Directory::of(&tenants()).with("/snap", Reply::is(200, "<html>"));
    let world = &mut W::start(config(1, 3, 4), directory);
    settle(world);
    check(world, &[(named("acme"), Tenant("acme")), (named("nobody"), NOT_FOUND)]);
    assert_eq!(lookups(world).len(), 2);
    // One that comes no more, with a directory that says nothing: what it held serves for its time.
    let directory = Directory::of(&tenants()).with("/snap", page(json!(tenants()), Value::Null, Value::Null));
    let world = &mut W::start(config(1, 3, 5), directory);
    world.wait(Duration::from_millis(4300));
    for path in ["/snap", "/tenants/acme", "/tenants/nobody"] {
        world.script(path, Reply::is(503, ""));
    }
    world.wait(Duration::from_millis(4300));
    check(world, &[(named("acme"), Tenant("acme")), (named("nobody"), UNAVAILABLE)]);
    world.wait(Duration::from_millis(6000));
    check(world, &[(named("acme"), UNAVAILABLE)]);
}
