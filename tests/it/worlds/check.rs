//! What must be true at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use easm_export::clock::Timestamp;
use easm_export::model::checkpoint::Checkpoint;
use easm_export::model::manifest::{FileEntry, Latest, Manifest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::store::{File, State};

/// A change of one file.
pub struct Change<'a> {
    pub who: &'a str,
    pub path: &'a str,
    pub before: Option<&'a File>,
    pub after: Option<&'a File>,
    /// It came as a part, not as a document.
    pub is_part: bool,
    /// It was deleted without a look at what it was.
    pub is_blind: bool,
}

/// What was seen of a run.
#[derive(Default)]
pub struct RunSeen {
    /// When something first spoke of it.
    pub opened_at: Duration,
    /// Its manifest, and since when.
    pub manifest: Option<(Duration, Manifest)>,
    /// How its `run.json` said that it stands, and since when.
    pub statuses: Vec<(Duration, String)>,
    /// When its end was asked for.
    pub cancelled_at: Option<Duration>,
    /// When a checkpoint last counted more than ever before, or the run was opened.
    advanced_at: Duration,
    /// How long that was ago when it last failed.
    pub idle: Duration,
    /// When the last `active` that names it went away.
    pub released_at: Option<Duration>,
    /// Most records that its shards counted, ever.
    counted: BTreeMap<u32, u64>,
    /// Who wrote under an epoch of a shard.
    claims: BTreeMap<(u32, u32), String>,
}

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    Run(&'a str),
    Plan(&'a str),
    Cancel(&'a str),
    Checkpoint(&'a str),
    Manifest(&'a str),
    Part(&'a str),
    Latest,
    History,
    Active,
    Other,
}

impl<'a> Place<'a> {
    pub fn of(path: &'a str) -> Self {
        let members: Vec<&str> = path.split('/').collect();
        match members[..] {
            [_, "latest.json"] => Self::Latest,
            [_, "history.json"] => Self::History,
            [_, "active", _] => Self::Active,
            [_, "runs", id, "run.json"] => Self::Run(id),
            [_, "runs", id, "plan.json"] => Self::Plan(id),
            [_, "runs", id, "cancel.json"] => Self::Cancel(id),
            [_, "runs", id, "manifest.json"] => Self::Manifest(id),
            [_, "runs", id, "checkpoints", _] => Self::Checkpoint(id),
            [_, "assets", _, run, _, _] => Self::Part(run.trim_start_matches("run=")),
            _ => Self::Other,
        }
    }
}

/// Whether a run that stands so has ended.
pub fn is_end(status: &str) -> bool {
    matches!(status, "complete" | "failed" | "cancelled" | "skipped")
}

/// A few words about a file for the history, which also tell one content from another.
pub fn about(path: &str, file: &File) -> String {
    let json: Value = match Place::of(path) {
        Place::Part(_) => Value::Null,
        _ => serde_json::from_slice(&file.content).unwrap_or_default(),
    };
    let words = match Place::of(path) {
        Place::Run(_) => {
            let code = &json["error"]["code"];
            format!("{} {code} until {} ", json["status"], json["notBefore"])
        }
        Place::Checkpoint(_) => {
            let ranges = json["ranges"].as_array().cloned().unwrap_or_default();
            let parts = ranges.iter().filter_map(|range| range["parts"].as_array()).flatten();
            let n_records: u64 = parts.filter_map(|part| part["records"].as_u64()).sum();
            format!("epoch {} with {n_records} records ", json["epoch"])
        }
        Place::Manifest(_) => format!("{} ", json["completeness"]),
        Place::Part(_) => format!("{} records ", file.records),
        Place::Latest | Place::Active => format!("{} ", json["runId"]),
        _ => String::new(),
    };
    format!(": {words}[{}]", &file.sha256[..6])
}

/// What stands in `file`.
pub fn parse<T: DeserializeOwned>(file: &File) -> Result<T, String> {
    serde_json::from_slice(&file.content).map_err(|err| format!("cannot be read: {err}"))
}

/// Looks at a change that was just made.
pub fn at_every_effect(
    state: &mut State,
    change: &Change<'_>,
    age: Duration,
) -> Result<(), String> {
    let place = Place::of(change.path);
    if change.is_part != matches!((place, change.after), (Place::Part(_), Some(_))) {
        return Err("a part is not a document, and a document no part".to_owned());
    }
    match place {
        Place::Part(id) => part(state, change, id),
        Place::Manifest(id) => manifest(state, change, id, age),
        Place::Checkpoint(id) => checkpoint(state, change, id, age),
        Place::Run(id) => run(state, change, id, age),
        Place::Latest => latest(state, change),
        Place::History => history(change),
        Place::Active => active(state, change, age),
        Place::Cancel(id) => {
            seen(state, id, age).cancelled_at.get_or_insert(age);
            Ok(())
        }
        Place::Plan(_) if change.before.is_some() => Err("a plan never changes".to_owned()),
        Place::Plan(_) | Place::Other => Ok(()),
    }
}

fn seen<'a>(state: &'a mut State, id: &str, age: Duration) -> &'a mut RunSeen {
    let fresh = || RunSeen { opened_at: age, advanced_at: age, ..RunSeen::default() };
    state.runs.entry(id.to_owned()).or_insert_with(fresh)
}

fn part(state: &mut State, change: &Change<'_>, id: &str) -> Result<(), String> {
    let manifest = state.runs.get(id).and_then(|run| run.manifest.as_ref());
    if let (Some(_), None) = (change.before, change.after) {
        let Some((_, manifest)) = manifest else {
            return Err("a part goes before a manifest exists that does not list it".to_owned());
        };
        if manifest.files.iter().any(|file| file.path == change.path) {
            return Err("a part goes that the manifest lists".to_owned());
        }
        state.n_parts_deleted += 1;
    }
    let Some(after) = change.after else { return Ok(()) };
    let path = change.path.to_owned();
    let first = state.parts_ever.entry(path).or_insert_with(|| after.sha256.clone());
    if *first != after.sha256 {
        return Err("the name of a part gets a second content".to_owned());
    }
    let mut ids = BTreeSet::new();
    match ids_in(after)?.into_iter().find(|id| !ids.insert(id.clone())) {
        Some(id) => Err(format!("{id} is in it twice")),
        None => Ok(()),
    }
}

/// Ids of the assets in a part, in order.
pub fn ids_in(file: &File) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(&file.content).map_err(|err| err.to_string())?;
    let id = |line: &str| {
        let rest = line.strip_prefix(r#"{"id":""#)?;
        let (id, rest) = rest.split_once('"')?;
        rest.starts_with(r#","v":"#).then(|| id.to_owned())
    };
    let ids = text.lines().map(|line| id(line).ok_or_else(|| format!("not an asset: {line}")));
    match text.is_empty() || text.ends_with('\n') {
        true => ids.collect(),
        false => Err("the last line does not end".to_owned()),
    }
}

/// Whether the part that `entry` speaks of is in the store as it says.
fn is_there(state: &State, entry: &FileEntry) -> bool {
    state.files.get(&entry.path).is_some_and(|file| {
        file.content.len() as u64 == entry.bytes
            && file.records == entry.records
            && file.sha256 == entry.sha256
    })
}

fn manifest(state: &mut State, change: &Change<'_>, id: &str, age: Duration) -> Result<(), String> {
    let (None, Some(after)) = (change.before, change.after) else {
        return Err("a manifest never changes and never goes".to_owned());
    };
    let manifest: Manifest = parse(after)?;
    if let Some(file) = manifest.files.iter().find(|file| !is_there(state, file)) {
        return Err(format!("it lists {} with what is not there", file.path));
    }
    seen(state, id, age).manifest = Some((age, manifest));
    Ok(())
}

fn checkpoint(
    state: &mut State,
    change: &Change<'_>,
    id: &str,
    age: Duration,
) -> Result<(), String> {
    let Some(after) = change.after else { return Err("a checkpoint goes".to_owned()) };
    let after: Checkpoint = parse(after)?;
    let before: Option<Checkpoint> = change.before.map(parse).transpose()?;
    let epoch_before = before.as_ref().map_or(0, |before| before.epoch);
    if after.epoch != epoch_before && after.epoch != epoch_before + 1 {
        return Err(format!("the epoch goes from {epoch_before} to {}", after.epoch));
    }
    // A committer has ranges of a shard that is done read again, without a claim.
    let is_set_back = before
        .is_some_and(|before| before.is_done && !after.is_done && before.epoch == after.epoch);
    let has_manifest = state.runs.get(id).is_some_and(|run| run.manifest.is_some());
    let mut parts = after.ranges.iter().flat_map(|range| &range.parts);
    if let Some(part) = parts.find(|part| !has_manifest && !is_there(state, part)) {
        return Err(format!("it counts {}, which is not there so", part.path));
    }
    let run = seen(state, id, age);
    let claim = (after.shard, after.epoch);
    let owner = run.claims.entry(claim).or_insert_with(|| change.who.to_owned());
    if owner != change.who && !is_set_back {
        return Err(format!("the epoch {} is that of a claim of {owner}", after.epoch));
    }
    let (counted, now) = (run.counted.entry(after.shard).or_insert(0), after.exported());
    if now > *counted {
        *counted = now;
        run.advanced_at = age;
    }
    Ok(())
}

fn run(state: &mut State, change: &Change<'_>, id: &str, age: Duration) -> Result<(), String> {
    let Some(after) = change.after else { return Err("a run is forgotten".to_owned()) };
    let status_of = |file: &File| -> Result<String, String> {
        let json: Value = parse(file)?;
        json["status"].as_str().map(str::to_owned).ok_or_else(|| "has no status".to_owned())
    };
    let after = status_of(after)?;
    let before = change.before.map(status_of).transpose()?;
    let run = seen(state, id, age);
    if before.as_ref() != Some(&after) {
        run.statuses.push((age, after.clone()));
        run.idle = age - run.advanced_at;
    }
    if after == "complete" && run.manifest.is_none() {
        return Err("it is said to be complete, and there is no manifest".to_owned());
    }
    if after == "cancelled" && run.cancelled_at.is_none() {
        return Err("it is said to be cancelled, and nobody asked for that".to_owned());
    }
    let is_allowed = match (before.as_deref().unwrap_or("queued"), after.as_str()) {
        (before, after) if before == after => true,
        // A manifest beats everything.
        ("failed" | "cancelled", "complete") => true,
        // Taken up again.
        ("failed", "running" | "queued") => true,
        // Somebody asked while it failed.
        ("failed", "cancelled") => true,
        (before, _) => !is_end(before),
    };
    match is_allowed {
        true => Ok(()),
        false => Err(format!("it was {before:?} and is now {after}")),
    }
}

fn latest(state: &mut State, change: &Change<'_>) -> Result<(), String> {
    let Some(after) = change.after else { return Err("it goes away".to_owned()) };
    let after: Latest = parse(after)?;
    let started_before: Option<Timestamp> =
        change.before.map(parse::<Latest>).transpose()?.map(|latest| latest.started_at);
    if started_before.is_some_and(|before| after.started_at < before) {
        return Err(format!("it goes back to {}", after.run_id));
    }
    let run = state.runs.get(after.run_id.as_str());
    let Some((_, manifest)) = run.and_then(|run| run.manifest.as_ref()) else {
        return Err(format!("it names {}, which is not complete", after.run_id));
    };
    let is_same = manifest.completeness == after.completeness
        && manifest.started_at == after.started_at
        && manifest.completeness.is_whole();
    match is_same && state.files.contains_key(&after.manifest) {
        true => Ok(()),
        false => Err(format!("it does not say what the manifest of {} says", after.run_id)),
    }
}

fn history(change: &Change<'_>) -> Result<(), String> {
    let Some(after) = change.after else { return Err("it goes away".to_owned()) };
    let ids = |file: &File| -> Result<Vec<String>, String> {
        let json: Value = parse(file)?;
        let runs = json["runs"].as_array().cloned().unwrap_or_default();
        Ok(runs.iter().map(|run| run["runId"].as_str().unwrap_or_default().to_owned()).collect())
    };
    let after = ids(after)?;
    let mut unique = BTreeSet::new();
    if let Some(id) = after.iter().find(|id| !unique.insert(*id)) {
        return Err(format!("{id} is in it twice"));
    }
    let before = change.before.map(ids).transpose()?.unwrap_or_default();
    match before.iter().find(|id| !unique.contains(id)) {
        Some(id) => Err(format!("{id} is forgotten")),
        None => Ok(()),
    }
}

/// The run that an `active` names.
fn run_named(file: &File) -> Result<String, String> {
    let json: Value = parse(file)?;
    json["runId"].as_str().map(str::to_owned).ok_or_else(|| "names no run".to_owned())
}

fn active(state: &mut State, change: &Change<'_>, age: Duration) -> Result<(), String> {
    let after = change.after.map(run_named).transpose()?;
    if let Some(before) = change.before.map(run_named).transpose()?
        && after.as_ref() != Some(&before)
    {
        if change.is_blind {
            return Err("it goes without a look at what it says".to_owned());
        }
        let run = seen(state, &before, age);
        let status = run.statuses.last().map(|(_, status)| status.clone());
        run.released_at = Some(age);
        let status = status.unwrap_or_default();
        if !is_end(&status) {
            return Err(format!(
                "{before} is {status}, and nothing says any more that it is in work"
            ));
        }
        let target = change.path.split('/').next().unwrap_or_default();
        let history = state.files.get(&format!("{target}/history.json"));
        let history: Value = history.map(parse).transpose()?.unwrap_or_default();
        let runs = history["runs"].as_array().cloned().unwrap_or_default();
        if !runs.iter().any(|run| run["runId"] == *before) {
            return Err(format!("the history does not know {before}"));
        }
    }
    if let Some(after) = after {
        seen(state, &after, age);
    }
    Ok(())
}
