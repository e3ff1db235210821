//! What the program says while it works: log lines, errors and panics, each through the redactor.
//!
//! [`Terminal`] is the one writer of stderr, and of log lines wherever they go: to stderr on a
//! terminal, to stdout under the Functions host, which takes what is on stderr for errors. It passes
//! whole lines through [`crate::secret::redact`], so that a secret that was written in two pieces is
//! one again, and keeps the progress bar out of the way of a line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Error, Kind, Result};
use crate::secret::{holds_credential, redact};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The one writer of stderr, and of the log. Cheap to clone.
#[derive(Clone, Default)]
pub struct Terminal {
    bar: Arc<Mutex<Option<ProgressBar>>>,
    is_json: Arc<AtomicBool>,
    logs_to_stdout: Arc<AtomicBool>,
    kept: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Terminal {
    /// A terminal that writes nowhere but into `kept`: for tests of what would be written.
    pub fn kept_in(kept: Arc<Mutex<Vec<u8>>>) -> Self {
        Self { kept: Some(kept), ..Self::default() }
    }

    /// Writes `text` and a line feed to stderr, redacted: among JSON log lines as one of them.
    pub fn say(&self, text: &str) {
        self.write(Stream::Stderr, &redact(&self.line(text)));
    }

    /// Writes `words` to stderr and behind them `exact`, which a program reads back: it is never
    /// altered, and left out if a credential of ours is in it.
    pub fn hand_over(&self, words: &str, exact: &str) {
        if holds_credential(exact.as_bytes()) {
            return self.say(&format!("{words}: not shown, since it holds a credential of ours"));
        }
        self.write(Stream::Stderr, &self.line(&format!("{}{exact}", redact(words))));
    }

    /// `text` as a line that fits among the log lines.
    fn line(&self, text: &str) -> String {
        match self.is_json.load(Ordering::Relaxed) {
            true => format!("{}\n", serde_json::json!({ "message": text })),
            false => format!("{text}\n"),
        }
    }

    /// Shows `bar` below everything that is said, until [`Terminal::hide_bar`].
    pub fn show_bar(&self, bar: ProgressBar) {
        *self.lock() = Some(bar);
    }

    /// Takes the bar away.
    pub fn hide_bar(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    /// From now on log lines go to stdout. What is said stays on stderr.
    pub fn log_to_stdout(&self) {
        self.logs_to_stdout.store(true, Ordering::Relaxed);
    }

    /// A log line, with its line feed.
    fn log(&self, line: &str) {
        let stream = match self.logs_to_stdout.load(Ordering::Relaxed) {
            true => Stream::Stdout,
            false => Stream::Stderr,
        };
        self.write(stream, &redact(line));
    }

    /// Writes what was redacted.
    fn write(&self, stream: Stream, clean: &str) {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(clean.as_bytes());
            return;
        }
        // Nobody is left to tell if it is closed.
        let write = || match stream {
            Stream::Stdout => io::stdout().write_all(clean.as_bytes()).unwrap_or(()),
            Stream::Stderr => io::stderr().write_all(clean.as_bytes()).unwrap_or(()),
        };
        match &*self.lock() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a line goes.
#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// Collects one event's bytes and writes them as a whole.
pub struct Line {
    terminal: Terminal,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.terminal.log(&String::from_utf8_lossy(&self.bytes));
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { terminal: self.clone(), bytes: Vec::new() }
    }
}

/// Sends log lines of the levels that `filter` (`EASM_LOG`) names to `terminal`.
///
/// # Errors
/// [`Kind::Config`] if `filter` is not a tracing filter.
pub fn install(filter: &str, format: LogFormat, terminal: &Terminal) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|_| {
        Error::new(Kind::Config, "read EASM_LOG")
            .because("not a tracing filter")
            .with("found", filter)
            .advise("use a level such as info, or info,easm_export=debug")
    })?;
    terminal.is_json.store(format == LogFormat::Json, Ordering::Relaxed);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    let installed = match format {
        // The span says for which invocation, function and run.
        LogFormat::Json => {
            subscriber.json().with_span_list(false).with_writer(terminal.clone()).try_init()
        }
        LogFormat::Text => subscriber
            .with_target(false)
            // Colours would stand between a name and its value, and a secret behind them is not found.
            .with_ansi(false)
            .with_writer(terminal.clone())
            .try_init(),
    };
    // A second subscriber in one process is a mistake of ours, but no reason not to work.
    installed.unwrap_or(());
    Ok(())
}

/// Has `terminal` say what a panic says, from now on.
pub fn catch_panics(terminal: &Terminal) {
    let terminal = terminal.clone();
    std::panic::set_hook(Box::new(move |panic| terminal.say(&format!("easm-export: {panic}"))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// What `say` leaves in a terminal.
    fn said(say: impl FnOnce(&Terminal)) -> String {
        let kept = Arc::default();
        say(&Terminal::kept_in(Arc::clone(&kept)));
        let bytes = kept.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_secret_that_is_written_in_two_pieces_is_not_written() {
        let secret = Secret::new("canary-of-two-writes-0123456789".to_owned());
        for at in 1..secret.expose().len() {
            let (first, second) = secret.expose().split_at(at);
            let line = said(|terminal| {
                let mut line = terminal.make_writer();
                line.write_all(b"it says ").expect("written");
                line.write_all(first.as_bytes()).expect("written");
                line.write_all(second.as_bytes()).expect("written");
                line.write_all(b" twice\n").expect("written");
            });
            assert_eq!(line, "it says [REDACTED] twice\n", "cut at {at}");
        }
    }

    #[test]
    fn what_is_said_is_redacted_and_what_is_handed_over_is_not_altered() {
        let secret = Secret::new("canary-of-the-terminal-0123456789".to_owned());
        let line = said(|terminal| terminal.say(&format!("no {} here", secret.expose())));
        assert_eq!(line, "no [REDACTED] here\n");
        // It looks like a secret, but is a cursor.
        let mark = "client_secret=eyJhbGciOiJub25lIn0.eyJvIjoxfQ.";
        let line = said(|terminal| terminal.hand_over("go on with ", mark));
        assert_eq!(line, format!("go on with {mark}\n"));
        let line = said(|terminal| terminal.hand_over("go on with ", secret.expose()));
        assert!(!line.contains("canary") && line.contains("not shown"), "{line}");
        let line = said(|terminal| terminal.hand_over(secret.expose(), mark));
        assert_eq!(line, format!("[REDACTED]{mark}\n"));
    }
}
