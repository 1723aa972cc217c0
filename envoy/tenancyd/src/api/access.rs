//! Who may write, and who may lease.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::State;
use crate::error::Refusal;
use crate::token::{Token, bearer};

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
        show(parts, &[token]).map(|()| Self)
    }
}

/// A proxy that may lease: anybody, unless proxies have a token. A writer's will do as well.
pub struct Proxy;

impl FromRequestParts<Arc<State>> for Proxy {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Refusal> {
        match &state.proxy_token {
            None => Ok(Self),
            Some(token) => {
                let all: Vec<&Token> = [token].into_iter().chain(&state.token).collect();
                show(parts, &all).map(|()| Self)
            }
        }
    }
}

/// Whether the request shows one of these.
fn show(parts: &Parts, tokens: &[&Token]) -> Result<(), Refusal> {
    let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
    let given = headers.next().map(|value| value.as_bytes());
    match given.and_then(bearer) {
        // A second header might be what some proxy in front looked at.
        Some(given) if tokens.iter().any(|token| token.is(given)) && headers.next().is_none() => Ok(()),
        _ => Err(Refusal::Unauthorized { given: given.is_some() }),
    }
}
