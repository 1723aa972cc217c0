//! Tokens on their way through the whole filter. What becomes of every single kind of token, tests/tokens looks at.

use std::time::Duration;

use serde_json::{Value, json};

use super::make::{Signer, but, encode, good_claims, header, key_set, token};
use super::world::Expect::{NoTenant, Tenant};
use super::world::*;

/// Far enough away for every clock that these scenarios run by.
const FUTURE: u64 = 4_000_000_000;
const PAST: u64 = 1_500_000_000;

fn claims(changes: Value) -> Value {
    but(but(good_claims(), json!({"iat": PAST, "nbf": PAST, "exp": FUTURE})), changes)
}

fn signed(signer: Signer, changes: Value) -> String {
    String::from_utf8(token(signer, &header(signer), &claims(changes))).unwrap()
}

fn jwt(changes: Value) -> Value {
    let settings = json!({
        "jwks": {"inline": key_set(&[Signer::Rsa1, Signer::P256, Signer::P384, Signer::Ed25519])},
        "secret": {"env": SECRET_NAME},
        "issuer": "https://issuer.example.com",
        "audiences": ["api"],
        "algorithms": ["RS256", "PS256", "ES256", "ES384", "EdDSA", "HS256"],
    });
    but(settings, changes)
}

/// Keys from the directory's cluster, for those algorithms alone that need them.
fn remote(refresh: u64) -> Value {
    let jwks = json!({"cluster": "directory", "path": "/jwks", "refreshSeconds": refresh, "timeoutMs": 300});
    jwt(json!({"jwks": jwks, "secret": null, "algorithms": ["RS256", "ES256", "ES384"]}))
}

fn bearer(token: &str) -> Request {
    get("any.example/").header("authorization", &format!("Bearer {token}"))
}

#[track_caller]
fn is_unauthorized(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.is_refused(401, "UNAUTHORIZED"), json!({"reason": reason}));
    let challenge = if reason == "missing" { "Bearer" } else { r#"Bearer error="invalid_token""# };
    assert_eq!(outcome.header("www-authenticate"), [challenge]);
}

pub fn a_claim_names_the_tenant<W: World>() {
    let world = &mut W::start(inline(json!({"resolution": "jwt", "jwt": jwt(json!({}))})), Directory::default());
    for signer in [Signer::Rsa1, Signer::P256, Signer::P384, Signer::Ed25519, Signer::Secret] {
        for _ in 0..3 {
            let token = signed(signer, json!({"tenant_id": "acme-slug"}));
            let outcome = world.send(&bearer(&token));
            let arrived = outcome.reaches(&[("x-tenant-id", "acme")]);
            assert_eq!(arrived.all("authorization"), [format!("Bearer {token}")], "the token goes on as it came");
        }
    }
    let pss = token(Signer::Rsa1, &json!({"alg": "PS256", "kid": "Rsa1"}), &claims(json!({})));
    check(
        world,
        &[
            (bearer(&String::from_utf8(pss).unwrap()), Tenant("acme")),
            (bearer(&signed(Signer::P256, json!({"tenant_id": "globex"}))), Expect::Refused(403, "TENANT_SUSPENDED")),
            (bearer(&signed(Signer::P256, json!({"tenant_id": "nobody"}))), NOT_FOUND),
            (bearer(&signed(Signer::P256, json!({}))).http2(), Tenant("acme")),
        ],
    );

    for (name, claim) in [
        ("org", json!({"org": 42})),
        ("/app/tenants/0", json!({"app": {"tenants": ["42"]}})),
        ("a.b/c", json!({"a.b/c": "42"})),
    ] {
        let config = json!({
            "isolation": {"resolution": "jwt", "jwt": jwt(json!({})), "jwtClaim": name},
            "tenants": [{"id": "42"}],
        });
        let world = &mut W::start(config, Directory::default());
        check(world, &[(bearer(&signed(Signer::P256, claim)), Tenant("42"))]);
        is_unauthorized(&world.send(&bearer(&signed(Signer::P256, json!({})))), "claim");
    }
}

pub fn a_bad_token_is_refused_for_a_reason<W: World>() {
    let isolation = json!({"resolution": ["jwt", "header"], "jwt": jwt(json!({})), "required": false});
    let world = &mut W::start(inline(isolation), Directory::default());
    let by = |header: Value| String::from_utf8(token(Signer::P256, &header, &claims(json!({})))).unwrap();
    let good = signed(Signer::P256, json!({}));
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims(json!({})).to_string()));
    let public_key = key_set(&[Signer::Rsa1])["keys"][0]["n"].as_str().unwrap().to_owned();
    let confused = super::make::signed_by(r#"{"alg":"HS256","kid":"Rsa1"}"#, &claims(json!({})).to_string(), |text| {
        super::make::hmac(public_key.as_bytes(), "HS256", text)
    });
    let rows = [
        (unsigned.clone(), "malformed"),
        (format!("{unsigned}{}", encode("x")), "algorithm"),
        (by(json!({"alg": "None"})), "algorithm"),
        (String::from_utf8(confused).unwrap(), "signature"),
        (by(json!({"alg": "RS256", "kid": "Rsa1"})), "signature"),
        (by(json!({"alg": "ES384", "kid": "P256"})), "algorithm"),
        (by(json!({"alg": "ES256", "kid": "nobody's"})), "unknown_key"),
        (by(json!({"alg": "ES256", "kid": "P256", "crit": ["b64"], "b64": false})), "critical"),
        (by(json!({"alg": "ES256", "kid": "P256Other", "jwk": Signer::P256.jwk()})), "unknown_key"),
        (signed(Signer::P256Other, json!({})), "unknown_key"),
        (signed(Signer::P256, json!({"exp": PAST})), "expired"),
        (signed(Signer::P256, json!({"exp": null})), "no_expiry"),
        (signed(Signer::P256, json!({"nbf": FUTURE})), "not_yet_valid"),
        (signed(Signer::P256, json!({"iss": "https://other.example"})), "issuer"),
        (signed(Signer::P256, json!({"aud": ["web", "other"]})), "audience"),
        (signed(Signer::P256, json!({"tenant_id": ""})), "claim"),
        (signed(Signer::P256, json!({"tenant_id": {"id": "acme"}})), "claim"),
        (signed(Signer::P256, json!({"tenant_id": "a/b"})), "claim"),
        (good[..good.len() - 2].to_owned(), "signature"),
        (good[..good.len() / 2].to_owned(), "malformed"),
        (format!("{good}.x"), "malformed"),
        (format!("{good}="), "malformed"),
        (format!("{good} x"), "malformed"),
        ("x".repeat(20_000), "malformed"),
        (String::new(), "malformed"),
    ];
    for (token, reason) in rows {
        eprintln!("{reason}: {token}");
        let outcome = world.send(&bearer(&token));
        is_unauthorized(&outcome, reason);
        assert!(token.is_empty() || !outcome.body.contains(&token));
        // Whatever another strategy says.
        is_unauthorized(&world.send(&bearer(&token).header("x-tenant-id", "acme")), reason);
    }
    let outcome = world.send(&get("any.example/").raw_header("authorization", b"Bearer \xff\xfe"));
    is_unauthorized(&outcome, "malformed");
    check(
        world,
        &[
            (bearer(&good), Tenant("acme")),
            // A good token that says nothing of a tenant leaves it to the others.
            (bearer(&signed(Signer::P256, json!({"tenant_id": null}))), NoTenant),
            (bearer(&signed(Signer::P256, json!({"tenant_id": null}))).header("x-tenant-id", "hooli"), Tenant("hooli")),
            (bearer(&good).header("authorization", "Bearer x"), AMBIGUOUS),
            (get("any.example/").header("authorization", "Basic YTpi"), NoTenant),
        ],
    );
}

pub fn a_token_and_an_address_have_to_agree<W: World>() {
    let config = |agreement: &str| {
        inline(json!({
            "resolution": ["subdomain", "jwt"], "baseDomain": "app.example.com", "agreement": agreement, "jwt": jwt(json!({})),
        }))
    };
    let with = |host: &str, token: &str| get(&format!("{host}/")).header("authorization", &format!("bearer {token}"));
    let acme = signed(Signer::P256, json!({}));
    let by_slug = signed(Signer::P256, json!({"tenant_id": "acme-slug"}));
    let nameless = signed(Signer::P256, json!({"tenant_id": null}));
    let expired = signed(Signer::P256, json!({"exp": PAST}));
    let unauthorized = Expect::Refused(401, "UNAUTHORIZED");

    check(
        &mut W::start(config("consistent"), Directory::default()),
        &[
            (with("acme.app.example.com", &acme), Tenant("acme")),
            (with("acme.app.example.com", &by_slug), Tenant("acme")),
            (with("hooli.app.example.com", &acme), MISMATCH),
            (with("nobody.app.example.com", &acme), NOT_FOUND),
            (with("acme.app.example.com", &expired), unauthorized),
            (with("any.example", &acme), Tenant("acme")),
            (get("acme.app.example.com/"), Tenant("acme")),
            (get("any.example/"), NOT_FOUND),
        ],
    );
    check(
        &mut W::start(config("unanimous"), Directory::default()),
        &[
            (with("acme.app.example.com", &acme), Tenant("acme")),
            (with("acme.app.example.com", &by_slug), Tenant("acme")),
            (with("hooli.app.example.com", &acme), MISMATCH),
            (with("acme.app.example.com", &expired), unauthorized),
            (with("acme.app.example.com", &nameless), unauthorized),
            (with("any.example", &acme), NOT_FOUND),
            (get("acme.app.example.com/"), unauthorized),
            (get("any.example/"), NOT_FOUND),
        ],
    );
    check(
        &mut W::start(config("first"), Directory::default()),
        &[
            (with("hooli.app.example.com", &acme), Tenant("hooli")),
            (with("any.example", &acme), Tenant("acme")),
            (with("acme.app.example.com", &expired), unauthorized),
        ],
    );
    let alone = inline(json!({"resolution": "jwt", "jwt": jwt(json!({}))}));
    let world = &mut W::start(alone, Directory::default());
    is_unauthorized(&world.send(&get("any.example/")), "missing");
    is_unauthorized(&world.send(&bearer(&nameless)), "claim");
}

pub fn a_token_is_found_where_it_was_said_to_be<W: World>() {
    let good = signed(Signer::P256, json!({}));
    let start = |from: Value| {
        W::start(inline(json!({"resolution": "jwt", "jwt": jwt(json!({"from": from}))})), Directory::default())
    };
    let with = |name: &str, value: String| get("any.example/").header(name, &value);
    let unauthorized = Expect::Refused(401, "UNAUTHORIZED");
    check(
        &mut start(json!({"header": "X-Token"})),
        &[
            (with("x-token", good.clone()), Tenant("acme")),
            (with("x-token", format!("Bearer {good}")), Tenant("acme")),
            (with("authorization", format!("Bearer {good}")), unauthorized),
            (with("x-token", good.clone()).header("x-token", &good), AMBIGUOUS),
        ],
    );
    check(
        &mut start(json!({"cookie": "session"})),
        &[
            (with("cookie", format!("a=b; session={good}; c=d")), Tenant("acme")),
            (with("cookie", format!("SESSION={good}")), unauthorized),
            (with("cookie", format!("session={good}; session={good}")), AMBIGUOUS),
            (with("authorization", format!("Bearer {good}")), unauthorized),
        ],
    );
    check(
        &mut start(json!({"header": "authorization"})),
        &[
            (with("authorization", format!("BEARER {good}")), Tenant("acme")),
            (with("authorization", good.clone()), unauthorized),
            (with("authorization", format!("Basic {good}")), unauthorized),
        ],
    );
}

pub fn keys_come_from_their_source<W: World>() {
    let directory = Directory::of(&tenants()).with("/jwks", Reply::json(&key_set(&[Signer::Rsa1, Signer::P256])));
    let world = &mut W::start(looked_up(json!({"resolution": "jwt", "jwt": remote(10)})), directory);
    // At once: whoever comes before the keys waits for them.
    check(
        world,
        &[
            (bearer(&signed(Signer::Rsa1, json!({}))), Tenant("acme")),
            (bearer(&signed(Signer::P256, json!({"tenant_id": "hooli"}))), Tenant("hooli")),
            (bearer(&signed(Signer::P256Other, json!({}))), Expect::Refused(401, "UNAUTHORIZED")),
            (get("any.example/"), Expect::Refused(401, "UNAUTHORIZED")),
        ],
    );
    // A key that is withdrawn holds until the next refresh, and no longer; a token remembered falls with it.
    let token = bearer(&signed(Signer::P256, json!({})));
    check(world, &[(token.clone(), Tenant("acme"))]);
    world.script("/jwks", Reply::json(&key_set(&[Signer::Rsa1])));
    world.wait(Duration::from_millis(12_500));
    check(
        world,
        &[
            (token.clone(), Expect::Refused(401, "UNAUTHORIZED")),
            (token, Expect::Refused(401, "UNAUTHORIZED")),
            (bearer(&signed(Signer::Rsa1, json!({}))), Tenant("acme")),
        ],
    );
}

pub fn new_keys_are_taken_at_once<W: World>() {
    let directory = Directory::of(&tenants()).with("/jwks", Reply::json(&key_set(&[Signer::Rsa1])));
    let world = &mut W::start(looked_up(json!({"resolution": "jwt", "jwt": remote(3600)})), directory);
    let old = bearer(&signed(Signer::Rsa1, json!({})));
    check(world, &[(old.clone(), Tenant("acme"))]);
    world.wait(Duration::from_millis(1100));
    for (published, signer) in
        [(vec![Signer::Rsa1, Signer::P256], Signer::P256), (vec![Signer::P256, Signer::P384], Signer::P384)]
    {
        world.script("/jwks", Reply::json(&key_set(&published)));
        // The very first token that the new key signs is good, and so are those that come with it.
        let new = bearer(&signed(signer, json!({})));
        for outcome in world.send_all(&vec![new.clone(); 8]) {
            outcome.reaches(&[("x-tenant-id", "acme")]);
        }
        world.wait(Duration::from_millis(1100));
    }
    // Tokens of nobody's keys don't hammer the source, and good ones go on meanwhile.
    let before = world.asked().iter().filter(|asked| asked.path == "/jwks").count();
    let nobodys = bearer(&signed(Signer::P256Other, json!({})));
    for outcome in world.send_all(&vec![nobodys; 20]) {
        is_unauthorized(&outcome, "unknown_key");
    }
    check(world, &[(bearer(&signed(Signer::P384, json!({}))), Tenant("acme"))]);
    let asked = world.asked().iter().filter(|asked| asked.path == "/jwks").count() - before;
    assert!((1..=8).contains(&asked), "{asked} questions for 20 tokens");
}

pub fn a_key_source_that_fails_is_no_answer<W: World>() {
    let token = bearer(&signed(Signer::P256, json!({})));
    let replies = [
        Reply::is(500, ""),
        Reply::is(404, ""),
        Reply::is(200, "<html>"),
        Reply::is(200, r#"{"keys":[]}"#),
        Reply::is(200, &format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(5 << 20))),
        Reply::Never,
    ];
    for reply in replies {
        let directory = Directory::of(&tenants()).with("/jwks", reply);
        let world = &mut W::start(looked_up(json!({"resolution": ["jwt", "header"], "jwt": remote(10)})), directory);
        check(
            world,
            &[
                (token.clone(), UNAVAILABLE),
                (get("any.example/").header("x-tenant-id", "acme"), Tenant("acme")),
                (bearer("x.y"), Expect::Refused(401, "UNAUTHORIZED")),
            ],
        );
    }
    // The keys held before go on while there is no answer.
    let directory = Directory::of(&tenants()).with("/jwks", Reply::json(&key_set(&[Signer::P256])));
    let world = &mut W::start(looked_up(json!({"resolution": "jwt", "jwt": remote(10)})), directory);
    check(world, &[(token.clone(), Tenant("acme"))]);
    world.script("/jwks", Reply::is(503, ""));
    world.wait(Duration::from_millis(12_500));
    check(world, &[(token.clone(), Tenant("acme")), (bearer(&signed(Signer::P384, json!({}))), UNAVAILABLE)]);
    world.script("/jwks", Reply::json(&key_set(&[Signer::P256, Signer::P384])));
    world.wait(Duration::from_millis(4500));
    check(world, &[(bearer(&signed(Signer::P384, json!({}))), Tenant("acme"))]);
}
