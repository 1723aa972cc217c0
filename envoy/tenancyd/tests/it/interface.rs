//! What the server says about itself: metrics, and the description of its interface.

use std::collections::BTreeMap;

use crate::client::{TOKEN, Tenancyd};

const HEAD: &str = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// The paths of the document with their methods. It is read by its indentation, which is all that this takes.
fn documented(document: &str) -> BTreeMap<String, Vec<String>> {
    let mut paths = BTreeMap::<String, Vec<String>>::new();
    let mut current = None;
    let of_paths = document.lines().skip_while(|line| *line != "paths:").skip(1);
    for line in of_paths.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let name = line.trim().strip_suffix(':').unwrap_or_default();
        match line.len() - line.trim_start().len() {
            2 => current = Some(paths.entry(name.to_owned()).or_default()),
            4 => current.as_mut().unwrap().push(name.to_uppercase()),
            _ => {}
        }
    }
    paths
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let server = Tenancyd::empty();
    let answer = server.get("/openapi.yaml");
    assert_eq!(answer.header("content-type"), Some("application/yaml"));
    assert_eq!(answer.text, tenancyd::api::OPENAPI);
    let documented = documented(&answer.text);
    let mut paths = tenancyd::api::paths();
    paths.sort_unstable();
    assert_eq!(documented.keys().collect::<Vec<_>>(), paths);
    for (path, mut methods) in documented {
        let answer = server.raw(format!("BREW {} {HEAD}", path.replace(['{', '}'], "")).as_bytes());
        let allow = answer.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        let mut allowed: Vec<&str> = allow.split(',').filter(|method| *method != "HEAD").collect();
        methods.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(allowed, methods, "{path}");
    }
}

#[test]
fn the_document_has_every_refusal() {
    let code = include_str!("../../src/error.rs");
    let codes: Vec<&str> = code
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\"),")?.split_once("=> (StatusCode::")?.1.split_once('"'))
        .map(|(_, code)| code)
        .collect();
    assert!(codes.len() >= 11, "{codes:?}");
    for code in codes {
        assert!(tenancyd::api::OPENAPI.contains(&format!("- {code}\n")), "{code}");
    }
}

#[test]
fn metrics_count_requests_tenants_and_failures() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    for (id, body) in [("a", "{}"), ("b", "{}"), ("c", r#"{"status":"suspended"}"#), ("d", "{}")] {
        server.put(&format!("/tenants/{id}"), body);
    }
    server.delete("/tenants/d");
    server.get("/tenants/private-name");
    server.raw(format!("BREW /made-up {HEAD}").as_bytes());
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    server.put("/tenants/late", "{}").refused(503, "SERVICE_UNAVAILABLE");
    other.execute_batch("ROLLBACK").unwrap();

    let answer = server.get("/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let text = answer.text;
    for line in [
        r#"tenancyd_requests_total{route="/tenants/{tenantId}",method="PUT",status="201"} 4"#,
        r#"tenancyd_requests_total{route="/tenants/{tenantId}",method="PUT",status="503"} 1"#,
        r#"tenancyd_requests_total{route="/tenants/{tenantId}",method="DELETE",status="204"} 1"#,
        r#"tenancyd_requests_total{route="/tenants/{tenantId}",method="GET",status="404"} 1"#,
        r#"tenancyd_requests_total{route="none",method="other",status="404"} 1"#,
        r#"tenancyd_request_duration_seconds_count{route="/tenants/{tenantId}",method="PUT"} 5"#,
        r#"tenancyd_request_duration_seconds_bucket{route="/tenants/{tenantId}",method="PUT",le="+Inf"} 5"#,
        r#"tenancyd_tenants{status="active"} 2"#,
        r#"tenancyd_tenants{status="suspended"} 1"#,
        r#"tenancyd_tenants{status="inactive"} 0"#,
        "tenancyd_tombstones 1",
        "tenancyd_revision 5",
        r#"tenancyd_database_errors_total{kind="unavailable"} 1"#,
        r#"tenancyd_database_errors_total{kind="internal"} 0"#,
        r#"tenancyd_database_queue_length{queue="writes"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(!text.contains("private-name") && !text.contains("made-up") && !text.contains(TOKEN));
    // Every line is a sample or tells of one, every sample's family has its type, and no sample is there twice.
    let (mut families, mut samples) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for line in text.lines().filter(|line| !line.starts_with("# HELP ")) {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split_once(' ').unwrap().0));
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok() && samples.insert(sample), "{line}");
        let name = sample.split_once('{').map_or(sample, |(name, _)| name);
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(families.contains(family), "{line}");
    }

    other.execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE changes").unwrap();
    let broken = server.get("/metrics");
    assert_eq!(broken.status, 200);
    assert!(broken.text.contains(r#"tenancyd_database_errors_total{kind="internal"} 1"#), "{}", broken.text);
    assert!(!broken.text.contains("tenancyd_tenants"));
}
