//! JSON texts, read member by member, so that every fault is reported at once and each with its path.
//!
//! Values stay raw until somebody knows what they should be: numbers that no machine type holds come back as they came.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::identifier::Identifier;

/// How deep the objects and lists of a free-form value may nest. Readers have bounds too; this is well below them.
const MAX_DEPTH: u8 = 32;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: `quotas.storage.limit`, `tenants[2].id`, or nothing for the document itself.
    pub path: String,
    /// What, and what was expected.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// All that is wrong with a document.
pub type Faults = Vec<Fault>;

/// Notes a fault.
pub fn fault(faults: &mut Faults, path: &str, message: impl Into<String>) {
    faults.push(Fault {
        path: path.to_owned(),
        message: message.into(),
    });
}

/// The one JSON value that these bytes are.
pub fn document<'a>(bytes: &'a [u8], faults: &mut Faults) -> Option<&'a RawValue> {
    let value = serde_json::from_slice(bytes);
    value
        .map_err(|error| fault(faults, "", format!("not JSON: {error}")))
        .ok()
}

/// The members of an object, in order, each with its path. One that is given twice is a fault: readers disagree on which counts.
pub fn members<'a>(raw: &'a RawValue, path: &str, faults: &mut Faults) -> Option<Vec<Member<'a>>> {
    if !raw.get().starts_with('{') {
        fault(
            faults,
            path,
            format!("expected an object, got {}", kind(raw)),
        );
        return None;
    }
    let Entries(entries) = serde_json::from_str(raw.get())
        .map_err(|error| fault(faults, path, format!("not JSON: {error}")))
        .ok()?;
    let mut seen = std::collections::HashSet::new();
    let mut members = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let path = member_path(path, &key);
        if !seen.insert(key.clone()) {
            fault(faults, &path, "given twice");
            continue;
        }
        members.push(Member { key, path, value });
    }
    Some(members)
}

/// The elements of a list, in order, each with its path.
pub fn elements<'a>(
    raw: &'a RawValue,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<(String, &'a RawValue)>> {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
        fault(faults, path, format!("expected a list, got {}", kind(raw)));
        return None;
    };
    Some(
        elements
            .into_iter()
            .enumerate()
            .map(|(index, value)| (format!("{path}[{index}]"), value))
            .collect(),
    )
}

/// One member of an object.
pub struct Member<'a> {
    /// Its name.
    pub key: String,
    /// Its name after its parents' names.
    pub path: String,
    /// Its value.
    pub value: &'a RawValue,
}

impl Member<'_> {
    /// Notes that this member has no business here.
    pub fn unknown(&self, expected: &[&str], faults: &mut Faults) {
        fault(
            faults,
            &self.path,
            format!("unknown key, expected one of {}", expected.join(", ")),
        );
    }
}

/// A text.
pub fn text(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<String> {
    let text = serde_json::from_str(raw.get()).ok();
    if text.is_none() {
        fault(
            faults,
            path,
            format!("expected a string, got {}", kind(raw)),
        );
    }
    text
}

/// An identifier.
pub fn identifier(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Identifier> {
    let identifier = Identifier::parse(&text(raw, path, faults)?);
    if identifier.is_none() {
        fault(
            faults,
            path,
            format!("not an identifier, expected {}", Identifier::EXPECTED),
        );
    }
    identifier
}

/// One of a few words.
pub fn word<T: Copy>(
    raw: &RawValue,
    path: &str,
    words: &[(&str, T)],
    faults: &mut Faults,
) -> Option<T> {
    let text = text(raw, path, faults)?;
    let found = words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        let expected: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        fault(
            faults,
            path,
            format!(
                "unknown value {}, expected one of {}",
                shown(&text),
                expected.join(", ")
            ),
        );
    }
    found
}

/// An object with whatever members, kept as it came, once every reader is sure to be able to read it.
pub fn free_object(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Box<RawValue>> {
    if !raw.get().starts_with('{') {
        fault(
            faults,
            path,
            format!("expected an object, got {}", kind(raw)),
        );
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    match (Readable { depth: 1 }).deserialize(&mut deserializer) {
        Ok(()) => Some(raw.to_owned()),
        Err(error) => {
            fault(faults, path, error.to_string());
            None
        }
    }
}

/// What a value is, for "got …".
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn member_path(parent: &str, key: &str) -> String {
    let plain = (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (plain, parent) {
        (true, "") => key.to_owned(),
        (true, _) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{}]", shown(key)),
    }
}

/// A text that somebody sent, fit for a message: quoted, escaped and not too long.
fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// An object's members, in order and with duplicates, which no map type keeps.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Walks a value and keeps nothing: lone surrogates, numbers beyond every type, duplicate keys and bottomless nesting show.
struct Readable {
    depth: u8,
}

impl Readable {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        match self.depth.checked_add(1) {
            Some(depth) if depth <= MAX_DEPTH => Ok(Self { depth }),
            _ => Err(E::custom(format!("nested more than {MAX_DEPTH} deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(()) = list.next_element_seed(self.deeper()?)? {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.deeper()?)?;
            if seen.contains(&key) {
                return Err(A::Error::custom(format!(
                    "key {} is given twice",
                    shown(&key)
                )));
            }
            seen.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_faults(json: &str) -> String {
        let mut faults = Faults::new();
        let raw = document(json.as_bytes(), &mut faults).unwrap();
        match free_object(raw, "metadata", &mut faults) {
            Some(kept) => assert_eq!(kept.get(), json),
            None => assert!(!faults.is_empty()),
        }
        faults
            .iter()
            .map(|fault| fault.to_string())
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn a_free_object_is_kept_as_it_came() {
        for json in [
            "{}",
            r#"{"b":1,"a":[1.0,1e3,null,true,"é\u00e9"]}"#,
            r#"{"big":123456789012345678901234567890,"exact":0.1000}"#,
            r#"{ "spaces" : { } }"#,
        ] {
            assert_eq!(free_faults(json), "", "{json}");
        }
    }

    #[test]
    fn what_some_reader_could_not_read_is_refused() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        for (json, expected) in [
            ("[]", "expected an object, got a list"),
            ("null", "expected an object, got null"),
            (r#"{"a":{"b":1,"b":2}}"#, "key \"b\" is given twice"),
            (r#"{"a":1e999}"#, "number out of range"),
            (r#"{"a":"\ud800"}"#, "end of hex escape"),
            (deep.as_str(), "nested more than 32 deep"),
        ] {
            assert!(
                free_faults(json).contains(expected),
                "{json}: {}",
                free_faults(json)
            );
        }
    }

    #[test]
    fn paths_stay_readable_and_short() {
        for (parent, key, expected) in [
            ("", "id", "id"),
            ("tenants[2]", "id", "tenants[2].id"),
            ("domains", "app.acme.com", r#"domains["app.acme.com"]"#),
            ("a", "", r#"a[""]"#),
            ("", "x\ny", r#"["x\ny"]"#),
        ] {
            assert_eq!(member_path(parent, key), expected);
        }
        assert!(member_path("a", &"é".repeat(1000)).chars().count() < 80);
    }

    #[test]
    fn a_member_given_twice_is_a_fault() {
        let mut faults = Faults::new();
        let raw = document(br#"{"id":"a","id":"b"}"#, &mut faults).unwrap();
        assert_eq!(
            members(raw, "", &mut faults).map(|members| members.len()),
            Some(1)
        );
        assert_eq!(
            faults,
            [Fault {
                path: "id".into(),
                message: "given twice".into()
            }]
        );
    }
}
