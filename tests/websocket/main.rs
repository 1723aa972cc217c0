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

use envoy_tenancy::websocket::{AuthText, Frames, Opcode, Side, Unfit};
use proptest::prelude::*;

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

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Service)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

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

    /// Any bytes: whatever we take, the library takes as well, and in the same way.
    #[test]
    fn any_bytes_are_read_alike(side in side(), bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in pieces()) {
        let (heard, library) = (ours(side, &bytes, &pieces), library::read(side, &bytes));
        prop_assert!(heard.is_refused || !library.is_refused || library.minds_what_is_said, "{:?}", library);
        // Of a close frame whose code means nothing the library gives another one.
        let common = |heard: &Heard| {
            heard.messages.iter().take_while(|(opcode, _)| *opcode != Opcode::Close).cloned().collect::<Vec<_>>()
        };
        let (heard, library) = (common(&heard), common(&library));
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
