//! Any bytes as a token, as a header's value around one, and as a key set. Nobody here can sign, so no token passes, unless
//! whoever verifies signatures for the filter takes them all: then what is read of its claims holds.
#![no_main]

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::config::{ClaimName, Jwt, TokenFrom};
use envoy_tenancy::jwt::{InWasm, KeySet, Presented, Signatures, Tokens, presented};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// A host that takes every signature, by saying `result: true`.
struct Credulous;

impl Signatures for Credulous {
    fn verify_signature(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(vec![8, 1])
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn tokens() -> Tokens {
    let settings = json!({
        "jwks": {"inline": {"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "P256", "x": "HhhTL9R1TALzBB2cdc6zO4P_2BrHzk_ogsyxyYvFiW4", "y": "pGwxHE4v9A3ZajZT5uRURdMt_khuztdcepDGoYiBwKM"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "Ed25519", "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"},
        ]}},
        "secret": {"env": "SECRET"},
        "algorithms": ["ES256", "EdDSA", "HS256"],
    });
    let settings = Jwt::from_value(&settings).expect("the settings are sound");
    let secret = |_: &str| Some("a secret of thirty-two bytes, or more".to_owned());
    Tokens::new(&settings, &ClaimName::default(), secret).expect("the secret is long enough")
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * index)) as usize & 63]));
        }
    }
    text
}

thread_local! {
    /// One that verifies, and one that takes every signature: what this one remembers, the other must not know.
    static TOKENS: RefCell<(Tokens, Tokens)> = RefCell::new((tokens(), tokens()));
}

fuzz_target!(|bytes: &[u8]| TOKENS.with_borrow_mut(|(verifying, credulous)| {
    assert!(verifying.verify(bytes, now(), &InWasm).is_err());
    let from = TokenFrom::Cookie("session".to_owned());
    if let Presented::Token(token) = presented(&from, [bytes].into_iter()) {
        assert!(verifying.verify(token, now(), &InWasm).is_err());
    }
    if let Ok(fetched) = KeySet::read(bytes) {
        assert!(!fetched.keys.is_empty());
    }
    let header = base64url(br#"{"alg":"ES256","kid":"P256"}"#);
    let token = format!("{header}.{}.{}", base64url(bytes), base64url(&[7; 64]));
    if let Ok(verified) = credulous.verify(token.as_bytes(), now(), &Credulous) {
        assert!(verified.from <= now() && now() < verified.until);
    }
}));
