//! Tokens that were seen before, and keys that come and go.

use envoy_tenancy::jwt::{KeySet, TokenFault, Tokens};
use serde_json::{Value, json};

use crate::envoy::Envoy;
use crate::make::{Signer, good, header, key_set, token};
use crate::{NOW, at, but, good_claims, settings, tokens};

fn fetched(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap().keys
}

fn named(signer: Signer, kid: &str) -> Value {
    but(signer.jwk(), json!({"kid": kid}))
}

fn remote() -> Tokens {
    tokens(&but(settings(), json!({"jwks": {"cluster": "idp", "path": "/keys"}})), "tenant_id")
}

#[test]
fn a_token_is_verified_once() {
    let (mut tokens, envoy) = (tokens(&settings(), "tenant_id"), Envoy::default());
    for signer in [Signer::Rsa1, Signer::P256, Signer::P384] {
        let before = envoy.asked.get();
        for _ in 0..3 {
            assert_eq!(tokens.verify(&good(signer), at(0.0), &envoy).unwrap().tenant.as_str(), "acme");
        }
        assert_eq!(envoy.asked.get(), before + 1, "{signer:?}");
    }
    // One with another signature is another token.
    let mut other = good(Signer::P256);
    let inside = other.len() - 20;
    other[inside] = if other[inside] == b'A' { b'B' } else { b'A' };
    assert_eq!(tokens.verify(&other, at(0.0), &envoy), Err(TokenFault::Signature));
}

#[test]
fn a_bad_token_is_not_remembered() {
    let (mut tokens, envoy) = (remote(), Envoy::default());
    assert_eq!(tokens.verify(&good(Signer::P256), at(0.0), &envoy), Err(TokenFault::UnknownKey));
    tokens.set_keys(fetched(&[named(Signer::P256, "P256")]));
    assert!(tokens.verify(&good(Signer::P256), at(0.0), &envoy).is_ok());
}

#[test]
fn what_is_remembered_ends_with_the_token() {
    let (mut tokens, envoy) = (tokens(&settings(), "tenant_id"), Envoy::default());
    let token = good(Signer::P256);
    for (seconds, expected) in [
        (0.0, Ok(())),
        (329.999, Ok(())),
        (330.0, Err(TokenFault::Expired)),
        (0.0, Ok(())),
        (-40.0, Ok(())),
        // The clock was set back: then the token isn't valid yet, remembered or not.
        (-40.001, Err(TokenFault::NotYetValid)),
        (1e6, Err(TokenFault::Expired)),
    ] {
        assert_eq!(tokens.verify(&token, at(seconds), &envoy).map(|_| ()), expected, "{seconds}");
    }
}

#[test]
fn what_is_remembered_ends_with_its_key() {
    let (mut tokens, envoy) = (remote(), Envoy::default());
    let holds = |tokens: &mut Tokens, expected: Result<(), TokenFault>, asked: u32| {
        let before = envoy.asked.get();
        assert_eq!(tokens.verify(&good(Signer::P256), at(0.0), &envoy).map(|_| ()), expected);
        assert_eq!(envoy.asked.get() - before, asked);
    };
    let ours = named(Signer::P256, "P256");
    tokens.set_keys(fetched(&[ours.clone(), named(Signer::Rsa1, "Rsa1")]));
    holds(&mut tokens, Ok(()), 1);
    // The same key in a newer set, beside others and in another place.
    tokens.set_keys(fetched(&[named(Signer::P384, "P384"), ours.clone()]));
    holds(&mut tokens, Ok(()), 0);
    // It is gone.
    tokens.set_keys(fetched(&[named(Signer::P384, "P384")]));
    holds(&mut tokens, Err(TokenFault::UnknownKey), 0);
    // Another key took its name.
    tokens.set_keys(fetched(std::slice::from_ref(&ours)));
    holds(&mut tokens, Ok(()), 1);
    tokens.set_keys(fetched(&[named(Signer::P256Other, "P256")]));
    holds(&mut tokens, Err(TokenFault::Signature), 1);
    // The same key is for another algorithm now, or has another name.
    tokens.set_keys(fetched(std::slice::from_ref(&ours)));
    holds(&mut tokens, Ok(()), 1);
    tokens.set_keys(fetched(&[but(ours.clone(), json!({"kid": "renamed"}))]));
    holds(&mut tokens, Err(TokenFault::UnknownKey), 0);
}

#[test]
fn a_secret_s_tokens_go_on_whatever_keys_come() {
    let mut tokens = remote();
    let envoy = Envoy::default();
    assert!(tokens.verify(&good(Signer::Secret), at(0.0), &envoy).is_ok());
    tokens.set_keys(fetched(&[named(Signer::P384, "P384")]));
    assert!(tokens.verify(&good(Signer::Secret), at(0.0), &envoy).is_ok());
    assert_eq!(envoy.asked.get(), 0);
}

#[test]
fn the_memory_has_a_bound() {
    let (mut tokens, envoy) = (tokens(&settings(), "tenant_id"), Envoy::default());
    let padding = "x".repeat(11_000);
    let large = |number: u64| {
        let claims = but(good_claims(), json!({"jti": number, "pad": padding, "exp": NOW + 300}));
        token(Signer::Secret, &header(Signer::Secret), &claims)
    };
    for number in 0..1500 {
        assert!(tokens.verify(&large(number), at(0.0), &envoy).is_ok());
    }
    let (count, bytes) = tokens.remembered();
    assert!(count < 700 && bytes <= 8 << 20, "{count} tokens of {bytes} bytes");
    assert!(count > 400, "{count} tokens");
}

#[test]
fn keys_of_the_configuration_are_there_at_once() {
    assert!(remote().keys().is_empty());
    let inline = but(settings(), json!({"jwks": {"inline": key_set(&[Signer::P256])}}));
    assert!(!tokens(&inline, "tenant_id").keys().is_empty());
}
