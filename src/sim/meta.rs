//! What is decided about an asset before it is rendered: kind, state, dates.
//!
//! Everything that is not in a [`Meta`] is drawn from its hash, so that 300,000
//! assets fit in a few megabytes.

use super::{Options, text};

/// Kinds with their share of the inventory in percent and the size of their
/// bodies beside each other. The first eight are all that the specification
/// declares (API reference, section 7); the shares and sizes are a guess at a
/// usual workspace, where hosts are largest (section 5, "Volume").
pub const KINDS: [(&str, u8, f64); 9] = [
    ("page", 30, 1.0),
    ("host", 25, 1.5),
    ("ipAddress", 15, 0.8),
    ("sslCert", 12, 0.6),
    ("domain", 8, 1.0),
    ("contact", 5, 0.4),
    ("ipBlock", 3, 0.5),
    ("as", 2, 0.4),
    ("mailServer", 0, 1.0),
];
/// Position in [`KINDS`] of the kind that no specification declares for assets.
const NEW_KIND: u8 = 8;
/// From this many assets on, every declared kind occurs.
const ALL_KINDS_FROM: u64 = 16;

/// States with their share in thousandths. The last two are outside the declared
/// set (API reference, section 7, "Spelling trap").
const STATES: [(&str, u16); 9] = [
    ("confirmed", 700),
    ("candidate", 80),
    ("dismissed", 60),
    ("associatedThirdparty", 50),
    ("candidateInvestigate", 40),
    ("archived", 30),
    ("associatedPartner", 25),
    ("autoconfirmed", 10),
    ("associated", 5),
];

const LABELS: [&str; 6] =
    ["crown jewel", "müller, \"münchen\"", "pci", "東京", "to/remove", "owner=it"];
const GROUPS: [&str; 4] = ["Northwind seeds", "Fabrikam \"core\"", "Übernahme 2024", ""];

/// Assets are created from here on, over three years.
const CREATED_FROM_MS: i64 = 1_669_852_800_000; // 2022-12-01T00:00:00Z
const CREATED_SPAN_MS: u64 = 3 * 365 * 86_400_000;
/// About one asset in five was created by one discovery run, at this moment:
/// a range of creation time that cannot be cut any further.
pub const BURST_MS: i64 = 1_709_210_096_789; // 2024-02-29T12:34:56.789Z
const BURST_SHARE: f64 = 0.2;

/// What is kept of one asset.
#[derive(Debug)]
pub struct Meta {
    pub created_ms: i64,
    pub updated_ms: i64,
    pub hash: u64,
    /// Number among its kind, which makes its name unique.
    pub serial: u32,
    pub kind: u8,
    pub state: u8,
    pub vanishes: bool,
}

impl Meta {
    pub fn kind_name(&self) -> &'static str {
        KINDS[usize::from(self.kind)].0
    }

    pub fn state_name(&self) -> &'static str {
        STATES[usize::from(self.state)].0
    }

    pub fn group(&self) -> &'static str {
        GROUPS[(self.hash >> 36) as usize % GROUPS.len()]
    }

    pub fn external_id(&self) -> Option<String> {
        match self.hash >> 8 & 15 {
            0 => Some(String::new()),
            1 | 2 => Some(format!("EXT-{:06}", self.hash >> 44)),
            _ => None,
        }
    }

    pub fn labels(&self) -> impl Iterator<Item = &'static str> {
        let (n, from) = (self.hash >> 12 & 7, self.hash >> 16);
        let n = n.saturating_sub(4); // More than half have none.
        (0..n).map(move |step| LABELS[((from + step) % LABELS.len() as u64) as usize])
    }

    pub fn wildcard(&self) -> bool {
        self.hash >> 24 & 31 == 0
    }
}

/// Makes up `n` assets.
pub fn metas(options: &Options, n: u32) -> Vec<Meta> {
    let mut serials = [0_u32; KINDS.len()];
    let n_new = options.new_kind_assets.min(u64::from(n)) as u32;
    let meta = |i: u32| {
        let hash = text::mix(options.seed.rotate_left(32) ^ u64::from(i));
        let draw = |salt: u64| text::mix(hash ^ salt);
        let kind = match i {
            i if i >= n - n_new => NEW_KIND,
            i if options.assets >= ALL_KINDS_FROM && i < 8 => i as u8,
            _ => pick(KINDS.iter().map(|(_, share, _)| u64::from(*share)), draw(1)),
        };
        let state = pick(STATES.iter().map(|(_, share)| u64::from(*share)), draw(2));
        let is_burst = text::share(draw(3)) < BURST_SHARE;
        let spread_ms = CREATED_FROM_MS + (draw(4) % CREATED_SPAN_MS) as i64;
        let created_ms = if is_burst { BURST_MS } else { spread_ms };
        let updated_ms = created_ms + (draw(5) % (300 * 86_400_000)) as i64;
        let serial = serials[usize::from(kind)];
        serials[usize::from(kind)] += 1;
        Meta { created_ms, updated_ms, hash, serial, kind, state, vanishes: false }
    };
    (0..n).map(meta).collect()
}

/// Position of the share that `hash` falls into.
fn pick(shares: impl Iterator<Item = u64> + Clone, hash: u64) -> u8 {
    let mut left = hash % shares.clone().sum::<u64>();
    for (n, share) in shares.enumerate() {
        if left < share {
            return n as u8;
        }
        left -= share;
    }
    0
}
