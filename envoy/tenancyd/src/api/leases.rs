//! `/tenants/{tenantId}/leases`: a proxy says what it has used of a quota, and gets more.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::access::Proxy;
use super::tenants::not_found;
use super::{Shared, input, json};
use crate::document::{Faults, document, fault};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::lease::{Ask, Lease};

/// `POST /tenants/{tenantId}/leases/{quotaKey}`, where tenantId is an id or a slug.
pub async fn post(
    _proxy: Proxy,
    State(state): Shared,
    Path((name, quota)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let (quota, ask) = parse(&quota, &body)?;
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let lease = state.counts.lease(name, quota, ask).await?.ok_or(missing)?;
    let answer = Answer::new(&lease, state.counts.silence_ms());
    Ok(json(StatusCode::OK, serde_json::to_string(&answer).map_err(|error| Refusal::Internal(error.to_string()))?))
}

/// The answer, its members in the order in which people read them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    period_start: i64,
    resets_at: i64,
    resets_in_ms: i64,
    granted: i64,
    usage: i64,
    leased: i64,
    expires_in_ms: i64,
}

impl Answer {
    fn new(lease: &Lease, silence_ms: i64) -> Self {
        Self {
            period_start: lease.period.start,
            resets_at: lease.period.end,
            resets_in_ms: lease.period.end.saturating_mul(1000).saturating_sub(lease.now),
            granted: lease.granted,
            usage: lease.usage,
            leased: lease.leased,
            expires_in_ms: silence_ms,
        }
    }
}

fn parse(quota: &str, body: &[u8]) -> Result<(Identifier, Ask), Refusal> {
    let mut faults = Faults::new();
    let quota = quota_key(quota, &mut faults);
    let ask = document(body, &mut faults).and_then(|raw| Ask::parse(raw, &mut faults));
    match (quota, ask) {
        (Some(quota), Some(ask)) => Ok((quota, ask)),
        _ => Err(Refusal::Invalid(faults)),
    }
}

/// The quota that a path names.
pub fn quota_key(quota: &str, faults: &mut Faults) -> Option<Identifier> {
    let key = Identifier::parse(quota);
    if key.is_none() {
        fault(faults, "path", format!("not a quota key, expected {}", Identifier::EXPECTED));
    }
    key
}
