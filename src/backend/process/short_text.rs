//! Short texts in shared memory.

/// A text of at most `N` bytes. What is longer is cut.
#[derive(Clone, Copy)]
pub(crate) struct ShortText<const N: usize> {
    length: u16,
    bytes: [u8; N],
}

impl<const N: usize> ShortText<N> {
    /// No text.
    pub(crate) const EMPTY: ShortText<N> = ShortText { length: 0, bytes: [0; N] };

    /// Puts a text in.
    pub(crate) fn set(&mut self, text: &str) {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.length = end as u16;
    }

    /// The text; `None` if it is empty.
    pub(crate) fn get(&self) -> Option<String> {
        let text = self.bytes.get(..usize::from(self.length))?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}
