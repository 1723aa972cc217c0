use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::client::{TOKEN, Tenancyd, command};

#[test]
fn an_unknown_route_and_a_wrong_method_are_refused_in_json() {
    let server = Tenancyd::empty();
    for path in [
        "/",
        "/tenant",
        "/tenants/",
        "/tenants/a/b",
        "/tenants/a/domains/",
        "//tenants",
        "/domains",
    ] {
        assert_eq!(
            server.get(path).refused(404, "NOT_FOUND"),
            json!({"resource": "Route"}),
            "{path}"
        );
    }
    for (method, path, allowed) in [
        ("POST", "/tenants", "GET,HEAD"),
        ("PATCH", "/tenants/a", "GET,HEAD,PUT,DELETE"),
        ("DELETE", "/tenants", "GET,HEAD"),
        ("PUT", "/healthz", "GET,HEAD"),
        ("BREW", "/domains/a.example", "GET,HEAD,PUT,DELETE"),
    ] {
        let answer = server.raw(
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(
            answer.contains(&format!("allow: {allowed}\r\n")),
            "{answer}"
        );
        assert!(
            answer.contains("\r\ncontent-type: application/json\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains(r#"{"error":{"code":"METHOD_NOT_ALLOWED""#),
            "{answer}"
        );
    }
}

#[test]
fn a_path_that_does_not_decode_is_refused() {
    let server = Tenancyd::empty();
    for path in [
        "/tenants/%zz",
        "/tenants/%",
        "/tenants/%ff",
        "/domains/%e2%82",
        "/%zz",
    ] {
        let answer = server
            .raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 422 "), "{path}: {answer}");
        assert!(
            answer.contains(r#"{"error":{"code":"VALIDATION_ERROR""#),
            "{path}: {answer}"
        );
    }
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let server = Tenancyd::empty();
    let fits = format!(
        r#"{{"metadata":{{"a":"{}"}}}}"#,
        "x".repeat(256 * 1024 - 21)
    );
    let too_large = format!("{fits} ");
    assert_eq!(fits.len(), 256 * 1024);
    assert_eq!(server.put("/tenants/a", &fits).status, 201);
    assert_eq!(
        server
            .put("/tenants/a", &too_large)
            .refused(413, "PAYLOAD_TOO_LARGE"),
        json!({"maxBytes": 262_144})
    );
    // Nobody says here how long the body is.
    let head = format!(
        "PUT /tenants/b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let answer =
        server.raw(format!("{head}{:x}\r\n{too_large}\r\n0\r\n\r\n", too_large.len()).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.get("/tenants/b").refused(404, "NOT_FOUND");
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let server = Tenancyd::empty();
    let body = "x".repeat(2 * 1024 * 1024);
    for _ in 0..20 {
        server
            .put("/tenants/a", &body)
            .refused(413, "PAYLOAD_TOO_LARGE");
        server
            .call("PUT", "/tenants/a", Some(&body), &[])
            .refused(401, "UNAUTHORIZED");
    }
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let server = Tenancyd::empty();
    let head = format!(
        "PUT /tenants/b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n\r\n"
    );
    let mut stream = server.connect();
    stream.write_all(format!("{head}{{}}").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    server.get("/tenants/b").refused(404, "NOT_FOUND");
}

#[test]
fn a_write_that_is_refused_leaves_its_body_unread() {
    let server = Tenancyd::empty();
    let answer = server.raw(b"PUT /tenants/b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn http_2_works_without_tls() {
    let server = Tenancyd::empty();
    server.put("/tenants/acme", "{}");
    let stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (path, status) in [("/tenants/acme", 200), ("/tenants/nobody", 404)] {
        let request = ureq::http::Request::get(format!("http://{}{path}", server.address))
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        let mut body = response.into_body();
        assert!(body.data().await.unwrap().unwrap().starts_with(b"{"));
    }
}

#[test]
fn a_unix_socket_serves_too_and_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let start = || {
        Tenancyd::spawn(&mut command(&[
            "--database",
            ":memory:",
            "--listen",
            &listen,
        ]))
    };
    let mut killed = start();
    killed.kill();
    assert!(socket.exists());
    let server = start();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let said = crate::client::failed_start(&mut command(&[
        "--database",
        ":memory:",
        "--listen",
        &listen,
    ]));
    assert!(said.contains("something else already does"), "{said}");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn it_says_that_it_is_up_and_ready() {
    let server = Tenancyd::empty();
    assert_eq!(server.get("/healthz").text, r#"{"status":"ok"}"#);
    assert_eq!(server.get("/readyz").text, r#"{"status":"ready"}"#);
}
