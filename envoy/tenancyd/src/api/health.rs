//! Whether the process is up, and whether it can do its work.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Shared, json};
use crate::error::Refusal;
use crate::store::directory;

/// The process is up.
pub async fn alive() -> Response {
    json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// The database answers, and Redis where there is one.
pub async fn ready(State(state): Shared) -> Result<Response, Refusal> {
    let both = async {
        state.store.read(directory::ping).await?;
        state.counts.ping().await
    };
    match both.await {
        Ok(()) => Ok(json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned())),
        Err(refusal) => Err(Refusal::Unavailable(refusal.private().unwrap_or("no answer").to_owned())),
    }
}
