//! A service that speaks Envoy's rate limit protocol and counts as envoyproxy/ratelimit does: fixed windows, by the clock.
//!
//! It counts what is asked for before it looks at the limit, also when it says no, and takes nothing back. The messages are read
//! and written by prost, so the filter's own reader and writer are held against another implementation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use prost::Message;

use crate::rate_limit_messages::{Limit, RateLimitRequest, RateLimitResponse, Status};
use crate::service::Service;

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// A running service. It stops when it is dropped.
pub struct RateLimiter {
    pub service: Service,
    state: Arc<Mutex<Windows>>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub domain: String,
    pub entries: Vec<(String, String)>,
    pub hits: u64,
}

struct Windows {
    /// The service's own limit and unit, where a question brings none.
    own: Limit,
    follows_overrides: bool,
    counts: BTreeMap<(String, u64), u64>,
    asked: Vec<Question>,
}

impl RateLimiter {
    /// One that follows the limits that questions bring.
    pub fn start() -> Self {
        Self::start_as(Windows {
            own: Limit { requests_per_unit: 0, unit: 1 },
            follows_overrides: true,
            counts: BTreeMap::new(),
            asked: Vec::new(),
        })
    }

    /// One with its own limit, per hour, whatever questions bring.
    pub fn with_own_limit(requests_per_unit: u32) -> Self {
        Self::start_as(Windows {
            own: Limit { requests_per_unit, unit: 3 },
            follows_overrides: false,
            counts: BTreeMap::new(),
            asked: Vec::new(),
        })
    }

    fn start_as(windows: Windows) -> Self {
        let state = Arc::new(Mutex::new(windows));
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&state));
        Self { service: Service::start(app), state }
    }

    pub fn asked(&self) -> Vec<Question> {
        lock(&self.state).asked.clone()
    }

    /// How many hits were counted in all windows together.
    pub fn counted(&self) -> u64 {
        lock(&self.state).counts.values().sum()
    }
}

async fn answer(State(state): State<Arc<Mutex<Windows>>>, request: Request) -> Response<Body> {
    let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind.as_bytes() == b"application/grpc");
    if request.uri().path() != METHOD || !is_grpc {
        let unimplemented = Response::builder().header("content-type", "application/grpc").header("grpc-status", "12");
        return unimplemented.body(Body::empty()).expect("a sound response");
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    // One byte for the compression, of which there is none, and four for the length.
    let frame = body.get(5..).expect("a gRPC frame");
    let question = RateLimitRequest::decode(frame).expect("a RateLimitRequest");
    let message = lock(&state).count(&question).encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is small");
    let body = [&[0], length.to_be_bytes().as_slice(), &message].concat();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))]);
    let body = Full::new(axum::body::Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).expect("a sound response")
}

impl Windows {
    fn count(&mut self, question: &RateLimitRequest) -> RateLimitResponse {
        let hits = u64::from(question.hits_addend.max(1));
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let mut response = RateLimitResponse { overall_code: OK, statuses: Vec::new() };
        for descriptor in &question.descriptors {
            let entries: Vec<_> =
                descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
            let limit = descriptor.limit.filter(|_| self.follows_overrides).unwrap_or(self.own);
            let window = [1, 1, 60, 3600, 86_400, 30 * 86_400][usize::try_from(limit.unit).expect("a unit")];
            let began = now / window * window;
            let key = (format!("{}:{entries:?}:{}", question.domain, limit.unit), began);
            self.asked.push(Question { domain: question.domain.clone(), entries, hits });
            let count = self.counts.entry(key).or_default();
            *count += hits;
            let remaining = u64::from(limit.requests_per_unit).checked_sub(*count);
            let code = if remaining.is_some() { OK } else { OVER_LIMIT };
            response.overall_code = response.overall_code.max(code);
            response.statuses.push(Status {
                code,
                current_limit: Some(limit),
                limit_remaining: u32::try_from(remaining.unwrap_or(0)).expect("it is below the limit"),
                duration_until_reset: Some(prost_types::Duration {
                    seconds: i64::try_from(began + window - now).expect("it is small"),
                    nanos: 0,
                }),
            });
        }
        response
    }
}

fn lock(state: &Mutex<Windows>) -> MutexGuard<'_, Windows> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
