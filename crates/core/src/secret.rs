//! The only type that carries secret text.

use std::fmt;
use zeroize::Zeroize;

/// Secret bytes: redacted in `Debug`, without `Display`, wiped on drop.
///
/// The extension's allocator also wipes whatever Rust frees; wiping here as well keeps the promise
/// where another allocator is in place (unit tests, fuzz targets).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes ownership; a `Vec` or `String` with spare capacity is copied and the original wiped.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        let mut bytes = bytes.into();
        let secret = Secret(bytes.as_slice().into());
        bytes.zeroize();
        secret
    }

    /// The bytes, for the one place that sends them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(Secret(…))");
    }

    #[test]
    fn keeps_every_byte() {
        let bytes = b"\"'\\$ \n\xc3\xa9".to_vec();
        assert_eq!(Secret::new(bytes.clone()).expose(), bytes);
    }
}
