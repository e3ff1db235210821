//! Streams an inventory to a writer, without a store: `export --stdout`.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::part::encode;
use super::plan::{census, query_of, ranges, total};
use super::range::{self, Records, Sink};
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::manifest::Completeness;
use crate::model::plan::deal;
use crate::model::request::Compression;

/// A writer that pages of several shards go to, one whole page at a time.
pub type Output = Arc<Mutex<dyn Write + Send>>;

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// Assets written.
    pub exported: u64,
    /// What the service counted before.
    pub expected_at_start: u64,
    /// How that compares.
    pub completeness: Completeness,
}

/// Writes all assets that `job` asks for to `output`, in no particular order, each once.
///
/// # Errors
/// What the source failed with; [`Kind::PipeClosed`] if nobody reads `output` any more.
pub async fn stream(world: &World, job: Job, output: Output) -> Result<Streamed> {
    let source = world.source.as_ref();
    let census = census(source, &job.request).await?;
    let wanted = job.request.max_assets.unwrap_or(u64::MAX);
    world.observer.planned(census.total.min(wanted));
    let shards = deal(ranges(world, &job, &census).await?, job.shards);
    let job = Arc::new(job);
    let mut streams = JoinSet::new();
    for shard in shards {
        let (world, job) = (world.clone(), Arc::clone(&job));
        let mut sink = Pipe {
            output: Arc::clone(&output),
            compression: job.request.compression,
            world: world.clone(),
        };
        streams.spawn(async move {
            let mut taken = 0;
            for range in &shard.ranges {
                let query = query_of(&job.request, range);
                let source = world.source.as_ref();
                let tally = range::read(source, &query, job.page_size, range, &mut sink).await?;
                taken += tally.taken;
            }
            Ok::<u64, Error>(taken)
        });
    }
    let mut exported = 0;
    while let Some(ended) = streams.join_next().await {
        // The first failure ends them all: the set is dropped.
        exported += ended.unwrap_or_else(|err| Err(internal(err.to_string())))?;
    }
    let at_end = total(source, &job.request).await?;
    let completeness = Completeness::judge(exported, census.total, at_end, job.request.max_assets);
    Ok(Streamed { exported, expected_at_start: census.total, completeness })
}

struct Pipe {
    output: Output,
    compression: Compression,
    world: World,
}

impl Sink for Pipe {
    async fn add(&mut self, records: Records) -> Result<()> {
        let output = Arc::clone(&self.output);
        let n_records = records.spans.len() as u64;
        let Records { body, spans, room: _room } = records;
        let bytes = encode(body, spans, self.compression).await?;
        tokio::task::spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            output.write_all(&bytes).map_err(|err| from_io(&err))
        })
        .await
        .unwrap_or_else(|err| Err(internal(err.to_string())))?;
        self.world.observer.took(n_records);
        Ok(())
    }
}

/// What a failure to write to standard output means.
pub fn from_io(err: &std::io::Error) -> Error {
    match err.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(Kind::PipeClosed, "write to stdout"),
        std::io::ErrorKind::StorageFull => Error::new(Kind::StoreFull, "write to stdout")
            .because("no space left")
            .advise("make room where the output goes"),
        kind => Error::new(Kind::Store, "write to stdout")
            .because(kind.to_string())
            .advise("check where the output goes"),
    }
}

fn internal(reason: String) -> Error {
    Error::new(Kind::Internal, "write to stdout").because(reason).advise("please report this")
}
