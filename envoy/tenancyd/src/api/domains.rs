//! `/domains`: which tenant a domain belongs to.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access::Writer;
use super::input::{self, Paging};
use super::tenants::not_found as no_such_tenant;
use super::{Shared, log};
use crate::document::{Faults, Member, document, fault, identifier, members};
use crate::domain::Domain;
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::store::directory::{self, Written};

/// `GET /domains/{domain}`.
pub async fn show(State(state): Shared, Path(domain): Path<String>) -> Result<Response, Refusal> {
    let domain = Domain::parse(&domain).ok_or_else(|| not_found(None))?;
    let missing = not_found(Some(&domain));
    let tenant_id = state.store.read(move |connection| directory::domain(connection, &domain)).await?;
    let tenant_id = tenant_id.ok_or(missing)?;
    Ok(super::json(StatusCode::OK, json!({"tenantId": tenant_id}).to_string()))
}

/// `GET /tenants/{tenantId}/domains?after=CURSOR&limit=N`, where tenantId is an id or a slug.
pub async fn of_tenant(
    State(state): Shared,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let paging = Paging::parse(query.as_deref(), |cursor| Domain::parse(&input::name_of(cursor)?))?;
    let name = Identifier::parse(&name).ok_or_else(|| no_such_tenant(None))?;
    let missing = no_such_tenant(Some(&name));
    let read =
        state.store.read(move |connection| directory::domains(connection, &name, paging.after.as_ref(), paging.limit));
    let page = read.await?.ok_or(missing)?;
    let next = page.next.as_deref().map(input::cursor_after);
    Ok(super::json(StatusCode::OK, json!({"domains": page.items, "next": next}).to_string()))
}

/// `PUT /domains/{domain}` with `{"tenantId":"acme"}`. A domain that another tenant has moves.
pub async fn put(
    _writer: Writer,
    State(state): Shared,
    Path(domain): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = input::body(&headers, body).await?;
    let (domain, tenant_id) = parse(&domain, &body)?;
    let (key, owner) = (domain.clone(), tenant_id.clone());
    let write = state.store.write(move |connection| match directory::tenant_exists(connection, &owner)? {
        true => directory::put_domain(connection, &key, &owner),
        false => Err(Refusal::invalid("tenantId", format!("no tenant has the id {:?}", owner.as_str()))),
    });
    let status = match write.await? {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
    };
    log_write(&headers, "domain put", &domain, Some(&tenant_id));
    Ok(super::json(status, json!({"tenantId": tenant_id}).to_string()))
}

/// `DELETE /domains/{domain}`.
pub async fn delete(
    _writer: Writer,
    State(state): Shared,
    Path(domain): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let domain = Domain::parse(&domain).ok_or_else(|| not_found(None))?;
    let key = domain.clone();
    if !state.store.write(move |connection| directory::delete_domain(connection, &key)).await? {
        return Err(not_found(Some(&domain)));
    }
    log_write(&headers, "domain deleted", &domain, None);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn not_found(domain: Option<&Domain>) -> Refusal {
    Refusal::NotFound { resource: "Domain", id: domain.map(|domain| domain.to_string()) }
}

fn parse(domain: &str, body: &[u8]) -> Result<(Domain, Identifier), Refusal> {
    let mut faults = Faults::new();
    let parsed = Domain::parse(domain);
    if parsed.is_none() {
        fault(&mut faults, "path", format!("not a domain, expected {}", Domain::EXPECTED));
    }
    let mut tenant_id = None;
    if let Some(members) = document(body, &mut faults).and_then(|raw| members(raw, "", &mut faults)) {
        for member in &members {
            let Member { key, path, value } = member;
            match key.as_str() {
                "tenantId" => tenant_id = identifier(value, path, &mut faults),
                _ => member.unknown(&["tenantId"], &mut faults),
            }
        }
        if !members.iter().any(|member| member.key == "tenantId") {
            fault(&mut faults, "", "tenantId is missing");
        }
    }
    match (parsed, tenant_id, faults.is_empty()) {
        (Some(domain), Some(tenant_id), true) => Ok((domain, tenant_id)),
        _ => Err(Refusal::Invalid(faults)),
    }
}

fn log_write(headers: &HeaderMap, what: &str, domain: &Domain, tenant: Option<&Identifier>) {
    let request_id = log::request_id(headers);
    let request_id = request_id.as_ref().map(Identifier::as_str);
    let tenant = tenant.map(Identifier::as_str);
    tracing::info!(by = Writer::NAME, domain = domain.as_str(), tenant, request_id, "{what}");
}
