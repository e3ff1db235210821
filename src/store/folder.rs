//! A store in a folder of the local disk.
//!
//! A file is written under a temporary name in `.easm-export-tmp/`, flushed to disk, and moved to
//! its place without replacing anything: it is whole or it is not there. Replacing or removing a
//! document happens under an exclusive lock on `.easm-export-tmp/lock`, which all processes on this machine
//! respect; its tag is a hash of its content.
//!
//! A killed process leaves its temporary files behind. They are deleted when the store is opened
//! after they have not been touched for [`LEFTOVER_HOURS`].

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;

use super::{CHUNK_BYTES_MAX, DOCUMENT_BYTES_MAX, PartReader, PartWriter, Store, Tag};
use crate::buffer::Buffer;
use crate::error::{Error, Kind, Result};

/// How long a temporary file that nobody touches is left alone. A part is written in minutes.
pub const LEFTOVER_HOURS: u64 = 24;

/// Longest wait for another process that replaces or removes a document, which takes milliseconds.
pub const LOCK_SECONDS_MAX: u64 = 20;

/// Pause between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How much of a part is written before the disk is set to work on it.
const FLUSH_BYTES: u64 = 8 << 20;

const TMP: &str = ".easm-export-tmp";
const ADVICE: &str = "choose another folder with --store or EASM_STORE_URL";

/// A folder.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    /// The store in `root`. The folder is made when it is first needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A new temporary file, on the same file system as its later place.
    fn tmp_file(&self) -> io::Result<NamedTempFile> {
        let tmp = self.root.join(TMP);
        make_folder(&tmp)?;
        let mut builder = tempfile::Builder::new();
        // What the user's umask allows, not the 0600 of a private temporary file: the folder is
        // there for others to read from.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.prefix("w-").tempfile_in(tmp)
    }

    fn lock(&self) -> io::Result<File> {
        let tmp = self.root.join(TMP);
        make_folder(&tmp)?;
        let lock = File::options().create(true).append(true).open(tmp.join("lock"))?;
        let deadline = Instant::now() + Duration::from_secs(LOCK_SECONDS_MAX);
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!(
                        "another process holds {} for longer than {LOCK_SECONDS_MAX} s",
                        tmp.join("lock").display()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
                Err(TryLockError::Error(err)) => return Err(err),
            }
        }
    }

    /// That the document `path` is another one than was read.
    fn changed(&self, operation: &'static str, path: &str) -> Error {
        Error::new(Kind::Conflict, operation)
            .because("somebody else changed it first")
            .with("path", self.full(path).display())
            .advise("export again; two processes on one run do no harm")
    }

    /// Runs `work` where blocking is allowed, and says what its failure means.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        let place = self.full(path);
        spawn(move || work(&store)).await.map_err(|err| from_io(operation, &place, &err))
    }
}

/// `work` on a thread that may block.
async fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|err| Err(io::Error::other(err)))
}

fn from_io(operation: &'static str, place: &Path, err: &io::Error) -> Error {
    let kind = match err.kind() {
        io::ErrorKind::AlreadyExists => Kind::Conflict,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::StoreFull,
        // A busy disk, or a process that hangs: it may pass.
        io::ErrorKind::TimedOut => Kind::Unavailable { retry_after: None },
        _ => Kind::Store,
    };
    let advice = match kind {
        Kind::StoreFull => "make room there, or choose another folder with --store",
        _ => ADVICE,
    };
    Error::new(kind, operation).because(reason(err)).with("path", place.display()).advise(advice)
}

/// What the operating system says, without the number it says it with.
fn reason(err: &io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + chars.as_str())
        .unwrap_or_default()
}

fn tag(content: &[u8]) -> Tag {
    Tag(hex(&Sha256::digest(content)))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Moves `tmp` to `place`, where nothing may be.
fn persist_new(tmp: NamedTempFile, place: &Path) -> io::Result<()> {
    let parent = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(parent)?;
    tmp.persist_noclobber(place).map_err(|err| err.error)?;
    // A name that may not last must not be seen: whoever reads this failure takes it for absent.
    sync_folder(parent).inspect_err(|_| fs::remove_file(place).unwrap_or(()))
}

/// Makes `folder` and those above it, so that their names last.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => match folder.is_dir() {
            // Somebody else made it meanwhile.
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        },
        Err(err) => Err(err),
        Ok(()) => sync_folder(parent),
    }
}

/// Makes a new name in `folder` last.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix can flush a folder; elsewhere the move itself has to do.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The file at `path`, if one is there.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn read_all(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut content = Vec::new();
    file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(io::Error::other("the document is larger than any this program writes"));
    }
    Ok(Some(content))
}

/// Deletes the file at `path`, if one is there.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn delete_leftovers(tmp: &Path) -> io::Result<()> {
    let age_max = Duration::from_secs(LEFTOVER_HOURS * 60 * 60);
    for entry in fs::read_dir(tmp)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with("w-");
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if is_ours && age > age_max {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn list_into(folder: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // A name that is not Unicode is none of ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.file_type()?.is_dir() {
            true => list_into(&entry.path(), &format!("{prefix}{name}/"), files)?,
            false => files.push(format!("{prefix}{name}")),
        }
    }
    Ok(())
}

#[async_trait]
impl Store for FolderStore {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn url(&self, path: &str) -> String {
        let full = self.full(path);
        // Fails where the folder that the process works in is gone; then nothing is absolute.
        std::path::absolute(&full).unwrap_or(full).display().to_string()
    }

    async fn check(&self) -> Result<()> {
        self.blocking("open the store", "", |store| {
            // The very thing a part needs: a file that can be made, flushed, and moved to a place
            // where nothing is.
            let mut probe = store.tmp_file()?;
            probe.write_all(b"probe")?;
            probe.as_file().sync_data()?;
            let place = probe.path().with_extension("probe");
            persist_new(probe, &place)?;
            fs::remove_file(&place)?;
            // What cannot be cleaned up is no reason not to export.
            delete_leftovers(&store.root.join(TMP)).or(Ok(()))
        })
        .await
    }

    async fn begin(&self, path: &str, _content_type: &str) -> Result<Box<dyn PartWriter>> {
        let tmp = self.blocking("begin a part", path, |store| store.tmp_file()).await?;
        Ok(Box::new(FolderPart {
            place: self.full(path),
            tmp: Some(tmp),
            unflushed: 0,
            flush: None,
        }))
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        let place = self.full(path);
        self.blocking("create a document", path, move |store| {
            let mut tmp = store.tmp_file()?;
            tmp.write_all(&content)?;
            tmp.as_file().sync_data()?;
            persist_new(tmp, &place)?;
            Ok(tag(&content))
        })
        .await
    }

    async fn replace(&self, path: &str, content: Bytes, tag_read: &Tag) -> Result<Tag> {
        let place = self.full(path);
        let tag_read = tag_read.clone();
        let replaced = self
            .blocking("replace a document", path, move |store| {
                let _lock = store.lock()?;
                let is_unchanged =
                    read_all(&place)?.is_some_and(|present| tag(&present) == tag_read);
                if !is_unchanged {
                    return Ok(None);
                }
                let mut tmp = store.tmp_file()?;
                tmp.write_all(&content)?;
                tmp.as_file().sync_data()?;
                tmp.persist(&place).map_err(|err| err.error)?;
                sync_folder(place.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
                Ok(Some(tag(&content)))
            })
            .await?;
        replaced.ok_or_else(|| self.changed("replace a document", path))
    }

    async fn remove(&self, path: &str, tag_read: &Tag) -> Result<()> {
        const OPERATION: &str = "remove a document";
        let place = self.full(path);
        let tag_read = tag_read.clone();
        let is_gone = self
            .blocking(OPERATION, path, move |store| {
                let _lock = store.lock()?;
                let Some(present) = read_all(&place)? else { return Ok(true) };
                if tag(&present) != tag_read {
                    return Ok(false);
                }
                remove_file(&place)?;
                sync_folder(place.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
                Ok(true)
            })
            .await?;
        if is_gone { Ok(()) } else { Err(self.changed(OPERATION, path)) }
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let place = self.full(path);
        let content = self.blocking("read a document", path, move |_| read_all(&place)).await?;
        Ok(content.map(|content| {
            let tag = tag(&content);
            (Bytes::from(content), tag)
        }))
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        let place = self.full(path);
        let file = self.blocking("open a file", path, move |_| open(&place)).await?;
        let Some(file) = file else { return Ok(None) };
        Ok(Some(Box::new(FolderReader { place: self.full(path), file: Some(file) })))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = self.full(prefix);
        let prefix_owned = prefix.to_owned();
        self.blocking("list files", prefix, move |_| {
            let mut files = Vec::new();
            list_into(&folder, &prefix_owned, &mut files)?;
            files.sort_unstable();
            Ok(files)
        })
        .await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let place = self.full(path);
        self.blocking("delete a file", path, move |_| remove_file(&place)).await
    }
}

struct FolderPart {
    place: PathBuf,
    /// Away while a write is under way; a write that failed does not bring it back.
    tmp: Option<NamedTempFile>,
    /// Bytes written since the last flush began.
    unflushed: u64,
    flush: Option<JoinHandle<io::Result<()>>>,
}

impl FolderPart {
    fn take_tmp(&mut self) -> Result<NamedTempFile> {
        self.tmp.take().ok_or_else(|| {
            Error::new(Kind::Internal, "write a part").because("an earlier write of it failed")
        })
    }

    /// Begins to flush what was written, unless that is going on. Without it all of a part would
    /// have to be waited for when it ends.
    async fn flush_behind(&mut self, tmp: &NamedTempFile) -> io::Result<()> {
        let is_idle = self.flush.as_ref().is_none_or(JoinHandle::is_finished);
        if self.unflushed < FLUSH_BYTES || !is_idle {
            return Ok(());
        }
        // The system reports a failed flush once, so no outcome may be dropped.
        self.flushed().await?;
        let file = tmp.as_file().try_clone()?;
        self.unflushed = 0;
        self.flush = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the flush that is going on.
    async fn flushed(&mut self) -> io::Result<()> {
        match self.flush.take() {
            Some(flush) => flush.await.unwrap_or_else(|err| Err(io::Error::other(err))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl PartWriter for FolderPart {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut tmp = self.take_tmp()?;
        self.unflushed += bytes.len() as u64;
        let written = async {
            let tmp = spawn(move || tmp.write_all(&bytes).map(|()| tmp)).await?;
            self.flush_behind(&tmp).await.map(|()| tmp)
        };
        let written = written.await;
        self.tmp = Some(written.map_err(|err| from_io("write a part", &self.place, &err))?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        let tmp = self.take_tmp()?;
        let flushed = self.flushed().await;
        let place = self.place.clone();
        let finish = spawn(move || {
            flushed?;
            tmp.as_file().sync_data()?;
            persist_new(tmp, &place)
        });
        finish.await.map_err(|err| from_io("finish a part", &self.place, &err))
    }
}

/// A file being read. It stays what it was when it was opened: a file is replaced by a move, which
/// leaves the one that is open alone.
struct FolderReader {
    place: PathBuf,
    /// Away while a read is under way; a read that failed does not bring it back.
    file: Option<File>,
}

#[async_trait]
impl PartReader for FolderReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        const OPERATION: &str = "read a file";
        let mut file = self.file.take().ok_or_else(|| {
            Error::new(Kind::Internal, OPERATION).because("an earlier read of it failed")
        })?;
        let read = spawn(move || {
            let mut chunk = Buffer::with_capacity(CHUNK_BYTES_MAX);
            (&mut file).take(CHUNK_BYTES_MAX as u64).read_to_end(&mut chunk)?;
            Ok((file, chunk))
        });
        let (file, chunk) = read.await.map_err(|err| from_io(OPERATION, &self.place, &err))?;
        self.file = Some(file);
        Ok((!chunk.is_empty()).then(|| Bytes::from_owner(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, FolderStore) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = FolderStore::new(folder.path().join("exports"));
        (folder, store)
    }

    #[tokio::test]
    async fn a_part_that_is_dropped_leaves_nothing() {
        let (_folder, store) = world();
        let mut part = store.begin("t/assets/part-0.ndjson", "").await.expect("begun");
        part.write("half".into()).await.expect("written");
        drop(part);
        let left: Vec<_> = fs::read_dir(store.root().join(TMP)).expect("there").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        let err = FolderStore::new(&file).check().await.expect_err("a file is no folder");
        assert_eq!(err.kind(), Kind::Store);
        assert!(err.to_string().contains("--store"), "{err}");
    }

    #[tokio::test]
    async fn a_file_is_found_at_its_url_from_anywhere() {
        let (_folder, store) = world();
        store.create("t/kind=host/a b.json", "one".into()).await.expect("created");
        let url = store.url("t/kind=host/a b.json");
        assert_eq!(fs::read(&url).expect("there"), b"one", "{url}");
        let here = std::env::current_dir().expect("a folder");
        let url = FolderStore::new("exports").url("t/run.json");
        assert_eq!(Path::new(&url), here.join("exports/t/run.json"));
    }
}
