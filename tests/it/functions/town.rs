//! A place with everything that the function app needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use easm_export::clock::Timestamp;
use easm_export::sim::Options;
use serde_json::Value;
use tempfile::TempDir;

use crate::azurite::Azurite;
use crate::contract::store::{assert_one_whole_run, blobs, json};
use crate::host::{Account, Host, HostOptions, Level, Line, Queues, Stream};
use crate::support::{World, program};

/// Ends a wait for what never comes.
pub const LIMIT: Duration = Duration::from_secs(180);

/// When the timer goes off.
pub const SCHEDULE: &str = "0 0 6 * * *";

/// The queue of the work.
pub const QUEUE: &str = "export-work";

/// An app root, a simulator, a container and an account that hosts share.
pub struct Town {
    pub world: World,
    pub azurite: &'static Azurite,
    pub container: String,
    pub account: Arc<Account>,
    root: TempDir,
}

impl Town {
    /// `None` if Azurite cannot run here, which is said aloud.
    pub async fn new(test: &str, options: Options) -> Option<Self> {
        let (azurite, queues) = (Azurite::http(test)?, Azurite::queues(test)?);
        Some(Self {
            world: World::new(options).await,
            azurite,
            container: azurite.container(),
            account: Account::new(Queues::azurite(queues)),
            root: app_root(),
        })
    }

    /// The settings of the app. Times of the host are shortened by the app settings that the real one
    /// reads too.
    pub fn options(&self) -> HostOptions {
        let mut options = HostOptions::new(self.root.path())
            .set("EXPORT_SCHEDULE", SCHEDULE)
            .set("EASM_FILTER", "")
            .set("EASM_STORE_URL", self.azurite.store_url(&self.container))
            .set("AzureFunctionsJobHost__extensions__queues__maxPollingInterval", "00:00:00.100")
            .set("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:00:01");
        for (name, value) in self.world.sim.settings() {
            options = options.set(name, value);
        }
        options
    }

    /// Takes the keys of all functions away, as `cargo xtask package --auth entra` does.
    pub fn take_keys_away(&self) {
        for folder in fs::read_dir(self.root.path()).unwrap() {
            let path = folder.unwrap().path().join("function.json");
            let Ok(text) = fs::read_to_string(&path) else { continue };
            fs::write(path, text.replace("\"function\"", "\"anonymous\"")).unwrap();
        }
    }

    pub async fn host(&self, options: HostOptions) -> Host {
        let host = Host::start(options, &self.account).await.unwrap();
        host.ready().await.unwrap();
        host
    }

    /// Every blob of the store.
    pub async fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        blobs(self.azurite, &self.container, "").await
    }

    /// Paths of all blobs, or none while there is no container.
    pub async fn paths(&self) -> Vec<String> {
        match self.azurite.has_container(&self.container).await {
            true => self.azurite.blobs(&self.container).await,
            false => Vec::new(),
        }
    }

    /// Whether a run is complete with everything that follows from it.
    pub async fn is_done(&self) -> bool {
        let paths = self.paths().await;
        let has = |ending: &str| paths.iter().any(|path| path.ends_with(ending));
        has("/manifest.json") && !paths.iter().any(|path| path.contains("/active/"))
    }

    /// Waits until a run is complete.
    pub async fn until_done(&self, hosts: &[&Host]) {
        let wait = async {
            while !self.is_done().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            let lines: Vec<_> = hosts.iter().flat_map(|host| host.lines()).collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            panic!("no run complete; {:?}; {tail:#?}", self.paths().await);
        }
    }

    /// The manifest of the only run there ever was, which holds the whole inventory, exact.
    pub async fn only_manifest(&self, case: &str) -> Value {
        let stored = self.blobs().await;
        let path = stored.keys().find(|path| path.ends_with("/manifest.json")).expect("complete");
        let manifest = json(&stored, path);
        assert_one_whole_run(&stored, &manifest, &self.world.sim.inventory().ndjson(""), case);
        assert_eq!(manifest["completeness"], "exact", "{case}");
        manifest
    }

    /// Makes every document in the store `older`, as if the time had passed. Nobody may work meanwhile.
    pub async fn age(&self, older: Duration) {
        for (path, bytes) in self.blobs().await {
            if !path.ends_with(".json") || path.ends_with("manifest.json") {
                continue;
            }
            let mut document: Value = serde_json::from_slice(&bytes).unwrap();
            make_older(&mut document, older);
            let bytes = serde_json::to_vec(&document).unwrap();
            self.azurite.put(&self.container, &path, &bytes).await;
        }
    }
}

/// Members that say when something happened, or is to happen.
const TIMES: [&str; 9] = [
    "startedAt",
    "finishedAt",
    "updatedAt",
    "notBefore",
    "requeuedAt",
    "resumedAt",
    "progressedAt",
    "usedAt",
    "at",
];

fn make_older(value: &mut Value, older: Duration) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|value| make_older(value, older)),
        Value::Object(members) => {
            for (name, value) in members {
                let at = value.as_str().and_then(Timestamp::parse);
                match at.filter(|_| TIMES.contains(&name.as_str())) {
                    Some(at) => {
                        let ms = i64::try_from(older.as_millis()).unwrap();
                        let at = Timestamp::from_unix_ms(at.unix_ms() - ms).unwrap();
                        *value = Value::from(at.to_string());
                    }
                    None => make_older(value, older),
                }
            }
        }
        _ => {}
    }
}

/// An app root as `cargo xtask package` makes it, but for a link to the program under test.
fn app_root() -> TempDir {
    let (root, project) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    fs::copy(project.join("host.json"), root.path().join("host.json")).unwrap();
    for folder in fs::read_dir(project.join("functions")).unwrap() {
        let folder = folder.unwrap();
        let lifted = root.path().join(folder.file_name());
        fs::create_dir(&lifted).unwrap();
        fs::copy(folder.path().join("function.json"), lifted.join("function.json")).unwrap();
    }
    std::os::unix::fs::symlink(program(), root.path().join("easm-export")).unwrap();
    root
}

/// Lines that the handlers of `host` wrote to stderr. There are none unless a run ends badly.
pub fn stderr(host: &Host) -> Vec<String> {
    let of_stderr = |line: &Line| line.stream == Stream::Stderr;
    host.lines().into_iter().filter(of_stderr).map(|line| line.text).collect()
}

/// Log lines of the handlers of `host`, each one JSON object.
pub fn log(host: &Host) -> Vec<Value> {
    let of_stdout = |line: &Line| line.stream == Stream::Stdout;
    let lines = host.lines().into_iter().filter(of_stdout);
    let read = |line: Line| {
        assert_eq!(line.level, Level::Information);
        let value: Value = serde_json::from_str(&line.text).unwrap_or_else(|_| panic!("{line:?}"));
        assert!(value.is_object(), "{value}");
        value
    };
    lines.map(read).collect()
}
