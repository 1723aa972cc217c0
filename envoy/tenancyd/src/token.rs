//! The bearer tokens that writers and proxies must show.

use std::io::Read;
use std::path::Path;

use subtle::ConstantTimeEq;

/// Where a token may be configured. A command line may not hold it: every user of the machine can read those.
pub struct Source {
    /// The environment variable.
    pub variable: &'static str,
    /// The option that names a file.
    pub option: &'static str,
}

/// The token for writes.
pub const WRITES: Source = Source { variable: "TENANCYD_TOKEN", option: "--token-file" };
/// The token for leases.
pub const LEASES: Source = Source { variable: "TENANCYD_PROXY_TOKEN", option: "--proxy-token-file" };

/// What Envoy must show where clients connect.
pub const CONNECTIONS: Source = Source { variable: "TENANCYD_CONNECTIONS_SECRET", option: "--connections-secret-file" };

/// The most that a token may have; a header of a request must hold it.
const MAX_BYTES: u64 = 4096;

/// A token. It has no `Debug`, so that it can't get into a log.
pub struct Token(Vec<u8>);

impl Token {
    /// The configured token, if there is one: from the file, or else from the environment variable's value.
    pub fn load(source: &Source, file: Option<&Path>, variable: Option<&str>) -> Result<Option<Self>, String> {
        let Source { variable: name, option } = source;
        // `VARIABLE=` with nothing behind it is how compose files write "not set".
        let variable = variable.map(str::trim).filter(|text| !text.is_empty());
        match (file, variable) {
            (Some(_), Some(_)) => Err(format!("both {name} and {option} are given; one of them must go")),
            (Some(file), None) => Self::read(file).map(Some),
            (None, Some(text)) => Self::parse(text).map(Some).map_err(|fault| format!("{name}: {fault}")),
            (None, None) => Ok(None),
        }
    }

    /// Whether this is what a client gave. It takes the same time wherever the two differ.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }

    fn read(file: &Path) -> Result<Self, String> {
        let mut text = String::new();
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_BYTES.saturating_add(3)).read_to_string(&mut text))
            .map_err(|error| format!("token file {}: {error}", file.display()))?;
        Self::parse(text.trim()).map_err(|fault| format!("token file {}: {fault}", file.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the token is empty".to_owned());
        }
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(format!("the token has more than {MAX_BYTES} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "the token has characters that no header can carry; use letters, digits and - . _ ~ + / =".to_owned()
            );
        }
        Ok(Self(text.as_bytes().to_vec()))
    }
}

/// The token behind `Bearer `, whatever the case of that word.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = file("good", "from-file\n");
        let (empty, spaced, long) = (file("empty", "\n"), file("spaced", "a b"), file("long", &"x".repeat(5000)));
        let load = |file: Option<&Path>, variable| Token::load(&WRITES, file, variable);

        assert!(load(None, None).unwrap_or_else(|_| panic!()).is_none());
        assert!(load(None, Some("")).unwrap_or_else(|_| panic!()).is_none());
        assert!(load(None, Some("t")).ok().flatten().unwrap().is(b"t"));
        assert!(load(Some(&good), None).ok().flatten().unwrap().is(b"from-file"));
        assert!(load(Some(&good), Some("")).ok().flatten().unwrap().is(b"from-file"));
        let missing = folder.path().join("missing");
        for (file, variable, expected) in [
            (Some(good.as_path()), Some("t"), "both"),
            (Some(&empty), None, "is empty"),
            (Some(&spaced), None, "no header"),
            (Some(&long), None, "more than"),
            (Some(&missing), None, "No such file"),
            (None, Some("tö"), "no header"),
        ] {
            let fault = load(file, variable).err().unwrap();
            assert!(fault.contains(expected), "{fault} is not about {expected}");
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token(b"secret".to_vec());
        for (given, expected) in
            [("secret", true), ("secreT", false), ("secre", false), ("secrets", false), ("", false)]
        {
            assert_eq!(token.is(given.as_bytes()), expected, "{given:?}");
        }
    }
}
