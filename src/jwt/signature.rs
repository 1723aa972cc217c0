//! Signatures: the only question here is whether a key made this signature of this text.
//!
//! jwt-simple makes the tags of HMAC. Its `verify_token` isn't used: it reads
//! header and claims in its own way and by its own clock, and then a token would get one verdict where Envoy verifies its
//! signature, and another where it can't. Keys are those of the crates named here, which verify by themselves.

use std::fmt;

use hmac_sha256::Hash as Sha256;
use hmac_sha512::{Hash as Sha512, sha384::Hash as Sha384};
use jwt_simple::prelude::{HS256Key, HS384Key, HS512Key, MACLike};
use jwt_simple::reexports::ct_codecs;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::traits::PublicKeyParts as _;

use super::{Key, Signatures, envoy};
use crate::config::{Algorithm, Fault};

/// A public key's numbers, ready for use.
#[derive(PartialEq, Eq)]
pub enum Material {
    /// RSA.
    Rsa(Box<rsa::PublicKey>),
    /// ECDSA on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// ECDSA on P-384.
    P384(p384::ecdsa::VerifyingKey),
    /// Ed25519.
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

impl Material {
    pub const fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa(_) => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256(_) => matches!(algorithm, Es256),
            Self::P384(_) => matches!(algorithm, Es384),
            Self::Ed25519(_) => matches!(algorithm, EdDsa),
        }
    }

    /// A signature has exactly one length, and none of another gets any further.
    fn signature_length(&self) -> usize {
        match self {
            Self::Rsa(key) => key.size(),
            Self::P256(_) | Self::Ed25519(_) => 64,
            Self::P384(_) => 96,
        }
    }

    fn signed(&self, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => rsa_signed(key, algorithm, text, signature),
            // Hashed as everything else here is: the curves would bring a third SHA-2, and 19 kB more.
            Self::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_prehash(&Sha256::hash(text), &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_prehash(&Sha384::hash(text), &signature).is_ok()),
            // By RFC 8032's equation without a cofactor, and with no key or R of small order, which signs for everybody.
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(text, &signature).is_ok()),
        }
    }
}

/// The salt of PSS is as long as the hash (RFC 7518 3.5).
fn rsa_signed(key: &rsa::PublicKey, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> bool {
    let verdict = match algorithm {
        Algorithm::Rs256 => key.pkcs1v15_verify::<Sha256>(text, signature),
        Algorithm::Rs384 => key.pkcs1v15_verify::<Sha384>(text, signature),
        Algorithm::Rs512 => key.pkcs1v15_verify::<Sha512>(text, signature),
        Algorithm::Ps256 => key.pss_verify::<Sha256>(text, signature),
        Algorithm::Ps384 => key.pss_verify::<Sha384>(text, signature),
        Algorithm::Ps512 => key.pss_verify::<Sha512>(text, signature),
        _ => return false,
    };
    verdict.is_ok()
}

impl Key {
    /// Whether this key, which fits the algorithm, made the signature: by Envoy's verdict where it gives one.
    pub(super) fn signed(
        &self,
        algorithm: Algorithm,
        text: &[u8],
        signature: &[u8],
        signatures: &dyn Signatures,
    ) -> bool {
        if !self.fits(algorithm) || signature.len() != self.material.signature_length() {
            return false;
        }
        envoy::signed(algorithm, &self.der, text, signature, signatures)
            .unwrap_or_else(|| self.material.signed(algorithm, text, signature))
    }
}

/// The secret of HS256, HS384 and HS512.
pub struct Secret {
    hs256: HS256Key,
    hs384: HS384Key,
    hs512: HS512Key,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads the secret from an environment variable: the bytes of its text, just as they are.
    ///
    /// RFC 7518 3.2 wants as many of them as the hash has. Fewer can be found by trying, by anybody who has one token.
    pub fn read(
        variable: &str,
        algorithms: &[Algorithm],
        environment: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Self, Fault> {
        let fault = |message: String| Fault { path: "isolation.jwt.secret.env".to_owned(), message };
        let Some(secret) = environment(variable) else {
            return Err(fault(format!(
                "{variable} is not in the VM's environment: set it in vm_config.environment_variables"
            )));
        };
        let longest = algorithms.iter().max_by_key(|algorithm| tag_length(**algorithm));
        if let Some(algorithm) = longest
            && secret.len() < tag_length(*algorithm)
        {
            return Err(fault(format!(
                "{variable} has {} bytes, and {} needs at least {}",
                secret.len(),
                algorithm.as_str(),
                tag_length(*algorithm)
            )));
        }
        let bytes = secret.as_bytes();
        Ok(Self {
            hs256: HS256Key::from_bytes(bytes),
            hs384: HS384Key::from_bytes(bytes),
            hs512: HS512Key::from_bytes(bytes),
        })
    }

    /// Whether whoever has the secret made this tag of this text.
    pub(super) fn signed(&self, algorithm: Algorithm, text: &[u8], tag: &[u8]) -> bool {
        let expected = match algorithm {
            Algorithm::Hs256 => self.hs256.authentication_tag(text),
            Algorithm::Hs384 => self.hs384.authentication_tag(text),
            Algorithm::Hs512 => self.hs512.authentication_tag(text),
            _ => return false,
        };
        // In a time that doesn't depend on how much of it is right; tags of different lengths are never equal.
        ct_codecs::verify(&expected, tag)
    }
}

const fn tag_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Hs256 => 32,
        Algorithm::Hs384 => 48,
        Algorithm::Hs512 => 64,
        _ => 0,
    }
}
