//! Leases as a proxy takes them.

use serde_json::{Value, json};

use crate::client::{Answer, TOKEN, Tenancyd, command};
use crate::keepers::{Start, in_every_keeper};

in_every_keeper!(
    many_who_ask_at_once_get_all_and_no_more,
    a_lease_is_answered_with_all_that_a_proxy_needs,
    a_message_that_comes_twice_or_late_changes_nothing,
    numbers_are_exact_to_the_last_unit,
    a_silent_proxys_units_are_shown_and_never_handed_out_again,
    a_period_that_is_over_takes_its_count_and_one_far_ahead_is_refused,
    only_known_tenants_and_whole_messages_are_taken,
);

/// A message about a quota of months.
pub fn ask(proxy: &str, sequence: u64, limit: u64, used: u64, up_to: u64) -> Value {
    json!({"proxy": proxy, "sequence": sequence, "period": "month", "limit": limit, "used": used, "upTo": up_to})
}

/// The answer to a message about acme's `api`.
#[track_caller]
pub fn lease(server: &Tenancyd, ask: &Value) -> Value {
    let answer = post(server, "/tenants/acme/leases/api", ask);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn post(server: &Tenancyd, path: &str, ask: &Value) -> Answer {
    server.call("POST", path, Some(&ask.to_string()), &[])
}

fn with(mut ask: Value, key: &str, value: impl Into<Value>) -> Value {
    ask[key] = value.into();
    ask
}

fn a_lease_is_answered_with_all_that_a_proxy_needs(start: Start) {
    let server = start(&["--lease-seconds", "7"]);
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    let answer = post(&server, "/tenants/a/leases/api", &ask("p", 1, 10_000, 120, 200));
    let json = answer.json();
    let keys = ["periodStart", "resetsAt", "resetsInMs", "granted", "usage", "leased", "expiresInMs"];
    let places: Vec<_> = keys.iter().map(|key| answer.text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted() && json.as_object().unwrap().len() == keys.len(), "{answer:?}");
    assert_eq!((&json["granted"], &json["usage"], &json["leased"]), (&200.into(), &120.into(), &80.into()));
    assert_eq!(json["expiresInMs"], 7000);
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let (start, end) = (json["periodStart"].as_i64().unwrap(), json["resetsAt"].as_i64().unwrap());
    assert!(start * 1000 <= now && now < end * 1000 && (28..=31).contains(&((end - start) / 86_400)), "{json}");
    assert!((end * 1000 - now - json["resetsInMs"].as_i64().unwrap()).abs() < 10_000, "{json}");
    assert_eq!(server.get("/tenants/acme/usage/api").json(), json!({"usage": 120}));
    let metrics = server.get("/metrics").text;
    for line in [r#"tenancyd_leases_total{outcome="granted"} 1"#, "tenancyd_leased_units_total 80"] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
}

fn a_message_that_comes_twice_or_late_changes_nothing(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let state = |answer: &Value| [&answer["granted"], &answer["usage"], &answer["leased"]].map(|n| n.as_u64().unwrap());
    assert_eq!(state(&lease(&server, &ask("p", 1, 1000, 0, 100))), [100, 0, 100]);
    assert_eq!(state(&lease(&server, &ask("p", 2, 1000, 40, 150))), [150, 40, 110]);
    for late in [ask("p", 2, 1000, 40, 150), ask("p", 2, 1000, 99, 500), ask("p", 1, 1000, 0, 100)] {
        assert_eq!(state(&lease(&server, &late)), [150, 40, 110]);
    }
    assert_eq!(state(&lease(&server, &ask("p", 3, 1000, 40, 0))), [40, 40, 0]);
    assert_eq!(state(&lease(&server, &ask("p", 2, 1000, 40, 150))), [40, 40, 0]);
    // Another proxy's numbers are its own.
    assert_eq!(state(&lease(&server, &ask("q", 1, 1000, 0, 10))), [10, 40, 10]);
    assert_eq!(state(&lease(&server, &ask("q", 2, 45, 0, 100))), [10, 40, 10]);
}

fn numbers_are_exact_to_the_last_unit(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let most = 9_223_372_036_854_775_807_u64;
    for (quota, used) in [("a", (1 << 53) + 1), ("b", most), ("c", most - 1)] {
        let path = format!("/tenants/acme/leases/{quota}");
        let answer = post(&server, &path, &ask("p", 1, most, used, most)).json();
        let granted = used + (most - used).div_euclid(2) + (most - used) % 2;
        assert_eq!((&answer["usage"], &answer["granted"]), (&used.into(), &granted.into()), "{quota}");
        let answer = post(&server, &path, &ask("q", 1, most, 0, 1)).json();
        assert_eq!(answer["granted"], u64::from(granted < most), "{quota}");
        assert_eq!(server.get(&format!("/tenants/acme/usage/{quota}")).json(), json!({"usage": used}));
    }
    // Even what no quota could ever count.
    let answer = post(&server, "/tenants/acme/leases/b", &ask("r", 1, most, most, most)).json();
    assert_eq!((&answer["usage"], &answer["granted"]), (&most.into(), &most.into()));
}

fn a_silent_proxys_units_are_shown_and_never_handed_out_again(start: Start) {
    let server = start(&["--lease-seconds", "1"]);
    server.put("/tenants/acme", "{}");
    assert_eq!(lease(&server, &ask("gone", 1, 100, 10, 100))["granted"], 55);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut granted = 0;
    for sequence in 1..20 {
        granted = lease(&server, &ask("here", sequence, 100, granted, 100))["granted"].as_u64().unwrap();
    }
    assert_eq!(granted, 45);
    let listed = server.get("/tenants/acme/usage").json();
    let entry = &listed["usage"][0];
    assert_eq!((&entry["usage"], &entry["leased"], &entry["abandoned"]), (&55.into(), &45.into(), &45.into()));
    // It comes back, and gives back.
    assert_eq!(lease(&server, &ask("gone", 2, 100, 30, 30))["leased"], 0);
    assert_eq!(lease(&server, &ask("here", 20, 100, granted, 46))["granted"], 46);
    // What an operator sets by hand ends abandoned leases.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    server.put("/tenants/acme/usage/api", r#"{"usage":0,"period":"month"}"#);
    assert_eq!(server.get("/tenants/acme/usage").json()["usage"][0]["leased"], 0);
}

fn a_period_that_is_over_takes_its_count_and_one_far_ahead_is_refused(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let yesterday = |sequence, used, up_to| {
        let ask = with(ask("p", sequence, 1000, used, up_to), "period", "day");
        with(ask, "periodStart", now / 86_400 * 86_400 - 86_400)
    };
    let answer = lease(&server, &yesterday(1, 120, 200));
    assert_eq!((&answer["granted"], &answer["usage"]), (&80.into(), &0.into()), "{answer}");
    assert!(answer["periodStart"].as_u64().unwrap() > now - 86_400 - 60);
    let again = lease(&server, &yesterday(1, 120, 200));
    assert_eq!((&again["granted"], &again["usage"]), (&80.into(), &0.into()), "{again}");
    let listed = server.get("/tenants/acme/usage").json();
    let usage: Vec<_> = listed["usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["usage"].clone(), entry["leased"].clone()))
        .collect();
    assert_eq!(usage, [(0.into(), 80.into()), (120.into(), 0.into())]);
    let ahead = with(ask("p", 9, 1000, 0, 1), "periodStart", now + 90_000);
    let details = post(&server, "/tenants/acme/leases/api", &ahead).refused(422, "VALIDATION_ERROR");
    assert_eq!(details["faults"][0]["path"], "periodStart");
    // What was so long ago that nobody can say anything about it any more isn't kept.
    let old = with(yesterday(5, 7, 7), "periodStart", now / 86_400 * 86_400 - 5 * 86_400);
    assert_eq!(lease(&server, &old)["usage"], 0);
    assert_eq!(server.get("/tenants/acme/usage").json()["usage"].as_array().unwrap().len(), 2);
}

fn only_known_tenants_and_whole_messages_are_taken(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let whole = ask("p", 1, 10, 0, 1);
    post(&server, "/tenants/nobody/leases/api", &whole).refused(404, "NOT_FOUND");
    post(&server, "/tenants/a%20b/leases/api", &whole).refused(404, "NOT_FOUND");
    let details = post(&server, "/tenants/acme/leases/a%20b", &json!({"x": 1})).refused(422, "VALIDATION_ERROR");
    let paths: Vec<_> = details["faults"].as_array().unwrap().iter().map(|fault| fault["path"].clone()).collect();
    assert_eq!(paths, ["path", "x", "", "", "", "", "", ""]);
    server.call("POST", "/tenants/acme/leases/api", None, &[]).refused(422, "VALIDATION_ERROR");
    server.get("/tenants/acme/leases/api").refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(server.get("/tenants/acme/usage").json()["usage"], json!([]));
}

#[test]
fn where_proxies_have_a_token_only_they_and_writers_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "pr0xy-token\n").unwrap();
    let arguments = ["--database", ":memory:", "--listen", "127.0.0.1:0"];
    let from_file = ["--proxy-token-file", file.to_str().unwrap()];
    for server in [
        Tenancyd::spawn(command(&arguments).args(from_file).env("TENANCYD_TOKEN", TOKEN)),
        Tenancyd::spawn(command(&arguments).env("TENANCYD_PROXY_TOKEN", "pr0xy-token").env("TENANCYD_TOKEN", TOKEN)),
    ] {
        server.put("/tenants/acme", "{}");
        let body = ask("p", 1, 10, 0, 1).to_string();
        let call = |headers: &[(&str, &str)]| server.call("POST", "/tenants/acme/leases/api", Some(&body), headers);
        let details = call(&[]).refused(401, "UNAUTHORIZED");
        assert_eq!(details, json!({"reason": "missing"}));
        call(&[("authorization", "Bearer pr0xy-tokeN")]).refused(401, "UNAUTHORIZED");
        assert_eq!(call(&[("authorization", "Bearer pr0xy-token")]).status, 200);
        assert_eq!(call(&[("authorization", &format!("Bearer {TOKEN}"))]).status, 200);
        // It opens nothing else.
        let write = [("authorization", "Bearer pr0xy-token")];
        server.call("PUT", "/tenants/acme/usage/api", Some(r#"{"usage":1}"#), &write).refused(401, "UNAUTHORIZED");
        assert!(!server.log().contains("pr0xy-token"));
    }
}

/// Proxies that all ask at once, over HTTP, until nothing is left.
fn many_who_ask_at_once_get_all_and_no_more(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let limit = 997;
    let granted: Vec<u64> = std::thread::scope(|scope| {
        let proxies: Vec<_> = (0..8)
            .map(|proxy| {
                let server = &server;
                scope.spawn(move || {
                    let (mut granted, mut refused) = (0, 0);
                    for sequence in 1.. {
                        let answer = lease(server, &ask(&format!("p{proxy}"), sequence, limit, granted, granted + 25));
                        let now = answer["granted"].as_u64().unwrap();
                        refused += u32::from(now == granted);
                        granted = now;
                        if refused > 2 {
                            break;
                        }
                    }
                    granted
                })
            })
            .collect();
        proxies.into_iter().map(|proxy| proxy.join().unwrap()).collect()
    });
    assert_eq!(granted.iter().sum::<u64>(), limit, "{granted:?}");
    assert_eq!(server.get("/tenants/acme/usage/api").json(), json!({"usage": limit}));
}

/// `kill -9` at any moment: what a proxy was told stays granted, so nobody gets it twice.
#[test]
fn no_grant_that_was_told_is_lost_to_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let limit = 100_000;
    let mut granted = [0_u64; 4];
    let mut sequence = 1_000;
    for round in 0..6 {
        let server = Tenancyd::on(&database);
        server.put("/tenants/acme", "{}");
        sequence += 100_000;
        std::thread::scope(|scope| {
            for (proxy, granted) in granted.iter_mut().enumerate() {
                let server = &server;
                scope.spawn(move || {
                    for number in 0.. {
                        let message = ask(&format!("p{proxy}"), sequence + number, limit, *granted, *granted + 7);
                        let Some(answer) = server.try_post("/tenants/acme/leases/api", &message.to_string()) else {
                            break;
                        };
                        let now = answer.json()["granted"].as_u64().unwrap();
                        assert!(now >= *granted, "{answer:?}");
                        *granted = now;
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(60 + round * 17));
            server.signal("KILL");
        });
    }
    let server = Tenancyd::on(&database);
    for (proxy, granted) in granted.iter().enumerate() {
        // One that was heard before changes nothing, and tells what holds: what was told, or more that was on its way.
        let held = lease(&server, &ask(&format!("p{proxy}"), 1, limit, 0, 0))["granted"].as_u64().unwrap();
        assert!((*granted..=*granted + 7).contains(&held), "{held} of {granted}");
    }
    assert!(granted.iter().all(|granted| *granted > 0), "{granted:?}");
}
