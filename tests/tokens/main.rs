//! Tokens: every kind that somebody could send, and what becomes of it.
//!
//! Each token of a table is judged twice, by the crates alone and with an `Envoy` that verifies signatures as the proxy
//! does, and both must say the same. Keys are for these tests alone, and sign nothing anywhere.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod claims;
mod envoy;
mod hostile;
mod key_sets;
mod make;
mod memory;
mod settings;
mod signatures;
mod sources;

use std::time::{Duration, SystemTime};

use envoy_tenancy::config::{ClaimName, Faults, Jwt};
use envoy_tenancy::jwt::{InWasm, TokenFault, Tokens, Verified};
use serde_json::{Value, json};

use crate::envoy::Envoy;
pub(crate) use crate::make::{NOW, SECRET, but, good_claims};
use crate::make::{Signer, key_set};

/// That time, and seconds more or less.
pub(crate) fn at(seconds: f64) -> SystemTime {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    if seconds < 0.0 { now - Duration::from_secs_f64(-seconds) } else { now + Duration::from_secs_f64(seconds) }
}

fn listed(faults: &Faults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

pub(crate) fn jwt(settings: &Value) -> Result<Jwt, Vec<String>> {
    Jwt::from_value(settings).map_err(|faults| listed(&faults))
}

pub(crate) fn claim_name(name: &str) -> Result<ClaimName, Vec<String>> {
    ClaimName::from_value(&json!(name)).map_err(|faults| listed(&faults))
}

/// Settings with every key and every algorithm.
pub(crate) fn settings() -> Value {
    json!({
        "jwks": {"inline": key_set(&[Signer::Rsa1, Signer::P256, Signer::P384, Signer::Ed25519])},
        "secret": {"env": "TENANCY_JWT_SECRET"},
        "issuer": "https://issuer.example.com",
        "audiences": ["api", "web"],
        "algorithms": [
            "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512",
        ],
    })
}

pub(crate) fn tokens(settings: &Value, claim: &str) -> Tokens {
    Tokens::new(&jwt(settings).unwrap(), &claim_name(claim).unwrap(), |_| Some(SECRET.to_owned())).unwrap()
}

/// One token's verdict, the same both ways, and the same when the token comes again.
pub(crate) fn verdict(settings: &Value, claim: &str, token: &[u8], now: SystemTime) -> Result<Verified, TokenFault> {
    let mut with_envoy = tokens(settings, claim);
    let envoy = Envoy::default();
    let native = tokens(settings, claim).verify(token, now, &InWasm);
    assert_eq!(with_envoy.verify(token, now, &envoy), native, "Envoy and the crates differ");
    assert_eq!(with_envoy.verify(token, now, &InWasm), native, "the same token, seen before");
    native
}

/// Checks that a token names a tenant, or is refused for a reason.
pub(crate) fn check(settings: &Value, token: impl AsRef<[u8]>, expected: Result<&str, &str>) {
    check_at(settings, token, at(0.0), expected);
}

pub(crate) fn check_at(settings: &Value, token: impl AsRef<[u8]>, now: SystemTime, expected: Result<&str, &str>) {
    let verdict = verdict(settings, "tenant_id", token.as_ref(), now);
    let found = verdict.as_ref().map(|verified| verified.tenant.as_str()).map_err(|fault| fault.reason());
    assert_eq!(found, expected, "{}", make::shown(token.as_ref()));
}
