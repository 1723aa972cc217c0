//! `/tenants`: reading and writing records.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::access::Writer;
use super::input::{self, Paging};
use super::{Shared, json, log};
use crate::document::{Faults, document};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::store::directory::{self, Written};
use crate::tenant::Tenant;

/// `GET /tenants/{tenantId}`, where tenantId is an id or a slug.
pub async fn show(State(state): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    let name = Identifier::parse(&name).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&name));
    let record = state
        .store
        .read(move |connection| directory::tenant(connection, &name))
        .await?;
    record
        .map(|record| json(StatusCode::OK, record))
        .ok_or(missing)
}

/// `GET /tenants?after=CURSOR&limit=N`.
pub async fn list(State(state): Shared, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let paging = Paging::parse(query.as_deref(), |name| Identifier::parse(name).is_some())?;
    let after = paging.after.as_deref().and_then(Identifier::parse);
    let page = state
        .store
        .read(move |connection| directory::tenants(connection, after.as_ref(), paging.limit))
        .await?;
    // A cursor is base64url, which JSON can hold as it is; the records are JSON already.
    let next = page.next.map_or("null".to_owned(), |last| {
        format!("\"{}\"", Paging::cursor(&last))
    });
    Ok(json(
        StatusCode::OK,
        format!(r#"{{"tenants":[{}],"next":{next}}}"#, page.items.join(",")),
    ))
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
    let answer =
        serde_json::to_string(&tenant).map_err(|error| Refusal::Internal(error.to_string()))?;
    let id = tenant.id.clone();
    let written = state
        .store
        .write(move |connection| directory::put_tenant(connection, &tenant))
        .await?;
    let status = match written {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
    };
    log_write(&headers, "tenant put", &id);
    Ok(json(status, answer))
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
    if !state
        .store
        .write(move |connection| directory::delete_tenant(connection, &key))
        .await?
    {
        return Err(not_found(Some(&id)));
    }
    log_write(&headers, "tenant deleted", &id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// No tenant has this name.
pub fn not_found(name: Option<&Identifier>) -> Refusal {
    Refusal::NotFound {
        resource: "Tenant",
        id: name.map(|name| name.to_string()),
    }
}

fn parse(id: &str, body: &[u8]) -> Result<Tenant, Refusal> {
    let id = Identifier::parse(id).ok_or_else(|| {
        Refusal::invalid(
            "path",
            format!("not an identifier, expected {}", Identifier::EXPECTED),
        )
    })?;
    let mut faults = Faults::new();
    let tenant =
        document(body, &mut faults).and_then(|raw| Tenant::parse(raw, Some(&id), "", &mut faults));
    tenant.ok_or(Refusal::Invalid(faults))
}

fn log_write(headers: &HeaderMap, what: &str, id: &Identifier) {
    let request_id = log::request_id(headers);
    let request_id = request_id.as_ref().map(Identifier::as_str);
    tracing::info!(
        by = Writer::NAME,
        tenant = id.as_str(),
        request_id,
        "{what}"
    );
}
