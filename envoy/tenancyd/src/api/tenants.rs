//! `/tenants`: reading and writing records.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::access::Writer;
use super::input::{self, Paging};
use super::{Shared, json, log};
use crate::document::{Faults, document, fault, members};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::store::changes::{self, Cursor};
use crate::store::directory::{self, Written};
use crate::tenant::{Status, Tenant};

/// `GET /tenants/{tenantId}`, where tenantId is an id or a slug.
pub async fn show(State(state): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let record = state.store.read(move |connection| directory::tenant(connection, &name)).await?;
    record.map(|record| json(StatusCode::OK, record)).ok_or(missing)
}

/// `GET /tenants?after=CURSOR&limit=N`: all tenants, and later only what has changed.
pub async fn list(State(state): Shared, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let paging = Paging::parse(query.as_deref(), Cursor::parse)?;
    let page = state.store.read(move |connection| changes::page(connection, paging.after, paging.limit)).await?;
    // The records are JSON already, and a cursor is a JSON string once it is quoted.
    let tenants = page.tenants.join(",");
    let latest = format!("\"{}\"", page.latest);
    let next = if page.is_last { "null" } else { latest.as_str() };
    Ok(json(StatusCode::OK, format!(r#"{{"tenants":[{tenants}],"next":{next},"latest":{latest}}}"#)))
}

/// `PUT /tenants/{tenantId}` with the whole record, where tenantId is the id.
pub async fn put(
    _writer: Writer,
    State(state): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let tenant = parse(&id, &body)?;
    let answer = serde_json::to_string(&tenant).map_err(|error| Refusal::Internal(error.to_string()))?;
    let id = tenant.id.clone();
    let written = state.store.write(move |connection| directory::put_tenant(connection, &tenant)).await?;
    let status = match written {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
    };
    log_write(&headers, "tenant put", &id);
    Ok(json(status, answer))
}

/// `PUT /tenants/{tenantId}/status` with `{"status":"suspended"}`, where tenantId is the id.
pub async fn put_status(
    _writer: Writer,
    State(state): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let status = parse_status(&body)?;
    let id = Identifier::parse(&id).ok_or_else(|| not_found(None))?;
    let key = id.clone();
    let record = state.store.write(move |connection| directory::set_status(connection, &key, status)).await?;
    let record = record.ok_or_else(|| not_found(Some(&id)))?;
    log_write(&headers, "tenant status put", &id);
    Ok(json(StatusCode::OK, record))
}

/// `DELETE /tenants/{tenantId}`, where tenantId is the id. Its domains go with it.
pub async fn delete(
    _writer: Writer,
    State(state): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = Identifier::parse(&id).ok_or_else(|| not_found(None))?;
    let key = id.clone();
    if !state.store.write(move |connection| directory::delete_tenant(connection, &key)).await? {
        return Err(not_found(Some(&id)));
    }
    // The tenant is gone whatever comes of this; what stays of its usage goes by itself in the end.
    if let Err(refusal) = state.counts.forget(&id).await {
        tracing::warn!(tenant = id.as_str(), error = refusal.private(), "its usage could not be forgotten");
    }
    log_write(&headers, "tenant deleted", &id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// No tenant has this name.
pub fn not_found(name: Option<&Identifier>) -> Refusal {
    Refusal::NotFound { resource: "Tenant", id: name.map(|name| name.to_string()) }
}

fn parse(id: &str, body: &[u8]) -> Result<Tenant, Refusal> {
    let mut faults = Faults::new();
    let id = Identifier::parse(id);
    if id.is_none() {
        fault(&mut faults, "path", format!("not an identifier, expected {}", Identifier::EXPECTED));
    }
    let tenant = document(body, &mut faults).and_then(|raw| Tenant::parse(raw, id.as_ref(), "", &mut faults));
    match (tenant, faults.is_empty()) {
        (Some(tenant), true) => Ok(tenant),
        _ => Err(Refusal::Invalid(faults)),
    }
}

fn parse_status(body: &[u8]) -> Result<Status, Refusal> {
    let mut faults = Faults::new();
    let mut status = None;
    if let Some(members) = document(body, &mut faults).and_then(|raw| members(raw, "", &mut faults)) {
        for member in &members {
            match member.key.as_str() {
                "status" => status = Status::parse(member.value, &member.path, &mut faults),
                _ => member.unknown(&["status"], &mut faults),
            }
        }
        if !members.iter().any(|member| member.key == "status") {
            fault(&mut faults, "", "status is missing");
        }
    }
    match (status, faults.is_empty()) {
        (Some(status), true) => Ok(status),
        _ => Err(Refusal::Invalid(faults)),
    }
}

fn log_write(headers: &HeaderMap, what: &str, id: &Identifier) {
    let request_id = log::request_id(headers);
    let request_id = request_id.as_ref().map(Identifier::as_str);
    tracing::info!(by = Writer::NAME, tenant = id.as_str(), request_id, "{what}");
}
