//! Parts of a decision.

use divan::{Bencher, black_box};
use envoy_tenancy::config::Config;
use envoy_tenancy::request::{Head, HostName, header_pairs};
use serde_json::{Value, json};

use super::requests::header_map;

const TENANTS: &str = include_str!("../../variants/tenants.json");

/// The configuration with those settings, and the tenants that the benches in Envoy have.
pub fn with_tenants(mut settings: Value) -> Vec<u8> {
    let tenants: Value = serde_json::from_str(TENANTS).expect("the tenants are JSON");
    settings["tenants"] = tenants;
    settings.to_string().into_bytes()
}

#[divan::bench(args = [0, 15])]
fn request_parsing(bencher: Bencher, more_headers: usize) {
    let more = [("x-something", "some value of some length"); 15];
    let map = header_map("acme.app.example.com", "/api/tasks?page=2", more.get(..more_headers).unwrap_or_default());
    bencher.bench(|| {
        let head = Head::new(header_pairs(black_box(&map)).expect("a header map"));
        black_box((head.authority.len(), head.target.path.len()))
    });
}

#[divan::bench(args = ["acme.app.example.com", "Acme.App.Example.com:8443", "münchen.example.com", "192.0.2.1"])]
fn host_name(authority: &str) -> Option<HostName> {
    HostName::from_authority(black_box(authority.as_bytes()))
}

#[divan::bench(args = [8, 1000])]
fn configuration(bencher: Bencher, tenants: usize) {
    let list: Vec<Value> =
        (0..tenants).map(|number| json!({"id": format!("tenant-{number}"), "metadata": {"plan": "pro"}})).collect();
    let settings = json!({
        "isolation": {"resolution": "subdomain", "baseDomain": "app.example.com"},
        "tenants": list,
        "quotas": [{"quotaKey": "apiRequests", "period": "day", "limit": 1000, "count": "edge"}],
    });
    let bytes = settings.to_string().into_bytes();
    bencher.bench(|| Config::from_bytes(black_box(&bytes)).expect("a sound configuration"));
}
