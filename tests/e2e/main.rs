//! The scenarios in real Envoy with the real filter, driven by curl; and what only real Envoy can show.
//!
//! `make e2e` sets TENANCY_WASM and ENVOY_BIN. Where one is missing the tests fail; they never skip.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod bootstrap;
mod crash;
mod crowd;
mod curl;
mod envoy;
mod flood;
mod leases;
mod levels;
mod listeners;
mod load;
mod outage;
mod periods;
mod proxy;
mod quotas_under_load;
mod rate_limit;
mod rate_limit_messages;
mod rate_limiter;
mod response_costs;
#[path = "../scenarios/mod.rs"]
mod scenarios;
mod scripted;
mod second_lock;
mod service;
mod tenancyd;
mod tokens_in_envoy;
mod websockets;

run_scenarios!(crate::envoy::EnvoyWorld);
