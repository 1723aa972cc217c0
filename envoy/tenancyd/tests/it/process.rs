use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::client::{TOKEN, Tenancyd, command, failed_start};

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    let acknowledged = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (address, acknowledged) = (server.address.clone(), &acknowledged);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                for number in 0.. {
                    let id = format!("w{writer}-{number}");
                    let request = format!("PUT /tenants/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 2\r\n\r\n{{}}");
                    let mut answer = [0; 12];
                    if stream.write_all(request.as_bytes()).and_then(|()| stream.read_exact(&mut answer)).is_err() {
                        break;
                    }
                    assert_eq!(&answer, b"HTTP/1.1 201");
                    acknowledged.lock().unwrap().push(id);
                    // The rest of the answer is whatever has come by now.
                    if stream.read(&mut [0; 4096]).is_err() {
                        break;
                    }
                }
            });
        }
        while acknowledged.lock().unwrap().len() < 30 {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.signal("KILL");
    });
    drop(server);
    let server = Tenancyd::on(&database);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 30);
    for id in &acknowledged {
        assert_eq!(
            server.get(&format!("/tenants/{id}")).status,
            200,
            "{id} of {}",
            acknowledged.len()
        );
    }
}

#[test]
fn a_stop_lets_a_slow_request_finish_and_takes_no_new_one() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("t.db");
        let server = Tenancyd::on(&database);
        let mut slow = server.connect();
        let head = format!(
            "PUT /tenants/slow HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).unwrap();
        let mut proceed = [0; 25];
        slow.read_exact(&mut proceed).unwrap();
        assert_eq!(&proceed, b"HTTP/1.1 100 Continue\r\n\r\n");
        server.signal(signal);
        server.logged("stopping");
        assert!(TcpStream::connect(&server.address).is_err());
        slow.write_all(b"{}").unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        server.logged("stopped");
        assert_eq!(server.ended().code(), Some(0));
        assert!(
            !folder.path().join("t.db-wal").exists(),
            "the database is still open"
        );
        assert_eq!(Tenancyd::on(&database).get("/tenants/slow").status, 200);
    }
}

#[test]
fn an_idle_connection_does_not_hold_up_a_stop() {
    let server = Tenancyd::empty();
    let mut silent = server.connect();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}

/// Both in one test, since each takes ten seconds.
#[test]
fn a_body_that_never_comes_is_given_up_and_a_client_that_never_reads_cannot_hold_up_a_stop() {
    let (serving, stopping) = (Tenancyd::empty(), Tenancyd::empty());
    let mut silent = serving.connect();
    let head = format!(
        "PUT /tenants/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\n\r\n{{"
    );
    silent.write_all(head.as_bytes()).unwrap();

    let large = serde_json::json!({"metadata": {"note": "x".repeat(200_000)}}).to_string();
    for number in 0..20 {
        stopping.put(&format!("/tenants/{number}"), &large);
    }
    let mut deaf = stopping.connect();
    // More than the sockets' buffers hold.
    deaf.write_all(
        "GET /tenants HTTP/1.1\r\nhost: x\r\n\r\n"
            .repeat(10)
            .as_bytes(),
    )
    .unwrap();
    stopping.logged_with("route", "/tenants");
    let begun = Instant::now();
    stopping.signal("TERM");

    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("REQUEST_TIMEOUT"),
        "{answer}"
    );
    stopping.logged("some requests didn't finish in time; their connections are cut");
    assert_eq!(stopping.ended().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(14),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = failed_start(&mut command(&[
        "--database",
        ":memory:",
        "--listen",
        &address,
    ]));
    assert_eq!(
        said,
        format!("tenancyd: can't listen on {address}: something else already does\n")
    );
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("text"),
        "no database at all, but long enough to be looked at".repeat(20),
    )
    .unwrap();
    std::fs::write(path("token"), "").unwrap();
    rusqlite::Connection::open(path("newer"))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    rusqlite::Connection::open(path("foreign"))
        .unwrap()
        .execute("CREATE TABLE theirs (x)", [])
        .unwrap();
    let (none, text, newer, foreign, token) = (
        path("no/db"),
        path("text"),
        path("newer"),
        path("foreign"),
        path("token"),
    );
    for (arguments, expected) in [
        (
            ["--database", none.as_str()],
            "unable to open database file",
        ),
        (["--database", &text], "file is not a database"),
        (["--database", &newer], "a newer tenancyd wrote it"),
        (["--database", &foreign], "another program's"),
        (["--token-file", &token], "the token is empty"),
        (["--token-file", &none], "No such file"),
    ] {
        let said = failed_start(
            command(&["--listen", "127.0.0.1:0"])
                .args(arguments)
                .current_dir(folder.path()),
        );
        assert!(
            said.starts_with("tenancyd: ") && said.contains(expected) && said.lines().count() == 1,
            "{said}"
        );
    }
    let both = failed_start(
        command(&["--listen", "127.0.0.1:0", "--token-file", &text]).env("TENANCYD_TOKEN", "x"),
    );
    assert!(both.contains("one of them must go"), "{both}");
}

#[test]
fn a_token_on_the_command_line_is_no_option() {
    let output = command(&["--token", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_log_has_one_line_a_request_and_no_secret() {
    let server = Tenancyd::empty();
    server.call(
        "GET",
        "/tenants/private-name",
        None,
        &[("x-request-id", "r-1")],
    );
    let auth = format!("Bearer {TOKEN}");
    server.call(
        "PUT",
        "/tenants/acme",
        Some("{}"),
        &[("authorization", &auth), ("x-request-id", "bad id \"")],
    );
    server.call(
        "DELETE",
        "/tenants/acme",
        None,
        &[
            ("authorization", "Bearer wr0ng-token"),
            ("x-request-id", "r-3"),
        ],
    );
    server.get("/made-up/by-a-client");
    let write = server.logged("tenant put");
    assert_eq!(
        (&write["by"], &write["tenant"]),
        (&"token".into(), &"acme".into())
    );
    assert!(write.get("request_id").is_none());
    server.signal("TERM");
    server.logged("stopped");
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "request")
        .collect();
    let expected = [
        (
            "GET",
            "/tenants/{tenantId}",
            404,
            Some("r-1"),
            Some("NOT_FOUND"),
        ),
        ("PUT", "/tenants/{tenantId}", 201, None, None),
        (
            "DELETE",
            "/tenants/{tenantId}",
            401,
            Some("r-3"),
            Some("UNAUTHORIZED"),
        ),
        ("GET", "none", 404, None, Some("NOT_FOUND")),
    ];
    assert_eq!(requests.len(), expected.len(), "{log}");
    for (line, (method, route, status, request_id, code)) in requests.iter().zip(expected) {
        assert_eq!(
            (&line["method"], &line["route"], &line["status"]),
            (&method.into(), &route.into(), &status.into())
        );
        assert_eq!(
            line.get("request_id").and_then(|id| id.as_str()),
            request_id
        );
        assert_eq!(line.get("code").and_then(|code| code.as_str()), code);
        assert!(line["duration_ms"].as_f64().unwrap() >= 0.0 && line["timestamp"].is_string());
    }
    for secret in [TOKEN, "wr0ng-token", "private-name", "made-up", "bad id"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn the_log_can_be_turned_down() {
    let server = Tenancyd::start(&[
        "--database",
        ":memory:",
        "--log",
        "info,tenancyd::api=error",
    ]);
    server.get("/tenants");
    server.signal("TERM");
    server.logged("stopped");
    assert!(!server.log().contains("\"request\""));
}
