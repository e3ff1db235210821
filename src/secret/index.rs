//! Where blocks of eight bytes were seen: asked at every byte of every log line, so a block that was
//! never seen costs about a nanosecond.
//!
//! No block is kept, only the place of each: whoever asks compares with what is there.

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 8;

/// Entries to a word of the filter. Two of its 64 bits stand for each, so about one of 300 unknown blocks
/// passes.
const ENTRIES_PER_WORD: usize = 4;

/// Blocks, and the places of each.
#[derive(Default)]
pub struct Index {
    /// Two bits of one word for each block.
    filter: Vec<u64>,
    /// Where the places of each bucket begin; a bucket ends where the next begins.
    starts: Vec<u32>,
    places: Vec<u32>,
}

/// What an index is made of: the hash of each block, and its place.
#[derive(Default)]
pub struct Entries(Vec<(u64, u32)>);

impl Entries {
    /// Enters a block.
    pub fn enter(&mut self, block: [u8; BLOCK_BYTES], place: u32) {
        self.0.push((hash(block), place));
    }
}

impl Index {
    /// An index of all `entries`.
    pub fn new(Entries(entries): Entries) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let mut index = Self {
            filter: vec![0; (entries.len() / ENTRIES_PER_WORD).next_power_of_two()],
            // A bucket has one or two places.
            starts: vec![0; entries.len().next_power_of_two().div_ceil(2) + 1],
            places: vec![0; entries.len()],
        };
        for &(hash, _) in &entries {
            let (word, bucket) = (index.word(hash), index.bucket(hash));
            index.filter[word] |= bits(hash);
            index.starts[bucket] += 1;
        }
        // From how many there are to where each ends; what is filled in moves that to where it begins.
        let mut end = 0;
        for start in &mut index.starts {
            end += *start;
            *start = end;
        }
        for &(hash, place) in entries.iter().rev() {
            let bucket = index.bucket(hash);
            index.starts[bucket] -= 1;
            let at = index.starts[bucket] as usize;
            index.places[at] = place;
        }
        index
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where the first block in `text` is that may be known, from `from` on.
    pub fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        let windows = text.get(from..)?.windows(BLOCK_BYTES);
        let is_known = |window: &[u8]| {
            window.first_chunk().is_some_and(|block| {
                let hash = hash(*block);
                self.filter[self.word(hash)] & bits(hash) == bits(hash)
            })
        };
        windows.into_iter().position(is_known).map(|at| from + at)
    }

    /// Places that `block` may be at, in the order they were entered.
    pub fn places(&self, block: [u8; BLOCK_BYTES]) -> &[u32] {
        let bucket = self.bucket(hash(block));
        &self.places[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn word(&self, hash: u64) -> usize {
        top(hash, self.filter.len())
    }

    fn bucket(&self, hash: u64) -> usize {
        top(hash, self.starts.len() - 1)
    }
}

/// A number whose upper bits depend on all of `block`.
fn hash(block: [u8; BLOCK_BYTES]) -> u64 {
    u64::from_le_bytes(block).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Which two bits of its word stand for a hash.
fn bits(hash: u64) -> u64 {
    1 << (hash >> 26 & 63) | 1 << (hash >> 32 & 63)
}

/// A number below `n`, a power of two of at most 2^26, by the bits of `hash` above those of [`bits`].
fn top(hash: u64, n: usize) -> usize {
    (hash >> 38) as usize & (n - 1)
}
