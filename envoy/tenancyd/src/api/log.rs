//! One log line for every request, and its place in the metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;
use crate::error::Refused;
use crate::identifier::Identifier;

/// Runs the request, and writes its line however it ends.
pub async fn requests(State(state): Shared, request: Request, next: Next) -> Response {
    let mut line = Line::begin(&request, state);
    let response = next.run(request).await;
    line.status = Some(response.status());
    line.refused = response.extensions().get().cloned();
    response
}

/// A line in the making. It is written when it is dropped, which is also what happens when the client goes away.
struct Line {
    state: Arc<super::State>,
    begun: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    request_id: Option<Identifier>,
    status: Option<StatusCode>,
    refused: Option<Refused>,
}

impl Line {
    fn begin(request: &Request, state: Arc<super::State>) -> Self {
        Self {
            state,
            begun: Instant::now(),
            method: method(request.method()),
            // The template, not the path: what clients make up stays out of the log.
            route: request.extensions().get().cloned(),
            request_id: request_id(request.headers()),
            status: None,
            refused: None,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let method = self.method;
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        let status = self.status.as_ref().map(StatusCode::as_u16);
        let took = self.begun.elapsed();
        self.state.metrics.request(route, method, status, took);
        // To the microsecond; digits beyond mean nothing.
        let duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
        let request_id = self.request_id.as_ref().map(Identifier::as_str);
        let code = self.refused.as_ref().map(|refused| refused.code);
        let error = self.refused.as_ref().and_then(|refused| refused.private.as_deref());
        match (status, error) {
            (None, _) => tracing::info!(method, route, duration_ms, request_id, "client went away"),
            (_, Some(error)) => tracing::error!(method, route, status, duration_ms, request_id, code, error, "request"),
            (_, None) => tracing::info!(method, route, status, duration_ms, request_id, code, "request"),
        }
    }
}

/// The request's id, if it is one that can stand in a log.
pub fn request_id(headers: &HeaderMap) -> Option<Identifier> {
    headers.get("x-request-id").and_then(|value| value.to_str().ok()).and_then(Identifier::parse)
}

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        _ => "other",
    }
}
