//! What requests bring: paths, queries and bodies, each with its bounds.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;

use crate::document::{Faults, fault};
use crate::error::Refusal;

/// The largest body: a record has to travel with requests, so it should be far smaller.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// The longest that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A page's length where the request doesn't say.
const DEFAULT_LIMIT: usize = 100;
/// The longest page.
const MAX_LIMIT: usize = 1000;

/// Refuses a path that doesn't decode, so that handlers needn't: routing would take `%zz` for itself, and answer in no JSON.
pub async fn refuse_undecodable_path(request: Request, next: Next) -> Response {
    match decode(request.uri().path()) {
        Some(_) => next.run(request).await,
        None => Refusal::invalid("path", "its percent escapes are no UTF-8 text").into_response(),
    }
}

/// Announces the close of an HTTP/1.1 connection whose request may have more of its body to come. It would be closed anyway,
/// and a client that isn't told loses the next request that it sends there.
pub async fn close_over_unread_body(request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream();
    let is_http1 = request.version() < Version::HTTP_2;
    let takes_body = matches!(*request.method(), Method::PUT | Method::POST);
    let mut response = next.run(request).await;
    let was_read = takes_body && response.status().is_success();
    if has_body && is_http1 && !was_read {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The whole body, if it is small and quick enough.
pub async fn body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let too_large = Refusal::TooLarge { max_bytes: MAX_BODY_BYTES };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match read.map_err(|_| Refusal::BodyTimeout { within: BODY_TIMEOUT })? {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large),
        Err(_) => Err(Refusal::invalid("", "the body broke off")),
    }
}

/// Which page of a list is wanted.
#[derive(Debug, PartialEq, Eq)]
pub struct Paging<C> {
    /// Where the page before ended.
    pub after: Option<C>,
    /// How many at most.
    pub limit: usize,
}

impl<C> Paging<C> {
    /// `after=CURSOR&limit=N`, both optional, and nothing else. `cursor` tells one that we gave from one that we didn't.
    pub fn parse(query: Option<&str>, cursor: impl Fn(&str) -> Option<C>) -> Result<Self, Refusal> {
        let mut faults = Faults::new();
        let [after, limit] = parameters(query, ["after", "limit"], &mut faults);
        let after = after.map(|text| cursor(&text));
        if let Some(None) = after {
            fault(&mut faults, "after", "not a cursor: take one that an answer has given");
        }
        let limit = limit.map(|text| text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number)));
        if let Some(None) = limit {
            fault(&mut faults, "limit", format!("expected a whole number from 1 to {MAX_LIMIT}"));
        }
        match faults.is_empty() {
            true => Ok(Self { after: after.flatten(), limit: limit.flatten().unwrap_or(DEFAULT_LIMIT) }),
            false => Err(Refusal::Invalid(faults)),
        }
    }
}

/// The values of a query's parameters, each there once at most, and nothing else.
pub fn parameters<const N: usize>(
    query: Option<&str>,
    names: [&'static str; N],
    faults: &mut Faults,
) -> [Option<String>; N] {
    let mut found = names.map(|name| (name, None));
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // What doesn't decode is nothing that anything could be called.
        let value = decode(value).unwrap_or_default();
        match found.iter_mut().find(|(name, _)| *name == key) {
            Some((_, known @ None)) => *known = Some(value),
            Some((name, Some(_))) => fault(faults, name, "given twice"),
            None => fault(faults, "query", format!("unknown parameter, expected {}", names.join(" or "))),
        }
    }
    found.map(|(_, value)| value)
}

/// The cursor after this name.
pub fn cursor_after(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// The name that such a cursor is after.
pub fn name_of(cursor: &str) -> Option<String> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// A percent-encoded text, if every escape is one and the whole is UTF-8.
fn decode(text: &str) -> Option<String> {
    let escaped =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(|byte| byte.is_ascii_hexdigit()));
    if !text.split('%').skip(1).all(escaped) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(|decoded| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_escapes_of_text_decode() {
        for (text, expected) in [
            ("/tenants/acme", Some("/tenants/acme")),
            ("%61%2Fb", Some("a/b")),
            ("caf%C3%A9", Some("café")),
            ("%zz", None),
            ("%6", None),
            ("a%", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_page_is_asked_for_in_one_way() {
        let paging = |query| Paging::parse(query, |cursor| name_of(cursor).filter(|name| name.starts_with('a')));
        let cursor = cursor_after("acme");
        let full = format!("limit=7&after={cursor}");
        for (query, after, limit) in [
            (None, None, DEFAULT_LIMIT),
            (Some(""), None, DEFAULT_LIMIT),
            (Some("limit=1000"), None, 1000),
            (Some(full.as_str()), Some("acme".to_owned()), 7),
        ] {
            assert_eq!(paging(query).unwrap(), Paging { after, limit }, "{query:?}");
        }
        let foreign = format!("after={}", cursor_after("zebra"));
        for (query, paths) in [
            ("after=", vec!["after"]),
            ("after=!!", vec!["after"]),
            (foreign.as_str(), vec!["after"]),
            ("limit=0", vec!["limit"]),
            ("limit=1001", vec!["limit"]),
            ("limit=-1&after=%zz&x=1", vec!["query", "after", "limit"]),
            ("limit=1&limit=1", vec!["limit"]),
        ] {
            match paging(Some(query)) {
                Err(Refusal::Invalid(faults)) => {
                    assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), paths, "{query}");
                }
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}
