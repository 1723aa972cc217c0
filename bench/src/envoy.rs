//! The Envoy that is measured: one worker, a listener for every variant, and one more that tells what would have reached the service.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::benches::{BASELINE, Bench};
use crate::tokens::{Algorithm, Keys, SECRET};

/// How long Envoy may take to start: it compiles the filter twice for every variant.
const START: Duration = Duration::from_secs(120);
/// Where the variants are, from the top of the repository, where this runs.
const VARIANTS: &str = "bench/variants";

/// What Envoy's configuration is made of.
pub struct Config<'a> {
    pub benches: &'a [Bench],
    pub service: SocketAddr,
    pub keys: &'a Keys,
}

/// A running Envoy. It is ended when it is dropped.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    listeners: BTreeMap<String, SocketAddr>,
}

impl Envoy {
    pub fn start(program: &Path, config: &Config<'_>) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("tenancy-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (file, admin_file) = (folder.join("envoy.yaml"), folder.join("admin"));
        std::fs::write(&file, config.yaml()?)?;
        let log = File::create(folder.join("envoy.log"))?;
        let child = Command::new(program)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // From here on it is ended, whatever comes.
        let mut envoy = Self { child, folder, listeners: BTreeMap::new() };
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = envoy.child.try_wait()? {
                return Err(format!("Envoy ended with {status}\n{}", envoy.log()).into());
            }
            let admin = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(admin) = admin
                && admin_get(admin, "/ready").contains("LIVE")
            {
                envoy.listeners = listeners(&admin_get(admin, "/listeners"));
                if !envoy.listeners.is_empty() {
                    return Ok(envoy);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("Envoy isn't ready after {START:?}\n{}", envoy.log()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where a variant listens.
    pub fn listener(&self, name: &str) -> Outcome<SocketAddr> {
        let address = self.listeners.get(name).copied();
        Ok(address.ok_or_else(|| format!("Envoy has no listener {name}"))?)
    }

    /// The last of what Envoy wrote.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The name of the listener that has a variant's filters and tells what they did to the request.
pub fn telling(variant: &str) -> String {
    format!("{variant}.telling")
}

impl Config<'_> {
    fn yaml(&self) -> Outcome<String> {
        let variants: BTreeSet<String> = self.benches.iter().flat_map(Bench::listeners).collect();
        let mut yaml = String::from("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
        yaml.push_str("static_resources:\n  clusters:\n");
        push_indented(&mut yaml, 2, &directory(self.service));
        yaml.push_str("  listeners:\n");
        for variant in &variants {
            let connection_manager = self.connection_manager(variant)?;
            push_indented(&mut yaml, 2, &listener(variant, &connection_manager));
            push_indented(&mut yaml, 2, &listener(&telling(variant), &(connection_manager + &echoes())));
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

fn listeners(text: &str) -> BTreeMap<String, SocketAddr> {
    let one = |line: &str| {
        let (name, address) = line.trim().split_once("::")?;
        Some((name.to_owned(), address.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

fn admin_get(admin: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(admin) else { return String::new() };
    let mut text = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes());
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
