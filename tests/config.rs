//! Configurations: what is taken, and every fault of what isn't. The JSON Schema agrees on all of them.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use envoy_tenancy::config::Config;
use serde_json::{Value, json};

fn base(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = json!({
        "isolation": {"resolution": "header"},
        "lookupTenant": {"cluster": "directory", "path": "/tenants/{tenantId}"},
    });
    change(&mut config);
    config
}

fn with(pointer: &str, value: Value) -> Value {
    base(|config| {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        config.pointer_mut(parent).expect("the parent is there")[key] = value;
    })
}

fn faults(config: &Value) -> Vec<String> {
    match Config::from_value(config) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// Every key of the manual.
fn whole() -> Value {
    json!({
        "isolation": {
            "strategy": "hybrid",
            "resolution": ["subdomain", "custom-domain", "path", "header", "query", "jwt", "custom"],
            "agreement": "first",
            "baseDomain": ["app.example.com", "bücher.example"],
            "reservedSubdomains": ["www", "7"],
            "pathPrefix": "/api/t",
            "stripPath": true,
            "headerName": "X-Tenant-ID",
            "queryParam": "tenant",
            "stripQuery": false,
            "domainLookup": {
                "cluster": "tenancyd", "path": "/domains/{domain}", "timeoutMs": 500, "cacheSeconds": 60,
                "staleSeconds": 300, "negativeSeconds": 5, "maxInFlight": 64, "onError": "deny",
            },
            "jwt": {
                "jwks": {
                    "cluster": "idp", "path": "/.well-known/jwks.json", "refreshSeconds": 300, "staleSeconds": 86400, "timeoutMs": 1000,
                },
                "secret": {"env": "TENANCY_JWT_SECRET"}, "issuer": "https://issuer.example.com", "audiences": ["api"],
                "algorithms": ["RS256", "HS256"], "clockSkewSeconds": 30, "from": {"cookie": "session"},
            },
            "jwtClaim": "/realm/tenant",
            "customResolver": {
                "cluster": "resolver", "path": "/resolve?x=1", "headers": ["x-api-key"], "timeoutMs": 500, "cacheSeconds": 10,
                "staleSeconds": 300, "negativeSeconds": 5, "maxInFlight": 64, "onError": "deny",
            },
            "required": true,
            "exclude": ["/healthz", "/.well-known/*", "/*"],
        },
        "tenants": [{"id": "acme", "slug": "a", "status": "active", "metadata": {"plan": "pro"}, "isolation": {"strategy": "schema"}}],
        "lookupTenant": {
            "cluster": "tenancyd", "path": "/tenants/{tenantId}?full=1", "timeoutMs": 500, "cacheSeconds": 60,
            "staleSeconds": 300, "negativeSeconds": 5, "maxInFlight": 64, "onError": "allow",
            "snapshot": {"path": "/tenants?limit=1000", "intervalSeconds": 30},
        },
        "forward": {"x-tenant-id": "id", "X-Deep": "/metadata/a~1b/0", "x-plan": "metadata.plan"},
    })
}

fn good() -> Vec<Value> {
    vec![
        base(|_| {}),
        whole(),
        json!({"isolation": {"resolution": "header"}, "tenants": [{"id": "acme"}]}),
        json!({"isolation": {"resolution": "custom_domain", "domainLookup": {"cluster": "c", "path": "/{domain}"}}}),
        with("/isolation/pathPrefix", json!("/")),
        with("/forward", json!({})),
        with("/isolation/resolution", json!(["header"])),
        with("/lookupTenant/timeoutMs", json!(1)),
        with("/lookupTenant/cacheSeconds", json!(0)),
        // A Struct has doubles alone.
        with("/lookupTenant/timeoutMs", json!(500.0)),
        with("/isolation/baseDomain", json!("Example.COM.")),
        with("/tenants", json!([{"id": "a", "slug": "a"}])),
    ]
}

#[test]
fn good_configurations_are_taken() {
    for config in good() {
        assert_eq!(faults(&config), Vec::<String>::new(), "{config}");
    }
}

/// A faulty configuration, its faults, and whether the schema sees that it is faulty.
fn bad() -> Vec<(Value, Vec<&'static str>, bool)> {
    let no_directory = "no directory of any kind: give lookupTenant, or at least one of tenants";
    let rows = vec![
        (json!(null), vec!["expected an object, found null"], true),
        (json!([]), vec!["expected an object, found a list"], true),
        (json!({}), vec![no_directory, "isolation: is missing"], true),
        (json!({"isolation": {}, "tenants": []}), vec!["isolation.resolution: is missing", no_directory], true),
        (base(|config| config["isolation"] = json!([])), vec!["isolation: expected an object, found a list"], true),
        (
            with("/isolation/strategy", json!("sharded")),
            vec![
                "isolation.strategy: unknown strategy \"sharded\", expected one of: shared, schema, database, hybrid; did you mean \"shared\"?",
            ],
            true,
        ),
        (with("/isolation/strategy", json!(1)), vec!["isolation.strategy: expected a strategy, found 1"], true),
        (
            with("/isolation/resolution", json!("cookie")),
            vec![
                "isolation.resolution: unknown resolution strategy \"cookie\", expected one of: subdomain, custom_domain, path, header, query, jwt, custom",
            ],
            true,
        ),
        (with("/isolation/resolution", json!([])), vec!["isolation.resolution: must not be empty"], true),
        (
            with("/isolation/resolution", json!(["header", "query", "header"])),
            vec!["isolation.resolution: header is listed twice"],
            true,
        ),
        (
            with("/isolation/resolution", json!(["jwt"])),
            vec!["isolation.jwt: is missing: the strategy jwt needs it"],
            false,
        ),
        (
            with("/isolation/jwt", json!({"jwks": {"inline": {"keys": [{"kty": "oct"}]}}, "algorithms": ["none"]})),
            vec![
                "isolation.jwt.algorithms[0]: unknown algorithm \"none\", expected one of: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512",
                "isolation.jwt.jwks.inline.keys[0]: is a secret (kty oct), which no key set may show: give secret instead",
            ],
            true,
        ),
        (
            with("/isolation/jwtClaim", json!("/a//b")),
            vec![
                "isolation.jwtClaim: \"/a//b\" is not a JSON Pointer to a claim (/realm/tenant, ~1 for a slash in a name)",
            ],
            true,
        ),
        (
            with(
                "/quotas",
                json!([{}, {"quotaKey": "a/b", "period": "fortnight", "limit": -1, "cost": 0, "warnAtPercent": [0]}]),
            ),
            vec![
                "quotas[0].quotaKey: is missing",
                "quotas[0].period: is missing, expected one of: second, minute, hour, day, month, none",
                "quotas[1].quotaKey: expected an identifier (1 to 128 characters of A-Z a-z 0-9 . _ -, not . or ..), found the string \"a/b\"",
                "quotas[1].period: unknown period \"fortnight\", expected one of: second, minute, hour, day, month, none",
                "quotas[1].limit: expected a whole number of 64 bits (as a string of digits above 2^53), {limit, period}, or null for no limit, found -1",
                "quotas[1].cost: expected a whole number from 1, or {responseHeader: NAME}, found 0",
                "quotas[1].warnAtPercent[0]: expected a whole number from 1 to 100, found 0",
            ],
            true,
        ),
        (
            with(
                "/quotas",
                json!([
                    {"quotaKey": "a", "period": "none", "timezone": "UTC", "count": {"rateLimit": {"cluster": "c", "domain": "d"}}},
                    {"quotaKey": "b", "period": "day", "timezone": "Europe/Berlln", "count": {}, "mode": "dry"},
                    {"quotaKey": "c", "count": "edge", "checkUsage": {"cluster": "c", "path": "/usage/{quotaKey}"}},
                    {"quotaKey": "d", "period": "none", "cost": {"responseHeader": "x-cost"}, "count": "lease"},
                    {"quotaKey": "e", "period": "day", "cost": {"responseHeader": "x-cost", "reserve": 0}},
                ]),
            ),
            vec![
                "quotas[0].timezone: means nothing without a period",
                "quotas[0].count: must be edge for a level, or its service must be given as checkUsage",
                "quotas[1].timezone: unknown time zone \"Europe/Berlln\", expected a name of the IANA time zone database; did you mean \"Europe/Berlin\"?",
                "quotas[1].count: needs one of lease and rateLimit",
                "quotas[1].mode: unknown mode \"dry\", expected one of: enforce, shadow",
                "quotas[2].checkUsage.path: needs the placeholder {tenantId}",
                "quotas[2].count: can't stand beside checkUsage, whose service counts",
                "quotas[3].count: unknown way to count \"lease\", expected one of: edge, {lease: …}, {rateLimit: …}; did you mean \"{lease: …}\"?",
                "quotas[3].cost: must be a number for a level: what it holds is given back, whatever a response says",
                "quotas[4].cost.reserve: expected a whole number from 1 to 4294967295, found 0",
            ],
            true,
        ),
        (
            with(
                "/quotas",
                json!([
                    {"quotaKey": "a", "period": "day", "plans": {"free": {"limit": 1, "period": "none"}}},
                    {"quotaKey": "a", "period": "day", "limit": {"limit": 7, "period": "hour"}},
                ]),
            ),
            vec![
                "quotas: a: a limit makes a level of what is counted by the calendar, or the reverse",
                "quotas: a is the quotaKey of two quotas",
            ],
            false,
        ),
        (
            with("/rateLimitHeaders", json!({"style": "old", "when": "never"})),
            vec![
                "rateLimitHeaders.style: unknown style \"old\", expected one of: draft, legacy, off",
                "rateLimitHeaders.when: unknown when \"never\", expected one of: refused, all",
            ],
            true,
        ),
        (
            with("/logFields", json!(["id", "size", 7])),
            vec![
                "logFields[1]: unknown log field \"size\", expected one of: id, slug, plan, decision",
                "logFields[2]: expected a log field, found 7",
            ],
            true,
        ),
        (
            with(
                "/websocket",
                json!({"authMessage": "requierd", "paths": [], "authTimeoutSeconds": 0, "maxMessageBytes": 1, "recheck": 1}),
            ),
            vec![
                "websocket.authMessage: unknown authMessage \"requierd\", expected one of: off, required; did you mean \"required\"?",
                "websocket.paths: is empty: then no upgrade could come without a token, which authMessage: off says better",
                "websocket.authTimeoutSeconds: expected a whole number from 1 to 600, found 0",
                "websocket.maxMessageBytes: expected a whole number from 256 to 131072, found 1",
                "websocket.recheck: unknown key \"recheck\", expected one of: authMessage, paths, authTimeoutSeconds, \
                 maxMessageBytes, recheckSeconds",
            ],
            true,
        ),
        (
            with("/websocket", json!({"authMessage": "required"})),
            vec![
                "websocket: its authMessage needs the strategy jwt, with keys or a secret: the token is verified here",
            ],
            false,
        ),
        (
            with(
                "/quotas",
                json!([
                    {"quotaKey": "messages", "unit": "message", "period": "none", "limit": 1},
                    {"quotaKey": "c", "unit": "connection", "period": "day", "cost": {"responseHeader": "x"}},
                    {"quotaKey": "d", "unit": "frame", "period": "day"},
                ]),
            ),
            vec![
                "quotas[0].period: can't be none for messages: nothing says when one ends",
                "quotas[1].cost: must be a number for what has no response of its own",
                "quotas[2].unit: unknown unit \"frame\", expected one of: request, connection, message",
            ],
            true,
        ),
        (
            with("/lookupTenant/snapshot", json!({"path": "tenants", "intervalSeconds": 0, "after": "x"})),
            vec![
                "lookupTenant.snapshot.path: must start with /",
                "lookupTenant.snapshot.intervalSeconds: expected a whole number from 1 to 86400, found 0",
                "lookupTenant.snapshot.after: unknown key \"after\", expected one of: path, intervalSeconds",
            ],
            true,
        ),
        (
            with("/lookupTenant/snapshot", json!({"path": "/tenants", "intervalSeconds": 60})),
            vec![
                "lookupTenant.snapshot: its intervalSeconds must be less than cacheSeconds, or what it holds is too old between two reads",
            ],
            false,
        ),
        (
            with("/isolation/resolution", json!(["subdomain", "custom_domain", "custom"])),
            vec![
                "isolation.customResolver: is missing: the strategy custom needs it",
                "isolation.baseDomain: is missing: the strategy subdomain needs it",
                "isolation.domainLookup: is missing: the strategy custom_domain needs it",
            ],
            false,
        ),
        (
            with(
                "/isolation",
                json!({
                    "resolution": ["subdomain", "custom_domain"], "agreement": "unanimous", "baseDomain": "a.example",
                    "domainLookup": {"cluster": "c", "path": "/{domain}"},
                }),
            ),
            vec![
                "isolation.agreement: unanimous would refuse every request: no host is under a baseDomain and a custom domain at once",
            ],
            false,
        ),
        (
            with("/isolation/agreement", json!("any")),
            vec!["isolation.agreement: unknown agreement \"any\", expected one of: consistent, unanimous, first"],
            true,
        ),
        (
            with("/isolation/required", json!("yes")),
            vec!["isolation.required: expected true or false, found the string \"yes\""],
            true,
        ),
        (with("/isolation/queryParam", json!("")), vec!["isolation.queryParam: must not be empty"], true),
        (
            with("/isolation/base_domain", json!("a.example")),
            vec![
                "isolation.base_domain: unknown key \"base_domain\", expected one of: strategy, resolution, agreement, baseDomain, reservedSubdomains, pathPrefix, stripPath, headerName, queryParam, stripQuery, jwt, jwtClaim, domainLookup, customResolver, required, exclude; did you mean \"baseDomain\"?",
            ],
            true,
        ),
        (
            with("/a.b", json!(1)),
            vec![
                "[\"a.b\"]: unknown key \"a.b\", expected one of: isolation, tenants, lookupTenant, forward, quotas, rateLimitHeaders, logFields, websocket",
            ],
            true,
        ),
        (
            with(
                "/lookupTenant",
                json!({"timeoutMs": 0, "cacheSeconds": 1.5, "staleSeconds": -1, "maxInFlight": "64", "onError": "open"}),
            ),
            vec![
                "lookupTenant.cluster: is missing",
                "lookupTenant.path: is missing",
                "lookupTenant.timeoutMs: expected a whole number from 1 to 60000, found 0",
                "lookupTenant.cacheSeconds: expected a whole number from 0 to 86400, found 1.5",
                "lookupTenant.staleSeconds: expected a whole number from 0 to 86400, found -1",
                "lookupTenant.maxInFlight: expected a whole number from 1 to 100000, found the string \"64\"",
                "lookupTenant.onError: unknown onError \"open\", expected one of: deny, allow",
            ],
            true,
        ),
        (
            with(
                "/forward",
                json!({"": "id", "Host": "id", "x-a": "plan", "X-A": "metadata..x", "x-b": 7, "x c": "id", "transfer-encoding": "id"}),
            ),
            vec![
                "forward[\"\"]: \"\" is not the name of a header",
                "forward.Host: \"Host\" is a header that says how the message is sent, and can't carry a tenant",
                "forward.X-A: \"metadata..x\" has an empty part",
                "forward.transfer-encoding: \"transfer-encoding\" is a header that says how the message is sent, and can't carry a tenant",
                "forward.x-a: unknown field of a tenant \"plan\", expected one of: id, slug, status, metadata, quotas, isolation",
                "forward.x-b: expected a string, found 7",
                "forward[\"x c\"]: \"x c\" is not the name of a header",
            ],
            true,
        ),
        (
            with("/forward", json!({"x-a": "id", "X-A": "slug"})),
            vec!["forward.x-a: \"x-a\" is given twice: case doesn't matter in a header's name"],
            false,
        ),
        (
            with(
                "/tenants",
                json!([{"id": "a/b"}, {"id": "acme", "slug": "", "staus": "active"}, {"status": "active"}, 7, {"id": "x", "metadata": []}]),
            ),
            vec![
                "tenants[0].id: expected an identifier (1 to 128 characters of A-Z a-z 0-9 . _ -, not . or ..), found the string \"a/b\"",
                "tenants[1].slug: expected an identifier (1 to 128 characters of A-Z a-z 0-9 . _ -, not . or ..), found the string \"\"",
                "tenants[1].staus: unknown key \"staus\", expected one of: id, slug, status, metadata, isolation, quotas; did you mean \"status\"?",
                "tenants[2].id: is missing",
                "tenants[3]: expected an object, found 7",
                "tenants[4].metadata: expected an object, found a list",
            ],
            true,
        ),
        (
            with("/tenants", json!([{"id": "a"}, {"id": "b", "slug": "a"}, {"id": "c", "slug": "c"}])),
            vec!["tenants: a is the id or slug of two tenants"],
            false,
        ),
        (
            with("/tenants", json!([{"id": "a", "status": "suspnded"}])),
            vec![
                "tenants[0].status: unknown status \"suspnded\", expected one of: active, suspended, inactive; did you mean \"suspended\"?",
            ],
            true,
        ),
        (
            with(
                "/isolation/customResolver",
                json!({"cluster": "c", "path": "resolve", "headers": ["host", ""], "staleSeconds": 1, "negativeSeconds": 1}),
            ),
            vec![
                "isolation.customResolver.path: must start with /",
                "isolation.customResolver.headers[0]: is a header that says how the message is sent, and can't carry a tenant",
                "isolation.customResolver.headers[1]: must not be empty",
                "isolation.customResolver.staleSeconds: means nothing without cacheSeconds",
                "isolation.customResolver.negativeSeconds: means nothing without cacheSeconds",
            ],
            true,
        ),
        (
            with("/isolation/customResolver", json!({"cluster": "c", "path": "/resolve", "cacheSeconds": 1})),
            vec![
                "isolation.customResolver.cacheSeconds: would give every request the first one's tenant: list the headers that tell them apart",
            ],
            false,
        ),
    ];
    let domain = "isolation.baseDomain: expected a domain name, without a port (app.example.com), found the string";
    let label = "isolation.reservedSubdomains[0]: expected one label of a host name (www), found the string";
    let prefix = "isolation.pathPrefix: must be a path like /t or /api/tenants, without a slash at the end, escapes or dot segments";
    let exclude = "isolation.exclude[0]: must be a path like /healthz, or /assets/* for all below, with no other *, query or dot segments";
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut rows = rows;
    for bad in ["", "a.example:80", "10.0.0.1", ".a.example", "a..example", "http://a.example"] {
        rows.push((
            with("/isolation/baseDomain", json!(bad)),
            vec![leak(format!("{domain} {bad:?}"))],
            bad.contains([':', '/']) || bad.is_empty(),
        ));
    }
    for bad in ["", "a.b", "a b", "*"] {
        rows.push((
            with("/isolation/reservedSubdomains", json!([bad])),
            vec![leak(format!("{label} {bad:?}"))],
            bad != "*",
        ));
    }
    for bad in ["t", "/t/", "//", "/t/..", "/%74", "/t?x"] {
        rows.push((with("/isolation/pathPrefix", json!(bad)), vec![prefix], !bad.contains("..")));
    }
    for bad in ["healthz", "*", "/a*", "/*/b", "/a/../b", "/a?x"] {
        rows.push((with("/isolation/exclude", json!([bad])), vec![exclude], !bad.contains("..")));
    }
    for (bad, fault) in [
        ("tenants/{tenantId}", "lookupTenant.path: must start with /"),
        ("/tenants", "lookupTenant.path: needs the placeholder {tenantId}"),
        ("/tenants/{domain}", "lookupTenant.path: needs the placeholder {tenantId}"),
        ("/{tenantId}/{tenantId}", "lookupTenant.path: has another placeholder than one {tenantId}"),
        ("/{tenantId}/{x}", "lookupTenant.path: has another placeholder than one {tenantId}"),
        ("/a b/{tenantId}", "lookupTenant.path: holds a character that a path can't: escape it with %"),
    ] {
        rows.push((with("/lookupTenant/path", json!(bad)), vec![fault], true));
    }
    rows
}

#[test]
fn every_fault_is_named_with_its_path() {
    for (config, mut expected, _) in bad() {
        let mut found = faults(&config);
        // The order is the manual's; which of two objects comes first is not what this test is about.
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{config}");
    }
}

#[test]
fn the_schema_agrees() {
    let validator = jsonschema::validator_for(&Config::json_schema()).expect("the schema is one");
    for config in good() {
        let errors: Vec<String> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{config}: {errors:?}");
    }
    for (config, faults, seen) in bad() {
        assert_eq!(!validator.is_valid(&config), seen, "{config}: {faults:?}");
    }
}

#[test]
fn the_schema_in_the_manual_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", Config::json_schema());
    assert!(written == current, "write it anew: cargo run --bin tenancy -- schema > docs/config.schema.json");
}

#[test]
fn a_configuration_that_is_no_configuration_says_so() {
    let rows = [
        (&b""[..], "the configuration is empty"),
        (b" \n", "the configuration is empty"),
        (b"{", "the configuration is not JSON: EOF while parsing"),
        (b"\n{\"isolation\": }", "the configuration is not JSON: expected value at line 2"),
        (b"isolation: {}", "the configuration is neither a JSON object nor a google.protobuf.Struct"),
        (b"\x0a\x07abc", "the configuration is neither"),
        (b"{\"a\":1,\"a\":2}", "the key \"a\" is given twice at line 1"),
        (b"\xff\xfe", "the configuration is neither"),
    ];
    for (bytes, expected) in rows {
        let faults = Config::from_bytes(bytes).expect_err("it is none").to_string();
        assert!(faults.contains(expected), "{expected:?} is missing in {faults:?}");
    }
}
