//! WebSocket connections whose pieces come in an order that only the fake host can keep: what waits for an answer while more comes, and
//! what ends beside it.

use std::time::Duration;

use envoy_tenancy::denial::Denial;
use envoy_tenancy::filter::{Decision, HeaderEdit, Step};
use envoy_tenancy::jwt::TokenFault;
use serde_json::{Value, json};

use crate::scenarios::make::{Signer, but, header, token};
use crate::scenarios::world::*;
use crate::wire::Wire;
use crate::world::NativeWorld;

/// The fake host's clock begins here.
pub const NOW: u64 = 1_800_000_000;

pub fn upgrade() -> Request {
    get("any.example/chat").header("connection", "Upgrade").header("upgrade", "websocket")
}

/// A frame of a client, masked with zeros; a long one takes the encoding of two bytes.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut frame = vec![first];
    if length < 126 {
        frame.push(0x80 | u8::try_from(length).unwrap());
    } else {
        frame.push(0xfe);
        frame.extend(length.to_be_bytes());
    }
    [&frame[..], &[0; 4], payload].concat()
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

pub fn auth(claims: &Value, tenant: &str) -> Vec<u8> {
    let claims = but(json!({"tenant_id": "acme", "exp": NOW + 600}), claims.clone());
    let token = String::from_utf8(token(Signer::Secret, &header(Signer::Secret), &claims)).unwrap();
    text(&json!({"action": "auth", "token": token, "tenantId": tenant}).to_string())
}

pub fn good() -> Vec<u8> {
    auth(&json!({}), "acme")
}

pub fn config(websocket: Value) -> Value {
    let jwt = json!({"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"], "clockSkewSeconds": 0});
    let mut config = looked_up(json!({"resolution": ["jwt", "header"], "required": false, "jwt": jwt}));
    config["websocket"] = but(json!({"authMessage": "required"}), websocket);
    config
}

/// An upgrade that went through, without a token and without its response yet.
pub fn begin(world: &mut NativeWorld) -> Wire {
    let (id, step) = world.begin(&upgrade());
    match step {
        Step::Forward(forwarding) => assert_eq!(forwarding.decision, Decision::AwaitsMessage),
        step => panic!("{step:?}"),
    }
    Wire::new(id)
}

pub fn opened(world: &mut NativeWorld) -> Wire {
    let mut wire = begin(world);
    world.open(&mut wire);
    wire
}

pub const PING: &[u8] = b"\x89\x8d\0\0\0\0envoy-tenancy";

/// The close frame that a client got, after what else it did.
pub fn close(gone: &[u8]) -> (u16, String) {
    assert_eq!(gone[0], 0x88, "{gone:?}");
    assert_eq!(gone.len(), usize::from(gone[1]) + 2, "there is something behind it");
    (u16::from_be_bytes([gone[2], gone[3]]), String::from_utf8(gone[4..].to_vec()).unwrap())
}

#[test]
fn what_comes_while_a_tenant_is_looked_up_waits_with_it() {
    let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
    let wire = &mut opened(world);
    world.service(wire, b"\x81\x05hello");
    world.client(wire, &good());
    assert_eq!(world.under_way(), ["/tenants/acme"]);
    world.client(wire, &text("one"));
    world.client(wire, &text("two")[..3]);
    world.service(wire, b"\x81\x05again");
    assert!(wire.client.gone.is_empty() && wire.service.gone.is_empty());
    world.settle(wire);
    assert_eq!(wire.client.gone, [good(), text("one"), text("two")[..3].to_vec()].concat());
    assert_eq!(wire.service.gone, b"\x81\x05hello\x81\x05again");
    world.client(wire, &text("two")[3..]);
    assert!(wire.client.gone.ends_with(&text("two")));
    assert_eq!(wire.decisions, ["allow"]);
}

#[test]
fn a_refusal_takes_the_place_of_all_that_was_held() {
    for (answer, reason) in [
        (Reply::is(404, ""), "TENANT_NOT_FOUND: Tenant 'acme' not found"),
        (Reply::is(500, ""), "SERVICE_UNAVAILABLE: The tenant can't be determined now, try again later"),
        (Reply::json(&json!({"id": "acme", "status": "suspended"})), "TENANT_SUSPENDED: Tenant 'acme' is suspended"),
        (Reply::json(&json!({"id": "t-1", "slug": "acme"})), "TENANT_MISMATCH: The request names different tenants"),
    ] {
        for greets in [false, true] {
            let world =
                &mut NativeWorld::start(config(json!({})), Directory::default().with("/tenants/acme", answer.clone()));
            let wire = &mut opened(world);
            if greets {
                world.service(wire, b"\x81\x05hello");
            }
            world.client(wire, &good());
            world.client(wire, &text("one"));
            world.settle(wire);
            if greets {
                // What was held of the service makes room for it.
                assert!(wire.client.gone.is_empty());
            } else {
                assert_eq!((&*wire.client.gone, wire.service.gone.is_empty()), (PING, true));
                // Whatever the service says is replaced, not only its pong.
                world.service(wire, b"\x81\x05hello\x8a\x0denvoy-tenancy");
            }
            assert_eq!(close(&wire.service.gone), (1008, reason.to_owned()));
            let sent = wire.client.gone.len();
            world.client(wire, &frame(0x88, b"\x03\xf0"));
            assert_eq!(&wire.client.gone[sent..sent + 2], &[0x88, 0x80 | u8::try_from(reason.len() + 2).unwrap()]);
            world.client(wire, &text("late"));
            world.service(wire, b"\x81\x04late");
            assert_eq!(wire.service.gone.len(), reason.len() + 4);
            assert_eq!(wire.client.gone.len(), sent + reason.len() + 8);
            world.tick_after(Duration::from_secs(4), wire);
            assert!(wire.cut.is_some(), "a service that doesn't go is left");
        }
    }
}

#[test]
fn nothing_goes_before_the_101() {
    let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
    let wire = &mut begin(world);
    world.client(wire, &[good(), text("one")].concat());
    world.settle(wire);
    world.client(wire, &text("two"));
    assert!(wire.client.gone.is_empty());
    world.open(wire);
    assert_eq!(wire.client.gone, [good(), text("one"), text("two")].concat());
    // One that is refused before gets its refusal as the upgrade's response.
    let wire = &mut begin(world);
    world.client(wire, &auth(&json!({"exp": NOW - 1}), "acme"));
    assert_eq!((wire.cut, wire.client.gone.len()), (Some("tenancy_unauthorized"), 0));
    // A service that never answers the upgrade doesn't keep the client for ever.
    let wire = &mut begin(world);
    world.tick_after(Duration::from_secs(31), wire);
    assert_eq!(wire.cut, Some("tenancy_unauthorized"));
}

#[test]
fn an_answer_to_the_upgrade_is_for_nobody() {
    for (status, is_refused) in
        [("200", true), ("204", true), ("302", true), ("400", false), ("404", false), ("503", false)]
    {
        let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
        let wire = begin(world);
        let step = world.answers_upgrade(wire.id, status.as_bytes());
        match step {
            Some(Step::Deny(refusal)) if is_refused => {
                assert_eq!(refusal.denial, Denial::Unauthorized(TokenFault::Missing), "{status}");
            }
            None if !is_refused => {}
            step => panic!("{status}: {step:?}"),
        }
    }
    // Who came with a token may see whatever there is.
    let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
    let bearer = format!(
        "Bearer {}",
        String::from_utf8(token(
            Signer::Secret,
            &header(Signer::Secret),
            &json!({"tenant_id": "acme", "exp": NOW + 9})
        ))
        .unwrap()
    );
    let (id, step) = world.begin(&upgrade().header("authorization", &bearer));
    assert_eq!(step, Step::Wait);
    let steps = world.answer_all();
    assert!(matches!(&steps[..], [(other, Step::Forward(_))] if *other == id), "{steps:?}");
    assert_eq!(world.answers_upgrade(id, b"200"), None);
}

#[test]
fn only_an_upgrade_comes_without_a_token() {
    let mut config = self::config(json!({"paths": ["/chat"]}));
    config["isolation"]["resolution"] = json!("jwt");
    config["isolation"]["required"] = json!(true);
    let world = &mut NativeWorld::start(config, Directory::of(&tenants()));
    let plain = get("any.example/chat");
    let rows = [
        plain.clone().header("upgrade", "websocket"),
        plain.clone().header("connection", "upgrade"),
        plain.clone().header("connection", "upgrade").header("upgrade", "h2c"),
        plain.clone().header("connection", "x-upgrade").header("upgrade", "websocket"),
        upgrade().header("upgrade", "websocket"),
        upgrade().method("POST"),
        get("any.example/chat/more").header("connection", "upgrade").header("upgrade", "websocket"),
        get("any.example/./chat").header("connection", "upgrade").header("upgrade", "websocket"),
    ];
    for request in rows {
        match world.begin(&request).1 {
            Step::Deny(refusal) => assert_eq!(refusal.denial, Denial::Unauthorized(TokenFault::Missing)),
            step => panic!("{request:?}: {step:?}"),
        }
    }
    // Where another strategy names the tenant, too.
    let world = &mut NativeWorld::start(self::config(json!({"paths": ["/chat"]})), Directory::of(&tenants()));
    let other = get("any.example/t/acme/chat").header("connection", "upgrade").header("upgrade", "websocket");
    for request in [other.clone().header("x-tenant-id", "acme"), other.header("authorization", "Basic YTpi")] {
        match world.begin(&request).1 {
            Step::Deny(refusal) => assert_eq!(refusal.denial, Denial::Unauthorized(TokenFault::Missing)),
            step => panic!("{request:?}: {step:?}"),
        }
    }
    let offer = upgrade().header("sec-websocket-extensions", "permessage-deflate").header("x-tenant-auth", "none");
    match world.begin(&offer).1 {
        Step::Forward(forwarding) => {
            let removed = |name: &[u8]| forwarding.edits.contains(&HeaderEdit::Remove(name.to_vec()));
            assert!(removed(b"sec-websocket-extensions") && removed(b"x-tenant-auth"));
            let last = forwarding.edits.last().unwrap();
            assert_eq!(*last, HeaderEdit::Add("x-tenant-auth".into(), b"message"[..].into()));
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_connection_ends_with_the_next_bytes_or_without_any() {
    let mut config = config(json!({"recheckSeconds": 5}));
    config["lookupTenant"]["cacheSeconds"] = json!(1);
    for (how, first) in [("idle", None), ("client", Some(true)), ("service", Some(false))] {
        let world = &mut NativeWorld::start(config.clone(), Directory::of(&tenants()));
        let wire = &mut opened(world);
        world.client(wire, &good());
        world.settle(wire);
        wire.client.gone.clear();
        world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "status": "suspended"})));
        world.tick_after(Duration::from_secs(6), wire);
        assert_eq!(wire.decisions, ["allow"], "it is being asked for");
        world.settle(wire);
        assert_eq!(wire.decisions, ["allow", "tenant_suspended"], "{how}");
        match first {
            None => {
                world.tick_after(Duration::from_secs(1), wire);
                assert_eq!(wire.cut, Some("tenancy_tenant_suspended"));
                continue;
            }
            Some(true) => {
                world.client(wire, &text("late"));
                assert_eq!(wire.client.gone, PING);
                // What the service said before the pong goes on.
                world.service(wire, b"\x81\x02m1\x8a\x0denvoy-tenancy\x81\x02m2");
                assert!(wire.service.gone.starts_with(b"\x81\x02m1"));
                wire.service.gone.drain(..4);
            }
            Some(false) => world.service(wire, b"\x81\x02m1"),
        }
        assert_eq!(
            close(&wire.service.gone),
            (1008, "TENANT_SUSPENDED: Tenant 'acme' is suspended".to_owned()),
            "{how}"
        );
        wire.client.gone.clear();
        world.client(wire, &text("later"));
        assert!(wire.client.gone.is_empty(), "only its close frame does anything");
        world.client(wire, &frame(0x88, b"\x03\xf0"));
        assert_eq!(wire.client.gone[0], 0x88);
        assert_eq!(wire.cut, None);
    }
}

#[test]
fn an_end_waits_for_the_end_of_a_frame() {
    let world = &mut NativeWorld::start(config(json!({})), Directory::of(&tenants()));
    let wire = &mut opened(world);
    world.client(wire, &auth(&json!({"exp": NOW + 5}), "acme"));
    world.settle(wire);
    wire.client.gone.clear();
    world.client(wire, &text("half a message")[..9]);
    world.service(wire, b"\x81\x05wh");
    world.pause(Duration::from_secs(6));
    world.client(wire, &[&text("half a message")[9..], &text("late")].concat());
    assert_eq!(wire.client.gone, [&text("half a message")[..], PING].concat());
    world.service(wire, b"ole\x8a\x0denvoy-tenancy");
    assert!(wire.service.gone.starts_with(b"\x81\x05whole"));
    assert_eq!(close(&wire.service.gone[7..]), (1008, "UNAUTHORIZED: expired".to_owned()));
}

#[test]
fn what_is_wrong_behind_the_auth_message_ends_what_it_began() {
    let mut config = config(json!({}));
    config.as_object_mut().unwrap().remove("lookupTenant");
    config["tenants"] = json!(tenants());
    let world = &mut NativeWorld::start(config, Directory::default());
    let wire = &mut opened(world);
    world.service(wire, b"\x81\x05hello");
    world.client(wire, &[&good()[..], b"\x83\x80\0\0\0\0"].concat());
    assert_eq!(wire.client.gone, [&good()[..], PING].concat());
    assert_eq!(wire.service.gone, b"\x81\x05hello", "it was let in");
    assert_eq!(wire.decisions, ["allow", "protocol_error"]);
    world.service(wire, b"\x8a\x0denvoy-tenancy");
    assert_eq!(close(&wire.service.gone[7..]), (1002, "protocol error: unknown opcode".to_owned()));
    // No frame of the client can be read any more: whatever comes is taken for its answer.
    wire.client.gone.clear();
    world.client(wire, b"\x88\x80\0\0\0\0");
    assert_eq!(wire.client.gone[0], 0x88);
}

#[test]
fn messages_wait_for_units_and_keep_their_order() {
    let mut config = config(json!({}));
    let lease = json!({"lease": {"cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    config["quotas"] =
        json!([{"quotaKey": "messages", "unit": "message", "period": "month", "limit": 100, "count": lease}]);
    let granted = |granted: u64, usage: u64| {
        Reply::json(&json!({
            "periodStart": 1_793_491_200, "resetsAt": 1_796_083_200, "resetsInMs": 600_000,
            "granted": granted, "usage": usage, "leased": granted, "expiresInMs": 30_000,
        }))
    };
    let directory = Directory::of(&tenants()).with("/tenants/acme/leases/messages", granted(2, 0));
    let world = &mut NativeWorld::start(config, directory);
    let wire = &mut opened(world);
    world.client(wire, &good());
    world.settle(wire);
    assert_eq!(wire.client.gone, good(), "the auth message costs nothing");
    wire.client.gone.clear();
    world.client(wire, &[text("one"), frame(0x89, b"p"), text("two")].concat());
    world.client(wire, &text("three"));
    assert!(wire.client.gone.is_empty(), "it waits for a lease");
    world.script("/tenants/acme/leases/messages", granted(0, 100));
    world.settle(wire);
    if wire.client.gone.is_empty() {
        world.tick_after(Duration::from_secs(1), wire);
        world.settle(wire);
    }
    assert!(
        wire.client.gone == [&[text("one"), frame(0x89, b"p"), text("two")].concat(), PING].concat()
            || wire.client.gone == PING,
        "{:?}",
        String::from_utf8_lossy(&wire.client.gone)
    );
    world.service(wire, b"\x8a\x0denvoy-tenancy");
    assert_eq!(
        close(&wire.service.gone),
        (1008, "QUOTA_EXCEEDED: Tenant 'acme' has used up its quota 'messages'".to_owned())
    );
}
