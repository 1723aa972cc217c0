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
