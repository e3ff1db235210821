//! The assets of the simulated workspace: what exists, in which order, and how
//! each of them reads as JSON.
//!
//! `Options -> Meta per asset (32 bytes) -> head + pool fragment + tail = one body`
//!
//! # Invariants
//! - Everything derives from the seed: two inventories with equal options send
//!   equal bytes, and rendering an asset twice gives the same bytes.
//! - No rendered body is kept. An asset costs its [`Meta`], four bytes of order, and
//!   four of the index that filters are narrowed with.
//! - `id` is kind + `$$` + name and occurs once (API reference, section 7).
//! - [`Inventory::line`] is what a reader must store for the newest api-version:
//!   the compact body, byte for byte.
//!
//! What is drawn for an asset is in `meta`, names are in `names`, the insides of
//! `asset` objects in `pool`. Start reading at [`Inventory::line`].

use std::{collections::HashMap, sync::Arc, sync::OnceLock};

use super::{
    Options, filter,
    meta::{KINDS, Meta, metas},
    names,
    pool::{self, Pool},
    text::{self, DateForm},
};

/// Most pool fragments per kind, and the memory they may take together.
const FRAGMENTS_MAX: u64 = 64;
const FRAGMENT_BYTES_MAX: usize = 6 << 20;
/// Assets that are looked at to learn how long heads and tails are.
const SAMPLES: usize = 512;

/// How a body is to look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub dates: DateForm,
    pub spaced: bool,
}

impl Form {
    /// What [`Inventory::line`] renders.
    pub const LINE: Self = Self { dates: DateForm::Offset, spaced: false };
}

/// All assets. See the module's text.
#[derive(Debug)]
pub struct Inventory {
    seed: u64,
    metas: Vec<Meta>,
    order: Arc<[u32]>,
    /// Positions in `order` by kind, creation time and name; sorted when first asked for.
    by_created: OnceLock<Vec<u32>>,
    pools: Vec<Pool>,
    /// The same fragments with white space, if that is what is sent.
    spaced_pools: Vec<Pool>,
    /// Hash of id and of uuid to index; built when first asked for.
    lookup: OnceLock<HashMap<u64, u32>>,
}

impl Inventory {
    /// Makes up the inventory that `options` describe.
    pub fn new(options: &Options) -> Self {
        let n = u32::try_from(options.assets).unwrap_or(u32::MAX);
        let mut rng = fastrand::Rng::with_seed(text::mix(options.seed));
        let metas = metas(options, n);
        let mut order: Vec<u32> = (0..n).collect();
        rng.shuffle(&mut order);
        let mut inventory = Self {
            seed: options.seed,
            metas,
            order: order.into(),
            by_created: OnceLock::new(),
            pools: Vec::new(),
            spaced_pools: Vec::new(),
            lookup: OnceLock::new(),
        };
        if let Some((_, gone)) = options.shrink_after {
            let gone = usize::try_from(gone).unwrap_or(usize::MAX);
            for i in rng.choose_multiple(0..inventory.metas.len(), gone) {
                inventory.metas[i].vanishes = true;
            }
        }
        inventory.fill_pools(options);
        inventory
    }

    /// How many assets there are.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Appends the compact body as the newest api-version sends it, without a
    /// newline. `i` is below [`Inventory::len`].
    pub fn line(&self, i: usize, out: &mut Vec<u8>) {
        self.render(i, Form::LINE, out);
    }

    /// `kind` of asset `i`.
    pub fn kind(&self, i: usize) -> &'static str {
        self.metas[i].kind_name()
    }

    /// `state` of asset `i`.
    pub fn state(&self, i: usize) -> &'static str {
        self.metas[i].state_name()
    }

    /// `name` of asset `i`.
    pub fn name(&self, i: usize) -> String {
        let Meta { serial, hash, .. } = self.metas[i];
        names::name(self.kind(i), serial, hash)
    }

    /// Readable id of asset `i`: kind, `$$`, name.
    pub fn id(&self, i: usize) -> String {
        format!("{}$${}", self.kind(i), self.name(i))
    }

    /// `uuid` of asset `i`.
    pub fn uuid(&self, i: usize) -> String {
        let hash = self.metas[i].hash;
        text::uuid(hash, text::mix(hash))
    }

    /// `createdDate` of asset `i`, in milliseconds since 1970.
    pub fn created_ms(&self, i: usize) -> i64 {
        self.metas[i].created_ms
    }

    /// Whether the asset disappears once `shrink_after` is reached.
    pub fn vanishes(&self, i: usize) -> bool {
        self.metas[i].vanishes
    }

    /// Indices in the order in which queries answer: a shuffle, not creation.
    pub(super) fn order(&self) -> Arc<[u32]> {
        Arc::clone(&self.order)
    }

    /// The assets that pass a filter, in the order in which queries answer.
    ///
    /// Planning an export counts a thousand filters that differ in kind, creation time and name, so
    /// only the assets within the filter's [`filter::Reach`] are asked.
    pub(super) fn passing(&self, filter: &filter::Filter) -> Vec<u32> {
        let by_created = self.by_created.get_or_init(|| self.sort_by_created());
        let mut passing = Vec::new();
        for (kind, (kind_name, ..)) in (0_u8..).zip(KINDS) {
            let reach = filter.reach(kind_name);
            let from = by_created.partition_point(|at| self.created(*at) < (kind, reach.from_ms));
            let to = by_created.partition_point(|at| self.created(*at) <= (kind, reach.to_ms));
            // A reach that ends before it begins holds nothing.
            let within = by_created.get(from..to).unwrap_or_default();
            for same in within.chunk_by(|a, b| self.created(*a) == self.created(*b)) {
                let candidates = self.with_prefix(same, reach.name_prefix);
                passing
                    .extend(candidates.iter().filter(|at| self.passes(self.asset(**at), filter)));
            }
        }
        passing.sort_unstable();
        passing.iter_mut().for_each(|at| *at = self.order[*at as usize]);
        passing
    }

    /// Positions in `order` by kind, creation time and name.
    fn sort_by_created(&self) -> Vec<u32> {
        let mut by_created: Vec<u32> = (0..self.len() as u32).collect();
        by_created.sort_unstable_by_key(|at| self.created(*at));
        // Names are rendered only where they decide: for those of one discovery run.
        for same in by_created.chunk_by_mut(|a, b| self.created(*a) == self.created(*b)) {
            same.sort_by_cached_key(|at| self.name(self.asset(*at)));
        }
        by_created
    }

    /// Those of `by_name` whose name begins with `prefix`.
    fn with_prefix<'a>(&self, by_name: &'a [u32], prefix: &str) -> &'a [u32] {
        if prefix.is_empty() || by_name.len() == 1 {
            return by_name; // The filter itself is quicker.
        }
        let name = |at: &u32| self.name(self.asset(*at));
        let from = by_name.partition_point(|at| name(at).as_str() < prefix);
        let behind = &by_name[from..];
        &behind[..behind.partition_point(|at| name(at).starts_with(prefix))]
    }

    /// The asset at a position in `order`.
    fn asset(&self, at: u32) -> usize {
        self.order[at as usize] as usize
    }

    /// What `by_created` sorts a position in `order` by first.
    fn created(&self, at: u32) -> (u8, i64) {
        let meta = &self.metas[self.asset(at)];
        (meta.kind, meta.created_ms)
    }

    /// Whether the asset passes a filter.
    fn passes(&self, i: usize, filter: &filter::Filter) -> bool {
        filter.matches(&View { inventory: self, i })
    }

    /// The truth for tests: the sorted lines of all assets that match `filter`
    /// before anything vanished. `""` means all.
    ///
    /// # Panics
    /// If the filter is not understood: a test that asks so is wrong itself.
    pub fn ndjson(&self, filter: &str) -> Vec<Vec<u8>> {
        self.lines_where(filter, |_| true)
    }

    /// Like [`Inventory::ndjson`], after `shrink_after` was reached.
    ///
    /// # Panics
    /// As [`Inventory::ndjson`] does.
    pub fn ndjson_after_shrink(&self, filter: &str) -> Vec<Vec<u8>> {
        self.lines_where(filter, |i| !self.vanishes(i))
    }

    fn lines_where(&self, filter: &str, also: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
        let filter = filter::Filter::parse(filter).expect("the test's own filter is understood");
        let line = |i| {
            let mut out = Vec::new();
            self.line(i, &mut out);
            out
        };
        let wanted = (0..self.len()).filter(|i| also(*i) && self.passes(*i, &filter));
        let mut lines: Vec<Vec<u8>> = wanted.map(line).collect();
        lines.sort_unstable();
        lines
    }

    /// The asset with this readable id or UUID.
    pub(super) fn find(&self, id_or_uuid: &str) -> Option<usize> {
        let key = |text: &str| text::hash(self.seed, text.as_bytes());
        let lookup = self.lookup.get_or_init(|| {
            let both = |i: usize| [(key(&self.id(i)), i as u32), (key(&self.uuid(i)), i as u32)];
            (0..self.len()).flat_map(both).collect()
        });
        let found = |text: &str| {
            let i = *lookup.get(&key(text))? as usize;
            (self.id(i) == text || self.uuid(i) == text).then_some(i)
        };
        found(id_or_uuid).or_else(|| found(&id_or_uuid.to_ascii_lowercase()))
    }

    /// Appends the body of asset `i` in the given form.
    pub(super) fn render(&self, i: usize, form: Form, out: &mut Vec<u8>) {
        let meta = &self.metas[i];
        let pools = if form.spaced { &self.spaced_pools } else { &self.pools };
        let pool = &pools[usize::from(meta.kind)];
        let fragment = &pool[(meta.hash >> 20) as usize % pool.len()];
        self.assemble(i, form, fragment, out);
    }

    fn assemble(&self, i: usize, form: Form, fragment: &[u8], out: &mut Vec<u8>) {
        if !form.spaced {
            let id_comes_late = self.head(i, out);
            out.extend_from_slice(fragment);
            self.tail(i, form, id_comes_late, out);
            return;
        }
        // Fragments were given their white space once, at depth 4.
        let (mut head, mut tail, mut depth) = (Vec::new(), Vec::new(), 2);
        let id_comes_late = self.head(i, &mut head);
        self.tail(i, form, id_comes_late, &mut tail);
        text::push_spaced(out, &head, &mut depth);
        out.extend_from_slice(fragment);
        text::push_spaced(out, &tail, &mut depth);
    }

    /// Everything before the fragment. Answers whether `id` is still to come.
    fn head(&self, i: usize, out: &mut Vec<u8>) -> bool {
        let meta = &self.metas[i];
        let kind = self.kind(i);
        let name = names::Name::new(kind, meta.serial, meta.hash);
        let id_comes_late = meta.hash % 20 == 7;
        out.push(b'{');
        if !id_comes_late {
            push_id(out, kind, &name);
            out.push(b',');
        }
        out.extend_from_slice(b"\"name\":\"");
        out.extend_from_slice(&name.escaped);
        out.extend_from_slice(b"\",\"displayName\":\"");
        out.extend_from_slice(&name.display_escaped());
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"uuid\":\"");
        push_uuid(out, meta.hash, text::mix(meta.hash));
        out.extend_from_slice(b"\",\"asset\":{");
        names::push_scalars(out, kind, &name, meta.hash);
        out.push(b',');
        id_comes_late
    }

    /// Everything behind the fragment.
    fn tail(&self, i: usize, form: Form, id_comes_late: bool, out: &mut Vec<u8>) {
        let meta = &self.metas[i];
        let chance = text::mix(meta.hash ^ 0x7a11);
        out.extend_from_slice(b",\"firstSeen\":\"");
        text::push_date(out, meta.created_ms - 86_400_000, DateForm::Zulu);
        out.extend_from_slice(b"\",\"lastSeen\":\"");
        text::push_date(out, meta.updated_ms, DateForm::Offset);
        out.extend_from_slice(b"\",\"count\":");
        text::push_u64(out, chance % 5000);
        out.push(b'}');
        if id_comes_late {
            let kind = self.kind(i);
            out.push(b',');
            push_id(out, kind, &names::Name::new(kind, meta.serial, meta.hash));
        }
        out.extend_from_slice(b",\"createdDate\":\"");
        text::push_date(out, meta.created_ms, form.dates);
        out.extend_from_slice(b"\",\"updatedDate\":\"");
        text::push_date(out, meta.updated_ms, form.dates);
        out.extend_from_slice(b"\",\"state\":\"");
        out.extend_from_slice(self.state(i).as_bytes());
        out.extend_from_slice(b"\",\"externalId\":");
        match meta.external_id() {
            Some(id) => text::push_json(out, &id),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"labels\":[");
        for (n, label) in meta.labels().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            text::push_json(out, label);
        }
        out.extend_from_slice(b"],\"wildcard\":");
        out.extend_from_slice(if meta.wildcard() { b"true" } else { b"false" });
        out.extend_from_slice(b",\"discoGroupName\":");
        text::push_json(out, meta.group());
        out.extend_from_slice(match chance >> 40 & 7 {
            0 => br#","auditTrail":[],"reason":"""#,
            // A kind that the enum does not list (API reference, section 7).
            1 => br#","auditTrail":[{"id":null,"name":"seed, \"one\"","displayName":"","kind":"attribute","reason":null}],"reason":null"#,
            _ => br#","auditTrail":null,"reason":null"#,
        });
        if chance >> 50 & 15 == 0 {
            // Seen in recordings, declared nowhere (API reference, section 7).
            out.extend_from_slice(br#","history":[{"at":1.5e12,"what":"C:\\moved \/ {x}, [y]"}]"#);
        }
        out.push(b'}');
    }

    /// Renders the pools so that bodies average `asset_bytes`, heads and tails
    /// counted as they really are.
    fn fill_pools(&mut self, options: &Options) {
        let n = self.len();
        let step = n.div_ceil(SAMPLES).max(1);
        let (mut head_bytes, mut n_samples, mut out) = (0, 0, Vec::new());
        for i in (0..n).step_by(step) {
            out.clear();
            self.assemble(i, Form::LINE, b"", &mut out);
            head_bytes += out.len();
            n_samples += 1;
        }
        let head_mean = head_bytes as f64 / f64::from(n_samples.max(1));
        let weights: f64 = self.metas.iter().map(|meta| KINDS[usize::from(meta.kind)].2).sum();
        let weight_mean = if n > 0 { weights / n as f64 } else { 1.0 };
        let unit = (options.asset_bytes as f64 - head_mean).max(0.0) / weight_mean;

        let fits = FRAGMENT_BYTES_MAX / KINDS.len() / options.asset_bytes.max(1);
        let n_fragments = FRAGMENTS_MAX.min(options.assets / 64).clamp(8, FRAGMENTS_MAX);
        let n_fragments = (n_fragments as usize).min(fits.max(8));
        let pool = |(kind, _, weight): &(&str, _, f64)| {
            pool::pool(options.seed, kind, n_fragments, unit * weight)
        };
        self.pools = KINDS.iter().map(pool).collect();
        if options.whitespace {
            let spaced = |fragment: &[u8]| {
                let mut out = Vec::with_capacity(fragment.len() * 2);
                text::push_spaced(&mut out, fragment, &mut 4);
                out.into_boxed_slice()
            };
            let pool = |pool: &Pool| pool.iter().map(|fragment| spaced(fragment)).collect();
            self.spaced_pools = self.pools.iter().map(pool).collect();
        }
    }
}

fn push_id(out: &mut Vec<u8>, kind: &str, name: &names::Name) {
    out.extend_from_slice(b"\"id\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"$$");
    out.extend_from_slice(&name.escaped);
    out.push(b'"');
}

/// As [`text::uuid`] writes it, without its detour over formatting.
fn push_uuid(out: &mut Vec<u8>, high: u64, low: u64) {
    text::push_hex(out, high >> 32, 8);
    out.push(b'-');
    text::push_hex(out, high >> 16, 4);
    out.extend_from_slice(b"-4");
    text::push_hex(out, high, 3);
    out.push(b'-');
    text::push_hex(out, low >> 48 & 0x3fff | 0x8000, 4);
    out.push(b'-');
    text::push_hex(out, low, 12);
}

/// One asset as a filter sees it.
struct View<'a> {
    inventory: &'a Inventory,
    i: usize,
}

impl View<'_> {
    fn meta(&self) -> &Meta {
        &self.inventory.metas[self.i]
    }
}

impl filter::Fields for View<'_> {
    fn kind(&self) -> &str {
        self.inventory.kind(self.i)
    }
    fn state(&self) -> &str {
        self.inventory.state(self.i)
    }
    fn name(&self) -> String {
        self.inventory.name(self.i)
    }
    fn id(&self) -> String {
        self.inventory.id(self.i)
    }
    fn uuid(&self) -> String {
        self.inventory.uuid(self.i)
    }
    fn external_id(&self) -> Option<String> {
        self.meta().external_id()
    }
    fn labels(&self) -> Vec<&'static str> {
        self.meta().labels().collect()
    }
    fn wildcard(&self) -> bool {
        self.meta().wildcard()
    }
    fn created_ms(&self) -> i64 {
        self.meta().created_ms
    }
    fn updated_ms(&self) -> i64 {
        self.meta().updated_ms
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
