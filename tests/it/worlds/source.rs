//! A service in memory whose inventory changes and which misbehaves by seed: see
//! [`super::profile::SourceFaults`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use easm_export::error::{Error, Kind, Result};
use easm_export::export::source::{Asset, Cut, Page, Query, Source};
use easm_export::model::asset::{AssetKind, KindCut};
use easm_export::model::plan::Within;

use super::fate::{Fate, time_at};
use super::profile::{Inventory, SourceFaults, hours, minutes};

/// The service as one process reaches it.
#[derive(Clone)]
pub struct SimSource {
    who: Arc<str>,
    shared: Arc<Shared>,
}

struct Shared {
    fate: Arc<Fate>,
    faults: SourceFaults,
    inner: Mutex<Inner>,
}

struct Inner {
    rng: fastrand::Rng,
    inventory: Inventory,
    items: Vec<Item>,
    /// When an asset was left out of a page.
    left_out: Vec<Duration>,
    /// When an asset was moved within the order of pages.
    moved: Vec<Duration>,
    /// The cursors of each query and where they go on, to lead back to.
    cursors: BTreeMap<String, Vec<(u64, String)>>,
    n_cursors: u64,
    /// Creation time of the last burst.
    burst_ms: i64,
}

/// An asset.
struct Item {
    id: String,
    kind: Option<AssetKind>,
    created_ms: Option<i64>,
    name: String,
    from: Duration,
    until: Option<Duration>,
    /// Its place in the order of pages.
    place: u64,
    version: u32,
}

impl Item {
    fn is_there(&self, age: Duration) -> bool {
        self.from <= age && self.until.is_none_or(|until| age < until)
    }

    fn is_within(&self, within: &Within) -> bool {
        let Within { created_from, created_before, is_undated, name_prefix, names_excluded } =
            within;
        let is_bounded = created_from.is_some() || created_before.is_some();
        let is_in_time = match self.created_ms {
            None => !is_bounded,
            Some(ms) => {
                let is_after = created_from.is_none_or(|from| from.unix_ms() <= ms);
                let is_before = created_before.is_none_or(|before| ms < before.unix_ms());
                !is_undated && is_after && is_before
            }
        };
        let begins = |prefix: &String| self.name.starts_with(prefix.as_str());
        is_in_time && name_prefix.as_ref().is_none_or(begins) && !names_excluded.iter().any(begins)
    }

    fn matches(&self, query: &Query) -> bool {
        let is_of_kind = match &query.cut {
            Cut::AnyOf(kinds) => is_of_any(kinds, self.kind),
            Cut::One(KindCut::Only(kind)) => self.kind == Some(*kind),
            Cut::One(KindCut::Other) => self.kind.is_none(),
        };
        is_of_kind && self.is_within(&query.within)
    }
}

/// Whether an asset of `kind` is asked for by `kinds`. All eight narrow nothing.
fn is_of_any(kinds: &[AssetKind], kind: Option<AssetKind>) -> bool {
    kinds.len() == AssetKind::ALL.len() || kind.is_some_and(|kind| kinds.contains(&kind))
}

/// What was in the inventory during a span of time.
#[derive(Debug)]
pub struct Truth {
    /// Assets that were there all the time.
    pub always: BTreeSet<String>,
    /// Assets that were there at some time.
    pub ever: BTreeSet<String>,
    /// No asset came or went.
    pub is_still: bool,
    /// No page left one out, and none moved between pages.
    pub is_told_whole: bool,
}

impl Inner {
    fn add(&mut self, age: Duration, is_first: bool) {
        let (rng, inventory) = (&mut self.rng, &self.inventory);
        let n = self.items.len();
        let kind = match rng.f64() < inventory.other {
            true => None,
            // Some kinds have many assets, some none.
            false => Some(AssetKind::ALL[rng.usize(0..4) * rng.usize(0..3)]),
        };
        let now_ms = time_at(age).unix_ms();
        let created_ms = match () {
            () if rng.f64() < inventory.undated => None,
            () if rng.f64() < inventory.burst => Some(self.burst_ms),
            // What is new may have been created long ago.
            () if is_first || rng.bool() => {
                let years = u64::try_from(now_ms).unwrap() / 4;
                Some(now_ms - i64::try_from(rng.u64(0..years)).unwrap())
            }
            () => Some(now_ms),
        };
        let beginning = ["", "www.", "https://", "a-"][rng.usize(0..4)];
        let kind_name = kind.map_or("gadget", AssetKind::as_str);
        self.items.push(Item {
            id: format!("{kind_name}$$a{n}"),
            kind,
            created_ms,
            name: format!("{beginning}{}{n}", rng.lowercase()),
            from: age,
            until: None,
            place: rng.u64(..) & !0xffff | n as u64,
            version: 1,
        });
    }
}

impl SimSource {
    pub fn new(fate: &Arc<Fate>, faults: SourceFaults, inventory: Inventory) -> Self {
        let n_assets = inventory.n_assets;
        let burst_ms = time_at(Duration::ZERO).unix_ms() - 86_400_000;
        let mut inner = Inner {
            rng: fate.fork(),
            inventory,
            items: Vec::new(),
            left_out: Vec::new(),
            moved: Vec::new(),
            cursors: BTreeMap::new(),
            n_cursors: 0,
            burst_ms,
        };
        for _ in 0..n_assets {
            inner.add(Duration::ZERO, true);
        }
        let shared = Shared { fate: Arc::clone(fate), faults, inner: Mutex::new(inner) };
        Self { who: "world".into(), shared: Arc::new(shared) }
    }

    /// The same service, as the process `who` reaches it.
    pub fn of(&self, who: &str) -> Self {
        Self { who: who.into(), shared: Arc::clone(&self.shared) }
    }

    /// Adds, deletes and changes assets, until the world calms down.
    pub async fn change(&self) {
        let Shared { fate, inner, .. } = self.shared.as_ref();
        let every = inner.lock().unwrap().inventory.change_every;
        let Some(every) = every else { return };
        loop {
            fate.pause(every / 10, every * 4).await;
            if fate.is_calm() {
                return;
            }
            let (age, mut inner) = (fate.age(), inner.lock().unwrap());
            let there: Vec<usize> =
                (0..inner.items.len()).filter(|n| inner.items[*n].until.is_none()).collect();
            let n = there.get(inner.rng.usize(0..there.len().max(1))).copied();
            match (inner.rng.u8(0..3), n) {
                (0, Some(n)) => {
                    inner.items[n].until = Some(age);
                    fate.note(format_args!("service: {} is gone", inner.items[n].id));
                }
                (1, Some(n)) => {
                    inner.items[n].version += 1;
                    if inner.inventory.moves {
                        let place = inner.rng.u64(..) & !0xffff | n as u64;
                        inner.items[n].place = place;
                        inner.moved.push(age);
                    }
                    fate.note(format_args!("service: {} has changed", inner.items[n].id));
                }
                _ => {
                    inner.add(age, false);
                    let id = &inner.items.last().unwrap().id;
                    fate.note(format_args!("service: {id} is new"));
                }
            }
        }
    }

    /// What was there of `kinds` from the world's age `from` to its age `to`.
    pub fn truth(&self, kinds: &[AssetKind], from: Duration, to: Duration) -> Truth {
        let inner = self.shared.inner.lock().unwrap();
        let wanted = || inner.items.iter().filter(|item| is_of_any(kinds, item.kind));
        let ids = |items: &mut dyn Iterator<Item = &Item>| items.map(|i| i.id.clone()).collect();
        let is_during = |at: &Duration| (from..=to).contains(at);
        let ever = |item: &&Item| item.from <= to && item.until.is_none_or(|until| from < until);
        let always = |item: &&Item| item.is_there(from) && item.is_there(to);
        let (always, ever): (BTreeSet<_>, BTreeSet<_>) =
            (ids(&mut wanted().filter(always)), ids(&mut wanted().filter(ever)));
        Truth {
            is_still: always.len() == ever.len(),
            is_told_whole: !inner.left_out.iter().chain(&inner.moved).any(is_during),
            always,
            ever,
        }
    }

    /// Waits for an answer, or for its failure.
    async fn answer(&self, operation: &'static str) -> Result<()> {
        let Shared { fate, faults, .. } = self.shared.as_ref();
        let fail = |kind| Err(Error::new(kind, operation));
        fate.pause(Duration::from_millis(20), faults.lag_max).await;
        let age = fate.age();
        if faults.denied_from.is_some_and(|from| from <= age) {
            return fail(Kind::Denied);
        }
        let is_out = !fate.is_calm() && faults.outages.hold(age);
        if is_out || fate.strikes(faults.unavailable) {
            // The usual retries take their time.
            fate.pause(Duration::from_secs(10), minutes(5)).await;
            return fail(Kind::Unavailable { retry_after: None });
        }
        if fate.strikes(faults.throttled) {
            fate.pause(Duration::from_secs(1), minutes(2)).await;
            let wanted = fate.between(Duration::from_secs(1), hours(2));
            let retry_after = fate.strikes(0.5).then_some(wanted);
            return fail(Kind::Throttled { retry_after });
        }
        if fate.strikes(faults.unreadable) {
            return fail(Kind::Unreadable);
        }
        Ok(())
    }

    /// The place behind which `cursor` goes on, unless it is refused.
    fn place_behind(&self, cursor: &str) -> Result<u64> {
        let Shared { fate, faults, .. } = self.shared.as_ref();
        let refused = || {
            fate.note(format_args!("service: {} gets a cursor refused", self.who));
            Err(Error::new(Kind::BadRequest, "list assets").because("the mark is not valid"))
        };
        let mut members = cursor.split('-').map(|text| u64::from_str_radix(text, 16).unwrap());
        let (place, issued_ms) = (members.next().unwrap(), members.next().unwrap());
        let age = fate.age().saturating_sub(Duration::from_millis(issued_ms));
        let is_old = !fate.is_calm() && faults.cursor_age_max.is_some_and(|max| age > max);
        if is_old || faults.cursors_broken || fate.strikes(faults.cursor_refused) {
            return refused();
        }
        Ok(place)
    }
}

#[async_trait]
impl Source for SimSource {
    async fn count(&self, query: &Query) -> Result<u64> {
        self.answer("count assets").await?;
        if query.within.is_undated && !self.shared.faults.knows_undated {
            return Err(Error::new(Kind::BadRequest, "count assets").because("unknown operator"));
        }
        let (age, inner) = (self.shared.fate.age(), self.shared.inner.lock().unwrap());
        let there = inner.items.iter().filter(|item| item.is_there(age) && item.matches(query));
        Ok(there.count() as u64)
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        self.answer("list assets").await?;
        let behind = cursor.map(|cursor| self.place_behind(cursor)).transpose()?;
        let Shared { fate, faults, inner } = self.shared.as_ref();
        let (age, mut guard) = (fate.age(), inner.lock().unwrap());
        let inner = &mut *guard;
        let there = inner.items.iter().filter(|item| item.is_there(age) && item.matches(query));
        let mut matching: Vec<&Item> = there.collect();
        matching.sort_by_key(|item| item.place);
        let total = matching.len() as u64;
        let is_before = |item: &&Item| behind.is_some_and(|behind| item.place <= behind);
        let n_before = matching.partition_point(is_before);
        let mut n_end = (n_before + size as usize).min(matching.len());
        if n_end > n_before && fate.strikes(faults.short) {
            n_end -= 1;
        }
        let is_last = n_end == matching.len();
        let end = matching[..n_end].last().map_or(0, |item| item.place);
        let mut on_page: Vec<&Item> = matching[n_before..n_end].to_vec();
        if !on_page.is_empty() && fate.strikes(faults.left_out) {
            let gone = on_page.remove(fate.below(on_page.len()));
            fate.note(format_args!("service: {} gets no {}", self.who, gone.id));
            inner.left_out.push(age);
        }
        if n_before > 0 && fate.strikes(faults.doubled) {
            on_page.insert(0, matching[fate.below(n_before)]);
        }
        let (body, assets) = body_of(&on_page);
        let key = format!("{query:?}");
        let next = (!is_last).then(|| {
            let of_query = inner.cursors.entry(key).or_default();
            if fate.strikes(faults.cursor_loops) {
                let back = of_query.iter().filter(|(place, _)| *place <= end);
                let back: Vec<&String> = back.map(|(_, cursor)| cursor).collect();
                if !back.is_empty() {
                    fate.note(format_args!("service: {} is led back", self.who));
                    return back[fate.below(back.len())].clone();
                }
            }
            inner.n_cursors += 1;
            let next = format!("{end:x}-{:x}-{:x}", age.as_millis(), inner.n_cursors);
            of_query.push((end, next.clone()));
            next
        });
        Ok(Page { body: body.into(), assets, next, total: Some(total) })
    }
}

/// An answer with `items`, and where they stand in it.
fn body_of(items: &[&Item]) -> (Vec<u8>, Vec<Asset>) {
    let mut body = br#"{"content":["#.to_vec();
    let mut assets = Vec::new();
    for item in items {
        if !assets.is_empty() {
            body.push(b',');
        }
        let start = body.len();
        let record = format!(r#"{{"id":"{}","v":{}}}"#, item.id, item.version);
        body.extend_from_slice(record.as_bytes());
        assets.push(Asset { span: start..body.len(), id_hash: hash(&item.id) });
    }
    body.extend_from_slice(b"]}");
    (body, assets)
}

fn hash(id: &str) -> u64 {
    let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    id.bytes().fold(0xcbf2_9ce4_8422_2325, fold)
}
