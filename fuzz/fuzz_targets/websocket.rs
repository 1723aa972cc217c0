//! Any bytes as what both sides of a WebSocket connection send, in any pieces and at any time. No panic; what is read of frames doesn't
//! depend on the pieces; until the client has said who it is, each side hears of the other at most a close frame; and afterwards what
//! one hears is what the other has sent, up to a place between two frames where something of ours follows, and no more messages than
//! there are units.
#![no_main]

mod host;
#[path = "../../tests/native/wire.rs"]
mod wire;

use std::time::Duration;

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::request::Head;
use envoy_tenancy::websocket::{Frames, Header, Side, Violation};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

use crate::host::NoHost;
use crate::wire::Wire;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Of acme, signed with that secret; it expires after 4000 seconds.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnRfaWQiOiJhY21lIiwiZXhwIjo0MDAwfQ.277e_Qn1ZzG5RRf7IdG7IyKfQgOq7dOqrBc9f01uw7Y";

fn config() -> Config {
    let config = json!({
        "isolation": {
            "resolution": ["jwt", "header"],
            "required": false,
            "jwt": {"secret": {"env": "SECRET"}, "algorithms": ["HS256"]},
        },
        "tenants": [{"id": "acme"}],
        "quotas": [{"quotaKey": "messages", "unit": "message", "period": "month", "limit": MESSAGES}],
        "websocket": {"authMessage": "required", "authTimeoutSeconds": 30, "maxMessageBytes": 1024},
    });
    Config::from_value(&config).expect("it is sound")
}

const ID: RequestId = RequestId(1);

const PING: &[u8] = b"\x89\x8d\0\0\0\0envoy-tenancy";
/// How many messages a month the tenant may send.
const MESSAGES: usize = 20;

/// What a side has heard, and what the other one has sent.
fn check(side: Side, let_in: bool, gone: &[u8], sent: &[u8]) {
    let common = gone.iter().zip(sent).take_while(|(gone, sent)| gone == sent).count();
    let is_theirs = |own: &usize| {
        let ours = &gone[*own..];
        let ours = if side == Side::Client { ours.strip_prefix(PING).unwrap_or(ours) } else { ours };
        let mut frames = Frames::new(side, false);
        *own == gone.len()
            || ((ours.is_empty() || is_close(side, ours))
                && count(&mut frames, &sent[..*own]).is_some()
                && frames.is_between())
    };
    // What of ours begins as theirs would have gone on can't be told from that at once.
    let own = (common.saturating_sub(150)..=common).rev().find(is_theirs);
    let own = own.unwrap_or_else(|| panic!("{side:?} sent {sent:?}, and the other side heard {gone:?}"));
    if !let_in {
        assert_eq!(own, 0, "{side:?}");
    } else if side == Side::Client
        && let Some(messages) = count(&mut Frames::new(side, false), &gone[..own])
    {
        // The auth message costs nothing.
        assert!(messages <= MESSAGES + 1, "{messages} messages");
    }
}

/// Whether it is a close frame of ours, for the side that hears that one.
fn is_close(heard: Side, bytes: &[u8]) -> bool {
    let (mask_bit, length) = if heard == Side::Client { (0x80, 6) } else { (0, 2) };
    matches!(bytes, [0x88, second, ..] if second & 0x80 == mask_bit && bytes.len() == length + usize::from(second & 0x7f))
}

/// How many messages begin in frames, where they are sound.
fn count(frames: &mut Frames, bytes: &[u8]) -> Option<usize> {
    let (mut at, mut messages) = (0, 0);
    while at < bytes.len() {
        at += frames.skip(bytes.len() - at);
        let (taken, header) = frames.header(&bytes[at..]).ok()?;
        at += taken;
        messages += usize::from(header.is_some_and(|header| header.opcode.begins_message()));
    }
    Some(messages)
}

/// The headers that are read of bytes in pieces of that size, and the violation in which they end.
fn seen(side: Side, may_reserve: bool, bytes: &[u8], size: usize) -> (Vec<Header>, Option<Violation>) {
    let mut frames = Frames::new(side, may_reserve);
    let mut seen = Vec::new();
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            let taken = frames.skip(piece.len());
            piece = &piece[taken..];
            match frames.header(piece) {
                Ok((taken, header)) => {
                    piece = &piece[taken..];
                    seen.extend(header);
                }
                Err(violation) => return (seen, Some(violation)),
            }
        }
    }
    (seen, None)
}

thread_local! {
    static CONFIG: Config = config();
}

fuzz_target!(|bytes: &[u8]| {
    for (side, may_reserve) in
        [(Side::Client, false), (Side::Client, true), (Side::Service, false), (Side::Service, true)]
    {
        let whole = seen(side, may_reserve, bytes, usize::MAX);
        assert_eq!(whole, seen(side, may_reserve, bytes, 1));
        assert_eq!(whole, seen(side, may_reserve, bytes, 3));
    }
    let host = NoHost::default();
    let mut filter =
        Filter::new(CONFIG.with(Config::clone), |_| Some(SECRET.to_owned())).expect("the secret is long enough");
    let head: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"GET"),
        (b":path", b"/"),
        (b":authority", b"a"),
        (b"connection", b"upgrade"),
        (b"upgrade", b"websocket"),
    ];
    assert!(matches!(filter.request(ID, &Head::new(head), &host), Step::Forward(_)));
    assert!(filter.is_connection(ID));
    let mut wire = Wire::new(ID);
    let (mut by_client, mut by_service) = (Vec::new(), Vec::new());
    let (mut client_left, mut service_left) = (false, false);
    let mut rest = bytes;
    while let [operation, length, more @ ..] = rest
        && wire.cut.is_none()
    {
        // Time that passes, and the 101, bring no bytes.
        let size = if matches!(operation % 9, 3 | 5) { 0 } else { usize::from(*length).min(more.len()) };
        let (piece, after) = more.split_at(size);
        rest = after;
        let frame = |firsts: &[u8], header: &[u8]| {
            let payload = &piece[..piece.len().min(125)];
            let first = firsts[usize::from(*length) % firsts.len()];
            let second = u8::try_from(payload.len()).expect("it is short") | if header.is_empty() { 0 } else { 0x80 };
            [&[first, second], header, payload].concat()
        };
        let from_client = match operation % 9 {
            0 | 6 => piece.to_vec(),
            2 => {
                let message = format!(r#"{{"action":"auth","token":"{TOKEN}","tenantId":"acme"}}"#);
                let length = u16::try_from(message.len()).expect("it is short").to_be_bytes();
                [&[0x81, 0xfe][..], &length, &[0; 4], message.as_bytes(), piece].concat()
            }
            // Frames that are sound, so that the reader isn't lost at once.
            4 => frame(&[0x81, 0x82, 0x89, 0x88, 0x01, 0x80], &[0; 4]),
            _ => Vec::new(),
        };
        let from_service = match operation % 9 {
            1 | 7 => piece.to_vec(),
            8 => frame(&[0x81, 0x02, 0x80, 0x8a, 0x88], &[]),
            _ => Vec::new(),
        };
        match operation % 9 {
            0 | 2 | 4 | 6 if !client_left => {
                by_client.extend(&from_client);
                client_left = operation % 9 == 6;
                if client_left {
                    wire.client_leaves(&from_client, &mut filter, &host);
                } else {
                    wire.client(&from_client, &mut filter, &host);
                }
            }
            1 | 7 | 8 if !service_left => {
                by_service.extend(&from_service);
                service_left = operation % 9 == 7;
                if service_left {
                    wire.service_leaves(&from_service, &mut filter, &host);
                } else {
                    wire.service(&from_service, &mut filter, &host);
                }
            }
            3 => wire.open(&mut filter, &host),
            5 => {
                let milliseconds = if *length == u8::MAX { 5_000_000 } else { u64::from(*length) * 300 };
                host.elapsed.set(host.elapsed.get() + Duration::from_millis(milliseconds));
                let steps = filter.tick(&host).0;
                wire.take(steps, &mut filter, &host);
            }
            _ => {}
        }
        let let_in = wire.decisions.contains(&"allow");
        check(Side::Client, let_in, &wire.client.gone, &by_client);
        // What a service sent before it left without anybody to hear it is lost.
        if let_in || !service_left {
            check(Side::Service, let_in, &wire.service.gone, &by_service);
        }
    }
    filter.end(ID, &host);
});
