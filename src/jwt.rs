//! Tokens: the bytes that a request carries → the tenant that whoever signs tokens says it belongs to, or why not.
//!
//! A request's way through this room: [`presented`] finds the token in a header's values. [`Tokens::verify`] looks
//! whether this worker has verified the very same bytes before; if not, the token is taken apart (`compact`), keys are
//! chosen by its `kid` and algorithm (`keys`), its signature is verified (`signature`, with Envoy's own cryptography where
//! that is offered, see `envoy`), and only then its claims are read (`claims`).
//!
//! Nothing in a token chooses how it is verified: the configuration lists the algorithms, each key has one type, and keys
//! come from the configuration or its JWKS URL alone. What is refused and what is taken, `docs/tokens.md` lists in full.

mod claims;
mod compact;
mod der;
mod envoy;
mod keys;
mod memory;
mod signature;
mod source;

use std::rc::Rc;
use std::time::SystemTime;

pub use self::claims::{expiry_in_metadata, tenant_in_metadata};
pub use self::envoy::{InWasm, Signatures};
pub use self::keys::{Fetched, Key, KeySet, MAX_KEY_SET_BYTES, MAX_KEYS};
pub use self::signature::Secret;
pub use self::source::{Presented, presented};
use self::{compact::Compact, keys::MAX_TRIED, memory::Memory};
use crate::config::{Algorithm, ClaimName, Fault, Jwks, Jwt};
use crate::tenant::Identifier;

/// The longest token that is looked at. Envoy takes 60 KiB of headers altogether; real tokens have one or two.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a verified token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The tenant that its claim names.
    pub tenant: Identifier,
    /// The first moment at which it holds, the clock's skew included.
    pub from: SystemTime,
    /// The first moment at which it no longer holds, the clock's skew included.
    pub until: SystemTime,
    /// The key that verified it; `None` for the secret.
    key: Option<Rc<Key>>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// There is none where one is needed.
    Missing,
    /// It isn't a signed token in compact form, or its parts aren't what they must be.
    Malformed,
    /// It is a token of another kind, such as a logout token.
    Type,
    /// It says that whoever doesn't know some extension must refuse it.
    Critical,
    /// Its algorithm isn't allowed, or doesn't belong to the key that it names.
    Algorithm,
    /// It names a key that isn't known, or names none and there is none for its algorithm.
    UnknownKey,
    /// The key that it names, or the secret, didn't sign it.
    Signature,
    /// It names no key, and no key for its algorithm signed it.
    SignatureOfNoKey,
    /// It never expires.
    NoExpiry,
    /// It has expired.
    Expired,
    /// It isn't valid yet, or was issued in the future.
    NotYetValid,
    /// Somebody else issued it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It is good, and says nothing of a tenant. There may be another way in which the request does.
    NoClaim,
    /// What it says of its tenant names none.
    Claim,
}

impl TokenFault {
    /// The reason, as the client is told it. It repeats nothing of the token.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Type => "type",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature | Self::SignatureOfNoKey => "signature",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoClaim | Self::Claim => "claim",
        }
    }

    /// The value of `www-authenticate` (RFC 6750): a request without a token is told no error.
    pub const fn www_authenticate(self) -> &'static str {
        match self {
            Self::Missing => "Bearer",
            _ => r#"Bearer error="invalid_token""#,
        }
    }

    /// Whether a newer key set could change this: the token may be signed with a key that came after ours.
    pub const fn newer_keys_may_help(self) -> bool {
        matches!(self, Self::UnknownKey | Self::SignatureOfNoKey)
    }
}

/// One worker's way to judge tokens: the settings, the keys that hold now, and the tokens it has seen.
pub struct Tokens {
    settings: Jwt,
    claim: ClaimName,
    secret: Option<Secret>,
    keys: KeySet,
    memory: Memory,
}

impl Tokens {
    /// Takes the settings; `environment` gives the VM's environment variables, of which one may hold the secret. Keys from
    /// a URL are yet to come, by [`Tokens::set_keys`].
    pub fn new(
        settings: &Jwt,
        claim: &ClaimName,
        environment: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Self, Fault> {
        let keys = match &settings.jwks {
            Some(Jwks::Inline(keys)) => keys.clone(),
            Some(Jwks::Remote(_)) | None => KeySet::default(),
        };
        let secret = match &settings.secret {
            Some(source) => Some(Secret::read(&source.env.0, &settings.algorithms.0, environment)?),
            None => None,
        };
        Ok(Self { settings: settings.clone(), claim: claim.clone(), secret, keys, memory: Memory::new() })
    }

    /// The keys that hold now.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Takes a newer key set. What was verified with a key that is no longer in it must be verified anew; a key that is the
    /// same to the last byte, `kid` included, goes on.
    pub fn set_keys(&mut self, keys: KeySet) {
        self.keys = keys;
        self.memory.retain(|key| self.keys.contains(key));
    }

    /// Judges a token, and remembers a good one.
    pub fn verify(
        &mut self,
        token: &[u8],
        now: SystemTime,
        signatures: &dyn Signatures,
    ) -> Result<Verified, TokenFault> {
        if let Some(verified) = self.memory.get(token, now) {
            return Ok(verified);
        }
        let verified = self.verify_anew(token, now, signatures)?;
        self.memory.insert(token, verified.clone());
        Ok(verified)
    }

    /// How many tokens are remembered, and what they take in bytes.
    pub fn remembered(&self) -> (usize, u64) {
        self.memory.size()
    }

    fn verify_anew(&self, token: &[u8], now: SystemTime, signatures: &dyn Signatures) -> Result<Verified, TokenFault> {
        let token = Compact::read(token)?;
        let algorithm = Algorithm::named(&token.algorithm)
            .filter(|algorithm| self.settings.algorithms.0.contains(algorithm))
            .ok_or(TokenFault::Algorithm)?;
        let key = if algorithm.uses_secret() {
            // A secret has no name, so whatever `kid` says doesn't matter.
            let secret = self.secret.as_ref().ok_or(TokenFault::Algorithm)?;
            if !secret.signed(algorithm, token.signed, &token.signature) {
                return Err(TokenFault::Signature);
            }
            None
        } else {
            Some(self.key_that_signed(&token, algorithm, signatures)?)
        };
        // Nothing of the payload is looked at before somebody we know has signed it.
        let claims = token.claims()?;
        let (tenant, from, until) = claims::judge(&claims, &self.settings, &self.claim, now)?;
        Ok(Verified { tenant, from, until, key })
    }

    fn key_that_signed(
        &self,
        token: &Compact<'_>,
        algorithm: Algorithm,
        signatures: &dyn Signatures,
    ) -> Result<Rc<Key>, TokenFault> {
        let named = |key: &&Rc<Key>| token.kid.as_deref().is_none_or(|kid| key.kid() == Some(kid));
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(TokenFault::UnknownKey);
        }
        let mut candidates = self.keys.iter().filter(named).filter(|key| key.fits(algorithm)).peekable();
        if candidates.peek().is_none() {
            return Err(if token.kid.is_some() { TokenFault::Algorithm } else { TokenFault::UnknownKey });
        }
        candidates
            .take(MAX_TRIED)
            .find(|key| key.signed(algorithm, token.signed, &token.signature, signatures))
            .map(Rc::clone)
            .ok_or(if token.kid.is_some() { TokenFault::Signature } else { TokenFault::SignatureOfNoKey })
    }
}
