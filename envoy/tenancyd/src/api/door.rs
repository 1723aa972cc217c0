//! `/ws`, on a listener of its own: where clients come in that the filter has judged.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use super::Shared;
use super::input::MAX_BODY_BYTES;
use crate::connections::name::ConnectionId;
use crate::connections::socket;
use crate::error::Refusal;

/// A connection reads so many bytes at once: most messages are small, and most connections silent.
const READ_BUFFER_BYTES: usize = 4096;

/// What a frame has beside the `data` of a message, and more. Only so much of answers to pings piles up for a client
/// that reads none of them.
const FRAME_BYTES: usize = 16 * 1024;

/// The upgrade, or over HTTP/2 the extended CONNECT.
pub async fn open(
    State(state): Shared,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let connections = state.connections.clone();
    let vouched = connections.vouched(&headers).ok_or(Refusal::NotVouched)?;
    let upgrade = upgrade.map_err(|rejection| Refusal::invalid("", format!("no upgrade to WebSocket: {rejection}")))?;
    let place = connections.place().ok_or(Refusal::Full)?;
    let id = ConnectionId::random().map_err(Refusal::Internal)?;
    let max_bytes = connections.bounds.message_bytes;
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let upgrade = upgrade.max_message_size(max_bytes).max_frame_size(max_bytes);
    // The longest message is a client's or the application's.
    let upgrade = upgrade.max_write_buffer_size(max_bytes.max(MAX_BODY_BYTES).saturating_add(FRAME_BYTES));
    Ok(upgrade.on_upgrade(move |websocket| socket::serve(connections, id, vouched, websocket, place)))
}
