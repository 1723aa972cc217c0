//! WebSocket clients through real Envoy: the auth message, refusals by close frames, and what becomes of connections afterwards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::flood::until;
use crate::listeners::Listeners;
use crate::scenarios::make::{Signer, but, header, token};
use crate::scenarios::world::*;
use crate::tokens_in_envoy::put_jwt_authn_in_front;

/// The bytes of an upgrade's request.
pub fn upgrade(headers: &[(&str, &str)]) -> String {
    let mut head =
        "GET /chat HTTP/1.1\r\nhost: any.example\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_owned();
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

pub fn seconds_from_now(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs() + seconds
}

pub fn signed(claims: &Value) -> String {
    let claims = but(json!({"tenant_id": "acme", "exp": seconds_from_now(600)}), claims.clone());
    String::from_utf8(token(Signer::Secret, &header(Signer::Secret), &claims)).expect("a token is text")
}

pub fn auth(tenant: &str) -> String {
    auth_by(&signed(&json!({"tenant_id": tenant})), tenant)
}

pub fn auth_by(token: &str, tenant: &str) -> String {
    json!({"action": "auth", "token": token, "tenantId": tenant}).to_string()
}

/// A frame as a client sends it.
pub fn frame(opcode: Data, payload: &[u8], is_final: bool) -> Vec<u8> {
    let mut frame = Frame::message(payload.to_vec(), OpCode::Data(opcode), is_final);
    frame.header_mut().mask = Some([1, 2, 3, 4]);
    bytes(frame)
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::ping(payload.to_vec());
    frame.header_mut().mask = Some([5, 6, 7, 8]);
    bytes(frame)
}

fn bytes(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.format(&mut bytes).expect("it is written");
    bytes
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(Data::Text, payload.as_bytes(), true)
}

/// A client whose upgrade was accepted, and which says nothing by itself.
pub fn client(at: SocketAddr, headers: &[(&str, &str)], early: &[u8]) -> WebSocket<TcpStream> {
    let mut stream = TcpStream::connect(at).expect("Envoy listens");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
    stream.set_nodelay(true).expect("no delay");
    stream.write_all(&[upgrade(headers).as_bytes(), early].concat()).expect("it is sent");
    let head = response_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(!head.to_lowercase().contains("sec-websocket-extensions"), "{head}");
    WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None)
}

pub fn response_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// The next message's text.
pub fn next(client: &mut WebSocket<TcpStream>) -> String {
    loop {
        match client.read().expect("a message") {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The service's own first message: what of the upgrade arrived.
fn arrived(hello: &str) -> Value {
    serde_json::from_str::<Value>(hello).expect("the service describes the upgrade")["headers"].take()
}

/// How the connection ends: by a close frame with code and reason, or without one.
fn end(mut client: WebSocket<TcpStream>) -> Option<(u16, String)> {
    loop {
        match client.read() {
            Ok(Message::Close(Some(close))) => {
                // Its answer, and then nothing but the end.
                let _ = client.flush();
                assert!(client.read().is_err(), "something came after the close frame");
                return Some((close.code.into(), close.reason.to_string()));
            }
            Ok(Message::Text(text)) => assert!(text.starts_with("m"), "an unexpected message: {text}"),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

fn configuration(websocket: Value) -> Value {
    let jwt = json!({"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"], "clockSkewSeconds": 0});
    let mut config = inline(json!({"resolution": ["jwt", "header"], "required": false, "jwt": jwt}));
    config["websocket"] = but(json!({"authMessage": "required", "authTimeoutSeconds": 5}), websocket);
    config
}

/// The auth message in pieces, at most one of them later than the upgrade's request.
#[test]
fn the_first_message_says_who_it_is_however_it_comes() {
    let world = EnvoyWorld::start(configuration(json!({})), Directory::default());
    let at = world.envoy.listener;
    let message = auth("acme");
    let (front, back) = message.split_at(40);
    let fragments = [
        ping(b"a"),
        frame(Data::Text, front.as_bytes(), false),
        ping(b"b"),
        frame(Data::Continue, b"", false),
        frame(Data::Continue, back.as_bytes(), true),
    ]
    .concat();
    let long = auth_by(&signed(&json!({"more": "x".repeat(9_000)})), "acme");
    for (way, sent) in [("whole", text(&message)), ("in fragments", fragments), ("long", text(&long))] {
        for size in [usize::MAX, 100, 7, 1] {
            if size == 1 && way == "long" {
                continue;
            }
            let mut client = client(at, &[], b"");
            for piece in sent.chunks(size.min(sent.len())) {
                client.get_mut().write_all(piece).expect("it is sent");
                if size < 100 {
                    // So that Envoy reads it by itself.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            client.get_mut().write_all(&text("m1")).expect("it is sent");
            let headers = arrived(&next(&mut client));
            assert_eq!(headers["x-tenant-auth"], json!(["message"]), "{way}, {size}");
            assert_eq!(headers.get("x-tenant-id"), None, "{way}, {size}");
            assert_eq!(next(&mut client), if way == "long" { &long } else { &message }.as_str(), "{way}, {size}");
            assert_eq!(next(&mut client), "m1", "{way}, {size}");
        }
    }
    // With the upgrade's request in one piece, before its response.
    let mut early = client(at, &[], &[text(&message), text("m1")].concat());
    arrived(&next(&mut early));
    assert_eq!((next(&mut early), next(&mut early).as_str()), (message.clone(), "m1"));
    // Where the upgrade names the tenant, its headers say so, and not what the client says of them.
    let mut named = client(at, &[("x-tenant-id", "acme-slug"), ("x_tenant-auth", "none")], &text(&message));
    let headers = arrived(&next(&mut named));
    assert_eq!((&headers["x-tenant-id"], &headers["x-tenant-auth"]), (&json!(["acme"]), &json!(["message"])));
    assert_eq!(headers.get("x_tenant-auth"), None);
    // With a token at the upgrade, nothing is to be said.
    let bearer = format!("Bearer {}", signed(&json!({})));
    let mut known = client(at, &[("authorization", &bearer), ("x-tenant-auth", "message")], &text("m1"));
    let headers = arrived(&next(&mut known));
    assert_eq!((&headers["x-tenant-id"], headers.get("x-tenant-auth")), (&json!(["acme"]), None));
    assert_eq!(next(&mut known), "m1");
    let counted = |decision: &str| world.envoy.stat(&format!("wasmcustom.tenancy.requests.decision.{decision}"));
    assert_eq!(counted("awaits_message"), 13);
    assert_eq!(counted("allow"), 14, "thirteen were let in, and one needed no message");
}

#[test]
fn a_refusal_is_a_close_frame_with_its_reason() {
    let world = EnvoyWorld::start(configuration(json!({"maxMessageBytes": 20_000})), Directory::default());
    let at = world.envoy.listener;
    let bad = |changes: Value| text(&auth_by(&signed(&changes), "acme"));
    let mut forged = auth("acme").into_bytes();
    let place = forged.iter().rposition(|byte| *byte == b'.').expect("a token has dots") + 3;
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    let no_auth = "UNAUTHORIZED: the first message is no auth message";
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("a bad signature", frame(Data::Text, &forged, true), 1008, "UNAUTHORIZED: signature"),
        ("an old token", bad(json!({"exp": 1_500_000_000})), 1008, "UNAUTHORIZED: expired"),
        ("no tenant in the token", bad(json!({"tenant_id": null})), 1008, "UNAUTHORIZED: claim"),
        ("not JSON", text("hello"), 1008, no_auth),
        ("another action", text(r#"{"action":"ping"}"#), 1008, no_auth),
        ("two tenants", text(&auth("acme").replace('}', r#","tenantId":"hooli"}"#)), 1008, no_auth),
        ("bytes", frame(Data::Binary, auth("acme").as_bytes(), true), 1008, no_auth),
        ("too long", text(&"x".repeat(20_001)), 1009, "the auth message is too long"),
        ("too long in pieces", frame(Data::Text, &[b'x'; 20_001], false), 1009, "the auth message is too long"),
        ("not masked", b"\x81\x02hi".to_vec(), 1002, "protocol error: wrong masking"),
        ("a reserved bit", b"\xc1\x80\0\0\0\0".to_vec(), 1002, "protocol error: a reserved bit is set"),
        ("an opcode", b"\x83\x80\0\0\0\0".to_vec(), 1002, "protocol error: unknown opcode"),
        ("a long ping", b"\x89\xfe\0\x7e\0\0\0\0".to_vec(), 1002, "protocol error: malformed control frame"),
        (
            "another's token",
            text(&auth_by(&signed(&json!({})), "hooli")),
            1008,
            "TENANT_MISMATCH: The request names different tenants",
        ),
        (
            "a slug for an id",
            text(&auth_by(&signed(&json!({})), "acme-slug")),
            1008,
            "TENANT_MISMATCH: The request names different tenants",
        ),
        ("no such tenant", text(&auth("nobody")), 1008, "TENANT_NOT_FOUND: Tenant 'nobody' not found"),
        ("a suspended tenant", text(&auth("globex")), 1008, "TENANT_SUSPENDED: Tenant 'globex' is suspended"),
        ("an inactive tenant", text(&auth("initech")), 1008, "TENANT_INACTIVE: Tenant 'initech' is inactive"),
        ("a close", b"\x88\x82\0\0\0\0\x03\xe8".to_vec(), 1000, ""),
    ];
    for (what, sent, code, reason) in rows {
        let mut client = client(at, &[], b"");
        client.get_mut().write_all(&sent).expect("it is sent");
        assert_eq!(end(client), Some((code, reason.to_owned())), "{what}");
    }
    let mut other = client(at, &[("x-tenant-id", "hooli")], b"");
    other.get_mut().write_all(&text(&auth("acme"))).expect("it is sent");
    assert_eq!(end(other), Some((1008, "TENANT_MISMATCH: The request names different tenants".to_owned())));
}

#[test]
fn who_says_nothing_in_time_is_told_so() {
    let world = EnvoyWorld::start(configuration(json!({"authTimeoutSeconds": 2})), Directory::default());
    let message = text(&auth("acme"));
    let began = Instant::now();
    let waiting: Vec<_> = [&b""[..], &ping(b"x"), &message[..30]]
        .iter()
        .map(|sent| {
            let mut client = client(world.envoy.listener, &[], b"");
            client.get_mut().write_all(sent).expect("it is sent");
            client
        })
        .collect();
    for client in waiting {
        assert_eq!(end(client), Some((1008, "UNAUTHORIZED: no auth message in time".to_owned())));
    }
    assert!((2..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// A service that takes an upgrade for a plain request answers it, and the answer is for nobody who hasn't said who it is.
#[test]
fn only_a_real_upgrade_comes_without_a_token() {
    let mut config = configuration(json!({"paths": ["/chat", "/live/*"]}));
    config["isolation"]["required"] = json!(true);
    let world = EnvoyWorld::start(config, Directory::default());
    let answer = |head: &str| {
        let mut stream = TcpStream::connect(world.envoy.listener).expect("Envoy listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        stream.write_all(head.as_bytes()).expect("it is sent");
        response_head(&mut stream)
    };
    let good = upgrade(&[("x-tenant-id", "acme")]);
    assert!(answer(&good).starts_with("HTTP/1.1 101"));
    let before = world.received();
    // This one the service answers like any GET, for lack of the key.
    let plain = answer(&good.replace("sec-websocket-key", "x-key"));
    assert!(plain.starts_with("HTTP/1.1 401"), "{plain}");
    assert!(!plain.contains("x-echo"), "{plain}");
    assert_eq!(world.received(), before + 1);
    // These never get there, for want of a token or of a tenant.
    for (what, head) in [
        ("another path", good.replace("/chat", "/admin")),
        ("a path that could be another", good.replace("/chat", "/live/../admin")),
        ("no connection header", good.replace("connection", "x-connection")),
        ("another protocol", good.replace("WebSocket", "h2c")),
        ("two protocols", good.replace("upgrade: WebSocket", "upgrade: websocket\r\nupgrade: h2c")),
        ("another method", good.replace("GET", "POST")),
    ] {
        let head = head.replace("x-tenant-id: acme\r\n", "");
        let answer = answer(&head);
        assert!(!answer.starts_with("HTTP/1.1 101") && !answer.starts_with("HTTP/1.1 2"), "{what}: {answer}");
    }
    assert_eq!(world.received(), before + 1);
}

#[test]
fn a_tenant_that_is_suspended_loses_its_connections() {
    let jwt = json!({"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"]});
    let mut config = looked_up(json!({"resolution": ["jwt"], "jwt": jwt}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    config["lookupTenant"]["staleSeconds"] = json!(1);
    config["websocket"] = json!({"authMessage": "required", "recheckSeconds": 1});
    let mut world = EnvoyWorld::start(config, Directory::of(&tenants()));
    let at = world.envoy.listener;
    let bearer = format!("Bearer {}", signed(&json!({})));
    let mut ways: Vec<_> = (0..4)
        .map(|way| {
            if way % 2 == 0 {
                client(at, &[], &text(&auth("acme")))
            } else {
                client(at, &[("authorization", &bearer)], b"")
            }
        })
        .collect();
    let mut other = client(at, &[], &text(&auth("hooli")));
    for (way, client) in ways.iter_mut().enumerate() {
        arrived(&next(client));
        if way % 2 == 0 {
            next(client);
        }
    }
    let idle = ways.split_off(2);
    let talking: Vec<_> = ways
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                // Ten times a second, for as long as it may.
                for _ in 0..200 {
                    if client.send(Message::text("m")).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                    match client.read() {
                        Ok(Message::Text(text)) => assert_eq!(text.as_str(), "m"),
                        Ok(Message::Close(close)) => {
                            let close = close.expect("it has a code");
                            return Some((u16::from(close.code), close.reason.to_string()));
                        }
                        Ok(_) => {}
                        Err(_) => return None,
                    }
                }
                panic!("it is still connected");
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "status": "suspended"})));
    for client in talking {
        let told = client.join().expect("it ends");
        assert_eq!(told, Some((1008, "TENANT_SUSPENDED: Tenant 'acme' is suspended".to_owned())));
    }
    // On an idle connection no close frame can ride.
    for client in idle {
        assert_eq!(end(client), None);
    }
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    arrived(&next(&mut other));
    next(&mut other);
    other.send(Message::text("m")).expect("it is sent");
    assert_eq!(next(&mut other), "m", "another tenant's connection goes on");
}

#[test]
fn a_token_that_expires_ends_its_connection() {
    let world = EnvoyWorld::start(configuration(json!({"recheckSeconds": 60})), Directory::default());
    let at = world.envoy.listener;
    let short = || signed(&json!({"exp": seconds_from_now(3)}));
    let began = Instant::now();
    let idle = [
        client(at, &[], &text(&auth_by(&short(), "acme"))),
        client(at, &[("authorization", &format!("Bearer {}", short()))], b""),
    ];
    let mut talking = client(at, &[], &text(&auth_by(&short(), "acme")));
    for mut client in idle {
        arrived(&next(&mut client));
        loop {
            match client.read() {
                Ok(Message::Text(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        assert!((2..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
    drop(talking.send(Message::text("m")));
    let _ = talking.read();
}

#[test]
fn a_token_that_envoy_has_verified_expires_too() {
    let config = inline(json!({"resolution": "jwt", "jwt": {"envoyMetadata": "idp"}}));
    let world = EnvoyWorld::start_changed(structure(&config), Directory::default(), put_jwt_authn_in_front);
    // jwt_authn takes it for a minute more.
    let claims = json!({"iss": "https://issuer.example.com", "tenant_id": "acme", "exp": seconds_from_now(3) - 60});
    let signed = token(Signer::P256, &header(Signer::P256), &claims);
    let bearer = format!("Bearer {}", String::from_utf8(signed).expect("a token is text"));
    let began = Instant::now();
    let mut client = client(world.envoy.listener, &[("authorization", &bearer)], b"");
    arrived(&next(&mut client));
    assert_eq!(end(client), None);
    assert!((2..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn a_connection_is_a_unit_of_a_level_until_it_ends() {
    let mut config = configuration(json!({}));
    config["quotas"] = json!([{"quotaKey": "connections", "unit": "connection", "period": "none", "limit": 6}]);
    let world = EnvoyWorld::start(config, Directory::default());
    let at = world.envoy.listener;
    for round in 0..4 {
        // Those that haven't said who they are take nothing from anybody, also where they name a tenant.
        let silent: Vec<_> = (0..10).map(|_| client(at, &[("x-tenant-id", "acme")], b"")).collect();
        let tries: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut client = client(at, &[], b"");
                    client.get_mut().write_all(&text(&auth("acme"))).expect("it is sent");
                    match client.read().expect("something comes") {
                        Message::Text(_) => Ok(client),
                        Message::Close(Some(close)) => Err(close.reason.to_string()),
                        other => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        let (let_in, refused): (Vec<_>, Vec<_>) =
            tries.into_iter().map(|client| client.join().expect("it ends")).partition(Result::is_ok);
        assert_eq!((let_in.len(), refused.len()), (6, 14), "round {round}");
        for reason in refused.into_iter().filter_map(Result::err) {
            assert_eq!(reason, "QUOTA_EXCEEDED: Tenant 'acme' has used up its quota 'connections'");
        }
        let plain = get("any.example/").header("x-tenant-id", "acme");
        assert_eq!(world_status(&world, &plain), 200, "a plain request is no connection");
        drop((let_in, silent));
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn world_status(world: &EnvoyWorld, request: &Request) -> u16 {
    crate::curl::send(request, world.envoy.listener).response().status
}

#[test]
fn messages_are_counted_one_by_one_over_all_connections() {
    let mut config = configuration(json!({}));
    config["quotas"] = json!([{"quotaKey": "messages", "unit": "message", "period": "month", "limit": 1000}]);
    let world = EnvoyWorld::start(config, Directory::default());
    let at = world.envoy.listener;
    let clients: Vec<_> = (0..6)
        .map(|number: usize| {
            std::thread::spawn(move || {
                let mut client = client(at, &[], &text(&auth("acme")));
                arrived(&next(&mut client));
                next(&mut client);
                let (mut echoed, mut sent) = (0, 0);
                // Several in a piece, some in fragments, some of bytes.
                while sent < 300 {
                    let several = [1, 2, 7, 30][(number + sent) % 4].min(300 - sent);
                    let piece: Vec<u8> = (0..several)
                        .flat_map(|at| match at % 3 {
                            0 => text("m"),
                            1 => {
                                [frame(Data::Text, b"m", false), ping(b"p"), frame(Data::Continue, b"m", true)].concat()
                            }
                            _ => frame(Data::Binary, b"m", true),
                        })
                        .collect();
                    client.get_mut().write_all(&piece).expect("it is sent");
                    sent += several;
                    for _ in 0..several {
                        loop {
                            match client.read() {
                                Ok(Message::Text(_) | Message::Binary(_)) => break echoed += 1,
                                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                                Ok(Message::Close(Some(close))) => {
                                    return (echoed, Some(close.reason.to_string()));
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                }
                (echoed, None)
            })
        })
        .collect();
    let ends: Vec<_> = clients.into_iter().map(|client| client.join().expect("it ends")).collect();
    assert_eq!(ends.iter().map(|(echoed, _)| echoed).sum::<usize>(), 1000, "{ends:?}");
    for (_, reason) in &ends {
        assert!(
            reason
                .as_deref()
                .is_none_or(|reason| reason == "QUOTA_EXCEEDED: Tenant 'acme' has used up its quota 'messages'"),
            "{ends:?}"
        );
    }
    assert!(ends.iter().any(|(_, reason)| reason.is_some()));
}

/// A connection belongs to the configuration that it began with, and is still its tenant's after a new one has come.
#[test]
fn a_connection_outlives_a_reload() {
    let config = configuration(json!({"recheckSeconds": 1}));
    let mut listeners = None;
    let world = EnvoyWorld::start_changed(structure(&config), Directory::default(), |bootstrap| {
        listeners = Some(Listeners::of(bootstrap));
    });
    let mut listeners = listeners.expect("there are listeners");
    let at = world.envoy.listener;
    let mut before = client(at, &[], &text(&auth("acme")));
    arrived(&next(&mut before));
    next(&mut before);
    let half = auth("acme");
    let mut waiting = client(at, &[], &text(&half)[..20]);
    let mut expiring = client(at, &[], &text(&auth_by(&signed(&json!({"exp": seconds_from_now(6)})), "acme")));
    arrived(&next(&mut expiring));
    next(&mut expiring);
    listeners.configure(&but(config, json!({"logFields": []})), &world.envoy);
    before.send(Message::text("m1")).expect("it is sent");
    assert_eq!(next(&mut before), "m1");
    waiting.get_mut().write_all(&text(&half)[20..]).expect("it is sent");
    arrived(&next(&mut waiting));
    assert_eq!(next(&mut waiting), half);
    let mut told = None;
    until(
        Duration::from_secs(12),
        || {
            std::thread::sleep(Duration::from_millis(100));
            let _ = expiring.send(Message::text("m"));
            match expiring.read() {
                Ok(Message::Close(Some(close))) => told = Some(close.reason.to_string()),
                Err(error) => told = Some(error.to_string()),
                _ => {}
            }
            told.is_some()
        },
        || "it is still connected".to_owned(),
    );
    assert_eq!(told.as_deref(), Some("UNAUTHORIZED: expired"));
}
