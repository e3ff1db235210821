//! A simulator and a folder, commands that hold every canary, and a search through all they tell.
//!
//! `Scene::new -> command -> watched -> findings`

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use easm_export::sim::{Fault, Options, Scripted, SignIn};
use futures::StreamExt as _;
use tokio::process::Command;

use super::{Search, planted};
use crate::support::{World, bare_command};

/// Cases at work at the same time: most of their time is pauses.
const N_AT_ONCE: usize = 24;
/// How long a command goes on behind the failure that it is about: far longer than it takes to tell of
/// it, and shorter than all its tries.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Ends a command that never comes to its failure.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// A small export, and so a quick one: one kind.
pub const EXPORT: [&str; 4] = ["export", "--json", "--kind", "host"];

/// The formats of the log.
pub const FORMATS: [&str; 2] = ["text", "json"];

/// What a command told until it ended, or was killed; then its code is -1.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Told {
    /// What is on stdout and on stderr.
    pub fn texts(&self) -> Vec<(String, Vec<u8>)> {
        [("stdout", &self.stdout), ("stderr", &self.stderr)]
            .map(|(at, text)| (at.to_owned(), text.clone()))
            .into()
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A simulator that demands the planted credentials, and a folder.
pub struct Scene {
    pub world: World,
}

impl Scene {
    /// A small workspace whose every answer at such a path and with such a query has this fault.
    pub async fn failing(path: &str, query: &str, fault: Fault) -> Self {
        Self::new(Options { script: vec![scripted(path, query, fault)], ..planted::options() })
            .await
    }

    pub async fn new(options: Options) -> Self {
        Self { world: World::new(options).await }
    }

    /// The command, signing in this way, with every canary in its environment and the loudest log.
    pub fn command(&self, sign_in: SignIn, args: &[&str]) -> Command {
        let mut command = bare_command(self.world.folder.path(), args);
        command
            .envs(planted::environment())
            .envs(self.world.sim.settings_for(sign_in))
            .env("SSL_CERT_FILE", self.world.sim.ca_file())
            .env("EASM_FILTER", "")
            .env("EASM_SHARDS", "1")
            .env("EASM_LOG", "trace")
            .env("RUST_BACKTRACE", "1");
        if sign_in == SignIn::KeyVault {
            // It comes from the vault, or not at all.
            command.env_remove("EASM_CLIENT_SECRET");
        }
        command
    }

    /// Whether a request came with this in its path and query.
    pub fn was_asked(&self, path: &str, query: &str) -> bool {
        let fits = |text: &str, part: &str| text.contains(part);
        let mut seen = self.world.sim.requests().into_iter();
        seen.any(|seen| fits(&seen.path, path) && fits(&seen.query, query))
    }

    /// What was told that must not be: on stdout, on stderr, and in every file of the folder.
    pub fn findings(&self, case: &str, told: &Told) -> Vec<String> {
        let texts = [told.texts(), files(self.world.folder.path())].concat();
        self.findings_in(case, &texts)
    }

    /// Which of these texts tell a canary, or a token that somebody showed to the simulator.
    pub fn findings_in(&self, case: &str, texts: &[(String, Vec<u8>)]) -> Vec<String> {
        let seen = self.world.sim.requests().into_iter();
        let workload = ("workload token".to_owned(), self.world.sim.workload_token());
        let own = tokens(seen.filter_map(|seen| seen.authorization)).chain([workload]);
        let own = Search::new(own);
        let mut found = findings(case, texts);
        found.extend(leaks(case, texts, |text| own.find(text)));
        found
    }
}

/// Which of these texts tell a planted canary, or any token.
pub fn findings(case: &str, texts: &[(String, Vec<u8>)]) -> Vec<String> {
    leaks(case, texts, |text| constant().find_or_token(text))
}

fn leaks(
    case: &str,
    texts: &[(String, Vec<u8>)],
    find: impl Fn(&[u8]) -> Option<String>,
) -> Vec<String> {
    let leak =
        |(at, text): &(String, Vec<u8>)| Some(format!("{case}: {at}: LEAK of {}", find(text)?));
    texts.iter().filter_map(leak).collect()
}

/// The search for the planted canaries.
pub fn constant() -> &'static Search {
    static CONSTANT: OnceLock<Search> = OnceLock::new();
    CONSTANT.get_or_init(|| Search::new(planted::canaries()))
}

/// The different tokens of these `Authorization` headers.
pub fn tokens(headers: impl Iterator<Item = String>) -> impl Iterator<Item = (String, String)> {
    let bearer = headers.filter_map(|header| header.strip_prefix("Bearer ").map(str::to_owned));
    let unique: std::collections::BTreeSet<String> = bearer.collect();
    unique.into_iter().map(|token| ("token".to_owned(), token))
}

pub fn scripted(path: &str, query: &str, fault: Fault) -> Scripted {
    let (path_contains, query_contains) = (path.to_owned(), query.to_owned());
    Scripted { path_contains, query_contains, from: 0, times: u64::MAX, fault }
}

/// Runs `command` to its end; if it goes on for a while after `is_met`, it is killed.
pub async fn watched(mut command: Command, is_met: impl Fn() -> bool) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    let (begin, mut met_at) = (Instant::now(), None);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        if met_at.is_none() && is_met() {
            met_at = Some(Instant::now());
        }
        let has_told = met_at.is_some_and(|met_at| met_at.elapsed() > PATIENCE);
        if has_told || begin.elapsed() > COMMAND_TIME_MAX {
            child.kill().await.unwrap();
            break -1;
        }
        tokio::time::sleep(POLL).await;
    };
    Told { code, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
}

/// Runs `command` to its end.
pub async fn ended(command: Command) -> Told {
    watched(command, || false).await
}

/// All findings of `cases`, some of which are at work at the same time.
pub async fn all<F: Future<Output = Vec<String>>>(
    cases: impl IntoIterator<Item = F>,
) -> Vec<String> {
    let found: Vec<Vec<String>> =
        futures::stream::iter(cases).buffer_unordered(N_AT_ONCE).collect().await;
    found.concat()
}

/// Fails if there is any finding.
#[track_caller]
pub fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

/// Every file below `folder`, unpacked if it is packed, and every path. Settings files of the test's own
/// are left out.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy().into_owned();
        found.push(("a path".to_owned(), name.clone().into_bytes()));
        if path.is_dir() {
            found.extend(files(&path));
        } else if !name.ends_with("/.env") && !name.ends_with("/local.settings.json") {
            let bytes = fs::read(&path).unwrap_or_default();
            found.push((name, unpacked(&bytes)));
        }
    }
    found
}

/// `bytes`, without the compression that they may have.
pub fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text) {
        Ok(_) => text,
        Err(_) => bytes.to_vec(),
    }
}
