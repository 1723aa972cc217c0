//! Any bytes as a request's header map, in the form that Envoy hands over. No panic, and nothing forged goes on.
#![no_main]

mod host;

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, HeaderEdit, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::request::{Head, header_pairs};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

use crate::host::NoHost;

fn config() -> Config {
    let config = json!({
        "isolation": {
            "resolution": ["subdomain", "custom_domain", "path", "header", "query", "custom"],
            "customResolver": {"cluster": "d", "path": "/resolve", "headers": ["x-api-key"], "cacheSeconds": 1},
            "baseDomain": ["app.example.com", "bücher.example"],
            "stripPath": true,
            "stripQuery": true,
            "required": false,
            "exclude": ["/healthz", "/assets/*"],
            "domainLookup": {"cluster": "d", "path": "/domains/{domain}"},
        },
        "tenants": [{"id": "acme", "slug": "a", "metadata": {"plan": "pro"}}, {"id": "globex", "status": "suspended"}],
        "lookupTenant": {"cluster": "d", "path": "/tenants/{tenantId}"},
    });
    Config::from_value(&config).expect("it is sound")
}

thread_local! {
    static CONFIG: Config = config();
}

fuzz_target!(|bytes: &[u8]| {
    let Some(pairs) = header_pairs(bytes) else { return };
    let forged = |name: &[u8]| name == b"x-tenant-id" || name == b"x_tenant_id" || name == b"x-forwarded-prefix";
    let sent: Vec<Vec<u8>> = pairs.iter().map(|(name, _)| name.to_vec()).filter(|name| forged(name)).collect();
    if let Step::Forward(forwarding) = Filter::new(CONFIG.with(Config::clone), |_| None)
        .expect("it needs no secret")
        .request(RequestId(1), &Head::new(pairs), &NoHost::default())
    {
        for name in sent {
            let gone = forwarding.edits.iter().any(|edit| match edit {
                HeaderEdit::Set(set, _) => set.as_bytes() == name,
                HeaderEdit::Add(added, _) => {
                    assert_ne!(added.as_bytes(), name, "it is added to the client's own");
                    false
                }
                HeaderEdit::Remove(removed) => *removed == name,
            });
            assert!(gone, "{name:?} goes on as the client sent it");
        }
    }
});
