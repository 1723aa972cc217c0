//! A header's values → the one token in them.

use crate::config::TokenFrom;

/// What a request presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'v> {
    /// No token.
    Missing,
    /// One token, not looked at yet.
    Token(&'v [u8]),
    /// Several, even if they are equal: two readers could choose differently.
    Ambiguous,
    /// Something that was meant as a token, and is none.
    Malformed,
}

/// The token in all the values of the header that carries it.
pub fn presented<'v>(from: &TokenFrom, values: impl Iterator<Item = &'v [u8]>) -> Presented<'v> {
    match from {
        TokenFrom::Cookie(name) => one(values.flat_map(|value| cookies(value, name)), bare),
        TokenFrom::Header(name) if name.as_str() == "authorization" => one(values, bearer),
        TokenFrom::Header(_) => one(values, |value| match bearer(value) {
            Presented::Missing => bare(value),
            found => found,
        }),
    }
}

fn one<'v>(mut values: impl Iterator<Item = &'v [u8]>, read: impl FnOnce(&'v [u8]) -> Presented<'v>) -> Presented<'v> {
    match (values.next(), values.next()) {
        (None, _) => Presented::Missing,
        (Some(value), None) => read(value.trim_ascii()),
        (Some(_), Some(_)) => Presented::Ambiguous,
    }
}

/// `Bearer`, in letters of any case (RFC 9110 11.1), and a token behind it. Another scheme brings no token.
fn bearer(value: &[u8]) -> Presented<'_> {
    match value.split_at_checked(6) {
        Some((scheme, b"")) if scheme.eq_ignore_ascii_case(b"bearer") => Presented::Malformed,
        Some((scheme, rest @ [b' ', ..])) if scheme.eq_ignore_ascii_case(b"bearer") => bare(rest.trim_ascii_start()),
        // Envoy joins two authorization headers into one with a comma: a token may be the second one.
        _ if value.split(|b| *b == b',').skip(1).any(is_bearer) => Presented::Ambiguous,
        _ => Presented::Missing,
    }
}

fn is_bearer(credentials: &[u8]) -> bool {
    let scheme = credentials.trim_ascii().split(|b| *b == b' ').next();
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
}

/// Whether a byte may be in a token, for each of the 256: RFC 6750's b64token. It has no blank and no comma, so a value with a
/// comma is a list.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let (mut rest, mut byte) = (table.as_mut_slice(), 0_u8);
    while let Some((plain, others)) = rest.split_first_mut() {
        *plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        (rest, byte) = (others, byte.wrapping_add(1));
    }
    table
};

/// A token by itself. An empty value is how some clients say that they have none.
fn bare(value: &[u8]) -> Presented<'_> {
    // Tokens are long, and every request has one: without a branch for each byte this takes half the time.
    let is_plain =
        value.iter().fold(true, |plain, byte| plain & PLAIN.get(usize::from(*byte)).is_some_and(|plain| *plain));
    match value {
        b"" => Presented::Missing,
        _ if is_plain => Presented::Token(value),
        _ if value.contains(&b',') => Presented::Ambiguous,
        _ => Presented::Malformed,
    }
}

/// The values of every cookie of that name in a `cookie` header, without the quotes that RFC 6265 allows around them.
fn cookies<'v>(header: &'v [u8], name: &str) -> impl Iterator<Item = &'v [u8]> {
    header.split(|b| *b == b';').filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    })
}
