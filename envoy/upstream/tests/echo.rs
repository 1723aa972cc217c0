//! What a client is told about its request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tungstenite::Message;
use upstream::Upstream;

/// The whole answer to these bytes: its head, and its body as JSON.
#[cfg(test)]
fn exchange(upstream: &Upstream, request: &[u8]) -> (String, Value) {
    let mut stream = TcpStream::connect(upstream.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_request_is_described_as_it_came() {
    let upstream = Upstream::start("blue").unwrap();
    let request = b"POST /raw/%61/../b?x=%20+&x=2 HTTP/1.1\r\nHost: Acme.example:80\r\nX-Tenant-ID: acme\r\nx-tenant-id: second\r\n\
        x-bin: \xff\xfe\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let (head, mut body) = exchange(&upstream, request);
    let received_at = body.as_object_mut().unwrap().remove("receivedAt").unwrap();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(now.abs_diff(received_at.as_u64().unwrap().into()) < 10_000, "{received_at}");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-type: application/json"), "{head}");
    let expected = json!({
        "name": "blue",
        "method": "POST",
        "authority": "Acme.example:80",
        "path": "/raw/%61/../b?x=%20+&x=2",
        "headers": {
            "host": ["Acme.example:80"],
            "x-tenant-id": ["acme", "second"],
            "x-bin": ["\u{fffd}\u{fffd}"],
            "connection": ["close"],
            "content-length": ["5"],
        },
        "bodyBytes": 5,
    });
    assert_eq!(body, expected);
    assert_eq!(upstream.received(), 1);
}

#[test]
fn a_body_is_counted_up_to_the_limit() {
    let upstream = Upstream::start("blue").unwrap();
    for (extra, status, counted) in [(0, "200", json!(64 << 20)), (1, "413", Value::Null)] {
        let mut stream = TcpStream::connect(upstream.addr).unwrap();
        let length = (64 << 20) + extra;
        stream
            .write_all(
                format!("PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        // It may answer and close before all of this is sent.
        let _ = stream.write_all(&vec![b'x'; length]);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(serde_json::from_str::<Value>(body).unwrap()["bodyBytes"], counted);
    }
}

#[test]
fn a_request_gets_the_delay_and_the_headers_that_it_asks_for() {
    let upstream = Upstream::start("blue").unwrap();
    let begun = Instant::now();
    let (head, _) = exchange(
        &upstream,
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-echo-delay-ms: 300\r\n\
          x-echo-response-headers: x-usage-cost=5, X-Other=a b=c,nothing,bad name=1\r\n\r\n",
    );
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(head.contains("\r\nx-usage-cost: 5\r\nx-other: a b=c\r\n"), "{head}");
    assert!(!head.contains("nothing") && !head.contains("bad"), "{head}");
}

#[tokio::test]
async fn an_http_2_request_has_its_authority_and_no_pseudo_headers() {
    let upstream = Upstream::start("green").unwrap();
    let stream = tokio::net::TcpStream::connect(upstream.addr).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = axum::http::Request::get("http://acme.example/a?b").header("x-tenant-id", "acme").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut body: Value = serde_json::from_slice(&body.data().await.unwrap().unwrap()).unwrap();
    body.as_object_mut().unwrap().remove("receivedAt");
    let expected = json!({
        "name": "green", "method": "GET", "authority": "acme.example", "path": "/a?b",
        "headers": {"x-tenant-id": ["acme"]}, "bodyBytes": 0,
    });
    assert_eq!(body, expected);
}

#[test]
fn a_websocket_hears_its_handshake_and_then_itself() {
    let upstream = Upstream::start("blue").unwrap();
    let (mut socket, response) = tungstenite::connect(format!("ws://{}/chat?room=1", upstream.addr)).unwrap();
    assert_eq!(response.status(), 101);
    let hello: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!((&hello["path"], &hello["headers"]["upgrade"]), (&json!("/chat?room=1"), &json!(["websocket"])));
    for message in [Message::text("a"), Message::binary(vec![0, 255]), Message::text("é".repeat(100_000))] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    assert_eq!(upstream.received(), 1);
}

#[test]
fn dropping_it_ends_it_though_a_websocket_is_open() {
    let upstream = Upstream::start("blue").unwrap();
    let addr = upstream.addr;
    let (_socket, _) = tungstenite::connect(format!("ws://{addr}/")).unwrap();
    let begun = Instant::now();
    drop(upstream);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn the_command_says_where_it_listens_and_ends_on_a_signal() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_upstream"))
        .args(["--listen", "127.0.0.1:0", "--name", "blue"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["address"].as_str().unwrap();
    let taken = Command::new(env!("CARGO_BIN_EXE_upstream")).args(["--listen", address]).output().unwrap();
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8(taken.stderr).unwrap().contains(&format!("can't listen on {address}")));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
