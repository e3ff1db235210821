//! Tells who sits at the terminal how an export goes: a progress bar, and a line when it waits.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::export::Observer;
use crate::telemetry::Terminal;

/// Often enough to look alive, rarely enough to cost nothing.
const DRAWS_PER_SECOND: u8 = 5;

struct Progress {
    terminal: Terminal,
    /// Only where stderr is a terminal.
    bar: Option<ProgressBar>,
}

impl Observer for Progress {
    fn planned(&self, expected: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(expected);
            bar.reset_eta();
        }
    }

    fn took(&self, records: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(records);
        }
    }

    fn waits(&self, until: Timestamp, because: &Error) {
        let line =
            format!("Waiting until {until}: {because}. Ctrl-C saves what is read and stops.");
        self.terminal.say(&line);
    }

    fn follows(&self) {
        self.terminal.say("Another process works on this run; waiting for its end.");
    }
}

/// Says on stderr when an export waits, with a bar with rate and time left if stderr is a terminal.
pub fn observer(terminal: &Terminal) -> Arc<dyn Observer> {
    let bar = std::io::stderr().is_terminal().then(|| bar(terminal));
    Arc::new(Progress { terminal: terminal.clone(), bar })
}

fn bar(terminal: &Terminal) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:30} {human_pos}/{human_len} assets, {rate}/s, {eta} left",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        // A bar that cannot be drawn is no reason to stop.
        write!(text, "{:.0}", state.per_sec()).unwrap_or(());
    });
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    terminal.show_bar(bar.clone());
    bar
}
