//! The protocol of leases: SPEC 4's `POST /tenants/{tenantId}/leases/{quotaKey}`.
//!
//! All numbers are sums since the period began, so a question that is repeated, or answered twice, changes nothing. The service's
//! clock says which period it is. Units that this Envoy was granted stay its own until it says that it gives them back, whatever
//! clocks do and however long it is silent: what may have been used is never granted again.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use serde_json::{Value, json};

use super::supply::{Grant, Question, Units};
use crate::config::{Lease, Period, Quota, Template};
use crate::host::{Answer, Body, Callout, Host};
use crate::request::TraceHeaders;
use crate::tenant::Tenant;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// Where this Envoy's name is, the same for all of its workers.
const PROXY_KEY: &str = "tenancy:1:proxy";

/// A service that leases units of one quota.
pub struct LeaseService {
    settings: Lease,
    path: Template,
    period: Period,
    timezone: &'static str,
    /// The header that shows who we are.
    authorization: Option<Vec<u8>>,
}

impl LeaseService {
    /// The service of a quota. `environment` gives the VM's environment variables; the error says what is wrong with one.
    pub fn new(
        settings: &Lease,
        quota: &Quota,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, &'static str> {
        let authorization = match &settings.token {
            None => None,
            Some(source) => match environment(&source.env.0) {
                None => return Err("is not in the VM's environment"),
                Some(token) if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) => {
                    return Err("holds no token that a header can carry");
                }
                Some(token) => Some(format!("Bearer {token}").into_bytes()),
            },
        };
        Ok(Self {
            path: settings.path.of(&quota.quota_key),
            period: quota.own_period(),
            timezone: quota.timezone.name(),
            settings: settings.clone(),
            authorization,
        })
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms.0)
    }

    /// How many unused units this Envoy may hold.
    pub fn max_units(&self) -> u64 {
        self.settings.max_units.0
    }

    /// The question, as the service takes it.
    pub fn callout(&self, question: &Question, tenant: &Tenant, trace: TraceHeaders, host: &dyn Host) -> Callout {
        let period = question.limit.map_or(self.period, |limit| limit.period);
        let mut body = json!({
            "proxy": proxy(host),
            "sequence": question.sequence,
            "period": period.as_str(),
            "timezone": self.timezone,
            // A tenant that has no limit any more gives back what it holds, and gets no more.
            "limit": question.limit.map_or(0, |limit| limit.units),
            "used": question.used,
            "upTo": question.used.saturating_add(question.units),
        });
        if let (Some(label), Some(body)) = (question.label, body.as_object_mut()) {
            body.insert("periodStart".to_owned(), label.into());
        }
        let mut headers = trace;
        headers.extend(self.authorization.clone().map(|value| ("authorization", value)));
        Callout {
            cluster: self.settings.cluster.clone(),
            path: self.path.fill(tenant.id.as_str()),
            body: Body::Json(body.to_string().into_bytes()),
            headers,
            timeout: self.timeout(),
            answer_limit: MAX_ANSWER_BYTES,
        }
    }

    /// Reads an answer; the error says why it is none.
    pub fn read(&self, answer: Answer) -> Result<Grant, String> {
        let body = match answer {
            Answer::Reply { status: 200, body } => body,
            Answer::Reply { status, .. } => return Err(format!("answered {status}")),
            Answer::TooLarge => return Err("answered more than is read".to_owned()),
            Answer::Failed { why } => return Err(format!("failed: {why}")),
        };
        let wrong = || "answered 200 with a body that is no lease".to_owned();
        let value: Value = serde_json::from_slice(&body).map_err(|_| wrong())?;
        let number = |name: &str| value.get(name).and_then(Value::as_u64).ok_or_else(wrong);
        let time = |name: &str| value.get(name).and_then(Value::as_i64).ok_or_else(wrong);
        let (granted, usage, leased) = (number("granted")?, number("usage")?, number("leased")?);
        Ok(Grant {
            label: time("periodStart")?,
            resets_at: time("resetsAt")?,
            lasts: Duration::from_millis(number("resetsInMs")?),
            units: Units::InAll(granted),
            counted: usage.saturating_add(leased),
            may_come_back: leased > 0,
            limit: 0,
        })
    }
}

/// This Envoy's name, for as long as it runs: whoever comes after it has another one, and no claim to its units.
fn proxy(host: &dyn Host) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    if let Some(name) = host.shared(PROXY_KEY).and_then(text) {
        return name;
    }
    let mut name = String::with_capacity(32);
    for _ in 0..2 {
        let random = RandomState::new().build_hasher().finish();
        // Writing to a string can't fail.
        let _ = write!(name, "{random:016x}");
    }
    if host.swap_shared(PROXY_KEY, None, name.as_bytes()) {
        return name;
    }
    host.shared(PROXY_KEY).and_then(text).unwrap_or(name)
}
