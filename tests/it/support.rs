//! A world for whole-program tests: a simulator, a temporary folder, the real binary.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use easm_export::model::manifest::{Latest, Manifest};
use easm_export::model::run::RunDocument;
use easm_export::sim::{Options, Running, Simulator};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Longest time a command may take. Far beyond what any needs: it ends a test that hangs.
const COMMAND_SECONDS_MAX: u64 = 240;

/// The binary under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_easm-export"))
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub fn stdout_text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Fails unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        self
    }

    /// The one line of stderr, after an error.
    #[track_caller]
    pub fn error_line(&self) -> &str {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line on stderr: {}", self.stderr);
        lines[0]
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let Output { status, stdout, stderr } = output;
        let code = status.code().unwrap_or(-1);
        Self { code, stdout, stderr: String::from_utf8(stderr).unwrap() }
    }
}

/// A simulator and a folder of its own.
pub struct World {
    pub sim: Running,
    pub folder: TempDir,
}

impl World {
    pub async fn new(options: Options) -> Self {
        let sim = Simulator::start(options).await.unwrap();
        Self { sim, folder: tempfile::tempdir().unwrap() }
    }

    /// The command with `args`, with the simulator's settings and nothing else of the
    /// environment, in the world's folder. Warnings and errors only.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bare_command(self.folder.path(), args);
        command.envs(self.sim.settings()).env("EASM_FILTER", "").env("EASM_LOG", "error");
        command
    }

    pub async fn run(&self, args: &[&str]) -> Done {
        finish(self.command(args)).await
    }

    pub fn exports(&self) -> PathBuf {
        self.folder.path().join("exports")
    }

    /// Exports with `args` and expects `code`.
    #[track_caller]
    pub fn export(&self, args: &[&str], code: i32) -> impl Future<Output = Manifest> {
        let mut all = vec!["export", "--json"];
        all.extend(args);
        let command = self.command(&all);
        async move {
            let done = finish(command).await.expect_code(code);
            serde_json::from_slice(&done.stdout).unwrap()
        }
    }

    /// Every line of every file of `manifest`, sorted. Checks sizes, hashes and counts meanwhile.
    pub fn lines(&self, manifest: &Manifest) -> Vec<Vec<u8>> {
        let read = |path: &str| std::fs::read(self.exports().join(path)).unwrap();
        lines(manifest, read)
    }
    pub fn document<T: DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_slice(&std::fs::read(self.exports().join(path)).unwrap()).unwrap()
    }

    pub fn latest(&self) -> Latest {
        self.document("contoso/latest.json")
    }

    pub fn run_document(&self, manifest: &Manifest) -> RunDocument {
        self.document(&format!("contoso/runs/{}/run.json", manifest.run_id))
    }

    /// Paths of all files in the store but temporary ones, from the store's root.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.exports(), "", &mut files);
        files.retain(|path| !path.starts_with(".easm-export-tmp/"));
        files.sort();
        files
    }
}

/// Every line of every file of `manifest`, sorted; `read` gets the file at a path. Checks sizes,
/// hashes and counts meanwhile.
pub fn lines(manifest: &Manifest, read: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for file in &manifest.files {
        let stored = read(&file.path);
        assert_eq!(stored.len() as u64, file.bytes, "{}", file.path);
        assert_eq!(hex(&Sha256::digest(&stored)), file.sha256, "{}", file.path);
        let text = if file.path.ends_with(".gz") { gunzip(&stored) } else { stored };
        assert_eq!(text.last(), Some(&b'\n'), "{} ends with LF", file.path);
        let of_file: Vec<Vec<u8>> =
            text[..text.len() - 1].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert_eq!(of_file.len() as u64, file.records, "{}", file.path);
        lines.extend(of_file);
    }
    lines.sort();
    lines
}

/// Fails unless `found` and `truth` are the same lines, saying which differ.
#[track_caller]
pub fn assert_same_lines(found: &[Vec<u8>], truth: &[Vec<u8>], case: &str) {
    let count = |lines: &[Vec<u8>]| {
        let mut counts = BTreeMap::new();
        for line in lines {
            *counts.entry(line.clone()).or_insert(0) += 1;
        }
        counts
    };
    let (found_counts, truth_counts) = (count(found), count(truth));
    let differs = |left: &BTreeMap<Vec<u8>, i32>, right: &BTreeMap<Vec<u8>, i32>| {
        let odd = left.iter().find(|(line, n)| right.get(*line) != Some(n));
        odd.map(|(line, n)| {
            format!("{n} x {}", String::from_utf8_lossy(&line[..line.len().min(300)]))
        })
    };
    if let Some(odd) = differs(&truth_counts, &found_counts) {
        panic!("{case}: of the inventory, not found so often: {odd}");
    }
    if let Some(odd) = differs(&found_counts, &truth_counts) {
        panic!("{case}: found, not so often in the inventory: {odd}");
    }
}

/// The command with `args` in `folder`, with an environment that holds nothing of ours.
pub fn bare_command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub async fn finish(mut command: Command) -> Done {
    let limit = Duration::from_secs(COMMAND_SECONDS_MAX);
    tokio::time::timeout(limit, command.output())
        .await
        .expect("a command that ends")
        .unwrap()
        .into()
}

/// The line of stderr with which `command` says that it waits; then it is interrupted, and ends.
pub async fn waiting_line(mut command: Command) -> String {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let limit = Duration::from_secs(COMMAND_SECONDS_MAX);
    let waits = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Waiting until") {
                return line;
            }
        }
        panic!("it ended without having waited")
    };
    let line = tokio::time::timeout(limit, waits).await.expect("it waits at some time");
    signal(&child, "INT");
    let ended =
        tokio::time::timeout(limit, child.wait()).await.expect("it ends when it is told to");
    assert_eq!(ended.unwrap().code(), Some(130));
    line
}

/// Sends `name`, such as `INT`, to a process that still works.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("a process that is not waited for yet");
    let kill = format!("kill -s {name} {pid}");
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

pub fn gunzip(stored: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(stored).read_to_end(&mut text).unwrap();
    text
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => list(&entry.path(), &format!("{name}/"), files),
            false => files.push(name),
        }
    }
}
