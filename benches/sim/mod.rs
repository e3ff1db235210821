//! The simulator as a process of its own, for the benches.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Mean size of an asset.
pub const ASSET_BYTES: u64 = 8_192;

/// Names and values of settings.
pub type Settings = Vec<(String, String)>;

/// A simulator, and the settings to use it.
pub struct Sim {
    _process: Child,
    pub settings: Settings,
}

impl Sim {
    /// A simulator with so many assets of [`ASSET_BYTES`], which waits before every page.
    pub async fn start(assets: u64, latency_ms: u64) -> Self {
        Self::start_with(assets, latency_ms, ASSET_BYTES).await
    }

    /// A simulator with so many assets of `asset_bytes` on average, which waits before every page.
    pub async fn start_with(assets: u64, latency_ms: u64, asset_bytes: u64) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_easm-export"))
            .args(["simulate", "--assets", &assets.to_string()])
            .args(["--asset-bytes", &asset_bytes.to_string()])
            .args(["--latency-ms", &latency_ms.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the simulator starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut settings = Settings::new();
        while !settings.iter().any(|(name, _)| name == "IDENTITY_HEADER") {
            let line = lines.next_line().await.expect("readable").expect("all settings");
            let pair = line.strip_prefix("export ").and_then(|pair| pair.split_once('='));
            let (name, value) = pair.expect("export NAME='value'");
            settings.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        }
        Self { _process: process, settings }
    }
}
