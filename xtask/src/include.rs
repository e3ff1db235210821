//! What `--include` names: files and folders below the current folder.
//!
//! What a deployment must not hold is refused by name: settings of a laptop have secrets in them, and
//! a folder with a `function.json` would be a function that the binary does not have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use crate::{Failure, Result};

/// Most files that may be included. More is a mistake, such as a folder of exports.
const FILES_MAX: usize = 1000;
/// Most bytes that may be included: settings and filters, not data.
const BYTES_MAX: u64 = 4 << 20;

/// Adds what `named` names below `base` to `found`, by its path with `/` between folders.
///
/// # Errors
/// [`Failure::Usage`] for what may not be included; [`Failure::Failed`] for what cannot be read.
pub fn gather(base: &Path, named: &Path, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut path = Vec::new();
    for component in named.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(text(named, name.to_str())?),
            _ => return Err(refuse(named, "lies outside the current folder; copy it into it")),
        }
    }
    if path.is_empty() {
        return Err(refuse(named, "is the current folder; name a file or folder in it"));
    }
    for depth in 1..path.len() {
        // A folder on the way may lead elsewhere too.
        check_kind(base, &path[..depth].join("/"))?;
    }
    let path = path.join("/");
    add(base, &path, found)?;
    let below = format!("{path}/");
    match found.keys().any(|known| *known == path || known.starts_with(&below)) {
        true => Ok(()),
        false => Err(refuse(named, "is a folder without a file; leave it out")),
    }
}

fn add(base: &Path, path: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    check_name(path)?;
    let full = base.join(path);
    let kind = check_kind(base, path)?;
    if !kind.is_dir() {
        let n_bytes: u64 = found.values().map(|bytes| bytes.len() as u64).sum();
        if found.len() == FILES_MAX || n_bytes + kind.len() > BYTES_MAX {
            return Err(Failure::Usage(format!(
                "--include names more than {FILES_MAX} files or {BYTES_MAX} bytes; include what the \
                 settings name, and no data"
            )));
        }
        let bytes = fs::read(&full).map_err(|err| cannot_read(path, &err))?;
        found.insert(path.to_owned(), bytes);
        return Ok(());
    }
    for entry in fs::read_dir(&full).map_err(|err| cannot_read(path, &err))? {
        let name = entry.map_err(|err| cannot_read(path, &err))?.file_name();
        let name = text(&full, name.to_str())?;
        add(base, &format!("{path}/{name}"), found)?;
    }
    Ok(())
}

/// What lies at `path`: a file or a folder, and no link.
fn check_kind(base: &Path, path: &str) -> Result<fs::Metadata> {
    let data = fs::symlink_metadata(base.join(path)).map_err(|err| cannot_read(path, &err))?;
    // A link may lead outside, and a pipe has no end.
    match data.is_file() || data.is_dir() {
        true => Ok(data),
        false => {
            Err(refuse(Path::new(path), "is neither a file nor a folder; copy what it leads to"))
        }
    }
}

fn check_name(path: &str) -> Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    if name == "local.settings.json" || name.starts_with(".env") {
        let reason =
            "has the settings and secrets of one machine; set them as app settings instead";
        return Err(refuse(Path::new(path), reason));
    }
    if name == "function.json" {
        let reason = "would be a function that the binary does not have; leave it out";
        return Err(refuse(Path::new(path), reason));
    }
    Ok(())
}

fn text(named: &Path, name: Option<&str>) -> Result<String> {
    let name = name.ok_or_else(|| refuse(named, "has a name that is not UTF-8; rename it"))?;
    Ok(name.to_owned())
}

fn refuse(named: &Path, reason: &str) -> Failure {
    Failure::Usage(format!("--include {}: it {reason}", named.display()))
}

fn cannot_read(path: &str, err: &std::io::Error) -> Failure {
    let kind = err.kind();
    Failure::Usage(format!("--include {path}: {kind}; name a file or folder that can be read"))
}
