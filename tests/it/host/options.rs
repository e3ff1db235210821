//! How a host is started.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::config::Settings;
use super::queues::QueueMessage;

/// Longest time an invocation waits for the handler before the host gives up and stops.
const READY_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest time that a stop waits for invocations in work.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Says of a message whether it is lost instead of delivered.
pub type Loses = Arc<dyn Fn(&QueueMessage) -> bool + Send + Sync>;

/// How a host is started, and what goes wrong on purpose.
#[derive(Clone)]
pub struct HostOptions {
    pub app_root: PathBuf,
    /// All that the host has in its environment, but for `PATH`.
    pub settings: Settings,
    /// Whether the host knows `enableProxyingHttpRequest`. Version 4.1037 does not.
    pub has_proxying: bool,
    /// Decides what the rates leave open.
    pub seed: u64,
    /// How many of all messages are delivered twice at the same moment, 0 to 1.
    pub doubled: f64,
    /// How many of all messages that succeeded come again, 0 to 1.
    pub again: f64,
    pub loses: Option<Loses>,
    /// Functions whose queues it listens to. Nothing: all.
    pub listens: Option<Vec<String>>,
    /// Whether a stop leaves the handler behind although nothing is in work.
    pub leaves_orphan: bool,
    /// Longest time that a stop waits for work; then the handler is left behind.
    pub drain_time_max: Duration,
    /// Longest time that an invocation waits for the handler; then the host stops itself.
    pub ready_time_max: Duration,
}

impl HostOptions {
    pub fn new(app_root: impl Into<PathBuf>) -> Self {
        Self {
            app_root: app_root.into(),
            settings: Settings::new(),
            has_proxying: false,
            seed: 0,
            doubled: 0.0,
            again: 0.0,
            loses: None,
            listens: None,
            leaves_orphan: false,
            drain_time_max: DRAIN_TIME_MAX,
            ready_time_max: READY_TIME_MAX,
        }
    }

    /// Sets an app setting.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    pub fn with_proxying(mut self) -> Self {
        self.has_proxying = true;
        self
    }
}
