//! How a query's assets are cut into pages, and the marks between them.
//!
//! `filter -> Chain (matching indices, cached) -> page at a position -> next mark`
//!
//! # Invariants
//! - A mark is opaque, needs URL encoding, and is a pure function of seed, filter
//!   and position: sent again it brings the same answer.
//! - A position counts in the chain as it was before anything vanished, so that
//!   what stays is never skipped when something goes.
//! - A duplicate comes on a later page than its original, at the page size the
//!   chain was started with. An asset near the end may go without one.

use std::sync::{Arc, Mutex, PoisonError};

use super::{CursorFault, EndOfCursor, Options, filter, inventory::Inventory, text};

/// Chains that are kept, and the assets they may list together (4 bytes each).
const CHAINS_MAX: usize = 64;
const CHAIN_ASSETS_MAX: usize = 4_000_000;
/// Pages after which [`CursorFault::Cycle`] turns back to the second page.
const CYCLE_PAGES: u32 = 3;
/// What marks begin with: an own alphabet of characters that URLs must encode.
const MARK_HEAD: &str = "AoE+/";
const MARK_TAIL: &str = "==";

/// The assets that match one filter, in the order they are sent.
#[derive(Debug)]
pub struct Chain {
    indices: Arc<[u32]>,
    /// `totalElements` before and after assets vanish.
    n_before: u64,
    n_after: u64,
}

impl Chain {
    pub fn total(&self, shrunk: bool) -> u64 {
        if shrunk { self.n_after } else { self.n_before }
    }

    /// Up to `size` assets from position `at`, and the position behind them.
    /// That is the chain's end if only vanished assets would follow.
    pub fn take(&self, all: &Inventory, at: usize, size: usize, shrunk: bool) -> (Vec<u32>, usize) {
        let is_there = |i: u32| !(shrunk && all.vanishes(i as usize));
        let mut taken = Vec::with_capacity(size);
        for (end, i) in self.indices.iter().enumerate().skip(at) {
            if is_there(*i) {
                if taken.len() == size {
                    return (taken, end);
                }
                taken.push(*i);
            }
        }
        (taken, self.indices.len())
    }

    /// Up to `size` assets behind the first `n` that are still there.
    pub fn skip(&self, all: &Inventory, n: usize, size: usize, shrunk: bool) -> Vec<u32> {
        if !shrunk {
            return self.indices.iter().skip(n).take(size).copied().collect();
        }
        let there = self.indices.iter().filter(|i| !all.vanishes(**i as usize));
        there.skip(n).take(size).copied().collect()
    }

    /// The position behind the last asset.
    pub fn end(&self) -> usize {
        self.indices.len()
    }
}

/// The chains of the last few filters.
#[derive(Debug, Default)]
pub struct Chains {
    recent: Mutex<Vec<(Key, Arc<Chain>)>>,
}

/// Filter text, and the page size if duplicates depend on it (else 0).
type Key = (String, usize);

impl Chains {
    /// The chain of `filter`. With `page_size`, duplicates are in it.
    pub fn get(
        &self,
        all: &Inventory,
        options: &Options,
        filter: &str,
        page_size: Option<usize>,
    ) -> Result<Arc<Chain>, filter::Error> {
        let page_size = page_size.filter(|_| options.duplicates > 0.0).unwrap_or(0);
        let key = (filter.to_owned(), page_size);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(k, _)| *k == key) {
            let found = recent.remove(at);
            let chain = Arc::clone(&found.1);
            recent.push(found);
            return Ok(chain);
        }
        // Built under the lock: several workers start with the same filter, and
        // one scan of 300,000 assets is better than four.
        let chain = Arc::new(chain(all, options, filter, page_size)?);
        recent.push((key, Arc::clone(&chain)));
        let total = |recent: &Vec<(Key, Arc<Chain>)>| -> usize {
            recent.iter().map(|(_, chain)| chain.end()).sum()
        };
        while recent.len() > CHAINS_MAX || (recent.len() > 1 && total(&recent) > CHAIN_ASSETS_MAX) {
            recent.remove(0);
        }
        Ok(chain)
    }
}

fn chain(
    all: &Inventory,
    options: &Options,
    filter: &str,
    page_size: usize,
) -> Result<Chain, filter::Error> {
    let indices: Arc<[u32]> = if filter.trim().is_empty() {
        all.order()
    } else {
        all.passing(&filter::Filter::parse(filter)?).into()
    };
    let n_before = indices.len() as u64;
    let n_gone = indices.iter().filter(|i| all.vanishes(**i as usize)).count() as u64;
    let indices =
        if page_size == 0 { indices } else { with_duplicates(&indices, options, page_size).into() };
    Ok(Chain { indices, n_before, n_after: n_before - n_gone })
}

fn with_duplicates(indices: &[u32], options: &Options, page_size: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(indices.len());
    let mut due = std::collections::BTreeMap::<(usize, u32), usize>::new();
    for &i in indices {
        while let Some(next) = due.first_entry().filter(|next| next.key().0 <= out.len()) {
            out.push(next.remove_entry().0.1);
        }
        let chance = text::mix(options.seed ^ text::mix(u64::from(i) ^ 0xd0b1e));
        if text::share(chance) < options.duplicates {
            let first = out.len();
            let delay = page_size + (chance % 64) as usize * page_size / 32;
            due.insert((first + delay, i), first);
        }
        out.push(i);
    }
    for ((_, i), first) in due {
        if out.len() >= first + page_size {
            out.push(i);
        }
    }
    out
}

/// Where a cursor stands. `*` is the start of every chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Position in the chain.
    pub at: u32,
    /// Pages before this one; makes marks of [`CursorFault::Endless`] differ.
    pub step: u32,
    /// Page size that the chain was started with.
    pub page_size: u8,
}

impl Place {
    pub fn start(page_size: usize) -> Self {
        Self { at: 0, step: 0, page_size: page_size as u8 }
    }

    /// The mark for this place under a filter.
    pub fn mark(self, seed: u64, filter: &str) -> String {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.at.to_le_bytes());
        bytes.extend_from_slice(&self.step.to_le_bytes());
        bytes.push(self.page_size);
        let check = check(seed, filter, &bytes);
        bytes.extend_from_slice(&check);
        format!("{MARK_HEAD}{}{MARK_TAIL}", text::base64(&bytes))
    }

    /// Reads a mark. `None` if it was not issued for this filter by this seed.
    pub fn read(mark: &str, seed: u64, filter: &str) -> Option<Self> {
        let inner = mark.strip_prefix(MARK_HEAD)?.strip_suffix(MARK_TAIL)?;
        let bytes = text::base64_decoded(inner)?;
        let (place, check_sent) = bytes.split_at_checked(9)?;
        if check_sent != check(seed, filter, place) {
            return None;
        }
        let at = u32::from_le_bytes(place.get(..4)?.try_into().ok()?);
        let step = u32::from_le_bytes(place.get(4..8)?.try_into().ok()?);
        Some(Self { at, step, page_size: *place.last()? })
    }

    /// What to answer as the next mark, after the page that ended at `end`.
    pub fn next(self, chain: &Chain, all: &Inventory, options: &Options, end: usize) -> Next {
        let step = self.step + 1;
        let go = |at: usize, step: u32| Next::Place(Self { at: at as u32, step, ..self });
        let is_last = end >= chain.end();
        match options.cursor {
            CursorFault::Endless => return go(0, step),
            CursorFault::Cycle => {
                let step = if self.step >= CYCLE_PAGES { 1 } else { step };
                let (_, second) = chain.take(all, 0, usize::from(self.page_size), false);
                let at = if step == 1 { second } else { end };
                return go(if at >= chain.end() { 0 } else { at }, step);
            }
            CursorFault::None => {}
        }
        match options.end_of_cursor {
            _ if !is_last => go(end, step),
            EndOfCursor::NullMark => Next::Null,
            EndOfCursor::AbsentMark => Next::Absent,
            EndOfCursor::RepeatedMark => Next::Sent,
            EndOfCursor::EmptyPage if (self.at as usize) < chain.end() => go(chain.end(), step),
            EndOfCursor::EmptyPage => Next::Null,
        }
    }
}

/// What follows a page of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Place(Place),
    Null,
    Absent,
    /// The mark that was sent.
    Sent,
}

fn check(seed: u64, filter: &str, place: &[u8]) -> [u8; 8] {
    text::hash(text::hash(seed, filter.as_bytes()), place).to_le_bytes()
}
