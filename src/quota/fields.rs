//! What a response tells a client of its quotas: `RateLimit` and `RateLimit-Policy` as the IETF's draft has them
//! (draft-ietf-httpapi-ratelimit-headers-10), or the older `X-RateLimit-*`.

use super::room::Standing;
use crate::config::RateLimitStyle;
use crate::tenant::Identifier;

/// The largest number that a structured field can carry (RFC 9651, 3.3.1). A larger one is told as this.
const LARGEST: u64 = 999_999_999_999_999;

/// A header of a response: its name and value.
pub type Field = (&'static str, String);

/// The headers for quotas that a request was counted in, at a time in Unix seconds.
pub fn fields(style: RateLimitStyle, standings: &[(Identifier, Standing)], now: i64) -> Vec<Field> {
    if standings.is_empty() {
        return Vec::new();
    }
    match style {
        RateLimitStyle::Off => Vec::new(),
        RateLimitStyle::Draft => {
            let (mut policies, mut limits) = (String::new(), String::new());
            for (key, standing) in standings {
                // An identifier has no character that a structured field's string would have to escape.
                let separator = if policies.is_empty() { "" } else { ", " };
                let quota = standing.limit.min(LARGEST);
                policies.push_str(&format!("{separator}\"{key}\";q={quota}"));
                limits.push_str(&format!("{separator}\"{key}\";r={}", standing.remaining().min(LARGEST)));
                if let Some(window) = standing.window {
                    policies.push_str(&format!(";w={window}"));
                }
                if let Some(left) = seconds_left(standing, now) {
                    limits.push_str(&format!(";t={left}"));
                }
            }
            vec![("ratelimit-policy", policies), ("ratelimit", limits)]
        }
        RateLimitStyle::Legacy => {
            let Some((_, nearest)) = standings.iter().min_by_key(|(_, standing)| standing.remaining()) else {
                return Vec::new();
            };
            let mut fields = vec![
                ("x-ratelimit-limit", nearest.limit.to_string()),
                ("x-ratelimit-remaining", nearest.remaining().to_string()),
            ];
            fields.extend(seconds_left(nearest, now).map(|left| ("x-ratelimit-reset", left.to_string())));
            fields
        }
    }
}

/// Seconds until a count starts anew: at least 1 while it hasn't.
pub fn seconds_left(standing: &Standing, now: i64) -> Option<u64> {
    let left = standing.resets_at?.saturating_sub(now).max(1);
    u64::try_from(left).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(key: &str, limit: u64, used: u64, resets_at: Option<i64>) -> (Identifier, Standing) {
        let key = Identifier::parse(key.as_bytes()).unwrap();
        (key, Standing { limit, used, resets_at, window: resets_at.map(|_| 60) })
    }

    #[test]
    fn each_style_tells_what_is_so() {
        let standings = [
            quota("api.v1", 100, 40, Some(1030)),
            quota("storage", u64::MAX / 2, 7, None),
            quota("tight", 5, 9, Some(999)),
        ];
        assert_eq!(
            fields(RateLimitStyle::Draft, &standings, 1000),
            [
                (
                    "ratelimit-policy",
                    r#""api.v1";q=100;w=60, "storage";q=999999999999999, "tight";q=5;w=60"#.to_owned()
                ),
                ("ratelimit", r#""api.v1";r=60;t=30, "storage";r=999999999999999, "tight";r=0;t=1"#.to_owned()),
            ]
        );
        assert_eq!(
            fields(RateLimitStyle::Legacy, &standings, 1000),
            [
                ("x-ratelimit-limit", "5".to_owned()),
                ("x-ratelimit-remaining", "0".to_owned()),
                ("x-ratelimit-reset", "1".to_owned())
            ]
        );
        assert_eq!(fields(RateLimitStyle::Off, &standings, 1000), []);
        assert_eq!(fields(RateLimitStyle::Draft, &[], 1000), []);
    }
}
