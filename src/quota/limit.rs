//! Which limit holds for a tenant: the tenant's own, then its plan's, then the quota's.

use serde_json::Value;

use crate::config::{Allowance, Period, Quota};
use crate::tenant::Tenant;

/// A limit that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many units.
    pub units: u64,
    /// In which time.
    pub period: Period,
}

/// The tenant's record says something of the quota that can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// The limit that holds for a tenant, if there is one.
pub fn limit(quota: &Quota, tenant: &Tenant) -> Result<Option<Limit>, Unreadable> {
    let allowance = match quota.own_limit(tenant) {
        // What a record says and nobody understands must not become a more generous limit.
        Some(own) => own.ok_or(Unreadable)?,
        None => by_plan(quota, tenant).unwrap_or(quota.limit),
    };
    if quota.misfit(allowance).is_some() {
        return Err(Unreadable);
    }
    Ok(allowance.limit.map(|units| Limit { units, period: allowance.period.unwrap_or(quota.own_period()) }))
}

fn by_plan(quota: &Quota, tenant: &Tenant) -> Option<Allowance> {
    match tenant.plan()? {
        Value::String(plan) => quota.plans.get(plan),
        plan => quota.plans.get(&plan.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::calendar::Unit;
    use crate::config::{MOST_UNITS, from_json};

    #[test]
    fn the_tenants_own_limit_comes_before_its_plans_and_the_quotas() {
        let quota: Quota = from_json(&json!({
            "quotaKey": "api", "period": "month", "limit": 9,
            "plans": {"pro": 7, "day": {"limit": 5, "period": "day"}, "all": null, "7": "9223372036854775807"},
        }));
        let (month, day) = (Period::Calendar(Unit::Month), Period::Calendar(Unit::Day));
        let rows = [
            (json!({}), Ok(Some((9, month)))),
            (json!({"metadata": {"plan": "pro"}}), Ok(Some((7, month)))),
            (json!({"metadata": {"plan": "unlisted"}}), Ok(Some((9, month)))),
            (json!({"metadata": {"plan": "day"}}), Ok(Some((5, day)))),
            (json!({"metadata": {"plan": "all"}}), Ok(None)),
            (json!({"metadata": {"plan": 7}}), Ok(Some((MOST_UNITS, month)))),
            (json!({"metadata": {"plan": "all"}, "quotas": {"api": 0}}), Ok(Some((0, month)))),
            (json!({"quotas": {"api": null}}), Ok(None)),
            (json!({"quotas": {"api": {"limit": null}}}), Ok(None)),
            (json!({"quotas": {"api": {"limit": 3, "period": "day"}}}), Ok(Some((3, day)))),
            (json!({"quotas": {"api": {"limit": 3, "period": "month", "note": "x"}}}), Ok(Some((3, month)))),
            (json!({"quotas": {"api": 18_446_744_073_709_551_615_u64}}), Ok(Some((MOST_UNITS, month)))),
            (json!({"quotas": {"api": 5.0}}), Ok(Some((5, month)))),
            (json!({"quotas": {"other": 1}}), Ok(Some((9, month)))),
            (json!({"quotas": {"api": -1}}), Err(Unreadable)),
            (json!({"quotas": {"api": 1.5}}), Err(Unreadable)),
            (json!({"quotas": {"api": "many"}}), Err(Unreadable)),
            (json!({"quotas": {"api": {}}}), Err(Unreadable)),
            (json!({"quotas": {"api": {"limit": 3, "period": "week"}}}), Err(Unreadable)),
            (json!({"quotas": {"api": {"limit": 3, "period": "none"}}}), Err(Unreadable)),
        ];
        for (mut record, expected) in rows {
            record["id"] = json!("acme");
            let found = limit(&quota, &Tenant::parse(record.clone()).unwrap());
            assert_eq!(found.map(|limit| limit.map(|limit| (limit.units, limit.period))), expected, "{record}");
        }
    }
}
