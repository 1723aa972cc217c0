//! Whole decisions: header bytes → what happens with the request, and its end.

use divan::{Bencher, black_box};
use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::request::{Head, header_pairs};
use serde_json::{Value, json};

use super::host::StillHost;
use super::parts::with_tenants;
use super::requests::header_map;
use crate::tokens::{Algorithm, Keys, SECRET};

const BASE: &str = "app.example.com";
const PATH: &str = "/api/tasks?page=2";

/// A filter with a configuration, and one request after the other.
struct Decisions {
    filter: Filter,
    host: StillHost,
    last: u32,
}

impl Decisions {
    fn new(settings: Value) -> Self {
        let config = Config::from_bytes(&with_tenants(settings)).unwrap_or_else(|faults| panic!("{faults}"));
        let environment = |name: &str| (name == "BENCH_SECRET").then(|| SECRET.to_owned());
        let host = StillHost::default();
        let mut filter = Filter::new(config, environment).unwrap_or_else(|faults| panic!("{faults}"));
        filter.tick(&host);
        Self { filter, host, last: 0 }
    }

    /// Whether the request goes on.
    fn one(&mut self, map: &[u8]) -> bool {
        self.last = self.last.wrapping_add(1);
        let id = RequestId(self.last);
        let head = Head::new(header_pairs(black_box(map)).expect("a header map"));
        let step = self.filter.request(id, &head, &self.host);
        self.filter.end(id, &self.host);
        match black_box(step) {
            Step::Forward(_) => true,
            Step::Deny(_) => false,
            Step::Wait | Step::Flow(_) => panic!("nobody can be asked here, but the request waits"),
        }
    }
}

/// The same request again and again; `goes_on` says how each has to end.
fn again(bencher: Bencher, settings: Value, map: &[u8], goes_on: bool) {
    let mut decisions = Decisions::new(settings);
    assert_eq!(decisions.one(map), goes_on, "the request ends otherwise than the bench says");
    bencher.bench_local(|| decisions.one(map));
}

fn of(host: &str) -> Vec<u8> {
    header_map(&format!("{host}.{BASE}"), PATH, &[])
}

fn subdomains() -> Value {
    json!({"isolation": {"resolution": "subdomain", "baseDomain": BASE}})
}

fn with_quota(limit: u64) -> Value {
    let mut settings = subdomains();
    settings["quotas"] = json!([{"quotaKey": "apiRequests", "period": "day", "limit": limit, "count": "edge"}]);
    settings
}

#[divan::bench]
fn subdomain(bencher: Bencher) {
    again(bencher, subdomains(), &of("acme"), true);
}

#[divan::bench]
fn path(bencher: Bencher) {
    let settings = json!({"isolation": {"resolution": "path", "stripPath": true}});
    again(bencher, settings, &header_map(BASE, "/t/acme/api/tasks?page=2", &[]), true);
}

#[divan::bench]
fn header(bencher: Bencher) {
    let settings = json!({"isolation": {"resolution": "header"}});
    again(bencher, settings, &header_map(BASE, PATH, &[("x-tenant-id", "acme")]), true);
}

#[divan::bench]
fn query(bencher: Bencher) {
    let settings = json!({"isolation": {"resolution": "query"}});
    again(bencher, settings, &header_map(BASE, "/api/tasks?tenant=acme&page=2", &[]), true);
}

#[divan::bench]
fn excluded(bencher: Bencher) {
    let mut settings = subdomains();
    settings["isolation"]["exclude"] = json!(["/healthz"]);
    again(bencher, settings, &header_map("acme.app.example.com", "/healthz", &[]), true);
}

#[divan::bench]
fn quota(bencher: Bencher) {
    again(bencher, with_quota(1_000_000_000), &of("acme"), true);
}

#[divan::bench]
fn refused_unknown(bencher: Bencher) {
    again(bencher, subdomains(), &of("nobody"), false);
}

#[divan::bench]
fn refused_suspended(bencher: Bencher) {
    again(bencher, subdomains(), &of("globex"), false);
}

#[divan::bench]
fn refused_quota(bencher: Bencher) {
    again(bencher, with_quota(0), &of("acme"), false);
}

fn tokens(keys: &Keys, algorithm: Algorithm) -> Value {
    let source = match algorithm {
        Algorithm::HS256 => json!({"secret": {"env": "BENCH_SECRET"}}),
        _ => json!({"jwks": {"inline": keys.key_set(algorithm)}}),
    };
    let mut jwt =
        json!({"algorithms": [algorithm.name()], "issuer": "https://issuer.example.com", "audiences": ["api"]});
    if let (Some(jwt), Some(source)) = (jwt.as_object_mut(), source.as_object()) {
        jwt.extend(source.clone());
    }
    json!({"isolation": {"resolution": "jwt", "jwt": jwt}})
}

fn bearer(keys: &Keys, algorithm: Algorithm, number: usize) -> Vec<u8> {
    let token = format!("Bearer {}", keys.token(algorithm, "acme", number));
    header_map(BASE, PATH, &[("authorization", &token)])
}

#[divan::bench]
fn token_seen(bencher: Bencher) {
    let keys = Keys::new().expect("keys");
    again(bencher, tokens(&keys, Algorithm::RS256), &bearer(&keys, Algorithm::RS256, 0), true);
}

/// Verified here, as where Envoy's own cryptography isn't offered.
#[divan::bench(args = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256])]
fn token_new(bencher: Bencher, algorithm: Algorithm) {
    let keys = Keys::new().expect("keys");
    let mut decisions = Decisions::new(tokens(&keys, algorithm));
    let mut number = 0;
    let next = || {
        number += 1;
        bearer(&keys, algorithm, number)
    };
    bencher.with_inputs(next).bench_local_values(|map| assert!(decisions.one(&map), "a good token is refused"));
}
