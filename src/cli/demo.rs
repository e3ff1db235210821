//! `easm-export demo`: the simulator in this process, and `easm-export export` against it.
//!
//! The export is a process of its own with nothing but settings that point at the simulator: the
//! very command a user types, which cannot know what it talks to.

use std::process::Stdio;
use std::time::Duration;

use clap::value_parser;

use super::simulate::ASSETS_MAX;
use super::{interrupt, interrupted, print, quoted, simulate, thousands};
use crate::config::{StoreUrl, parse};
use crate::error::{Error, Kind, Result};
use crate::model::manifest::Manifest;
use crate::model::request::Dataset;
use crate::sim::Options;

/// How long an interrupted export may tidy up.
const INTERRUPTED_SECONDS_MAX: u64 = 10;

/// Flags of `demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the files go: a folder.
    #[arg(long, value_name = "URL", default_value = "./exports")]
    store: String,
    /// Assets in the made-up inventory.
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u64).range(..=ASSETS_MAX))]
    assets: u64,
    /// Everything made up follows from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Port on 127.0.0.1 for the simulator. Default: any that is free.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
}

/// Runs the command.
///
/// # Errors
/// [`Kind::Config`] if the port is taken; an export that fails says why itself.
pub(super) async fn run(args: Args) -> Result<u8> {
    let StoreUrl::Folder(folder) = parse::store_url("--store", &args.store)? else {
        return Err(parse::refuse("--store", "a folder's path for a demo", &args.store));
    };
    let options =
        Options { assets: args.assets, seed: args.seed, port: args.port, ..Options::default() };
    let simulator = simulate::start(options).await?;
    let failed = |reason: String| {
        Error::new(Kind::Internal, "start the export").because(reason).advise("please report this")
    };
    let program = std::env::current_exe().map_err(|err| failed(err.to_string()))?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(["--no-env-files", "export", "--json", "--store"])
        .arg(&folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        // Settings of a real target stay out of a demo.
        let text = name.to_string_lossy();
        if text.starts_with("EASM_") || text.starts_with("AZURE_") {
            command.env_remove(name);
        }
    }
    // No filter: a demo shows everything there is.
    command.env("EASM_LOG", "warn").env("EASM_FILTER", "").envs(simulator.settings());
    let child = command.spawn().map_err(|err| failed(err.to_string()))?;
    let export = child.wait_with_output();
    tokio::pin!(export);
    let output = tokio::select! {
        output = &mut export => output,
        () = interrupt() => {
            // Ctrl-C reached the export too: it tidies up and says so itself.
            let limit = Duration::from_secs(INTERRUPTED_SECONDS_MAX);
            tokio::time::timeout(limit, export).await.map_err(|_elapsed| interrupted())?
        }
    };
    let output = output.map_err(|err| failed(err.to_string()))?;
    simulator.stop().await;
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    let manifest = match serde_json::from_slice::<Manifest>(&output.stdout) {
        Ok(manifest) => manifest,
        // It said on stderr why.
        Err(_) => return Ok(code.filter(|code| *code != 0).unwrap_or(1)),
    };
    print(text(&folder.to_string_lossy(), &manifest).as_bytes())?;
    Ok(code.unwrap_or(1))
}

/// What lies where, and what to try next.
fn text(store: &str, manifest: &Manifest) -> String {
    let store = store.trim_end_matches('/');
    let in_sql = store.replace('\'', "''");
    let store = quoted(store);
    let counts = &manifest.counts[Dataset::Assets.as_str()];
    let (target, run_id) = (&manifest.target, &manifest.run_id);
    let kinds: Vec<String> = counts
        .by_kind
        .iter()
        .map(|(kind, n_assets)| format!("{kind} {}", thousands(*n_assets)))
        .collect();
    let parts = format!("{target}/assets/date={}/run={run_id}", run_id.date());
    format!(
        "\
Exported {assets} made-up assets from the simulator, {completeness}{kinds}.

  newest run   {store}/{target}/latest.json
  manifest     {store}/{target}/runs/{run_id}/manifest.json
  data files   {store}/{parts}/kind=*/part-*.ndjson.gz

Try next:

  jq '.counts' {store}/{target}/runs/{run_id}/manifest.json
  gzip -cd {store}/{parts}/kind=host/*.gz | jq -r '[.name, .state, .createdDate] | @tsv' | head
  duckdb -c \"SELECT kind, state, count(*) AS n FROM read_json('{in_sql}/{parts}/*/*.ndjson.gz', \
columns={{kind: 'VARCHAR', state: 'VARCHAR'}}, maximum_object_size=67108864) GROUP BY ALL \
ORDER BY n DESC\"

For your own inventory set EASM_TENANT_ID, EASM_SUBSCRIPTION_ID, EASM_RESOURCE_GROUP and
EASM_WORKSPACE, and run `easm-export export`.
",
        assets = thousands(counts.exported),
        completeness = manifest.completeness.as_str(),
        kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) },
    )
}
