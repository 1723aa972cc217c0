//! Key sets from a URL: what is used, what is skipped, and what is no answer.

use envoy_tenancy::jwt::{KeySet, MAX_KEYS};
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use serde_json::{Value, json};

use crate::but;
use crate::make::{Signer, encode, key_set};

fn set(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

/// Checks why a key is skipped where another one serves, and that a set of it alone is no answer.
fn skipped(jwk: &Value, why: &str) {
    let fetched = KeySet::read(&set(&[jwk.clone(), Signer::P256.jwk()])).unwrap();
    assert_eq!(fetched.keys.iter().count(), 1, "{jwk}");
    assert_eq!(fetched.skipped, [format!("keys[0] {why}")], "{jwk}");
    let none = KeySet::read(&set(std::slice::from_ref(jwk))).unwrap_err();
    assert_eq!(none, format!("has no key that can be used: keys[0] {why}"), "{jwk}");
}

#[test]
fn a_key_that_cannot_be_used_is_skipped_and_told() {
    let rsa = |changes: Value| but(Signer::Rsa1.jwk(), changes);
    let ec = |changes: Value| but(Signer::P256.jwk(), changes);
    let ed = |changes: Value| but(Signer::Ed25519.jwk(), changes);
    let n = |bytes: &[u8]| rsa(json!({"n": encode(bytes)}));
    let odd = |length: usize, first: u8| {
        let mut number = vec![0xff; length];
        number[0] = first;
        number
    };
    let no_rsa = "is no RSA key of 2048 to 4096 bits with the exponent 65537 (AQAB)";
    let rows = [
        (json!("key"), "is not an object"),
        (json!({}), "has no kty"),
        (json!({"kty": 7}), "has a kty that is not a string"),
        (json!({"kty": "rsa"}), r#"has the kty "rsa", expected RSA, EC or OKP"#),
        (Signer::Secret.jwk(), "is a secret (kty oct), which no key set may show: give secret instead"),
        (rsa(json!({"use": "enc"})), r#"is not for signatures: its use is "enc""#),
        (rsa(json!({"use": ["sig"]})), "has a use that is not a string"),
        (rsa(json!({"key_ops": ["encrypt"]})), "is not for verifying: its key_ops don't list verify"),
        (rsa(json!({"key_ops": []})), "is not for verifying: its key_ops don't list verify"),
        (rsa(json!({"key_ops": "verify"})), "is not for verifying: its key_ops don't list verify"),
        (rsa(json!({"alg": "RSA-OAEP"})), r#"has the alg "RSA-OAEP", which is none for such a key"#),
        (rsa(json!({"alg": "ES256"})), r#"has the alg "ES256", which is none for such a key"#),
        (rsa(json!({"alg": "HS256"})), r#"has the alg "HS256", which is none for such a key"#),
        (rsa(json!({"alg": "none"})), r#"has the alg "none", which is none for such a key"#),
        (rsa(json!({"kid": 7})), "has a kid that is not a string"),
        (rsa(json!({"d": "AQAB"})), "is a private key: it has d, which only whoever signs may know"),
        (rsa(json!({"n": null})), "has no n"),
        (rsa(json!({"e": null})), "has no e"),
        (rsa(json!({"n": "AQ=="})), "has a n that is not base64url"),
        (n(&[]), "has fewer than 2048 bits"),
        (n(&[0; 300]), "has fewer than 2048 bits"),
        (n(&odd(128, 0xff)), "has fewer than 2048 bits"),
        (n(&odd(256, 0x7f)), "has fewer than 2048 bits"),
        (n(&odd(513, 1)), no_rsa),
        (n(&[0xfe; 256]), no_rsa),
        (rsa(json!({"e": "Aw"})), no_rsa),
        (rsa(json!({"e": "AA"})), no_rsa),
        (rsa(json!({"e": ""})), no_rsa),
        (ec(json!({"crv": "P-521"})), r#"has the crv "P-521", expected P-256 or P-384"#),
        (ec(json!({"crv": "secp256k1"})), r#"has the crv "secp256k1", expected P-256 or P-384"#),
        (ec(json!({"crv": null})), "has no crv"),
        (ec(json!({"crv": "P-384"})), "has x and y that are no point of P-384"),
        (ec(json!({"x": encode([0; 32]), "y": encode([0; 32])})), "has x and y that are no point of P-256"),
        (ec(json!({"x": ec(json!({}))["y"]})), "has x and y that are no point of P-256"),
        (ec(json!({"x": "", "y": ""})), "has x and y that are no point of P-256"),
        (ec(json!({"y": encode([1; 33])})), "has x and y that are no point of P-256"),
        (ec(json!({"y": null})), "has no y"),
        (ed(json!({"crv": "Ed448"})), r#"has the crv "Ed448", expected Ed25519"#),
        (ed(json!({"crv": "X25519"})), r#"has the crv "X25519", expected Ed25519"#),
        (ed(json!({"x": encode([1; 31])})), "has an x that is no Ed25519 key"),
        // A point of small order, for which one signature fits every text.
        (ed(json!({"x": encode([&[1][..], &[0; 31]].concat())})), "has an x that is no Ed25519 key"),
        (ed(json!({"x": encode([0; 32])})), "has an x that is no Ed25519 key"),
    ];
    for (jwk, why) in rows {
        skipped(&jwk, why);
    }
}

#[test]
fn a_key_may_say_more_than_is_needed() {
    let rich = but(
        Signer::Rsa1.jwk(),
        json!({
            "use": "sig", "alg": "RS256", "key_ops": ["sign", "verify"], "x5c": ["MIIB"], "x5t": "AAAA", "ext": true,
            "issuer": "https://issuer.example.com",
        }),
    );
    let fetched = KeySet::read(&set(&[rich])).unwrap();
    assert!(fetched.skipped.is_empty(), "{:?}", fetched.skipped);
    assert_eq!(fetched.keys.iter().count(), 1);
    // Java's BigInteger puts a zero in front.
    let n = Signer::Rsa1.jwk()["n"].as_str().unwrap().to_owned();
    let modulus = Base64UrlSafeNoPadding::decode_to_vec(n, None).unwrap();
    let padded = but(Signer::Rsa1.jwk(), json!({"n": encode([vec![0], modulus].concat())}));
    assert!(KeySet::read(&set(&[padded])).is_ok());
}

#[test]
fn what_is_no_key_set_is_no_answer() {
    let rows: [(&[u8], &str); 10] = [
        (b"", "is not JSON, or has a key twice"),
        (b"<html>", "is not JSON, or has a key twice"),
        (b"\xff", "is not JSON, or has a key twice"),
        (br#"{"keys":[],"keys":[]}"#, "is not JSON, or has a key twice"),
        (b"[]", "is no key set: it has no list of keys"),
        (b"{}", "is no key set: it has no list of keys"),
        (br#"{"keys":{}}"#, "is no key set: it has no list of keys"),
        (br#"{"error":"down"}"#, "is no key set: it has no list of keys"),
        (br#"{"keys":[]}"#, "has no key that can be used: "),
        (br#"{"keys":[7]}"#, "has no key that can be used: keys[0] is not an object"),
    ];
    for (body, why) in rows {
        assert_eq!(KeySet::read(body).unwrap_err(), why, "{}", String::from_utf8_lossy(body));
    }
    let large = [key_set(&[Signer::P256]).to_string().into_bytes(), vec![b' '; 5 << 20]].concat();
    assert_eq!(KeySet::read(&large).unwrap_err(), "is longer than 524288 bytes");
}

#[test]
fn a_set_has_a_bound_and_so_has_what_is_told_of_it() {
    let many = KeySet::read(&set(&vec![Signer::P256.jwk(); 300])).unwrap();
    assert_eq!(many.keys.iter().count(), MAX_KEYS);
    assert_eq!(many.skipped, ["keys[100] and all behind it: the set has more than 100 keys"]);
    let bad =
        KeySet::read(&set(&[vec![json!({"kty": "x".repeat(1000)}); 50], vec![Signer::P256.jwk()]].concat())).unwrap();
    assert_eq!(bad.keys.iter().count(), 1);
    assert_eq!(bad.skipped.len(), 11);
    assert_eq!(bad.skipped[10], "and 40 more");
    assert!(bad.skipped.iter().all(|why| why.len() < 200), "{:?}", bad.skipped);
}
