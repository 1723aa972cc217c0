//! What only real Envoy can show: forms of a configuration, refused ones, routes, clients that leave, updates.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use upstream::Upstream;

use crate::bootstrap::{Bootstrap, structure};
use crate::curl;
use crate::envoy::{Envoy, EnvoyWorld, folder, needed, refusing};
use crate::scenarios::world::*;

fn string_value(text: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
}

fn named(name: &str) -> Request {
    get("any.example/").header("x-tenant-id", name)
}

#[test]
fn every_form_of_a_configuration_means_the_same() {
    let config =
        inline(json!({"resolution": ["header", "subdomain"], "baseDomain": ["app.example.com"], "required": false}));
    let text = format!("\n\t{config}\n");
    let bytes = json!({
        "@type": "type.googleapis.com/google.protobuf.BytesValue",
        "value": base64::prelude::BASE64_STANDARD.encode(&text),
    });
    let typed = |package: &str| {
        json!({
            "@type": format!("type.googleapis.com/{package}.type.v{}.TypedStruct", if package == "udpa" { 1 } else { 3 }),
            "type_url": "type.googleapis.com/envoy.tenancy",
            "value": config,
        })
    };
    for configuration in [string_value(&text), bytes, structure(&config), typed("xds"), typed("udpa")] {
        let world = &mut EnvoyWorld::start_with(configuration, Directory::default());
        world.send(&named("acme")).reaches(&[("x-tenant-id", "acme"), ("x-tenant-plan", "pro")]);
        world.send(&named("globex")).is_refused(403, "TENANT_SUSPENDED");
        world.send(&get("hooli.app.example.com/")).reaches(&[("x-tenant-id", "hooli")]);
        world.send(&get("any.example/")).reaches(&[("x-tenant-id", "")]);
    }
}

/// What `envoy --mode validate` makes of a configuration: whether it starts, and what it says.
fn validate(configuration: Value) -> (bool, String) {
    let bootstrap = Bootstrap {
        wasm: &needed("TENANCY_WASM"),
        configuration,
        service: refusing(),
        directory: refusing(),
        refusing: refusing(),
    };
    let folder = folder();
    let path = folder.join("envoy.json");
    std::fs::write(&path, bootstrap.json().to_string()).expect("the configuration is written");
    let output = Command::new(needed("ENVOY_BIN"))
        .args(["--mode", "validate", "--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
        .arg(&path)
        .output()
        .expect("Envoy runs");
    let _ = std::fs::remove_dir_all(folder);
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
    )
}

#[test]
fn envoy_refuses_to_start_on_any_fault_and_names_them_all() {
    let faulty = json!({
        "isolation": {"strategy": "sharded", "resolution": ["subdomian", "custom_domain"], "baseDomian": "app.example.com"},
        "lookupTenant": {"cluster": "directory", "path": "/tenants", "timeoutMs": 0},
        "forwrad": {},
    });
    let expected = [
        "isolation.strategy: unknown strategy \"sharded\"",
        "isolation.resolution[0]: unknown resolution strategy \"subdomian\"",
        "did you mean \"subdomain\"?",
        "isolation.baseDomian: unknown key \"baseDomian\"",
        "did you mean \"baseDomain\"?",
        "lookupTenant.path: needs the placeholder {tenantId}",
        "lookupTenant.timeoutMs: expected a whole number from 1 to 60000, found 0",
        "forwrad: unknown key \"forwrad\"",
        "did you mean \"forward\"?",
    ];
    for configuration in [structure(&faulty), string_value(&faulty.to_string())] {
        let (starts, log) = validate(configuration);
        assert!(!starts, "{log}");
        for text in expected {
            assert!(log.contains(text), "{text:?} is missing in: {log}");
        }
    }
    let others = [
        (string_value(""), "the configuration is empty"),
        (string_value("{\"isolation\": }"), "the configuration is not JSON"),
        (string_value("isolation: {}"), "the configuration is neither a JSON object nor a google.protobuf.Struct"),
        (string_value("[]"), "expected an object, found a list"),
        (structure(&json!({"isolation": {"resolution": "header"}})), "no directory of any kind"),
        (
            structure(&json!({"isolation": {"resolution": "jwt"}, "tenants": [{"id": "a"}]})),
            "isolation.jwt: is missing",
        ),
        (
            structure(&json!({
                "isolation": {"resolution": "jwt", "jwt": {"secret": {"env": "NOT_THERE"}, "algorithms": ["HS256"]}},
                "tenants": [{"id": "a"}],
            })),
            "isolation.jwt.secret.env: NOT_THERE is not in the VM's environment",
        ),
    ];
    for (configuration, text) in others {
        let (starts, log) = validate(configuration);
        assert!(!starts && log.contains(text), "{text:?} is missing in: {log}");
    }
    let (starts, log) = validate(structure(&inline(json!({"resolution": "header"}))));
    assert!(starts, "{log}");
}

#[test]
fn a_forwarded_header_chooses_the_route() {
    let (blue, green) = (Upstream::start("blue").expect("it starts"), Upstream::start("green").expect("it starts"));
    let mut bootstrap = Bootstrap {
        wasm: &needed("TENANCY_WASM"),
        configuration: structure(&inline(json!({"resolution": "path", "stripPath": true}))),
        service: blue.addr,
        directory: green.addr,
        refusing: refusing(),
    }
    .json();
    let routes = bootstrap
        .pointer_mut(
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes",
        )
        .expect("the bootstrap has routes");
    *routes = json!([
        {
            "match": {"prefix": "/", "headers": [{"name": "x-tenant-plan", "string_match": {"exact": "enterprise"}}]},
            "route": {"cluster": "directory"},
        },
        {"match": {"path": "/stripped"}, "route": {"cluster": "service"}},
    ]);
    let envoy = Envoy::start(&bootstrap);
    let answered_by = |request: Request| {
        let body = curl::send(&request, envoy.listener).response().body;
        serde_json::from_slice::<Value>(&body).ok().and_then(|echo| echo["name"].as_str().map(str::to_owned))
    };
    assert_eq!(answered_by(get("any.example/t/acme/stripped")).as_deref(), Some("blue"));
    assert_eq!(answered_by(get("any.example/t/hooli/x")).as_deref(), Some("green"));
    // The client's own header reaches neither the service nor the choice of a route.
    assert_eq!(answered_by(get("any.example/t/acme/x").header("x-tenant-plan", "enterprise")), None);
}

#[test]
fn a_client_that_leaves_harms_no_other() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["timeoutMs"] = json!(1500);
    config["lookupTenant"]["maxInFlight"] = json!(2);
    let mut directory = Directory::of(&tenants());
    for name in ["slow-1", "slow-2", "slow-3"] {
        directory = directory.with(&format!("/tenants/{name}"), Reply::Never);
    }
    let world = &mut EnvoyWorld::start(config, directory);
    // Sixteen clients ask for a tenant that doesn't come, and most of them leave while it is looked up.
    let leaving: Vec<_> = (0..16).map(|_| curl::send(&named("slow-1"), world.envoy.listener)).collect();
    let staying = curl::send(&named("slow-1"), world.envoy.listener);
    std::thread::sleep(Duration::from_millis(400));
    drop(leaving.into_iter().map(curl::Sent::leave).collect::<Vec<_>>());
    assert_eq!(staying.response().status, 503, "the one that stayed gets the directory's silence, as 503");
    // Each callout is over, so that the bound on those under way is not used up.
    for name in ["slow-1", "slow-2", "slow-3"] {
        world.send(&named(name)).is_refused(503, "SERVICE_UNAVAILABLE");
    }
    // After so much silence the directory is left alone for a quarter of a second.
    world.wait(Duration::from_millis(300));
    world.send(&named("acme")).reaches(&[("x-tenant-id", "acme")]);
    assert_eq!(world.received(), 1);
}

#[test]
fn decisions_are_counted() {
    let config = inline(json!({"resolution": "header", "required": false, "exclude": ["/healthz"]}));
    let world = &mut EnvoyWorld::start(config, Directory::default());
    for (name, times) in [("acme", 3), ("globex", 2), ("nobody", 1)] {
        for _ in 0..times {
            world.send(&named(name));
        }
    }
    world.send(&get("any.example/"));
    world.send(&get("any.example/healthz"));
    let rows = [("allow", 3), ("tenant_suspended", 2), ("tenant_not_found", 1), ("no_tenant", 1), ("excluded", 1)];
    for (decision, expected) in rows {
        assert_eq!(
            world.envoy.stat(&format!("wasmcustom.tenancy.requests.decision.{decision}")),
            expected,
            "{decision}"
        );
    }
}

#[test]
fn a_broken_record_is_logged_by_its_id_and_counted() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["snapshot"] = json!({"path": "/snap", "intervalSeconds": 30});
    let page = json!({"tenants": [{"id": "fine"}, {"id": "broken", "status": "paused"}], "next": null, "latest": "c1"});
    let directory = Directory::default()
        .with("/snap", Reply::json(&page))
        .with("/tenants/broken", Reply::json(&json!({"id": "broken", "status": "paused"})));
    let world = &mut EnvoyWorld::start(config, directory);
    world.wait(Duration::from_millis(2300));
    world.send(&named("fine")).reaches(&[("x-tenant-id", "fine")]);
    assert_eq!(world.envoy.stat("wasmcustom.tenancy.directory.faults"), 1);
    world.send(&named("broken")).is_refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(world.envoy.stat("wasmcustom.tenancy.directory.faults"), 2);
    let log = world.envoy.log();
    for text in [
        "the snapshot: tenant broken has an unknown status",
        "the lookup of tenant broken answered 200 with a body that has an unknown status",
    ] {
        assert!(log.contains(text), "{text:?} is missing in: {log}");
    }
}

#[test]
fn callouts_are_timed() {
    let world = &mut EnvoyWorld::start(looked_up(json!({"resolution": "header"})), Directory::of(&tenants()));
    world.send(&named("acme")).reaches(&[]);
    // Envoy takes values over into its histograms every five seconds.
    let name = "wasmcustom.tenancy.callout.cluster.directory.duration_ms: ";
    let shown =
        |stats: String| stats.lines().any(|line| line.strip_prefix(name).is_some_and(|values| values.contains("P50(")));
    let deadline = std::time::Instant::now() + Duration::from_secs(12);
    while !shown(world.envoy.stats()) {
        assert!(std::time::Instant::now() < deadline, "{}", world.envoy.stats());
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_body_never_overtakes_the_lookup() {
    let mut config = looked_up(json!({"resolution": "header"}));
    config["lookupTenant"]["timeoutMs"] = json!(500);
    let directory = crate::scripted::Scripted::start(Directory::of(&tenants()).with("/tenants/slow", Reply::Never));
    let service = Upstream::start("service").expect("it starts");
    let mut bootstrap = Bootstrap {
        wasm: &needed("TENANCY_WASM"),
        configuration: structure(&config),
        service: service.addr,
        directory: directory.service.addr,
        refusing: refusing(),
    }
    .json();
    let plugin = bootstrap
        .pointer_mut(
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config",
        )
        .expect("the bootstrap has the filter");
    // With this option Envoy goes on with a body while the headers wait, unless the body is held too.
    plugin["allow_on_headers_stop_iteration"] = json!(true);
    let envoy = Envoy::start(&bootstrap);
    for name in ["globex", "nobody", "slow"] {
        let response = curl::send(&named(name).post(vec![b'x'; 100_000]), envoy.listener).response();
        assert!([403, 404, 503].contains(&response.status), "{name}: {}", response.status);
    }
    assert_eq!(service.received(), 0);
    assert_eq!(curl::send(&named("acme").post(vec![b'x'; 100_000]), envoy.listener).response().status, 200);
}

#[test]
fn refusals_keep_the_connection() {
    let world = EnvoyWorld::start(inline(json!({"resolution": "header"})), Directory::default());
    let url = format!("http://{}/", world.envoy.listener);
    // Curl says for each transfer how many new connections it needed.
    let output = Command::new("curl")
        .args(["--silent", "--http1.1", "--write-out", "%{num_connects}\n", "--output", "-"])
        .args(["--header", "X-Tenant-ID: globex", &url, &url, &url])
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let connects: Vec<char> = text.lines().filter_map(|line| line.chars().last()).collect();
    assert_eq!(connects, ['1', '0', '0'], "{text}");
}

#[test]
fn the_readmes_configuration_is_the_file_and_works() {
    let read =
        |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("it is there");
    let minimal = read("envoy/minimal.yaml");
    assert!(
        read("README.md").contains(&format!("```yaml\n{}\n```", minimal.trim_end())),
        "the README shows another file"
    );

    let service = Upstream::start("service").expect("it starts");
    let mut text = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n".to_owned() + &minimal;
    for (from, to) in [
        ("port_value: 10000", "port_value: 0"),
        ("  - address: {socket", "  - name: edge\n    address: {socket"),
        ("port_value: 8081", &format!("port_value: {}", service.addr.port())),
        ("dist/tenancy.wasm", &needed("TENANCY_WASM")),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let envoy = Envoy::start_text(&text);
    let status = |host: &str| curl::send(&get(host), envoy.listener).response().status;
    assert_eq!(status("acme.app.example.com/"), 200);
    assert_eq!(status("globex.app.example.com/"), 403);
    assert_eq!(status("nobody.app.example.com/"), 404);
    assert_eq!(service.received(), 1);
}
