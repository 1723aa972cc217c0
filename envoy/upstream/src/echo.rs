//! What is answered: the request itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::wishes;

/// The largest body that is counted to its end.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

struct Echo {
    name: String,
    received: Arc<AtomicUsize>,
}

/// One handler for every method and path.
pub fn router(name: String, received: Arc<AtomicUsize>) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Echo { name, received }))
}

async fn answer(
    State(echo): State<Arc<Echo>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    echo.received.fetch_add(1, Ordering::SeqCst);
    let received_at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    let received_at = u64::try_from(received_at).unwrap_or(u64::MAX);
    let (parts, body) = request.into_parts();
    if let Ok(upgrade) = upgrade {
        let hello = described(&echo.name, received_at, &parts, 0).to_string();
        return upgrade.on_upgrade(|socket| converse(socket, hello));
    }
    let counted = count(body).await;
    tokio::time::sleep(wishes::delay(&parts.headers)).await;
    match counted {
        Some(bytes) => {
            let mut response = json_response(StatusCode::OK, described(&echo.name, received_at, &parts, bytes));
            response.headers_mut().extend(wishes::response_headers(&parts.headers));
            response
        }
        None => {
            let error = json!({"error": {"code": "PAYLOAD_TOO_LARGE", "message": "The body has more than 64 MiB, or broke off", "details": {}}});
            json_response(StatusCode::PAYLOAD_TOO_LARGE, error)
        }
    }
}

fn described(name: &str, received_at: u64, parts: &Parts, body_bytes: usize) -> Value {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let host = || parts.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    json!({
        "name": name,
        "receivedAt": received_at,
        "method": parts.method.as_str(),
        // HTTP/2's :authority is in the URI; HTTP/1.1 has the host header.
        "authority": parts.uri.authority().map(|authority| authority.to_string()).or_else(host),
        "path": parts.uri.path_and_query().map(|path| path.as_str()),
        "headers": headers,
        "bodyBytes": body_bytes,
    })
}

/// The body's length; it is let go chunk by chunk.
async fn count(mut body: Body) -> Option<usize> {
    let mut bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            bytes = bytes.checked_add(data.len()).filter(|bytes| *bytes <= MAX_BODY_BYTES)?;
        }
    }
    Some(bytes)
}

/// Sends the description, then every message back. Pings and closes are answered by the library.
async fn converse(mut socket: WebSocket, hello: String) {
    let mut sent = socket.send(Message::text(hello)).await;
    while sent.is_ok() {
        sent = match socket.recv().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await,
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => return,
        };
    }
}

fn json_response(status: StatusCode, body: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
