//! What a token whose signature is good must say (RFC 7519), and which tenant it names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::TokenFault;
use crate::config::reader::exact_u64;
use crate::config::{ClaimName, Jwt};
use crate::tenant::Identifier;

/// The last second of the year 9999. A date beyond it is milliseconds written where seconds belong, and a token that never
/// expires.
const LAST_SECOND: u64 = 253_402_300_799;

/// Judges the claims at a time: the tenant, and from when until when they hold.
///
/// With a skew of s seconds a token holds from `nbf - s` on, at that very second, and until just before `exp + s`.
pub fn judge(
    claims: &Map<String, Value>,
    settings: &Jwt,
    claim: &ClaimName,
    now: SystemTime,
) -> Result<(Identifier, SystemTime, SystemTime), TokenFault> {
    let skew = settings.clock_skew();
    let until = date(claims.get("exp").ok_or(TokenFault::NoExpiry)?)?.checked_add(skew).ok_or(TokenFault::Malformed)?;
    if now >= until {
        return Err(TokenFault::Expired);
    }
    let mut from = UNIX_EPOCH;
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name) {
            from = from.max(date(value)?);
        }
    }
    let from = from.checked_sub(skew).unwrap_or(UNIX_EPOCH);
    if now < from {
        return Err(TokenFault::NotYetValid);
    }
    if let Some(issuer) = &settings.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(TokenFault::Issuer);
    }
    audience(claims.get("aud"), &settings.audiences.0)?;
    let named = claim.find(claims).filter(|value| !value.is_null()).ok_or(TokenFault::NoClaim)?;
    let tenant = tenant(named).ok_or(TokenFault::Claim)?;
    Ok((tenant, from, until))
}

/// A NumericDate: seconds since 1970, whole or not. What lies before 1970 is taken for its first second.
fn date(value: &Value) -> Result<SystemTime, TokenFault> {
    let since = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| TokenFault::Malformed)?,
        (None, None) => return Err(TokenFault::Malformed),
    };
    if since.as_secs() > LAST_SECOND {
        return Err(TokenFault::Malformed);
    }
    UNIX_EPOCH.checked_add(since).ok_or(TokenFault::Malformed)
}

/// Whether one of the token's audiences is one of ours. Without any of ours `aud` need not be there, but it must be sound.
fn audience(aud: Option<&Value>, ours: &[String]) -> Result<(), TokenFault> {
    let theirs = match aud {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(list)) => {
            list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or(TokenFault::Audience)?
        }
        Some(_) => return Err(TokenFault::Audience),
    };
    if ours.is_empty() || ours.iter().any(|own| theirs.contains(&own.as_str())) {
        Ok(())
    } else {
        Err(TokenFault::Audience)
    }
}

/// The tenant that a claim's value names: a string that is an identifier, or a whole number, in decimal.
fn tenant(value: &Value) -> Option<Identifier> {
    match value {
        Value::String(text) => Identifier::parse(text.as_bytes()),
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_f64().and_then(exact_u64))?;
            Identifier::parse(whole.to_string().as_bytes())
        }
        _ => None,
    }
}

/// When a token expires that Envoy's jwt_authn has verified, by its `exp` as a property gives it: seconds, as a little-endian double.
pub fn expiry_in_metadata(property: &[u8]) -> Option<SystemTime> {
    // A fraction of a second more doesn't matter; jwt_authn takes whole seconds.
    let seconds = f64::from_le_bytes(property.try_into().ok()?).floor();
    UNIX_EPOCH.checked_add(Duration::from_secs(exact_u64(seconds)?))
}

/// The tenant in a claim that Envoy's jwt_authn has left in dynamic metadata, as a property gives it: a string's bytes as
/// they are, a number as a little-endian double.
///
/// Eight bytes can be either. They are a string if they are an identifier; the double of a whole number below 2^45 never
/// is, because its lowest byte is zero.
pub fn tenant_in_metadata(property: &[u8]) -> Result<Identifier, TokenFault> {
    let number = || {
        let double = f64::from_le_bytes(property.try_into().ok()?);
        Identifier::parse(exact_u64(double)?.to_string().as_bytes())
    };
    Identifier::parse(property).or_else(number).ok_or(TokenFault::Claim)
}
