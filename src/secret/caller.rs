//! Keys that a caller sent with a request: kept out of what that request says, and of nothing else.
//!
//! They never join the values that are live: who may call could have any word blanked in the logs of
//! all others.

use std::ops::Range;
use std::sync::Arc;

use super::live::{Live, Which};

/// How many keys of one request are looked for.
const KEYS_MAX: usize = 16;

tokio::task_local! {
    static KEYS: Arc<Live>;
}

/// Keys of one request.
#[derive(Clone, Default)]
pub struct CallerKeys(Arc<Live>);

impl CallerKeys {
    /// The first few of `keys`; those too short to be one are left out.
    pub fn new<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let keys = keys.take(KEYS_MAX).map(|key| (key, Which::All));
        Self(Arc::new(Live::new(keys)))
    }
}

/// Runs `work`, and keeps `keys` out of everything that it says.
pub async fn with_keys_of_caller<T>(keys: CallerKeys, work: impl Future<Output = T>) -> T {
    KEYS.scope(keys.0, work).await
}

/// Adds the ranges of `text` that hold a key of the caller to `hidden`.
pub(super) fn find(text: &[u8], hidden: &mut Vec<Range<usize>>) {
    // Where no request is answered there is no caller.
    KEYS.try_with(|keys| keys.find(text, Which::All, hidden)).unwrap_or(());
}
