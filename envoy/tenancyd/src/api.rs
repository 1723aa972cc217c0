//! The HTTP interface: which path leads where, and what every request has in common.

mod access;
mod connections;
mod domains;
mod door;
mod health;
mod input;
mod leases;
mod log;
mod operations;
mod tenants;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, post, put};

use crate::connections::Connections;
use crate::counts::Counts;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::token::Token;

/// What the handlers work with.
pub struct State {
    /// The database.
    pub store: Arc<Store>,
    /// Usage and leases.
    pub counts: Counts,
    /// Clients' connections.
    pub connections: Arc<Connections>,
    /// What a writer must show; without it nobody writes.
    pub token: Option<Token>,
    /// What a proxy that leases must show, where it isn't the writer's token; without it every proxy may lease.
    pub proxy_token: Option<Token>,
    /// What the requests come to.
    pub metrics: Metrics,
}

/// The description of all this for tools.
pub const OPENAPI: &str = include_str!("../openapi.yaml");

type Shared = axum::extract::State<Arc<State>>;

/// Every route. The names in the paths are those of the contract, and what the log calls the route.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<State>>)> {
    vec![
        ("/tenants", get(tenants::list)),
        ("/tenants/{tenantId}", get(tenants::show).put(tenants::put).delete(tenants::delete)),
        ("/tenants/{tenantId}/status", put(tenants::put_status)),
        ("/tenants/{tenantId}/domains", get(domains::of_tenant)),
        ("/tenants/{tenantId}/usage", get(usage::list)),
        ("/tenants/{tenantId}/usage/{quotaKey}", get(usage::show).put(usage::put).delete(usage::delete)),
        ("/tenants/{tenantId}/leases/{quotaKey}", post(leases::post)),
        ("/tenants/{tenantId}/connections", get(connections::list)),
        ("/tenants/{tenantId}/messages", post(connections::post)),
        ("/domains/{domain}", get(domains::show).put(domains::put).delete(domains::delete)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(operations::metrics)),
        ("/openapi.yaml", get(operations::openapi)),
    ]
}

/// The paths of all routes.
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// The whole interface.
pub fn router(state: Arc<State>) -> Router {
    complete(routes(), state)
}

/// The other listener's interface, where clients connect: nothing of the first one is there.
pub fn door(state: Arc<State>) -> Router {
    complete(vec![("/ws", on(MethodFilter::GET.or(MethodFilter::CONNECT), door::open))], state)
}

fn complete(routes: Vec<(&'static str, MethodRouter<Arc<State>>)>, state: Arc<State>) -> Router {
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .layer(from_fn(input::refuse_undecodable_path))
        .layer(from_fn(input::close_over_unread_body))
        .layer(from_fn_with_state(state.clone(), log::requests))
        .with_state(state)
}

/// An answer whose body is this JSON.
fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
