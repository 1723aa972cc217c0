//! Any bytes as what both sides of a WebSocket connection send, in any pieces and at any time. No panic; what is read of frames doesn't
//! depend on the pieces; and until the client has said who it is, each side hears of the other at most a close frame.
#![no_main]

mod host;
#[path = "../../tests/native/wire.rs"]
mod wire;

use std::time::Duration;

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::request::Head;
use envoy_tenancy::websocket::{Frames, Side};
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
        "quotas": [{"quotaKey": "messages", "unit": "message", "period": "month", "limit": 20}],
        "websocket": {"authMessage": "required", "authTimeoutSeconds": 30, "maxMessageBytes": 1024},
    });
    Config::from_value(&config).expect("it is sound")
}

const ID: RequestId = RequestId(1);

/// Until the client is let in, the service hears a ping and a close frame at most, and the client a close frame.
fn check(wire: &Wire) {
    if wire.decisions.contains(&"allow") {
        return;
    }
    let gone = &wire.client.gone;
    assert!(gone.is_empty() || gone.starts_with(b"\x89\x8d\0\0\0\0envoy-tenancy") || gone[0] == 0x88, "{gone:?}");
    // A ping of 19 bytes, and a close frame of at most 131.
    assert!(gone.len() <= 150, "{} bytes have gone to the service", gone.len());
    let gone = &wire.service.gone;
    assert!(gone.is_empty() || (gone[0] == 0x88 && gone.len() == usize::from(gone[1]) + 2), "{gone:?}");
}

/// The headers' first bytes and lengths that are read of bytes in two ways of cutting them, and whether they end in a violation.
fn seen(side: Side, bytes: &[u8], size: usize) -> (Vec<(bool, u64)>, bool) {
    let mut frames = Frames::new(side, false);
    let mut seen = Vec::new();
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            let taken = frames.skip(piece.len());
            piece = &piece[taken..];
            match frames.header(piece) {
                Ok((taken, header)) => {
                    piece = &piece[taken..];
                    seen.extend(header.map(|header| (header.is_final, header.length)));
                }
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

thread_local! {
    static CONFIG: Config = config();
}

fuzz_target!(|bytes: &[u8]| {
    for side in [Side::Client, Side::Service] {
        assert_eq!(seen(side, bytes, usize::MAX), seen(side, bytes, 1));
        assert_eq!(seen(side, bytes, usize::MAX), seen(side, bytes, 3));
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
    let mut rest = bytes;
    while let [operation, length, more @ ..] = rest
        && wire.cut.is_none()
    {
        let (piece, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        match operation % 6 {
            0 => wire.client(piece, &mut filter, &host),
            1 => wire.service(piece, &mut filter, &host),
            2 => {
                let message = format!(r#"{{"action":"auth","token":"{TOKEN}","tenantId":"acme"}}"#);
                let length = u16::try_from(message.len()).expect("it is short").to_be_bytes();
                let frame = [&[0x81, 0xfe][..], &length, &[0; 4], message.as_bytes(), piece].concat();
                wire.client(&frame, &mut filter, &host);
            }
            3 => wire.open(&mut filter, &host),
            4 => {
                // A frame of the client's that is sound, so that the reader isn't lost at once.
                let payload = &piece[..piece.len().min(125)];
                let first = [0x81, 0x82, 0x89, 0x88, 0x01, 0x80][usize::from(*length) % 6];
                let second = 0x80 | u8::try_from(payload.len()).expect("it is short");
                wire.client(&[&[first, second, 0, 0, 0, 0], payload].concat(), &mut filter, &host);
            }
            _ => {
                host.elapsed.set(host.elapsed.get() + Duration::from_secs(u64::from(*length) * 20));
                let steps = filter.tick(&host).0;
                wire.take(steps, &mut filter, &host);
            }
        }
        check(&wire);
    }
    filter.end(ID, &host);
});
