//! Which key may have signed what.

use envoy_tenancy::jwt::TokenFault;
use jwt_simple::prelude::*;
use serde_json::{Value, json};

use crate::make::{ED25519, ES256, ES384, RSA_1, Signer, good, header, hmac, key_set, signed_by, token, token_of};
use crate::{NOW, SECRET, at, but, check, good_claims, settings, verdict};

/// jwt-simple's own way to sign, with the claims of a good token.
fn jwt_simple_claims() -> JWTClaims<Value> {
    let mut claims = Claims::with_custom_claims(json!({"tenant_id": "acme"}), Duration::from_mins(5))
        .with_issuer("https://issuer.example.com")
        .with_audiences(HashSet::from_strings(&["web", "other"]));
    claims.issued_at = Some(UnixTimeStamp::from_secs(NOW));
    claims.invalid_before = Some(UnixTimeStamp::from_secs(NOW));
    claims.expires_at = Some(UnixTimeStamp::from_secs(NOW + 300));
    claims
}

#[test]
fn what_jwt_simple_signs_is_taken_with_every_algorithm() {
    let claims = jwt_simple_claims;
    let secret = SECRET.as_bytes();
    let rows = [
        ("RS256", RS256KeyPair::from_pem(RSA_1).unwrap().with_key_id("Rsa1").sign(claims())),
        ("RS384", RS384KeyPair::from_pem(RSA_1).unwrap().with_key_id("Rsa1").sign(claims())),
        ("RS512", RS512KeyPair::from_pem(RSA_1).unwrap().with_key_id("Rsa1").sign(claims())),
        ("PS256", PS256KeyPair::from_pem(RSA_1).unwrap().with_key_id("Rsa1").sign(claims())),
        ("PS384", PS384KeyPair::from_pem(RSA_1).unwrap().with_key_id("Rsa1").sign(claims())),
        ("PS512", PS512KeyPair::from_pem(RSA_1).unwrap().sign(claims())),
        ("ES256", ES256.sign(claims())),
        ("ES384", ES384.sign(claims())),
        ("EdDSA", ED25519.sign(claims())),
        ("HS256", HS256Key::from_bytes(secret).authenticate(claims())),
        ("HS384", HS384Key::from_bytes(secret).authenticate(claims())),
        ("HS512", HS512Key::from_bytes(secret).with_key_id("any").authenticate(claims())),
    ];
    for (algorithm, token) in rows {
        let token = token.unwrap();
        check(&settings(), &token, Ok("acme"));
        check(
            &but(
                settings(),
                json!({"algorithms": [algorithm], "jwks": jwks_for(algorithm), "secret": secret_for(algorithm)}),
            ),
            &token,
            Ok("acme"),
        );
        let other = if algorithm.starts_with("HS") {
            json!({"algorithms": ["RS256"], "secret": null})
        } else {
            json!({"algorithms": ["HS256"], "jwks": null})
        };
        check(&but(settings(), other), &token, Err("algorithm"));
    }
}

fn jwks_for(algorithm: &str) -> Value {
    if algorithm.starts_with("HS") { Value::Null } else { settings()["jwks"].clone() }
}

fn secret_for(algorithm: &str) -> Value {
    if algorithm.starts_with("HS") { settings()["secret"].clone() } else { Value::Null }
}

#[test]
fn every_signer_is_taken_with_and_without_a_kid() {
    let settings = but(
        settings(),
        json!({"jwks": {"inline": key_set(&[Signer::Rsa1, Signer::Rsa2, Signer::P256Other, Signer::P256, Signer::P384, Signer::Ed25519])}}),
    );
    for signer in
        [Signer::Rsa1, Signer::Rsa2, Signer::P256, Signer::P256Other, Signer::P384, Signer::Ed25519, Signer::Secret]
    {
        check(&settings, good(signer), Ok("acme"));
        check(&settings, token(signer, &but(header(signer), json!({"kid": null})), &good_claims()), Ok("acme"));
    }
    let ed25519 = but(header(Signer::Ed25519), json!({"alg": "Ed25519"}));
    check(&settings, token(Signer::Ed25519, &ed25519, &good_claims()), Ok("acme"));
}

#[test]
fn an_algorithm_that_is_not_listed_is_refused_in_every_spelling() {
    let claims = good_claims().to_string();
    for none in ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS1", "ES256K", "ES512", "RSA-OAEP", "dir"] {
        let header = json!({"alg": none, "kid": "Rsa1"}).to_string();
        check(&settings(), token_of(Signer::Rsa1, "RS256", &header, &claims), Err("algorithm"));
    }
    // Without any signature it isn't even a signed token.
    let unsigned = signed_by(r#"{"alg":"none"}"#, &claims, |_| Vec::new());
    check(&settings(), unsigned, Err("malformed"));
    for header in
        [r#"{"kid":"Rsa1"}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#, r#"{"alg":256}"#, r#"{"ALG":"RS256"}"#]
    {
        check(&settings(), token_of(Signer::Rsa1, "RS256", header, &claims), Err("algorithm"));
    }
    let only = but(settings(), json!({"algorithms": ["ES256"], "secret": null}));
    check(&only, good(Signer::Rsa1), Err("algorithm"));
    check(&only, good(Signer::P256), Ok("acme"));
}

#[test]
fn a_public_key_is_no_secret() {
    let claims = good_claims().to_string();
    let public = RS256KeyPair::from_pem(RSA_1).unwrap().public_key();
    let pem = public.to_pem().unwrap();
    let rsa_alone = but(settings(), json!({"algorithms": ["RS256"], "secret": null}));
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), &public.to_der().unwrap(), public.to_jwk().as_bytes(), b""] {
        for header in [r#"{"alg":"HS256","kid":"Rsa1"}"#, r#"{"alg":"HS256"}"#] {
            let forged = signed_by(header, &claims, |text| hmac(secret, "HS256", text));
            check(&settings(), &forged, Err("signature"));
            check(&rsa_alone, &forged, Err("algorithm"));
        }
    }
}

#[test]
fn a_signature_is_good_for_its_own_algorithm_alone() {
    let claims = good_claims().to_string();
    let rows = [
        (Signer::Rsa1, "RS256", "RS384", "signature"),
        (Signer::Rsa1, "RS256", "RS512", "signature"),
        (Signer::Rsa1, "RS256", "PS256", "signature"),
        (Signer::Rsa1, "PS256", "RS256", "signature"),
        (Signer::Rsa1, "PS256", "PS384", "signature"),
        (Signer::Rsa1, "RS256", "ES256", "algorithm"),
        (Signer::Rsa1, "RS256", "EdDSA", "algorithm"),
        (Signer::Rsa1, "RS256", "HS256", "signature"),
        (Signer::P256, "ES256", "ES384", "algorithm"),
        (Signer::P256, "ES256", "RS256", "algorithm"),
        (Signer::P256, "ES256", "EdDSA", "algorithm"),
        (Signer::P384, "ES384", "ES256", "algorithm"),
        (Signer::Ed25519, "EdDSA", "ES256", "algorithm"),
        (Signer::Secret, "HS256", "HS384", "signature"),
        (Signer::Secret, "HS512", "HS256", "signature"),
    ];
    for (signer, real, label, reason) in rows {
        let header = json!({"alg": label, "kid": signer.kid()}).to_string();
        check(&settings(), token_of(signer, real, &header, &claims), Err(reason));
    }
}

#[test]
fn a_key_is_found_by_its_kid_alone_where_the_token_gives_one() {
    let claims = good_claims();
    let with_kid = |signer: Signer, kid: &str| token(signer, &json!({"alg": signer.algorithm(), "kid": kid}), &claims);
    check(&settings(), with_kid(Signer::Rsa2, "Rsa2"), Err("unknown_key"));
    check(&settings(), with_kid(Signer::Rsa1, "rsa1"), Err("unknown_key"));
    check(&settings(), with_kid(Signer::Rsa1, ""), Err("unknown_key"));
    check(&settings(), with_kid(Signer::Rsa1, "../../keys"), Err("unknown_key"));
    check(&settings(), with_kid(Signer::Rsa2, "Rsa1"), Err("signature"));
    check(&settings(), with_kid(Signer::P256Other, "P256"), Err("signature"));
    check(&settings(), with_kid(Signer::P256, "Rsa1"), Err("algorithm"));
    for kid in ["7", "null", "[\"Rsa1\"]", "{}"] {
        let header = format!(r#"{{"alg":"RS256","kid":{kid}}}"#);
        check(&settings(), token_of(Signer::Rsa1, "RS256", &header, &claims.to_string()), Err("malformed"));
    }
    // A key that has no kid is none for a token that gives one.
    let nameless = but(settings(), json!({"jwks": {"inline": {"keys": [Signer::Rsa1.jwk()]}}}));
    check(&nameless, good(Signer::Rsa1), Err("unknown_key"));
    check(&nameless, token(Signer::Rsa1, &json!({"alg": "RS256"}), &claims), Ok("acme"));
    check(&nameless, token(Signer::P256, &json!({"alg": "ES256"}), &claims), Err("unknown_key"));
}

#[test]
fn a_newer_key_set_may_help_where_a_key_may_be_missing() {
    let fault = |signer: Signer, header: &Value| {
        verdict(&settings(), "tenant_id", &token(signer, header, &good_claims()), at(0.0)).unwrap_err()
    };
    let unknown = fault(Signer::Rsa2, &header(Signer::Rsa2));
    let nameless = fault(Signer::Rsa2, &json!({"alg": "RS256"}));
    let wrong = fault(Signer::Rsa2, &json!({"alg": "RS256", "kid": "Rsa1"}));
    assert_eq!(
        (unknown, nameless, wrong),
        (TokenFault::UnknownKey, TokenFault::SignatureOfNoKey, TokenFault::Signature)
    );
    assert!(unknown.newer_keys_may_help() && nameless.newer_keys_may_help() && !wrong.newer_keys_may_help());
}

#[test]
fn keys_that_share_a_kid_are_each_tried() {
    let share = |signer: Signer| but(signer.jwk(), json!({"kid": "same"}));
    let keys = [share(Signer::Rsa1), share(Signer::P256Other), share(Signer::P256), share(Signer::Rsa2)];
    let settings = but(settings(), json!({"jwks": {"inline": {"keys": keys}}}));
    for signer in [Signer::Rsa1, Signer::Rsa2, Signer::P256, Signer::P256Other] {
        let token = token(signer, &json!({"alg": signer.algorithm(), "kid": "same"}), &good_claims());
        check(&settings, token, Ok("acme"));
    }
    let stranger = token(Signer::P384, &json!({"alg": "ES384", "kid": "same"}), &good_claims());
    check(&settings, stranger, Err("algorithm"));
}

#[test]
fn only_some_keys_are_tried_on_one_token() {
    let settings = |ours_at: usize| {
        let mut keys = vec![Signer::P256Other.jwk(); 20];
        keys[ours_at] = Signer::P256.jwk();
        but(settings(), json!({"jwks": {"inline": {"keys": keys}}}))
    };
    let token = token(Signer::P256, &json!({"alg": "ES256"}), &good_claims());
    check(&settings(15), &token, Ok("acme"));
    check(&settings(16), &token, Err("signature"));
}

#[test]
fn a_key_that_says_its_algorithm_is_for_no_other() {
    let bound = but(Signer::Rsa1.jwk(), json!({"kid": "Rsa1", "alg": "PS256", "use": "sig", "key_ops": ["verify"]}));
    let settings = but(settings(), json!({"jwks": {"inline": {"keys": [bound]}}}));
    let with = |algorithm: &str| token(Signer::Rsa1, &json!({"alg": algorithm, "kid": "Rsa1"}), &good_claims());
    check(&settings, with("PS256"), Ok("acme"));
    check(&settings, with("RS256"), Err("algorithm"));
    check(&settings, with("PS384"), Err("algorithm"));
}

#[test]
fn a_key_inside_the_token_is_never_used() {
    let chain = json!(["MIIB"]);
    let inside = json!({
        "jwk": Signer::Rsa2.jwk(), "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/chain.pem",
        "x5c": chain, "x5t": "AAAA", "x5t#S256": "AAAA",
    });
    for (name, value) in inside.as_object().unwrap() {
        let one = |kid: Value| json!({"alg": "RS256", "kid": kid, name: value});
        check(&settings(), token(Signer::Rsa2, &one(json!("Rsa1")), &good_claims()), Err("signature"));
        check(
            &settings(),
            token(Signer::Rsa2, &but(one(json!("")), json!({"kid": null})), &good_claims()),
            Err("signature"),
        );
        // With a good signature it does no harm: it is just not looked at.
        check(&settings(), token(Signer::Rsa1, &one(json!("Rsa1")), &good_claims()), Ok("acme"));
    }
}

#[test]
fn what_must_be_understood_is_refused() {
    let claims = good_claims().to_string();
    for extension in [
        r#""crit":["exp"]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":["http://example.invalid/UNDEFINED"],"http://example.invalid/UNDEFINED":true"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"Rsa1",{extension}}}"#);
        check(&settings(), token_of(Signer::Rsa1, "RS256", &header, &claims), Err("critical"));
    }
}

#[test]
fn a_token_of_another_kind_is_refused() {
    let claims = good_claims().to_string();
    let rows = [
        (r#""JWT""#, Ok("acme")),
        (r#""jwt""#, Ok("acme")),
        (r#""at+jwt""#, Ok("acme")),
        (r#""application/at+JWT""#, Ok("acme")),
        (r#""application/jwt""#, Ok("acme")),
        (r#""logout+jwt""#, Err("type")),
        (r#""secevent+jwt""#, Err("type")),
        (r#""dpop+jwt""#, Err("type")),
        (r#""JOSE""#, Err("type")),
        (r#""""#, Err("type")),
        ("null", Err("type")),
        ("7", Err("type")),
    ];
    for (typ, expected) in rows {
        let header = format!(r#"{{"alg":"RS256","kid":"Rsa1","typ":{typ}}}"#);
        check(&settings(), token_of(Signer::Rsa1, "RS256", &header, &claims), expected);
    }
    check(&settings(), token_of(Signer::Rsa1, "RS256", r#"{"alg":"RS256","kid":"Rsa1"}"#, &claims), Ok("acme"));
}
