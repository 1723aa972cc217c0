//! What Envoy's `verify_signature` does, done with `ring`, whose cryptography has the same origin as Envoy's.

use std::cell::Cell;

use envoy_tenancy::jwt::Signatures;
use prost::Message;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

#[derive(Clone, PartialEq, prost::Message)]
struct VerifySignatureArguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VerifySignatureResult {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// An Envoy that counts what it was asked.
#[derive(Default)]
pub struct Envoy {
    pub asked: Cell<u32>,
}

impl Signatures for Envoy {
    fn verify_signature(&self, arguments: &[u8]) -> Option<Vec<u8>> {
        self.asked.set(self.asked.get() + 1);
        let arguments = VerifySignatureArguments::decode(arguments).expect("the message is one of Envoy's");
        let (key, kind) = public_key(&arguments.public_key);
        let algorithm: &'static dyn VerificationAlgorithm = match (kind, &*arguments.hash_function) {
            (Kind::Rsa, "sha256") => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, "sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, "sha512") => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Kind::P256, "sha256") => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P384, "sha384") => &signature::ECDSA_P384_SHA384_ASN1,
            (_, other) => panic!("Envoy was asked for {other}"),
        };
        let good = UnparsedPublicKey::new(algorithm, key).verify(&arguments.text, &arguments.signature).is_ok();
        let error = if good { "" } else { "Failed to verify digest. Error code: 0" };
        Some(VerifySignatureResult { result: good, error: error.to_owned() }.encode_to_vec())
    }
}

enum Kind {
    Rsa,
    P256,
    P384,
}

/// A SubjectPublicKeyInfo → the key in it, as `ring` wants it: a point, or an RSAPublicKey.
fn public_key(der: &[u8]) -> (&[u8], Kind) {
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82";
    const P256: &[u8] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
    if let Some(point) = der.strip_prefix(P256) {
        return (point, Kind::P256);
    }
    if let Some(point) = der.strip_prefix(P384) {
        return (point, Kind::P384);
    }
    assert_eq!(&der[..2], b"\x30\x82");
    assert_eq!(usize::from(u16::from_be_bytes([der[2], der[3]])), der.len() - 4);
    let bits = der[4..].strip_prefix(RSA).expect("an RSA key");
    assert_eq!(usize::from(u16::from_be_bytes([bits[0], bits[1]])), bits.len() - 2);
    assert_eq!(bits[2], 0, "no unused bits");
    (&bits[3..], Kind::Rsa)
}
