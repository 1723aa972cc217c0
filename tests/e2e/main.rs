//! The scenarios in real Envoy with the real filter, driven by curl; and what only real Envoy can show.
//!
//! `make e2e` sets TENANCY_WASM and ENVOY_BIN. Where one is missing the tests fail; they never skip.

mod bootstrap;
mod curl;
mod envoy;
mod scripted;
#[path = "../scenarios/mod.rs"]
mod scenarios;

run_scenarios!(crate::envoy::EnvoyWorld);
