//! `/tenants/{tenantId}/usage`: how much was used, and setting it by hand.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access::Writer;
use super::input::{self, Paging};
use super::leases::quota_key;
use super::tenants::not_found;
use super::{Shared, log};
use crate::calendar::{KINDS, Kind, Zone};
use crate::counts::{LEVEL, Place, Target, Which};
use crate::document::{Faults, Member, document, fault, members, word};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::lease::{number, timezone};

const KEYS: &[&str] = &["usage", "period", "timezone"];

/// `GET /tenants/{tenantId}/usage?after=CURSOR&limit=N`, where tenantId is an id or a slug.
pub async fn list(
    State(state): Shared,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let paging = Paging::parse(query.as_deref(), |cursor| Place::parse(&input::name_of(cursor)?))?;
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let page = state.counts.list(name, paging.after, paging.limit).await?.ok_or(missing)?;
    let entries = serde_json::to_string(&page.items).map_err(|error| Refusal::Internal(error.to_string()))?;
    let next = json!(page.next.as_deref().map(input::cursor_after));
    Ok(super::json(StatusCode::OK, format!(r#"{{"usage":{entries},"next":{next}}}"#)))
}

/// `GET /tenants/{tenantId}/usage/{quotaKey}?period=PERIOD&timezone=ZONE`, where tenantId is an id or a slug.
pub async fn show(
    State(state): Shared,
    Path((name, quota)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (quota, which) = which(&quota, query.as_deref())?;
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let usage = state.counts.usage(name, quota, which).await?.ok_or(missing)?;
    Ok(answer(usage))
}

/// `PUT /tenants/{tenantId}/usage/{quotaKey}` with `{"usage":123,"period":"month","timezone":"UTC"}`, where tenantId is the id.
pub async fn put(
    _writer: Writer,
    State(state): Shared,
    Path((id, quota)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let (quota, target, usage) = parse(&quota, &body)?;
    let id = Identifier::parse(&id).ok_or_else(|| not_found(None))?;
    if !state.counts.set(id.clone(), quota.clone(), target, usage).await? {
        return Err(not_found(Some(&id)));
    }
    log_write(&headers, "usage put", &id, &quota);
    Ok(answer(usage))
}

/// `DELETE /tenants/{tenantId}/usage/{quotaKey}?period=PERIOD&timezone=ZONE`, where tenantId is the id.
pub async fn delete(
    _writer: Writer,
    State(state): Shared,
    Path((id, quota)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (quota, which) = which(&quota, query.as_deref())?;
    let id = Identifier::parse(&id).ok_or_else(|| not_found(None))?;
    if !state.counts.reset(id.clone(), quota.clone(), which).await? {
        return Err(not_found(Some(&id)));
    }
    log_write(&headers, "usage deleted", &id, &quota);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn answer(usage: i64) -> Response {
    super::json(StatusCode::OK, json!({"usage": usage}).to_string())
}

fn which(quota: &str, query: Option<&str>) -> Result<(Identifier, Which), Refusal> {
    let mut faults = Faults::new();
    let quota = quota_key(quota, &mut faults);
    let [period, timezone] = input::parameters(query, ["period", "timezone"], &mut faults);
    let which = Which::parse(period.as_deref(), timezone.as_deref()).map_err(|unknown| {
        for name in unknown {
            let expected = match name {
                "period" => expected_periods(),
                _ => Zone::EXPECTED.to_owned(),
            };
            fault(&mut faults, name, format!("unknown value, expected {expected}"));
        }
    });
    match (quota, which, faults.is_empty()) {
        (Some(quota), Ok(which), true) => Ok((quota, which)),
        _ => Err(Refusal::Invalid(faults)),
    }
}

fn expected_periods() -> String {
    let words: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).chain([LEVEL]).collect();
    format!("one of {}", words.join(", "))
}

fn parse(quota: &str, body: &[u8]) -> Result<(Identifier, Target, i64), Refusal> {
    let mut faults = Faults::new();
    let quota = quota_key(quota, &mut faults);
    let (mut usage, mut kind, mut zone) = (None, None, None);
    if let Some(members) = document(body, &mut faults).and_then(|raw| members(raw, "", &mut faults)) {
        for member in &members {
            let Member { key, path, value } = member;
            match key.as_str() {
                "usage" => usage = number(value, path, 0, &mut faults),
                "period" => kind = word(value, path, &periods(), &mut faults).flatten(),
                "timezone" => zone = timezone(value, path, &mut faults),
                _ => member.unknown(KEYS, &mut faults),
            }
        }
        if !members.iter().any(|member| member.key == "usage") {
            fault(&mut faults, "", "usage is missing");
        }
    }
    if faults.is_empty() && kind.is_none() && zone.is_some() {
        fault(&mut faults, "timezone", "a level has no periods, and so no time zone");
    }
    let target = kind.map_or(Target::Level, |kind| Target::Period(kind, zone.unwrap_or_else(Zone::utc)));
    match (quota, usage, faults.is_empty()) {
        (Some(quota), Some(usage), true) => Ok((quota, target, usage)),
        _ => Err(Refusal::Invalid(faults)),
    }
}

/// The words for periods; a level has none.
fn periods() -> Vec<(&'static str, Option<Kind>)> {
    KINDS.iter().map(|(word, kind)| (*word, Some(*kind))).chain([(LEVEL, None)]).collect()
}

fn log_write(headers: &HeaderMap, what: &str, id: &Identifier, quota: &Identifier) {
    let request_id = log::request_id(headers);
    let request_id = request_id.as_ref().map(Identifier::as_str);
    tracing::info!(by = Writer::NAME, tenant = id.as_str(), quota = quota.as_str(), request_id, "{what}");
}
