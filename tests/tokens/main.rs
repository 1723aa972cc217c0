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
use crate::make::{Signer, key_set};

/// The time of every test, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The secret of HS256, HS384 and HS512.
pub(crate) const SECRET: &str = "sixty-four bytes of a secret that nobody else has, not even here";

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

/// `base` with other values in place of some; null takes one away.
pub(crate) fn but(base: Value, changes: Value) -> Value {
    let (Value::Object(mut base), Value::Object(changes)) = (base, changes) else { panic!("two objects") };
    for (key, value) in changes {
        if value.is_null() {
            base.remove(&key);
        } else {
            base.insert(key, value);
        }
    }
    Value::Object(base)
}

/// Claims of a good token.
pub(crate) fn good_claims() -> Value {
    json!({
        "iss": "https://issuer.example.com", "aud": "api", "sub": "u-1", "tenant_id": "acme",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
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
