//! How WebSocket connections begin and end on the fake host: each refusal, each way for the auth message to come, and each order in
//! which an end can meet what is under way.

use std::time::Duration;

use envoy_tenancy::denial::Denial;
use envoy_tenancy::filter::Step;
use envoy_tenancy::jwt::TokenFault;
use serde_json::json;

use crate::scenarios::make::{Signer, token};
use crate::scenarios::world::*;
use crate::websockets::{NOW, PING, auth, begin, close, config, frame, good, opened, text, upgrade};
use crate::wire::Wire;
use crate::world::NativeWorld;

const PONG: &[u8] = b"\x8a\x0denvoy-tenancy";
const LEASES: &str = "/tenants/acme/leases/messages";

fn counted(limit: u64, count: &serde_json::Value) -> serde_json::Value {
    let mut config = config(json!({}));
    config["quotas"] =
        json!([{"quotaKey": "messages", "unit": "message", "period": "month", "limit": limit, "count": count}]);
    config
}

fn by_lease() -> serde_json::Value {
    counted(100, &json!({"lease": {"cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}"}}))
}

/// A client that was let in.
fn let_in(world: &mut NativeWorld, first: &[u8]) -> Wire {
    let mut wire = opened(world);
    world.client(&mut wire, first);
    world.settle(&mut wire);
    assert_eq!((wire.decisions.as_slice(), wire.client.gone.as_slice()), (&["allow"][..], first));
    wire.client.gone.clear();
    wire
}

#[test]
fn every_refusal_is_a_close_frame_with_its_code() {
    let bytes = |claims, tenant: &str| auth(&claims, tenant);
    let signed = |signer, claims| {
        let token = String::from_utf8(token(signer, &json!({"alg": "HS256"}), &claims)).unwrap();
        text(&json!({"action": "auth", "token": token, "tenantId": "acme"}).to_string())
    };
    let say = |token: &str| text(&json!({"action": "auth", "token": token, "tenantId": "acme"}).to_string());
    let none = "UNAUTHORIZED: the first message is no auth message";
    let different = "TENANT_MISMATCH: The request names different tenants";
    let unavailable = "SERVICE_UNAVAILABLE: The tenant can't be determined now, try again later";
    let other = token(Signer::Secret, &json!({"alg": "HS512"}), &json!({"tenant_id": "acme", "exp": NOW + 9}));
    let other_algorithm = say(&String::from_utf8(other).unwrap());
    let mut forged = good();
    let place = forged.iter().rposition(|byte| *byte == b'.').unwrap() + 2;
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    let rows: Vec<(Vec<u8>, u16, &str)> = vec![
        (bytes(json!({"exp": NOW - 1}), "acme"), 1008, "UNAUTHORIZED: expired"),
        (bytes(json!({"exp": null}), "acme"), 1008, "UNAUTHORIZED: no_expiry"),
        (bytes(json!({"nbf": NOW + 60}), "acme"), 1008, "UNAUTHORIZED: not_yet_valid"),
        (bytes(json!({"tenant_id": null}), "acme"), 1008, "UNAUTHORIZED: claim"),
        (bytes(json!({"tenant_id": "a/b"}), "acme"), 1008, "UNAUTHORIZED: claim"),
        (forged, 1008, "UNAUTHORIZED: signature"),
        (signed(Signer::P256, json!({"tenant_id": "acme", "exp": NOW + 9})), 1008, "UNAUTHORIZED: signature"),
        (say("a.b.c"), 1008, "UNAUTHORIZED: malformed"),
        (say(""), 1008, "UNAUTHORIZED: malformed"),
        (other_algorithm, 1008, "UNAUTHORIZED: algorithm"),
        (bytes(json!({}), "hooli"), 1008, different),
        (bytes(json!({}), "acme-slug"), 1008, different),
        (bytes(json!({"tenant_id": "nobody"}), "nobody"), 1008, "TENANT_NOT_FOUND: Tenant 'nobody' not found"),
        (bytes(json!({"tenant_id": "globex"}), "globex"), 1008, "TENANT_SUSPENDED: Tenant 'globex' is suspended"),
        (bytes(json!({"tenant_id": "initech"}), "initech"), 1008, "TENANT_INACTIVE: Tenant 'initech' is inactive"),
        (bytes(json!({"tenant_id": "silent"}), "silent"), 1008, unavailable),
        (bytes(json!({"tenant_id": "broken"}), "broken"), 1008, unavailable),
        (
            bytes(json!({"tenant_id": "hooli"}), "hooli"),
            1008,
            "QUOTA_EXCEEDED: Tenant 'hooli' has used up its quota 'connections'",
        ),
        (text("hello"), 1008, none),
        (text(""), 1008, none),
        (text(r#"{"action":"auth","token":"a.b.c"}"#), 1008, none),
        (frame(0x82, &good()[8..]), 1008, none),
        (frame(0x02, b""), 1008, none),
        (frame(0x81, &[b'x'; 300]), 1009, "the auth message is too long"),
        ([frame(0x01, &[b'x'; 200]), frame(0x80, &[b'x'; 57])].concat(), 1009, "the auth message is too long"),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(), 1009, "the auth message is too long"),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(), 1002, "protocol error: malformed length"),
        (b"\x81\xfe\0\x05\0\0\0\0hello".to_vec(), 1002, "protocol error: malformed length"),
        (b"\x81\x05hello".to_vec(), 1002, "protocol error: wrong masking"),
        (b"\xc1\x80\0\0\0\0".to_vec(), 1002, "protocol error: a reserved bit is set"),
        (b"\x80\x80\0\0\0\0".to_vec(), 1002, "protocol error: fragments out of order"),
        (b"\x83\x80\0\0\0\0".to_vec(), 1002, "protocol error: unknown opcode"),
        (b"\x09\x80\0\0\0\0".to_vec(), 1002, "protocol error: malformed control frame"),
        (frame(0x88, b"\x03\xe8"), 1000, ""),
    ];
    let mut config = config(json!({"maxMessageBytes": 256}));
    config["isolation"]["jwt"]["algorithms"] = json!(["HS256"]);
    config["quotas"] = json!([{
        "quotaKey": "connections", "unit": "connection", "period": "none", "plans": {"enterprise": 0}, "limit": 9,
    }]);
    let directory =
        Directory::of(&tenants()).with("/tenants/silent", Reply::Never).with("/tenants/broken", Reply::is(200, "{"));
    for (sent, code, reason) in rows {
        for (size, greets) in [(usize::MAX, false), (usize::MAX, true), (1, false), (7, true)] {
            let world = &mut NativeWorld::start(config.clone(), directory.clone());
            let wire = &mut opened(world);
            if greets {
                world.service(wire, b"\x81\x05hello");
            }
            for piece in sent.chunks(size.min(sent.len())) {
                world.client(wire, piece);
            }
            world.settle(wire);
            assert_eq!(wire.decisions.len(), 1, "{reason}");
            if greets {
                // What comes of the client afterwards makes room for the service's close frame at once.
                assert!(matches!(wire.client.gone.first(), None | Some(0x88)), "{reason}");
            } else {
                assert!(wire.client.gone.starts_with(PING) && wire.service.gone.is_empty(), "{reason}");
                world.service(wire, PONG);
            }
            assert_eq!(close(&wire.service.gone), (code, reason.to_owned()), "{size}");
            world.client(wire, &frame(0x88, b"\x03\xe8"));
            let told = wire.service.gone[2..].to_vec();
            assert!(wire.client.gone.ends_with(&told), "the service is told the same");
            assert_eq!(wire.cut, None);
        }
    }
    // Where the upgrade names a tenant, it is the token's.
    let world = &mut NativeWorld::start(config, directory);
    let (id, _) = world.begin(&upgrade().header("x-tenant-id", "hooli"));
    assert!(matches!(world.answer_all()[..], [(_, Step::Forward(_))]));
    let wire = &mut Wire::new(id);
    world.open(wire);
    world.client(wire, &good());
    world.settle(wire);
    world.service(wire, PONG);
    assert_eq!(close(&wire.service.gone), (1008, different.to_owned()));
}

#[test]
fn the_auth_message_comes_in_any_frames_and_pieces() {
    let message = good()[8..].to_vec();
    let (front, back) = message.split_at(60);
    let ways = [
        good(),
        [frame(0x01, front), frame(0x80, back)].concat(),
        [
            frame(0x89, b"a"),
            frame(0x01, b""),
            frame(0x8a, b""),
            frame(0x00, front),
            frame(0x89, &[b'p'; 125]),
            frame(0x80, back),
        ]
        .concat(),
        [frame(0x01, front), frame(0x00, back), frame(0x80, b"")].concat(),
    ];
    for sent in ways {
        for size in [1, 2, 3, 50, usize::MAX] {
            for opens_at in [0, 1, sent.len() - 1, sent.len()] {
                let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
                let wire = &mut begin(world);
                let all = [&sent[..], &text("m1")].concat();
                let mut at = 0;
                let mut is_open = false;
                for piece in all.chunks(size.min(all.len())) {
                    if !is_open && at >= opens_at {
                        world.open(wire);
                        is_open = true;
                        world.service(wire, b"\x81\x02m0");
                    }
                    world.client(wire, piece);
                    at += piece.len();
                    assert!(wire.client.gone.is_empty() && wire.service.gone.is_empty(), "nobody has answered yet");
                }
                world.settle(wire);
                if !is_open {
                    assert!(wire.client.gone.is_empty());
                    world.open(wire);
                    world.service(wire, b"\x81\x02m0");
                }
                assert_eq!(wire.client.gone, all);
                assert_eq!(wire.service.gone, b"\x81\x02m0");
                assert_eq!((wire.decisions.as_slice(), wire.cut), (&["allow"][..], None));
            }
        }
    }
}

#[test]
fn who_says_nothing_in_time_is_refused() {
    for held in [&b""[..], &good()[..30], &frame(0x89, b"ping")] {
        for greeting in [&b""[..], b"\x81\x05hello", b"\x81\x05he"] {
            let world = &mut NativeWorld::start(config(json!({"authTimeoutSeconds": 5})), Directory::of(&tenants()));
            let wire = &mut begin(world);
            world.tick_after(Duration::from_secs(4), wire);
            world.open(wire);
            for bytes in [held, b""] {
                world.client(wire, bytes);
            }
            if !greeting.is_empty() {
                world.service(wire, greeting);
            }
            world.tick_after(Duration::from_millis(4900), wire);
            assert!(wire.decisions.is_empty(), "it is counted from the 101 on");
            world.tick_after(Duration::from_millis(100), wire);
            assert_eq!(wire.decisions, ["unauthorized"]);
            world.service(wire, if greeting.is_empty() { PONG } else { b"" });
            assert_eq!(close(&wire.service.gone), (1008, "UNAUTHORIZED: no auth message in time".to_owned()));
            // Nor does it help to say it now.
            let gone = wire.client.gone.len();
            world.client(wire, &good());
            world.settle(wire);
            assert_eq!(wire.client.gone[gone], 0x88);
            assert_eq!(wire.decisions, ["unauthorized"]);
        }
    }
}

#[test]
fn an_answer_after_a_good_message_is_no_connection_either() {
    let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
    for settles in [true, false] {
        let wire = &mut begin(world);
        world.client(wire, &good());
        if settles {
            world.settle(wire);
        }
        match world.answers_upgrade(wire.id, b"200") {
            Some(Step::Deny(refusal)) => assert_eq!(refusal.denial, Denial::Unauthorized(TokenFault::Missing)),
            step => panic!("{step:?}"),
        }
        world.settle(wire);
        world.end(wire.id);
        assert!(wire.client.gone.is_empty());
    }
}

#[test]
fn a_connection_is_a_unit_until_it_ends() {
    let mut config = config(json!({}));
    config["quotas"] = json!([
        {"quotaKey": "connections", "unit": "connection", "period": "none", "limit": 2},
        {"quotaKey": "opened", "unit": "connection", "period": "month", "limit": 20},
    ]);
    let world = &mut NativeWorld::start(config, Directory::of(&tenants()));
    let refused = |world: &mut NativeWorld, quota: &str| {
        let wire = &mut opened(world);
        world.client(wire, &good());
        world.settle(wire);
        world.service(wire, PONG);
        let reason = format!("QUOTA_EXCEEDED: Tenant 'acme' has used up its quota '{quota}'");
        assert_eq!(close(&wire.service.gone), (1008, reason));
        // One that was refused gives nothing back that it never had.
        world.end(wire.id);
    };
    for _ in 0..5 {
        // Nobody uses anything up without a token.
        let silent: Vec<Wire> = (0..5).map(|_| opened(world)).collect();
        let both = [let_in(world, &good()), let_in(world, &good())];
        refused(world, "connections");
        refused(world, "connections");
        both.iter().chain(&silent).for_each(|wire| world.end(wire.id));
        let wires = [let_in(world, &good()), let_in(world, &good())];
        wires.iter().for_each(|wire| world.end(wire.id));
    }
    refused(world, "opened");
}

/// A message is refused where it begins, whatever pieces it comes in; a header that has gone in part is cut.
#[test]
fn messages_pass_up_to_the_last_unit() {
    let messages = [
        [frame(0x01, b"one"), frame(0x89, b"p"), frame(0x80, b"!")].concat(),
        frame(0x82, &[7; 300]),
        frame(0x81, b""),
    ];
    let allowed = messages.concat();
    let all = [&allowed[..], &text("too many"), &text("more")].concat();
    for size in 1..=all.len() {
        let world = &mut NativeWorld::start(counted(3, &json!("edge")), Directory::of(&tenants()));
        let wire = &mut let_in(world, &good());
        for piece in all.chunks(size) {
            if wire.cut.is_none() {
                world.client(wire, piece);
            }
        }
        assert_eq!(wire.decisions, ["allow", "quota_exceeded"]);
        if wire.cut.is_some() {
            let begun = wire.client.gone.len() - allowed.len();
            assert!((1..6).contains(&begun), "in pieces of {size} bytes {begun} of a header");
            assert_eq!(wire.client.gone, all[..allowed.len() + begun]);
            continue;
        }
        assert_eq!(wire.client.gone, [&allowed[..], PING].concat(), "in pieces of {size} bytes");
        world.service(wire, PONG);
        let reason = "QUOTA_EXCEEDED: Tenant 'acme' has used up its quota 'messages'";
        assert_eq!(close(&wire.service.gone), (1008, reason.to_owned()));
    }
}

/// Whatever comes about a connection at once, it is told of one thing: Envoy holds the bytes in whose place that goes only once.
#[test]
fn an_end_and_a_wait_may_be_over_in_one_tick() {
    for expires in 1..14 {
        for reply in [Reply::Never, Reply::is(503, "")] {
            let directory = Directory::of(&tenants()).with(LEASES, reply);
            let world = &mut NativeWorld::start(by_lease(), directory);
            let first = auth(&json!({"exp": NOW + expires}), "acme");
            let wire = &mut let_in(world, &first);
            world.client(wire, &[text("one"), text("two")].concat());
            for second in 0..14 {
                if second == 9 {
                    world.settle(wire);
                }
                world.tick_after(Duration::from_secs(1), wire);
            }
            assert_eq!(wire.decisions.len(), 2, "{:?}", wire.decisions);
            assert!(wire.cut.is_some());
            assert_eq!(wire.client.gone, PING);
        }
    }
}

#[test]
fn what_was_held_for_a_quota_is_followed_to_its_end() {
    let world = &mut NativeWorld::start(by_lease(), Directory::of(&tenants()).with(LEASES, Reply::is(503, "")));
    let wire = &mut let_in(world, &good());
    world.client(wire, &text("one"));
    // These come while the first one waits, the last not whole.
    world.client(wire, &text("two"));
    world.client(wire, &text("three")[..8]);
    world.settle(wire);
    assert_eq!((wire.client.gone.as_slice(), wire.decisions.len()), (PING, 2));
    world.service(wire, PONG);
    let (code, reason) = close(&wire.service.gone);
    assert_eq!((code, reason.split_once(':').unwrap().0), (1008, "SERVICE_UNAVAILABLE"));
    world.client(wire, &[&text("three")[8..], &frame(0x88, b"\x03\xf0")].concat());
    assert!(wire.client.gone.ends_with(reason.as_bytes()), "the client's answer was found");
}

#[test]
fn a_frame_that_has_begun_to_go_goes_to_its_end() {
    let config = config(json!({"recheckSeconds": 5}));
    for (sent, rest) in [(1, 1), (5, 3), (8, 100), (20, 7)] {
        let world = &mut NativeWorld::start(config.clone(), Directory::of(&tenants()));
        let wire = &mut let_in(world, &auth(&json!({"exp": NOW + 5}), "acme"));
        let message = text("a message of thirty characters");
        world.client(wire, &message[..sent]);
        world.pause(Duration::from_secs(6));
        // What the service says makes room for the client's close frame first.
        world.service(wire, b"\x81\x05hello");
        assert_eq!(close(&wire.service.gone), (1008, "UNAUTHORIZED: expired".to_owned()));
        for piece in [&message[sent..], &frame(0x88, b"\x03\xf0")].concat().chunks(rest) {
            world.client(wire, piece);
        }
        let (own, ours) = wire.client.gone.split_at(message.len());
        assert_eq!(own, message, "the service reads it as it was sent");
        assert_eq!(ours[..6], [0x88, 0x80 + 23, 0, 0, 0, 0]);
        assert!(ours.ends_with(b"UNAUTHORIZED: expired"));
    }
}
