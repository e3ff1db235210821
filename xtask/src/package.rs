//! The package: what a Functions host finds beside `host.json`.
//!
//! ```text
//! host.json                what the host does, as in the repository
//! easm-export              the binary, with its execute bit
//! {Function}/function.json lifted out of functions/, since the host looks only here; with --auth entra,
//!                          without keys
//! ...                      what --include names
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::args::Options;
use crate::level::{self, Auth};
use crate::{Failure, Result, compile, elf, include};

/// The binary, as `host.json` names it.
const BINARY: &str = "easm-export";
/// Name of the folder and, with its ending, of the zip.
const PACKAGE: &str = "easm-export";
/// What the host reads of a function.
const FUNCTION: &str = "function.json";
/// Settings that somebody put beside a package to start it locally. They are none of it, and stay.
const LOCAL_SETTINGS: &str = "local.settings.json";

/// Largest zip: 12 MB. Every new instance loads it before it can work.
const ZIP_BYTES_MAX: usize = 12_000_000;

/// Largest file that is read: a binary whose zip is still small enough is far smaller.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A file of the package.
struct Entry {
    bytes: Vec<u8>,
    /// Whether it may be executed.
    is_program: bool,
}

impl Entry {
    fn mode(&self) -> u32 {
        if self.is_program { 0o755 } else { 0o644 }
    }
}

/// Makes folder and zip, and says what came out.
///
/// # Errors
/// [`Failure::Usage`] for what may not be packaged, [`Failure::Failed`] for what does not work. Nothing
/// is written then, unless writing itself fails.
pub fn package(options: &Options) -> Result<String> {
    let root = root();
    let Some(machine) = elf::machine(&options.target) else {
        let target = &options.target;
        return Err(Failure::Usage(format!(
            "--target {target}: it is not a target that a host runs; use x86_64-unknown-linux-gnu or \
             aarch64-unknown-linux-gnu"
        )));
    };
    let mut entries = of_repository(&root, options.auth)?;
    // Before the build, so that what is refused is refused at once.
    let included = included(options, &entries)?;
    entries.extend(included);
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => compile::release(&root, &options.target)?,
    };
    let bytes = read(&binary)?;
    elf::check_static(&bytes, machine).map_err(|reason| {
        let (binary, target) = (binary.display(), &options.target);
        Failure::Failed(format!(
            "{binary} {reason}; package one that is linked statically for {target}, as `cargo xtask \
             package` builds it"
        ))
    })?;
    let n_bytes = bytes.len();
    entries.insert(BINARY.to_owned(), Entry { bytes, is_program: true });
    let zip = zipped(&entries)?;
    check_size(zip.len())?;
    let folder = options.out.join(PACKAGE);
    let archive = options.out.join(format!("{PACKAGE}.zip"));
    write_folder(&folder, &entries)?;
    write_archive(&archive, &zip)?;
    let advice = match options.auth {
        Auth::Key => "",
        Auth::Entra => {
            " No function demands a key: set EASM_AUTH=entra and turn the platform's authentication on."
        }
    };
    Ok(format!(
        "Packaged {} files: {} and {} ({} bytes, the binary {n_bytes}).{advice}",
        entries.len(),
        folder.display(),
        archive.display(),
        zip.len()
    ))
}

/// The repository's root.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask/ lies in the repository").to_owned()
}

/// `host.json` and the lifted functions, which demand a key unless `auth` stands in front of them.
fn of_repository(root: &Path, auth: Auth) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    let mut add = |name: String, path: PathBuf| -> Result<()> {
        let mut bytes = read(&path)?;
        if auth == Auth::Entra && path.ends_with(FUNCTION) {
            let open =
                str::from_utf8(&bytes).map_err(|_| "is not UTF-8").and_then(level::anonymous);
            bytes = open
                .map_err(|reason| {
                    let path = path.display();
                    Failure::Failed(format!("{path} {reason}; restore the one of the repository"))
                })?
                .into_bytes();
        }
        entries.insert(name, Entry { bytes, is_program: false });
        Ok(())
    };
    add("host.json".to_owned(), root.join("host.json"))?;
    let functions = root.join("functions");
    for entry in fs::read_dir(&functions).map_err(|err| cannot("read", &functions, &err))? {
        let entry = entry.map_err(|err| cannot("read", &functions, &err))?;
        // What a file manager leaves behind is no function.
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        add(format!("{name}/{FUNCTION}"), entry.path().join(FUNCTION))?;
    }
    Ok(entries)
}

/// What `--include` names, held against what the package has of its own.
fn included(options: &Options, own: &BTreeMap<String, Entry>) -> Result<BTreeMap<String, Entry>> {
    let base = std::env::current_dir().map_err(|err| cannot("find", Path::new("."), &err))?;
    let mut files = BTreeMap::new();
    for path in &options.include {
        include::gather(&base, path, &mut files)?;
    }
    // Names are compared as a host on Windows or macOS would, where it is started locally.
    let first = |path: &String| path.split('/').next().unwrap_or(path).to_ascii_lowercase();
    let taken: BTreeSet<String> = own.keys().map(first).chain([BINARY.to_owned()]).collect();
    if let Some(path) = files.keys().find(|path| taken.contains(&first(path))) {
        return Err(Failure::Usage(format!(
            "--include {path}: the package has that name itself; rename it"
        )));
    }
    let entry = |(path, bytes)| (path, Entry { bytes, is_program: false });
    Ok(files.into_iter().map(entry).collect())
}

/// The zip of `entries`. Equal entries make equal zips: sorted, all of one time, made by Unix.
fn zipped(entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let failed = |err: &dyn std::fmt::Display| Failure::Failed(format!("write the zip: {err}"));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, entry) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(DateTime::DEFAULT)
            .system(System::Unix)
            .unix_permissions(entry.mode());
        zip.start_file(path, options).map_err(|err| failed(&err))?;
        zip.write_all(&entry.bytes).map_err(|err| failed(&err))?;
    }
    Ok(zip.finish().map_err(|err| failed(&err))?.into_inner())
}

fn check_size(zip_bytes: usize) -> Result<()> {
    match zip_bytes > ZIP_BYTES_MAX {
        true => Err(Failure::Failed(format!(
            "the zip has {zip_bytes} bytes, and {ZIP_BYTES_MAX} at most are allowed; find what made it \
             grow, or include less"
        ))),
        false => Ok(()),
    }
}

/// Writes `entries` to `folder`. Of an earlier package nothing stays but the settings somebody put
/// there.
fn write_folder(folder: &Path, entries: &BTreeMap<String, Entry>) -> Result<()> {
    clear(folder)?;
    // `host.json` first: it is what an earlier package is known by.
    let host = entries.get_key_value("host.json");
    for (path, entry) in host.into_iter().chain(entries) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|err| cannot("create", parent, &err))?;
        fs::write(&path, &entry.bytes).map_err(|err| cannot("write", &path, &err))?;
        set_mode(&path, entry.mode()).map_err(|err| cannot("write", &path, &err))?;
    }
    Ok(())
}

/// Empties `folder`, if it is an earlier package.
fn clear(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(cannot("read", folder, &err)),
    };
    let entries: Vec<_> =
        entries.collect::<std::io::Result<_>>().map_err(|err| cannot("read", folder, &err))?;
    if !entries.is_empty() && !folder.join("host.json").is_file() {
        return Err(Failure::Usage(format!(
            "{} is there and is no package; choose another --out, or remove it",
            folder.display()
        )));
    }
    for entry in entries {
        let path = entry.path();
        // The mark goes last, so that an end half-way leaves what the next try knows.
        if entry.file_name() == LOCAL_SETTINGS || entry.file_name() == "host.json" {
            continue;
        }
        let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.map_err(|err| cannot("remove", &path, &err))?;
    }
    Ok(())
}

/// Writes `zip` to `path`, which holds a whole one at any time.
fn write_archive(path: &Path, zip: &[u8]) -> Result<()> {
    let new = path.with_extension("zip.new");
    fs::write(&new, zip).map_err(|err| cannot("write", &new, &err))?;
    fs::rename(&new, path).map_err(|err| cannot("write", path, &err))
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Elsewhere files have no mode; the zip has it all the same.
#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let data = fs::metadata(path).map_err(|err| cannot("read", path, &err))?;
    if !data.is_file() || data.len() > FILE_BYTES_MAX {
        return Err(Failure::Failed(format!(
            "{} is no file of at most {FILE_BYTES_MAX} bytes; name the one that is meant",
            path.display()
        )));
    }
    fs::read(path).map_err(|err| cannot("read", path, &err))
}

fn cannot(what: &str, path: &Path, err: &std::io::Error) -> Failure {
    Failure::Failed(format!(
        "{what} {}: {}; check the path and its permissions",
        path.display(),
        err.kind()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_that_grew_too_large_is_no_package() {
        assert!(check_size(ZIP_BYTES_MAX).is_ok());
        let Err(Failure::Failed(text)) = check_size(ZIP_BYTES_MAX + 1) else { panic!("it fails") };
        assert!(text.contains("12000001 bytes"), "{text}");
    }
}
