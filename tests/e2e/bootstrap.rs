//! Envoy's own configuration for a test: one listener, the filter, and clusters for the service and the directory.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::scenarios::world::{SECRET, SECRET_NAME};

/// What differs between tests.
pub struct Bootstrap<'a> {
    /// The filter's module.
    pub wasm: &'a str,
    /// The plugin's `configuration`, an `Any`.
    pub configuration: Value,
    /// Where the service listens.
    pub service: SocketAddr,
    /// Where the directory listens.
    pub directory: SocketAddr,
    /// A port where nobody listens.
    pub refusing: SocketAddr,
}

/// The plugin's configuration as people write it in YAML.
pub fn structure(config: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": config})
}

impl Bootstrap<'_> {
    /// The bootstrap as Envoy reads it.
    pub fn json(&self) -> Value {
        json!({
            "admin": {"address": address("127.0.0.1:0")},
            "static_resources": {
                "listeners": [{
                    "name": "edge",
                    "address": address("127.0.0.1:0"),
                    "filter_chains": [{"filters": [{
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": self.connection_manager(),
                    }]}],
                }],
                "clusters": [
                    cluster("service", self.service),
                    cluster("directory", self.directory),
                    cluster("refusing", self.refusing),
                ],
            },
        })
    }

    fn connection_manager(&self) -> Value {
        let log_fields: Vec<Value> = ["id", "slug", "plan", "decision"]
            .iter()
            .map(|field| header(&format!("x-log-{field}"), &format!("%FILTER_STATE(wasm.tenant_{field}:PLAIN)%")))
            .collect();
        let mut refused = log_fields.clone();
        refused.push(header("x-details", "%RESPONSE_CODE_DETAILS%"));
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "request_timeout": "20s",
            "stream_idle_timeout": "20s",
            // So that a test's own x-request-id and a request's raw path reach the filter.
            "preserve_external_request_id": true,
            "normalize_path": false,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "local_reply_config": {"mappers": [{
                "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 0, "runtime_key": "none"}}}},
                "headers_to_add": refused,
            }]},
            "http_filters": [
                {
                    "name": "tenancy",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                        "config": {
                            "name": "tenancy",
                            "root_id": "tenancy",
                            "failure_policy": "FAIL_RELOAD",
                            "vm_config": {
                                "vm_id": "tenancy",
                                "runtime": "envoy.wasm.runtime.v8",
                                "code": {"local": {"filename": self.wasm}},
                                "environment_variables": {"key_values": {SECRET_NAME: SECRET}},
                            },
                            "configuration": self.configuration,
                        },
                    },
                },
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                },
            ],
            "route_config": {
                "name": "services",
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{
                        "match": {"prefix": "/"},
                        "route": {"cluster": "service"},
                        "response_headers_to_add": log_fields,
                    }],
                }],
            },
        })
    }
}

fn address(address: &str) -> Value {
    let (host, port) = address.rsplit_once(':').expect("an address has a port");
    json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().expect("a port is a number")}})
}

/// A cluster of one endpoint, over HTTP/1.1.
pub fn cluster(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(&at.to_string())}}]}],
        },
    })
}

fn header(key: &str, value: &str) -> Value {
    json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
}
