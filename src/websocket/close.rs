//! How a connection ends: a close frame, for the client or for the service (RFC 6455, section 5.5.1).

use std::borrow::Cow;

/// A close frame's code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code (RFC 6455, section 7.4).
    pub code: u16,
    /// What the other side is told. What is beyond 123 bytes is left out: a control frame can't carry more.
    pub reason: Cow<'static, str>,
}

/// The code for a side that has what it wanted.
const NORMAL: u16 = 1000;
/// The code for bytes that are no frames.
const PROTOCOL_ERROR: u16 = 1002;
/// The code for whatever the receiver's policy doesn't allow.
const POLICY: u16 = 1008;
/// The code for a message that is too large.
const TOO_LARGE: u16 = 1009;
/// The longest reason in a control frame of 125 bytes.
const LONGEST_REASON: usize = 123;

impl Close {
    /// The client has left.
    pub const fn normal() -> Self {
        Self { code: NORMAL, reason: Cow::Borrowed("") }
    }

    /// What came is no WebSocket.
    pub const fn protocol_error(reason: &'static str) -> Self {
        Self { code: PROTOCOL_ERROR, reason: Cow::Borrowed(reason) }
    }

    /// The connection is refused.
    pub fn policy(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: POLICY, reason: reason.into() }
    }

    /// The message is too large.
    pub const fn too_large(reason: &'static str) -> Self {
        Self { code: TOO_LARGE, reason: Cow::Borrowed(reason) }
    }

    /// The frame as a service sends it to a client.
    pub fn to_client(&self) -> Vec<u8> {
        self.frame(&[])
    }

    /// The frame as a client sends it to a service.
    ///
    /// The mask is there to keep a script in a browser from choosing the bytes on the wire. These are ours, so it may be
    /// anything, and one of zeros leaves them readable in a capture.
    pub fn to_service(&self) -> Vec<u8> {
        self.frame(&[0; 4])
    }

    fn frame(&self, mask: &[u8]) -> Vec<u8> {
        let reason = self.reason.as_bytes().get(..LONGEST_REASON).unwrap_or(self.reason.as_bytes());
        let length = u8::try_from(reason.len()).unwrap_or(0).saturating_add(2);
        let masked = if mask.is_empty() { 0 } else { 0x80 };
        [&[0x88, masked | length], mask, &self.code.to_be_bytes(), reason].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_is_short_whatever_its_reason() {
        assert_eq!(Close::policy("NO").to_client(), [0x88, 4, 0x03, 0xf0, b'N', b'O']);
        assert_eq!(Close::policy("NO").to_service(), [0x88, 0x84, 0, 0, 0, 0, 0x03, 0xf0, b'N', b'O']);
        assert_eq!(Close::normal().to_client(), [0x88, 2, 0x03, 0xe8]);
        let long = Close::policy("a".repeat(500)).to_client();
        assert_eq!((long.len(), long[1]), (127, 125));
    }
}
