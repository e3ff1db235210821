//! What the program says while it works: log lines, each through the redactor.
//!
//! [`Terminal`] is the one writer of stderr, and of log lines wherever they go: to stderr on a
//! terminal, to stdout under the Functions host, which takes what is on stderr for errors. It passes
//! every byte through [`crate::secret::redact`] and keeps the progress bar out of the way of a line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Error, Kind, Result};

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
}

impl Terminal {
    /// Writes `text` and a line feed to stderr, redacted: among JSON log lines as one of them.
    pub fn say(&self, text: &str) {
        match self.is_json.load(Ordering::Relaxed) {
            true => self.write_line(&format!("{}\n", serde_json::json!({ "message": text }))),
            false => self.write_line(&format!("{text}\n")),
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
        match self.logs_to_stdout.load(Ordering::Relaxed) {
            // Nobody is left to tell if stdout is closed.
            true => io::stdout().write_all(crate::secret::redact(line).as_bytes()).unwrap_or(()),
            false => self.write_line(line),
        }
    }

    fn write_line(&self, line: &str) {
        let clean = crate::secret::redact(line);
        // Nobody is left to tell if stderr is closed.
        let write = || io::stderr().write_all(clean.as_bytes()).unwrap_or(());
        match &*self.lock() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
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

/// Sends log lines of the levels that `filter` (`EASM_LOG`) names to `terminal`, and panics too.
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
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(terminal.clone())
            .try_init(),
    };
    // A second subscriber in one process is a mistake of ours, but no reason not to work.
    installed.unwrap_or(());
    let of_panics = terminal.clone();
    std::panic::set_hook(Box::new(move |panic| of_panics.say(&format!("easm-export: {panic}"))));
    Ok(())
}
