//! What Envoy does with a worker for which it can't create a VM: it leaves the filter out, under every `failure_policy`. The filter that
//! the manual puts behind this one refuses what was not judged.

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::curl;
use crate::envoy::{Envoy, EnvoyWorld};
use crate::scenarios::world::{Directory, get};

/// By how much the address space is too small, in KiB: the last VM's memory, of which V8 reserves 8 GiB, doesn't fit. By as much as
/// that, V8 itself often ends Envoy.
const TOO_SMALL_BY: u64 = 2 << 20;

/// `envoy/envoy.yaml` has the same.
fn second_lock() -> Value {
    json!({
        "name": "judged",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {
                "action": "ALLOW",
                "policies": {"judged": {
                    "permissions": [{"any": true}],
                    "principals": [{"filter_state": {
                        "key": "wasm.tenant_decision",
                        "string_match": {"safe_regex": {"regex": ".+"}},
                    }}],
                }},
            },
        },
    })
}

#[test]
fn a_worker_without_a_vm_lets_nothing_past() {
    let config = json!({"isolation": {"resolution": "header"}, "tenants": [{"id": "acme"}]});
    let mut bootstrap = Value::Null;
    let whole = EnvoyWorld::start_changed(structure(&config), Directory::default(), |whole| {
        let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        let filters = whole.pointer_mut(filters).and_then(Value::as_array_mut).expect("there are filters");
        filters.insert(1, second_lock());
        bootstrap = whole.clone();
    });
    let statuses = |envoy: &Envoy, tenant: &str| {
        let request = get("any.example/").header("x-tenant-id", tenant);
        // Each has a connection of its own, so both workers get some.
        let sent: Vec<_> = (0..40).map(|_| curl::send(&request, envoy.listener)).collect();
        let mut statuses: Vec<u16> = sent.into_iter().map(|sent| sent.response().status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    };
    assert_eq!((statuses(&whole.envoy, "acme"), statuses(&whole.envoy, "nobody")), (vec![200], vec![404]));

    let limited = Envoy::start_within(&bootstrap, whole.envoy.address_space() - TOO_SMALL_BY);
    assert!(limited.log().contains("Failed to create new Wasm instance"), "{}", limited.log());
    assert_eq!(statuses(&limited, "nobody"), [403, 404]);
    assert_eq!(statuses(&limited, "acme"), [200, 403]);
}
