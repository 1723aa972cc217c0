//! The pure rooms natively, each by itself, and whole decisions on a host that does next to nothing: `make bench BENCH=rooms`.
//!
//! Native code is faster than Wasm, and no proxy is here, so these figures say which room a request's time goes to and which change
//! helps, not what a request costs in Envoy.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that doesn't do what it says ends; no request of anybody depends on it"
)]

// What makes tokens for the benches in Envoy makes them here, too.
#[path = "../src/tokens.rs"]
mod tokens;

mod rooms {
    pub mod decisions;
    pub mod host;
    pub mod parts;
    pub mod requests;
}

/// What may go wrong is told in words.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() {
    divan::main();
}
