//! Who may write.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::State;
use crate::error::Refusal;

/// Somebody who has shown the token. A handler that takes one can't be reached without it, and its body isn't read before.
pub struct Writer;

impl Writer {
    /// What the log calls whoever has the token.
    pub const NAME: &str = "token";
}

impl FromRequestParts<Arc<State>> for Writer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Refusal> {
        let token = state.token.as_ref().ok_or(Refusal::WritesOff)?;
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        let given = headers.next().map(|value| value.as_bytes());
        match given.and_then(bearer) {
            // A second header might be what some proxy in front looked at.
            Some(given) if token.is(given) && headers.next().is_none() => Ok(Self),
            _ => Err(Refusal::Unauthorized {
                given: given.is_some(),
            }),
        }
    }
}

/// The token behind `Bearer `, whatever the case of that word.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}
