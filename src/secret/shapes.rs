//! What has the shape of a secret, whoever's it is.

use std::ops::Range;

/// Adds the ranges of `text` that have the shape of a secret to `hidden`.
pub(super) fn find(_text: &[u8], _hidden: &mut Vec<Range<usize>>) {}
