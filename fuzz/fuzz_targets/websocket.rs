//! Any bytes as what both sides of a WebSocket connection send, in any pieces and at any time. No panic; what is read of frames doesn't
//! depend on the pieces; and until the client has said who it is, each side hears of the other at most a close frame.
#![no_main]

mod host;

use std::time::Duration;

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Flow, Passage, Piece, Step};
use envoy_tenancy::host::RequestId;
use envoy_tenancy::request::Head;
use envoy_tenancy::websocket::{Frames, Side};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

use crate::host::NoHost;

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

/// One direction, as Envoy has it: what it holds, and what has gone on.
#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    is_held: bool,
    gone: Vec<u8>,
}

impl Direction {
    /// Carries out what happens with the bytes in hand or held.
    fn pass(&mut self, passage: Passage, in_hand: bool) {
        match passage {
            // What is in hand goes on unless something else is said.
            Passage::Unchanged if !in_hand => return,
            Passage::Hold => {
                self.is_held = true;
                return;
            }
            Passage::Unchanged | Passage::Pass => {}
            Passage::Rewrite { keep, then } => {
                assert!(in_hand || self.is_held, "Envoy has nothing that could be replaced");
                assert!(keep <= self.held.len());
                self.held.truncate(keep);
                self.held.extend(then);
            }
        }
        self.is_held = false;
        self.gone.append(&mut self.held);
    }
}

struct Connection {
    filter: Filter,
    host: NoHost,
    client: Direction,
    service: Direction,
    let_in: bool,
    is_cut: bool,
}

const ID: RequestId = RequestId(1);

impl Connection {
    fn client(&mut self, bytes: &[u8]) {
        self.client.held.extend(bytes);
        self.take_client(true);
    }

    fn take_client(&mut self, in_hand: bool) {
        let held = self.client.held.clone();
        let read = |from: usize, most: usize| held[from..held.len().min(from + most)].to_vec();
        let piece = Piece { size: held.len(), read: &read, is_last: false };
        let flow = self.filter.client_piece(ID, piece, &self.host);
        self.carry_out(flow, in_hand, false);
    }

    fn service(&mut self, bytes: &[u8]) {
        self.service.held.extend(bytes);
        let held = self.service.held.clone();
        let read = |from: usize, most: usize| held[from..held.len().min(from + most)].to_vec();
        let piece = Piece { size: held.len(), read: &read, is_last: false };
        let flow = self.filter.service_piece(ID, piece, &self.host);
        self.carry_out(flow, false, true);
    }

    fn carry_out(&mut self, flow: Flow, client_in_hand: bool, service_in_hand: bool) {
        self.let_in |= flow.verdict.as_ref().is_some_and(|verdict| verdict.decision == "allow");
        self.is_cut |= flow.cut.is_some();
        self.service.pass(flow.service, service_in_hand);
        self.client.pass(flow.client, client_in_hand);
        if flow.proceeds && !self.is_cut {
            self.take_client(false);
        }
    }

    fn check(&self) {
        if self.let_in {
            return;
        }
        let gone = &self.client.gone;
        assert!(gone.is_empty() || gone.starts_with(b"\x89\x8d\0\0\0\0envoy-tenancy") || gone[0] == 0x88, "{gone:?}");
        // A ping of 19 bytes, and a close frame of at most 131.
        assert!(gone.len() <= 150, "{} bytes have gone to the service", gone.len());
        let gone = &self.service.gone;
        assert!(gone.is_empty() || (gone[0] == 0x88 && gone.len() == usize::from(gone[1]) + 2), "{gone:?}");
    }
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
    let mut connection = Connection {
        filter,
        host,
        client: Direction::default(),
        service: Direction::default(),
        let_in: false,
        is_cut: false,
    };
    let mut rest = bytes;
    while let [operation, length, more @ ..] = rest
        && !connection.is_cut
    {
        let (piece, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        match operation % 6 {
            0 => connection.client(piece),
            1 => connection.service(piece),
            2 => {
                let message = format!(r#"{{"action":"auth","token":"{TOKEN}","tenantId":"acme"}}"#);
                let length = u16::try_from(message.len()).expect("it is short").to_be_bytes();
                connection.client(&[&[0x81, 0xfe][..], &length, &[0; 4], message.as_bytes(), piece].concat());
            }
            3 => {
                if let Some(Step::Flow(flow)) = connection.filter.opened(ID, b"101", &connection.host) {
                    connection.carry_out(*flow, false, false);
                }
            }
            4 => {
                // A frame of the client's that is sound, so that the reader isn't lost at once.
                let mut frame = vec![[0x81, 0x82, 0x89, 0x88, 0x01, 0x80][usize::from(*length) % 6], 0x80];
                frame[1] |= u8::try_from(piece.len().min(125)).expect("it is short");
                frame.extend([0; 4]);
                frame.extend(&piece[..piece.len().min(125)]);
                connection.client(&frame);
            }
            _ => {
                let elapsed = connection.host.elapsed.get() + Duration::from_secs(u64::from(*length) * 20);
                connection.host.elapsed.set(elapsed);
                for (id, step) in connection.filter.tick(&connection.host).0 {
                    assert_eq!(id, ID);
                    if let Step::Flow(flow) = step {
                        connection.carry_out(*flow, false, false);
                    }
                }
            }
        }
        connection.check();
    }
    connection.filter.end(ID, &connection.host);
});
