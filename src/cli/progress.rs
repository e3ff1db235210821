//! The progress bar.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::export::{Nobody, Observer};
use crate::telemetry::Terminal;

/// Often enough to look alive, rarely enough to cost nothing.
const DRAWS_PER_SECOND: u8 = 5;

struct Bar {
    bar: ProgressBar,
}

impl Observer for Bar {
    fn planned(&self, expected: u64) {
        self.bar.set_length(expected);
        self.bar.reset_eta();
    }

    fn took(&self, records: u64) {
        self.bar.inc(records);
    }
}

/// A bar with rate and time left if stderr is a terminal, else nothing.
pub fn observer(terminal: &Terminal) -> Arc<dyn Observer> {
    if !std::io::stderr().is_terminal() {
        return Arc::new(Nobody);
    }
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
    Arc::new(Bar { bar })
}
