//! Where blocks of eight bytes were seen: asked about every byte of every log line, so bytes that were
//! never seen cost less than a nanosecond.
//!
//! ```text
//! text -> filter: one look for several blocks in a row, by the bytes they share -> bucket -> places
//! ```
//!
//! No block is kept, only the place of each: whoever asks compares with what is there.

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 8;

/// How many blocks, each beginning a byte behind the last, are looked for at once.
const STRIDE: usize = 3;

/// Keys to a word of the filter. Two of its 64 bits stand for each, so about one of 20 unknown keys
/// passes.
const KEYS_PER_WORD: usize = 8;

/// Blocks, and the places of each.
#[derive(Default)]
pub struct Index {
    /// Two bits of one word for each key. The keys of a block are the bytes that it shares with the
    /// blocks before it or behind it.
    filter: Vec<u64>,
    /// Where the places of each bucket begin; a bucket ends where the next begins.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Index {
    /// Enters every block that `each` names, about `n_blocks`, with its place. `each` is called twice,
    /// and says the same both times.
    pub fn new(n_blocks: usize, each: impl Fn(&mut dyn FnMut([u8; BLOCK_BYTES], u32))) -> Self {
        let mut index = Self {
            filter: vec![0; (n_blocks * STRIDE / KEYS_PER_WORD).next_power_of_two()],
            // A bucket has one or two places.
            starts: vec![0; n_blocks.next_power_of_two().div_ceil(2) + 1],
            places: Vec::new(),
        };
        each(&mut |block, _| {
            for before in 0..STRIDE {
                let hash = hash(key(block, before));
                let word = top(hash, index.filter.len());
                index.filter[word] |= bits(hash);
            }
            let bucket = index.bucket(block);
            index.starts[bucket] += 1;
        });
        // From how many there are to where each ends; what is filled in moves that to where it begins.
        let mut end = 0;
        for start in &mut index.starts {
            end += *start;
            *start = end;
        }
        index.places = vec![0; end as usize];
        each(&mut |block, place| {
            let bucket = index.bucket(block);
            index.starts[bucket] -= 1;
            let at = index.starts[bucket] as usize;
            index.places[at] = place;
        });
        index
    }

    /// Where the first block in `text` is that may be known, from `from` on.
    pub fn next(&self, text: &[u8], mut from: usize) -> Option<usize> {
        let block = |at: usize| text.get(at..)?.first_chunk::<BLOCK_BYTES>();
        let may_be_known = |window: &[u8]| {
            window.first_chunk().is_some_and(|block| {
                let hash = hash(key(*block, 0));
                self.filter[top(hash, self.filter.len())] & bits(hash) == bits(hash)
            })
        };
        loop {
            let mut windows = text.get(from..)?.windows(BLOCK_BYTES).step_by(STRIDE);
            from += STRIDE * windows.position(may_be_known)?;
            let is_known =
                |at: &usize| block(*at).is_some_and(|block| !self.places(*block).is_empty());
            if let Some(at) = (from..from + STRIDE).find(is_known) {
                return Some(at);
            }
            from += STRIDE;
        }
    }

    /// Places that `block` may be at, the last entered first.
    pub fn places(&self, block: [u8; BLOCK_BYTES]) -> &[u32] {
        let bucket = self.bucket(block);
        &self.places[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn bucket(&self, block: [u8; BLOCK_BYTES]) -> usize {
        top(hash(u64::from_le_bytes(block)), self.starts.len() - 1)
    }
}

/// The bytes that `block` shares with the others of [`STRIDE`] in a row, so many of which begin before it.
fn key(block: [u8; BLOCK_BYTES], before: usize) -> u64 {
    (u64::from_le_bytes(block) << (8 * before)) >> (8 * (STRIDE - 1))
}

/// A number whose upper bits depend on all of `key`.
fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Which two bits of its word stand for a hash.
fn bits(hash: u64) -> u64 {
    1 << (hash >> 26 & 63) | 1 << (hash >> 32 & 63)
}

/// A number below `n`, a power of two of at most 2^26, by the bits of `hash` above those of [`bits`].
fn top(hash: u64, n: usize) -> usize {
    (hash >> 38) as usize & (n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_found_wherever_it_stands_and_with_all_its_places() {
        let blocks = [(*b"abcdefgh", 1), (*b"12345678", 2), (*b"abcdefgh", 3)];
        let index =
            Index::new(3, |see| blocks.iter().for_each(|(block, place)| see(*block, *place)));
        for before in 0..40 {
            for (block, want) in [("abcdefgh", &[3, 1][..]), ("12345678", &[2])] {
                let text = format!("{}{block}--", ".".repeat(before));
                for from in [0, before.saturating_sub(1), before] {
                    let mut at = index.next(text.as_bytes(), from);
                    // What may be known need not be.
                    while at.is_some_and(|at| at < before) {
                        at = index.next(text.as_bytes(), at.unwrap_or(0) + 1);
                    }
                    assert_eq!(at, Some(before), "{text} from {from}");
                }
                let mut places = index.places(*text.as_bytes()[before..].first_chunk().unwrap());
                places = places.get(..want.len()).unwrap_or(places);
                assert_eq!(places, want);
            }
        }
        for text in ["", "abcdefg", "bcdefgh"] {
            assert_eq!(index.next(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(index.next(b"abcdefgh", 9), None);
    }

    #[test]
    fn few_unknown_blocks_pass() {
        let mut rng = fastrand::Rng::with_seed(1);
        let blocks: Vec<[u8; BLOCK_BYTES]> =
            (0..10_000).map(|_| rng.u64(..).to_le_bytes()).collect();
        let index = Index::new(10_000, |see| blocks.iter().for_each(|block| see(*block, 0)));
        let text: Vec<u8> = (0..30_000).map(|_| rng.u8(..)).collect();
        let (mut at, mut n_passed) = (0, 0);
        while let Some(passed) = index.next(&text, at) {
            (at, n_passed) = (passed + 1, n_passed + 1);
        }
        // One of 20 groups of STRIDE passes the filter, and of three buckets two are not empty.
        assert!(n_passed < 3_000, "{n_passed} of 30,000");
    }
}
