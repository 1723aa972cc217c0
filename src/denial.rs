//! Every refusal: its status and code, what the client is told, and what only the log is told.

use std::borrow::Cow;

use crate::calendar::rfc3339;
use crate::config::Resolution;
use crate::jwt::TokenFault;
use crate::tenant::Identifier;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A token is missing where one is needed, or it is bad.
    Unauthorized(TokenFault),
    /// Nothing identifies a tenant (`None`), or the directory has none of that name.
    TenantNotFound(Option<Identifier>),
    /// The tenant may not be served for now.
    TenantSuspended(Identifier),
    /// The tenant may not be served.
    TenantInactive(Identifier),
    /// Strategies name different tenants.
    TenantMismatch,
    /// One source gives several values.
    TenantAmbiguous(Resolution),
    /// A quota has no room for it.
    QuotaExceeded(Box<QuotaExceeded>),
    /// Nobody can say which tenant it is, and nothing held may serve.
    ServiceUnavailable,
    /// Nobody can say whether a quota has room for it.
    QuotaUnavailable,
}

/// What a client is told of a quota that has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// The tenant.
    pub tenant: Identifier,
    /// The quota.
    pub quota_key: Identifier,
    /// How many units it has.
    pub limit: u64,
    /// How many of them are used.
    pub usage: u64,
    /// When the count starts anew, in Unix seconds; `None` for a level.
    pub resets_at: Option<i64>,
    /// After how many seconds a client may try again.
    pub retry_after: u64,
    /// The RateLimit headers.
    pub fields: Vec<(&'static str, String)>,
}

/// Seconds after which a client may try again when the directory can't answer, or when a level is full.
pub const RETRY_AFTER_SECONDS: u64 = 5;

impl Denial {
    /// The code, as the body has it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "UNAUTHORIZED",
            Self::TenantNotFound(_) => "TENANT_NOT_FOUND",
            Self::TenantSuspended(_) => "TENANT_SUSPENDED",
            Self::TenantInactive(_) => "TENANT_INACTIVE",
            Self::TenantMismatch => "TENANT_MISMATCH",
            Self::TenantAmbiguous(_) => "TENANT_AMBIGUOUS",
            Self::QuotaExceeded(_) => "QUOTA_EXCEEDED",
            Self::ServiceUnavailable | Self::QuotaUnavailable => "SERVICE_UNAVAILABLE",
        }
    }

    /// The HTTP status. Never 400, on which Envoy closes HTTP/1.1 connections.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unauthorized(_) => 401,
            Self::TenantNotFound(_) => 404,
            Self::TenantSuspended(_) | Self::TenantInactive(_) | Self::TenantMismatch | Self::TenantAmbiguous(_) => 403,
            Self::QuotaExceeded(_) => 429,
            Self::ServiceUnavailable | Self::QuotaUnavailable => 503,
        }
    }

    /// The status for gRPC clients, by gRPC's own numbers. Envoy would make others of the HTTP status.
    pub const fn grpc_status(&self) -> i32 {
        match self {
            Self::Unauthorized(_) => 16,
            Self::TenantNotFound(_) => 5,
            Self::TenantSuspended(_) | Self::TenantInactive(_) | Self::TenantMismatch | Self::TenantAmbiguous(_) => 7,
            Self::QuotaExceeded(_) => 8,
            Self::ServiceUnavailable | Self::QuotaUnavailable => 14,
        }
    }

    /// Envoy's response code details: `tenancy_` and the code in lower case.
    pub const fn response_code_details(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "tenancy_unauthorized",
            Self::TenantNotFound(_) => "tenancy_tenant_not_found",
            Self::TenantSuspended(_) => "tenancy_tenant_suspended",
            Self::TenantInactive(_) => "tenancy_tenant_inactive",
            Self::TenantMismatch => "tenancy_tenant_mismatch",
            Self::TenantAmbiguous(_) => "tenancy_tenant_ambiguous",
            Self::QuotaExceeded(_) => "tenancy_quota_exceeded",
            Self::ServiceUnavailable | Self::QuotaUnavailable => "tenancy_service_unavailable",
        }
    }

    /// The response's headers.
    pub fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        // No cache between may keep a refusal: the tenant can exist, or be active again, in a second.
        let mut headers = vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
        let retry_after = |seconds: u64| ("retry-after", Cow::Owned(seconds.to_string()));
        match self {
            Self::Unauthorized(fault) => headers.push(("www-authenticate", fault.www_authenticate().into())),
            Self::QuotaExceeded(exceeded) => {
                headers.push(retry_after(exceeded.retry_after));
                headers.extend(exceeded.fields.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str()))));
            }
            Self::ServiceUnavailable | Self::QuotaUnavailable => headers.push(retry_after(RETRY_AFTER_SECONDS)),
            _ => {}
        }
        headers
    }

    /// The response's body: the seed's error envelope.
    pub fn body(&self) -> String {
        // By hand, because the seed's order reads best, and a JSON map of ours has none. Nothing in it needs escaping: an identifier
        // has no character that would.
        let (code, message, details) = (self.code(), self.message(), self.details());
        [r#"{"error":{"code":""#, code, r#"","message":""#, &message, r#"","details":{"#, &details, "}}}"].concat()
    }

    /// The reason of a close frame: the code, and what a person may read. Where it is longer than a frame can carry, its end is lost.
    pub fn close_reason(&self) -> String {
        let more = match self {
            Self::Unauthorized(fault) => fault.reason().into(),
            _ => self.message(),
        };
        [self.code(), ": ", &more].concat()
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Unauthorized(TokenFault::Missing) => "The request needs a token".into(),
            Self::Unauthorized(_) => "The request's token is not accepted".into(),
            Self::TenantNotFound(None) => "The request names no tenant".into(),
            Self::TenantNotFound(Some(tenant)) => ["Tenant '", tenant.as_str(), "' not found"].concat().into(),
            Self::TenantSuspended(tenant) => ["Tenant '", tenant.as_str(), "' is suspended"].concat().into(),
            Self::TenantInactive(tenant) => ["Tenant '", tenant.as_str(), "' is inactive"].concat().into(),
            Self::TenantMismatch => "The request names different tenants".into(),
            Self::TenantAmbiguous(source) => {
                ["The request's ", source_name(*source), " names several tenants"].concat().into()
            }
            Self::QuotaExceeded(exceeded) => {
                let (tenant, quota) = (exceeded.tenant.as_str(), exceeded.quota_key.as_str());
                ["Tenant '", tenant, "' has used up its quota '", quota, "'"].concat().into()
            }
            Self::QuotaUnavailable => "The tenant's usage can't be determined now, try again later".into(),
            Self::ServiceUnavailable => "The tenant can't be determined now, try again later".into(),
        }
    }

    /// What is in the braces of the details.
    fn details(&self) -> Cow<'static, str> {
        match self {
            Self::TenantNotFound(Some(tenant)) | Self::TenantSuspended(tenant) | Self::TenantInactive(tenant) => {
                [r#""tenantId":""#, tenant.as_str(), r#"""#].concat().into()
            }
            Self::Unauthorized(fault) => [r#""reason":""#, fault.reason(), r#"""#].concat().into(),
            Self::TenantAmbiguous(source) => [r#""source":""#, source.as_str(), r#"""#].concat().into(),
            Self::QuotaExceeded(exceeded) => {
                let QuotaExceeded { tenant, quota_key, limit, usage, resets_at, .. } = &**exceeded;
                let resets_at = resets_at.map_or_else(|| "null".to_owned(), |at| format!(r#""{}""#, rfc3339(at)));
                let numbers = format!(r#""limit":{limit},"usage":{usage},"resetsAt":{resets_at}"#);
                format!(r#""tenantId":"{tenant}","quotaKey":"{quota_key}",{numbers}"#).into()
            }
            Self::TenantNotFound(None) | Self::TenantMismatch | Self::ServiceUnavailable | Self::QuotaUnavailable => {
                "".into()
            }
        }
    }
}

fn source_name(source: Resolution) -> &'static str {
    match source {
        Resolution::Subdomain | Resolution::CustomDomain => "host",
        Resolution::Path => "path",
        Resolution::Header => "header",
        Resolution::Query => "query",
        Resolution::Jwt => "token",
        Resolution::Custom => "resolver",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_body_is_json() {
        let name = || Identifier::parse(b"a.B_c-1").unwrap();
        let exceeded = |resets_at| {
            let (limit, usage, fields) = (u64::MAX, 7, Vec::new());
            let exceeded =
                QuotaExceeded { tenant: name(), quota_key: name(), limit, usage, resets_at, retry_after: 1, fields };
            Denial::QuotaExceeded(Box::new(exceeded))
        };
        let rows = [
            (Denial::Unauthorized(TokenFault::Missing), json!({"reason": "missing"})),
            (Denial::Unauthorized(TokenFault::Expired), json!({"reason": "expired"})),
            (Denial::TenantNotFound(None), json!({})),
            (Denial::TenantNotFound(Some(name())), json!({"tenantId": "a.B_c-1"})),
            (Denial::TenantSuspended(name()), json!({"tenantId": "a.B_c-1"})),
            (Denial::TenantInactive(name()), json!({"tenantId": "a.B_c-1"})),
            (Denial::TenantMismatch, json!({})),
            (Denial::TenantAmbiguous(Resolution::Custom), json!({"source": "custom"})),
            (
                exceeded(Some(1_796_083_200)),
                json!({
                    "tenantId": "a.B_c-1", "quotaKey": "a.B_c-1", "limit": u64::MAX, "usage": 7,
                    "resetsAt": "2026-12-01T00:00:00Z",
                }),
            ),
            (
                exceeded(None),
                json!({"tenantId": "a.B_c-1", "quotaKey": "a.B_c-1", "limit": u64::MAX, "usage": 7, "resetsAt": null}),
            ),
            (Denial::ServiceUnavailable, json!({})),
            (Denial::QuotaUnavailable, json!({})),
        ];
        for (denial, details) in rows {
            let body: Value = serde_json::from_str(&denial.body()).unwrap();
            assert_eq!((&body["error"]["code"], &body["error"]["details"]), (&json!(denial.code()), &details));
            assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 20), "{body}");
        }
    }
}
