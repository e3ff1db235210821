//! The handler's process, started the way the host starts it, by a parent that can die.
//!
//! `keeper (sh) -> handler`, and a watch that ends the handler when nobody cares any more
//!
//! # Invariants
//! - The handler's parent is the keeper, not the test: killing the keeper leaves a true orphan.
//! - No handler outlives the test: the watch sees the pipe to the test close, and kills what has
//!   the handler's number and its environment.
//! - The first line on stdout is the handler's process id; the handler takes over that process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::app::Options;
use super::config::Settings;
use super::payload::guid;

/// Keeps the handler. What it is started with is the handler's command line. SIGPIPE is ignored, as
/// the real host passes it on.
const KEEPER: &str = r#"
trap '' PIPE
exec 3<&0
sh -c 'exec 3<&-; echo $$; exec "$@"' - "$@" </dev/null &
handler=$!
exec >/dev/null 2>&1
id="FUNCTIONS_CUSTOMHANDLER_WORKER_ID=$FUNCTIONS_CUSTOMHANDLER_WORKER_ID"
(
    read -r _ <&3
    tr '\0' '\n' <"/proc/$handler/environ" | grep -qxF "$id" && kill -s KILL "$handler"
) &
watch=$!
exec 3<&-
wait "$handler"
code=$?
kill "$watch"
exit "$code"
"#;

/// Longest line that is kept whole.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Longest wait for the last lines of a handler that has ended.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether a process has ended.
const POLL_PAUSE: Duration = Duration::from_millis(10);

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// The host itself.
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Information,
    Warning,
    Error,
}

/// An entry of the host's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
    pub stream: Stream,
}

/// A handler that was started.
pub struct Process {
    pub pid: u32,
    keeper: Child,
    /// While it is open, somebody cares.
    care: Option<ChildStdin>,
    readers: Vec<JoinHandle<()>>,
}

/// A handler whose host has gone. It is killed when this is dropped.
#[derive(Debug)]
pub struct Orphan {
    pub pid: u32,
    _care: Option<ChildStdin>,
}

impl Orphan {
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid)
    }

    /// Waits until it has ended by itself. `false` if it has not after `limit`.
    pub async fn ended(&self, limit: Duration) -> bool {
        gone(self.pid, limit).await
    }
}

/// The executable as a path, if there is one that can be started.
fn found(options: &Options) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| {
        let about = path.metadata().ok();
        about.is_some_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let path = PathBuf::from(&options.executable);
    if path.components().count() > 1 {
        return is_program(&path).then_some(path);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(&path)).find(|path| is_program(path))
}

impl Process {
    /// Starts the handler and hands each of its lines to `note`.
    pub async fn start(
        root: &Path,
        options: &Options,
        settings: &Settings,
        port: u16,
        note: impl Fn(Stream, &str) + Clone + Send + 'static,
    ) -> Result<Self, String> {
        let failed = |why: String| format!("Failed to start the handler: {why}");
        let program = found(options)
            .ok_or_else(|| failed(format!("'{}' is no program", options.executable)))?;
        let (worker, port) = (guid(), port.to_string());
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(&options.arguments)
            .current_dir(&options.working_directory)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(settings)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", &port)
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &worker)
            .env("FUNCTIONS_HTTPWORKER_PORT", &port)
            .env("FUNCTIONS_HTTPWORKER_ID", &worker)
            .env("FUNCTIONS_APP_ROOT_PATH", root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| failed(err.to_string()))?;
        let stdout = keeper.stdout.take().expect("stdout is piped");
        let stderr = keeper.stderr.take().expect("stderr is piped");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).await.map_err(|err| failed(err.to_string()))?;
        let pid = line.trim().parse().map_err(|_| failed(format!("the keeper said '{line}'")))?;
        let also = note.clone();
        let readers = vec![
            tokio::spawn(read_lines(stdout, move |line| note(Stream::Stdout, line))),
            tokio::spawn(read_lines(BufReader::new(stderr), move |line| {
                also(Stream::Stderr, line);
            })),
        ];
        let care = keeper.stdin.take();
        Ok(Self { pid, keeper, care, readers })
    }

    /// Waits for the end of the handler and of its last lines; gives its exit code, with 128 and
    /// the signal's number for a death by signal.
    pub async fn ended(&mut self) -> i32 {
        let status = self.keeper.wait().await;
        for mut reader in self.readers.drain(..) {
            // A child of the handler may hold the pipe and say nothing more.
            if tokio::time::timeout(LAST_LINES_MAX, &mut reader).await.is_err() {
                reader.abort();
            }
        }
        status.ok().and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Kills the keeper and hears nothing more of the handler, which lives on.
    pub async fn abandon(mut self) -> Orphan {
        // Fails if the keeper has ended already, with the handler.
        let _ended = self.keeper.kill().await;
        for reader in self.readers.drain(..) {
            reader.abort();
            // It ends as aborted: only then are the pipes closed.
            let _aborted = reader.await;
        }
        Orphan { pid: self.pid, _care: self.care.take() }
    }
}

/// Lines as the host reads them, empty ones too, up to the end of the stream.
async fn read_lines(mut from: BufReader<impl AsyncRead + Unpin>, note: impl Fn(&str)) {
    let mut line = Vec::new();
    while let Ok(n) = from.read_until(b'\n', &mut line).await {
        if n == 0 {
            return;
        }
        line.truncate(LINE_BYTES_MAX);
        let text = String::from_utf8_lossy(&line);
        note(text.trim_end_matches(['\r', '\n']));
        line.clear();
    }
}

/// How the host classifies a line. Nothing: it goes to the platform and not to the log.
pub fn level(stream: Stream, text: &str, stderr_is_errors_only: bool) -> Option<Level> {
    if text.starts_with("LanguageWorkerConsoleLog") {
        return None;
    }
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    Some(match stream {
        Stream::Stdout | Stream::Host => Level::Information,
        Stream::Stderr if has(&["warn"]) => Level::Warning,
        Stream::Stderr if stderr_is_errors_only => Level::Error,
        Stream::Stderr if has(&["error", "fail", "severe", "unhandled exception"]) => Level::Error,
        Stream::Stderr => Level::Information,
    })
}

/// Sends SIGKILL. A process that has ended is left alone.
pub async fn kill(pid: u32) {
    let mut kill = Command::new("kill");
    kill.args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null());
    assert!(kill.status().await.is_ok(), "there is no kill on PATH");
}

/// Whether there is such a process, a zombie aside.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Waits until there is no such process any more. `false` if there is after `limit`.
pub async fn gone(pid: u32, limit: Duration) -> bool {
    let wait = async {
        while is_alive(pid) {
            tokio::time::sleep(POLL_PAUSE).await;
        }
    };
    tokio::time::timeout(limit, wait).await.is_ok()
}

#[test]
fn a_line_gets_the_level_the_host_gives_it() {
    use Level::{Error, Information, Warning};
    // Stream, errors only, text, level.
    let cases = [
        (Stream::Stdout, true, "error: a warning", Some(Information)),
        (Stream::Stderr, true, "hello", Some(Error)),
        (Stream::Stderr, true, "", Some(Error)),
        (Stream::Stderr, true, "a WARNing, an error", Some(Warning)),
        (Stream::Stderr, false, "hello", Some(Information)),
        (Stream::Stderr, false, "it FAILed", Some(Error)),
        (Stream::Stderr, false, "Unhandled Exception", Some(Error)),
        (Stream::Stderr, false, "warn of an error", Some(Warning)),
        (Stream::Stdout, true, "LanguageWorkerConsoleLog x", None),
    ];
    for (stream, errors_only, text, want) in cases {
        assert_eq!(level(stream, text, errors_only), want, "{text}");
    }
}
