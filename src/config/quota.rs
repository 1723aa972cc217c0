//! Settings of quotas.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::callout::{OnError, Source, Template, TimeoutMs, is_path};
use super::fields::HeaderName;
use super::jwt::SecretSource;
use super::reader::{Faults, Node, Setting, Whole, choice, exact_u64, settings, unknown};
use crate::calendar::{Unit, Zone};
use crate::tenant::{Identifier, Tenant};

/// The largest number of units: 2^63 - 1, so that every service and database can hold one.
pub const MOST_UNITS: u64 = i64::MAX.unsigned_abs();

settings! {
    /// A limit to what each tenant may use.
    pub struct Quota {
        /// Its name in the tenant's quotas, in refusals and in metrics.
        required "quotaKey" => quota_key: Identifier,
        /// What costs units: a request, a WebSocket connection, or a message that a WebSocket client sends.
        default "unit" => unit: Counted = Counted::Request,
        /// After which unit of the calendar the count starts anew; none for a level, such as how much is stored, or how many
        /// requests are under way. With checkUsage it may be left out, and then is none.
        optional "period" => period: Period,
        /// The time zone of the calendar.
        default "timezone" => timezone: Zone = Zone::utc(),
        /// The limit where neither the tenant's own quotas nor its plan gives one. Without it, there is none.
        default "limit" => limit: Allowance = Allowance::UNLIMITED,
        /// Limits by the tenant's metadata.plan.
        default "plans" => plans: Plans = Plans::default(),
        /// How many units a request costs: a number, or {responseHeader: NAME} where the service says it afterwards.
        default "cost" => cost: Cost = Cost::Fixed(1),
        /// Who counts: edge, {lease: …} or {rateLimit: …}.
        default "count" => count: Count = Count::Edge,
        /// The service that knows how much a tenant has used.
        optional "checkUsage" => check_usage: CheckUsage,
        /// enforce, or shadow to count and report, and refuse nothing.
        default "mode" => mode: Mode = Mode::Enforce,
        /// Percentages of the limit from which on the service is told, and a metric counts.
        default "warnAtPercent" => warn_at_percent: Vec<Whole<1, 100>> = Vec::new(),
        /// What a request gets when nobody can say how much the tenant has used: deny is 503, allow lets it pass.
        default "onError" => on_error: OnError = OnError::Deny,
    }
    check(section) {
        let period = period.flatten();
        let counted = period.is_some_and(|period| period != Period::None);
        let checked = section.has("checkUsage");
        if !section.has("period") && !checked {
            section.fault("period", format!("is missing, expected one of: {}", Period::NAMES.join(", ")));
        }
        if section.has("timezone") && !counted {
            section.fault("timezone", "means nothing without a period");
        }
        if checked && section.has("count") {
            section.fault("count", "can't stand beside checkUsage, whose service counts");
        } else if period == Some(Period::None) && count.as_ref().is_some_and(|count| !matches!(count, Count::Edge)) {
            section.fault("count", "must be edge for a level, or its service must be given as checkUsage");
        }
        if let (Some(Count::RateLimit(_)), Some(Cost::Fixed(units))) = (&count, &cost) && u32::try_from(*units).is_err() {
            section.fault("cost", "must be at most 4294967295, which is all that the rate limit protocol can carry");
        }
        let of_responses = unit == Some(Counted::Request);
        if !of_responses && cost.as_ref().is_some_and(|cost| matches!(cost, Cost::Response { .. })) {
            section.fault("cost", "must be a number for what has no response of its own");
        }
        if unit == Some(Counted::Message) && !counted && !checked {
            section.fault("period", "can't be none for messages: nothing says when one ends");
        }
        if !counted && cost.as_ref().is_some_and(|cost| matches!(cost, Cost::Response { .. })) {
            section.fault("cost", "must be a number for a level: what it holds is given back, whatever a response says");
        }
    }
}

impl Quota {
    /// Its period, where neither a plan nor a tenant has another one.
    pub fn own_period(&self) -> Period {
        self.period.unwrap_or(Period::None)
    }

    /// What a tenant's own record says of this quota: nothing, or `Some(None)` for what can't be understood.
    pub fn own_limit(&self, tenant: &Tenant) -> Option<Option<Allowance>> {
        tenant.record.get("quotas")?.get(self.quota_key.as_str()).map(Allowance::parse)
    }

    /// Why an allowance doesn't go with this quota.
    pub fn misfit(&self, allowance: Allowance) -> Option<&'static str> {
        let period = allowance.period.filter(|period| *period != self.own_period())?;
        if self.check_usage.is_some() {
            Some("has another period than the one whose usage checkUsage gives")
        } else if (period == Period::None) != (self.own_period() == Period::None) {
            Some("makes a level of what is counted by the calendar, or the reverse")
        } else {
            None
        }
    }
}

choice! {
    /// What costs a quota's units.
    pub enum Counted as "unit" {
        /// Every request, one that opens a WebSocket connection included.
        Request = "request",
        /// A WebSocket connection, from its upgrade to its end.
        Connection = "connection",
        /// A message of a WebSocket client, from its first frame on. Its auth message is none.
        Message = "message",
    }
}

choice! {
    /// What happens with a request that a quota has no unit for.
    pub enum Mode as "mode" {
        /// It is refused.
        Enforce = "enforce",
        /// It is counted and reported, and passes.
        Shadow = "shadow",
    }
}

/// After which unit of the calendar a count starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// At the beginning of the next such unit.
    Calendar(Unit),
    /// Never: a level.
    None,
}

impl Period {
    /// The names, in the order of their lengths.
    pub const NAMES: [&str; 6] = ["second", "minute", "hour", "day", "month", "none"];

    /// The period of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "none" { Some(Self::None) } else { Unit::parse(name).map(Self::Calendar) }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calendar(unit) => unit.as_str(),
            Self::None => "none",
        }
    }
}

impl Setting for Period {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Some(name) = node.value.as_str() else {
            node.wrong_type(faults, &format!("a period ({})", Self::NAMES.join(", ")));
            return None;
        };
        let period = Self::parse(name);
        if period.is_none() {
            node.fault(faults, unknown("period", name, &Self::NAMES));
        }
        period
    }

    fn schema() -> Value {
        json!({"enum": Self::NAMES})
    }
}

impl Setting for Zone {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Some(name) = node.value.as_str() else {
            node.wrong_type(faults, "a time zone's name (UTC, Europe/Berlin)");
            return None;
        };
        let zone = Self::parse(name);
        if zone.is_none() {
            node.fault(faults, nearest_zone(name));
        }
        zone
    }

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }
}

fn nearest_zone(name: &str) -> String {
    let names: Vec<&'static str> = Zone::names().collect();
    // The whole list is hundreds of names, so only the nearest one is shown.
    let message = unknown("time zone", name, &names);
    match message.split_once(", expected one of: ") {
        Some((what, list)) => {
            let near = list.rsplit_once("; did you mean").map(|(_, near)| format!("; did you mean{near}"));
            format!("{what}, expected a name of the IANA time zone database{}", near.unwrap_or_default())
        }
        None => message,
    }
}

/// A number of units. A `Struct` carries numbers as doubles, exact up to 2^53, so a larger one may be written as a string. One
/// above 2^63 - 1 is that: nobody will have counted so far.
fn units(value: &Value) -> Option<u64> {
    let number = match value {
        Value::String(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        other => other.as_u64().or_else(|| other.as_f64().and_then(exact_u64)),
    };
    number.map(|number| number.min(MOST_UNITS))
}

/// What a tenant may use: the seed's number, `{limit, period}`, or null for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many units; `None` for any number. 0 allows nothing.
    pub limit: Option<u64>,
    /// In which time, where that isn't the quota's own period.
    pub period: Option<Period>,
}

impl Allowance {
    /// No limit.
    pub const UNLIMITED: Self = Self { limit: None, period: None };
    const EXPECTED: &str = "a whole number of 64 bits (as a string of digits above 2^53), {limit, period}, or null \
                            for no limit";

    /// Reads what a tenant's record or a plan gives; `None` for anything else.
    pub fn parse(value: &Value) -> Option<Self> {
        let Value::Object(map) = value else {
            let limit = if value.is_null() { None } else { Some(units(value)?) };
            return Some(Self { limit, period: None });
        };
        let limit = match map.get("limit")? {
            Value::Null => None,
            limit => Some(units(limit)?),
        };
        let period = match map.get("period") {
            None | Some(Value::Null) => None,
            Some(period) => Some(Period::parse(period.as_str()?)?),
        };
        Some(Self { limit, period })
    }
}

impl Setting for Allowance {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let allowance = Self::parse(node.value);
        let misspelt = |map: &Map<String, Value>| map.keys().any(|key| key != "limit" && key != "period");
        if allowance.is_none() || node.value.as_object().is_some_and(misspelt) {
            node.wrong_type(faults, Self::EXPECTED);
            return None;
        }
        allowance
    }

    fn schema() -> Value {
        let number = json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": u64::MAX},
            {"type": "string", "pattern": "^[0-9]{1,20}$"},
            {"type": "null"},
        ]});
        json!({"anyOf": [
            number,
            {
                "type": "object",
                "additionalProperties": false,
                "properties": {"limit": number, "period": Period::schema()},
                "required": ["limit"],
            },
        ]})
    }
}

/// Limits by the tenant's plan.
#[derive(Debug, Clone, Default)]
pub struct Plans(Vec<(String, Allowance)>);

impl Plans {
    /// What a plan allows, if it is listed.
    pub fn get(&self, plan: &str) -> Option<Allowance> {
        self.0.iter().find(|(name, _)| name == plan).map(|(_, allowance)| *allowance)
    }

    /// All that are listed.
    pub fn iter(&self) -> impl Iterator<Item = Allowance> {
        self.0.iter().map(|(_, allowance)| *allowance)
    }
}

impl Setting for Plans {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let map = <Map<String, Value>>::read(node, faults)?;
        let mut plans = Vec::with_capacity(map.len());
        for (plan, value) in node.value.as_object().into_iter().flatten() {
            plans.extend(Allowance::read(&node.child(plan, value), faults).map(|allowance| (plan.clone(), allowance)));
        }
        (plans.len() == map.len()).then_some(Self(plans))
    }

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": Allowance::schema()})
    }
}

/// How many units a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    /// So many.
    Fixed(u64),
    /// What a header of the response says.
    Response {
        /// The header.
        header: HeaderName,
        /// How many units are taken until then, and for good where no response says another number.
        reserve: u64,
    },
}

settings! {
    /// A cost that is known from the response.
    pub struct CostForms {
        /// The header that says how many units the request has cost: a whole number.
        required "responseHeader" => response_header: HeaderName,
        /// How many units are taken until then, and for good where no response says another number. The largest possible cost
        /// here, and no limit is ever exceeded; less, and the last requests of a period may exceed it by the difference.
        default "reserve" => reserve: Whole<1, 4_294_967_295> = Whole(1),
    }
}

impl Setting for Cost {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        if node.value.is_object() {
            let CostForms { response_header: header, reserve } = CostForms::read(node, faults)?;
            return Some(Self::Response { header, reserve: reserve.0 });
        }
        match units(node.value).filter(|cost| *cost > 0) {
            Some(cost) => Some(Self::Fixed(cost)),
            None => {
                node.wrong_type(faults, "a whole number from 1, or {responseHeader: NAME}");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": u64::MAX},
            {"type": "string", "pattern": "^[0-9]{1,20}$"},
            CostForms::schema(),
        ]})
    }
}

/// Who counts.
#[derive(Debug, Clone)]
pub enum Count {
    /// The filter, over all workers of this Envoy.
    Edge,
    /// A service that leases units to each Envoy.
    Lease(Lease),
    /// A service that speaks Envoy's rate limit protocol.
    RateLimit(RateLimit),
}

settings! {
    /// Who counts, where that isn't the edge.
    pub struct CountForms {
        /// A service that leases units, exactly over all Envoys: tenancyd, or one that speaks as it does.
        optional "lease" => lease: Lease,
        /// A service that speaks Envoy's rate limit protocol.
        optional "rateLimit" => rate_limit: RateLimit,
    }
    check(section) {
        if section.has("lease") == section.has("rateLimit") {
            section.fault_here("needs one of lease and rateLimit");
        }
    }
}

impl Setting for Count {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        if let Some(name) = node.value.as_str() {
            if name != "edge" {
                node.fault(faults, unknown("way to count", name, &["edge", "{lease: …}", "{rateLimit: …}"]));
                return None;
            }
            return Some(Self::Edge);
        }
        let forms = CountForms::read(node, faults)?;
        forms.lease.map(Self::Lease).or(forms.rate_limit.map(Self::RateLimit))
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "edge"}, CountForms::schema()]})
    }
}

settings! {
    /// The service that leases units: `POST path` gives what was granted.
    pub struct Lease {
        /// The Envoy cluster to ask.
        required "cluster" => cluster: String,
        /// The path to ask for, with {tenantId}, and with {quotaKey} where the quota's name goes.
        required "path" => path: QuotaPath,
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// How many unused units of a tenant this Envoy may hold at most. It asks for as many as the tenant's rate needs.
        default "maxUnits" => max_units: Whole<1, 1_000_000_000> = Whole(1000),
        /// Where the bearer token is that the service wants.
        optional "token" => token: SecretSource,
    }
}

settings! {
    /// A service that speaks Envoy's rate limit protocol, envoy.service.ratelimit.v3: envoyproxy/ratelimit, Limitador.
    pub struct RateLimit {
        /// The Envoy cluster to ask, over HTTP/2.
        required "cluster" => cluster: String,
        /// The domain of the service's own configuration.
        required "domain" => domain: String,
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// How many units of a tenant are asked for at once at most. 1 asks for every request.
        default "maxBatch" => max_batch: Whole<1, 1_000_000> = Whole(1),
    }
}

settings! {
    /// The service that knows how much a tenant has used: `GET path` gives `{"usage":123}`.
    pub struct CheckUsage {
        /// The Envoy cluster to ask.
        required "cluster" => cluster: String,
        /// The path to ask for, with {tenantId}, and with {quotaKey} where the quota's name goes.
        required "path" => path: QuotaPath,
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// Seconds after which an answer must be asked again.
        default "cacheSeconds" => cache_seconds: Whole<0, 86_400> = Whole(10),
        /// Seconds more that an answer may serve while the service gives none.
        default "staleSeconds" => stale_seconds: Whole<0, 86_400> = Whole(300),
        /// How many callouts a worker may have under way.
        default "maxInFlight" => max_in_flight: Whole<1, 100_000> = Whole(64),
    }
}

impl CheckUsage {
    /// The service, for the quota of that name.
    pub fn source(&self, quota: &Quota) -> Source {
        Source {
            cluster: self.cluster.clone(),
            path: self.path.of(&quota.quota_key),
            timeout: Duration::from_millis(self.timeout_ms.0),
            cache: Duration::from_secs(self.cache_seconds.0),
            stale: Duration::from_secs(self.stale_seconds.0),
            negative: Duration::ZERO,
            max_in_flight: usize::try_from(self.max_in_flight.0).unwrap_or(usize::MAX),
            on_error: quota.on_error,
        }
    }
}

/// A path with `{tenantId}` and, if need be, `{quotaKey}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaPath(String);

impl QuotaPath {
    const TENANT: &str = "{tenantId}";
    const QUOTA: &str = "{quotaKey}";

    /// The path for a quota, with the tenant's place yet to be filled.
    pub fn of(&self, quota_key: &Identifier) -> Template {
        let path = self.0.replace(Self::QUOTA, quota_key.as_str());
        let (before, after) = path.split_once(Self::TENANT).unwrap_or((&path, ""));
        Template::new(before, after)
    }
}

impl Setting for QuotaPath {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let sound = is_path(&text, node, faults);
        let rest = text.replacen(Self::TENANT, "", 1).replacen(Self::QUOTA, "", 1);
        if !text.contains(Self::TENANT) {
            node.fault(faults, format!("needs the placeholder {}", Self::TENANT));
        } else if rest.contains(['{', '}']) {
            node.fault(faults, format!("has another placeholder than one {} and one {}", Self::TENANT, Self::QUOTA));
        } else {
            return sound.then_some(Self(text));
        }
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^/[^#\s]*\{tenantId\}[^#\s]*$"})
    }
}

/// The quotas: no two of one name.
#[derive(Debug, Clone, Default)]
pub struct Quotas(pub Vec<Quota>);

impl Setting for Quotas {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let quotas = Vec::<Quota>::read(node, faults)?;
        let mut sound = true;
        for (index, quota) in quotas.iter().enumerate() {
            if quotas.iter().take(index).any(|earlier| earlier.quota_key == quota.quota_key) {
                node.fault(faults, format!("{} is the quotaKey of two quotas", quota.quota_key));
                sound = false;
            }
            if let Some(why) =
                std::iter::once(quota.limit).chain(quota.plans.iter()).find_map(|given| quota.misfit(given))
            {
                node.fault(faults, format!("{}: a limit {why}", quota.quota_key));
                sound = false;
            }
        }
        sound.then_some(Self(quotas))
    }

    fn schema() -> Value {
        Vec::<Quota>::schema()
    }
}

choice! {
    /// Which headers tell a client of its quotas.
    pub enum RateLimitStyle as "style" {
        /// RateLimit and RateLimit-Policy, as the IETF's draft has them.
        Draft = "draft",
        /// X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset, of the quota that is nearest to its limit.
        Legacy = "legacy",
        /// None.
        Off = "off",
    }
}

choice! {
    /// Which responses have those headers.
    pub enum RateLimitWhen as "when" {
        /// Those that a quota refuses.
        Refused = "refused",
        /// All to requests that a quota counts.
        All = "all",
    }
}

settings! {
    /// What responses tell a client of its quotas.
    pub struct RateLimitHeaders {
        /// Which headers they have.
        default "style" => style: RateLimitStyle = RateLimitStyle::Draft,
        /// Which responses have them.
        default "when" => when: RateLimitWhen = RateLimitWhen::Refused,
    }
}

impl RateLimitHeaders {
    /// Whether responses to requests that pass have them too.
    pub fn tells_all(&self) -> bool {
        self.when == RateLimitWhen::All && self.style != RateLimitStyle::Off
    }
}

impl Default for RateLimitHeaders {
    fn default() -> Self {
        Self { style: RateLimitStyle::Draft, when: RateLimitWhen::Refused }
    }
}
