//! The scenarios on a fake host: the filter's core alone, with a clock and a directory of the test's own.

#[path = "../scenarios/mod.rs"]
mod scenarios;
mod world;

run_scenarios!(crate::world::NativeWorld);
