//! WebSocket (RFC 6455): bytes that come in pieces of any size → frames → the auth message; and the close frame back.
//!
//! A stream's way through this room: [`Frames`] reads the headers of one side's frames and says where each begins and ends,
//! whatever the pieces are. [`AuthText`] gathers the first message of a client that is yet to say who it is, and
//! [`AuthMessage`] is what it says. [`Close`] is how a connection ends.
//!
//! Nothing here looks into what is compressed: an extension only has to leave the frames' headers readable, as all do.

mod auth;
mod close;
mod frames;

pub use self::auth::{AuthMessage, AuthText, Unfit};
pub use self::close::Close;
pub use self::frames::{Frames, Header, Opcode, Side, Violation};
