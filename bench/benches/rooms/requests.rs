//! Requests as Envoy gives them: the bytes of a header map.

use envoy_tenancy::request::header_map_bytes;

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
    let pairs: Vec<(&str, &[u8])> = usual.iter().chain(more).map(|(name, value)| (*name, value.as_bytes())).collect();
    header_map_bytes(&pairs)
}
