//! What may name a tenant or a quota.

use serde::Serialize;

/// 1 to 128 characters of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`; case matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Identifier(String);

impl Identifier {
    /// What a text must be, for messages.
    pub const EXPECTED: &str = "1 to 128 characters of A-Z a-z 0-9 . _ -, not \".\" or \"..\"";

    /// The identifier that this text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        (fits && text != "." && text != "..").then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_names_are_identifiers() {
        let longest = "a".repeat(128);
        for good in [
            "a",
            "acme",
            "ACME-1.eu_west",
            "...",
            ".a",
            "-",
            longest.as_str(),
        ] {
            assert_eq!(
                Identifier::parse(good).map(|id| id.to_string()),
                Some(good.to_owned()),
                "{good:?}"
            );
        }
        let too_long = "a".repeat(129);
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a%2fb",
            "é",
            "a\0",
            "a\n",
            too_long.as_str(),
        ] {
            assert_eq!(Identifier::parse(bad), None, "{bad:?}");
        }
    }
}
