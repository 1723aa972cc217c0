//! The reader of frames, held against another library over random frames, in random pieces.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod frames;
mod library;

use envoy_tenancy::websocket::{AuthText, Frames, Opcode, Side, Unfit, Violation};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::frames::{Framing, Sent, bytes, sound, unsound};
use crate::library::Heard;

/// What our reader makes of a side's bytes that come in these pieces.
fn ours(side: Side, bytes: &[u8], pieces: &[usize]) -> Heard {
    let mut frames = Frames::new(side, false);
    let (mut heard, mut message, mut control) = (Heard::default(), None, Vec::new());
    let mut current = None;
    for mut piece in cut(bytes, pieces) {
        loop {
            if let Some((opcode, is_final)) = current {
                let text =
                    if is_control(opcode) { &mut control } else { &mut message.get_or_insert((opcode, Vec::new())).1 };
                let taken = frames.unmask(piece, text);
                piece = &piece[taken..];
                if !frames.is_between() {
                    break;
                }
                if is_control(opcode) {
                    heard.messages.push((opcode, std::mem::take(&mut control)));
                } else if is_final {
                    heard.messages.extend(message.take());
                }
                current = None;
            }
            if piece.is_empty() {
                break;
            }
            match frames.header(piece) {
                Ok((taken, header)) => {
                    piece = &piece[taken..];
                    current = header.map(|header| (header.opcode, header.is_final));
                    if current.is_none() {
                        break;
                    }
                }
                Err(_) => return Heard { is_refused: true, ..heard },
            }
        }
    }
    heard
}

fn is_control(opcode: Opcode) -> bool {
    opcode.is_control()
}

/// The bytes in pieces of these lengths, again and again.
fn cut<'b>(mut bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).clamp(1, bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![usize::MAX]),
        Just(vec![1]),
        prop::collection::vec(1..40_usize, 1..6),
        prop::collection::vec(1..70_000_usize, 1..4),
    ]
}

/// What was understood before a close frame. Of one whose code means nothing, the library gives another code.
fn before_close(heard: &Heard) -> Vec<(Opcode, Vec<u8>)> {
    heard.messages.iter().take_while(|(opcode, _)| *opcode != Opcode::Close).cloned().collect()
}

/// Whether there is a reason for us to refuse what the library doesn't.
fn is_stricter(side: Side, bytes: &[u8]) -> bool {
    let (mut frames, mut at) = (Frames::new(side, false), 0);
    loop {
        at += frames.skip(bytes.len() - at);
        let start = at;
        match frames.header(&bytes[at..]) {
            // RFC 6455 5.5.1: after a close frame nothing is said any more. The library reads no further.
            Ok((_, Some(header))) if header.opcode == Opcode::Close => return true,
            Ok((taken, _)) => at += taken,
            // RFC 6455 5.2: a length takes as few bytes as it can, and its highest bit is 0. The library takes others.
            Err(Violation::Length) => return true,
            Err(Violation::Control) if bytes[start + 1] & 0x7f > 125 => return true,
            // The library looks at a header once its frame has come.
            Err(_) => return !is_whole(&bytes[start..]),
        }
    }
}

/// Whether a frame is there from its first byte to its last.
fn is_whole(frame: &[u8]) -> bool {
    let [_, second, rest @ ..] = frame else { return false };
    let (size, length) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (2, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => (8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        (126 | 127, _) => return false,
        (short, _) => (0, u64::from(short)),
    };
    let header = size + if second & 0x80 == 0 { 0 } else { 4 };
    u64::try_from(rest.len()).unwrap().checked_sub(header).is_some_and(|payload| payload >= length)
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Service)]
}

/// The same 600 cases each time, so that a change is judged by what it changes; or FRAMES=N new ones.
fn cases() -> ProptestConfig {
    let asked = std::env::var("FRAMES").ok().map(|text| text.parse().expect("FRAMES is a number"));
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(6455) };
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(600)) }
}

proptest! {
    #![proptest_config(cases())]

    /// Messages in any fragments, with control frames between, of all three encodings of length.
    #[test]
    fn sound_frames_are_read_alike(side in side(), sent in sound(), pieces in pieces()) {
        let bytes = bytes(side, &sent);
        let heard = ours(side, &bytes, &pieces);
        prop_assert!(!heard.is_refused);
        prop_assert_eq!(heard, library::read(side, &bytes));
    }

    /// One frame that isn't as it should be, somewhere among others.
    #[test]
    fn what_is_wrong_is_refused_alike(side in side(), sent in unsound(), pieces in pieces()) {
        let bytes = bytes(side, &sent);
        let (heard, library) = (ours(side, &bytes, &pieces), library::read(side, &bytes));
        // RFC 6455 5.2: a length in more bytes than it needs. The library takes that.
        let is_stricter = sent.iter().any(|sent| sent.framing == Framing::LongLength);
        if is_stricter {
            prop_assert!(heard.is_refused && library.messages.starts_with(&heard.messages));
        } else {
            prop_assert_eq!(heard, library);
        }
    }

    /// Bits that have flipped in headers: what one refuses, the other refuses as well.
    #[test]
    fn flipped_bits_are_read_alike(
        side in side(),
        sent in sound(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..14_usize, 0..8_u8), 1..4),
        pieces in pieces(),
    ) {
        prop_assume!(!sent.is_empty());
        let (mut starts, mut bytes) = (Vec::new(), Vec::new());
        for frame in &sent {
            starts.push(bytes.len());
            bytes.extend(frames::bytes(side, std::slice::from_ref(frame)));
        }
        for (frame, place, bit) in flips {
            let at = (starts[frame.index(starts.len())] + place).min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
        }
        let (heard, library) = (ours(side, &bytes, &pieces), library::read(side, &bytes));
        if heard.is_refused {
            prop_assert!(library.is_refused || is_stricter(side, &bytes), "{:?}", heard);
        } else {
            prop_assert!(!library.is_refused || library.minds_what_is_said, "{:?}", library);
        }
        let (heard, library) = (before_close(&heard), before_close(&library));
        let both = heard.len().min(library.len());
        prop_assert_eq!(&heard[..both], &library[..both]);
    }

    /// Any bytes: whatever we take, the library takes as well, and in the same way.
    #[test]
    fn any_bytes_are_read_alike(side in side(), bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in pieces()) {
        let (heard, library) = (ours(side, &bytes, &pieces), library::read(side, &bytes));
        prop_assert!(heard.is_refused || !library.is_refused || library.minds_what_is_said, "{:?}", library);
        let (heard, library) = (before_close(&heard), before_close(&library));
        let both = heard.len().min(library.len());
        prop_assert_eq!(&heard[..both], &library[..both]);
    }

    /// The first message's text, as the library gives it.
    #[test]
    fn the_first_message_is_read_alike(sent in sound(), most in 0..100_000_u64) {
        let bytes = bytes(Side::Client, &sent);
        let library = library::read(Side::Client, &bytes);
        let first = library.messages.iter().find(|(opcode, _)| !matches!(opcode, Opcode::Ping | Opcode::Pong));
        let (mut frames, mut text) = (Frames::new(Side::Client, false), AuthText::default());
        let (mut at, mut found) = (0, None);
        while found.is_none() && at < bytes.len() {
            at += frames.skip(bytes.len() - at);
            if text.is_whole(&frames) {
                found = Some(Ok(AuthText::read(&bytes[..at])));
            } else if let (taken, Some(header)) = frames.header(&bytes[at..]).expect("they are sound") {
                at += taken;
                found = text.take_header(header, most).err().map(Err);
                if found.is_none() && text.is_whole(&frames) {
                    found = Some(Ok(AuthText::read(&bytes[..at])));
                }
            } else {
                break;
            }
        }
        match (first, found) {
            (Some((Opcode::Text, expected)), Some(Ok(found))) => {
                prop_assert!(u64::try_from(expected.len()).unwrap() <= most);
                prop_assert_eq!(expected, &found);
            }
            (Some((Opcode::Text, expected)), Some(Err(unfit))) => {
                prop_assert_eq!(unfit, Unfit::TooLong);
                prop_assert!(u64::try_from(expected.len()).unwrap() > most);
            }
            (Some((Opcode::Binary, _)), found) => prop_assert_eq!(found, Some(Err(Unfit::NotText))),
            (Some((Opcode::Close, _)), found) => prop_assert_eq!(found, Some(Err(Unfit::Closed))),
            (None, None) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// Lengths at which the encoding changes, each frame by itself.
#[test]
fn every_encoding_of_a_length_is_read() {
    for side in [Side::Client, Side::Service] {
        for length in [0, 1, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 1 << 20] {
            let sent = vec![Sent { opcode: 2, is_final: true, length, mask: [9, 8, 7, 6], framing: Framing::Sound }];
            let bytes = bytes(side, &sent);
            for pieces in [vec![usize::MAX], vec![1], vec![2, 3], vec![65_536]] {
                let heard = ours(side, &bytes, &pieces);
                assert_eq!((heard.is_refused, heard.messages.len()), (false, 1), "{length}");
                assert_eq!(heard.messages[0].1.len(), length);
                assert_eq!(heard, library::read(side, &bytes), "{length}");
            }
        }
    }
}
