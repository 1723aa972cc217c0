//! Tokens, and the keys that they are verified with.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::Outcome;

/// The secret of HS256, for the filter from its environment.
pub const SECRET: &str = "a secret of this benchmark alone";
/// The end of all tokens: the year 2100.
const EXPIRES: u64 = 4_102_444_800;

/// What a token is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    RS256,
    ES256,
    HS256,
    EdDSA,
}

impl Algorithm {
    /// As tokens and the files of the variants call it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// One key for each algorithm.
pub struct Keys {
    rs256: RsaKeyPair,
    es256: EcdsaKeyPair,
    eddsa: Ed25519KeyPair,
    random: SystemRandom,
}

impl Keys {
    /// A key pair of RSA takes seconds to make, so that one is of the tests; the others are new.
    pub fn new() -> Outcome<Self> {
        let random = SystemRandom::new();
        let pem = include_str!("../../tests/tokens/rsa-1.pem");
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let es256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        Ok(Self {
            rs256: RsaKeyPair::from_pkcs8(&STANDARD.decode(body)?)?,
            es256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, es256.as_ref(), &random)?,
            eddsa: Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random)?.as_ref())?,
            random,
        })
    }

    /// The set of that one key, as an issuer would publish it.
    pub fn key_set(&self, algorithm: Algorithm) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match algorithm {
            Algorithm::RS256 => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = self.rs256.public().into();
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
            Algorithm::ES256 => {
                // An uncompressed point: a byte that says so, x, y.
                let (_, point) = self.es256.public_key().as_ref().split_at(1);
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.eddsa.public_key().as_ref())})
            }
            Algorithm::HS256 => json!({"kty": "oct", "k": encode(SECRET.as_bytes())}),
        };
        if let Some(key) = key.as_object_mut() {
            key.insert("alg".into(), algorithm.name().into());
            key.insert("kid".into(), "bench".into());
        }
        json!({"keys": [key]})
    }

    /// A token of a tenant's user; another number makes another token.
    pub fn token(&self, algorithm: Algorithm, tenant: &str, number: usize) -> String {
        let header = json!({"alg": algorithm.name(), "kid": "bench", "typ": "JWT"});
        let claims = json!({
            "iss": "https://issuer.example.com", "aud": "api", "sub": format!("user-{number}"), "tenant_id": tenant,
            "iat": 1_700_000_000, "exp": EXPIRES,
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(algorithm, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// An empty signature where signing fails; then the check of the answers tells.
    fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::RS256 => {
                let mut signature = vec![0; self.rs256.public().modulus_len()];
                match self.rs256.sign(&RSA_PKCS1_SHA256, &self.random, text, &mut signature) {
                    Ok(()) => signature,
                    Err(_) => Vec::new(),
                }
            }
            Algorithm::ES256 => {
                self.es256.sign(&self.random, text).map(|signature| signature.as_ref().to_vec()).unwrap_or_default()
            }
            Algorithm::EdDSA => self.eddsa.sign(text).as_ref().to_vec(),
            Algorithm::HS256 => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text).as_ref().to_vec()
            }
        }
    }
}
