//! What quotas count, proved over the real filter on a fake host: every order of steps of small cases, chance for the rest, and
//! the calendar's turns.
//!
//! A seed that fails is printed. `QUOTA_SEED=7 cargo test --test quotas chance` runs it again, and prints all that happened;
//! `QUOTA_SEEDS=10000` runs that many.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod cases;
mod chance;
mod core;
#[path = "../simulation/random.rs"]
#[allow(dead_code, reason = "the other simulation draws in more ways")]
mod random;
mod service;
mod settle;
mod stage;
mod turns;
mod walk;
