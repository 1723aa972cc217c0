//! A request's head as bytes from the client: parsed once, never trusted.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use percent_encoding::percent_decode;
use url::form_urlencoded;

use crate::tenant::Identifier;

/// The request's headers, in order, with the two that a decision always needs at hand.
///
/// Values are bytes: a client may send any, and a value that isn't UTF-8 must not disturb anyone.
pub struct Head<'a> {
    pairs: Vec<(&'a [u8], &'a [u8])>,
    /// `:path`, with the query.
    pub target: Target<'a>,
    /// `:authority`, or the `host` of HTTP/1.1, which Envoy makes the same.
    pub authority: &'a [u8],
}

impl<'a> Head<'a> {
    /// Takes the headers in the order in which Envoy gives them.
    pub fn new(pairs: Vec<(&'a [u8], &'a [u8])>) -> Self {
        let first =
            |wanted: &[u8]| pairs.iter().find(|(name, _)| *name == wanted).map_or(&b""[..], |(_, value)| *value);
        let target = Target::of(first(b":path"));
        let authority = first(b":authority");
        Self { pairs, target, authority }
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + '_ {
        self.pairs.iter().copied()
    }

    /// Whether it opens a WebSocket connection, as Envoy sees it. HTTP/2's extended CONNECT looks the same: Envoy makes it a GET with
    /// the headers of HTTP/1.1 before a filter sees it.
    pub fn is_websocket_upgrade(&self) -> bool {
        let mut upgrades = self.values("upgrade");
        let is_websocket = upgrades.next().is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"));
        let is_token = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"upgrade");
        is_websocket
            && upgrades.next().is_none()
            && self.values(":method").eq([b"GET"])
            && self.values("connection").any(|value| value.split(|b| *b == b',').any(is_token))
    }

    /// Every value of one header; `name` is in lower case, as Envoy gives names.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.iter().filter(move |(other, _)| *other == name.as_bytes()).map(|(_, value)| value)
    }
}

/// Headers of the request that a callout carries on, so that one trace covers both.
const TRACE_HEADERS: [&str; 9] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// The headers of a trace: names and values.
pub type TraceHeaders = Vec<(&'static str, Vec<u8>)>;

/// A request's trace. Few requests need a callout, so its headers are looked for when one does.
#[derive(Clone, Copy)]
pub enum Trace<'a> {
    /// In the request.
    In(&'a Head<'a>),
    /// Kept, because the request waits, and its head is gone.
    Kept(&'a TraceHeaders),
}

impl Trace<'_> {
    /// The headers.
    pub fn headers(self) -> TraceHeaders {
        match self {
            Self::In(head) => {
                let value = |name: &'static str| head.values(name).next().map(|value| (name, value.to_vec()));
                TRACE_HEADERS.iter().copied().filter_map(value).collect()
            }
            Self::Kept(headers) => headers.clone(),
        }
    }
}

/// Reads a header map as proxy-wasm serialises it: a count, the lengths of every name and value, then each name and each
/// value with a zero byte behind it, all numbers 32-bit little-endian. `None` if the bytes aren't that.
pub fn header_pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    }
    fn text<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (text, rest) = bytes.split_at_checked(length)?;
        let (zero, rest) = rest.split_first()?;
        *bytes = rest;
        (*zero == 0).then_some(text)
    }
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut lengths = bytes;
    let count = number(&mut lengths)?;
    let (mut lengths, mut texts) = lengths.split_at_checked(count.checked_mul(8)?)?;
    let mut pairs = Vec::with_capacity(count);
    while !lengths.is_empty() {
        let name_length = number(&mut lengths)?;
        let value_length = number(&mut lengths)?;
        pairs.push((text(&mut texts, name_length)?, text(&mut texts, value_length)?));
    }
    Some(pairs)
}

/// Writes a header map in the form that [`header_pairs`] reads.
pub fn header_map_bytes(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let texts = || headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
    let room = texts().fold(4_usize, |sum, text| sum.saturating_add(text.len()).saturating_add(5));
    let mut bytes = Vec::with_capacity(room);
    bytes.extend(number(headers.len()));
    texts().for_each(|text| bytes.extend(number(text.len())));
    for text in texts() {
        bytes.extend_from_slice(text);
        bytes.push(0);
    }
    bytes
}

/// A DNS name: lower case, no trailing dot, IDN as punycode, labels of `a-z 0-9 _ -`; never an IP address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostName(Rc<str>);

impl HostName {
    /// The name in an `:authority`: port, one trailing dot and case don't matter. `None` where it holds no DNS name.
    pub fn from_authority(authority: &[u8]) -> Option<Self> {
        Self::in_authority(authority).map(|name| Self(name.into()))
    }

    /// The same as text, for those who only look at it.
    pub fn in_authority(authority: &[u8]) -> Option<Cow<'_, str>> {
        let host = match authority.iter().rposition(|b| *b == b':') {
            None => authority,
            Some(colon) => {
                let (host, port) = authority.split_at_checked(colon)?;
                if !port.iter().skip(1).all(u8::is_ascii_digit) {
                    return None;
                }
                host
            }
        };
        canonical(host)
    }

    /// A DNS name by itself, without a port.
    pub fn parse(host: &[u8]) -> Option<Self> {
        canonical(host).map(|name| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a host has before this name: `acme` in `acme.app.example.com` before `app.example.com`. Empty for this name itself,
    /// `None` where the host isn't under it. Only a whole label counts: `evilapp.example.com` isn't under it.
    pub fn label_before<'h>(&self, host: &'h str) -> Option<&'h str> {
        let rest = host.strip_suffix(&*self.0)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The one form of a DNS name; `None` if it isn't one.
fn canonical(host: &[u8]) -> Option<Cow<'_, str>> {
    if !host.is_ascii() {
        return Some(canonical(&punycode(host)?)?.into_owned().into());
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > 253 {
        return None;
    }
    let (mut length, mut digits_alone, mut has_capitals) = (0_u8, true, false);
    for byte in host {
        match byte {
            b'.' if length > 0 => (length, digits_alone) = (0, true),
            b'a'..=b'z' | b'_' | b'-' | b'A'..=b'Z' | b'0'..=b'9' => {
                length = length.checked_add(1).filter(|length| *length <= 63)?;
                digits_alone &= byte.is_ascii_digit();
                has_capitals |= byte.is_ascii_uppercase();
            }
            _ => return None,
        }
    }
    // A last label of digits alone is an IPv4 address, or one cut short; no top-level domain is like that.
    if length == 0 || digits_alone {
        return None;
    }
    let name = std::str::from_utf8(host).ok()?;
    Some(if has_capitals { name.to_ascii_lowercase().into() } else { name.into() })
}

fn punycode(host: &[u8]) -> Option<Vec<u8>> {
    let host = std::str::from_utf8(host).ok()?;
    // `url` also undoes percent escapes in a host, which would make two spellings of one name.
    if host.contains('%') {
        return None;
    }
    match url::Host::parse(host).ok()? {
        url::Host::Domain(name) => Some(name.into_bytes()),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

/// The request target: a path, and perhaps a query. A fragment, which Envoy refuses by default, belongs to neither.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The path as the client sent it.
    pub path: &'a [u8],
    /// What stands behind the first `?`, if there is one.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Cuts a request target into path and query.
    pub fn of(target: &'a [u8]) -> Self {
        let target = target.split(|b| *b == b'#').next().unwrap_or_default();
        let mut parts = target.splitn(2, |b| *b == b'?');
        Self { path: parts.next().unwrap_or_default(), query: parts.next() }
    }

    /// The tenant's segment behind a prefix, and the rest of the path: `/t/acme/api` behind `/t` gives `acme` and `/api`.
    ///
    /// The segment is percent-decoded once. A path that a server behind could read as another one names no tenant.
    pub fn tenant_segment(&self, prefix: &str) -> Option<(Identifier, &'a [u8])> {
        let behind = self.path.strip_prefix(prefix.as_bytes())?.strip_prefix(b"/")?;
        if self.climbs() {
            return None;
        }
        let end = behind.iter().position(|b| *b == b'/').unwrap_or(behind.len());
        let (segment, rest) = behind.split_at_checked(end)?;
        let segment: Cow<'_, [u8]> = percent_decode(segment).into();
        Identifier::parse(&segment).map(|identifier| (identifier, rest))
    }

    /// Whether the path holds a `.` or `..` segment, in any spelling that some server resolves: escaped dots, backslashes,
    /// escaped slashes. What such a path means depends on who reads it, so it neither names a tenant nor is excluded.
    pub fn climbs(&self) -> bool {
        if !self.path.iter().any(|b| matches!(b, b'.' | b'%')) {
            return false;
        }
        let decoded: Cow<'_, [u8]> = percent_decode(self.path).into();
        decoded.split(|b| matches!(b, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b".."))
    }

    /// Every value of a query parameter, decoded once as a form is; so are the names, because the service decodes them too.
    pub fn query_values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Cow<'a, str>> + 's {
        let pairs = form_urlencoded::parse(self.query.unwrap_or_default());
        pairs.filter(move |(key, _)| *key == *name).map(|(_, value)| value)
    }

    /// The query without a parameter, everything else as it came; `None` if nothing is left of it.
    pub fn query_without(&self, name: &str) -> Option<Vec<u8>> {
        let is_other = |pair: &&[u8]| !form_urlencoded::parse(pair).any(|(key, _)| key == name);
        let kept: Vec<&[u8]> = self.query?.split(|b| *b == b'&').filter(is_other).collect();
        let query = kept.join(&b'&');
        (!query.is_empty()).then_some(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(authority: &str) -> Option<String> {
        HostName::from_authority(authority.as_bytes()).map(|name| name.to_string())
    }

    #[test]
    fn a_header_map_is_read_as_it_was_written() {
        let maps: [&[(&str, &[u8])]; 3] = [&[], &[("", b"")], &[(":path", b"/"), ("x", b""), ("x", b"\0\xff")]];
        for map in maps {
            let bytes = header_map_bytes(map);
            let pairs: Vec<_> = map.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
            assert_eq!(header_pairs(&bytes), Some(pairs), "{map:?}");
        }
    }

    #[test]
    fn host_names_are_compared_in_one_form() {
        let rows = [
            ("acme.example.com", Some("acme.example.com")),
            ("ACME.Example.COM.:8443", Some("acme.example.com")),
            ("acme.example.com:", Some("acme.example.com")),
            ("bücher.example.com", Some("xn--bcher-kva.example.com")),
            ("BÜCHER.example.com.", Some("xn--bcher-kva.example.com")),
            ("XN--BCHER-KVA.example.com", Some("xn--bcher-kva.example.com")),
            ("bücher.example。com", Some("xn--bcher-kva.example.com")),
            ("a_b.example", Some("a_b.example")),
            ("localhost", Some("localhost")),
            ("", None),
            (".", None),
            ("acme.example.com..", None),
            (".example.com", None),
            ("acme..example.com", None),
            ("acme.example.com:http", None),
            ("[::1]:8080", None),
            ("[::1]", None),
            ("::1", None),
            ("127.0.0.1:80", None),
            ("127.1", None),
            ("user@acme.example.com", None),
            ("%61cme.example.com", None),
            ("bü%63her.example.com", None),
            ("acme example.com", None),
            ("acme/x.example.com", None),
        ];
        for (authority, expected) in rows {
            assert_eq!(name(authority).as_deref(), expected, "{authority}");
        }
        assert_eq!(name(&format!("{}.example", "a".repeat(64))), None);
        assert_eq!(name(&["a"; 127].join(".")).map(|name| name.len()), Some(253));
        assert_eq!(name(&["a"; 128].join(".")), None);
        assert_eq!(HostName::from_authority(b"\xff\xfe.example"), None);
    }

    #[test]
    fn a_base_domain_holds_whole_labels() {
        let base = HostName::parse(b"app.example.com").unwrap();
        let under = |host: &str| base.label_before(host).map(str::to_owned);
        assert_eq!(under("acme.app.example.com").as_deref(), Some("acme"));
        assert_eq!(under("a.b.app.example.com").as_deref(), Some("a.b"));
        assert_eq!(under("app.example.com").as_deref(), Some(""));
        assert_eq!(under("evilapp.example.com"), None);
        assert_eq!(under("app.example.com.evil.com"), None);
        assert_eq!(under("example.com"), None);
    }

    #[test]
    fn a_path_names_a_tenant_behind_its_prefix() {
        let rows = [
            ("/t/acme/api/tasks", Some(("acme", "/api/tasks"))),
            ("/t/acme", Some(("acme", ""))),
            ("/t/acme/", Some(("acme", "/"))),
            ("/t/acme?x=/t/globex/", Some(("acme", ""))),
            ("/t/%61cme/x", Some(("acme", "/x"))),
            ("/t/acme/a%2Fb", Some(("acme", "/a%2Fb"))),
            ("/t/acme/a.b/..c", Some(("acme", "/a.b/..c"))),
            ("/t/%2561cme", None),
            ("/t//acme", None),
            ("/t/", None),
            ("/t", None),
            ("/tt/acme", None),
            ("/x/t/acme", None),
            ("/t/a%2fb", None),
            ("/t/%zz", None),
            ("/t/%", None),
            ("/t/a+b", None),
            ("/t/..", None),
            ("/t/%2e%2E/x", None),
            ("/t/acme/../globex", None),
            ("/t/acme/%2e%2e/globex", None),
            ("/t/acme/..%2fglobex", None),
            ("/t/acme\\..\\globex", None),
            ("/t/acme/x/.", None),
            ("*", None),
            ("", None),
        ];
        for (target, expected) in rows {
            let found = Target::of(target.as_bytes()).tenant_segment("/t");
            let found = found.as_ref().map(|(id, rest)| (id.as_str(), std::str::from_utf8(rest).unwrap()));
            assert_eq!(found, expected, "{target}");
        }
        assert!(Target::of(format!("/t/{}", "a".repeat(300)).as_bytes()).tenant_segment("/t").is_none());
        let (id, rest) = Target::of(b"/acme/x").tenant_segment("").unwrap();
        assert_eq!((id.as_str(), rest), ("acme", &b"/x"[..]));
    }

    #[test]
    fn a_query_is_decoded_once_and_stripped_by_pairs() {
        let values = |target: &str| {
            Target::of(target.as_bytes()).query_values("tenant").map(|v| v.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(values("/?tenant=acme"), ["acme"]);
        assert_eq!(values("/?x=1&tenant=%61cme#tenant=b"), ["acme"]);
        assert_eq!(values("/?tenant=%2561"), ["%61"]);
        assert_eq!(values("/?tenant=a+b"), ["a b"]);
        assert_eq!(values("/?tenant=%zz"), ["%zz"]);
        assert_eq!(values("/?tenant=a&%74enant=b"), ["a", "b"]);
        assert_eq!(values("/?tenant"), [""]);
        assert_eq!(values("/?Tenant=a"), [""; 0]);
        assert_eq!(values("/tenant=a"), [""; 0]);
        let without =
            |target: &str| Target::of(target.as_bytes()).query_without("tenant").map(|q| String::from_utf8(q).unwrap());
        assert_eq!(without("/?tenant=acme"), None);
        assert_eq!(without("/?a=%41&tenant=acme&b=+"), Some("a=%41&b=+".into()));
        assert_eq!(without("/?%74enant=acme&a"), Some("a".into()));
        assert_eq!(without("/?"), None);
        assert_eq!(without("/"), None);
    }

    #[test]
    fn a_header_map_is_read_or_refused() {
        let map = [2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', 0, 0xff, 0xfe, 0, b'b', 0, 0];
        assert_eq!(header_pairs(&map), Some(vec![(&b"a"[..], &b"\xff\xfe"[..]), (b"b", b"")]));
        assert_eq!(header_pairs(&[]), Some(vec![]));
        assert_eq!(header_pairs(&[0, 0, 0, 0]), Some(vec![]));
        for cut in 1..map.len() {
            assert_eq!(header_pairs(&map[..cut]), None, "cut to {cut}");
        }
        assert_eq!(header_pairs(&[0xff; 16]), None);
    }
}
