//! What a connection and its user are called.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize, Serializer};

/// The longest name of a user.
pub const MAX_NAME_BYTES: usize = 256;

/// A connection's name: 128 random bits, so that nobody can guess whom to write to. Its text sorts as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u128);

impl ConnectionId {
    /// A new one, unless the system has no randomness to give.
    pub fn random() -> Result<Self, String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// The one that this text is.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The user that a token is about: its `sub`, where that can be a name. The token isn't verified here. It may only be
/// one that the filter has verified, of a request that showed the secret of the route behind the filter.
pub fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    is_name(&claims.sub).then_some(claims.sub)
}

/// Whether somebody may be called like this.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_name_is_read_as_it_is_written() {
        for id in [ConnectionId(0), ConnectionId(u128::MAX), ConnectionId::random().unwrap()] {
            assert_eq!(ConnectionId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "0", "+0000000000000000000000000000000", "0000000000000000000000000000000A"] {
            assert_eq!(ConnectionId::parse(bad), None, "{bad}");
        }
        assert_ne!(ConnectionId::random().unwrap(), ConnectionId::random().unwrap());
    }

    #[test]
    fn a_user_is_who_the_token_is_about() {
        let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(MAX_NAME_BYTES + 1));
        for (claims, expected) in [
            (r#"{"sub":"jo","tenant_id":"acme"}"#, Some("jo")),
            (r#"{"sub":"j\u00f6"}"#, Some("jö")),
            (r#"{"sub":""}"#, None),
            (r#"{"sub":7}"#, None),
            (r#"{"sub":"a","sub":"b"}"#, None),
            (r#"{"sub":"a\nb"}"#, None),
            ("{}", None),
            ("no claims", None),
            (long.as_str(), None),
        ] {
            let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
            assert_eq!(subject(&token).as_deref(), expected, "{claims}");
        }
        for token in ["", "a", "a.b", "a.!.c", "a.e30.c.d"] {
            assert_eq!(subject(token), None, "{token}");
        }
    }
}
