//! What the crate tungstenite makes of the same bytes.

use std::io::{Cursor, Read, Write};

use envoy_tenancy::websocket::{Opcode, Side};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// What a reader has understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Messages and control frames, in the order of their ends.
    pub messages: Vec<(Opcode, Vec<u8>)>,
    /// Whether something isn't as it should be.
    pub is_refused: bool,
    /// Whether what it refuses is what is said, such as text that isn't UTF-8, and not a frame.
    pub minds_what_is_said: bool,
}

/// Bytes to read; what is written is lost.
struct Bytes(Cursor<Vec<u8>>);

impl Read for Bytes {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the library makes of a side's bytes.
pub fn read(side: Side, bytes: &[u8]) -> Heard {
    let role = match side {
        Side::Client => Role::Server,
        Side::Service => Role::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Bytes(Cursor::new(bytes.to_vec())), role, None);
    let mut heard = Heard::default();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => heard.messages.push((Opcode::Text, text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => heard.messages.push((Opcode::Binary, bytes.to_vec())),
            Ok(Message::Ping(bytes)) => heard.messages.push((Opcode::Ping, bytes.to_vec())),
            Ok(Message::Pong(bytes)) => heard.messages.push((Opcode::Pong, bytes.to_vec())),
            Ok(Message::Close(close)) => {
                let payload = close.map_or(Vec::new(), |close| {
                    [&u16::from(close.code).to_be_bytes(), close.reason.as_bytes()].concat()
                });
                heard.messages.push((Opcode::Close, payload));
            }
            Ok(Message::Frame(_)) => panic!("nobody asked for frames"),
            // The bytes are at their end, or there has been a close frame.
            Err(
                Error::ConnectionClosed
                | Error::Io(_)
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing),
            ) => {
                return heard;
            }
            Err(error) => {
                let minds_what_is_said = matches!(
                    error,
                    Error::Utf8(_) | Error::Capacity(_) | Error::Protocol(ProtocolError::InvalidCloseSequence)
                );
                return Heard { is_refused: true, minds_what_is_said, ..heard };
            }
        }
    }
}
