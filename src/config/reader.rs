//! From a JSON tree to settings that can't be wrong, with every fault on the way.
//!
//! Serde stops at the first fault, and a person who writes a configuration wants all of them. So every type here reads
//! itself from a [`Node`], notes what is wrong in [`Faults`], and goes on. The [`settings!`] macro writes the reader and
//! the JSON Schema of an object from one list of its keys, so that neither can forget one.

use std::fmt;

use serde_json::{Map, Value, json};

/// One thing that is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is, as `isolation.resolution[0]`; empty for the configuration as a whole.
    pub path: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Every fault of a configuration, in the order of the manual.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// A configuration that is wrong as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self(vec![Fault { path: String::new(), message: message.into() }])
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    fn note(&mut self, path: String, message: String) {
        self.0.push(Fault { path, message });
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = if self.0.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {many}", self.0.len())?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// A value of the configuration, and where it stands.
#[derive(Clone)]
pub struct Node<'a> {
    /// The value.
    pub value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    /// The whole configuration.
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The value under a key of this object.
    #[inline(never)]
    pub fn child(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node { value, path: self.path_of(key) }
    }

    /// The elements of this list.
    fn elements(&self, list: &'a [Value]) -> impl Iterator<Item = Node<'a>> {
        list.iter().enumerate().map(|(index, value)| Node { value, path: format!("{}[{index}]", self.path) })
    }

    /// Notes that this value is wrong.
    #[inline(never)]
    pub fn fault(&self, faults: &mut Faults, message: impl Into<String>) {
        faults.note(self.path.clone(), message.into());
    }

    /// Notes that this value has another type than the `expected` one.
    #[inline(never)]
    pub fn wrong_type(&self, faults: &mut Faults, expected: &str) {
        self.fault(faults, format!("expected {expected}, found {}", describe(self.value)));
    }

    #[inline(never)]
    fn path_of(&self, key: &str) -> String {
        // A key that a dotted path can't show as it is, such as a header's name with a dot, stands in brackets.
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        match (plain, self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{key:?}]", self.path),
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("the string {}", quote(s)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A string of the configuration as a message shows it: quoted, escaped, and short.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
    }
}

/// Something that a configuration may hold.
pub trait Setting: Sized {
    /// Reads it; `None` where it couldn't be read, and then at least one fault was noted.
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self>;

    /// The JSON Schema of what [`Setting::read`] takes.
    fn schema() -> Value;
}

/// An object being read key by key. [`settings!`] uses it; so does a hand-written reader of an object.
pub struct Section<'a, 'f> {
    node: Node<'a>,
    map: &'a Map<String, Value>,
    faults: &'f mut Faults,
}

impl<'a, 'f> Section<'a, 'f> {
    /// Opens an object, or notes that it isn't one.
    #[inline(never)]
    pub fn open(node: &Node<'a>, faults: &'f mut Faults) -> Option<Self> {
        match node.value {
            Value::Object(map) => Some(Self { node: node.clone(), map, faults }),
            _ => {
                node.wrong_type(faults, "an object");
                None
            }
        }
    }

    /// Whether the key is there, whatever its value.
    #[inline(never)]
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A key that may be left out: `None` for a fault, `Some(None)` where it was left out.
    #[inline(never)]
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<Option<T>> {
        match self.entry(key) {
            None => Some(None),
            Some(node) => T::read(&node, self.faults).map(Some),
        }
    }

    /// A key that must be there.
    #[inline(never)]
    pub fn required<T: Setting>(&mut self, key: &str) -> Option<T> {
        match self.entry(key) {
            None => {
                self.fault(key, "is missing");
                None
            }
            Some(node) => T::read(&node, self.faults),
        }
    }

    #[inline(never)]
    fn entry(&self, key: &str) -> Option<Node<'a>> {
        self.map.get(key).map(|value| self.node.child(key, value))
    }

    /// Notes that the value under a key is wrong, or is missing.
    #[inline(never)]
    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.note(self.node.path_of(key), message.into());
    }

    /// Notes that the object is wrong as a whole.
    #[inline(never)]
    pub fn fault_here(&mut self, message: impl Into<String>) {
        self.node.fault(self.faults, message);
    }

    /// Notes every key that isn't known.
    #[inline(never)]
    pub fn close(self, known: &[&str]) {
        for key in self.map.keys().map(String::as_str).filter(|key| !known.contains(key)) {
            self.faults.note(self.node.path_of(key), unknown("key", key, known));
        }
    }
}

/// `unknown period "fortnight", expected one of: …`, and the nearest of them where one is near.
pub fn unknown(what: &str, found: &str, expected: &[&str]) -> String {
    let mut message = format!("unknown {what} {}, expected one of: {}", quote(found), expected.join(", "));
    if let Some(near) = nearest(found, expected) {
        message.push_str(&format!("; did you mean {near:?}?"));
    }
    message
}

fn nearest<'e>(found: &str, expected: &[&'e str]) -> Option<&'e str> {
    // Case and separators are what people get wrong most: `base_domain`, `Basedomain` and `baseDomain` are one name.
    let folded = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let found = folded(found);
    if found.len() > 64 {
        return None;
    }
    expected
        .iter()
        .map(|candidate| (strsim::osa_distance(&found, &folded(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Writes a settings object: the struct, its reader, and its schema, from one list of keys.
///
/// A key is `required`, `optional` (an `Option`), or has a default (`or VALUE`). The `check` block sees every field as an `Option` (`None` where it was faulty) and the [`Section`], and
/// notes what only several keys together can get wrong.
macro_rules! settings {
    (
        $(#[doc = $doc:expr])*
        $(#[derive($($derive:ident),*)])?
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:expr])*
                $kind:ident $key:literal => $field:ident: $type:ty $(= $default:expr)?,
            )*
        }
        $(check($section:ident) $check:block)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone $($(, $derive)*)?)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                pub $field: settings!(@type $kind $type),
            )*
        }

        impl $crate::config::reader::Setting for $name {
            #[inline(never)]
            fn read(
                node: &$crate::config::reader::Node<'_>,
                faults: &mut $crate::config::reader::Faults,
            ) -> Option<Self> {
                #[allow(unused_mut, reason = "an object without keys reads none")]
                let mut section = $crate::config::reader::Section::open(node, faults)?;
                $(let $field = settings!(@read section $kind $key $type $(= $default)?);)*
                $({
                    let $section = &mut section;
                    $check
                })?
                section.close(&[$($key),*]);
                Some(Self { $($field: $field?,)* })
            }

            fn schema() -> serde_json::Value {
                let mut properties = serde_json::Map::new();
                #[allow(unused_mut, reason = "an object may have no required key")]
                let mut required: Vec<&str> = Vec::new();
                $(
                    properties.insert($key.to_owned(), $crate::config::reader::described(
                        <$type as $crate::config::reader::Setting>::schema(),
                        concat!($($field_doc, "\n"),*),
                    ));
                    settings!(@required required $kind $key);
                )*
                $crate::config::reader::described(
                    serde_json::json!({
                        "type": "object",
                        "additionalProperties": false,
                        "properties": properties,
                        "required": required,
                    }),
                    concat!($($doc, "\n"),*),
                )
            }
        }
    };
    (@type optional $type:ty) => { Option<$type> };
    (@type $kind:ident $type:ty) => { $type };
    (@read $section:ident required $key:literal $type:ty) => { $section.required::<$type>($key) };
    (@read $section:ident optional $key:literal $type:ty) => { $section.optional::<$type>($key) };
    (@read $section:ident default $key:literal $type:ty = $default:expr) => {
        $section.optional::<$type>($key).map(|given| given.unwrap_or_else(|| $default))
    };
    (@required $list:ident required $key:literal) => { $list.push($key) };
    (@required $list:ident $kind:ident $key:literal) => {};
}
pub(crate) use settings;

/// Writes an enum that a configuration gives by name, with its older spellings.
macro_rules! choice {
    (
        $(#[doc = $doc:expr])*
        pub enum $name:ident as $what:literal {
            $($(#[doc = $variant_doc:expr])* $variant:ident = $text:literal $(| $older:literal)*,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant,)*
        }

        impl $name {
            /// The name in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl $crate::config::reader::Setting for $name {
            #[inline(never)]
            fn read(
                node: &$crate::config::reader::Node<'_>,
                faults: &mut $crate::config::reader::Faults,
            ) -> Option<Self> {
                let Some(text) = node.value.as_str() else {
                    node.wrong_type(faults, concat!("a ", $what));
                    return None;
                };
                match text {
                    $($text $(| $older)* => Some(Self::$variant),)*
                    _ => {
                        node.fault(faults, $crate::config::reader::unknown($what, text, &[$($text),*]));
                        None
                    }
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": [$($text, $($older,)*)*]})
            }
        }
    };
}
pub(crate) use choice;

/// Adds a description, made of doc comments, to a schema.
pub fn described(mut schema: Value, doc: &str) -> Value {
    let text = doc.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if let (Some(map), false) = (schema.as_object_mut(), text.trim().is_empty()) {
        map.insert("description".to_owned(), Value::String(text.trim().to_owned()));
    }
    schema
}

impl Setting for bool {
    #[inline(never)]
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            node.wrong_type(faults, "true or false");
        }
        value
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }
}

/// A whole number from `MIN` to `MAX`. A `Struct` carries numbers as doubles, so `5.0` is the whole number 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Setting for Whole<MIN, MAX> {
    #[inline(never)]
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let whole = node.value.as_u64().or_else(|| node.value.as_f64().and_then(exact_u64));
        match whole {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                node.wrong_type(faults, &format!("a whole number from {MIN} to {MAX}"));
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// A double that is a whole number, and that no other whole number could have become on its way through a double.
pub fn exact_u64(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was looked at")]
    (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
}

impl Setting for String {
    #[inline(never)]
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        match node.value.as_str() {
            Some("") => node.fault(faults, "must not be empty"),
            Some(text) => return Some(text.to_owned()),
            None => node.wrong_type(faults, "a string"),
        }
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }
}

impl<T: Setting> Setting for Vec<T> {
    #[inline(never)]
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Some(list) = node.value.as_array() else {
            node.wrong_type(faults, "a list");
            return None;
        };
        all(node.elements(list).map(|element| T::read(&element, faults)))
    }

    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
}

/// One value, or a list of at least one: `baseDomain: a.example` and `baseDomain: [a.example, b.example]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Setting> Setting for OneOrMany<T> {
    #[inline(never)]
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        match node.value {
            Value::Array(list) if list.is_empty() => {
                node.fault(faults, "must not be empty");
                None
            }
            Value::Array(_) => Vec::read(node, faults).map(Self),
            _ => T::read(node, faults).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [T::schema(), {"type": "array", "minItems": 1, "items": T::schema()}]})
    }
}

/// All of them, or none if one is missing; unlike collecting into an `Option`, it doesn't stop at the first.
pub fn all<T>(items: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let items: Vec<Option<T>> = items.collect();
    items.into_iter().collect()
}
