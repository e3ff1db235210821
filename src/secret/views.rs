//! What a text can be decoded to, with where each byte of it came from.

use std::ops::Range;

/// Text that was decoded.
pub(super) struct View {
    text: Vec<u8>,
    /// For each byte of `text`, and for its end, where what it was decoded from begins.
    starts: Vec<usize>,
}

impl View {
    /// The decoded text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The range of the original that `range` of the decoded text came from.
    pub fn origin(&self, range: Range<usize>) -> Range<usize> {
        self.starts[range.start]..self.starts[range.end]
    }
}

/// What `text` can be decoded to.
pub(super) fn of(_text: &[u8]) -> Vec<View> {
    Vec::new()
}
