//! A tenant as the directory describes it, and the identifiers that lead to it.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use serde_json::{Map, Value};

/// What may name a tenant: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`.
///
/// Nothing else ever reaches a callout's path, a log line or a metric, so all of them can take an identifier as it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identifier(Rc<str>);

impl Identifier {
    /// The longest identifier, in characters.
    pub const MAX: usize = 128;

    /// Reads an identifier from what a client or a directory sent; `None` if it isn't one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > Self::MAX || !text.iter().all(allowed) || matches!(text, b"." | b"..") {
            return None;
        }
        std::str::from_utf8(text).ok().map(|text| Self(text.into()))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Whether a tenant may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may; also where the directory doesn't say.
    Active,
    /// It may not for now: unpaid, or under review.
    Suspended,
    /// It may not: not yet set up, or closed.
    Inactive,
}

impl Status {
    /// The names, as the directory gives them.
    pub const NAMES: [&str; 3] = ["active", "suspended", "inactive"];

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "active" => Some(Self::Active),
            "suspended" => Some(Self::Suspended),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }
}

/// A header that requests of a tenant carry to the service: its name and value.
pub type ForwardedHeader = (Rc<str>, Rc<[u8]>);

/// A tenant: what the directory's record says, read once.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its one name that never changes.
    pub id: Identifier,
    /// Its name in addresses, if it has one beside the id.
    pub slug: Option<Identifier>,
    /// Whether it may be served.
    pub status: Status,
    /// Its plan as a header's value, for the log.
    pub plan_text: Option<Box<[u8]>>,
    /// The headers that its requests carry to the service. The filter makes them when the first one does: each request after it
    /// is spared a dozen allocations.
    pub forwarded: OnceCell<Box<[ForwardedHeader]>>,
    /// The whole record, for the fields that are forwarded.
    pub record: Map<String, Value>,
}

impl Tenant {
    /// Reads a tenant's record. The error says what is wrong with it, and repeats none of it.
    ///
    /// A field that isn't known is kept and does no harm: a directory may say more than the filter asks.
    pub fn parse(record: Value) -> Result<Self, &'static str> {
        let Value::Object(record) = record else { return Err("is not an object") };
        let identifier = |value: &Value| value.as_str().and_then(|text| Identifier::parse(text.as_bytes()));
        let id = match record.get("id") {
            None => return Err("has no id"),
            Some(id) => identifier(id).ok_or("has an id that is not an identifier")?,
        };
        let slug = match record.get("slug") {
            None | Some(Value::Null) => None,
            Some(slug) => Some(identifier(slug).ok_or("has a slug that is not an identifier")?),
        };
        let status = match record.get("status") {
            None | Some(Value::Null) => Status::Active,
            Some(status) => status.as_str().and_then(Status::parse).ok_or("has an unknown status")?,
        };
        for field in ["metadata", "quotas", "isolation"] {
            if !matches!(record.get(field), None | Some(Value::Null | Value::Object(_))) {
                return Err("has a metadata, quotas or isolation that is not an object");
            }
        }
        let plan_text = plan(&record).map(|plan| header_value(plan).into());
        Ok(Self { id, slug, status, plan_text, forwarded: OnceCell::new(), record })
    }

    /// Its plan, `metadata.plan`, if it has one.
    pub fn plan(&self) -> Option<&Value> {
        plan(&self.record)
    }

    /// Whether that name is one of this tenant's. Letters of either case are taken for the same here, because a directory
    /// that compares names without regard to case answers `Acme` to `acme`, and host names come in lower case.
    pub fn answers_to(&self, name: &Identifier) -> bool {
        let same = |own: &Identifier| own.as_str().eq_ignore_ascii_case(name.as_str());
        same(&self.id) || self.slug.as_ref().is_some_and(same)
    }
}

/// Everything else is made of the record.
impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

fn plan(record: &Map<String, Value>) -> Option<&Value> {
    record.get("metadata")?.get("plan").filter(|plan| !plan.is_null())
}

/// A field's value as a header carries it: text as it is, an object or a list as compact JSON.
///
/// What a header can't carry is percent-encoded: control characters, whatever isn't ASCII, and blanks at the ends, which
/// a header loses. So is `%` itself: only then does decoding always give back what was there.
pub fn header_value(value: &Value) -> Vec<u8> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let last = text.len().saturating_sub(1);
    let mut out = Vec::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let at_an_end = index == 0 || index == last;
        if matches!(byte, b'!'..=b'$' | b'&'..=b'~') || (byte == b' ' && !at_an_end) {
            out.push(byte);
        } else {
            out.extend(percent_encoding::percent_encode_byte(byte).bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_identifier_is_short_and_plain() {
        let longest = "a".repeat(128);
        for good in ["acme", "A", "0", "a.b_c-d", "...", "-", &longest] {
            assert!(Identifier::parse(good.as_bytes()).is_some(), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in ["", ".", "..", "a/b", "a b", "a%2f", "acmé", "a,b", "a\n", "a\0", "a:b", "a@b", &too_long] {
            assert!(Identifier::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(Identifier::parse(b"\xff\xfe").is_none());
    }

    #[test]
    fn a_record_is_a_tenant_or_says_what_is_wrong() {
        let good = [
            json!({"id": "acme"}),
            json!({"id": "acme", "slug": null, "status": null, "metadata": null}),
            json!({"id": "acme", "slug": "a", "status": "suspended", "metadata": {"plan": "pro"}, "region": 7}),
        ];
        for record in good {
            assert!(Tenant::parse(record.clone()).is_ok(), "{record}");
        }
        let bad = [
            (json!([]), "is not an object"),
            (json!("acme"), "is not an object"),
            (json!({}), "has no id"),
            (json!({"tenantId": "acme"}), "has no id"),
            (json!({"id": 7}), "has an id that is not an identifier"),
            (json!({"id": "a/b"}), "has an id that is not an identifier"),
            (json!({"id": "acme", "slug": ""}), "has a slug that is not an identifier"),
            (json!({"id": "acme", "status": "ACTIVE"}), "has an unknown status"),
            (json!({"id": "acme", "status": true}), "has an unknown status"),
            (json!({"id": "acme", "metadata": []}), "has a metadata, quotas or isolation that is not an object"),
        ];
        for (record, why) in bad {
            assert_eq!(Tenant::parse(record.clone()), Err(why), "{record}");
        }
    }

    #[test]
    fn a_tenant_answers_to_its_id_and_its_slug_alone() {
        let tenant = Tenant::parse(json!({"id": "t-1", "slug": "Acme"})).unwrap();
        let answers = |name: &str| tenant.answers_to(&Identifier::parse(name.as_bytes()).unwrap());
        assert!(answers("t-1") && answers("Acme") && answers("acme"));
        assert!(!answers("globex"));
    }
}
