//! Frames as somebody might send them, sound or not.

use envoy_tenancy::websocket::Side;
use proptest::prelude::*;

/// A frame.
#[derive(Debug, Clone)]
pub struct Sent {
    pub opcode: u8,
    pub is_final: bool,
    pub length: usize,
    pub mask: [u8; 4],
    pub framing: Framing,
}

/// How a frame is put into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Sound,
    /// With one of the reserved bits.
    Reserved(u8),
    /// Masked where it must not be, or the reverse.
    WronglyMasked,
    /// With its length in more bytes than it needs.
    LongLength,
}

/// The bytes of frames that a side sends.
pub fn bytes(side: Side, frames: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let is_masked = (side == Side::Client) != (frame.framing == Framing::WronglyMasked);
        let reserved = if let Framing::Reserved(bit) = frame.framing { 0x10 << bit } else { 0 };
        bytes.push(u8::from(frame.is_final) << 7 | reserved | frame.opcode);
        let mask_bit = u8::from(is_masked) << 7;
        let long = frame.framing == Framing::LongLength;
        match frame.length {
            short @ 0..=125 if !long => bytes.push(mask_bit | u8::try_from(short).unwrap()),
            middle @ 0..=65_535 if !long || middle <= 125 => {
                bytes.push(mask_bit | 126);
                bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        if is_masked {
            bytes.extend(frame.mask);
        }
        // Plain ASCII, so that a text may be cut anywhere; a close frame says 1000.
        let payload = (0..frame.length).map(|at| match (frame.opcode, at) {
            (8, 0) => 0x03,
            (8, 1) => 0xe8,
            _ => b'a' + u8::try_from(at % 26).unwrap(),
        });
        let mask = if is_masked { frame.mask } else { [0; 4] };
        bytes.extend(payload.zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
    bytes
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..20_usize,
        2 => prop::sample::select(vec![0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537]),
        1 => 0..3_000_usize,
        1 => 60_000..90_000_usize,
    ]
}

fn frame(opcode: u8, is_final: bool, length: usize, mask: [u8; 4]) -> Sent {
    Sent { opcode, is_final, length, mask, framing: Framing::Sound }
}

/// A message in fragments, with control frames before each.
fn message() -> impl Strategy<Value = Vec<Sent>> {
    let control = (prop::sample::select(vec![9_u8, 10]), 0..=125_usize, any::<[u8; 4]>());
    let piece = (length(), any::<[u8; 4]>(), prop::collection::vec(control, 0..3));
    (prop::sample::select(vec![1_u8, 2]), prop::collection::vec(piece, 1..5)).prop_map(|(opcode, pieces)| {
        let last = pieces.len() - 1;
        let mut frames = Vec::new();
        for (index, (length, mask, controls)) in pieces.into_iter().enumerate() {
            frames.extend(controls.into_iter().map(|(opcode, length, mask)| frame(opcode, true, length, mask)));
            frames.push(frame(if index == 0 { opcode } else { 0 }, index == last, length, mask));
        }
        frames
    })
}

/// Messages, and a close frame at the end or not.
pub fn sound() -> impl Strategy<Value = Vec<Sent>> {
    let close = prop::option::of((prop::sample::select(vec![0_usize, 2, 3, 125]), any::<[u8; 4]>()));
    (prop::collection::vec(message(), 0..4), close).prop_map(|(messages, close)| {
        let mut frames: Vec<Sent> = messages.into_iter().flatten().collect();
        frames.extend(close.map(|(length, mask)| frame(8, true, length, mask)));
        frames
    })
}

/// The same, with one frame that isn't as it should be.
pub fn unsound() -> impl Strategy<Value = Vec<Sent>> {
    let fault = prop_oneof![
        (0..3_u8).prop_map(|bit| Fault::Framing(Framing::Reserved(bit))),
        Just(Fault::Framing(Framing::WronglyMasked)),
        Just(Fault::Framing(Framing::LongLength)),
        prop::sample::select(vec![3_u8, 4, 5, 6, 7, 11, 12, 13, 14, 15]).prop_map(Fault::Opcode),
        Just(Fault::LongControl),
        Just(Fault::FragmentedControl),
        Just(Fault::LooseContinuation),
        Just(Fault::Interrupted),
    ];
    (prop::collection::vec(message(), 1..4), any::<prop::sample::Index>(), fault).prop_map(
        |(messages, place, fault)| {
            let mut frames: Vec<Sent> = messages.into_iter().flatten().collect();
            let place = place.index(frames.len());
            let mask = [3, 1, 4, 1];
            match fault {
                Fault::Framing(Framing::LongLength) if frames[place].length > 65_535 => {
                    // There is no longer form of this.
                    frames[place].length = 300;
                    frames[place].framing = Framing::LongLength;
                }
                // A control frame's length has one form.
                Fault::Framing(Framing::LongLength) if frames[place].opcode >= 8 => {
                    frames[place].framing = Framing::Reserved(0);
                }
                Fault::Framing(framing) => frames[place].framing = framing,
                Fault::Opcode(opcode) => frames[place].opcode = opcode,
                Fault::LongControl => frames.insert(place, frame(9, true, 126, mask)),
                Fault::FragmentedControl => frames.insert(place, frame(9, false, 5, mask)),
                Fault::LooseContinuation => frames.insert(0, frame(0, true, 5, mask)),
                Fault::Interrupted => {
                    frames.insert(0, frame(1, false, 5, mask));
                }
            }
            frames
        },
    )
}

/// What can be wrong with a frame among others.
#[derive(Debug, Clone)]
enum Fault {
    Framing(Framing),
    Opcode(u8),
    LongControl,
    FragmentedControl,
    LooseContinuation,
    Interrupted,
}
