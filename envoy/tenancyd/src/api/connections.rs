//! `/tenants/{tenantId}/connections` and `/messages`: who is connected, and what the application has to say to them.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;
use serde_json::value::RawValue;

use super::access::Writer;
use super::input::{self, Paging};
use super::tenants::not_found;
use super::{Shared, log};
use crate::connections::message::recipient;
use crate::connections::name::ConnectionId;
use crate::document::{Faults, Member, document, fault, members};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::store::directory;

/// `GET /tenants/{tenantId}/connections?after=CURSOR&limit=N`, where tenantId is an id or a slug.
pub async fn list(
    State(state): Shared,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let paging = Paging::parse(query.as_deref(), |cursor| ConnectionId::parse(&input::name_of(cursor)?))?;
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let id = state.store.read(move |connection| directory::tenant_id(connection, &name)).await?;
    let id = id.as_deref().and_then(Identifier::parse).ok_or(missing)?;
    let (listed, more) = state.connections.list(&id, paging.after, paging.limit).await?;
    let next = listed.last().filter(|_| more).map(|last| input::cursor_after(&last.id.to_string()));
    let listed = serde_json::to_string(&listed).map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(super::json(StatusCode::OK, format!(r#"{{"connections":{listed},"next":{}}}"#, json!(next))))
}

/// `POST /tenants/{tenantId}/messages` with `{"data":…,"to":"jo"}`, where tenantId is the id.
pub async fn post(
    _writer: Writer,
    State(state): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let (data, to) = parse(&body)?;
    let id = Identifier::parse(&id).ok_or_else(|| not_found(None))?;
    let key = id.clone();
    if !state.store.read(move |connection| directory::tenant_exists(connection, &key)).await? {
        return Err(not_found(Some(&id)));
    }
    let handed = state.connections.post(&id, to.as_deref(), data).await;
    let request_id = log::request_id(&headers);
    let request_id = request_id.as_ref().map(Identifier::as_str);
    tracing::info!(by = Writer::NAME, tenant = id.as_str(), request_id, "message posted");
    Ok(super::json(
        StatusCode::OK,
        format!(r#"{{"connections":{},"complete":{}}}"#, handed.connections, handed.complete),
    ))
}

fn parse(body: &[u8]) -> Result<(&RawValue, Option<String>), Refusal> {
    let mut faults = Faults::new();
    let (mut data, mut to) = (None, None);
    if let Some(members) = document(body, &mut faults).and_then(|raw| members(raw, "", &mut faults)) {
        for member in &members {
            let Member { key, value, .. } = member;
            match key.as_str() {
                "data" => data = Some(*value),
                "to" => to = recipient(value, &mut faults),
                _ => member.unknown(&["data", "to"], &mut faults),
            }
        }
        if data.is_none() {
            fault(&mut faults, "", "data is missing");
        }
    }
    match (data, faults.is_empty()) {
        (Some(data), true) => Ok((data, to)),
        _ => Err(Refusal::Invalid(faults)),
    }
}
