//! Keys that a caller sent with a request: kept out of what that request says, and of nothing else.
//!
//! They never join the values that are live: who may call could have any word blanked in the logs of
//! all others.

use std::ops::Range;
use std::sync::Arc;

use super::VALUE_BYTES_MIN;
use super::live::{Live, Which};

/// How many keys of one request are looked for.
const KEYS_MAX: usize = 64;

tokio::task_local! {
    static KEYS: Arc<Live>;
}

/// Keys of one request.
#[derive(Clone, Default)]
pub struct CallerKeys(Arc<Live>);

impl CallerKeys {
    /// The first few of `keys`; those too short to be one are left out.
    pub fn new<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let keys = keys.filter(|key| key.len() >= VALUE_BYTES_MIN).take(KEYS_MAX);
        Self(Arc::new(Live::new(keys.map(|key| (key, Which::All)))))
    }
}

/// Runs `work`, and keeps `keys` out of everything that it says.
pub async fn with_keys_of_caller<T>(keys: CallerKeys, work: impl Future<Output = T>) -> T {
    KEYS.scope(keys.0, work).await
}

/// What `work` gives, as if there was no caller.
pub(super) fn without_keys<T>(work: impl FnOnce() -> T) -> T {
    KEYS.sync_scope(Arc::default(), work)
}

/// Adds the ranges of `text` that hold a key of the caller to `hidden`.
pub(super) fn find(text: &[u8], hidden: &mut Vec<Range<usize>>) {
    // Where no request is answered there is no caller.
    KEYS.try_with(|keys| keys.find(text, Which::All, hidden)).unwrap_or(());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{REDACTED, redact};

    #[tokio::test]
    async fn a_key_is_kept_out_of_what_its_own_request_says_and_of_nothing_else() {
        let keys = CallerKeys::new(["short", "confirmed-by-the-caller"].into_iter());
        let words = "state is confirmed-by-the-caller, in short";
        let said = with_keys_of_caller(keys, async { redact(words).into_owned() }).await;
        assert_eq!(said, format!("state is {REDACTED}, in short"));
        assert_eq!(redact(words), words);
        let other = CallerKeys::new(["another-key-altogether"].into_iter());
        let said = with_keys_of_caller(other, async { redact(words).into_owned() }).await;
        assert_eq!(said, words);
    }

    #[tokio::test]
    async fn many_pieces_do_not_push_out_the_first_keys() {
        let many: Vec<String> = (0..500).map(|n| format!("cookie-piece-number-{n:06}")).collect();
        let keys = ["the-key-of-the-caller"].into_iter().chain(many.iter().map(String::as_str));
        let said = with_keys_of_caller(CallerKeys::new(keys), async {
            redact("code the-key-of-the-caller is wrong").into_owned()
        });
        assert_eq!(said.await, "code [REDACTED] is wrong");
    }
}
