//! Key sets (RFC 7517): JSON → keys that can verify, each parsed once, each good for one kind of signature.

use std::fmt;
use std::rc::Rc;

use p256::elliptic_curve::point::AffineCoordinates;
use rsa::BoxedUint;
use serde_json::{Map, Value};

use super::compact::base64url;
use super::der;
use crate::config::reader::quote;
use crate::config::{Algorithm, json};
use crate::jwt::signature::Material;

/// The largest answer that is read as a key set.
pub const MAX_KEY_SET_BYTES: usize = 512 * 1024;
/// How many keys of a set are used.
pub const MAX_KEYS: usize = 100;
/// How many keys are tried on one token: those that share a `kid`, or for a token without one those of its algorithm.
pub const MAX_TRIED: usize = 16;
/// How many reasons for keys that can't be used are told.
const MAX_REASONS: usize = 10;

/// A public key.
#[derive(PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    /// The one algorithm that the set allows it for, where it says so.
    algorithm: Option<Algorithm>,
    /// The key as a SubjectPublicKeyInfo in DER. It tells keys apart, and Envoy reads it.
    pub(super) der: Vec<u8>,
    pub(super) material: Material,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a JWK. The error says why it can't be used.
    pub fn from_jwk(jwk: &Value) -> Result<Self, String> {
        let Value::Object(jwk) = jwk else { return Err("is not an object".to_owned()) };
        let kty = text(jwk, "kty")?.ok_or("has no kty")?;
        match text(jwk, "use")? {
            None | Some("sig") => {}
            Some(other) => return Err(format!("is not for signatures: its use is {}", quote(other))),
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(list)) if list.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err("is not for verifying: its key_ops don't list verify".to_owned()),
        }
        if let Some(private) = ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().find(|name| jwk.contains_key(**name)) {
            return Err(format!("is a private key: it has {private}, which only whoever signs may know"));
        }
        let (material, der) = match kty {
            "RSA" => rsa(jwk)?,
            "EC" => elliptic(jwk)?,
            "OKP" => edwards(jwk)?,
            "oct" => return Err("is a secret (kty oct), which no key set may show: give secret instead".to_owned()),
            other => return Err(format!("has the kty {}, expected RSA, EC or OKP", quote(other))),
        };
        let algorithm = match text(jwk, "alg")? {
            None => None,
            Some(alg) => Some(
                Algorithm::named(alg)
                    .filter(|algorithm| material.fits(*algorithm))
                    .ok_or_else(|| format!("has the alg {}, which is none for such a key", quote(alg)))?,
            ),
        };
        let kid = text(jwk, "kid")?.map(str::to_owned);
        Ok(Self { kid, algorithm, der, material })
    }

    /// The name that tokens have for it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it can verify such signatures, and may.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.material.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

/// It takes what jwt-simple takes. That has a second arithmetic of large numbers for it, besides the one of the curves.
fn rsa(jwk: &Map<String, Value>) -> Result<(Material, Vec<u8>), String> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let number = BoxedUint::from_be_slice_vartime(&n);
    if number.bit_width_vartime() < 2048 {
        return Err("has fewer than 2048 bits".to_owned());
    }
    let exponent = BoxedUint::from_be_slice_vartime(&e);
    let key = Some(exponent)
        .filter(|exponent| *exponent == BoxedUint::from(65_537_u64))
        .and_then(|exponent| rsa::PublicKey::new_with_size_limits(number, exponent, 2048..=4096).ok())
        .ok_or("is no RSA key of 2048 to 4096 bits with the exponent 65537 (AQAB)")?;
    let der = der::rsa_key(&n, &e).ok_or("can't be written as DER")?;
    Ok((Material::Rsa(Box::new(key)), der))
}

fn elliptic(jwk: &Map<String, Value>) -> Result<(Material, Vec<u8>), String> {
    let curve = text(jwk, "crv")?.ok_or("has no crv")?;
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    let (material, oid) = match curve {
        "P-256" => {
            let key = point(&x, &y).and_then(|point| p256::ecdsa::VerifyingKey::from_affine(point).ok());
            (key.map(Material::P256), der::P256)
        }
        "P-384" => {
            let key = point(&x, &y).and_then(|point| p384::ecdsa::VerifyingKey::from_affine(point).ok());
            (key.map(Material::P384), der::P384)
        }
        other => return Err(format!("has the crv {}, expected P-256 or P-384", quote(other))),
    };
    let no_point = || format!("has x and y that are no point of {curve}");
    Ok((material.ok_or_else(no_point)?, der::elliptic_key(oid, &x, &y).ok_or_else(no_point)?))
}

/// The point that has these coordinates. jwt-simple reads compressed points too, which no JWK has, and for which a square
/// root of each field would be built in.
fn point<P: AffineCoordinates>(x: &[u8], y: &[u8]) -> Option<P>
where
    P::FieldRepr: for<'b> TryFrom<&'b [u8]>,
{
    P::from_coordinates(&x.try_into().ok()?, &y.try_into().ok()?).into_option()
}

fn edwards(jwk: &Map<String, Value>) -> Result<(Material, Vec<u8>), String> {
    match text(jwk, "crv")?.ok_or("has no crv")? {
        "Ed25519" => {
            let x = bytes(jwk, "x")?;
            // Anybody can sign for a point of small order.
            let key = ed25519_dalek::VerifyingKey::try_from(x.as_slice())
                .ok()
                .filter(|key| !key.is_weak())
                .ok_or("has an x that is no Ed25519 key")?;
            let der = der::edwards_key(&x).ok_or("can't be written as DER")?;
            Ok((Material::Ed25519(Box::new(key)), der))
        }
        other => Err(format!("has the crv {}, expected Ed25519", quote(other))),
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<Option<&'j str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a {name} that is not a string")),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let encoded = text(jwk, name)?.ok_or_else(|| format!("has no {name}"))?;
    base64url(encoded.as_bytes()).map_err(|_| format!("has a {name} that is not base64url"))
}

/// The keys that hold.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<Rc<Key>>);

/// A key set that was fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The keys of it that can be used; at least one.
    pub keys: KeySet,
    /// Why others can't, for the log; at most a few.
    pub skipped: Vec<String>,
}

impl KeySet {
    /// Reads an answer of the JWKS URL. The error says why it is none: then the keys held before go on.
    pub fn read(body: &[u8]) -> Result<Fetched, String> {
        if body.len() > MAX_KEY_SET_BYTES {
            return Err(format!("is longer than {MAX_KEY_SET_BYTES} bytes"));
        }
        let set = json::read(body).map_err(|_| "is not JSON, or has a key twice")?;
        let list = set.get("keys").and_then(Value::as_array).ok_or("is no key set: it has no list of keys")?;
        let mut keys: Vec<Rc<Key>> = Vec::new();
        let mut skipped = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            match Key::from_jwk(jwk) {
                Ok(_) if keys.len() >= MAX_KEYS => {
                    skipped.push(format!("keys[{index}] and all behind it: the set has more than {MAX_KEYS} keys"));
                    break;
                }
                Ok(key) => keys.push(Rc::new(key)),
                Err(why) => skipped.push(format!("keys[{index}] {why}")),
            }
        }
        if let more @ 1.. = skipped.len().saturating_sub(MAX_REASONS) {
            skipped.truncate(MAX_REASONS);
            skipped.push(format!("and {more} more"));
        }
        if keys.is_empty() {
            return Err(format!("has no key that can be used: {}", skipped.join("; ")));
        }
        Ok(Fetched { keys: Self(keys), skipped })
    }

    /// The keys, in the set's order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Key>> {
        self.0.iter()
    }

    /// Whether there is none, because none has come yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has a key that is the same in everything.
    pub fn contains(&self, key: &Key) -> bool {
        self.iter().any(|own| **own == *key)
    }
}

impl FromIterator<Rc<Key>> for KeySet {
    fn from_iter<I: IntoIterator<Item = Rc<Key>>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}
