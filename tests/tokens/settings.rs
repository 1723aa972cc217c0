//! The settings of the strategy: what is taken, and every fault of what isn't.

use std::time::Duration;

use envoy_tenancy::config::{ClaimName, Jwks, Jwt, RemoteJwks, TokenFrom};
use envoy_tenancy::jwt::Tokens;
use serde_json::{Value, json};

use crate::make::{Signer, key_set};
use crate::{SECRET, but, claim_name, jwt};

const ALGORITHMS: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512";

fn remote() -> Value {
    json!({"jwks": {"cluster": "idp", "path": "/.well-known/jwks.json"}, "algorithms": ["RS256"]})
}

fn faults(settings: &Value) -> Vec<String> {
    jwt(settings).err().unwrap_or_default()
}

fn follows_schema(settings: &Value) -> bool {
    jsonschema::validator_for(&Jwt::json_schema()).expect("the schema is one").is_valid(settings)
}

#[test]
fn what_is_not_given_has_a_default() {
    let jwt = jwt(&remote()).unwrap();
    let Some(Jwks::Remote(keys)) = &jwt.jwks else { panic!("{:?}", jwt.jwks) };
    let expected = RemoteJwks {
        cluster: "idp".to_owned(),
        path: "/.well-known/jwks.json".to_owned(),
        refresh: Duration::from_secs(300),
        stale: Duration::from_secs(86_400),
        timeout: Duration::from_secs(1),
    };
    assert_eq!(*keys, expected);
    assert_eq!(jwt.clock_skew(), Duration::from_secs(30));
    assert!(matches!(&jwt.from, TokenFrom::Header(name) if name.as_str() == "authorization"));
    assert!(jwt.issuer.is_none() && jwt.audiences.0.is_empty() && jwt.envoy_metadata.is_none());
    assert_eq!(ClaimName::default(), claim_name("tenant_id").unwrap());
}

#[test]
fn sound_settings_are_taken() {
    let rows = [
        remote(),
        crate::settings(),
        but(
            remote(),
            json!({"algorithms": "RS256", "audiences": "api", "clockSkewSeconds": 0, "from": {"cookie": "session"}}),
        ),
        but(remote(), json!({"jwks": {"cluster": "c", "path": "/k?x=1", "refreshSeconds": 10, "timeoutMs": 1.0}})),
        json!({"secret": {"env": "S"}, "algorithms": ["HS256"]}),
        json!({"envoyMetadata": "idp"}),
        json!({"jwks": {"inline": key_set(&[Signer::P256])}, "algorithms": ["RS256", "ES256"]}),
        but(remote(), json!({"algorithms": ["Ed25519"]})),
    ];
    for settings in rows {
        assert_eq!(faults(&settings), [""; 0], "{settings}");
        assert!(follows_schema(&settings), "{settings}");
    }
}

#[test]
fn every_fault_has_its_path() {
    let beside = "can't stand beside envoyMetadata: there Envoy's jwt_authn verifies the token";
    let unknown = |name: &str| format!(r#"algorithms[0]: unknown algorithm "{name}", expected one of: {ALGORITHMS}"#);
    let rows: Vec<(Value, Vec<String>)> = vec![
        (json!([]), vec!["expected an object, found a list".into()]),
        (json!({}), vec!["no keys of any kind: give jwks, secret or envoyMetadata".into()]),
        (but(remote(), json!({"algorithms": null})), vec!["algorithms: is missing: say what tokens may be signed with, for example [RS256]".into()]),
        (but(remote(), json!({"algorithms": []})), vec!["algorithms: must not be empty".into()]),
        (but(remote(), json!({"algorithms": ["none"]})), vec![unknown("none")]),
        (but(remote(), json!({"algorithms": ["ES256K"]})), vec![format!("{}; did you mean \"ES256\"?", unknown("ES256K"))]),
        (but(remote(), json!({"algorithms": ["rs256"]})), vec![format!("{}; did you mean \"RS256\"?", unknown("rs256"))]),
        (but(remote(), json!({"algorithms": ["HS256"]})), vec!["secret: is missing: HS256 needs it".into(), "jwks: is of no use: all of algorithms verify with the secret".into()]),
        (but(remote(), json!({"algorithms": ["RS256", "HS512"]})), vec!["secret: is missing: HS512 needs it".into()]),
        (but(remote(), json!({"secret": {"env": "S"}})), vec!["secret: is for HS256, HS384 and HS512, and algorithms has none of them".into()]),
        (json!({"secret": {"env": "S"}, "algorithms": ["ES256"]}), vec!["secret: is for HS256, HS384 and HS512, and algorithms has none of them".into(), "jwks: is missing: ES256 needs it".into()]),
        (json!({"secret": {"env": "S"}, "algorithms": ["HS256", "EdDSA"]}), vec!["jwks: is missing: EdDSA needs it".into()]),
        (json!({"secret": "s3cret", "algorithms": ["HS256"]}), vec![r#"secret: expected an object, found the string "s3cret""#.into()]),
        (json!({"secret": {"env": "hunter 2"}, "algorithms": ["HS256"]}), vec!["secret.env: must be the name of an environment variable, of letters, digits and _".into()]),
        (json!({"secret": {"env": "9S"}, "algorithms": ["HS256"]}), vec!["secret.env: must be the name of an environment variable, of letters, digits and _".into()]),
        (json!({"secret": {}, "algorithms": ["HS256"]}), vec!["secret.env: is missing".into()]),
        (but(remote(), json!({"envoyMetadata": "idp", "issuer": "i", "audiences": "a", "clockSkewSeconds": 1, "from": {"cookie": "c"}})), ["jwks", "issuer", "audiences", "algorithms", "clockSkewSeconds", "from"].map(|key| format!("{key}: {beside}")).into()),
        (json!({"envoyMetadata": "idp", "secret": {"env": "S"}}), vec![format!("secret: {beside}")]),
        (json!({"envoyMetadata": ""}), vec!["envoyMetadata: must not be empty".into()]),
        (but(remote(), json!({"clockSkewSeconds": 301})), vec!["clockSkewSeconds: expected a whole number from 0 to 300, found 301".into()]),
        (but(remote(), json!({"audiences": []})), vec!["audiences: must not be empty".into()]),
        (but(remote(), json!({"issuer": ""})), vec!["issuer: must not be empty".into()]),
        (but(remote(), json!({"from": {}})), vec!["from: needs either header or cookie".into()]),
        (but(remote(), json!({"from": {"header": "a", "cookie": "b"}})), vec!["from: needs either header or cookie".into()]),
        (but(remote(), json!({"from": {"header": "Cookie"}})), vec!["from.header: holds many cookies: give the name of one as cookie instead".into()]),
        (but(remote(), json!({"from": {"header": "a b"}})), vec!["from.header: is not the name of a header".into()]),
        (but(remote(), json!({"from": {"cookie": "a=b"}})), vec!["from.cookie: is not the name of a cookie".into()]),
        (but(remote(), json!({"isuer": "i"})), vec![r#"isuer: unknown key "isuer", expected one of: jwks, secret, issuer, audiences, algorithms, clockSkewSeconds, from, envoyMetadata; did you mean "issuer"?"#.into()]),
    ];
    for (settings, expected) in rows {
        assert_eq!(faults(&settings), expected, "{settings}");
    }
}

#[test]
fn keys_are_fetched_or_inline() {
    let keys = |jwks: Value| faults(&but(remote(), json!({"jwks": jwks})));
    let inline = key_set(&[Signer::Rsa1]);
    let rows = [
        (json!({}), vec!["jwks: needs cluster and path, or inline"]),
        (json!({"refreshSeconds": 60}), vec!["jwks: needs cluster and path, or inline"]),
        (json!({"cluster": "c"}), vec!["jwks.path: is missing"]),
        (json!({"path": "/k"}), vec!["jwks.cluster: is missing"]),
        (
            json!({"cluster": "c", "path": "https://idp/k"}),
            vec!["jwks.path: must be a path like /.well-known/jwks.json"],
        ),
        (json!({"cluster": "c", "path": "/k k"}), vec!["jwks.path: must be a path like /.well-known/jwks.json"]),
        (
            json!({"cluster": "c", "path": "/k", "refreshSeconds": 5}),
            vec!["jwks.refreshSeconds: expected a whole number from 10 to 86400, found 5"],
        ),
        (
            json!({"cluster": "c", "path": "/k", "timeoutMs": 0}),
            vec!["jwks.timeoutMs: expected a whole number from 1 to 60000, found 0"],
        ),
        (
            json!({"cluster": "c", "path": "/k", "refreshSeconds": 60, "timeoutMs": 5, "inline": inline}),
            vec![
                "jwks.cluster: can't stand beside inline: keys are fetched, or given inline",
                "jwks.path: can't stand beside inline: keys are fetched, or given inline",
                "jwks.refreshSeconds: can't stand beside inline: keys are fetched, or given inline",
                "jwks.timeoutMs: can't stand beside inline: keys are fetched, or given inline",
            ],
        ),
        (json!({"inline": {}}), vec!["jwks.inline.keys: is missing"]),
        (json!({"inline": {"keys": []}}), vec!["jwks.inline.keys: must not be empty"]),
        (
            json!({"inline": {"keys": [Signer::Rsa1.jwk(), {"kty": "EC"}, Signer::Secret.jwk()]}}),
            vec![
                "jwks.inline.keys[1]: has no crv",
                "jwks.inline.keys[2]: is a secret (kty oct), which no key set may show: give secret instead",
            ],
        ),
        (
            json!({"inline": {"keys": [but(Signer::Rsa1.jwk(), json!({"use": "enc"}))]}}),
            vec![r#"jwks.inline.keys[0]: is not for signatures: its use is "enc""#],
        ),
        (json!({"inline": key_set(&[Signer::P256])}), vec!["jwks: none of the keys fits one of algorithms"]),
    ];
    for (jwks, expected) in rows {
        let settings = but(remote(), json!({"jwks": jwks}));
        assert_eq!(keys(jwks), expected, "{settings}");
        // What a key holds, and what fits to what, is more than a schema can say.
        let beyond_a_schema = expected[0].contains("fits one") || expected[0].contains("keys[");
        assert!(beyond_a_schema || !follows_schema(&settings), "{settings}");
    }
}

#[test]
fn a_claim_s_name_is_any_text_or_a_sound_pointer() {
    for name in ["tenant_id", "https://acme.example/tenant", "a.b", "a/b", "~", "/a", "/a/b~1c/~0", "/0"] {
        assert!(claim_name(name).is_ok(), "{name}");
        assert!(jsonschema::is_valid(&ClaimName::json_schema(), &json!(name)), "{name}");
    }
    for name in ["", "/", "/a/", "//a", "/a~", "/a~2", "/~~"] {
        assert!(claim_name(name).is_err(), "{name}");
        assert!(!jsonschema::is_valid(&ClaimName::json_schema(), &json!(name)), "{name}");
    }
}

#[test]
fn a_secret_is_as_long_as_its_hash() {
    let with = |algorithms: &[&str], secret: Option<&str>| {
        let settings = jwt(&json!({"secret": {"env": "TENANCY_JWT_SECRET"}, "algorithms": algorithms})).unwrap();
        let environment = |name: &str| {
            assert_eq!(name, "TENANCY_JWT_SECRET");
            secret.map(str::to_owned)
        };
        Tokens::new(&settings, &ClaimName::default(), environment).map(|_| ()).map_err(|fault| fault.to_string())
    };
    let fault = |rest: &str| Err(format!("isolation.jwt.secret.env: TENANCY_JWT_SECRET {rest}"));
    assert_eq!(with(&["HS256"], Some(&SECRET[..32])), Ok(()));
    assert_eq!(with(&["HS256"], Some(&SECRET[..31])), fault("has 31 bytes, and HS256 needs at least 32"));
    assert_eq!(with(&["HS384", "HS256"], Some(&SECRET[..47])), fault("has 47 bytes, and HS384 needs at least 48"));
    assert_eq!(with(&["HS512", "HS256"], Some(&SECRET[..63])), fault("has 63 bytes, and HS512 needs at least 64"));
    assert_eq!(with(&["HS512"], Some(&SECRET[..64])), Ok(()));
    assert_eq!(with(&["HS256"], Some("")), fault("has 0 bytes, and HS256 needs at least 32"));
    let missing = "is not in the VM's environment: set it in vm_config.environment_variables";
    assert_eq!(with(&["HS256"], None), fault(missing));
}
