//! Every way in which a request is refused: what the client sees, and what only the log says.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::document::{Fault, Faults};
use crate::identifier::Identifier;

/// A refusal.
#[derive(Debug)]
pub enum Refusal {
    /// A tenant or a domain that isn't there; its name only where it is a well-formed one.
    NotFound {
        /// `Tenant` or `Domain`.
        resource: &'static str,
        /// Which.
        id: Option<String>,
    },
    /// No route has this path.
    NoRoute,
    /// The path's route doesn't know this method.
    MethodNotAllowed,
    /// A write or a lease without the token, or with a wrong one.
    Unauthorized {
        /// Whether some token came.
        given: bool,
    },
    /// A write, while no token is configured.
    WritesOff,
    /// An upgrade for which the filter doesn't vouch.
    NotVouched,
    /// An upgrade beyond the most connections, or during the stop.
    Full,
    /// A tenant's id or slug already names another tenant.
    NameTaken {
        /// `id` or `slug`.
        field: &'static str,
        /// The name.
        name: Identifier,
    },
    /// What came isn't what is expected.
    Invalid(Faults),
    /// A cursor that was good once, or is another database's.
    Gone {
        /// `purged` or `foreign`.
        reason: &'static str,
    },
    /// A body beyond the limit.
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// A body that took too long.
    BodyTimeout {
        /// The limit.
        within: Duration,
    },
    /// The database, or Redis, can't answer at present. A write may or may not have happened; it can be repeated.
    Unavailable(String),
    /// A fault of ours.
    Internal(String),
}

impl Refusal {
    /// One fault of a request.
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { path: path.to_owned(), message: message.into() }])
    }

    /// What the log says, and the client must not know.
    pub fn private(&self) -> Option<&str> {
        match self {
            Self::Unavailable(why) | Self::Internal(why) => Some(why),
            _ => None,
        }
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } | Self::NoRoute => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::WritesOff | Self::NotVouched => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NameTaken { .. } => (StatusCode::CONFLICT, "CONFLICT"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR"),
            Self::Gone { .. } => (StatusCode::GONE, "GONE"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::Unavailable(_) | Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }

    fn message_and_details(&self) -> (String, Value) {
        match self {
            Self::NotFound { resource, id: Some(id) } => {
                (format!("{resource} '{id}' not found"), json!({"resource": resource, "id": id}))
            }
            Self::NotFound { resource, id: None } => (format!("{resource} not found"), json!({"resource": resource})),
            Self::NoRoute => ("No route has this path".to_owned(), json!({"resource": "Route"})),
            Self::MethodNotAllowed => ("This path doesn't know the method; see the allow header".to_owned(), json!({})),
            Self::Unauthorized { given: false } => {
                ("This needs the header authorization: Bearer TOKEN".to_owned(), json!({"reason": "missing"}))
            }
            Self::Unauthorized { given: true } => {
                ("The bearer token is wrong".to_owned(), json!({"reason": "invalid"}))
            }
            Self::WritesOff => ("Writes are off: tenancyd was started without a token".to_owned(), json!({})),
            Self::NotVouched => {
                ("Connections come through the filter, which says whose they are".to_owned(), json!({}))
            }
            Self::Full => ("No further connection can be taken here at present".to_owned(), json!({})),
            Self::NameTaken { field, name } => (
                format!("The {field} '{name}' already names another tenant"),
                json!({"resource": "Tenant", "field": field, "id": name}),
            ),
            Self::Invalid(faults) => {
                let listed: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
                (listed.join("; "), json!({"faults": faults}))
            }
            Self::Gone { reason } => (
                "What changed since this cursor is not known; read the whole list again, without after".to_owned(),
                json!({"reason": reason}),
            ),
            Self::TooLarge { max_bytes } => {
                (format!("The body has more than {max_bytes} bytes"), json!({"maxBytes": max_bytes}))
            }
            Self::BodyTimeout { within } => {
                (format!("The body took more than {} seconds to come", within.as_secs()), json!({}))
            }
            Self::Unavailable(_) => ("The database can't answer at present".to_owned(), json!({})),
            Self::Internal(_) => ("Something went wrong here; the log knows what".to_owned(), json!({})),
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized { given: false } => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="tenancyd""#)))
            }
            Self::Unauthorized { given: true } => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="tenancyd", error="invalid_token""#),
            )),
            Self::Unavailable(_) | Self::Full => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let (message, details) = self.message_and_details();
        let envelope = Envelope { error: Body { code, message, details } };
        // Nothing in it can fail to serialise: its keys are texts, its values too.
        let text = serde_json::to_string(&envelope).unwrap_or_default();
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = (status, [json], text).into_response();
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        // The request's log line picks this up.
        response.extensions_mut().insert(Refused { code, private: self.private().map(str::to_owned) });
        response
    }
}

/// The form of every refusal, its members in the order in which people read them.
#[derive(Serialize)]
struct Envelope {
    error: Body,
}

#[derive(Serialize)]
struct Body {
    code: &'static str,
    message: String,
    details: Value,
}

/// What a refused response says to the log.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The code that the client sees.
    pub code: &'static str,
    /// What it doesn't see.
    pub private: Option<String>,
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Unavailable(format!("SQLite: {error}")),
            _ => Self::Internal(format!("SQLite: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internals_stay_inside() {
        for refusal in
            [Refusal::Internal("disk /dev/sdb1".to_owned()), Refusal::Unavailable("disk /dev/sdb1".to_owned())]
        {
            assert_eq!(refusal.private(), Some("disk /dev/sdb1"));
            let (message, details) = refusal.message_and_details();
            assert!(!message.contains("sdb1") && !details.to_string().contains("sdb1"));
        }
    }

    #[test]
    fn a_locked_database_is_unavailable_and_a_broken_one_our_fault() {
        let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(matches!(failure(rusqlite::ffi::SQLITE_BUSY).into(), Refusal::Unavailable(_)));
        assert!(matches!(failure(rusqlite::ffi::SQLITE_CORRUPT).into(), Refusal::Internal(_)));
    }
}
