//! The first message of a client that is yet to say who it is: the seed's `{"action":"auth","token":…,"tenantId":…}`.

use serde_json::Value;

use super::frames::{Frames, Header, Opcode, Side};
use crate::config::json;
use crate::tenant::Identifier;

/// How far the first message has come. It keeps nothing of the text, which whoever holds the client's bytes has already: clients that
/// haven't said who they are can't fill anybody's memory here.
#[derive(Debug, Clone, Default)]
pub struct AuthText {
    length: u64,
    /// Whether the current frame's payload belongs to it.
    takes: bool,
    is_last: bool,
}

/// Why the first message can't be the auth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is longer than allowed.
    TooLong,
    /// It isn't text.
    NotText,
    /// The client closes the connection.
    Closed,
}

impl AuthText {
    /// Takes a frame's header; `most` bytes is how long the message may be.
    ///
    /// # Errors
    ///
    /// Why this can't become the auth message.
    pub fn take_header(&mut self, header: Header, most: u64) -> Result<(), Unfit> {
        match header.opcode {
            Opcode::Close => return Err(Unfit::Closed),
            Opcode::Binary => return Err(Unfit::NotText),
            Opcode::Ping | Opcode::Pong => {
                self.takes = false;
                return Ok(());
            }
            Opcode::Text | Opcode::Continuation => {}
        }
        self.length = self.length.saturating_add(header.length);
        if self.length > most {
            return Err(Unfit::TooLong);
        }
        (self.takes, self.is_last) = (true, header.is_final);
        Ok(())
    }

    /// Whether it is all there, at that place between two frames.
    pub fn is_whole(&self, frames: &Frames) -> bool {
        self.takes && self.is_last && frames.is_between()
    }

    /// The text, from the client's bytes up to its end.
    pub fn read(mut bytes: &[u8]) -> Vec<u8> {
        let (mut frames, mut this, mut text) = (Frames::new(Side::Client, false), Self::default(), Vec::new());
        while !bytes.is_empty() {
            let taken = if frames.left() == 0 {
                // All of it has been found good before.
                let Ok((taken, header)) = frames.header(bytes) else { break };
                this.takes = header.map_or(this.takes, |header| !header.opcode.is_control());
                taken
            } else if this.takes {
                frames.unmask(bytes, &mut text)
            } else {
                frames.skip(bytes.len())
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        text
    }
}

/// What the auth message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthMessage {
    /// The token, which nobody has verified yet.
    pub token: Vec<u8>,
    /// The tenant's id.
    pub tenant: Identifier,
}

impl AuthMessage {
    /// Reads the message; `None` where it isn't one.
    ///
    /// The service will read the same text with a library of its own, and has to find the same tenant there. So no key may be
    /// given twice, of which one library takes the first and another the last, nor one in other letters that some take for the same.
    pub fn read(text: &[u8]) -> Option<Self> {
        let Value::Object(map) = json::read(text).ok()? else { return None };
        let known = ["action", "token", "tenantId"];
        let alike = |key: &String| known.iter().any(|known| key.eq_ignore_ascii_case(known) && key != known);
        if map.keys().any(alike) {
            return None;
        }
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        if text("action")? != "auth" {
            return None;
        }
        let (token, tenant) = (text("token")?, Identifier::parse(text("tenantId")?.as_bytes())?);
        Some(Self { token: token.as_bytes().to_vec(), tenant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auth_message_can_be_read_in_one_way_only() {
        let good = br#" {"action":"auth","token":"a.b.c","tenantId":"acme","more":[1,{"token":2}]} "#;
        let read = AuthMessage::read(good).expect("it is one");
        assert_eq!((read.token.as_slice(), read.tenant.as_str()), (&b"a.b.c"[..], "acme"));
        let bad = [
            r#"{"action":"auth","token":"a.b.c"}"#,
            r#"{"action":"auth","tenantId":"acme"}"#,
            r#"{"token":"a.b.c","tenantId":"acme"}"#,
            r#"{"action":"ping","token":"a.b.c","tenantId":"acme"}"#,
            r#"{"action":"auth","token":7,"tenantId":"acme"}"#,
            r#"{"action":"auth","token":"a.b.c","tenantId":7}"#,
            r#"{"action":"auth","token":"a.b.c","tenantId":"a/b"}"#,
            r#"{"action":"auth","token":"a.b.c","tenantId":"acme","tenantId":"acme"}"#,
            r#"{"action":"auth","token":"a.b.c","tenantId":"acme","TenantID":"globex"}"#,
            r#"{"action":"auth","token":"a.b.c","tenantId":"acme"} {}"#,
            r#"["auth","a.b.c","acme"]"#,
            r#""auth""#,
            "",
        ];
        for text in bad {
            assert_eq!(AuthMessage::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(AuthMessage::read(b"{\"action\":\"auth\",\"token\":\"\xff\",\"tenantId\":\"acme\"}"), None);
    }
}
