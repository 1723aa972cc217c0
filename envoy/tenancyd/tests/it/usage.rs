//! Usage as a client reads and sets it.

use serde_json::{Value, json};

use crate::client::TOKEN;
use crate::keepers::{Start, in_every_keeper};
use crate::leases::{ask, lease};

in_every_keeper!(
    a_level_is_what_was_put,
    only_known_tenants_have_usage_and_only_writers_set_it,
    every_fault_is_listed,
    of_several_counters_the_last_touched_is_meant_unless_the_query_says,
    usage_is_listed_in_pages_the_newest_first,
    what_is_set_in_a_period_counts_with_what_is_leased,
);

fn a_level_is_what_was_put(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    let path = "/tenants/acme/usage/storage";
    assert_eq!(server.get(path).text, r#"{"usage":0}"#);
    for usage in ["5", "9223372036854775807", "9007199254740993", "0", "1e3"] {
        let put = server.put(path, &format!(r#"{{"usage":{usage}}}"#));
        let expected = if usage == "1e3" { "1000" } else { usage };
        assert_eq!((put.status, put.text), (200, format!(r#"{{"usage":{expected}}}"#)));
        assert_eq!(server.get("/tenants/a/usage/storage").text, format!(r#"{{"usage":{expected}}}"#));
    }
    let listed = server.get("/tenants/a/usage").json();
    let level = json!({"quotaKey": "storage", "period": "none", "timezone": null, "periodStart": null, "resetsAt": null,
        "usage": 1000, "leased": 0, "abandoned": 0});
    assert_eq!(listed, json!({"usage": [level], "next": null}));
    let write = server.logged("usage put");
    assert_eq!((&write["tenant"], &write["quota"], &write["by"]), (&"acme".into(), &"storage".into(), &"token".into()));
    assert_eq!(server.delete(path).status, 204);
    assert_eq!(server.get(path).json(), json!({"usage": 0}));
    assert_eq!(server.get("/tenants/a/usage").json(), json!({"usage": [], "next": null}));
    assert_eq!(server.delete(path).status, 204);
}

fn only_known_tenants_have_usage_and_only_writers_set_it(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    server.get("/tenants/nobody/usage/x").refused(404, "NOT_FOUND");
    server.get("/tenants/nobody/usage").refused(404, "NOT_FOUND");
    // Writes name a tenant by its id.
    for tenant in ["nobody", "a", "a%20b"] {
        server.put(&format!("/tenants/{tenant}/usage/x"), r#"{"usage":1}"#).refused(404, "NOT_FOUND");
        server.delete(&format!("/tenants/{tenant}/usage/x")).refused(404, "NOT_FOUND");
    }
    for method in ["PUT", "DELETE"] {
        let body = (method == "PUT").then_some(r#"{"usage":1}"#);
        server.call(method, "/tenants/acme/usage/x", body, &[]).refused(401, "UNAUTHORIZED");
    }
    assert_eq!(server.get("/tenants/acme/usage/x").json(), json!({"usage": 0}));
}

fn every_fault_is_listed(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let faults = |details: Value| -> Vec<String> {
        let faults = details["faults"].as_array().unwrap().clone();
        faults.iter().map(|fault| fault["path"].as_str().unwrap().to_owned()).collect()
    };
    for (key, body, paths) in [
        ("x", "", vec![""]),
        ("x", "{}", vec![""]),
        (
            "a%20b",
            r#"{"usage":-1,"period":"week","timezone":"Mars","x":1}"#,
            vec!["path", "usage", "period", "timezone", "x"],
        ),
        ("x", r#"{"usage":1,"timezone":"UTC"}"#, vec!["timezone"]),
        ("x", r#"{"usage":1,"period":"none","timezone":"UTC"}"#, vec!["timezone"]),
        ("x", r#"{"usage":9223372036854775808}"#, vec!["usage"]),
    ] {
        let answer = server.put(&format!("/tenants/acme/usage/{key}"), body);
        assert_eq!(faults(answer.refused(422, "VALIDATION_ERROR")), paths, "{body}");
    }
    for (query, paths) in [
        ("period=week&timezone=Mars&x=1", vec!["query", "period", "timezone"]),
        ("period=day&period=day", vec!["period"]),
        ("period=", vec!["period"]),
    ] {
        let answer = server.get(&format!("/tenants/acme/usage/x?{query}"));
        assert_eq!(faults(answer.refused(422, "VALIDATION_ERROR")), paths, "{query}");
        server.delete(&format!("/tenants/acme/usage/x?{query}")).refused(422, "VALIDATION_ERROR");
    }
    server.get("/tenants/acme/usage?after=x").refused(422, "VALIDATION_ERROR");
}

fn of_several_counters_the_last_touched_is_meant_unless_the_query_says(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let path = "/tenants/acme/usage/x";
    for (usage, rest) in [
        (1, ""),
        (2, r#","period":"month""#),
        (3, r#","period":"month","timezone":"asia/tokyo""#),
        (4, r#","period":"day","timezone":"Asia/Tokyo""#),
    ] {
        // A millisecond, the clock's grain, is between two of them.
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(server.put(path, &format!(r#"{{"usage":{usage}{rest}}}"#)).status, 200);
    }
    for (query, expected) in [
        ("", 4),
        ("?period=none", 1),
        ("?period=month", 3),
        ("?period=month&timezone=UTC", 2),
        ("?timezone=Asia/Tokyo", 4),
        ("?timezone=Asia%2FTokyo&period=month", 3),
        ("?period=hour", 0),
        ("?period=none&timezone=UTC", 0),
    ] {
        assert_eq!(server.get(&format!("{path}{query}")).json(), json!({"usage": expected}), "{query}");
    }
    assert_eq!(server.delete(&format!("{path}?period=month&timezone=UTC")).status, 204);
    assert_eq!(server.get(&format!("{path}?period=month&timezone=UTC")).json(), json!({"usage": 0}));
    assert_eq!(server.get(&format!("{path}?period=month&timezone=Asia/Tokyo")).json(), json!({"usage": 3}));
}

fn usage_is_listed_in_pages_the_newest_first(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    for key in ["a", "b", "c"] {
        for rest in ["", r#","period":"month""#, r#","period":"day""#] {
            server.put(&format!("/tenants/acme/usage/{key}"), &format!(r#"{{"usage":7{rest}}}"#));
        }
    }
    let whole = server.get("/tenants/acme/usage").json();
    let all = whole["usage"].as_array().unwrap();
    assert_eq!(all.len(), 9);
    let key = |entry: &Value| {
        let start = entry["periodStart"].as_i64().unwrap_or(i64::MAX);
        (std::cmp::Reverse(start), entry["quotaKey"].as_str().unwrap().to_owned(), entry["period"].to_string())
    };
    assert!(all.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])), "{all:?}");
    for limit in [1, 2, 4, 9] {
        let (mut read, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/tenants/acme/usage?limit={limit}{after}")).json();
            read.extend(page["usage"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(&read, all, "{limit}");
    }
}

fn what_is_set_in_a_period_counts_with_what_is_leased(start: Start) {
    let server = start(&[]);
    server.put("/tenants/acme", "{}");
    let path = "/tenants/acme/usage/api";
    let first = lease(&server, &ask("p", 1, 1000, 0, 100));
    assert_eq!(first["granted"], 100);
    lease(&server, &ask("p", 2, 1000, 60, 100));
    assert_eq!(server.get(path).json(), json!({"usage": 60}));
    server.put(path, r#"{"usage":990,"period":"month"}"#);
    assert_eq!(server.get(path).json(), json!({"usage": 990}));
    // 60 of this proxy's 100 are in the 990 already.
    let again = lease(&server, &ask("p", 3, 1000, 65, 120));
    assert_eq!((&again["granted"], &again["usage"], &again["leased"]), (&100.into(), &995.into(), &35.into()));
    server.delete(path);
    let reset = lease(&server, &ask("p", 4, 1000, 65, 120));
    assert_eq!((&reset["granted"], &reset["usage"], &reset["leased"]), (&120.into(), &0.into(), &55.into()));
    let listed = server.get("/tenants/acme/usage").json();
    assert_eq!((&listed["usage"][0]["usage"], &listed["usage"][0]["leased"]), (&0.into(), &55.into()));
    server.delete("/tenants/acme");
    server.call("PUT", "/tenants/acme", Some("{}"), &[("authorization", &format!("Bearer {TOKEN}"))]);
    assert_eq!(server.get(path).json(), json!({"usage": 0}));
}
