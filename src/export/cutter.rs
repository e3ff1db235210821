//! Cuts one piece of a kind once.
//!
//! `by creation time: where a sample says -> else equal spans -> else by name: where a sample says ->
//! else letter by letter`
//!
//! Creation time and name never change for an asset, so pieces stay disjoint while the inventory moves.
//! How the service reads a condition is not taken on trust: a cut is used only if its pieces add up to
//! what it was cut from, counted before and after. Else it is made another way. What was cut was counted
//! when it was cut off itself, so it is counted again only if its pieces do not add up to that.
//!
//! A sample is one page. It says where to cut, so that one cut makes many pieces, and it shows a burst of
//! equal times at once. If it misleads, which shows when the pieces are counted, spans of equal length
//! are made instead; and a piece that is not large is cut into those without asking for a sample.
//!
//! Start reading at [`Cutter::cut`].

use futures::future;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::plan::query;
use super::sample::{self, NAME_CHARS, PREFIX_CHARS_MAX, Scale};
use super::source::{Sampled, Source};
use crate::clock::Timestamp;
use crate::error::{Kind, Result};
use crate::model::asset::KindCut;
use crate::model::plan::Within;
use crate::model::request::Request;

/// How often the pieces of a cut are counted before another way is tried: an inventory that moves
/// between two counts does not do so twice.
const CHECKS_MAX: u32 = 2;

/// Most cuts on the way to one range. Thirty years are cut to a millisecond in fourteen.
pub(super) const CUTS_MAX: u32 = 64;

/// Most spans of equal length that a cut makes. So many requests are on their way at once by default.
const SPANS_MAX: usize = 8;

/// Most pieces that a cut by sampled times aims at: of more, a page does not say enough.
const SAMPLED_PIECES_MAX: usize = 24;

/// A cut that leaves more than so much together did not help.
const MOST_PERCENT: u64 = 75;

/// How names of assets usually begin, the longest first: a beginning that all share need not be found
/// character by character.
const USUAL_BEGINNINGS: [&str; 4] = ["https://www.", "https://", "http://", "www."];

/// A range in the making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Piece {
    pub within: Within,
    pub n_assets: u64,
    /// Where creation times are looked for, from and before, in milliseconds.
    pub search_ms: (i64, i64),
    pub n_cuts: u32,
    /// How it is to be cut by creation time.
    #[serde(default)]
    pub by: By,
}

/// How a piece is cut by creation time at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum By {
    /// Where a sample says.
    #[default]
    Sample,
    /// Into spans of equal length.
    Spans,
}

impl Piece {
    /// Whether its creation times differ, as far as is known.
    fn has_times(&self) -> bool {
        self.within.name_prefix.is_none()
            && !self.within.is_undated
            && self.search_ms.1 - self.search_ms.0 > 1
    }

    /// From and before when its assets were created, in milliseconds.
    fn bounds_ms(&self) -> (i64, i64) {
        let Within { created_from, created_before, .. } = self.within;
        let from_ms = created_from.map_or(i64::MIN, Timestamp::unix_ms);
        (from_ms, created_before.map_or(i64::MAX, Timestamp::unix_ms))
    }

    /// Creation times of those of `sample` that belong to it.
    fn times_ms(&self, sample: &[Sampled]) -> Vec<i64> {
        let (from_ms, before_ms) = self.bounds_ms();
        let times_ms = sample.iter().filter_map(|seen| seen.created_at).map(Timestamp::unix_ms);
        times_ms.filter(|at_ms| (from_ms..before_ms).contains(at_ms)).collect()
    }

    /// Whether it holds so much of `whole` that cutting it off did not help.
    fn is_most_of(&self, whole: &Self) -> bool {
        let percent = |part: u64| u128::from(part) * 100;
        percent(self.n_assets) > u128::from(whole.n_assets) * u128::from(MOST_PERCENT)
    }
}

/// What became of a try to cut.
enum Attempt {
    /// Pieces that add up.
    Cut(Vec<Piece>),
    /// They do not add up.
    Refused,
    /// The service does not understand the conditions.
    NotUnderstood,
}

/// What all cuts of a plan have in common.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub source: &'a dyn Source,
    pub request: &'a Request,
    /// Most assets of a range.
    pub assets_max: u64,
    /// Most assets of a sample. `None`: no samples are asked for.
    pub sample_size: Option<u32>,
}

/// Cuts the pieces of one kind.
pub(super) struct Cutter<'a> {
    pub terms: Terms<'a>,
    pub kind: KindCut,
}

impl Cutter<'_> {
    /// `piece` cut into smaller ones, or into one that knows better where to look. `None`: it cannot
    /// be cut.
    ///
    /// # Errors
    /// What the service finally failed with.
    pub async fn cut(&self, piece: &Piece) -> Result<Option<Vec<Piece>>> {
        let mut sample = None;
        if piece.has_times()
            && let Some(pieces) = self.by_some_time(piece, &mut sample).await?
        {
            return Ok(Some(pieces));
        }
        let sample = match sample {
            Some(sample) => sample,
            None => self.sample(piece).await,
        };
        let names: Vec<&str> = sample.iter().filter_map(|seen| seen.name.as_deref()).collect();
        if let Attempt::Cut(pieces) = self.by_sampled_names(piece, &names).await?
            && pieces.iter().all(|part| !part.is_most_of(piece))
        {
            return Ok(Some(pieces));
        }
        match self.by_letters(piece, &names).await? {
            Attempt::Cut(pieces) => Ok(Some(pieces)),
            Attempt::Refused | Attempt::NotUnderstood => Ok(None),
        }
    }

    /// Cuts by creation time. If `sample` is asked for, it is left there.
    async fn by_some_time(
        &self,
        piece: &Piece,
        sample: &mut Option<Vec<Sampled>>,
    ) -> Result<Option<Vec<Piece>>> {
        let mut piece = piece.clone();
        if piece.by == By::Sample {
            let seen = sample.insert(self.sample(&piece).await);
            let times_ms = piece.times_ms(seen);
            if let (Some(first_ms), Some(last_ms)) = (times_ms.iter().min(), times_ms.iter().max())
            {
                let (from_ms, before_ms) = piece.search_ms;
                piece.search_ms = (from_ms.min(*first_ms), before_ms.max(last_ms + 1));
            }
            // What is of one moment is cut by name next, however much it is.
            let helps = |part: &Piece| !part.has_times() || !part.is_most_of(&piece);
            match self.by_sampled_times(&piece, times_ms, seen.len()).await? {
                Attempt::Cut(pieces) if pieces.iter().all(helps) => return Ok(Some(pieces)),
                Attempt::Cut(_) | Attempt::Refused => {}
                Attempt::NotUnderstood => return Ok(None),
            }
        }
        match self.by_spans(&piece).await? {
            Attempt::Cut(pieces) => Ok(Some(pieces)),
            Attempt::Refused | Attempt::NotUnderstood => Ok(None),
        }
    }

    /// Some of the assets of `piece`. That none come is no failure: they only help.
    async fn sample(&self, piece: &Piece) -> Vec<Sampled> {
        let Terms { source, request, sample_size, .. } = self.terms;
        let Some(size) = sample_size else { return Vec::new() };
        let sampled = source.sample(&query(request, self.kind, &piece.within), size).await;
        sampled.unwrap_or_else(|err| {
            debug!("A range is cut without a look at its assets: {err}");
            Vec::new()
        })
    }

    /// What `n_seen` sampled assets of `piece` stand for.
    fn scale(&self, piece: &Piece, n_seen: usize) -> Scale {
        Scale { n_assets: piece.n_assets, n_seen, assets_max: self.terms.assets_max }
    }

    fn n_pieces(&self, piece: &Piece) -> usize {
        sample::n_pieces(piece.n_assets, self.terms.assets_max)
    }

    /// Cuts where `times_ms` say, which `n_seen` sampled assets have.
    async fn by_sampled_times(
        &self,
        piece: &Piece,
        times_ms: Vec<i64>,
        n_seen: usize,
    ) -> Result<Attempt> {
        let n_pieces = self.n_pieces(piece).min(SAMPLED_PIECES_MAX);
        let mut edges_ms = sample::edges(times_ms, self.scale(piece, n_seen), n_pieces);
        let (from_ms, before_ms) = piece.bounds_ms();
        edges_ms.retain(|edge_ms| from_ms < *edge_ms && *edge_ms < before_ms);
        if edges_ms.is_empty() {
            return Ok(Attempt::Refused);
        }
        let mut attempt = self.by_time(piece, &edges_ms).await?;
        if let Attempt::Cut(pieces) = &mut attempt {
            for piece in pieces {
                // What is as small as that is cut well enough without a sample.
                let is_large = self.n_pieces(piece) > SPANS_MAX;
                piece.by = if is_large { By::Sample } else { By::Spans };
            }
        }
        Ok(attempt)
    }

    /// Cuts where creation times are looked for into spans of equal length.
    async fn by_spans(&self, piece: &Piece) -> Result<Attempt> {
        let (from_ms, before_ms) = piece.search_ms;
        let n_spans = i64::try_from(self.n_pieces(piece).min(SPANS_MAX)).unwrap_or(2);
        let width_ms = ((before_ms - from_ms + n_spans - 1) / n_spans).max(1);
        let edges_ms: Vec<i64> = (1..n_spans)
            .map(|n| from_ms + n * width_ms)
            .take_while(|edge_ms| *edge_ms < before_ms)
            .collect();
        let mut attempt = self.by_time(piece, &edges_ms).await?;
        if let Attempt::Cut(pieces) = &mut attempt {
            for part in pieces {
                // Most was created within a short time: a sample shows when.
                part.by = if part.is_most_of(piece) { By::Sample } else { By::Spans };
            }
        }
        Ok(attempt)
    }

    /// Cuts at `edges_ms`, and puts together again what is small. What has no creation date is a piece
    /// of its own if there is any.
    async fn by_time(&self, piece: &Piece, edges_ms: &[i64]) -> Result<Attempt> {
        let search_ms = piece.search_ms;
        let edges: Option<Vec<Timestamp>> =
            edges_ms.iter().map(|edge_ms| Timestamp::from_unix_ms(*edge_ms)).collect();
        let Some(edges) = edges else { return Ok(Attempt::Refused) };
        let Within { created_from, created_before, .. } = piece.within;
        let from = std::iter::once(created_from).chain(edges.iter().copied().map(Some));
        let before = edges.iter().copied().map(Some).chain(std::iter::once(created_before));
        let withins: Vec<Within> = from
            .zip(before)
            .map(|(created_from, created_before)| Within {
                created_from,
                created_before,
                ..Within::default()
            })
            .collect();
        let n_spans = withins.len();
        let undated = piece.within.is_all();
        let undated = undated.then(|| Within { is_undated: true, ..Within::default() });
        let counted = match self.counted(&withins).await? {
            Some(counts) => withins.into_iter().zip(counts).collect(),
            None => return Ok(Attempt::NotUnderstood),
        };
        let Some(counted) = self.checked(piece, counted, undated).await? else {
            return Ok(Attempt::Refused);
        };
        let starts_ms = std::iter::once(search_ms.0).chain(edges_ms.iter().copied());
        let ends_ms = edges_ms.iter().copied().chain(std::iter::once(search_ms.1));
        let searches = starts_ms.zip(ends_ms).chain(std::iter::once(search_ms));
        let mut pieces: Vec<Piece> = counted
            .into_iter()
            .zip(searches)
            .map(|((within, n_assets), search_ms)| Piece {
                within,
                n_assets,
                search_ms,
                n_cuts: piece.n_cuts + 1,
                by: By::default(),
            })
            .collect();
        let undated = pieces.split_off(n_spans);
        let joined = self.joined(pieces.clone());
        // A range that is open at both ends would hold what is undated too.
        let mut pieces = if joined.len() == 1 && !undated.is_empty() { pieces } else { joined };
        pieces.extend(undated);
        Ok(Attempt::Cut(pieces))
    }

    /// `spans`, which follow one another, put together where that is small enough. One that is empty
    /// goes with its neighbour.
    fn joined(&self, spans: Vec<Piece>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for span in spans {
            match pieces.last_mut() {
                Some(last)
                    if last.n_assets == 0
                        || span.n_assets == 0
                        || last.n_assets + span.n_assets <= self.terms.assets_max =>
                {
                    last.within.created_before = span.within.created_before;
                    last.n_assets += span.n_assets;
                    if span.n_assets > 0 {
                        last.search_ms = span.search_ms;
                    }
                }
                _ => pieces.push(span),
            }
        }
        pieces
    }

    /// Cuts by the beginnings of the names of a sample; what has none of them stays together, and can be
    /// cut by others.
    async fn by_sampled_names(&self, piece: &Piece, names: &[&str]) -> Result<Attempt> {
        let scale = self.scale(piece, names.len());
        let beginnings = sample::beginnings(names, &piece.within, scale);
        let withins: Vec<Within> =
            beginnings.iter().map(|begin| named(&piece.within, begin)).collect();
        self.by_name(piece, &withins).await
    }

    /// Cuts by the next character of the names; what goes on with another one stays together for good.
    async fn by_letters(&self, piece: &Piece, names: &[&str]) -> Result<Attempt> {
        let begin = match (&piece.within.name_prefix, names) {
            (Some(prefix), []) => prefix.clone(),
            _ => self.common_beginning(piece, names).await?,
        };
        if begin.chars().count() >= PREFIX_CHARS_MAX {
            return Ok(Attempt::Refused);
        }
        let beginnings = NAME_CHARS.chars().map(|c| format!("{begin}{c}"));
        let is_left = |begin: &String| !piece.within.names_excluded.contains(begin);
        let withins: Vec<Within> =
            beginnings.filter(is_left).map(|begin| named(&piece.within, &begin)).collect();
        let mut attempt = self.by_name(piece, &withins).await?;
        if let Attempt::Cut(pieces) = &mut attempt
            && let Some(rest) = pieces.last_mut()
        {
            rest.n_cuts = CUTS_MAX;
        }
        Ok(attempt)
    }

    /// The beginning that all names of `piece` share: the one of `names` of a sample, or a usual one.
    async fn common_beginning(&self, piece: &Piece, names: &[&str]) -> Result<String> {
        let begin = piece.within.name_prefix.clone().unwrap_or_default();
        let mut beginnings = match names {
            [] => USUAL_BEGINNINGS.map(str::to_owned).to_vec(),
            names => vec![sample::shared_beginning(names)],
        };
        beginnings.retain(|longer| longer.len() > begin.len() && longer.starts_with(&begin));
        let withins: Vec<Within> =
            beginnings.iter().map(|begin| named(&piece.within, begin)).collect();
        let counts = self.counted(&withins).await?.unwrap_or_default();
        let mut shared = beginnings.into_iter().zip(counts);
        let all = shared.find(|(_, n_assets)| *n_assets == piece.n_assets);
        Ok(all.map_or(begin, |(beginning, _)| beginning))
    }

    /// Cuts `piece` into those of `withins` that are not empty, and what is named otherwise.
    async fn by_name(&self, piece: &Piece, withins: &[Within]) -> Result<Attempt> {
        let Some(counts) = self.counted(withins).await? else {
            return Ok(Attempt::NotUnderstood);
        };
        let counted = withins.iter().cloned().zip(counts);
        let mut counted: Vec<_> = counted.filter(|(_, n_assets)| *n_assets > 0).collect();
        if counted.is_empty() {
            return Ok(Attempt::Refused);
        }
        let mut rest = piece.within.clone();
        let cut_off = counted.iter().filter_map(|(within, _)| within.name_prefix.as_ref());
        rest.names_excluded.retain(|name| !cut_off.clone().any(|prefix| name.starts_with(prefix)));
        rest.names_excluded.extend(cut_off.cloned());
        let Some(n_rest) = self.counted(std::slice::from_ref(&rest)).await? else {
            return Ok(Attempt::NotUnderstood);
        };
        counted.extend(std::iter::once(rest).zip(n_rest));
        let Some(counted) = self.checked(piece, counted, None).await? else {
            return Ok(Attempt::Refused);
        };
        let pieces = counted.into_iter().map(|(within, n_assets)| Piece {
            within,
            n_assets,
            search_ms: piece.search_ms,
            n_cuts: piece.n_cuts + 1,
            by: piece.by,
        });
        Ok(Attempt::Cut(pieces.collect()))
    }

    /// `pieces` with their counts, if together they lie between two counts of `whole`, one before and one
    /// after. If some assets are missing, `spare` is one more piece.
    async fn checked(
        &self,
        whole: &Piece,
        mut pieces: Vec<(Within, u64)>,
        mut spare: Option<Within>,
    ) -> Result<Option<Vec<(Within, u64)>>> {
        let sum = |pieces: &[(Within, u64)]| pieces.iter().map(|(_, n)| n).sum::<u64>();
        let mut before = whole.n_assets;
        for n_checks in 1..=CHECKS_MAX {
            if sum(&pieces) < before
                && let Some(spare) = spare.take()
            {
                let n_spare = self.counted(std::slice::from_ref(&spare)).await?;
                let counted = std::iter::once(spare).zip(n_spare.unwrap_or_default());
                pieces.extend(counted.filter(|(_, n_assets)| *n_assets > 0));
            }
            if sum(&pieces) == before {
                return Ok(Some(pieces));
            }
            let after = self.count(&whole.within).await?;
            if (before.min(after)..=before.max(after)).contains(&sum(&pieces)) {
                return Ok(Some(pieces));
            }
            if n_checks < CHECKS_MAX {
                before = self.count(&whole.within).await?;
                let withins: Vec<Within> = pieces.into_iter().map(|(within, _)| within).collect();
                let Some(counts) = self.counted(&withins).await? else { return Ok(None) };
                pieces = withins.into_iter().zip(counts).collect();
            }
        }
        Ok(None)
    }

    /// Counts of `pieces`. `None`: the service does not understand one of them.
    async fn counted(&self, pieces: &[Within]) -> Result<Option<Vec<u64>>> {
        match future::try_join_all(pieces.iter().map(|within| self.count(within))).await {
            Ok(counts) => Ok(Some(counts)),
            Err(err) if err.kind() == Kind::BadRequest => {
                debug!("A range is cut another way: {err}");
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    async fn count(&self, within: &Within) -> Result<u64> {
        let Terms { source, request, .. } = self.terms;
        source.count(&query(request, self.kind, within)).await
    }
}

/// What of `within` has a name that begins with `begin`, which is longer than the beginning asked for
/// there.
fn named(within: &Within, begin: &str) -> Within {
    let excluded = within.names_excluded.iter().filter(|name| name.starts_with(begin)).cloned();
    Within {
        name_prefix: Some(begin.to_owned()),
        names_excluded: excluded.collect(),
        ..within.clone()
    }
}
