//! The HTTP interface: which path leads where, and what every request has in common.

mod access;
mod domains;
mod health;
mod input;
mod log;
mod tenants;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};

use crate::error::Refusal;
use crate::store::Store;
use crate::token::Token;

/// What the handlers work with.
pub struct State {
    /// The database.
    pub store: Store,
    /// What a writer must show; without it nobody writes.
    pub token: Option<Token>,
}

type Shared = axum::extract::State<Arc<State>>;

/// Every route. The names in the paths are those of the contract, and what the log calls the route.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/tenants", get(tenants::list))
        .route("/tenants/{tenantId}", get(tenants::show).put(tenants::put).delete(tenants::delete))
        .route("/tenants/{tenantId}/status", put(tenants::put_status))
        .route("/tenants/{tenantId}/domains", get(domains::of_tenant))
        .route("/domains/{domain}", get(domains::show).put(domains::put).delete(domains::delete))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .layer(from_fn(input::refuse_undecodable_path))
        .layer(from_fn(input::close_over_unread_body))
        .layer(from_fn(log::requests))
        .with_state(state)
}

/// An answer whose body is this JSON.
fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
