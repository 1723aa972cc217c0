//! Single values of the configuration that have a form of their own.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::reader::{Faults, Node, Setting, quote, unknown};
use crate::request::{HostName, Target};
use crate::tenant::Tenant;

impl Setting for HostName {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let name = node.value.as_str().and_then(|text| HostName::parse(text.as_bytes()));
        if name.is_none() {
            node.wrong_type(faults, "a domain name, without a port (app.example.com)");
        }
        name
    }

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1, "pattern": "^[^:/\\s]+$"})
    }
}

/// One label of a host name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub String);

impl Setting for Label {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        // An x in front keeps a label of digits from being taken for an IP address.
        let label = node.value.as_str().filter(|text| !text.is_empty() && !text.contains('.'));
        let name = label.and_then(|text| HostName::parse(format!("{text}.x").as_bytes()));
        match name.as_ref().and_then(|name| name.as_str().strip_suffix(".x")) {
            Some(label) => Some(Self(label.to_owned())),
            None => {
                node.wrong_type(faults, "one label of a host name (www)");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[^.:/\\s]+$"})
    }
}

/// The name of a header, in lower case, as Envoy has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(Rc<str>);

impl HeaderName {
    /// A name of our own, known to be sound.
    pub(super) fn x(name: &'static str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text that can be kept.
    pub fn text(&self) -> Rc<str> {
        Rc::clone(&self.0)
    }

    /// Why a header can't be read or set by a tenancy filter.
    fn fault(name: &str) -> Option<&'static str> {
        const FRAMING: [&str; 9] = [
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
            Some("is not the name of a header")
        } else if FRAMING.contains(&name) {
            Some("is a header that says how the message is sent, and can't carry a tenant")
        } else {
            None
        }
    }

    /// Reads a name; the error says why it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.to_ascii_lowercase();
        Self::fault(&name).map_or(Ok(Self(name.into())), Err)
    }
}

impl Setting for HeaderName {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        match Self::parse(&String::read(node, faults)?) {
            Ok(name) => Some(name),
            Err(why) => {
                node.fault(faults, why);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$"})
    }
}

/// What stands before the tenant's segment in a path: `/t`, or nothing (written `/`) where the first segment is the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(pub String);

impl Setting for PathPrefix {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_graphic() && !b"%?#\\".contains(&b))
        };
        match text.strip_prefix('/') {
            Some("") => Some(Self(String::new())),
            Some(segments) if segments.split('/').all(plain) => Some(Self(text)),
            _ => {
                node.fault(
                    faults,
                    "must be a path like /t or /api/tenants, without a slash at the end, escapes or dot segments",
                );
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^/([^/%?#\\\\\\s]+(/[^/%?#\\\\\\s]+)*)?$"})
    }
}

/// A path, or with `/*` at the end all below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    path: String,
    below: bool,
}

impl PathPattern {
    /// The pattern that covers every path which no server could resolve to another one.
    pub fn everything() -> Self {
        Self { path: String::new(), below: true }
    }

    /// Whether it covers a request's path. One that a server could resolve to another path is covered only by a pattern that names
    /// it whole, because what is covered may reach the service without a tenant, or without a token.
    pub fn covers(&self, target: &Target<'_>) -> bool {
        match target.path.strip_prefix(self.path.as_bytes()) {
            Some(rest) if self.below => rest.first() == Some(&b'/') && !target.climbs(),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

impl Setting for PathPattern {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let (path, below) = text.strip_suffix("/*").map_or((text.as_str(), false), |path| (path, true));
        let rooted = path.starts_with('/') || (path.is_empty() && below);
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"*?#\\".contains(&b));
        if !rooted || !plain || Target::of(path.as_bytes()).climbs() {
            node.fault(
                faults,
                "must be a path like /healthz, or /assets/* for all below, with no other *, query or dot segments",
            );
            return None;
        }
        Some(Self { path: path.to_owned(), below })
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^/([^*?#\\\\\\s]*|([^*?#\\\\\\s]*/)?\\*)$"})
    }
}

/// Which field of the tenant a header carries: `metadata.plan`, or as a JSON Pointer `/metadata/plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(Vec<String>);

impl Field {
    const ROOTS: [&str; 6] = ["id", "slug", "status", "metadata", "quotas", "isolation"];

    /// The field of a tenant, where it has it.
    pub fn of<'t>(&self, tenant: &'t Tenant) -> Option<&'t Value> {
        let mut segments = self.0.iter();
        let first = tenant.record.get(segments.next()?)?;
        let found = segments.try_fold(first, |value, segment| match value {
            Value::Object(map) => map.get(segment),
            Value::Array(list) => segment.parse().ok().and_then(|index: usize| list.get(index)),
            _ => None,
        })?;
        (!found.is_null()).then_some(found)
    }

    /// Whether it is the data model, which the configuration gives where tenants don't name their own.
    pub fn is_data_model(&self) -> bool {
        self.0 == ["isolation", "strategy"]
    }

    /// Whether it is the status, which is `active` where the record doesn't say.
    pub fn is_status(&self) -> bool {
        self.0 == ["status"]
    }

    fn from_dotted(path: &str) -> Self {
        Self(path.split('.').map(str::to_owned).collect())
    }
}

impl Setting for Field {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let field = match text.strip_prefix('/') {
            Some(pointer) => Self(pointer.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect()),
            None => Self::from_dotted(&text),
        };
        let root = field.0.first().map(String::as_str).unwrap_or_default();
        if !Self::ROOTS.contains(&root) {
            node.fault(faults, unknown("field of a tenant", root, &Self::ROOTS));
            return None;
        }
        if field.0.iter().any(String::is_empty) {
            node.fault(faults, format!("{} has an empty part", quote(&text)));
            return None;
        }
        Some(field)
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^/?(id|slug|status|metadata|quotas|isolation)([./].+)?$"})
    }
}

/// Which headers the service receives, and which field of the tenant each carries.
#[derive(Debug, Clone)]
pub struct Forward(pub Vec<(HeaderName, Field)>);

impl Default for Forward {
    fn default() -> Self {
        let pair = |header, field| (HeaderName::x(header), Field::from_dotted(field));
        Self(vec![
            pair("x-tenant-id", "id"),
            pair("x-tenant-slug", "slug"),
            pair("x-tenant-plan", "metadata.plan"),
            pair("x-tenant-isolation", "isolation.strategy"),
        ])
    }
}

impl Setting for Forward {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let map = <Map<String, Value>>::read(node, faults)?;
        let mut pairs: Vec<(HeaderName, Field)> = Vec::new();
        let mut sound = true;
        for (key, value) in node.value.as_object().into_iter().flatten() {
            let child = node.child(key, value);
            let field = Field::read(&child, faults);
            match HeaderName::parse(key) {
                Err(why) => child.fault(faults, format!("{} {why}", quote(key))),
                Ok(name) if pairs.iter().any(|(other, _)| *other == name) => {
                    child.fault(
                        faults,
                        format!("{} is given twice: case doesn't matter in a header's name", quote(key)),
                    );
                    sound = false;
                }
                Ok(name) => pairs.extend(field.map(|field| (name, field))),
            }
        }
        (sound && pairs.len() == map.len()).then_some(Self(pairs))
    }

    fn schema() -> Value {
        json!({"type": "object", "propertyNames": HeaderName::schema(), "additionalProperties": Field::schema()})
    }
}
