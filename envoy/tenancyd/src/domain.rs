//! Domain names, in the one form in which they are kept and looked up.

use serde::Serialize;

/// A name in lower case, without the trailing dot, IDN as punycode: what the filter makes of a request's host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    /// What a text must be, for messages.
    pub const EXPECTED: &str = "a domain name without a port: labels of 1 to 63 letters, digits, - or _, at most 253 characters in all";

    /// The domain that this text names, whatever its case, script or trailing dot.
    pub fn parse(text: &str) -> Option<Self> {
        // Four bytes a character is the most that a name of 254 characters can have, and what bounds the work of IDNA.
        if text.len() > 1016 {
            return None;
        }
        let ascii = match text.is_ascii() {
            true => text.to_ascii_lowercase(),
            false => idna::domain_to_ascii(text).ok()?,
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
        };
        let label_fits =
            |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
        (name.len() <= 253 && name.split('.').all(label_fits)).then(|| Self(name.to_owned()))
    }

    /// Its normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_domain_has_one_form() {
        for (given, expected) in [
            ("app.acme.com", "app.acme.com"),
            ("App.ACME.com.", "app.acme.com"),
            ("localhost", "localhost"),
            ("a_b.1-2.example", "a_b.1-2.example"),
            ("büro.example", "xn--bro-hoa.example"),
            ("BÜRO.Example.", "xn--bro-hoa.example"),
            ("XN--BRO-HOA.example", "xn--bro-hoa.example"),
            ("faß。example", "xn--fa-hia.example"),
        ] {
            assert_eq!(
                Domain::parse(given).map(|domain| domain.to_string()),
                Some(expected.to_owned()),
                "{given:?}"
            );
        }
    }

    #[test]
    fn what_is_no_host_name_is_no_domain() {
        let label = "a".repeat(64);
        let long = format!("{}.{}", vec!["a".repeat(60); 4].join("."), "b".repeat(12));
        let endless = "ü".repeat(100_000);
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "a b",
            "a:80",
            "[::1]",
            "a/b",
            "*.acme.com",
            "a\0",
            "ü:80",
            label.as_str(),
            long.as_str(),
            endless.as_str(),
        ] {
            assert_eq!(Domain::parse(bad), None, "{bad:?}");
        }
        let longest = format!("{}.{}", vec!["a".repeat(60); 4].join("."), "b".repeat(9));
        assert_eq!(longest.len(), 253);
        assert!(Domain::parse(&longest).is_some());
    }
}
