//! DER (X.690), as far as Envoy reads it: public keys and ECDSA signatures. What can write all of it, and its errors, would
//! take 43 kB of the filter.

/// The object identifier of the curve P-256 (RFC 5480), with tag and length.
pub const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// The object identifier of the curve P-384.
pub const P384: &[u8] = &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22];

/// rsaEncryption, with its parameter, which is NULL (RFC 8017).
const RSA: &[u8] = &[0x30, 13, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
/// id-ecPublicKey; its parameter is the curve.
const ELLIPTIC: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// id-Ed25519 (RFC 8410), which has no parameter.
const EDWARDS: &[u8] = &[0x30, 5, 0x06, 3, 0x2b, 0x65, 0x70];

/// The SubjectPublicKeyInfo of an Ed25519 key.
pub fn edwards_key(key: &[u8]) -> Option<Vec<u8>> {
    public_key(EDWARDS, key)
}

/// The SubjectPublicKeyInfo of an RSA key.
pub fn rsa_key(n: &[u8], e: &[u8]) -> Option<Vec<u8>> {
    public_key(RSA, &sequence(&[integer(n)?, integer(e)?])?)
}

/// The SubjectPublicKeyInfo of a point of a curve, uncompressed.
pub fn elliptic_key(curve: &[u8], x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    public_key(&value(0x30, &[ELLIPTIC, curve].concat())?, &[&[4], x, y].concat())
}

/// Several values, each with tag and length, as one.
pub fn sequence(values: &[Vec<u8>]) -> Option<Vec<u8>> {
    value(0x30, &values.concat())
}

/// A number that isn't negative.
pub fn integer(number: &[u8]) -> Option<Vec<u8>> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    let (_, digits) = number.split_at_checked(zeros)?;
    // Without a zero in front, a first bit of one would make it negative, and no digits no number.
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    value(0x02, &[sign, digits].concat())
}

fn public_key(algorithm: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    // All bits of the last byte belong to the key.
    let bits = value(0x03, &[&[0], key].concat())?;
    value(0x30, &[algorithm, &bits].concat())
}

/// `None` for what no key has: 64 KiB and more.
fn value(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(content.len()).ok()?.to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, ..0x80) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    Some([head, content].concat())
}

#[cfg(test)]
mod tests {
    use jwt_simple::prelude::{
        ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, RS256PublicKey,
    };

    use super::*;

    #[test]
    fn an_rsa_key_is_what_jwt_simple_writes() {
        for (length, first) in [(256, 0x80), (256, 0xff), (384, 0x91), (512, 0xc3), (257, 0x01)] {
            let mut n = vec![0x5b; length];
            n[0] = first;
            let key = RS256PublicKey::from_components(&n, &[1, 0, 1]).unwrap();
            assert_eq!(rsa_key(&n, &[1, 0, 1]), Some(key.to_der().unwrap()), "{length} {first}");
            let padded = ([&[0], &n[..]].concat(), [0, 1, 0, 1]);
            assert_eq!(rsa_key(&padded.0, &padded.1), Some(key.to_der().unwrap()), "{length} {first}");
        }
    }

    #[test]
    fn a_point_is_what_jwt_simple_writes() {
        let (p256, p384) = (ES256KeyPair::generate().public_key(), ES384KeyPair::generate().public_key());
        let point = p256.public_key().to_bytes_uncompressed();
        assert_eq!(elliptic_key(P256, &point[1..33], &point[33..]), Some(p256.to_der().unwrap()));
        let point = p384.public_key().to_bytes_uncompressed();
        assert_eq!(elliptic_key(P384, &point[1..49], &point[49..]), Some(p384.to_der().unwrap()));
        let edwards = Ed25519KeyPair::generate().public_key();
        assert_eq!(edwards_key(&edwards.to_bytes()), Some(edwards.to_der()));
    }

    #[test]
    fn a_length_takes_one_to_three_bytes() {
        let head =
            |length: usize| value(4, &vec![7; length]).map(|mut value| value.drain(..value.len() - length).collect());
        let rows: [(usize, Option<Vec<u8>>); 6] = [
            (0, Some(vec![4, 0])),
            (127, Some(vec![4, 127])),
            (128, Some(vec![4, 0x81, 128])),
            (256, Some(vec![4, 0x82, 1, 0])),
            (65_535, Some(vec![4, 0x82, 255, 255])),
            (65_536, None),
        ];
        for (length, expected) in rows {
            assert_eq!(head(length), expected, "{length}");
        }
    }
}
