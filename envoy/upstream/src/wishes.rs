//! What a request asks of its answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that asks for headers: `name=value`, separated by commas.
const RESPONSE_HEADERS: &str = "x-echo-response-headers";
/// The header that asks for a delay, in milliseconds.
const DELAY: &str = "x-echo-delay-ms";
/// The longest delay, so that nobody can have a connection for good.
const LONGEST_DELAY: u64 = 60_000;

/// The headers that are asked for; what is no header is left out.
pub fn response_headers(request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let lists = request.get_all(RESPONSE_HEADERS).iter().filter_map(|list| list.to_str().ok());
    for pair in lists.flat_map(|list| list.split(',')) {
        let Some((name, value)) = pair.trim().split_once('=') else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    headers
}

/// How long the answer is to wait.
pub fn delay(request: &HeaderMap) -> Duration {
    let milliseconds = request.get(DELAY).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_millis(milliseconds.unwrap_or(0).min(LONGEST_DELAY))
}
