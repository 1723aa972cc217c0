//! Clients' connections, and what they say to each other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::client::{TOKEN, Tenancyd, command, failed_start};
use crate::sockets::{Refused, Socket, auth, token};

/// One with two tenants.
fn server(arguments: &[&str]) -> Tenancyd {
    let all = [&["--database", ":memory:", "--connections", "127.0.0.1:0"], arguments].concat();
    let server = Tenancyd::start(&all);
    for tenant in ["acme", "globex"] {
        assert_eq!(server.put(&format!("/tenants/{tenant}"), r#"{"metadata":{}}"#).status, 201);
    }
    server
}

/// How many kilobytes it has in memory.
fn memory(server: &Tenancyd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[track_caller]
fn refused(answer: Result<Socket, Refused>, status: u16, code: &str) {
    let Err(answer) = answer else { panic!("it was let in") };
    assert_eq!(answer.status(), status);
    let body: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].is_string() && body["error"]["details"].is_object(), "{body}");
}

#[test]
fn only_what_the_filter_vouches_for_gets_in() {
    let server = server(&[]);
    let door = server.door();
    for headers in [
        &[][..],
        &[("authorization", "Bearer a.b.c")],
        &[("x-tenant-id", "")],
        &[("x-tenant-id", "../acme")],
        &[("x-tenant-id", "acme"), ("x-tenant-id", "globex")],
        &[("x-tenant-auth", "yes")],
        &[("x-tenant-id", "acme"), ("x-tenant-auth", "")],
    ] {
        refused(Socket::try_open(&door, headers), 403, "FORBIDDEN");
    }
    assert!(Socket::try_open(&door, &[("x-tenant-id", "acme")]).is_ok());
    assert!(Socket::try_open(&door, &[("x-tenant-auth", "message")]).is_ok());
}

#[test]
fn where_there_is_a_secret_envoy_must_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "between-us\n").unwrap();
    let server = server(&["--connections-secret-file", file.to_str().unwrap()]);
    let door = server.door();
    let tenant = ("x-tenant-id", "acme");
    for headers in [
        &[tenant][..],
        &[tenant, ("x-tenancy-secret", "between-u")],
        &[tenant, ("x-tenancy-secret", "between-us"), ("x-tenancy-secret", "between-us")],
        &[("x-tenancy-secret", "between-us")],
    ] {
        refused(Socket::try_open(&door, headers), 403, "FORBIDDEN");
    }
    let mut socket = Socket::try_open(&door, &[tenant, ("x-tenancy-secret", "between-us")]).ok().unwrap();
    socket.heard_nothing();
    assert!(!server.log().contains("between-us"));
}

#[test]
fn an_address_that_others_reach_needs_a_secret() {
    let start = ["--listen", "127.0.0.1:0", "--database", ":memory:", "--connections", "0.0.0.0:0"];
    let said = failed_start(&mut command(&start));
    assert!(said.contains("TENANCYD_CONNECTIONS_SECRET") && said.lines().count() == 1, "{said}");
    let server = Tenancyd::spawn(command(&start).env("TENANCYD_CONNECTIONS_SECRET", "x"));
    assert!(server.door().starts_with("0.0.0.0:"));
}

#[test]
fn the_door_leads_to_nothing_of_the_api_and_the_api_to_no_connection() {
    let server = server(&[]);
    let ask = |address: &str, request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let end = format!("host: x\r\nx-tenant-id: acme\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
        stream.write_all(format!("{request} HTTP/1.1\r\n{end}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let door = server.door();
    for path in tenancyd::api::paths() {
        let answer = ask(&door, &format!("GET {}", path.replace("{tenantId}", "acme").replace(['{', '}'], "")));
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains(r#""code":"NOT_FOUND""#), "{answer}");
    }
    assert!(ask(&door, "GET /ws").starts_with("HTTP/1.1 422 "));
    assert!(ask(&door, "POST /ws").starts_with("HTTP/1.1 405 "));
    assert!(ask(&server.address, "GET /ws").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_client_that_is_judged_by_its_first_message_takes_part_from_then_on() {
    let server = server(&[]);
    let door = server.door();
    let by_message = ("x-tenant-auth", "message");
    let mut known = Socket::open(&server, "acme", Some("jo"));
    for headers in [&[by_message][..], &[by_message, ("x-tenant-id", "acme")]] {
        // A token of the upgrade that nobody has looked at makes nobody of the client.
        let unverified = format!("Bearer {}", token("mallory"));
        let headers = [headers, &[("authorization", unverified.as_str())]].concat();
        let mut socket = Socket::try_open(&door, &headers).ok().unwrap();
        known.say(&json!({"action": "broadcast", "data": "before"}));
        assert_eq!(known.hear()["data"], "before");
        socket.say(&auth("acme", "kim"));
        assert_eq!(socket.hear(), json!({"action": "auth", "success": true}));
        socket.say(&json!({"action": "broadcast", "data": "after"}));
        for socket in [&mut socket, &mut known] {
            assert_eq!(socket.hear(), json!({"action": "broadcast", "from": "kim", "data": "after"}));
        }
        // Nobody judges a second one: it makes nobody somebody else.
        socket.say(&auth("acme", "jo"));
        assert_eq!(socket.hear(), json!({"action": "auth", "success": true}));
        socket.say(&json!({"action": "send", "to": "jo", "data": 1}));
        assert_eq!(known.hear(), json!({"action": "send", "from": "kim", "data": 1}));
        socket.0.close(None).unwrap();
    }
    for (headers, first) in [
        (&[by_message][..], json!({"action": "ping"})),
        (&[by_message], json!({"action": "auth"})),
        (&[by_message, ("x-tenant-id", "acme")], auth("globex", "kim")),
    ] {
        let mut socket = Socket::try_open(&door, headers).ok().unwrap();
        socket.say(&first);
        let (code, reason) = socket.closed();
        let expected = if first["tenantId"] == "globex" { "TENANT_MISMATCH" } else { "AUTHENTICATION_REQUIRED" };
        assert!(code == 1008 && reason.starts_with(expected), "{first}: {code} {reason}");
    }
}

#[test]
fn an_auth_message_of_a_known_client_must_name_its_tenant() {
    let server = server(&[]);
    let mut socket = Socket::open(&server, "acme", Some("jo"));
    socket.say(&auth("acme", "jo"));
    assert_eq!(socket.hear(), json!({"action": "auth", "success": true}));
    socket.say(&auth("globex", "jo"));
    let (code, reason) = socket.closed();
    assert!(code == 1008 && reason.starts_with("TENANT_MISMATCH"), "{code} {reason}");
    server.counted(r#"tenancyd_connections_closed_total{reason="tenant_mismatch"} 1"#);
}

#[test]
fn tenants_never_hear_each_other() {
    let server = server(&[]);
    let mut acme: Vec<Socket> = [Some("jo"), Some("jo"), None].map(|user| Socket::open(&server, "acme", user)).into();
    let mut globex: Vec<Socket> = [Some("jo"), Some("lu")].map(|user| Socket::open(&server, "globex", user)).into();
    let listed = server.get("/tenants/acme/connections").json()["connections"].clone();
    let nameless = listed.as_array().unwrap().iter().find(|entry| entry["userId"].is_null()).unwrap();
    let nameless = nameless["id"].as_str().unwrap();

    acme[2].say(&json!({"action": "broadcast", "data": {"b": 1, "a": 2}}));
    for socket in &mut acme {
        assert_eq!(socket.hear(), json!({"action": "broadcast", "from": nameless, "data": {"b": 1, "a": 2}}));
    }
    acme[2].say_text(r#"{"action":"send","to":"jo","data":{"b":1.0,"a":1e2}}"#);
    for socket in &mut acme[..2] {
        let expected = format!(r#"{{"action":"send","from":"{nameless}","data":{{"b":1.0,"a":1e2}}}}"#);
        assert_eq!(socket.hear_text(), expected);
    }
    acme[0].say(&json!({"action": "send", "to": nameless, "data": "to one"}));
    assert_eq!(acme[2].hear(), json!({"action": "send", "from": "jo", "data": "to one"}));
    assert_eq!(server.post("/tenants/acme/messages", r#"{"data":[1]}"#).text, r#"{"connections":3,"complete":true}"#);
    for socket in &mut acme {
        assert_eq!(socket.hear(), json!({"action": "message", "data": [1]}));
    }
    let posted = server.post("/tenants/acme/messages", r#"{"data":2,"to":"jo"}"#);
    assert_eq!(posted.text, r#"{"connections":2,"complete":true}"#);
    for socket in &mut acme[..2] {
        assert_eq!(socket.hear(), json!({"action": "message", "data": 2}));
    }

    // Who is somewhere else is as unknown as who is nowhere.
    for (to, from) in [("lu", 0), ("nobody", 0), (nameless, 1)] {
        let sockets = if from == 0 { &mut acme } else { &mut globex };
        sockets[0].say(&json!({"action": "send", "to": to, "data": 1}));
        let answer = sockets[0].hear();
        let message = format!("No connection of this tenant is called {to:?}, and no user who is connected");
        assert_eq!(answer, json!({"action": "error", "error": {"code": "NOT_FOUND", "message": message}}));
    }
    assert_eq!(server.post("/tenants/acme/messages", r#"{"data":2,"to":"lu"}"#).json()["connections"], 0);
    acme.iter_mut().chain(&mut globex).for_each(Socket::heard_nothing);
}

#[test]
fn a_bad_message_is_answered_and_the_connection_stays() {
    let server = server(&[]);
    let mut socket = Socket::open(&server, "acme", None);
    for text in ["", "{", "[]", "{}", r#"{"action":"fly"}"#, r#"{"action":"send","data":1}"#, &"[".repeat(60_000)] {
        socket.say_text(text);
        let answer = socket.hear();
        assert_eq!(
            (&answer["action"], &answer["error"]["code"]),
            (&"error".into(), &"VALIDATION_ERROR".into()),
            "{text}"
        );
    }
    socket.0.send(Message::binary(vec![0xff])).unwrap();
    assert_eq!(socket.hear()["error"]["code"], "VALIDATION_ERROR");
    let longest = format!(r#"{{"action":"broadcast","data":"{}"}}"#, "x".repeat(65_536 - 32));
    assert_eq!(longest.len(), 65_536);
    socket.say_text(&longest);
    assert_eq!(socket.hear()["action"], "broadcast");
    socket.say_text(&(longest + " "));
    assert_eq!(socket.closed().0, 1009);
    server.counted(r#"tenancyd_connections_closed_total{reason="too_large"} 1"#);
}

#[test]
fn bytes_that_are_no_websocket_end_one_connection_and_nothing_else() {
    let server = server(&[]);
    let mut other = Socket::open(&server, "acme", None);
    for (bytes, code) in
        [(&[0xff; 14][..], 1002), (b"\x81\x02hi", 1002), (b"\x83\x80abcd", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)]
    {
        let mut socket = Socket::open(&server, "acme", None);
        socket.0.get_mut().write_all(bytes).unwrap();
        assert_eq!(socket.closed().0, code, "{bytes:?}");
    }
    server.counted(r#"tenancyd_connections_closed_total{reason="unreadable"} 3"#);
    server.counted(r#"tenancyd_connections_closed_total{reason="not_utf8"} 1"#);
    other.heard_nothing();
}

#[test]
fn a_close_is_echoed() {
    let server = server(&[]);
    let mut socket = Socket::open(&server, "acme", None);
    socket.0.close(Some(CloseFrame { code: 1008.into(), reason: "the filter's".into() })).unwrap();
    assert_eq!(socket.closed().0, 1008);
    server.counted("tenancyd_connections 0");
    server.counted(r#"tenancyd_connections_closed_total{reason="closed"} 1"#);
    drop(Socket::open(&server, "acme", None));
    server.counted(r#"tenancyd_connections_closed_total{reason="lost"} 1"#);
}

#[test]
fn a_slow_reader_is_dropped_and_nobody_else_misses_anything() {
    let server = server(&[]);
    let mut slow = Socket::open(&server, "acme", Some("slow"));
    let (mut one, mut other) = (Socket::open(&server, "acme", None), Socket::open(&server, "acme", None));
    let data = "x".repeat(50_000);
    let before = memory(&server);
    // Far more than the sockets' buffers and the queue hold.
    for number in 0..600 {
        one.say(&json!({"action": "broadcast", "data": {"number": number, "fill": data}}));
        for socket in [&mut one, &mut other] {
            assert_eq!(socket.hear()["data"]["number"], number);
        }
    }
    server.counted(r#"tenancyd_connections_closed_total{reason="slow_reader"} 1"#);
    assert!(memory(&server) < before + 20 * 1024, "{before} kB, then {} kB", memory(&server));
    assert_eq!(server.get("/tenants/acme/connections").json()["connections"].as_array().unwrap().len(), 2);
    // It was cut, since it didn't read that either; what had been sent comes first.
    let mut read = 0;
    while let Ok(Message::Text(_)) = slow.0.read() {
        read += 1;
    }
    assert!(read < 600, "{read}");
    server.counted("tenancyd_connections 2");
}

#[test]
fn pings_that_nobody_reads_the_answers_of_cost_no_memory() {
    let server = server(&[]);
    let flooding = Socket::open(&server, "acme", None);
    let mut other = Socket::open(&server, "acme", None);
    let before = memory(&server);
    // Masked, with a mask of nothing, and the longest that there are.
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.extend_from_slice(&[b'x'; 125]);
    let many = ping.repeat(1000);
    let mut stream = flooding.0.get_ref();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..300 {
        // It may be held up, or cut, at some point.
        if stream.write_all(&many).is_err() {
            break;
        }
    }
    other.heard_nothing();
    assert!(memory(&server) < before + 8 * 1024, "{before} kB, then {} kB", memory(&server));
}

#[test]
fn a_slow_reader_that_reads_again_learns_why_it_was_dropped() {
    let server = server(&[]);
    let mut slow = Socket::open(&server, "acme", Some("slow"));
    let data = json!({"data": "x".repeat(200_000)}).to_string();
    while server.post("/tenants/acme/messages", &data).json()["connections"] == 1 {}
    let (code, reason) = slow.closed();
    assert!(code == 1013 && reason.starts_with("SLOW_READER"), "{code} {reason}");
}

#[test]
fn a_client_that_takes_nothing_of_a_message_for_too_long_is_cut() {
    let server = server(&[]);
    let _stuck = Socket::open(&server, "acme", None);
    let data = json!({"data": "x".repeat(250_000)}).to_string();
    let written = || -> u32 {
        let text = server.get("/metrics").text;
        let out = r#"tenancyd_connection_messages_total{direction="out"} "#;
        text.lines().find_map(|line| line.strip_prefix(out)).unwrap().parse().unwrap()
    };
    // Until the sockets' buffers are full; the queue holds what comes after that.
    let mut posted = written();
    loop {
        assert_eq!(server.post("/tenants/acme/messages", &data).json()["connections"], 1);
        posted += 1;
        let deadline = Instant::now() + Duration::from_secs(3);
        while written() < posted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if written() < posted {
            break;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.get("/metrics").text.contains(r#"tenancyd_connections_closed_total{reason="write_timeout"} 1"#) {
        assert!(Instant::now() < deadline, "{}", server.get("/metrics").text);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_is_silent_is_pinged_and_who_doesnt_answer_is_closed() {
    let server = server(&["--connections-idle-seconds", "2"]);
    let mut answers = Socket::open(&server, "acme", None);
    let mut silent = Socket::open(&server, "acme", None);
    let begun = Instant::now();
    let mut pings = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        // Reading answers pings.
        match answers.0.read().unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(pings >= 4, "{pings}");
    server.counted(r#"tenancyd_connections_closed_total{reason="idle"} 1"#);
    // Read as bytes: a client would try to answer the pings first.
    let mut bytes = Vec::new();
    silent.0.get_mut().read_to_end(&mut bytes).unwrap();
    let close = bytes.windows(14).find(|window| window[2..].starts_with(b"IDLE_TIMEOUT"));
    assert_eq!(close.map(|window| &window[..2]), Some(&1001_u16.to_be_bytes()[..]), "{bytes:?}");
    answers.heard_nothing();
}

#[test]
fn the_auth_message_has_to_come_in_time() {
    let server = server(&["--connections-auth-seconds", "1"]);
    let mut late = Socket::try_open(&server.door(), &[("x-tenant-auth", "message")]).ok().unwrap();
    let begun = Instant::now();
    let (code, reason) = late.closed();
    assert!(code == 1008 && reason.starts_with("AUTHENTICATION_REQUIRED"), "{code} {reason}");
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn there_are_no_more_connections_than_there_may_be() {
    let server = server(&["--connections-max", "2"]);
    let mut first = Socket::open(&server, "acme", None);
    let _second = Socket::open(&server, "acme", None);
    refused(Socket::try_open(&server.door(), &[("x-tenant-id", "acme")]), 503, "SERVICE_UNAVAILABLE");
    first.0.close(None).unwrap();
    first.0.flush().unwrap();
    server.counted("tenancyd_connections 1");
    let _third = Socket::open(&server, "acme", None);
}

#[test]
fn a_stop_closes_every_connection_within_its_bound() {
    let server = server(&[]);
    let door = server.door();
    let mut ready = Socket::open(&server, "acme", None);
    let mut waiting = Socket::try_open(&door, &[("x-tenant-auth", "message")]).ok().unwrap();
    let _deaf = Socket::open(&server, "acme", None);
    let begun = Instant::now();
    server.signal("TERM");
    for socket in [&mut ready, &mut waiting] {
        let (code, reason) = socket.closed();
        assert!(code == 1001 && reason.starts_with("GOING_AWAY"), "{code} {reason}");
    }
    server.logged("stopped");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(&door).is_err());
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn after_a_restart_clients_come_back_to_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let start = || Tenancyd::start(&["--database", database.to_str().unwrap(), "--connections", &free]);
    let mut server = start();
    server.put("/tenants/acme", "{}");
    let mut socket = Socket::open(&server, "acme", Some("jo"));
    server.kill();
    assert!(socket.0.read().is_err());
    let server = start();
    assert_eq!(server.get("/tenants/acme/connections").json()["connections"], json!([]));
    let mut socket = Socket::open(&server, "acme", Some("jo"));
    assert_eq!(server.post("/tenants/acme/messages", r#"{"data":1,"to":"jo"}"#).json()["connections"], 1);
    assert_eq!(socket.hear(), json!({"action": "message", "data": 1}));
}

#[test]
fn connections_are_listed_in_pages() {
    let server = server(&[]);
    server.put("/tenants/acme", r#"{"slug":"a"}"#);
    let _sockets: Vec<Socket> =
        (0..5).map(|number| Socket::open(&server, "acme", Some(&format!("u{number}")))).collect();
    let _other = Socket::open(&server, "globex", None);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/tenants/a/connections?limit=2{after}")).json();
        seen.extend(page["connections"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let mut users: Vec<&str> = seen.iter().map(|entry| entry["userId"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["u0", "u1", "u2", "u3", "u4"]);
    let instance = server.logged("listening for connections")["instance"].clone();
    assert!(seen.iter().all(|entry| entry["instance"] == instance && entry["since"].as_i64().unwrap() > 1_700_000_000));
    server.get("/tenants/nobody/connections").refused(404, "NOT_FOUND");
    server.get("/tenants/acme/connections?after=x").refused(422, "VALIDATION_ERROR");
}

#[test]
fn what_the_application_says_needs_the_token_and_a_tenants_id() {
    let server = server(&[]);
    server.call("POST", "/tenants/acme/messages", Some(r#"{"data":1}"#), &[]).refused(401, "UNAUTHORIZED");
    server.post("/tenants/nobody/messages", r#"{"data":1}"#).refused(404, "NOT_FOUND");
    let faults = server.post("/tenants/acme/messages", r#"{"to":7,"x":1}"#).refused(422, "VALIDATION_ERROR");
    assert_eq!(faults["faults"].as_array().unwrap().len(), 3, "{faults}");
    let line = server.logged_with("route", "/tenants/{tenantId}/messages");
    assert_eq!(line["status"], 401);
}

#[tokio::test]
async fn http_2_takes_connections_too() {
    let server = server(&[]);
    let stream = tokio::net::TcpStream::connect(server.door()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.is_extended_connect_protocol_enabled() {
        assert!(Instant::now() < deadline, "no extended CONNECT");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let request = ureq::http::Request::builder()
        .method("CONNECT")
        .uri("http://door/ws")
        .header("sec-websocket-version", "13")
        .header("x-tenant-id", "acme")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    let (answer, mut to) = client.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut from = answer.into_body();
    // A masked text, its mask nothing.
    let mut frame = vec![0x81, 0x80 | 17, 0, 0, 0, 0];
    frame.extend_from_slice(br#"{"action":"ping"}"#);
    to.send_data(frame.into(), false).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 19 {
        heard.extend_from_slice(&from.data().await.unwrap().unwrap());
    }
    assert_eq!(&heard[2..], br#"{"action":"pong"}"#);
    server.counted("tenancyd_connections 1");
}
