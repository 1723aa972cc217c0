//! Tokens where only real Envoy can show it: its own cryptography, its own jwt_authn, and keys that change under traffic.

use std::time::{Duration, Instant, SystemTime};

use envoy_tenancy::config::{ClaimName, Jwt};
use envoy_tenancy::jwt::{InWasm, Tokens};
use serde_json::{Value, json};
use upstream::Upstream;

use crate::bootstrap::{Bootstrap, structure};
use crate::curl;
use crate::envoy::{Envoy, EnvoyWorld, needed, refusing};
use crate::scenarios::make::{Signer, but, good_claims, header, key_set, token, token_of};
use crate::scenarios::world::*;

fn claims(changes: Value) -> Value {
    but(but(good_claims(), json!({"iat": null, "nbf": null, "exp": 4_000_000_000_u64})), changes)
}

fn bearer(token: &[u8]) -> Request {
    get("any.example/").raw_header("authorization", &[b"Bearer ", token].concat())
}

/// A token with its signature changed.
fn with_signature(token: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD as URL, Engine};
    let dot = token.iter().rposition(|byte| *byte == b'.').expect("a token has dots");
    let mut signature = URL.decode(&token[dot + 1..]).expect("it is base64url");
    change(&mut signature);
    [&token[..=dot], URL.encode(signature).as_bytes()].concat()
}

#[test]
fn envoys_cryptography_gives_the_same_verdicts() {
    let signers = [Signer::Rsa1, Signer::Rsa2, Signer::P256, Signer::P384, Signer::Ed25519];
    let settings = json!({
        "jwks": {"inline": key_set(&signers)},
        "algorithms": ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"],
    });
    let mut table = Vec::new();
    for (signer, algorithms) in [
        (Signer::Rsa1, &["RS256", "RS384", "RS512", "PS256"][..]),
        (Signer::Rsa2, &["RS256"]),
        (Signer::P256, &["ES256"]),
        (Signer::P384, &["ES384"]),
        (Signer::Ed25519, &["EdDSA"]),
    ] {
        for algorithm in algorithms {
            let header = json!({"alg": algorithm, "kid": signer.kid()}).to_string();
            let good = token_of(signer, algorithm, &header, &claims(json!({})).to_string());
            table.push(good.clone());
            table.push(with_signature(&good, |signature| signature[0] ^= 1));
            table.push(with_signature(&good, |signature| *signature.last_mut().expect("it isn't empty") ^= 0x80));
            table.push(with_signature(&good, |signature| signature.truncate(1)));
            table.push(with_signature(&good, |signature| signature.truncate(signature.len() - 1)));
            table.push(with_signature(&good, |signature| signature.push(0)));
            table.push(with_signature(&good, |signature| signature.insert(0, 0)));
            table.push(with_signature(&good, |signature| signature.fill(0)));
            table.push(with_signature(&good, |signature| signature.fill(0xff)));
            let half = good.len() / 2;
            table.push(with_signature(&good, |signature| signature.rotate_left(32)));
            table.push([&good[..half], b"A", &good[half..]].concat());
            for other in ["RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA", "HS256", "none"] {
                let header = json!({"alg": other, "kid": signer.kid()}).to_string();
                table.push(token_of(signer, algorithm, &header, &claims(json!({})).to_string()));
            }
        }
    }
    // Signatures with a leading zero in one half, or a short one, come up by chance: many tokens, so that some are among them.
    for number in 0..40 {
        let changes = json!({"jti": number.to_string()});
        for signer in [Signer::P256, Signer::P384] {
            table.push(token(signer, &json!({"alg": signer.algorithm()}), &claims(changes.clone())));
        }
    }
    let jwt = Jwt::from_value(&settings).unwrap_or_else(|faults| panic!("{faults}"));
    let mut here = Tokens::new(&jwt, &ClaimName::default(), |_| None).expect("no secret is needed");
    let world = &mut EnvoyWorld::start(inline(json!({"resolution": "jwt", "jwt": settings})), Directory::default());
    let (mut taken, mut refused) = (0, 0);
    for tokens in table.chunks(16) {
        let requests: Vec<Request> = tokens.iter().map(|token| bearer(token)).collect();
        for (token, outcome) in tokens.iter().zip(world.send_all(&requests)) {
            let token_text = String::from_utf8_lossy(token);
            match here.verify(token, SystemTime::now(), &InWasm) {
                Ok(_) => {
                    outcome.reaches(&[("x-tenant-id", "acme")]);
                    taken += 1;
                }
                Err(fault) => {
                    let reason = outcome.is_refused(401, "UNAUTHORIZED");
                    assert_eq!(reason, json!({"reason": fault.reason()}), "{token_text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken >= 88 && refused >= 100, "{taken} taken, {refused} refused");
}

/// Has Envoy's own filter verify tokens signed by [`Signer::P256`], and leave their claims as `idp`.
pub fn put_jwt_authn_in_front(bootstrap: &mut Value) {
    let filters = bootstrap
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters")
        .and_then(Value::as_array_mut)
        .expect("the bootstrap has filters");
    filters.insert(
        0,
        json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"idp": {
                    "issuer": "https://issuer.example.com",
                    "local_jwks": {"inline_string": key_set(&[Signer::P256]).to_string()},
                    "payload_in_metadata": "idp",
                    "forward": true,
                }},
                "rules": [{
                    "match": {"prefix": "/"},
                    "requires": {"requires_any": {"requirements": [{"provider_name": "idp"}, {"allow_missing": {}}]}},
                }],
            },
        }),
    );
}

#[test]
fn envoys_own_jwt_authn_may_have_verified_the_token() {
    let service = Upstream::start("service").expect("it starts");
    for (claim, changes, names_tenant) in [
        ("tenant_id", json!({"tenant_id": "acme"}), true),
        ("/app/org", json!({"app": {"org": "acme-slug"}}), true),
        ("org", json!({"org": 42}), true),
        ("org", json!({"org": {"id": "acme"}}), false),
        ("org", json!({"org": ""}), false),
        ("org", json!({"org": "a/b"}), false),
        ("org", json!({"org": true}), false),
    ] {
        let mut config = inline(json!({"resolution": "jwt", "jwtClaim": claim, "jwt": {"envoyMetadata": "idp"}}));
        config["tenants"].as_array_mut().expect("a list").push(json!({"id": "42"}));
        let mut bootstrap = Bootstrap {
            wasm: &needed("TENANCY_WASM"),
            configuration: structure(&config),
            service: service.addr,
            directory: refusing(),
            refusing: refusing(),
        }
        .json();
        put_jwt_authn_in_front(&mut bootstrap);
        let envoy = Envoy::start(&bootstrap);
        let status = |request: &Request| curl::send(request, envoy.listener).response().status;
        let signed = token(Signer::P256, &header(Signer::P256), &claims(changes.clone()));
        assert_eq!(status(&bearer(&signed)), if names_tenant { 200 } else { 401 }, "{claim} of {changes}");
        assert_eq!(status(&get("any.example/")), 401);
        // A token that jwt_authn refuses never comes this far.
        let forged = token(Signer::P256Other, &header(Signer::P256), &claims(changes));
        assert_eq!(status(&bearer(&forged)), 401);
    }
}

#[test]
fn keys_rotate_under_traffic() {
    let jwks = json!({"cluster": "directory", "path": "/jwks", "refreshSeconds": 10, "timeoutMs": 500});
    let config = looked_up(json!({"resolution": "jwt", "jwt": {"jwks": jwks, "algorithms": ["ES256", "ES384"]}}));
    let publish = |signers: &[Signer]| Reply::json(&key_set(signers));
    let directory = Directory::of(&tenants()).with("/jwks", publish(&[Signer::P256]));
    let world = &mut EnvoyWorld::start(config, directory);
    let signed = |signer: Signer, number: u32| {
        bearer(&token(signer, &header(signer), &claims(json!({"jti": number.to_string()}))))
    };
    // Every token is a new one, so that none is remembered from before.
    let mut number = 0;
    let mut traffic = |world: &mut EnvoyWorld, signer: Signer, time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            number += 1;
            world.send(&signed(signer, number)).reaches(&[("x-tenant-id", "acme")]);
        }
    };
    traffic(world, Signer::P256, Duration::from_secs(1));
    world.script("/jwks", publish(&[Signer::P256, Signer::P384]));
    traffic(world, Signer::P256, Duration::from_millis(500));
    // The issuer signs with the new key from now on, and old tokens are still about.
    traffic(world, Signer::P384, Duration::from_secs(1));
    traffic(world, Signer::P256, Duration::from_millis(500));
    world.script("/jwks", publish(&[Signer::P384]));
    let withdrawn = Instant::now();
    while withdrawn.elapsed() < Duration::from_secs(13) {
        traffic(world, Signer::P384, Duration::from_millis(500));
    }
    for number in 0..8 {
        world.send(&signed(Signer::P256, number)).is_refused(401, "UNAUTHORIZED");
    }
    traffic(world, Signer::P384, Duration::from_millis(500));
}
