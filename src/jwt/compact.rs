//! A token's bytes → its parts, and what of its header matters (RFC 7515, compact serialization). Nothing is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{MAX_TOKEN_BYTES, TokenFault};
use crate::config::json;

/// A token taken apart.
///
/// Of its header only `alg`, `kid`, `typ` and `crit` are read. `jwk`, `jku`, `x5c` and `x5u` would let a token bring the
/// key to verify it with, and are never looked at.
pub struct Compact<'t> {
    /// The `alg` that it claims.
    pub algorithm: String,
    /// The key that it names.
    pub kid: Option<String>,
    /// What is signed: header and payload as they came.
    pub signed: &'t [u8],
    /// The signature.
    pub signature: Vec<u8>,
    payload: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart.
    pub fn read(token: &'t [u8]) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::Malformed);
        }
        let (signed, signature) = split_last(token).ok_or(TokenFault::Malformed)?;
        let (header, payload) = split_last(signed).ok_or(TokenFault::Malformed)?;
        // A further dot makes the first part no base64url. What no decoder could take is refused before any work.
        let signature = base64url(signature)?;
        let payload = base64url(payload)?;
        let header = object(&base64url(header)?)?;
        // RFC 7515 4.1.11: what `crit` lists must be understood, and nothing that it may list is understood here. `b64`
        // (RFC 7797) is one of these, and whoever sets it without `crit` meant something else by the payload.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(TokenFault::Critical);
        }
        if !header.get("typ").is_none_or(is_for_requests) {
            return Err(TokenFault::Type);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenFault::Malformed),
        };
        let Some(Value::String(algorithm)) = header.get("alg") else { return Err(TokenFault::Algorithm) };
        Ok(Self { algorithm: algorithm.clone(), kid, signed, signature, payload })
    }

    /// The claims, for whoever has verified the signature.
    pub fn claims(&self) -> Result<Map<String, Value>, TokenFault> {
        object(&self.payload)
    }
}

/// Whether a `typ` is that of a token for requests. Others, as `logout+jwt` or `dpop+jwt`, are signed with the same keys but
/// mean something else, so RFC 8725 3.11 has each say what it is. A token without a `typ` is taken: many issuers set none.
fn is_for_requests(typ: &Value) -> bool {
    let Some(typ) = typ.as_str().map(str::to_ascii_lowercase) else { return false };
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// Cuts at the last dot; neither side may be empty.
fn split_last(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, from_dot) = bytes.split_at_checked(bytes.iter().rposition(|b| *b == b'.')?)?;
    let (_, after) = from_dot.split_first()?;
    (!before.is_empty() && !after.is_empty()).then_some((before, after))
}

/// Decodes base64url without padding; a text that isn't the one way to write its bytes is refused.
pub fn base64url(text: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::Malformed)
}

/// A JSON object in which no name occurs twice, so that no two readers of it see different things.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, TokenFault> {
    match json::read(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(TokenFault::Malformed),
    }
}
