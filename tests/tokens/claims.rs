//! What a token must say, once its signature is good.

use envoy_tenancy::jwt::tenant_in_metadata;
use serde_json::{Value, json};

use crate::make::{Signer, header, token, token_of};
use crate::{NOW, at, but, check, check_at, good_claims, settings, verdict};

fn with(changes: Value) -> Vec<u8> {
    token(Signer::P256, &header(Signer::P256), &but(good_claims(), changes))
}

/// A token whose claims are good, and one more, as text.
fn and(name: &str, value: &str) -> Vec<u8> {
    let claims = but(good_claims(), json!({name: null})).to_string();
    let claims = format!(r#"{},"{name}":{value}}}"#, claims.strip_suffix('}').unwrap());
    token_of(Signer::P256, "ES256", &header(Signer::P256).to_string(), &claims)
}

#[test]
fn a_token_holds_to_the_very_second() {
    let skew = |seconds: u64| but(settings(), json!({"clockSkewSeconds": seconds}));
    let expires = |seconds: f64| and("exp", &(NOW as f64 + seconds).to_string());
    let (none, default) = (skew(0), settings());
    check(&none, expires(1.0), Ok("acme"));
    check(&none, expires(0.0), Err("expired"));
    check(&none, expires(0.5), Ok("acme"));
    check(&none, expires(-1.0), Err("expired"));
    check_at(&none, expires(1.0), at(0.999), Ok("acme"));
    check_at(&none, expires(1.0), at(1.0), Err("expired"));
    check_at(&default, expires(1.0), at(30.999), Ok("acme"));
    check_at(&default, expires(1.0), at(31.0), Err("expired"));
    for name in ["nbf", "iat"] {
        let from = |seconds: u64| with(json!({name: NOW + seconds}));
        check(&none, from(0), Ok("acme"));
        check(&none, from(1), Err("not_yet_valid"));
        check_at(&none, from(1), at(0.999), Err("not_yet_valid"));
        check_at(&none, from(1), at(1.0), Ok("acme"));
        check(&default, from(30), Ok("acme"));
        check(&default, from(31), Err("not_yet_valid"));
        check(&default, with(json!({name: null})), Ok("acme"));
    }
    let verified = verdict(&default, "tenant_id", &with(json!({})), at(0.0)).unwrap();
    assert_eq!((verified.from, verified.until), (at(-40.0), at(330.0)));
}

#[test]
fn a_date_is_a_number_of_seconds() {
    check(&settings(), with(json!({"exp": null})), Err("no_expiry"));
    for name in ["exp", "nbf", "iat"] {
        for bad in ["null", "true", "\"1900000000\"", "[1900000000]", "{}", "1e300", "253402300800", "1800000300000"] {
            check(&settings(), and(name, bad), Err("malformed"));
        }
        check(&settings(), and(name, "1e400"), Err("malformed"));
    }
    check(&settings(), and("exp", "253402300799"), Ok("acme"));
    check(&settings(), and("exp", "1.8000003e9"), Ok("acme"));
    check(&settings(), and("exp", "0"), Err("expired"));
    check(&settings(), and("exp", "-1"), Err("expired"));
    check(&settings(), and("exp", "-1e300"), Err("expired"));
    check(&settings(), and("nbf", "-5"), Ok("acme"));
    check(&settings(), and("iat", "0.5"), Ok("acme"));
}

#[test]
fn the_issuer_is_the_one_given() {
    for issuer in [
        json!("https://issuer.example.com/"),
        json!("https://ISSUER.example.com"),
        json!(""),
        json!(7),
        json!(["https://issuer.example.com"]),
    ] {
        check(&settings(), with(json!({"iss": issuer})), Err("issuer"));
    }
    check(&settings(), with(json!({"iss": null})), Err("issuer"));
    let any = but(settings(), json!({"issuer": null}));
    check(&any, with(json!({"iss": "https://else.example.com"})), Ok("acme"));
    check(&any, with(json!({"iss": null})), Ok("acme"));
}

#[test]
fn one_audience_is_one_of_those_given() {
    let rows = [
        (json!("api"), Ok("acme")),
        (json!("web"), Ok("acme")),
        (json!(["other", "web"]), Ok("acme")),
        (json!(["api"]), Ok("acme")),
        (json!("API"), Err("audience")),
        (json!("api "), Err("audience")),
        (json!("api web"), Err("audience")),
        (json!(["other"]), Err("audience")),
        (json!([]), Err("audience")),
        (json!(""), Err("audience")),
        (json!(["api", 7]), Err("audience")),
        (json!({"api": true}), Err("audience")),
        (json!(7), Err("audience")),
    ];
    for (audience, expected) in rows {
        check(&settings(), with(json!({"aud": audience})), expected);
    }
    check(&settings(), with(json!({"aud": null})), Err("audience"));
    check(&settings(), and("aud", "null"), Err("audience"));
    let any = but(settings(), json!({"audiences": null}));
    check(&any, with(json!({"aud": "somebody else"})), Ok("acme"));
    check(&any, with(json!({"aud": null})), Ok("acme"));
    check(&any, with(json!({"aud": 7})), Err("audience"));
}

#[test]
fn the_claim_is_an_identifier_or_a_whole_number() {
    let rows = [
        (r#""acme""#, Ok("acme")),
        (r#""a.b_c-D""#, Ok("a.b_c-D")),
        (r#""\u0061cme""#, Ok("acme")),
        ("0", Ok("0")),
        ("42", Ok("42")),
        ("42.0", Ok("42")),
        ("18446744073709551615", Ok("18446744073709551615")),
        ("18446744073709551616", Err("claim")),
        ("-1", Err("claim")),
        ("1.5", Err("claim")),
        (r#""""#, Err("claim")),
        (r#"" acme""#, Err("claim")),
        (r#""acme\n""#, Err("claim")),
        (r#""acme/../globex""#, Err("claim")),
        (r#"".."#, Err("malformed")),
        (r#""..""#, Err("claim")),
        (r#""acmé""#, Err("claim")),
        (r#""acme,globex""#, Err("claim")),
        ("null", Err("claim")),
        ("true", Err("claim")),
        (r#"["acme"]"#, Err("claim")),
        (r#"{"id":"acme"}"#, Err("claim")),
    ];
    for (value, expected) in rows {
        check(&settings(), and("tenant_id", value), expected);
    }
    check(&settings(), with(json!({"tenant_id": "a".repeat(129)})), Err("claim"));
    check(&settings(), with(json!({"tenant_id": null})), Err("claim"));
    check(&settings(), with(json!({"tenant_id": null, "TENANT_ID": "acme", "tenantId": "acme"})), Err("claim"));
}

#[test]
fn the_claim_s_name_is_taken_as_it_is_or_as_a_pointer() {
    let claims = json!({
        "https://acme.example/tenant": "url", "realm.tenant": "dotted", "a/b": "slash", "~": "tilde",
        "realm": {"tenant": "nested", "a/b": "inner", "list": [{"id": "first"}, {"id": "second"}]}, "tenant_id": {"id": 7},
    });
    let token = with(claims);
    let rows = [
        ("https://acme.example/tenant", Ok("url")),
        ("realm.tenant", Ok("dotted")),
        ("a/b", Ok("slash")),
        ("~", Ok("tilde")),
        ("/realm.tenant", Ok("dotted")),
        ("/realm/tenant", Ok("nested")),
        ("/realm/a~1b", Ok("inner")),
        ("/a~1b", Ok("slash")),
        ("/~0", Ok("tilde")),
        ("/realm/list/1/id", Ok("second")),
        ("/realm/list/01/id", Err("claim")),
        ("/realm/list/+1/id", Err("claim")),
        ("/realm/list/2/id", Err("claim")),
        ("/realm/list/-/id", Err("claim")),
        ("/realm", Err("claim")),
        ("/realm/tenant/x", Err("claim")),
        ("/tenant_id/id", Ok("7")),
        ("tenant_id", Err("claim")),
        ("absent", Err("claim")),
    ];
    for (claim, expected) in rows {
        let found = verdict(&settings(), claim, &token, at(0.0));
        let found = found.as_ref().map(|verified| verified.tenant.as_str()).map_err(|fault| fault.reason());
        assert_eq!(found, expected, "{claim}");
    }
}

#[test]
fn a_name_that_occurs_twice_makes_a_token_mean_two_things() {
    check(&settings(), and("sub\":1,\"sub", "2"), Err("malformed"));
    check(&settings(), and("tenant_id\":\"globex\",\"tenant\\u005fid", "\"acme\""), Err("malformed"));
    check(&settings(), and("deep", r#"{"a":1,"a":2}"#), Err("malformed"));
    let claims = good_claims().to_string();
    let twice = r#"{"alg":"ES256","kid":"P256","kid":"P256"}"#;
    check(&settings(), token_of(Signer::P256, "ES256", twice, &claims), Err("malformed"));
}

#[test]
fn claims_are_an_object() {
    for claims in ["[]", "7", "\"acme\"", "null", "", "{", "{}{}", "{} x", "\u{feff}{}", "eyJ0ZW5hbnRfaWQiOiJhY21lIn0"]
    {
        let token = token_of(Signer::P256, "ES256", &header(Signer::P256).to_string(), claims);
        check(&settings(), token, Err("malformed"));
    }
}

#[test]
fn a_claim_in_envoy_s_metadata_is_text_or_a_double() {
    let rows: [(&[u8], Result<&str, &str>); 11] = [
        (b"acme", Ok("acme")),
        (b"globex12", Ok("globex12")),
        (&42f64.to_le_bytes(), Ok("42")),
        (&0f64.to_le_bytes(), Ok("0")),
        (&9_007_199_254_740_992f64.to_le_bytes(), Ok("9007199254740992")),
        (&1.5f64.to_le_bytes(), Err("claim")),
        (&(-1f64).to_le_bytes(), Err("claim")),
        (&f64::NAN.to_le_bytes(), Err("claim")),
        (b"", Err("claim")),
        (b"\x01", Err("claim")),
        (b"a/b", Err("claim")),
    ];
    for (property, expected) in rows {
        let found = tenant_in_metadata(property);
        assert_eq!(found.as_ref().map(|id| id.as_str()).map_err(|fault| fault.reason()), expected, "{property:?}");
    }
}
