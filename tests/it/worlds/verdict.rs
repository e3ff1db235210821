//! What must be true at the end of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use easm_export::model::history::History;
use easm_export::model::manifest::{Completeness, Latest, Manifest};
use easm_export::model::run::{RunDocument, Status};

use super::actors::{TARGET, Town, request};
use super::check::{Place, RunSeen, ids_in, parse};
use super::profile::{hours, minutes};
use super::store::State;

/// Longest time between a run's start and its first document.
const OPENING_MAX: Duration = minutes(35);

/// How the runs of worlds ended, to know that everything happens.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    pub counts: BTreeMap<String, usize>,
}

impl Ends {
    pub fn count(&mut self, what: impl Into<String>, n: usize) {
        *self.counts.entry(what.into()).or_insert(0) += n;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, n) in &other.counts {
            self.count(what.clone(), *n);
        }
    }

    pub fn of(&self, what: &str) -> usize {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

/// Looks at what is left of `town`.
pub fn at_the_end(town: &Town) -> Result<Ends, String> {
    let (mut ends, state) = (Ends::default(), town.store.state());
    let prefix = format!("{TARGET}/active/");
    if let Some((path, _)) = state.files.iter().find(|(path, _)| path.starts_with(&prefix)) {
        return Err(format!("{path} still says that something is in work"));
    }
    let history = match state.files.get(&format!("{TARGET}/history.json")) {
        Some(file) => parse::<History>(file)?.runs,
        None => Vec::new(),
    };
    let mut documents = BTreeMap::new();
    for (id, seen) in &state.runs {
        let about = |reason: String| format!("{id}: {reason}");
        let Some(file) = state.files.get(&format!("{TARGET}/runs/{id}/run.json")) else {
            return Err(about("has no run.json".to_owned()));
        };
        let run: RunDocument = parse(file)?;
        one_run(town, &state, seen, &run, &mut ends).map_err(about)?;
        let entries: Vec<_> = history.iter().filter(|entry| entry.run_id == run.run_id).collect();
        match entries[..] {
            [entry] if entry.status == run.status => {}
            [entry] => return Err(about(format!("history.json says it is {:?}", entry.status))),
            _ => return Err(about("is not in history.json once".to_owned())),
        }
        documents.insert(id.clone(), run);
    }
    slots(&documents)?;
    latest(&state, &documents)?;
    ends.count("parts deleted", state.n_parts_deleted);
    Ok(ends)
}

fn one_run(
    town: &Town,
    state: &State,
    seen: &RunSeen,
    run: &RunDocument,
    ends: &mut Ends,
) -> Result<(), String> {
    let status = run.status.as_str();
    ends.count(status, 1);
    if !run.status.is_ended() {
        return Err(format!("is {status} for ever"));
    }
    if seen.manifest.is_some() != (run.status == Status::Complete) {
        let has = if seen.manifest.is_some() { "a" } else { "no" };
        return Err(format!("is {status} and has {has} manifest"));
    }
    match (&seen.manifest, run.status) {
        (Some((age, manifest)), _) => complete(town, state, seen, *age, manifest, ends),
        (None, Status::Failed) => failed(town, seen, run, ends),
        (None, Status::Cancelled) if seen.cancelled_at.is_none() => {
            Err("nobody asked for its end".to_owned())
        }
        (None, _) => Ok(()),
    }
}

/// Whether a failed run had a reason to fail.
fn failed(town: &Town, seen: &RunSeen, run: &RunDocument, ends: &mut Ends) -> Result<(), String> {
    let (error, profile) = (run.error.as_ref().ok_or("does not say why")?, &town.profile);
    let (source, processes) = (&profile.source, &profile.processes);
    ends.count(format!("failed: {}", error.code), 1);
    let ended_at = seen.statuses.last().map_or(Duration::ZERO, |(age, _)| *age);
    let store = &profile.store;
    let is_disturbed = processes.killed > 0.0
        || processes.stalled > 0.0
        || store.before + store.after + store.later + store.slow > 0.0
        || !store.outages.0.is_empty();
    let has_bad_cursors = source.cursors_broken
        || source.cursor_refused + source.cursor_loops > 0.0
        || source.cursor_age_max.is_some();
    let has_reason = match error.code.as_str() {
        "denied" => source.denied_from.is_some_and(|from| from <= ended_at),
        "deadline" => seen.idle + OPENING_MAX >= profile.idle_max || processes.jump_every.is_some(),
        "shard_stuck" => is_disturbed || has_bad_cursors,
        _ => false,
    };
    match has_reason {
        true => Ok(()),
        false => Err(format!("failed with {} without a reason: {}", error.code, error.message)),
    }
}

/// Whether a complete run is what it says.
fn complete(
    town: &Town,
    state: &State,
    seen: &RunSeen,
    age: Duration,
    manifest: &Manifest,
    ends: &mut Ends,
) -> Result<(), String> {
    let verdict = manifest.completeness;
    ends.count(verdict.as_str(), 1);
    let mut ids = BTreeSet::new();
    for file in &manifest.files {
        let stored = state.files.get(&file.path).ok_or(format!("{} is gone", file.path))?;
        if stored.sha256 != file.sha256 || stored.records != file.records {
            return Err(format!("{} is not what the manifest says", file.path));
        }
        for id in ids_in(stored)? {
            if !ids.insert(id.clone()) {
                return Err(format!("{id} is in its files twice"));
            }
        }
    }
    let truth = town.source.truth(&manifest.request.kinds, seen.opened_at, age);
    if let Some(id) = ids.difference(&truth.ever).next() {
        return Err(format!("{id} never was there"));
    }
    let counts = &manifest.counts["assets"];
    let n_ids = ids.len() as u64;
    if counts.exported != n_ids || counts.by_kind.values().sum::<u64>() != n_ids {
        return Err(format!("has {n_ids} assets and says {}", counts.exported));
    }
    let max_assets = manifest.request.max_assets;
    let missing = truth.always.difference(&ids).next();
    if max_assets.is_some_and(|max| n_ids > max) {
        return Err(format!("has {n_ids} assets, more than were asked for"));
    }
    let is_limited = verdict == Completeness::Limited;
    if is_limited && max_assets.is_none() {
        return Err("is limited by nothing".to_owned());
    }
    if let Some(id) = missing
        && !is_limited
    {
        if truth.is_told_whole {
            return Err(format!("lacks {id}, which was there all the time"));
        }
        if truth.is_still && verdict != Completeness::Mismatch {
            return Err(format!("lacks {id} and says that it is {}", verdict.as_str()));
        }
        ends.count("lacks something", 1);
    }
    if truth.is_still && truth.is_told_whole && !is_limited && verdict != Completeness::Exact {
        return Err(format!("is {} although nothing changed", verdict.as_str()));
    }
    if is_limited && truth.is_still && truth.is_told_whole && Some(n_ids) != max_assets {
        return Err(format!("has {n_ids} assets, fewer than were asked for"));
    }
    strays(town, state, age, manifest, ends)
}

/// Parts that no manifest lists were deleted, but for those that came when nobody looked any more.
fn strays(
    town: &Town,
    state: &State,
    age: Duration,
    manifest: &Manifest,
    ends: &mut Ends,
) -> Result<(), String> {
    let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let id = manifest.run_id.as_str();
    let of_run = state.files.iter().filter(|(path, _)| Place::of(path) == Place::Part(id));
    for (path, file) in of_run.filter(|(path, _)| !listed.contains(path.as_str())) {
        ends.count("strays", 1);
        if file.made_at < age {
            return Err(format!("{path} was left lying"));
        }
        // Maintenance looks at what ended for an hour, by its own clock and if the store lets it.
        let is_looked_at = town.profile.processes.jump_every.is_none()
            && !town
                .profile
                .store
                .outages
                .0
                .iter()
                .any(|(from, to)| *from < age + hours(1) && *to > age);
        let after = file.made_at.saturating_sub(age);
        if is_looked_at && after < hours(1) {
            return Err(format!("{path} came {after:?} after the end and was left lying"));
        }
    }
    Ok(())
}

fn slots(documents: &BTreeMap<String, RunDocument>) -> Result<(), String> {
    let mut slots = BTreeSet::new();
    let carried = documents.values().filter(|run| run.status != Status::Skipped);
    for run in carried {
        if run.slot.is_some_and(|slot| !slots.insert(slot)) {
            return Err(format!("{} is the second run of its slot", run.run_id));
        }
    }
    Ok(())
}

/// Whether `latest.json` names the newest run that it may name.
fn latest(state: &State, documents: &BTreeMap<String, RunDocument>) -> Result<(), String> {
    let own = request(0);
    let may =
        |id: &String| documents.get(id).is_some_and(|run| run.publishes && run.request == own);
    let manifests = state.runs.iter().filter(|(id, _)| may(id));
    let manifests = manifests.filter_map(|(_, run)| run.manifest.as_ref());
    let whole = manifests.filter(|(_, manifest)| manifest.completeness.is_whole());
    let newest = whole.map(|(_, manifest)| manifest.started_at).max();
    let latest = state.files.get(&format!("{TARGET}/latest.json"));
    let latest = latest.map(parse::<Latest>).transpose()?;
    match (newest, &latest) {
        (None, None) => Ok(()),
        (Some(newest), Some(latest)) if latest.started_at == newest => Ok(()),
        (newest, latest) => {
            let named = latest.as_ref().map(|latest| latest.run_id.as_str());
            Err(format!("latest.json names {named:?}; the newest run started at {newest:?}"))
        }
    }
}
