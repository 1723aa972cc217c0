//! The directory by simulation: workers, shared data, clients, outages, reloads and clocks, all from one seed.
//!
//! A seed that fails is printed. `SIMULATION_SEED=7 cargo test --test simulation promise` runs it again, and prints all that
//! happened; `SIMULATION_SEEDS=100000` runs that many.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod judge;
mod random;
mod run;
mod settings;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::judge::Rule;
use crate::run::{Run, run};
use crate::world::Mutation;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn every_promise_holds_whatever_happens() {
    let started = Instant::now();
    let one = number("SIMULATION_SEED");
    let seeds = one.map_or(0..number("SIMULATION_SEEDS").unwrap_or(300), |seed| seed..seed + 1);
    let many = seeds.end - seeds.start;
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for seed in seeds {
        let run = run(seed, Mutation::None);
        if one.is_some() {
            eprintln!("{}", run.trace.join("\n"));
        }
        run.seen.iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
        if let Some(violation) = run.violation {
            if failed.is_empty() {
                let from = run.trace.len().saturating_sub(40);
                eprintln!("…\n{}", run.trace[from..].join("\n"));
            }
            failed.insert(seed, violation);
        }
    }
    eprintln!("{many} seeds in {:?}: {seen:#?}", started.elapsed());
    for (seed, violation) in failed.iter().take(20) {
        eprintln!("SIMULATION_SEED={seed}: {:?}: {}", violation.rule, violation.why);
    }
    assert!(failed.is_empty(), "{} of {many} seeds fail", failed.len());
    if many >= 100 {
        let all = [
            "accepted",
            "by snapshot",
            "callouts",
            "clock set back",
            "clock set forward",
            "inactive",
            "meanwhile",
            "mismatch",
            "names none",
            "not found",
            "outage",
            "pages",
            "reloaded",
            "served stale",
            "suspended",
            "unavailable",
            "unavailable, allowed",
            "verdicts that must be the truth",
            "waited",
        ];
        for what in all {
            assert!(seen.get(what).is_some_and(|count| *count > 100), "hardly ever seen: {what}");
        }
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    let differ = |seed: u64, mutation| {
        let (one, other): (Run, Run) = (run(seed, mutation), run(seed, mutation));
        let first = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        first.map(|(one, other)| format!("seed {seed}:\n{one}\n{other}"))
    };
    for seed in 0..20 {
        assert_eq!(differ(seed, Mutation::None), None);
    }
    assert!((0..20).any(|seed| differ(seed, Mutation::Chance).is_some()), "chance from elsewhere goes unnoticed");
}

#[test]
fn what_is_wrong_is_noticed() {
    let rows = [
        (Mutation::ForgedAge, Rule::Age),
        (Mutation::SlowClock, Rule::Age),
        (Mutation::SlowClock, Rule::NotFound),
        (Mutation::StaleAsFresh, Rule::Age),
        (Mutation::LongNegative, Rule::NotFound),
        (Mutation::FailureAsNotFound, Rule::NotFound),
        (Mutation::LostAnswer, Rule::Wait),
        (Mutation::SecondCall, Rule::Flight),
        (Mutation::WideInFlight, Rule::Flight),
        (Mutation::UnconfirmedShared, Rule::Shared),
        (Mutation::Flattery, Rule::Record),
        (Mutation::OtherOwner, Rule::Record),
        (Mutation::Deaf, Rule::Truth),
        (Mutation::Deaf, Rule::Unavailable),
    ];
    for (mutation, rule) in rows {
        let noticed = (0..60).any(|seed| run(seed, mutation).violation.is_some_and(|found| found.rule == rule));
        assert!(noticed, "{mutation:?} breaks no {rule:?} in 60 seeds");
    }
}
