//! `easm-export simulate`: the simulator, until Ctrl-C.

use std::time::Duration;

use clap::{ValueEnum, value_parser};

use super::{interrupt, print};
use crate::error::{Error, Kind, Result};
use crate::sim::{Options, Running, SignIn, Simulator};

/// Largest inventory that is made up: what is known of each asset stays in memory, some 40 bytes.
pub(super) const ASSETS_MAX: u64 = 20_000_000;

/// Largest mean size of a made-up asset: a page of a hundred still fits into what is read at once.
const ASSET_BYTES_MAX: i64 = 256 << 10;

/// Which settings are printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Credential {
    /// The identity of an Azure resource.
    #[default]
    ManagedIdentity,
    /// An app with a secret.
    ClientSecret,
    /// An app whose secret is in Key Vault, which the managed identity reads.
    KeyVault,
    /// An app that trusts the managed identity.
    Federated,
    /// An app that trusts a service account of a cluster.
    WorkloadIdentity,
}

impl From<Credential> for SignIn {
    fn from(credential: Credential) -> Self {
        match credential {
            Credential::ManagedIdentity => Self::ManagedIdentity,
            Credential::ClientSecret => Self::ClientSecret,
            Credential::KeyVault => Self::KeyVault,
            Credential::Federated => Self::Federated,
            Credential::WorkloadIdentity => Self::WorkloadIdentity,
        }
    }
}

/// What a simulator is started with.
#[derive(clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1 to listen on. Default: any that is free.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Assets in the made-up inventory.
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u64).range(..=ASSETS_MAX))]
    assets: u64,
    /// Mean size of an asset, in bytes.
    #[arg(long, default_value_t = 2048, value_parser = value_parser!(u32).range(..=ASSET_BYTES_MAX))]
    asset_bytes: u32,
    /// Everything made up follows from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Wait before every page, in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Share of requests that fail for the moment, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    faults: f64,
    /// How to sign in with the settings that are printed.
    #[arg(long, value_enum, default_value_t)]
    credential: Credential,
}

impl Args {
    fn options(&self) -> Result<Options> {
        if !(0.0..=1.0).contains(&self.faults) {
            return Err(crate::config::parse::refuse(
                "--faults",
                "a share from 0 to 1",
                &self.faults.to_string(),
            ));
        }
        Ok(Options {
            port: self.port,
            assets: self.assets,
            asset_bytes: self.asset_bytes as usize,
            seed: self.seed,
            latency: Duration::from_millis(self.latency_ms),
            fault_rate: self.faults,
            ..Options::default()
        })
    }
}

/// Runs the command.
///
/// # Errors
/// [`Kind::Config`] if the port is taken.
pub(super) async fn run(args: Args) -> Result<u8> {
    let simulator = start(args.options()?).await?;
    let settings = simulator.settings_for(args.credential.into());
    let lines: Vec<String> =
        settings.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    print(lines.concat().as_bytes())?;
    interrupt().await;
    simulator.stop().await;
    Ok(0)
}

/// Starts the simulator.
///
/// # Errors
/// [`Kind::Config`] if the port is taken.
pub(super) async fn start(options: Options) -> Result<Running> {
    let port = options.port;
    Simulator::start(options).await.map_err(|err| {
        Error::new(Kind::Config, format!("listen on 127.0.0.1:{port}"))
            .because(match err.kind() {
                std::io::ErrorKind::AddrInUse => "another program uses this port".to_owned(),
                kind => kind.to_string(),
            })
            .advise("choose another with --port, or leave it out for any that is free")
    })
}
