//! The protobuf messages in which Envoy hands over a configuration that was written as YAML: `google.protobuf.Struct`,
//! and `TypedStruct` around one.
//!
//! Envoy 1.40 gives both as their wire format. A protobuf crate would be larger than the whole rest of the configuration
//! in the module, for two messages whose format can't change; so this is a reader of a few lines, fuzzed, and compared with
//! a crate in the tests.

use serde_json::{Map, Number, Value};

use crate::protobuf::{Fields, Wire};

/// How deep lists and objects may lie in each other, so that no input can exhaust the stack; `serde_json` has the same bound.
const MAX_DEPTH: u32 = 128;

/// Reads a `Struct`, or the `Struct` in a `TypedStruct`; `None` if the bytes are neither.
pub fn read(bytes: &[u8]) -> Option<Value> {
    // Only a TypedStruct has a field 2. Its field 1 is the type's URL, where a Struct's is an entry, so an entry is looked
    // for first: a URL never reads as one.
    structure(bytes, MAX_DEPTH).or_else(|| typed_struct(bytes)).map(Value::Object)
}

fn typed_struct(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(url)) => {
                std::str::from_utf8(url).ok()?;
            }
            (2, Wire::Bytes(inner)) => found.append(&mut structure(inner, MAX_DEPTH)?),
            _ => return None,
        }
    }
    Some(found)
}

fn structure(bytes: &[u8], depth: u32) -> Option<Map<String, Value>> {
    let depth = depth.checked_sub(1)?;
    let mut map = Map::new();
    for field in Fields(bytes) {
        let (1, Wire::Bytes(entry)) = field? else { return None };
        let (mut key, mut found) = (None, None);
        for part in Fields(entry) {
            match part? {
                (1, Wire::Bytes(text)) => key = Some(std::str::from_utf8(text).ok()?),
                (2, Wire::Bytes(bytes)) => found = Some(value(bytes, depth)?),
                _ => return None,
            }
        }
        // An absent key is the empty one; but an absent value isn't something that a Struct's writer makes.
        map.insert(key.unwrap_or_default().to_owned(), found?);
    }
    Some(map)
}

fn value(bytes: &[u8], depth: u32) -> Option<Value> {
    let mut found = None;
    for field in Fields(bytes) {
        // The last one wins, as in every oneof.
        found = Some(match field? {
            (1, Wire::Varint(0)) => Value::Null,
            // JSON has no NaN and no infinity; null is refused wherever a number is expected.
            (2, Wire::Fixed64(bits)) => number(f64::from_bits(bits)),
            (3, Wire::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?.to_owned()),
            (4, Wire::Varint(truth)) => Value::Bool(truth != 0),
            (5, Wire::Bytes(inner)) => Value::Object(structure(inner, depth)?),
            (6, Wire::Bytes(inner)) => Value::Array(list(inner, depth)?),
            _ => return None,
        });
    }
    found
}

fn list(bytes: &[u8], depth: u32) -> Option<Vec<Value>> {
    let depth = depth.checked_sub(1)?;
    let element = |field: Option<(u64, Wire<'_>)>| match field? {
        (1, Wire::Bytes(bytes)) => value(bytes, depth),
        _ => None,
    };
    Fields(bytes).map(element).collect()
}

/// A Struct's numbers are doubles; a whole one becomes the integer that was written, so that all forms give the same tree.
fn number(double: f64) -> Value {
    match super::reader::exact_u64(double) {
        Some(whole) => Value::from(whole),
        None => Number::from_f64(double).map_or(Value::Null, Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use prost_types::value::Kind;
    use serde_json::json;

    use super::*;

    fn to_struct(map: &Map<String, Value>) -> prost_types::Struct {
        prost_types::Struct { fields: map.iter().map(|(key, value)| (key.clone(), to_value(value))).collect() }
    }

    fn to_value(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(truth) => Kind::BoolValue(*truth),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(list) => {
                Kind::ListValue(prost_types::ListValue { values: list.iter().map(to_value).collect() })
            }
            Value::Object(map) => Kind::StructValue(to_struct(map)),
        };
        prost_types::Value { kind: Some(kind) }
    }

    /// A TypedStruct is a string and a message, as an Any is a string and bytes: on the wire they are one.
    fn typed(inner: &prost_types::Struct) -> Vec<u8> {
        let any = prost_types::Any { type_url: "type.example/tenancy".to_owned(), value: inner.encode_to_vec() };
        any.encode_to_vec()
    }

    fn trees() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..=1_u64 << 53).prop_map(Value::from),
            (-1e9..-1.0).prop_map(Value::from),
            (0..1000_u32).prop_map(|n| Value::from(f64::from(n) + 0.5)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_a_protobuf_crate_writes(tree in prop::collection::btree_map(".{0,6}", trees(), 0..6)) {
            let map: Map<String, Value> = tree.into_iter().collect();
            let message = to_struct(&map);
            prop_assert_eq!(read(&message.encode_to_vec()), Some(Value::Object(map.clone())));
            prop_assert_eq!(read(&typed(&message)), Some(Value::Object(map)));
        }

        #[test]
        fn a_damaged_message_never_panics(tree in trees(), cut in 0..200_usize, flip in 0..200_usize, bits in any::<u8>()) {
            let mut bytes = to_struct(&json!({"a": tree}).as_object().unwrap().clone()).encode_to_vec();
            if let Some(byte) = bytes.get_mut(flip) {
                *byte ^= bits;
            }
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut tree = json!(1);
            for _ in 0..depth {
                tree = json!([tree]);
            }
            to_struct(json!({"a": tree}).as_object().unwrap()).encode_to_vec()
        };
        assert!(read(&nested(100)).is_some());
        assert!(read(&nested(200)).is_none());
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bytes in
            [&b"{}"[..], b"isolation: {}", b"\n", b"\x0a\x05abc", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
