//! The small cases.

use std::time::Instant;

use serde_json::{Value, json};

use crate::core::{Event, Kind, Mutation, Rule};
use crate::walk::{Case, Walked, walk};

/// Half a minute before the end of a minute.
const NOON: i64 = 1_800_000_000 + 30;

fn request(id: u32) -> Event {
    Event::Request(id)
}

fn edge(cost: u64) -> Rule {
    Rule { key: "api", kind: Kind::Edge, cost, strict: true }
}

fn case(name: &'static str, quotas: Value, limit: u64, scripts: Vec<Vec<Event>>) -> Case {
    Case {
        name,
        quotas,
        rules: vec![edge(1)],
        limit,
        epoch: NOON,
        before: Vec::new(),
        scripts,
        crashes: 0,
        pauses: 0,
        pause: 0,
        passes: None,
    }
}

fn minute(limit: u64) -> Value {
    json!([{"quotaKey": "api", "period": "minute", "limit": limit}])
}

/// A worker that holds one unit in its hands, beside so many that the pool has left.
fn held(name: &'static str, left: u64, scripts: Vec<Vec<Event>>) -> Case {
    let limit = 67;
    let quotas = json!([{
        "quotaKey": "api",
        "period": "minute",
        "limit": limit,
        "cost": {"responseHeader": "x-cost", "reserve": 1},
    }]);
    // The second request of the first worker leases a unit beside its own, and then turns out to have cost most of the rest.
    let cost = limit - 2 - left;
    let before = vec![(0, request(100)), (0, request(101)), (0, Event::Response(101, Some(cost)))];
    Case { before, ..case(name, quotas, limit, scripts) }
}

fn level(limit: u64) -> Value {
    json!([{"quotaKey": "slots", "period": "none", "limit": limit}])
}

fn level_case(name: &'static str, limit: u64, scripts: Vec<Vec<Event>>) -> Case {
    let rules = vec![Rule { key: "slots", kind: Kind::Level, cost: 1, strict: true }];
    Case { rules, ..case(name, level(limit), limit, scripts) }
}

fn start() -> Event {
    Event::Start(Value::Null)
}

fn cases() -> Vec<Case> {
    let end = Event::End;
    vec![
        Case {
            passes: Some(2),
            ..case("four for two", minute(2), 2, vec![vec![request(1), request(2)], vec![request(3), request(4)]])
        },
        Case {
            passes: Some(2),
            ..case("three workers for two", minute(2), 2, vec![vec![request(1)], vec![request(2)], vec![request(3)]])
        },
        Case {
            crashes: 1,
            ..case(
                "four for two, and a crash",
                minute(2),
                2,
                vec![vec![request(1), request(2)], vec![request(3), request(4)]],
            )
        },
        Case { passes: Some(67), ..held("one in a hand", 0, vec![vec![], vec![request(1), request(2)]]) },
        Case {
            passes: Some(67),
            ..held("one in a hand, wanted by both", 0, vec![vec![request(1)], vec![request(2), request(3)]])
        },
        Case {
            passes: Some(67),
            ..held("one in a hand, wanted by two others", 0, vec![vec![], vec![request(1)], vec![request(2)]])
        },
        Case {
            crashes: 1,
            ..held("one in a hand, and a crash", 0, vec![vec![request(1)], vec![request(2), request(3)]])
        },
        Case {
            passes: Some(67),
            pauses: 1,
            pause: 999,
            ..held("one in a hand, and a tick", 0, vec![vec![Event::Tick], vec![request(1), Event::Tick]])
        },
        Case {
            pauses: 1,
            pause: 1000,
            ..held("one in a hand, and a late tick", 0, vec![vec![Event::Tick], vec![request(1), Event::Tick]])
        },
        Case {
            pauses: 1,
            pause: 30_000,
            ..held("one in a hand as the minute ends", 0, vec![vec![request(1)], vec![request(2)]])
        },
        level_case("a level of one", 1, vec![vec![request(1), end(1), request(2)], vec![request(3), end(3)]]),
        Case {
            before: vec![(0, request(1))],
            ..level_case(
                "a level of one, and a worker that begins",
                1,
                vec![vec![end(1)], vec![request(2)], vec![start(), request(3)]],
            )
        },
        Case {
            crashes: 1,
            ..level_case("a level of two, and a crash", 2, vec![vec![request(1), end(1)], vec![request(2), request(3)]])
        },
        Case {
            rules: vec![edge(1), Rule { key: "other", ..edge(1) }],
            ..case(
                "two quotas",
                json!([
                    {"quotaKey": "other", "period": "minute", "limit": 2},
                    {"quotaKey": "api", "period": "minute", "limit": 2},
                ]),
                2,
                vec![vec![request(1)], vec![request(2), request(3)]],
            )
        },
    ]
}

#[test]
fn every_order_of_small_cases() {
    let started = Instant::now();
    let only = std::env::var("QUOTA_CASE").unwrap_or_default();
    let mut paths = 0;
    for case in cases().iter().filter(|case| case.name.contains(&only)) {
        let began = Instant::now();
        let walked = walk(case, Mutation::None);
        let Walked { paths: walked_paths, pruned, longest, violation } = walked;
        eprintln!(
            "{}: {walked_paths} paths, {pruned} cut short, at most {longest} steps, {:?}",
            case.name,
            began.elapsed()
        );
        if let Some(violation) = violation {
            panic!("{violation}");
        }
        paths += walked_paths;
    }
    eprintln!("{paths} paths in {:?}", started.elapsed());
    assert!(!only.is_empty() || paths > 5000, "the walk has become a short one");
}

#[test]
fn what_is_wrong_is_met_on_the_way() {
    for (name, mutation) in [
        ("four for two", Mutation::BlindReplace),
        ("one in a hand, wanted by both", Mutation::BlindReplace),
        ("a level of one", Mutation::BlindReplace),
        ("a level of one", Mutation::DeafToLife),
    ] {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).expect("a case");
        assert!(walk(case, mutation).violation.is_some(), "{mutation:?} goes unnoticed in {name}");
    }
}

#[test]
fn letters_that_are_lost_cost_only_waiting() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "one in a hand, wanted by both").expect("a case");
    let case = Case { passes: None, pauses: 1, pause: 1000, ..case.clone() };
    assert_eq!(walk(&case, Mutation::LostLetters).violation, None);
}
