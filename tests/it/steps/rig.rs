//! A store in which a process dies at a chosen effect, in which something else happens before one, and
//! which looks after each effect whether a reader could see half an export.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use easm_export::model::manifest::Latest;
use easm_export::store::{PartReader, PartWriter, Store, Tag};

use super::*;

type Interlude = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store as one process reaches it.
pub struct Rig {
    pub inner: Arc<dyn Store>,
    n_effects: AtomicUsize,
    n_requests: AtomicUsize,
    /// No effect from this one on.
    dies_at: usize,
    /// Happens before the effect of that number.
    interlude: Mutex<Option<(usize, Interlude)>>,
    /// Happens before the look of that number.
    at_look: Mutex<Option<(usize, Interlude)>>,
    pub broken: Mutex<Vec<String>>,
}

impl Rig {
    pub fn new(inner: &Arc<dyn Store>) -> Self {
        Self {
            inner: Arc::clone(inner),
            n_effects: AtomicUsize::new(0),
            n_requests: AtomicUsize::new(0),
            dies_at: usize::MAX,
            interlude: Mutex::default(),
            at_look: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    pub fn dying_at(inner: &Arc<dyn Store>, dies_at: usize) -> Self {
        Self { dies_at, ..Self::new(inner) }
    }

    pub fn interrupted(
        inner: &Arc<dyn Store>,
        at: usize,
        interlude: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { interlude: Mutex::new(Some((at, Box::pin(interlude)))), ..Self::new(inner) }
    }

    /// Something happens before its look number `at`, among all requests.
    pub fn seen_by(
        inner: &Arc<dyn Store>,
        at: usize,
        interlude: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { at_look: Mutex::new(Some((at, Box::pin(interlude)))), ..Self::new(inner) }
    }

    pub fn n_effects(&self) -> usize {
        self.n_effects.load(Ordering::SeqCst)
    }

    pub fn n_requests(&self) -> usize {
        self.n_requests.load(Ordering::SeqCst)
    }

    fn dead() -> Error {
        Error::new(Kind::Unavailable { retry_after: None }, "reach the store")
    }

    async fn look(&self) -> Result<()> {
        let n_request = self.n_requests.fetch_add(1, Ordering::SeqCst);
        let interlude = self.at_look.lock().unwrap().take_if(|(at, _)| *at == n_request);
        if let Some((_, interlude)) = interlude {
            interlude.await;
        }
        if self.n_effects() >= self.dies_at { Err(Self::dead()) } else { Ok(()) }
    }

    async fn effect<T>(&self, what: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        self.n_requests.fetch_add(1, Ordering::SeqCst);
        let interlude = {
            let mut interlude = self.interlude.lock().unwrap();
            interlude.take_if(|(at, _)| *at == self.n_effects())
        };
        if let Some((_, interlude)) = interlude {
            interlude.await;
        }
        if self.n_effects() >= self.dies_at {
            return Err(Self::dead());
        }
        let answer = effect.await;
        self.n_effects.fetch_add(1, Ordering::SeqCst);
        if let Err(reason) = seen_by_readers(self.inner.as_ref()).await {
            self.broken.lock().unwrap().push(format!("{what}: {reason}"));
        }
        answer
    }
}

/// Everything in `store`.
pub async fn contents(store: &dyn Store) -> BTreeMap<String, Bytes> {
    let mut contents = BTreeMap::new();
    for folder in ["contoso/", "_keys/"] {
        for path in store.list(folder).await.unwrap() {
            let (content, _) = store.read(&path).await.unwrap().unwrap();
            contents.insert(path, content);
        }
    }
    contents
}

/// What a reader relies on who trusts `latest.json` and manifests.
async fn seen_by_readers(store: &dyn Store) -> std::result::Result<(), String> {
    let paths: BTreeSet<String> =
        store.list("contoso/").await.map_err(|err| err.to_string())?.into_iter().collect();
    if let Some((latest, _)) = store.read("contoso/latest.json").await.unwrap() {
        let latest: Latest = serde_json::from_slice(&latest).unwrap();
        if !paths.contains(&latest.manifest) {
            return Err(format!("latest.json names {}, which is gone", latest.run_id));
        }
    }
    for path in paths.iter().filter(|path| path.ends_with("/manifest.json")) {
        let (manifest, _) = store.read(path).await.unwrap().unwrap();
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        if let Some(file) = manifest.files.iter().find(|file| !paths.contains(&file.path)) {
            return Err(format!("{path} lists {}, which is gone", file.path));
        }
        if !paths.contains(&path.replace("manifest.json", "run.json")) {
            return Err(format!("{path} is there, and its run.json is not"));
        }
    }
    Ok(())
}

#[async_trait]
impl Store for Rig {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn url(&self, path: &str) -> String {
        self.inner.url(path)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn begin(&self, path: &str, content_type: &str) -> Result<Box<dyn PartWriter>> {
        self.inner.begin(path, content_type).await
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        self.effect(path, self.inner.create(path, content)).await
    }

    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag> {
        self.effect(path, self.inner.replace(path, content, tag)).await
    }

    async fn remove(&self, path: &str, tag: &Tag) -> Result<()> {
        self.effect(path, self.inner.remove(path, tag)).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.effect(path, self.inner.delete(path)).await
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.look().await?;
        self.inner.read(path).await
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        self.look().await?;
        self.inner.open(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.look().await?;
        self.inner.list(prefix).await
    }
}
