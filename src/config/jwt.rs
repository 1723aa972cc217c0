//! Settings of the strategy `jwt`: where a token is, who may sign it, and what it must say.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fields::HeaderName;
use super::reader::{Faults, Node, OneOrMany, Section, Setting, Whole, choice, quote, settings};
use crate::jwt::{Key, KeySet};

choice! {
    /// What a token may be signed with.
    pub enum Algorithm as "algorithm" {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA with P-256 and SHA-256.
        Es256 = "ES256",
        /// ECDSA with P-384 and SHA-384.
        Es384 = "ES384",
        /// Ed25519, which RFC 9864 gives a name of its own.
        EdDsa = "EdDSA" | "Ed25519",
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
    }
}

impl Algorithm {
    /// The algorithm that the `alg` of a token or a key names; letters of the wrong case name none.
    pub fn named(alg: &str) -> Option<Self> {
        const ALL: [Algorithm; 12] = [
            Algorithm::Rs256,
            Algorithm::Rs384,
            Algorithm::Rs512,
            Algorithm::Ps256,
            Algorithm::Ps384,
            Algorithm::Ps512,
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::EdDsa,
            Algorithm::Hs256,
            Algorithm::Hs384,
            Algorithm::Hs512,
        ];
        if alg == "Ed25519" {
            return Some(Self::EdDsa);
        }
        ALL.into_iter().find(|algorithm| algorithm.as_str() == alg)
    }

    /// Whether the secret that verifies can sign too.
    pub const fn uses_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

settings! {
    /// jwt: how a token is verified. Either here, by jwks or secret, or by Envoy's own jwt_authn before (envoyMetadata).
    pub struct Jwt {
        /// The keys of whoever signs tokens: from a URL, or inline.
        optional "jwks" => jwks: Jwks,
        /// The secret of HS256, HS384 and HS512, which never stands in the configuration itself.
        optional "secret" => secret: SecretSource,
        /// Who must have issued the token: its iss. If not given, iss is not looked at.
        optional "issuer" => issuer: String,
        /// For whom a token may be: its aud must hold one of them. If not given, aud is not looked at.
        default "audiences" => audiences: OneOrMany<String> = OneOrMany(Vec::new()),
        /// What a token may be signed with. Must be given, unless Envoy verifies.
        default "algorithms" => algorithms: OneOrMany<Algorithm> = OneOrMany(Vec::new()),
        /// Seconds by which the clocks of issuer and proxy may differ.
        default "clockSkewSeconds" => clock_skew_seconds: Whole<0, 300> = Whole(30),
        /// Where the token is: by default in the authorization header.
        default "from" => from: TokenFrom = TokenFrom::Header(HeaderName::x("authorization")),
        /// The name under which Envoy's jwt_authn leaves the verified token's claims (payload_in_metadata). Then it checks
        /// everything that the other settings are for.
        optional "envoyMetadata" => envoy_metadata: String,
    }
    check(section) {
        if section.has("envoyMetadata") {
            for key in ["jwks", "secret", "issuer", "audiences", "algorithms", "clockSkewSeconds", "from"] {
                if section.has(key) {
                    section.fault(key, "can't stand beside envoyMetadata: there Envoy's jwt_authn verifies the token");
                }
            }
        } else {
            check_keys(section, jwks.as_ref(), algorithms.as_ref());
        }
    }
}

impl TokenFrom {
    /// The header that holds the token, in lower case.
    pub fn header(&self) -> &str {
        match self {
            Self::Header(name) => name.as_str(),
            Self::Cookie(_) => "cookie",
        }
    }
}

impl Jwt {
    /// Reads the settings by themselves.
    pub fn from_value(value: &Value) -> Result<Self, Faults> {
        read(value)
    }

    /// Their JSON Schema.
    pub fn json_schema() -> Value {
        Self::schema()
    }

    /// By how much the clocks of issuer and proxy may differ.
    pub fn clock_skew(&self) -> Duration {
        Duration::from_secs(self.clock_skew_seconds.0)
    }
}

/// Notes where algorithms and keys don't belong together.
fn check_keys(section: &mut Section<'_, '_>, jwks: Option<&Option<Jwks>>, algorithms: Option<&OneOrMany<Algorithm>>) {
    if !section.has("jwks") && !section.has("secret") {
        section.fault_here("no keys of any kind: give jwks, secret or envoyMetadata");
        return;
    }
    if !section.has("algorithms") {
        section.fault("algorithms", "is missing: say what tokens may be signed with, for example [RS256]");
        return;
    }
    let Some(OneOrMany(algorithms)) = algorithms else { return };
    let by_secret = algorithms.iter().find(|algorithm| algorithm.uses_secret());
    let by_key = algorithms.iter().find(|algorithm| !algorithm.uses_secret());
    match (by_secret, section.has("secret")) {
        (Some(algorithm), false) => section.fault("secret", format!("is missing: {} needs it", algorithm.as_str())),
        (None, true) => section.fault("secret", "is for HS256, HS384 and HS512, and algorithms has none of them"),
        _ => {}
    }
    match (by_key, section.has("jwks")) {
        (Some(algorithm), false) => section.fault("jwks", format!("is missing: {} needs it", algorithm.as_str())),
        (None, true) => section.fault("jwks", "is of no use: all of algorithms verify with the secret"),
        _ => {}
    }
    if let (Some(_), Some(Some(Jwks::Inline(keys)))) = (by_key, jwks)
        && !algorithms.iter().any(|algorithm| keys.iter().any(|key| key.fits(*algorithm)))
    {
        section.fault("jwks", "none of the keys fits one of algorithms");
    }
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum Jwks {
    /// A URL, asked by callout.
    Remote(RemoteJwks),
    /// The configuration.
    Inline(KeySet),
}

/// The URL of a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteJwks {
    /// The Envoy cluster to ask.
    pub cluster: String,
    /// The path to ask for.
    pub path: String,
    /// The age at which the set is fetched again.
    pub refresh: Duration,
    /// How much older the set may become while the source gives no answer.
    pub stale: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

settings! {
    /// A key set: cluster and path of a JWKS URL, or inline keys.
    pub struct JwksForms {
        /// The Envoy cluster to ask for the keys.
        optional "cluster" => cluster: String,
        /// The path to ask for.
        optional "path" => path: KeysPath,
        /// Seconds after which the keys are fetched again.
        default "refreshSeconds" => refresh_seconds: Whole<10, 86_400> = Whole(300),
        /// Seconds more that the keys serve while their source gives no answer.
        default "staleSeconds" => stale_seconds: Whole<0, 604_800> = Whole(86_400),
        /// Milliseconds that an answer may take.
        default "timeoutMs" => timeout_ms: Whole<1, 60_000> = Whole(1000),
        /// The keys themselves, in the form of a JWKS.
        optional "inline" => inline: InlineKeys,
    }
    check(section) {
        if section.has("inline") {
            for key in ["cluster", "path", "refreshSeconds", "staleSeconds", "timeoutMs"] {
                if section.has(key) {
                    section.fault(key, "can't stand beside inline: keys are fetched, or given inline");
                }
            }
        } else if !section.has("cluster") && !section.has("path") {
            section.fault_here("needs cluster and path, or inline");
        } else {
            for key in ["cluster", "path"] {
                if !section.has(key) {
                    section.fault(key, "is missing");
                }
            }
        }
    }
}

impl Setting for Jwks {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let forms = JwksForms::read(node, faults)?;
        match (forms.inline, forms.cluster, forms.path) {
            (Some(InlineKeys { keys: KeyList(keys) }), None, None) => {
                Some(Self::Inline(keys.into_iter().map(|InlineKey(key)| key).collect()))
            }
            (None, Some(cluster), Some(KeysPath(path))) => Some(Self::Remote(RemoteJwks {
                cluster,
                path,
                refresh: Duration::from_secs(forms.refresh_seconds.0),
                stale: Duration::from_secs(forms.stale_seconds.0),
                timeout: Duration::from_millis(forms.timeout_ms.0),
            })),
            // Whatever else it is, the check above has noted it.
            _ => None,
        }
    }

    fn schema() -> Value {
        let forms = json!([{"required": ["cluster", "path"], "not": {"required": ["inline"]}}, {"required": ["inline"], "maxProperties": 1}]);
        with(JwksForms::schema(), "oneOf", forms)
    }
}

/// The path of a key set.
#[derive(Debug, Clone)]
pub struct KeysPath(String);

impl Setting for KeysPath {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"#{}".contains(&b)) {
            return Some(Self(text));
        }
        node.fault(faults, "must be a path like /.well-known/jwks.json");
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^/[!-~]*$"})
    }
}

settings! {
    /// A JWKS that stands in the configuration.
    pub struct InlineKeys {
        /// The keys, each a JWK.
        required "keys" => keys: KeyList,
    }
}

/// The keys of the configuration: at least one.
#[derive(Debug, Clone)]
pub struct KeyList(Vec<InlineKey>);

impl Setting for KeyList {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let keys = Vec::read(node, faults)?;
        if keys.is_empty() {
            node.fault(faults, "must not be empty");
            return None;
        }
        Some(Self(keys))
    }

    fn schema() -> Value {
        with(Vec::<InlineKey>::schema(), "minItems", json!(1))
    }
}

/// A JWK that stands in the configuration: unlike one that was fetched, it must be of use.
#[derive(Debug, Clone)]
pub struct InlineKey(Rc<Key>);

impl Setting for InlineKey {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        match Key::from_jwk(node.value) {
            Ok(key) => Some(Self(Rc::new(key))),
            Err(why) => {
                node.fault(faults, why);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"type": "object", "required": ["kty"], "properties": {"kty": {"enum": ["RSA", "EC", "OKP"]}}})
    }
}

settings! {
    /// Where a secret is.
    pub struct SecretSource {
        /// The variable of the VM's environment (vm_config.environment_variables) that holds it.
        required "env" => env: EnvironmentVariable,
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable(pub String);

impl Setting for EnvironmentVariable {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if plain && !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Some(Self(text));
        }
        // Somebody may have put the secret itself here, so it isn't repeated.
        node.fault(faults, "must be the name of an environment variable, of letters, digits and _");
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})
    }
}

/// Where a request carries its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFrom {
    /// A header. In `authorization` the token stands behind `Bearer`, in any other one by itself or behind `Bearer`.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
}

settings! {
    /// Where a request carries its token: in a header, or in a cookie.
    pub struct TokenFromForms {
        /// The header. In authorization the token stands behind Bearer, in any other one by itself or behind Bearer.
        optional "header" => header: HeaderName,
        /// The cookie.
        optional "cookie" => cookie: CookieName,
    }
    check(section) {
        if section.has("header") == section.has("cookie") {
            section.fault_here("needs either header or cookie");
        }
        if header.as_ref().and_then(Option::as_ref).is_some_and(|name| name.as_str() == "cookie") {
            section.fault("header", "holds many cookies: give the name of one as cookie instead");
        }
    }
}

impl Setting for TokenFrom {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let forms = TokenFromForms::read(node, faults)?;
        match (forms.header, forms.cookie) {
            (Some(name), None) => Some(Self::Header(name)),
            (None, Some(CookieName(name))) => Some(Self::Cookie(name)),
            _ => None,
        }
    }

    fn schema() -> Value {
        with(with(TokenFromForms::schema(), "minProperties", json!(1)), "maxProperties", json!(1))
    }
}

/// The name of a cookie.
#[derive(Debug, Clone)]
pub struct CookieName(String);

impl Setting for CookieName {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
            return Some(Self(text));
        }
        node.fault(faults, "is not the name of a cookie");
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"})
    }
}

/// Which claim names the tenant: a name, taken as it is, or where it starts with a slash a JSON Pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName(Vec<String>);

impl Default for ClaimName {
    fn default() -> Self {
        Self(vec!["tenant_id".to_owned()])
    }
}

impl ClaimName {
    /// Reads the name by itself.
    pub fn from_value(value: &Value) -> Result<Self, Faults> {
        read(value)
    }

    /// Its JSON Schema.
    pub fn json_schema() -> Value {
        Self::schema()
    }

    /// The names to follow from the claims inwards; one, unless it is a pointer.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The claim's value, where the claims have it.
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let mut segments = self.segments();
        segments.next().and_then(|first| claims.get(first)).and_then(|found| {
            segments.try_fold(found, |value, segment| match value {
                Value::Object(map) => map.get(segment),
                Value::Array(list) => index(segment).and_then(|index| list.get(index)),
                _ => None,
            })
        })
    }
}

/// A list's index as RFC 6901 has it: digits, without zeros in front.
fn index(segment: &str) -> Option<usize> {
    let plain = segment.bytes().all(|b| b.is_ascii_digit()) && (segment == "0" || !segment.starts_with('0'));
    segment.parse().ok().filter(|_| plain)
}

impl Setting for ClaimName {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = String::read(node, faults)?;
        let Some(pointer) = text.strip_prefix('/') else { return Some(Self(vec![text])) };
        let escapes_are_known = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        let segments: Vec<String> = pointer.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        if escapes_are_known && !segments.iter().any(String::is_empty) {
            return Some(Self(segments));
        }
        node.fault(
            faults,
            format!("{} is not a JSON Pointer to a claim (/realm/tenant, ~1 for a slash in a name)", quote(&text)),
        );
        None
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^([^/]|(/([^/~]|~[01])+)+$)"})
    }
}

fn read<T: Setting>(value: &Value) -> Result<T, Faults> {
    let mut faults = Faults::default();
    match T::read(&Node::root(value), &mut faults) {
        Some(setting) if faults.is_empty() => Ok(setting),
        _ => Err(faults),
    }
}

/// The schema with one keyword more.
fn with(mut schema: Value, keyword: &str, value: Value) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.insert(keyword.to_owned(), value);
    }
    schema
}
