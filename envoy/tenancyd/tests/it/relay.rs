//! Connections to several instances, by way of Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Tenancyd;
use crate::keepers::Redis;
use crate::sockets::Socket;

/// One of several, which hears the others.
fn instance(redis: &Redis) -> Tenancyd {
    instance_in(&redis.url)
}

fn instance_in(url: &str) -> Tenancyd {
    let all = ["--database", ":memory:", "--connections", "127.0.0.1:0", "--redis", url];
    let server = Tenancyd::start(&all);
    for tenant in ["acme", "globex"] {
        server.put(&format!("/tenants/{tenant}"), "{}");
    }
    server.logged("other instances are heard");
    server
}

/// Waits until so many connections are known to a server.
#[track_caller]
fn listed(server: &Tenancyd, tenant: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let answer = server.get(&format!("/tenants/{tenant}/connections"));
        let list = if answer.status == 200 { answer.json()["connections"].as_array().unwrap().clone() } else { vec![] };
        if answer.status == 200 && list.len() == count {
            return list;
        }
        assert!(Instant::now() < deadline, "{count} expected: {answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn messages_and_lists_reach_across_instances_and_not_across_tenants() {
    let redis = Redis::start();
    let (one, other) = (instance(&redis), instance(&redis));
    let mut here = Socket::open(&one, "acme", Some("jo"));
    let mut there = Socket::open(&other, "acme", Some("kim"));
    let mut foreign = Socket::open(&other, "globex", Some("lu"));
    let list = listed(&one, "acme", 2);
    let mut instances: Vec<&str> = list.iter().map(|entry| entry["instance"].as_str().unwrap()).collect();
    instances.sort_unstable();
    instances.dedup();
    assert_eq!(instances.len(), 2);
    listed(&one, "globex", 1);

    here.say(&json!({"action": "broadcast", "data": 1}));
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.hear(), json!({"action": "broadcast", "from": "jo", "data": 1}));
    }
    here.say(&json!({"action": "send", "to": "kim", "data": 2}));
    assert_eq!(there.hear(), json!({"action": "send", "from": "jo", "data": 2}));
    let by_id = list.iter().find(|entry| entry["userId"] == "jo").unwrap()["id"].clone();
    there.say(&json!({"action": "send", "to": by_id, "data": 3}));
    assert_eq!(here.hear(), json!({"action": "send", "from": "kim", "data": 3}));
    here.say(&json!({"action": "send", "to": "lu", "data": 4}));
    assert_eq!(here.hear()["error"]["code"], "NOT_FOUND");
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":5}"#).text, r#"{"connections":2,"complete":true}"#);
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.hear(), json!({"action": "message", "data": 5}));
    }
    let posted = one.post("/tenants/acme/messages", r#"{"data":6,"to":"kim"}"#);
    assert_eq!(posted.text, r#"{"connections":1,"complete":true}"#);
    assert_eq!(there.hear(), json!({"action": "message", "data": 6}));
    // An instance that takes no connections reaches those of the others.
    let api = Tenancyd::start(&["--database", ":memory:", "--redis", &redis.url]);
    api.put("/tenants/acme", "{}");
    assert_eq!(api.post("/tenants/acme/messages", r#"{"data":7}"#).text, r#"{"connections":2,"complete":true}"#);
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.hear(), json!({"action": "message", "data": 7}));
    }
    // It has nobody to hear the others for, so that it doesn't is no fault.
    assert!(!api.get("/metrics").text.contains("tenancyd_relay_listening"));
    let page = api.get("/tenants/acme/connections?limit=1").json();
    assert_eq!(page["connections"][0], list[0]);
    let next = page["next"].as_str().unwrap();
    let page = api.get(&format!("/tenants/acme/connections?limit=1&after={next}")).json();
    assert_eq!((&page["connections"][0], &page["next"]), (&list[1], &Value::Null));
    foreign.heard_nothing();
    drop(there);
    listed(&one, "acme", 1);
}

#[test]
fn another_installation_in_the_same_redis_is_not_heard() {
    let redis = Redis::on_a_port();
    let (ours, theirs) = (instance(&redis), instance_in(&redis.url.replace("/0", "/1")));
    let mut here = Socket::open(&ours, "acme", Some("jo"));
    let mut there = Socket::open(&theirs, "acme", Some("kim"));
    listed(&ours, "acme", 1);
    assert_eq!(theirs.post("/tenants/acme/messages", r#"{"data":1}"#).text, r#"{"connections":1,"complete":true}"#);
    assert_eq!(there.hear()["data"], 1);
    // One after the other: had the first come across, it would be there before the second.
    assert_eq!(ours.post("/tenants/acme/messages", r#"{"data":2}"#).json()["connections"], 1);
    assert_eq!(here.hear()["data"], 2);
}

#[test]
fn what_the_register_has_wrong_is_put_right() {
    let redis = Redis::start();
    let (one, other) = (instance(&redis), instance(&redis));
    let mut here = Socket::open(&one, "acme", Some("jo"));
    let mut there = Socket::open(&other, "acme", Some("kim"));
    listed(&one, "acme", 2);
    let cleared: String = redis::cmd("FLUSHALL").query(&mut redis.connect()).unwrap();
    assert_eq!(cleared, "OK");
    // Messages don't depend on it.
    there.say(&json!({"action": "broadcast", "data": 1}));
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.hear()["data"], 1);
    }
    listed(&one, "acme", 2);
}

#[test]
fn a_redis_that_hangs_holds_up_nobody_here() {
    let redis = Redis::start();
    let (one, other) = (instance(&redis), instance(&redis));
    let mut here = Socket::open(&one, "acme", Some("jo"));
    let mut there = Socket::open(&other, "acme", Some("kim"));
    listed(&one, "acme", 2);
    redis.signal("STOP");
    let begun = Instant::now();
    for number in 0..20 {
        here.say(&json!({"action": "broadcast", "data": number}));
        assert_eq!(here.hear()["data"], number);
    }
    // Half a second for each of them is what waiting for Redis would take.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    here.say(&json!({"action": "send", "to": "kim", "data": "sent"}));
    assert_eq!(here.hear()["error"]["code"], "SERVICE_UNAVAILABLE");
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":1}"#).text, r#"{"connections":1,"complete":false}"#);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(here.hear()["data"], 1);
    redis.signal("CONT");
    // Redis may do now what it was asked to do meanwhile; what counts is that it goes on.
    one.post("/tenants/acme/messages", r#"{"data":"last"}"#);
    while there.hear()["data"] != "last" {}
}

#[test]
fn what_a_crashed_instance_leaves_behind_goes_by_itself() {
    let redis = Redis::start();
    let (one, mut other) = (instance(&redis), instance(&redis));
    let mut here = Socket::open(&one, "acme", Some("jo"));
    let _there = Socket::open(&other, "acme", Some("kim"));
    listed(&one, "acme", 2);
    other.kill();
    // Until it is sure to be gone nobody claims that it was told anything.
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":1}"#).text, r#"{"connections":1,"complete":false}"#);
    assert_eq!(here.hear()["data"], 1);
    listed(&one, "acme", 1);
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":2}"#).text, r#"{"connections":1,"complete":true}"#);
    // One that is stopped in order is gone at once.
    let third = instance(&redis);
    let mut there = Socket::open(&third, "acme", Some("lu"));
    listed(&one, "acme", 2);
    third.signal("TERM");
    there.closed();
    assert_eq!(third.ended().code(), Some(0));
    assert_eq!(listed(&one, "acme", 1)[0]["userId"], "jo");
}

#[test]
fn while_redis_is_away_each_instance_goes_on_alone_and_says_so() {
    let mut redis = Redis::on_a_port();
    let (one, other) = (instance(&redis), instance(&redis));
    let mut here = Socket::open(&one, "acme", Some("jo"));
    let mut near = Socket::open(&one, "acme", Some("lu"));
    let mut there = Socket::open(&other, "acme", Some("kim"));
    listed(&one, "acme", 3);
    redis.kill();
    one.logged("other instances are not heard; what they say meanwhile is lost here");
    one.counted("tenancyd_relay_listening 0");
    here.say(&json!({"action": "broadcast", "data": 1}));
    for socket in [&mut here, &mut near] {
        assert_eq!(socket.hear(), json!({"action": "broadcast", "from": "jo", "data": 1}));
    }
    one.logged("messages to other instances are lost");
    one.counted("tenancyd_relay_lost_total 1");
    here.say(&json!({"action": "send", "to": "kim", "data": 2}));
    assert_eq!(here.hear()["error"]["code"], "SERVICE_UNAVAILABLE");
    here.say(&json!({"action": "send", "to": "lu", "data": "near"}));
    assert_eq!(near.hear()["data"], "near");
    one.counted("tenancyd_relay_lost_total 3");
    here.heard_nothing();
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":3}"#).text, r#"{"connections":2,"complete":false}"#);
    for socket in [&mut here, &mut near] {
        assert_eq!(socket.hear()["data"], 3);
    }
    one.get("/tenants/acme/connections").refused(503, "SERVICE_UNAVAILABLE");
    // Who comes and goes meanwhile is known afterwards, and so are all others where Redis has forgotten everything.
    drop(near);
    let mut late = Socket::open(&one, "acme", Some("late"));
    redis.again();
    let cleared: String = redis::cmd("FLUSHALL").query(&mut redis.connect()).unwrap();
    assert_eq!(cleared, "OK");
    let mut users: Vec<Value> = listed(&other, "acme", 3).iter().map(|entry| entry["userId"].clone()).collect();
    users.sort_unstable_by_key(Value::to_string);
    assert_eq!(users, ["jo", "kim", "late"]);
    for server in [&one, &other] {
        server.counted("tenancyd_relay_listening 1");
    }
    there.say(&json!({"action": "broadcast", "data": 4}));
    for socket in [&mut here, &mut there, &mut late] {
        assert_eq!(socket.hear(), json!({"action": "broadcast", "from": "kim", "data": 4}));
    }
    assert_eq!(one.post("/tenants/acme/messages", r#"{"data":5}"#).text, r#"{"connections":3,"complete":true}"#);
}
