//! Envoy's rate limit protocol, as `envoy/service/ratelimit/v3/rls.proto` has it: one gRPC method, `ShouldRateLimit`.
//!
//! The descriptor names the quota, the tenant's plan and the tenant, so the service's own configuration can tell them apart, and
//! carries the limit that holds here as an override, which envoyproxy/ratelimit follows. The service counts what is asked for
//! whether or not it says yes, and takes nothing back.

use std::time::Duration;

use super::supply::{Grant, Question, Units};
use crate::calendar::Unit;
use crate::config::{Period, RateLimit};
use crate::host::{Answer, Body, Callout};
use crate::protobuf::{Fields, Wire, push_bytes, push_number};
use crate::request::TraceHeaders;
use crate::tenant::{Identifier, Tenant};

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What the plan's entry says where a tenant has none.
const NO_PLAN: &str = "none";
/// How long an answer holds that doesn't say.
const UNSAID: Duration = Duration::from_secs(1);
const OK: u64 = 1;
const OVER_LIMIT: u64 = 2;

/// A service that counts one quota.
pub struct RateLimitService {
    settings: RateLimit,
    quota_key: Identifier,
}

/// What the service says of one descriptor.
#[derive(Default)]
struct Status {
    limit: u64,
    unit: u64,
    remaining: u64,
    resets_in: Option<Duration>,
}

impl RateLimitService {
    /// The service of a quota.
    pub fn new(settings: &RateLimit, quota_key: &Identifier) -> Self {
        Self { settings: settings.clone(), quota_key: quota_key.clone() }
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms.0)
    }

    /// How many units are asked for at once.
    pub fn max_batch(&self) -> u64 {
        self.settings.max_batch.0
    }

    /// The question, as the service takes it: a `RateLimitRequest`.
    pub fn callout(&self, question: &Question, tenant: &Tenant, trace: TraceHeaders) -> Callout {
        let plan = tenant.plan().map(|plan| plan.as_str().map_or_else(|| plan.to_string(), str::to_owned));
        let entries = [
            ("quota_key", self.quota_key.as_str()),
            ("plan", plan.as_deref().unwrap_or(NO_PLAN)),
            ("tenant_id", tenant.id.as_str()),
        ];
        let mut descriptor = Vec::new();
        for (key, value) in entries {
            let mut entry = Vec::new();
            push_bytes(&mut entry, 1, key.as_bytes());
            push_bytes(&mut entry, 2, value.as_bytes());
            push_bytes(&mut descriptor, 1, &entry);
        }
        // The protocol's limits have 32 bits; a larger one is left to the service's configuration.
        if let Some(limit) = question.limit.filter(|limit| u32::try_from(limit.units).is_ok()) {
            let mut wanted = Vec::new();
            push_number(&mut wanted, 1, limit.units);
            push_number(&mut wanted, 2, unit_number(limit.period));
            push_bytes(&mut descriptor, 2, &wanted);
        }
        let mut message = Vec::new();
        push_bytes(&mut message, 1, self.settings.domain.as_bytes());
        push_bytes(&mut message, 2, &descriptor);
        push_number(&mut message, 3, question.units);
        Callout {
            cluster: self.settings.cluster.clone(),
            path: METHOD.to_owned(),
            body: Body::Grpc(message),
            headers: trace,
            timeout: self.timeout(),
            answer_limit: MAX_ANSWER_BYTES,
        }
    }

    /// Reads an answer, a `RateLimitResponse`, that came at `now`; the error says why it is none.
    pub fn read(&self, question: &Question, answer: Answer, now: i64) -> Result<Grant, String> {
        let body = match answer {
            Answer::Reply { status: 200, body } => body,
            Answer::Reply { status, .. } => return Err(format!("answered {status}")),
            Answer::TooLarge => return Err("answered more than is read".to_owned()),
            Answer::Failed { why } => return Err(format!("failed: {why}")),
        };
        let (code, status) = response(&body).ok_or("answered with what is no RateLimitResponse")?;
        let units = match code {
            OK => Units::More(question.units),
            OVER_LIMIT => Units::None,
            _ => return Err("answered neither OK nor OVER_LIMIT".to_owned()),
        };
        let status = status.unwrap_or_default();
        let lasts = status.resets_in.unwrap_or(UNSAID);
        let whole_seconds = lasts.as_secs().saturating_add(u64::from(lasts.subsec_nanos() > 0));
        let resets_at = now.saturating_add(i64::try_from(whole_seconds).unwrap_or(i64::MAX));
        let window = unit_seconds(status.unit).max(i64::try_from(whole_seconds).unwrap_or(i64::MAX));
        Ok(Grant {
            // The protocol names no period, only its end; 1 is the earliest that isn't "none yet".
            label: resets_at.saturating_sub(window).max(1),
            resets_at,
            lasts,
            units,
            counted: status.limit.saturating_sub(status.remaining),
            may_come_back: false,
            limit: status.limit,
        })
    }
}

/// The overall code, and of the statuses with a limit the one with the least left.
fn response(bytes: &[u8]) -> Option<(u64, Option<Status>)> {
    let (mut code, mut tightest) = (0, None::<Status>);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => code = number,
            (2, Wire::Bytes(bytes)) => {
                let status = status(bytes)?;
                if status.limit > 0 && tightest.as_ref().is_none_or(|other| status.remaining < other.remaining) {
                    tightest = Some(status);
                }
            }
            _ => {}
        }
    }
    Some((code, tightest))
}

fn status(bytes: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    for field in Fields(bytes) {
        match field? {
            (2, Wire::Bytes(limit)) => {
                for field in Fields(limit) {
                    match field? {
                        (1, Wire::Varint(units)) => status.limit = units,
                        (2, Wire::Varint(unit)) => status.unit = unit,
                        _ => {}
                    }
                }
            }
            (3, Wire::Varint(remaining)) => status.remaining = remaining,
            (4, Wire::Bytes(duration)) => {
                let (mut seconds, mut nanoseconds) = (0, 0);
                for field in Fields(duration) {
                    match field? {
                        (1, Wire::Varint(number)) => seconds = number,
                        (2, Wire::Varint(number)) => nanoseconds = number,
                        _ => {}
                    }
                }
                status.resets_in = Some(
                    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.min(999_999_999))),
                );
            }
            _ => {}
        }
    }
    Some(status)
}

/// The protocol's number of a unit, `RateLimitUnit`.
fn unit_number(period: Period) -> u64 {
    match period {
        Period::Calendar(Unit::Second) => 1,
        Period::Calendar(Unit::Minute) => 2,
        Period::Calendar(Unit::Hour) => 3,
        Period::Calendar(Unit::Day) => 4,
        Period::Calendar(Unit::Month) => 5,
        Period::None => 0,
    }
}

/// How long a unit is to the protocol's services, in seconds.
fn unit_seconds(number: u64) -> i64 {
    match number {
        2 => 60,
        3 => 3600,
        4 => 86_400,
        5 => 30 * 86_400,
        6 => 365 * 86_400,
        _ => 1,
    }
}

#[cfg(test)]
#[path = "../../tests/e2e/rate_limit_messages.rs"]
#[allow(missing_docs, reason = "the protocol has them")]
mod messages;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use serde_json::json;

    use super::messages::{Descriptor, Entry, Limit as Override, RateLimitRequest, RateLimitResponse};
    use super::*;
    use crate::config::Quota;
    use crate::config::from_json;
    use crate::quota::Limit;

    fn service() -> RateLimitService {
        let quota: Quota = from_json(&json!({
            "quotaKey": "api", "period": "hour", "count": {"rateLimit": {"cluster": "c", "domain": "edge"}},
        }));
        let crate::config::Count::RateLimit(settings) = &quota.count else { panic!("it is a rate limit service") };
        RateLimitService::new(settings, &quota.quota_key)
    }

    fn question(units: u64, limit: u64) -> Question {
        let limit = Limit { units: limit, period: Period::Calendar(Unit::Hour) };
        Question { sequence: 1, label: None, limit: Some(limit), used: 0, units, least: 1 }
    }

    #[test]
    fn the_question_is_what_prost_reads() {
        let tenants = [(json!({"id": "acme", "metadata": {"plan": "pro"}}), "pro"), (json!({"id": "acme"}), "none")];
        for ((record, plan), (limit, unit)) in tenants.into_iter().zip([(70_000, Some((70_000, 3))), (1 << 32, None)]) {
            let callout = service().callout(&question(300, limit), &Tenant::parse(record).unwrap(), Vec::new());
            let Body::Grpc(message) = callout.body else { panic!("it is a gRPC call") };
            let entry = |key: &str, value: &str| Entry { key: key.to_owned(), value: value.to_owned() };
            let expected = RateLimitRequest {
                domain: "edge".to_owned(),
                descriptors: vec![Descriptor {
                    entries: vec![entry("quota_key", "api"), entry("plan", plan), entry("tenant_id", "acme")],
                    limit: unit.map(|(requests_per_unit, unit)| Override { requests_per_unit, unit }),
                }],
                hits_addend: 300,
            };
            assert_eq!(RateLimitRequest::decode(message.as_slice()), Ok(expected));
        }
    }

    #[test]
    fn the_answer_is_read_as_it_is() {
        let status = |limit: u32, remaining, seconds| super::messages::Status {
            code: 1,
            current_limit: Some(Override { requests_per_unit: limit, unit: 2 }),
            limit_remaining: remaining,
            duration_until_reset: Some(prost_types::Duration { seconds, nanos: 500_000_000 }),
        };
        let answer = |overall_code, statuses| Answer::Reply {
            status: 200,
            body: RateLimitResponse { overall_code, statuses }.encode_to_vec(),
        };
        let read = |answer| service().read(&question(10, 100), answer, 1000);
        let grant = read(answer(1, vec![status(500, 480, 40), status(100, 60, 30)])).unwrap();
        assert_eq!((grant.units, grant.limit, grant.counted), (Units::More(10), 100, 40));
        assert_eq!((grant.label, grant.resets_at, grant.lasts), (971, 1031, Duration::from_millis(30_500)));
        assert_eq!(read(answer(2, vec![status(100, 0, 30)])).unwrap().units, Units::None);
        // A service without a rule for it says nothing but yes.
        let grant = read(answer(1, Vec::new())).unwrap();
        assert_eq!((grant.units, grant.limit, grant.lasts), (Units::More(10), 0, UNSAID));
        assert!(read(answer(0, Vec::new())).is_err());
        assert!(read(Answer::Reply { status: 200, body: b"OK".to_vec() }).is_err());
        assert!(read(Answer::Failed { why: "gone" }).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = service().read(&question(u64::MAX, u64::MAX), Answer::Reply { status: 200, body: bytes }, i64::MAX);
        }
    }
}
