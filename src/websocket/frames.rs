//! One side's bytes → its frames' headers, and where their payloads end (RFC 6455, section 5).

/// Who sends the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client, whose frames are masked.
    Client,
    /// A service, whose frames are not.
    Service,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next piece of a message.
    Continuation,
    /// A message of text, or its first piece.
    Text,
    /// A message of bytes, or its first piece.
    Binary,
    /// The end of the connection.
    Close,
    /// A question whether the other side is there.
    Ping,
    /// The answer to it.
    Pong,
}

impl Opcode {
    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether it controls the connection, and may stand between the pieces of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// Whether a message begins with it.
    pub const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether its message ends with it.
    pub is_final: bool,
    /// The length of its payload, in bytes.
    pub length: u64,
}

/// What is wrong with a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A reserved bit is set, and no extension could give it a meaning.
    ReservedBit,
    /// It is of a kind that nobody has defined.
    Opcode,
    /// A client's frame isn't masked, or a service's is.
    Mask,
    /// It controls the connection, and is in pieces or longer than 125 bytes.
    Control,
    /// It begins a message within another one, or continues one that hasn't begun.
    Order,
    /// Its length has more bytes than it needs, or is beyond 2^63.
    Length,
}

impl Violation {
    /// What a client is told.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBit => "protocol error: a reserved bit is set",
            Self::Opcode => "protocol error: unknown opcode",
            Self::Mask => "protocol error: wrong masking",
            Self::Control => "protocol error: malformed control frame",
            Self::Order => "protocol error: fragments out of order",
            Self::Length => "protocol error: malformed length",
        }
    }
}

/// The longest header: two bytes, eight of length, four of the mask.
const LONGEST_HEADER: usize = 14;

/// Reads one side's frames. It holds what of a header came before the rest, and never any payload.
#[derive(Debug, Clone)]
pub struct Frames {
    side: Side,
    may_reserve: bool,
    header: [u8; LONGEST_HEADER],
    /// How many bytes of the header there are.
    filled: usize,
    /// How many bytes of the payload are yet to come.
    left: u64,
    mask: [u8; 4],
    /// Which of the mask's bytes is the next one's, modulo 4.
    turn: usize,
    in_message: bool,
}

impl Frames {
    /// The frames of a side from its first byte on. `may_reserve` says that an extension may use the reserved bits.
    pub const fn new(side: Side, may_reserve: bool) -> Self {
        Self {
            side,
            may_reserve,
            header: [0; LONGEST_HEADER],
            filled: 0,
            left: 0,
            mask: [0; 4],
            turn: 0,
            in_message: false,
        }
    }

    /// Whether the next byte is a frame's first one.
    pub const fn is_between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }

    /// How many bytes of the current frame's payload are yet to come. While there are any, they have to be taken by
    /// [`Frames::skip`] or [`Frames::unmask`] before [`Frames::header`] goes on.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes bytes of a header from the front of `bytes`: how many, and the header once it is whole.
    ///
    /// # Errors
    ///
    /// What is wrong with the header. After that nobody knows any more where a frame begins.
    pub fn header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Violation> {
        let mut taken = 0_usize;
        while self.left == 0 {
            let wanted = self.header_length();
            if self.filled >= wanted {
                let header = self.read()?;
                self.filled = 0;
                self.left = header.length;
                self.turn = 0;
                return Ok((taken, Some(header)));
            }
            let Some(byte) = bytes.get(taken) else { break };
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled = self.filled.saturating_add(1);
            taken = taken.saturating_add(1);
            // What is wrong with the first two bytes is known before the rest has come.
            if self.filled == 2 {
                self.check()?;
            }
        }
        Ok((taken, None))
    }

    /// Takes payload that nobody looks at: how many of so many bytes that there are.
    pub fn skip(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left = self.left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        self.turn = self.turn.wrapping_add(taken) & 3;
        taken
    }

    /// Takes payload from the front of `bytes`, and adds it unmasked to `text`: how many bytes.
    pub fn unmask(&mut self, bytes: &[u8], text: &mut Vec<u8>) -> usize {
        let (mask, turn) = (self.mask, self.turn & 3);
        let taken = self.skip(bytes.len());
        text.extend(bytes.iter().take(taken).zip(mask.iter().cycle().skip(turn)).map(|(byte, mask)| byte ^ mask));
        taken
    }

    fn first(&self) -> u8 {
        let [first, ..] = self.header;
        first
    }

    fn second(&self) -> u8 {
        let [_, second, ..] = self.header;
        second
    }

    fn is_masked(&self) -> bool {
        self.second() & 0x80 != 0
    }

    /// How long the header is, as far as that is known.
    fn header_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length: usize = match self.second() & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        length.saturating_add(if self.is_masked() { 4 } else { 0 })
    }

    /// Looks at a header's first two bytes.
    fn check(&self) -> Result<Opcode, Violation> {
        if self.first() & 0x70 != 0 && !self.may_reserve {
            return Err(Violation::ReservedBit);
        }
        let opcode = Opcode::of(self.first() & 0x0f).ok_or(Violation::Opcode)?;
        if self.is_masked() != (self.side == Side::Client) {
            return Err(Violation::Mask);
        }
        let is_final = self.first() & 0x80 != 0;
        if opcode.is_control() && (!is_final || self.second() & 0x7f > 125) {
            return Err(Violation::Control);
        }
        if (opcode == Opcode::Continuation && !self.in_message) || (opcode.begins_message() && self.in_message) {
            return Err(Violation::Order);
        }
        Ok(opcode)
    }

    /// Reads a header that is whole.
    fn read(&mut self) -> Result<Header, Violation> {
        let opcode = self.check()?;
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.header;
        let (length, shortest, at) = match self.second() & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), 126, 4),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 1 << 16, 10),
            short => (u64::from(short), 0, 2),
        };
        if length < shortest || length >> 63 != 0 {
            return Err(Violation::Length);
        }
        let mask = self.header.get(at..).and_then(<[u8]>::first_chunk).filter(|_| self.is_masked());
        self.mask = mask.copied().unwrap_or_default();
        let is_final = self.first() & 0x80 != 0;
        if !opcode.is_control() {
            self.in_message = !is_final;
        }
        Ok(Header { opcode, is_final, length })
    }
}
