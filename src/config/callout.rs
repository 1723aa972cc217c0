//! Settings of the services that the filter asks by callout.

use std::time::Duration;

use serde_json::{Value, json};

use super::fields::HeaderName;
use super::reader::{Faults, Node, Setting, Whole, choice, settings};

/// A time in milliseconds that a callout may take: at least 1, because Envoy waits for ever on 0.
pub(super) type TimeoutMs = Whole<1, 60_000>;
/// An age in seconds, at most a day.
type AgeSeconds = Whole<0, 86_400>;

choice! {
    /// What a request gets when nobody can say which tenant it belongs to.
    pub enum OnError as "onError" {
        /// 503.
        Deny = "deny",
        /// It passes without tenant headers.
        Allow = "allow",
    }
}

settings! {
    /// The directory service: `GET path` gives a tenant, or 404.
    pub struct LookupTenant {
        /// The Envoy cluster to ask.
        required "cluster" => cluster: String,
        /// The path to ask for, with {tenantId} where the identifier goes.
        required "path" => path: TenantPath,
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// Seconds after which an answer must be asked again.
        default "cacheSeconds" => cache_seconds: AgeSeconds = Whole(60),
        /// Seconds more that an answer may serve while the directory gives none.
        default "staleSeconds" => stale_seconds: AgeSeconds = Whole(300),
        /// Seconds for which an unknown tenant stays unknown.
        default "negativeSeconds" => negative_seconds: AgeSeconds = Whole(5),
        /// How many callouts a worker may have under way; a lookup beyond that is refused with 503.
        default "maxInFlight" => max_in_flight: Whole<1, 100_000> = Whole(64),
        /// What a request gets when the directory gives no answer and nothing held may serve.
        default "onError" => on_error: OnError = OnError::Deny,
        /// Holds the whole directory, so that an unknown tenant needs no callout.
        optional "snapshot" => snapshot: SnapshotSettings,
    }
    check(section) {
        let (every, kept) = (snapshot.as_ref().and_then(Option::as_ref), cache_seconds.as_ref());
        if let (Some(every), Some(kept)) = (every, kept) && every.interval_seconds.0 >= kept.0 {
            section.fault("snapshot", "its intervalSeconds must be less than cacheSeconds, or what it holds is too old between two reads");
        }
    }
}

settings! {
    /// The whole directory: `GET path?after=CURSOR` gives `{"tenants":[…],"next":CURSOR|null,"latest":CURSOR}`.
    pub struct SnapshotSettings {
        /// The path to ask for.
        required "path" => path: PlainPath,
        /// Seconds after which what has changed is asked for.
        default "intervalSeconds" => interval_seconds: Whole<1, 86_400> = Whole(30),
    }
}

impl SnapshotSettings {
    /// After which time what has changed is asked for.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds.0)
    }
}

settings! {
    /// The service that knows whose domain a host is: `GET path` gives `{"tenantId":"acme"}` or a tenant, or 404.
    pub struct DomainLookup {
        /// The Envoy cluster to ask.
        required "cluster" => cluster: String,
        /// The path to ask for, with {domain} where the host name goes.
        required "path" => path: DomainPath,
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// Seconds after which an answer must be asked again.
        default "cacheSeconds" => cache_seconds: AgeSeconds = Whole(60),
        /// Seconds more that an answer may serve while the service gives none.
        default "staleSeconds" => stale_seconds: AgeSeconds = Whole(300),
        /// Seconds for which a domain that is nobody's stays nobody's.
        default "negativeSeconds" => negative_seconds: AgeSeconds = Whole(5),
        /// How many callouts a worker may have under way; a lookup beyond that is refused with 503.
        default "maxInFlight" => max_in_flight: Whole<1, 100_000> = Whole(64),
        /// What a request gets when the service gives no answer and nothing held may serve.
        default "onError" => on_error: OnError = OnError::Deny,
    }
}

settings! {
    /// The team's own resolver: a POST of the request's method, authority, path and listed headers gives
    /// `{"tenantId":"acme"}`, or 404 or `{"tenantId":null}` for none.
    pub struct CustomResolver {
        /// The Envoy cluster to ask.
        required "cluster" => cluster: String,
        /// The path to ask for.
        required "path" => path: PlainPath,
        /// The request's headers that it is told of. No other header ever reaches it.
        default "headers" => headers: Vec<HeaderName> = Vec::new(),
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: TimeoutMs = Whole(500),
        /// Seconds for which an answer holds for every request with the same values of those headers. Left out, every request
        /// is a question of its own.
        optional "cacheSeconds" => cache_seconds: AgeSeconds,
        /// Seconds more that an answer may serve while the resolver gives none; only with cacheSeconds.
        default "staleSeconds" => stale_seconds: AgeSeconds = Whole(300),
        /// Seconds for which "none" holds; only with cacheSeconds.
        default "negativeSeconds" => negative_seconds: AgeSeconds = Whole(5),
        /// How many callouts a worker may have under way; a question beyond that is refused with 503.
        default "maxInFlight" => max_in_flight: Whole<1, 100_000> = Whole(64),
        /// What a request gets when the resolver gives no answer and nothing held may serve.
        default "onError" => on_error: OnError = OnError::Deny,
    }
    check(section) {
        if !section.has("cacheSeconds") {
            for key in ["staleSeconds", "negativeSeconds"] {
                if section.has(key) {
                    section.fault(key, "means nothing without cacheSeconds");
                }
            }
        }
        if section.has("cacheSeconds") && headers.as_ref().is_some_and(Vec::is_empty) {
            section.fault("cacheSeconds", "would give every request the first one's tenant: list the headers that tell them apart");
        }
    }
}

/// A service that turns a name into an answer, whichever kind of name it is.
#[derive(Debug, Clone)]
pub struct Source {
    /// The Envoy cluster to ask.
    pub cluster: String,
    /// The path to ask for.
    pub path: Template,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The age after which an answer must be asked again.
    pub cache: Duration,
    /// How much older an answer may serve while the service gives none.
    pub stale: Duration,
    /// How long "does not exist" holds.
    pub negative: Duration,
    /// How many callouts a worker may have under way.
    pub max_in_flight: usize,
    /// What a request gets when there is no answer.
    pub on_error: OnError,
}

macro_rules! source {
    ($settings:ident) => {
        impl From<&$settings> for Source {
            fn from(from: &$settings) -> Self {
                Self {
                    cluster: from.cluster.clone(),
                    path: from.path.0.clone(),
                    timeout: Duration::from_millis(from.timeout_ms.0),
                    cache: Duration::from_secs(from.cache_seconds.0),
                    stale: Duration::from_secs(from.stale_seconds.0),
                    negative: Duration::from_secs(from.negative_seconds.0),
                    max_in_flight: usize::try_from(from.max_in_flight.0).unwrap_or(usize::MAX),
                    on_error: from.on_error,
                }
            }
        }
    };
}
source!(LookupTenant);
source!(DomainLookup);

impl From<&CustomResolver> for Source {
    fn from(from: &CustomResolver) -> Self {
        // Without an age, every answer is too old as soon as it is here.
        let cached = |seconds: u64| Duration::from_secs(if from.cache_seconds.is_some() { seconds } else { 0 });
        Self {
            cluster: from.cluster.clone(),
            path: Template::new(&from.path.0, ""),
            timeout: Duration::from_millis(from.timeout_ms.0),
            cache: cached(from.cache_seconds.map_or(0, |seconds| seconds.0)),
            stale: cached(from.stale_seconds.0),
            negative: cached(from.negative_seconds.0),
            max_in_flight: usize::try_from(from.max_in_flight.0).unwrap_or(usize::MAX),
            on_error: from.on_error,
        }
    }
}

/// A path with one placeholder, cut at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
}

impl Template {
    /// A path by what stands before and after the placeholder.
    pub(super) fn new(before: &str, after: &str) -> Self {
        Self { before: before.to_owned(), after: after.to_owned() }
    }

    /// The path with a name in the placeholder's place. Names are made of characters that a path carries as they are.
    pub fn fill(&self, name: &str) -> String {
        [&self.before, name, &self.after].concat()
    }

    fn read(node: &Node<'_>, faults: &mut Faults, placeholder: &str) -> Option<Self> {
        let text = String::read(node, faults)?;
        let sound = is_path(&text, node, faults);
        match text.split_once(placeholder) {
            Some((before, after)) if !before.contains(['{', '}']) && !after.contains(['{', '}']) => {
                return sound.then(|| Self::new(before, after));
            }
            Some(_) => node.fault(faults, format!("has another placeholder than one {placeholder}")),
            None => node.fault(faults, format!("needs the placeholder {placeholder}")),
        }
        None
    }
}

pub(super) fn is_path(text: &str, node: &Node<'_>, faults: &mut Faults) -> bool {
    let mut sound = true;
    if !text.starts_with('/') {
        node.fault(faults, "must start with /");
        sound = false;
    }
    if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'#') {
        node.fault(faults, "holds a character that a path can't: escape it with %");
        sound = false;
    }
    sound
}

/// A path that is asked for as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPath(pub String);

impl Setting for PlainPath {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        is_path(&text, node, faults).then_some(Self(text))
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^/[^#\s]*$"})
    }
}

macro_rules! path_with {
    ($(#[doc = $doc:expr])* $name:ident, $placeholder:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub Template);

        impl Setting for $name {
            fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
                Template::read(node, faults, $placeholder).map(Self)
            }

            fn schema() -> Value {
                let name = $placeholder.trim_matches(['{', '}']);
                json!({"type": "string", "pattern": format!(r"^/[^{{}}#\s]*\{{{name}\}}[^{{}}#\s]*$|^\{{{name}\}}$")})
            }
        }
    };
}
path_with!(
    /// A path with `{tenantId}`.
    TenantPath,
    "{tenantId}"
);
path_with!(
    /// A path with `{domain}`.
    DomainPath,
    "{domain}"
);
