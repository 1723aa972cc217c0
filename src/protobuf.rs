//! Protobuf's wire format: a message's fields, read one by one, and written. What Envoy says and takes in it needs no more.

/// A field's value, of the kinds that are read here.
pub enum Wire<'a> {
    /// A number.
    Varint(u64),
    /// Eight bytes, in little-endian order.
    Fixed64(u64),
    /// Text, bytes, or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message. Yields `None` once, and then ends, where the bytes aren't a message.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let (bits, rest) = self.0.split_first_chunk::<8>()?;
                self.0 = rest;
                Wire::Fixed64(u64::from_le_bytes(*bits))
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// Adds text, bytes or a message to a message.
pub fn push_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    push_varint(message, u64::from(field) << 3 | 2);
    push_varint(message, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    message.extend_from_slice(bytes);
}

/// Adds a number to a message.
pub fn push_number(message: &mut Vec<u8>, field: u8, number: u64) {
    push_varint(message, u64::from(field) << 3);
    push_varint(message, number);
}

fn push_varint(message: &mut Vec<u8>, mut number: u64) {
    while let rest @ 1.. = number >> 7 {
        message.push(low_bits(number) | 0x80);
        number = rest;
    }
    message.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    let [lowest, ..] = number.to_le_bytes();
    lowest & 0x7f
}
