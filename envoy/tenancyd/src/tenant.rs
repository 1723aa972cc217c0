//! A tenant's record: whoever holds a [`Tenant`] holds one that every reader can read.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::document::{Faults, Member, fault, free_object, identifier, members, text, word};
use crate::identifier::Identifier;

/// The record. It serialises to what was given, with `slug` and `status` filled in; what was absent stays absent.
#[derive(Debug, Serialize)]
pub struct Tenant {
    /// What names it for good.
    pub id: Identifier,
    /// What may name it too; its id unless it was given one.
    pub slug: Identifier,
    /// Whether its requests pass.
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_object")]
    quotas: Option<Vec<(Identifier, Quota)>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_object")]
    isolation: Option<Vec<(String, String)>>,
}

/// Whether a tenant's requests pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// They do.
    Active,
    /// For the time being they don't.
    Suspended,
    /// They don't.
    Inactive,
}

const STATUSES: &[(&str, Status)] =
    &[("active", Status::Active), ("suspended", Status::Suspended), ("inactive", Status::Inactive)];

/// A tenant's own limit of one quota, in the form in which it was given. No limit at all is null.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Quota {
    Plain(Option<u64>),
    Full {
        limit: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        period: Option<&'static str>,
    },
}

const PERIODS: &[(&str, &str)] = &[
    ("second", "second"),
    ("minute", "minute"),
    ("hour", "hour"),
    ("day", "day"),
    ("month", "month"),
    ("none", "none"),
];

const STRATEGIES: &[(&str, ())] = &[("shared", ()), ("schema", ()), ("database", ()), ("hybrid", ())];

const KEYS: &[&str] = &["id", "slug", "status", "metadata", "quotas", "isolation"];

impl Status {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Inactive => "inactive",
        }
    }

    /// The status that this value is.
    pub fn parse(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Self> {
        word(raw, path, STATUSES, faults)
    }
}

impl Tenant {
    /// The tenant that this value is, or every fault that it has. `named` is the id that something else already gave it.
    pub fn parse(raw: &RawValue, named: Option<&Identifier>, path: &str, faults: &mut Faults) -> Option<Self> {
        let before = faults.len();
        let mut given_id = None;
        let (mut slug, mut status, mut metadata, mut quotas, mut isolation) = (None, None, None, None, None);
        for member in members(raw, path, faults)? {
            let Member { key, path, value } = &member;
            match key.as_str() {
                "id" => given_id = Some((identifier(value, path, faults), path.clone())),
                "slug" => slug = identifier(value, path, faults),
                "status" => status = Status::parse(value, path, faults),
                "metadata" => metadata = free_object(value, path, faults),
                "quotas" => quotas = parse_quotas(value, path, faults),
                "isolation" => isolation = parse_isolation(value, path, faults),
                _ => member.unknown(KEYS, faults),
            }
        }
        let id = match (given_id, named) {
            (Some((Some(given), path)), Some(named)) if given != *named => {
                fault(faults, &path, format!("must be {:?}, the id in the path, or absent", named.as_str()));
                None
            }
            (Some((given, _)), None) => given,
            (_, Some(named)) => Some(named.clone()),
            (None, None) => {
                fault(faults, path, "id is missing");
                None
            }
        }?;
        (faults.len() == before).then(|| Self {
            slug: slug.unwrap_or_else(|| id.clone()),
            id,
            status: status.unwrap_or(Status::Active),
            metadata,
            quotas,
            isolation,
        })
    }
}

fn parse_quotas(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Vec<(Identifier, Quota)>> {
    let mut quotas = Vec::new();
    for Member { key, path, value } in members(raw, path, faults)? {
        let quota = match value.get().starts_with('{') {
            true => parse_full_quota(value, &path, faults),
            false => limit(value, &path, faults).map(Quota::Plain),
        };
        match (Identifier::parse(&key), quota) {
            (Some(key), Some(quota)) => quotas.push((key, quota)),
            (Some(_), None) => {}
            (None, _) => fault(faults, &path, format!("not a quota key, expected {}", Identifier::EXPECTED)),
        }
    }
    Some(quotas)
}

fn parse_full_quota(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Quota> {
    let (mut given_limit, mut period, mut has_limit) = (None, None, false);
    for member in members(raw, path, faults)? {
        let Member { key, path, value } = &member;
        match key.as_str() {
            "limit" => (given_limit, has_limit) = (limit(value, path, faults), true),
            "period" => period = word(value, path, PERIODS, faults),
            _ => member.unknown(&["limit", "period"], faults),
        }
    }
    if !has_limit {
        fault(faults, path, "limit is missing");
    }
    Some(Quota::Full { limit: given_limit?, period })
}

/// A limit; the inner nothing is null, which has none.
fn limit(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Option<u64>> {
    // 10000.0 and 1e4 are the same number to whoever knows numbers only as JSON has them.
    let limit =
        serde_json::from_str(raw.get()).ok().or_else(|| serde_json::from_str(raw.get()).ok().and_then(whole).map(Some));
    if limit.is_none() {
        fault(faults, path, format!("expected a whole number from 0 to {}, or null", u64::MAX));
    }
    limit
}

fn whole(number: f64) -> Option<u64> {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    // Exact: it is whole and within bounds.
    (number.fract() == 0.0 && (0.0..BEYOND).contains(&number)).then_some(number as u64)
}

fn parse_isolation(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    for Member { key, path, value } in members(raw, path, faults)? {
        if key == "strategy" && word(value, &path, STRATEGIES, faults).is_none() {
            continue;
        }
        if let Some(text) = text(value, &path, faults) {
            fields.push((key, text));
        }
    }
    Some(fields)
}

/// Pairs as an object, in their order.
fn as_object<K: Serialize, V: Serialize, S: Serializer>(
    pairs: &Option<Vec<(K, V)>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (key, value) in pairs.iter().flatten() {
        map.serialize_entry(key, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::document;

    fn parse(json: &str, named: Option<&str>) -> Result<String, Vec<String>> {
        let mut faults = Faults::new();
        let named = named.map(|id| Identifier::parse(id).unwrap());
        let tenant =
            document(json.as_bytes(), &mut faults).and_then(|raw| Tenant::parse(raw, named.as_ref(), "", &mut faults));
        match tenant {
            Some(tenant) => Ok(serde_json::to_string(&tenant).unwrap()),
            None => Err(faults.iter().map(|fault| fault.to_string()).collect()),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_given() {
        for json in [
            r#"{"id":"acme","slug":"acme","status":"active"}"#,
            r#"{"id":"acme","slug":"a-1","status":"suspended","metadata":{}}"#,
            r#"{"id":"acme","slug":"acme","status":"inactive","metadata":{"z":1,"a":{"n":123456789012345678901234567890}}}"#,
            r#"{"id":"a","slug":"a","status":"active","quotas":{"z":10000,"a":null,"f":{"limit":18446744073709551615},"p":{"limit":null,"period":"month"},"zero":0}}"#,
            r#"{"id":"a","slug":"a","status":"active","quotas":{},"isolation":{"strategy":"schema","schema":"t_acme","region":"eu"}}"#,
            r#"{"id":"a","slug":"a","status":"active","isolation":{}}"#,
        ] {
            assert_eq!(parse(json, None).as_deref(), Ok(json));
        }
    }

    #[test]
    fn slug_and_status_are_filled_in() {
        let filled = r#"{"id":"acme","slug":"acme","status":"active"}"#;
        assert_eq!(parse("{}", Some("acme")).as_deref(), Ok(filled));
        assert_eq!(parse(r#"{"id":"acme"}"#, None).as_deref(), Ok(filled));
    }

    #[test]
    fn a_whole_number_is_one_in_every_spelling() {
        for (given, kept) in [
            ("10000.0", "10000"),
            ("1e4", "10000"),
            ("-0.0", "0"),
            ("1.5e1", "15"),
            ("18446744073709549568.0", "18446744073709549568"),
        ] {
            let record = |limit| {
                format!(r#"{{"id":"a","slug":"a","status":"active","quotas":{{"x":{limit},"y":{{"limit":{limit}}}}}}}"#)
            };
            assert_eq!(parse(&record(given), None), Ok(record(kept)));
        }
        for bad in ["1.5", "-1.0", "1e-1", "18446744073709551616.0", "1e300"] {
            assert!(parse(&format!(r#"{{"quotas":{{"x":{bad}}}}}"#), Some("a")).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let check = |json: &str, named: Option<&str>, expected: &[&str]| {
            let faults = parse(json, named).unwrap_err();
            assert_eq!(faults.len(), expected.len(), "{json}: {faults:?}");
            for (fault, expected) in faults.iter().zip(expected) {
                assert!(fault.starts_with(expected), "{json}: {fault} is not {expected}");
            }
        };
        check("[]", None, &["expected an object, got a list"]);
        check("{", None, &["not JSON"]);
        check("{}", None, &["id is missing"]);
        check(r#"{"id":"b"}"#, Some("a"), &[r#"id: must be "a""#]);
        check(r#"{"id":7}"#, Some("a"), &["id: expected a string, got a number"]);
        check(
            r#"{"id":"a/b","slug":"..","status":"on","metadata":[],"quotas":[],"isolation":1,"plan":"pro"}"#,
            None,
            &[
                "id: not an identifier",
                "slug: not an identifier",
                r#"status: unknown value "on", expected one of active, suspended, inactive"#,
                "metadata: expected an object, got a list",
                "quotas: expected an object, got a list",
                "isolation: expected an object, got a number",
                "plan: unknown key, expected one of id, slug",
            ],
        );
        check(
            r#"{"quotas":{"a":-1,"b":1.5,"c":"1","d":18446744073709551616,"e":{},"f":{"limit":true,"period":"fortnight","x":1},"g h":1}}"#,
            Some("a"),
            &[
                "quotas.a: expected a whole number",
                "quotas.b: expected a whole number",
                "quotas.c: expected a whole number",
                "quotas.d: expected a whole number",
                "quotas.e: limit is missing",
                "quotas.f.limit: expected a whole number",
                r#"quotas.f.period: unknown value "fortnight""#,
                "quotas.f.x: unknown key, expected one of limit, period",
                r#"quotas["g h"]: not a quota key"#,
            ],
        );
        check(
            r#"{"isolation":{"strategy":"none","schema":1},"slug":null,"status":null,"metadata":null}"#,
            Some("a"),
            &[
                "isolation.strategy: unknown value",
                "isolation.schema: expected a string",
                "slug: expected a string, got null",
                "status: expected a string, got null",
                "metadata: expected an object, got null",
            ],
        );
    }
}
