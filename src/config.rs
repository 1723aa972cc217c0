//! The plugin's configuration: JSON or a `Struct` → [`Config`], or every fault with its path.
//!
//! The names are those of the manual. A [`Config`] can't be wrong: whatever the filter could trip over later is a fault
//! here, and a faulty configuration is refused whole.

mod callout;
mod fields;
pub(crate) mod json;
mod jwt;
pub(crate) mod protobuf;
mod quota;
pub(crate) mod reader;
mod websocket;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

pub use self::callout::{CustomResolver, DomainLookup, LookupTenant, OnError, SnapshotSettings, Source, Template};
pub use self::fields::{Field, Forward, HeaderName, Label, PathPattern, PathPrefix};
pub use self::jwt::{Algorithm, ClaimName, Jwks, Jwt, RemoteJwks, SecretSource, TokenFrom};
use self::quota::Plans;
pub use self::quota::{
    Allowance, CheckUsage, Cost, Count, Counted, Lease, MOST_UNITS, Mode, Period, Quota, Quotas, RateLimit,
    RateLimitHeaders, RateLimitStyle, RateLimitWhen,
};
pub use self::reader::{Fault, Faults};
use self::reader::{Node, OneOrMany, Setting, choice, settings, unknown};
pub use self::websocket::{AuthMessage, WebSocket};
use crate::request::HostName;
use crate::tenant::{Identifier, Status, Tenant};

settings! {
    /// The configuration of the tenancy filter: which tenant a request belongs to, and who knows the tenants.
    pub struct Config {
        /// How the data of tenants is kept apart, and how a request names its tenant.
        required "isolation" => isolation: Isolation,
        /// Tenants known without asking anyone. They win over the directory service.
        default "tenants" => tenants: Tenants = Tenants::default(),
        /// The directory service that knows the tenants.
        optional "lookupTenant" => lookup_tenant: LookupTenant,
        /// Which headers the service receives: header → field of the tenant.
        default "forward" => forward: Forward = Forward::default(),
        /// Limits to what each tenant may use. All of them hold at once.
        default "quotas" => quotas: Quotas = Quotas::default(),
        /// What responses tell a client of its quotas.
        default "rateLimitHeaders" => rate_limit_headers: RateLimitHeaders = RateLimitHeaders::default(),
        /// What the access log can tell of a request, each as filter state wasm.tenant_…; an empty list for nothing.
        default "logFields" => log_fields: Vec<LogField> = LogField::ALL.to_vec(),
        /// What holds for WebSocket connections.
        default "websocket" => websocket: WebSocket = WebSocket::default(),
    }
    check(section) {
        let no_tenants = tenants.as_ref().is_some_and(|tenants| tenants.0.is_empty());
        let by_domain_alone = isolation.as_ref().is_some_and(|isolation| isolation.resolution.0 == [Resolution::CustomDomain]);
        if no_tenants && !section.has("lookupTenant") && !by_domain_alone {
            section.fault_here("no directory of any kind: give lookupTenant, or at least one of tenants");
        }
        let by_message = websocket.as_ref().is_some_and(|websocket| websocket.auth_message == AuthMessage::Required);
        let verifies = |isolation: &Isolation| {
            let by_metadata = isolation.jwt.as_ref().is_none_or(|jwt| jwt.envoy_metadata.is_some());
            isolation.uses(Resolution::Jwt) && !by_metadata
        };
        if by_message && isolation.as_ref().is_some_and(|isolation| !verifies(isolation)) {
            section.fault(
                "websocket",
                "its authMessage needs the strategy jwt, with keys or a secret: the token is verified here",
            );
        }
        for (quota, tenant) in misfits(quotas.as_ref(), tenants.as_ref()) {
            section.fault("tenants", format!("{tenant}: its limit of {quota} has a period that the quota can't have"));
        }
    }
}

/// Inline tenants whose own limits don't go with a quota; a directory's are met when they come.
fn misfits<'c>(quotas: Option<&'c Quotas>, tenants: Option<&'c Tenants>) -> Vec<(&'c Identifier, &'c Identifier)> {
    let (Some(quotas), Some(tenants)) = (quotas, tenants) else { return Vec::new() };
    let pairs = quotas.0.iter().flat_map(|quota| tenants.0.iter().map(move |tenant| (quota, tenant)));
    pairs
        .filter(|(quota, tenant)| quota.own_limit(tenant).flatten().is_some_and(|own| quota.misfit(own).is_some()))
        .map(|(quota, tenant)| (&quota.quota_key, &tenant.id))
        .collect()
}

choice! {
    /// What the access log can tell of a request.
    pub enum LogField as "log field" {
        /// The tenant's id.
        Id = "id",
        /// Its slug, where it has one.
        Slug = "slug",
        /// Its plan, where it has one.
        Plan = "plan",
        /// Why the request went on, or didn't.
        Decision = "decision",
    }
}

impl LogField {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Id, Self::Slug, Self::Plan, Self::Decision];

    /// The property that Envoy keeps as filter state, with `wasm.` before it.
    pub const fn property(self) -> &'static str {
        match self {
            Self::Id => "tenant_id",
            Self::Slug => "tenant_slug",
            Self::Plan => "tenant_plan",
            Self::Decision => "tenant_decision",
        }
    }
}

choice! {
    /// How the data of tenants is kept apart: the seed's `IsolationConfig.strategy`.
    pub enum DataModel as "strategy" {
        /// Shared tables.
        Shared = "shared",
        /// A schema for each tenant.
        Schema = "schema",
        /// A database for each tenant.
        Database = "database",
        /// Each tenant names its own.
        Hybrid = "hybrid",
    }
}

choice! {
    /// A way in which a request names its tenant: the seed's resolution strategies.
    pub enum Resolution as "resolution strategy" {
        /// `acme.app.example.com` under a base domain.
        Subdomain = "subdomain",
        /// A tenant's own domain, looked up in the directory.
        CustomDomain = "custom_domain" | "custom-domain",
        /// `/t/acme/…` behind a prefix.
        Path = "path",
        /// A header's value.
        Header = "header",
        /// A query parameter's value.
        Query = "query",
        /// A claim of a verified token.
        Jwt = "jwt",
        /// A service of the team's own.
        Custom = "custom",
    }
}

choice! {
    /// What several strategies have to do with each other.
    pub enum Agreement as "agreement" {
        /// All that answer must name one tenant.
        Consistent = "consistent",
        /// Every one listed must answer, and name it.
        Unanimous = "unanimous",
        /// The first answer wins.
        First = "first",
    }
}

settings! {
    /// How tenants are kept apart, and how a request names its tenant.
    pub struct Isolation {
        /// The data model, for the service: shared, schema, database, or hybrid (then each tenant names its own).
        default "strategy" => strategy: DataModel = DataModel::Shared,
        /// How a request names its tenant: one strategy, or several in order.
        required "resolution" => resolution: Resolutions,
        /// What several strategies have to do with each other.
        default "agreement" => agreement: Agreement = Agreement::Consistent,
        /// subdomain: the domain, or domains, under which each tenant has a label.
        default "baseDomain" => base_domain: OneOrMany<HostName> = OneOrMany(Vec::new()),
        /// subdomain: labels that are never a tenant.
        default "reservedSubdomains" => reserved_subdomains: Vec<Label> = Vec::new(),
        /// path: what stands before the tenant's segment.
        default "pathPrefix" => path_prefix: PathPrefix = PathPrefix("/t".to_owned()),
        /// path: whether the service sees the path without prefix and tenant, and X-Forwarded-Prefix instead.
        default "stripPath" => strip_path: bool = false,
        /// header: the header that names the tenant. A client's own never reaches the service.
        default "headerName" => header_name: HeaderName = HeaderName::x("x-tenant-id"),
        /// query: the parameter that names the tenant.
        default "queryParam" => query_param: String = "tenant".to_owned(),
        /// query: whether the service sees the query without that parameter.
        default "stripQuery" => strip_query: bool = false,
        /// jwt: how a token is verified, and where it is.
        optional "jwt" => jwt: Jwt,
        /// jwt: the claim that names the tenant: its name, or a JSON Pointer for a nested one.
        default "jwtClaim" => jwt_claim: ClaimName = ClaimName::default(),
        /// custom_domain: the service that knows which tenant a domain belongs to.
        optional "domainLookup" => domain_lookup: DomainLookup,
        /// custom: the team's own resolver.
        optional "customResolver" => custom_resolver: CustomResolver,
        /// Whether a request must name a tenant. If not, one that names none passes, without tenant headers.
        default "required" => required: bool = true,
        /// Paths that belong to no tenant: whole paths, or with /* at the end all below.
        default "exclude" => exclude: Vec<PathPattern> = Vec::new(),
    }
    check(section) {
        let listed = |strategy: Resolution| resolution.as_ref().is_some_and(|list| list.0.contains(&strategy));
        if listed(Resolution::Subdomain) && !section.has("baseDomain") {
            section.fault("baseDomain", "is missing: the strategy subdomain needs it");
        }
        if listed(Resolution::CustomDomain) && !section.has("domainLookup") {
            section.fault("domainLookup", "is missing: the strategy custom_domain needs it");
        }
        if listed(Resolution::Jwt) && !section.has("jwt") {
            section.fault("jwt", "is missing: the strategy jwt needs it");
        }
        if listed(Resolution::Custom) && !section.has("customResolver") {
            section.fault("customResolver", "is missing: the strategy custom needs it");
        }
        let unanimous = agreement == Some(Agreement::Unanimous);
        if unanimous && listed(Resolution::Subdomain) && listed(Resolution::CustomDomain) {
            section.fault(
                "agreement",
                "unanimous would refuse every request: no host is under a baseDomain and a custom domain at once",
            );
        }
    }
}

impl Isolation {
    /// Whether a strategy is listed.
    pub fn uses(&self, strategy: Resolution) -> bool {
        self.resolution.0.contains(&strategy)
    }

    /// Whether the service sees the path without prefix and tenant.
    pub fn strips_path(&self) -> bool {
        self.strip_path && self.uses(Resolution::Path)
    }

    /// Whether no other strategy can stand in for a token.
    pub fn needs_token(&self) -> bool {
        self.resolution.0 == [Resolution::Jwt] || (self.uses(Resolution::Jwt) && self.agreement == Agreement::Unanimous)
    }
}

/// The strategies, in order: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolutions(pub Vec<Resolution>);

impl Setting for Resolutions {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let OneOrMany(list) = OneOrMany::<Resolution>::read(node, faults)?;
        let mut sound = true;
        for (index, strategy) in list.iter().enumerate() {
            let name = strategy.as_str();
            if list.iter().take(index).any(|earlier| earlier == strategy) {
                node.fault(faults, format!("{name} is listed twice"));
                sound = false;
            }
        }
        sound.then_some(Self(list))
    }

    fn schema() -> Value {
        let mut schema = OneOrMany::<Resolution>::schema();
        if let Some(list) = schema.pointer_mut("/anyOf/1").and_then(Value::as_object_mut) {
            list.insert("uniqueItems".to_owned(), Value::Bool(true));
        }
        schema
    }
}

/// The inline directory: tenants whose ids and slugs are all different.
#[derive(Debug, Clone, Default)]
pub struct Tenants(pub Vec<Tenant>);

impl Setting for Tenants {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let read = Vec::<InlineTenant>::read(node, faults);
        let records = node.value.as_array()?;
        let tenants: Vec<Tenant> = records.iter().filter_map(|record| Tenant::parse(record.clone()).ok()).collect();
        let mut owners: HashMap<&Identifier, usize> = HashMap::new();
        let mut sound = true;
        for (index, tenant) in tenants.iter().enumerate() {
            for name in std::iter::once(&tenant.id).chain(&tenant.slug) {
                if owners.insert(name, index).is_some_and(|owner| owner != index) {
                    node.fault(faults, format!("{name} is the id or slug of two tenants"));
                    sound = false;
                }
            }
        }
        (sound && read.is_some()).then_some(Self(tenants))
    }

    fn schema() -> Value {
        Vec::<InlineTenant>::schema()
    }
}

impl Setting for Status {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Some(name) = node.value.as_str() else {
            node.wrong_type(faults, "a status");
            return None;
        };
        let status = Self::parse(name);
        if status.is_none() {
            node.fault(faults, unknown("status", name, &Self::NAMES));
        }
        status
    }

    fn schema() -> Value {
        json!({"enum": Self::NAMES})
    }
}

settings! {
    /// A tenant, as the directory would describe it. The record itself is read by [`Tenant::parse`], like the directory's;
    /// this form of it is strict, so that a misspelt key in the configuration is a fault.
    pub struct InlineTenant {
        /// Its one name that never changes: 1 to 128 characters of A-Z a-z 0-9 . _ -
        required "id" => id: Identifier,
        /// Its name in addresses.
        optional "slug" => slug: Identifier,
        /// Whether it may be served.
        optional "status" => status: Status,
        /// What else is known of it; plan is forwarded by default.
        optional "metadata" => metadata: Map<String, Value>,
        /// Its own data model, with schema or database names.
        optional "isolation" => isolation: Map<String, Value>,
        /// Its own limits, by quotaKey: a number, {limit, period}, or null for no limit.
        default "quotas" => quotas: Plans = Plans::default(),
    }
}

impl Setting for Identifier {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let identifier = node.value.as_str().and_then(|text| Identifier::parse(text.as_bytes()));
        if identifier.is_none() {
            node.wrong_type(faults, "an identifier (1 to 128 characters of A-Z a-z 0-9 . _ -, not . or ..)");
        }
        identifier
    }

    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$",
        })
    }
}

impl Setting for Map<String, Value> {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let map = node.value.as_object();
        if map.is_none() {
            node.wrong_type(faults, "an object");
        }
        map.cloned()
    }

    fn schema() -> Value {
        json!({"type": "object"})
    }
}

impl Config {
    /// Reads the plugin's configuration as Envoy hands it over: JSON text from a `StringValue` or `BytesValue`, or a
    /// `Struct` or `TypedStruct` in protobuf's wire format. All of them mean the same. The error holds every fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Faults> {
        Self::from_value(&tree(bytes)?)
    }

    /// Reads a configuration that is a JSON tree already.
    pub fn from_value(value: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        match Self::read(&Node::root(value), &mut faults) {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// The JSON Schema of the whole.
    pub fn json_schema() -> Value {
        let mut schema = Self::schema();
        if let Some(map) = schema.as_object_mut() {
            map.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
            map.insert("title".to_owned(), "envoy-tenancy".into());
        }
        schema
    }
}

/// Reads settings of a test, which are sound.
#[cfg(test)]
pub(crate) fn from_json<T: Setting>(value: &Value) -> T {
    let mut faults = Faults::default();
    let settings = T::read(&Node::root(value), &mut faults);
    settings.filter(|_| faults.is_empty()).unwrap_or_else(|| panic!("{faults}"))
}

fn tree(bytes: &[u8]) -> Result<Value, Faults> {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Err(Faults::whole("the configuration is empty: give at least isolation and tenants or lookupTenant"));
    }
    // A newline is also the first byte of every Struct. But an entry of a Struct holds the byte 0x12, which JSON text never
    // holds, so at most one of the two readings succeeds.
    json::read(bytes).or_else(|error| {
        protobuf::read(bytes).ok_or_else(|| {
            Faults::whole(if text.starts_with(b"{") {
                format!("the configuration is not JSON: {error}")
            } else {
                "the configuration is neither a JSON object nor a google.protobuf.Struct: give a StringValue or BytesValue \
                 with JSON text, a Struct, or a TypedStruct"
                    .to_owned()
            })
        })
    })
}
