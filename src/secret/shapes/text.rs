//! A text, and the few ways in which it is walked.

/// A text as it stands, and in small letters: both have the same positions.
pub(super) struct Text<'a> {
    /// As it stands.
    pub raw: &'a [u8],
    /// With ASCII letters in small.
    pub small: &'a [u8],
    /// How many bytes were looked at.
    #[cfg(test)]
    pub n_looked_at: std::cell::Cell<usize>,
}

impl<'a> Text<'a> {
    /// `raw`, whose small letters are `small`.
    pub fn new(raw: &'a [u8], small: &'a [u8]) -> Self {
        Self {
            raw,
            small,
            #[cfg(test)]
            n_looked_at: std::cell::Cell::new(0),
        }
    }

    /// The byte at `at`, if the text goes on so far.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.raw.get(at).copied()
    }

    /// The byte before `at`, if there is one.
    pub fn byte_before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).and_then(|at| self.byte(at))
    }

    /// Whether `word`, in small letters, is at `at`.
    pub fn has(&self, at: usize, word: &[u8]) -> bool {
        self.small.get(at..).is_some_and(|rest| rest.starts_with(word))
    }

    /// Where the bytes that `belong` end: from `at` on, `max` at most.
    pub fn run(&self, at: usize, max: usize, belong: impl Fn(u8) -> bool) -> usize {
        let rest = self.raw.get(at..).unwrap_or_default();
        let n = rest.iter().take(max).take_while(|byte| belong(**byte)).count();
        self.look_at(n + 1);
        at + n
    }

    /// Where the bytes that `belong` begin: up to `at`, `max` at most.
    pub fn run_back(&self, at: usize, max: usize, belong: impl Fn(u8) -> bool) -> usize {
        let before = &self.raw[..at];
        let n = before.iter().rev().take(max).take_while(|byte| belong(**byte)).count();
        self.look_at(n + 1);
        at - n
    }

    /// Where the next line's first word begins, if a line ends at `at`.
    pub fn next_line(&self, at: usize) -> Option<usize> {
        let at = if self.byte(at) == Some(b'\r') { at + 1 } else { at };
        (self.byte(at) == Some(b'\n')).then(|| self.skip_spaces(at + 1))
    }

    /// Where the line before ends, if a line's first word begins at `at`.
    pub fn line_before(&self, at: usize) -> Option<usize> {
        let line = self.run_back(at, SPACES_MAX, |byte| matches!(byte, b' ' | b'\t'));
        let end = (self.byte_before(line) == Some(b'\n')).then(|| line - 1)?;
        Some(if self.byte_before(end) == Some(b'\r') { end - 1 } else { end })
    }

    /// Where spaces and tabs from `at` on end.
    pub fn skip_spaces(&self, at: usize) -> usize {
        self.run(at, SPACES_MAX, |byte| matches!(byte, b' ' | b'\t'))
    }

    /// Counts work, so that a test can tell that there is not more of it than of text.
    pub fn look_at(&self, n: usize) {
        #[cfg(test)]
        self.n_looked_at.set(self.n_looked_at.get() + n);
        let _ = n;
    }
}

/// Widest gap between what belongs together, as in aligned tables and folded headers.
const SPACES_MAX: usize = 64;
