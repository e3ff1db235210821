//! Flags of `export`, and what they ask for.

use super::super::{quoted, read_filter};
use crate::config::parse;
use crate::error::{Error, Kind, Result};
use crate::model::asset::AssetKind;
use crate::model::request::{Compression, Dataset, Format, Request};
use crate::model::run::RunId;

/// Flags of `export`. They override settings.
#[derive(clap::Args)]
pub struct Args {
    /// EASM filter; @FILE reads it from a file, @- from stdin. Lines that begin with # are dropped.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Kind of asset; may be repeated or comma separated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Dataset; may be repeated or comma separated.
    #[arg(long = "dataset", value_name = "DATASET")]
    datasets: Vec<String>,
    /// Format of the files: ndjson.
    #[arg(long)]
    format: Option<String>,
    /// Compression of the files: gzip or none. With --stdout the default is none.
    #[arg(long)]
    compression: Option<String>,
    /// Where the files go: a folder, or the URL of a container of Blob Storage or Azurite.
    #[arg(long, value_name = "URL")]
    pub(super) store: Option<String>,
    /// Export at most so many assets.
    #[arg(long, value_name = "N")]
    max_assets: Option<String>,
    /// Take up a run that failed or was interrupted where it stood. Of a complete one the manifest is
    /// printed.
    #[arg(long, value_name = "RUN_ID")]
    pub(super) resume: Option<String>,
    /// Have latest.json name this run even if the request is not the target's own.
    #[arg(long)]
    pub(super) publish: bool,
    /// Count per kind, write nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Write the records themselves to stdout, and no files.
    #[arg(long)]
    pub(super) stdout: bool,
    /// Print the manifest (or the counts) as one JSON document to stdout.
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// Refuses flags that contradict each other.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub fn check(&self) -> Result<()> {
        let refuse = |reason: &str, advice: &'static str| {
            Err(Error::new(Kind::Usage, "read flags").because(reason).advise(advice))
        };
        if self.stdout && self.dry_run {
            return refuse("--dry-run writes no records", "leave out --stdout");
        }
        if self.stdout && self.json {
            return refuse("records and a manifest cannot share stdout", "leave out --json");
        }
        if self.stdout && self.store.is_some() {
            return refuse("--stdout uses no store", "leave out --store");
        }
        if self.publish && (self.stdout || self.dry_run) {
            return refuse("there is nothing to publish", "leave out --publish");
        }
        let asks_otherwise = self.filter.is_some()
            || !self.kinds.is_empty()
            || !self.datasets.is_empty()
            || self.format.is_some()
            || self.compression.is_some()
            || self.max_assets.is_some();
        if self.resume.is_some() && (asks_otherwise || self.stdout || self.dry_run) {
            let reason = "a run that is resumed was asked for when it was opened";
            return refuse(
                reason,
                "leave out all flags but --resume, --store, --publish and --json",
            );
        }
        Ok(())
    }

    /// What the flags ask for, read once: a filter may come from stdin.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the flag.
    pub(super) fn asked(&self) -> Result<Asked> {
        let list = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
        let compression = self.compression.as_deref();
        let compression = compression.map(|text| parse::compression("--compression", text));
        Ok(Asked {
            filter: self.filter.as_deref().map(read_filter).transpose()?,
            kinds: list(&self.kinds).map(|text| parse::kinds("--kind", &text)).transpose()?,
            datasets: list(&self.datasets)
                .map(|text| parse::datasets("--dataset", &text))
                .transpose()?,
            format: self
                .format
                .as_deref()
                .map(|text| parse::format("--format", text))
                .transpose()?,
            compression: match compression.transpose()? {
                None if self.stdout => Some(Compression::None),
                compression => compression,
            },
            max_assets: self
                .max_assets
                .as_deref()
                .map(|text| parse::number("--max-assets", text, 1..=u64::MAX))
                .transpose()?,
        })
    }

    /// What takes up the run `id` after this command.
    pub(super) fn resume_command(&self, id: &RunId) -> String {
        let mut command = format!("easm-export export --resume {id}");
        if let Some(store) = &self.store {
            command += &format!(" --store {}", quoted(store));
        }
        if self.publish {
            command += " --publish";
        }
        command
    }
}

/// What the flags ask for in place of a target's own request.
pub(super) struct Asked {
    filter: Option<String>,
    kinds: Option<Vec<AssetKind>>,
    datasets: Option<Vec<Dataset>>,
    format: Option<Format>,
    compression: Option<Compression>,
    max_assets: Option<u64>,
}

impl Asked {
    /// The request that the target's `own` becomes.
    pub(super) fn of(&self, own: &Request) -> Request {
        Request {
            filter: self.filter.clone().unwrap_or_else(|| own.filter.clone()),
            kinds: self.kinds.clone().unwrap_or_else(|| own.kinds.clone()),
            datasets: self.datasets.clone().unwrap_or_else(|| own.datasets.clone()),
            format: self.format.unwrap_or(own.format),
            compression: self.compression.unwrap_or(own.compression),
            columns: own.columns.clone(),
            max_assets: self.max_assets.or(own.max_assets),
        }
    }
}
