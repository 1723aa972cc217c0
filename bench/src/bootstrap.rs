//! The configuration of the Envoy that is measured: a listener for every variant, and one more that tells what would have reached the service.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::Outcome;
use crate::benches::BASELINE;
use crate::service;
use crate::tokens::{Algorithm, Keys, SECRET};

/// Where the variants are, from the top of the repository, where this runs.
const VARIANTS: &str = "bench/variants";
/// How many tenants an inline list has that is there for its length.
pub const MADE_UP_TENANTS: usize = 10_000;

/// What Envoy's configuration is made of.
pub struct Setup<'a> {
    /// The variants, by the names of their files without `.yaml`, or [`BASELINE`].
    pub variants: BTreeSet<String>,
    /// Whether each has a second listener, which tells.
    pub telling: bool,
    /// Where the directory and the authorization service are.
    pub service: SocketAddr,
    pub keys: &'a Keys,
    /// How many workers Envoy has.
    pub workers: u32,
}

/// The name of the listener that has a variant's filters and tells what they did to the request.
pub fn telling(variant: &str) -> String {
    format!("{variant}.telling")
}

impl Setup<'_> {
    /// The whole configuration. The filter's module and Lua's scripts are named from the top of the repository, where Envoy is started.
    pub fn yaml(&self) -> Outcome<String> {
        let mut yaml = String::from("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
        yaml.push_str("static_resources:\n  clusters:\n");
        push_indented(&mut yaml, 2, &directory(self.service));
        yaml.push_str("  listeners:\n");
        for variant in &self.variants {
            let connection_manager = self.connection_manager(variant)?;
            push_indented(&mut yaml, 2, &listener(variant, &connection_manager));
            if self.telling {
                push_indented(&mut yaml, 2, &listener(&telling(variant), &(connection_manager + &echoes())));
            }
        }
        Ok(yaml)
    }

    /// The variant's filters and routes, as its file has them.
    fn connection_manager(&self, variant: &str) -> Outcome<String> {
        let mut text = if variant == BASELINE {
            format!("http_filters:\n{ROUTER}")
        } else {
            let path = format!("{VARIANTS}/{variant}.yaml");
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            if variant.ends_with(".tenancy") { tenancy(variant, &text) } else { text }
        };
        let tenants: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(format!("{VARIANTS}/tenants.json"))?)?;
        text = text.replace("@TENANTS@", &tenants.to_string());
        text = text.replace("@MADE_UP_TENANTS@", &made_up_tenants().to_string());
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::HS256, Algorithm::EdDSA] {
            let key_set = self.keys.key_set(algorithm).to_string();
            text = text.replace(&format!("@{}_JWKS@", algorithm.name()), &key_set);
        }
        if !text.contains("\nroute_config:\n") {
            text.push_str(ROUTES);
        }
        Ok(text)
    }
}

/// As many inline tenants as [`MADE_UP_TENANTS`].
fn made_up_tenants() -> serde_json::Value {
    (0..MADE_UP_TENANTS).map(|number| service::record(&service::name(number))).collect()
}

const ROUTER: &str = r#"- name: envoy.filters.http.router
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

/// Last in a connection manager, because what is told of the request comes behind it.
const ROUTES: &str = r#"route_config:
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: {prefix: /}
      direct_response: {status: 200}
"#;

/// The filter with that configuration, as the README shows it.
fn tenancy(variant: &str, configuration: &str) -> String {
    let mut text = format!(
        r#"http_filters:
- name: tenancy
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      failure_policy: FAIL_RELOAD
      vm_config:
        vm_id: {variant}
        runtime: envoy.wasm.runtime.v8
        code: {{local: {{filename: dist/tenancy.wasm}}}}
        environment_variables: {{key_values: {{BENCH_SECRET: "{SECRET}"}}}}
      configuration:
        "@type": type.googleapis.com/google.protobuf.Struct
        value:
"#
    );
    push_indented(&mut text, 10, configuration);
    text.push_str(ROUTER);
    text
}

fn listener(name: &str, connection_manager: &str) -> String {
    let mut text = format!(
        r#"- name: {name}
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
  # Each worker gets as many connections as the others.
  connection_balance_config: {{exact_balance: {{}}}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: {name}
        normalize_path: true
        request_timeout: 60s
        stream_idle_timeout: 60s
"#
    );
    push_indented(&mut text, 8, connection_manager);
    text
}

fn directory(at: SocketAddr) -> String {
    format!(
        r#"- name: directory
  connect_timeout: 1s
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {{http2_protocol_options: {{}}}}
  load_assignment:
    cluster_name: directory
    endpoints:
    - lb_endpoints:
      - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
"#,
        at.ip(),
        at.port()
    )
}

/// Headers of the response that repeat those of the request as the route saw them.
fn echoes() -> String {
    let mut text = String::from("  response_headers_to_add:\n");
    for name in ["x-tenant-id", "x-tenant-plan", "x-tenant-isolation", "x-forwarded-prefix", ":path"] {
        let told = told(name);
        text.push_str(&format!("  - header: {{key: {told}, value: \"%REQ({name})%\"}}\n"));
    }
    text
}

/// The response's header that repeats a request's.
pub fn told(name: &str) -> String {
    format!("told-{}", name.trim_start_matches(':'))
}

fn push_indented(text: &mut String, by: usize, lines: &str) {
    for line in lines.lines() {
        text.push_str(&" ".repeat(by));
        text.push_str(line);
        text.push('\n');
    }
}
