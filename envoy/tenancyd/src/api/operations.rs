//! What operators and tools read: metrics, and the description of this interface.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;

use super::Shared;
use crate::error::Refusal;
use crate::metrics::{self, Contents, Counted};
use crate::store::{changes, directory};

/// `GET /metrics`. It answers also while the database doesn't.
pub async fn metrics(State(state): Shared) -> Response {
    let contents = state.store.read(contents).await.ok();
    let counted = Counted { outcomes: state.counts.outcomes(), redis_failures: state.counts.redis_failures() };
    let text = state.metrics.text(&state.store.health(), &counted, &state.connections, contents.as_ref());
    (StatusCode::OK, [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// `GET /openapi.yaml`.
pub async fn openapi() -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/yaml")], super::OPENAPI).into_response()
}

fn contents(connection: &Connection) -> Result<Contents, Refusal> {
    Ok(Contents {
        tenants: directory::count_by_status(connection)?,
        tombstones: changes::tombstones(connection)?,
        revision: changes::newest(connection)?,
    })
}
