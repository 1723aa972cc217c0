//! Tokens and keys, good and bad.

use std::sync::LazyLock;

use ed25519_compact::Seed;
use jwt_simple::prelude::{
    ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, HS256Key, HS384Key,
    HS512Key, MACLike, RS256KeyPair,
};
use jwt_simple::reexports::ct_codecs::{Base64, Base64UrlSafeNoPadding, Decoder, Encoder};
use p256::ecdsa::signature::Signer as _;
use ring::rand::SystemRandom;
use ring::signature::{self as ring_signature, RsaEncoding};
use serde_json::{Value, json};

/// The time of every test, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;
/// The secret of HS256, HS384 and HS512.
pub const SECRET: &str = "sixty-four bytes of a secret that nobody else has, not even here";

/// `base` with other values in place of some; null takes one away.
pub fn but(base: Value, changes: Value) -> Value {
    let (Value::Object(mut base), Value::Object(changes)) = (base, changes) else { panic!("two objects") };
    for (key, value) in changes {
        if value.is_null() {
            base.remove(&key);
        } else {
            base.insert(key, value);
        }
    }
    Value::Object(base)
}

/// Claims of a good token.
pub fn good_claims() -> Value {
    json!({
        "iss": "https://issuer.example.com", "aud": "api", "sub": "u-1", "tenant_id": "acme",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
    })
}

pub const RSA_1: &str = include_str!("rsa-1.pem");
pub const RSA_2: &str = include_str!("rsa-2.pem");

/// Somebody who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// RSA of 2048 bits.
    Rsa1,
    /// RSA of 3072 bits.
    Rsa2,
    P256,
    /// Another key on P-256.
    P256Other,
    P384,
    Ed25519,
    Secret,
}

pub static ES256: LazyLock<ES256KeyPair> = LazyLock::new(|| ES256KeyPair::from_bytes(&[7; 32]).unwrap());
pub static ES256_OTHER: LazyLock<ES256KeyPair> = LazyLock::new(|| ES256KeyPair::from_bytes(&[8; 32]).unwrap());
pub static ES384: LazyLock<ES384KeyPair> = LazyLock::new(|| ES384KeyPair::from_bytes(&[7; 48]).unwrap());
pub static ED25519: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_bytes(&ed25519_compact::KeyPair::from_seed(Seed::new([7; 32]))[..]).unwrap());

impl Signer {
    pub fn kid(self) -> String {
        format!("{self:?}")
    }

    /// The public key as a JWK, without anything that isn't needed.
    pub fn jwk(self) -> Value {
        let full = match self {
            Self::Rsa1 => RS256KeyPair::from_pem(RSA_1).unwrap().public_key().to_jwk(),
            Self::Rsa2 => RS256KeyPair::from_pem(RSA_2).unwrap().public_key().to_jwk(),
            Self::P256 => ES256.public_key().to_jwk(),
            Self::P256Other => ES256_OTHER.public_key().to_jwk(),
            Self::P384 => ES384.public_key().to_jwk(),
            Self::Ed25519 => ED25519.public_key().to_jwk(),
            Self::Secret => json!({"kty": "oct", "k": encode(SECRET)}).to_string(),
        };
        but(serde_json::from_str(&full).unwrap(), json!({"alg": null, "use": null}))
    }

    /// The algorithm that such a key is most used for.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Rsa1 | Self::Rsa2 => "RS256",
            Self::P256 | Self::P256Other => "ES256",
            Self::P384 => "ES384",
            Self::Ed25519 => "EdDSA",
            Self::Secret => "HS256",
        }
    }

    /// A signature, where the algorithm is none of the key's with the one it is most used for.
    pub fn sign(self, algorithm: &str, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa1 => rsa(RSA_1, algorithm, text),
            Self::Rsa2 => rsa(RSA_2, algorithm, text),
            Self::P256 => p256(&ES256, text),
            Self::P256Other => p256(&ES256_OTHER, text),
            Self::P384 => {
                let signature: p384::ecdsa::Signature = ES384.key_pair().as_ref().sign(text);
                signature.to_vec()
            }
            Self::Ed25519 => {
                ed25519_compact::KeyPair::from_seed(Seed::new([7; 32])).sk.sign(text, None).as_ref().to_vec()
            }
            Self::Secret => hmac(SECRET.as_bytes(), algorithm, text),
        }
    }
}

fn p256(key: &ES256KeyPair, text: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::Signature = key.key_pair().as_ref().sign(text);
    signature.to_vec()
}

fn rsa(pem: &str, algorithm: &str, text: &[u8]) -> Vec<u8> {
    let encoding: &dyn RsaEncoding = match algorithm {
        "RS384" => &ring_signature::RSA_PKCS1_SHA384,
        "RS512" => &ring_signature::RSA_PKCS1_SHA512,
        "PS256" => &ring_signature::RSA_PSS_SHA256,
        "PS384" => &ring_signature::RSA_PSS_SHA384,
        "PS512" => &ring_signature::RSA_PSS_SHA512,
        _ => &ring_signature::RSA_PKCS1_SHA256,
    };
    let key = ring_signature::RsaKeyPair::from_pkcs8(&pem_body(pem)).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(encoding, &SystemRandom::new(), text, &mut signature).unwrap();
    signature
}

pub fn hmac(secret: &[u8], algorithm: &str, text: &[u8]) -> Vec<u8> {
    match algorithm {
        "HS384" => HS384Key::from_bytes(secret).authentication_tag(text),
        "HS512" => HS512Key::from_bytes(secret).authentication_tag(text),
        _ => HS256Key::from_bytes(secret).authentication_tag(text),
    }
}

pub fn pem_body(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    Base64::decode_to_vec(body, None).unwrap()
}

/// A JWKS of these keys, each with its `kid`.
pub fn key_set(signers: &[Signer]) -> Value {
    let keys: Vec<Value> = signers.iter().map(|signer| but(signer.jwk(), json!({"kid": signer.kid()}))).collect();
    json!({"keys": keys})
}

/// A token with this header and these claims, signed as the header's `alg` says.
pub fn token(signer: Signer, header: &Value, claims: &Value) -> Vec<u8> {
    token_of(signer, header["alg"].as_str().unwrap_or_default(), &header.to_string(), &claims.to_string())
}

/// A token of these texts, signed with that algorithm.
pub fn token_of(signer: Signer, algorithm: &str, header: &str, claims: &str) -> Vec<u8> {
    signed_by(header, claims, |text| signer.sign(algorithm, text))
}

pub fn signed_by(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let text = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", encode(signature)).into_bytes()
}

/// The header that a signer's tokens have.
pub fn header(signer: Signer) -> Value {
    json!({"alg": signer.algorithm(), "kid": signer.kid(), "typ": "JWT"})
}

/// A good token.
pub fn good(signer: Signer) -> Vec<u8> {
    token(signer, &header(signer), &good_claims())
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

/// A token for the message of a failed test.
pub fn shown(token: &[u8]) -> String {
    let part = |part: &[u8]| match Base64UrlSafeNoPadding::decode_to_vec(part, None) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).chars().take(400).collect(),
        Err(_) => format!("{:?}", String::from_utf8_lossy(part).chars().take(80).collect::<String>()),
    };
    token.split(|b| *b == b'.').take(2).map(part).collect::<Vec<_>>().join(" . ")
}
