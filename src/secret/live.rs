//! Values that are live, and where they are in a text: raw, and in each spelling that one cannot
//! tell by its look.

use std::ops::Range;

use super::{RUN_BYTES, VALUE_BYTES_MIN};

/// Which values are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that this process obtained.
    Obtained,
    /// Those that came with the environment too.
    All,
}

/// Values that are looked for.
#[derive(Default)]
pub(super) struct Live {
    values: Vec<(Vec<u8>, Which)>,
}

impl Live {
    /// Looks for these values from now on.
    pub fn new<'a>(values: impl Iterator<Item = (&'a str, Which)>) -> Self {
        let long = values.filter(|(value, _)| value.len() >= VALUE_BYTES_MIN);
        Self { values: long.map(|(value, origin)| (value.as_bytes().to_vec(), origin)).collect() }
    }

    /// Adds the ranges of `text` that hold [`RUN_BYTES`] of a value, or a whole shorter one, to
    /// `hidden`.
    pub fn find(&self, text: &[u8], which: Which, hidden: &mut Vec<Range<usize>>) {
        for (value, origin) in &self.values {
            if which == Which::Obtained && *origin != Which::Obtained {
                continue;
            }
            let run = value.len().min(RUN_BYTES);
            let windows: std::collections::HashSet<&[u8]> = value.windows(run).collect();
            for (at, window) in text.windows(run).enumerate() {
                if windows.contains(window) {
                    hidden.push(at..at + run);
                }
            }
        }
    }
}
