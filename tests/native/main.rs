//! The scenarios on a fake host: the filter's core alone, with a clock and a directory of the test's own.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod closings;
mod conversations;
mod lookups;
mod metering;
#[path = "../scenarios/mod.rs"]
mod scenarios;
mod websockets;
mod wire;
mod world;

run_scenarios!(crate::world::NativeWorld);
