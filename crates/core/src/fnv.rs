//! The hash function FNV-1a, for what only tells things apart by chance.

/// The hash of these bytes. It is not for keys that somebody may choose to collide.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let begin = 0xcbf2_9ce4_8422_2325;
    bytes.into_iter().fold(begin, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(fnv1a([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
    }
}
