//! Requests as Envoy gives them: the bytes of a header map.

/// What an ordinary client sends, with more headers where there are any.
pub fn header_map(authority: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":authority", authority),
        (":path", path),
        (":method", "GET"),
        (":scheme", "http"),
        ("user-agent", "bench/1.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "2c1b5d6e-7f80-4a91-b2c3-d4e5f6071829"),
    ];
    let pairs: Vec<&(&str, &str)> = usual.iter().chain(more).collect();
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = number(pairs.len()).to_vec();
    for (name, value) in &pairs {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
