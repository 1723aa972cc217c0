//! Bytes that are no token, or nearly one.

use envoy_tenancy::jwt::{MAX_TOKEN_BYTES, TokenFault};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::make::{Signer, encode, good, header, key_set, token, token_of};
use crate::{NOW, at, but, check, good_claims, settings, verdict};

/// One of each kind: with a kid, without one, by the secret.
fn good_tokens() -> Vec<Vec<u8>> {
    let nameless = |signer: Signer| token(signer, &json!({"alg": signer.algorithm()}), &good_claims());
    vec![
        good(Signer::P256),
        good(Signer::P384),
        good(Signer::Ed25519),
        good(Signer::Secret),
        good(Signer::Rsa1),
        token_of(Signer::Rsa1, "PS256", r#"{"alg":"PS256","kid":"Rsa1"}"#, &good_claims().to_string()),
        nameless(Signer::P256),
    ]
}

#[test]
fn what_is_not_three_parts_of_base64url_is_malformed() {
    let token = String::from_utf8(good(Signer::P256)).unwrap();
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let rows = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b.c".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{claims}.{signature}."),
        format!(".{header}.{claims}.{signature}"),
        format!("{header}.{claims}..{signature}"),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{header}.{header}.{claims}.{claims}.{signature}"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{signature}=="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}==.{signature}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{header} .{claims}.{signature}"),
        format!("{header}.{claims} .{signature}"),
        format!("{header}.{claims}\r\n.{signature}"),
        format!("{token}\0"),
        format!("{token}AAA"),
        format!("{header}.{claims}é.{signature}"),
        format!("{header}.{claims}.+/{}", &signature[2..]),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{}.{claims}.{signature}", encode(b"\xff\xfe")),
        format!("{}.{claims}.{signature}", encode("[]")),
        format!("{}.{claims}.{signature}", encode("{}x")),
        format!("{}.{claims}.{signature}", encode("[".repeat(5000))),
        format!("{}.{claims}.{signature}", encode(r#"{"a":"#.repeat(1000))),
        json!({"payload": claims, "protected": header, "signature": signature}).to_string(),
    ];
    for row in rows {
        assert_eq!(verdict(&settings(), "tenant_id", row.as_bytes(), at(0.0)), Err(TokenFault::Malformed), "{row}");
    }
    // More letters behind a signature are a longer signature.
    for more in ["A", "AA", "AAAA", "AAAAA"] {
        check(&settings(), format!("{token}{more}"), Err("signature"));
    }
    check(&settings(), [&[0xff, 0xfe][..], token.as_bytes()].concat(), Err("malformed"));
}

#[test]
fn a_token_cut_anywhere_is_refused() {
    for token in good_tokens() {
        for length in 0..token.len() {
            let cut = &token[..length];
            assert!(verdict(&settings(), "tenant_id", cut, at(0.0)).is_err(), "cut to {length}");
        }
    }
}

#[test]
fn a_signature_of_any_other_length_is_refused() {
    for signer in [Signer::P256, Signer::P384, Signer::Ed25519, Signer::Secret, Signer::Rsa1] {
        let text = format!("{}.{}", encode(header(signer).to_string()), encode(good_claims().to_string()));
        let real = signer.sign(signer.algorithm(), text.as_bytes());
        for length in [1, 2, 31, 32, 33, 48, 63, 64, 65, 95, 96, 97, 255, 256, 257, 512, 4096] {
            if length != real.len() {
                let mut other = real.clone();
                other.resize(length, 0);
                check(&settings(), format!("{text}.{}", encode(other)), Err("signature"));
            }
        }
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            check(&settings(), format!("{text}.{}", encode(vec![byte; real.len()])), Err("signature"));
        }
        // r or s of zero, and the group's order, are no numbers of a signature.
        let half = real.len() / 2;
        for (r, s) in [(vec![0; half], real[half..].to_vec()), (real[..half].to_vec(), vec![0; half])] {
            check(&settings(), format!("{text}.{}", encode([r, s].concat())), Err("signature"));
        }
    }
    // DER, as Envoy has it, is no signature of a token.
    let text = format!("{}.{}", encode(header(Signer::P256).to_string()), encode(good_claims().to_string()));
    let raw = p256::ecdsa::Signature::from_slice(&Signer::P256.sign("ES256", text.as_bytes())).unwrap();
    check(&settings(), format!("{text}.{}", encode(raw.to_der().as_bytes())), Err("signature"));
}

#[test]
fn a_long_token_is_refused_before_any_work() {
    let padded = |length: usize| {
        let claims = but(good_claims(), json!({"pad": "x".repeat(length)}));
        token(Signer::P256, &header(Signer::P256), &claims)
    };
    let fits = padded(11_000);
    assert!(fits.len() < MAX_TOKEN_BYTES && fits.len() > MAX_TOKEN_BYTES - 2000);
    check(&settings(), fits, Ok("acme"));
    check(&settings(), padded(13_000), Err("malformed"));
    check(&settings(), padded(1 << 20), Err("malformed"));
    for filling in [b'A', b'.', b' ', 0] {
        check(&settings(), vec![filling; 1 << 20], Err("malformed"));
    }
    check(&settings(), ".A".repeat(MAX_TOKEN_BYTES / 2), Err("malformed"));
}

#[test]
fn without_any_key_nothing_passes() {
    let remote = json!({"cluster": "idp", "path": "/keys"});
    let waiting = but(settings(), json!({"jwks": remote}));
    check(&waiting, good(Signer::Rsa1), Err("unknown_key"));
    check(&waiting, token(Signer::Rsa1, &json!({"alg": "RS256"}), &good_claims()), Err("unknown_key"));
    check(&waiting, good(Signer::Secret), Ok("acme"));
}

/// A change to a token's bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Double(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    // Letters of a token more often than others: those get furthest.
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(&b"ABCDEFxyz0189-_.=%, "[..])];
    prop_oneof![
        (index(), byte()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (index(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        index().prop_map(Change::Remove),
        (index(), index()).prop_map(|(one, other)| Change::Swap(one, other)),
        (index(), index()).prop_map(|(from, to)| Change::Double(from, to)),
    ]
}

fn apply(token: &mut Vec<u8>, change: &Change) {
    if token.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => {
            let at = at.index(token.len());
            token[at] = *byte;
        }
        Change::Insert(at, byte) => token.insert(at.index(token.len() + 1), *byte),
        Change::Remove(at) => {
            token.remove(at.index(token.len()));
        }
        Change::Swap(one, other) => {
            let length = token.len();
            token.swap(one.index(length), other.index(length));
        }
        Change::Double(from, to) => {
            let part = token[from.index(token.len())..].to_vec();
            token.splice(to.index(token.len()).., part);
        }
    }
}

/// Any JSON value, and more often than others those that nearly fit.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (NOW - 400..NOW + 400).prop_map(Value::from),
        (0..1u64 << 53).prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(&["api", "web", "acme", "https://issuer.example.com", ""][..]).prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{0,3}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_token_is_never_taken(which in 0..7usize, changes in prop::collection::vec(change(), 1..6)) {
        let good = good_tokens().swap_remove(which);
        let mut token = good.clone();
        for change in &changes {
            apply(&mut token, change);
        }
        prop_assume!(token != good);
        prop_assert!(verdict(&settings(), "tenant_id", &token, at(0.0)).is_err());
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(verdict(&settings(), "tenant_id", &bytes, at(0.0)).is_err());
    }

    #[test]
    fn any_header_and_signature_are_judged(header in "\\PC{0,80}", claims in "\\PC{0,80}", signature in prop::collection::vec(any::<u8>(), 1..300)) {
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode(signature));
        prop_assert!(verdict(&settings(), "tenant_id", token.as_bytes(), at(0.0)).is_err());
    }

    #[test]
    fn any_claims_that_are_signed_are_judged(
        names in prop::collection::vec(prop::sample::select(&["exp", "nbf", "iat", "iss", "aud", "tenant_id"][..]), 0..4),
        values in prop::collection::vec(value(), 4),
    ) {
        let mut claims = good_claims();
        for (name, value) in names.iter().zip(values) {
            claims[name] = value;
        }
        let token = token(Signer::Secret, &header(Signer::Secret), &claims);
        if let Ok(verified) = verdict(&settings(), "tenant_id", &token, at(0.0)) {
            prop_assert!(verified.from <= at(0.0) && at(0.0) < verified.until);
            let claim = &claims["tenant_id"];
            let text = claim.as_str().map_or_else(|| claim.as_f64().unwrap().to_string(), str::to_owned);
            prop_assert_eq!(verified.tenant.as_str(), text);
        }
    }

    #[test]
    fn any_signature_of_the_right_length_is_judged(which in 0..3usize, mut signature in prop::collection::vec(any::<u8>(), 256), zeros in 0..40usize) {
        let signer = [Signer::P256, Signer::P384, Signer::Ed25519][which];
        signature.truncate(if signer == Signer::P384 { 96 } else { 64 });
        signature[..zeros].fill(0);
        let text = format!("{}.{}", encode(header(signer).to_string()), encode(good_claims().to_string()));
        let token = format!("{text}.{}", encode(signature));
        prop_assert_eq!(verdict(&settings(), "tenant_id", token.as_bytes(), at(0.0)), Err(TokenFault::Signature));
    }

    #[test]
    fn any_bytes_are_read_as_a_key_set_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _ = envoy_tenancy::jwt::KeySet::read(&bytes);
        let mut set = key_set(&[Signer::P256, Signer::Rsa1, Signer::Ed25519]).to_string().into_bytes();
        let at = at.index(set.len());
        set[at] = byte;
        let _ = envoy_tenancy::jwt::KeySet::read(&set);
    }
}
