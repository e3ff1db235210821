//! Streams an inventory to a writer, without a store: `export --stdout`.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::part::encode;
use super::plan::{Draft, query_of, total};
use super::range::{self, Ending, Reading, Records, Sink};
use super::slice::Slice;
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::manifest::Completeness;
use crate::model::plan::deal;
use crate::model::request::{Compression, Request};

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

/// Writes all assets that `request` asks for to `output`, in no particular order, each once.
///
/// # Errors
/// What the source failed with; [`Kind::PipeClosed`] if nobody reads `output` any more.
pub async fn stream(
    world: &World,
    job: &Job,
    request: &Request,
    output: Output,
) -> Result<Streamed> {
    let source = world.source.as_ref();
    let mut draft = Draft::begin(world, job, request).await?;
    while !draft.is_done() {
        draft.round(world, job, request).await?;
    }
    let expected_at_start = draft.expected();
    let wanted = request.max_assets.unwrap_or(u64::MAX);
    world.observer.planned(expected_at_start.min(wanted));
    let shared = Arc::new(request.clone());
    let mut streams = JoinSet::new();
    for shard in deal(draft.ranges(request), job.shards) {
        let (world, request) = (world.clone(), Arc::clone(&shared));
        let mut sink = Pipe {
            output: Arc::clone(&output),
            compression: request.compression,
            page_size: job.page_size,
            world: world.clone(),
        };
        streams.spawn(async move {
            let (_stop, slice) = Slice::endless();
            let mut taken = 0;
            for range in &shard.ranges {
                let query = query_of(&request, range);
                let (source, room) = (world.source.as_ref(), &world.room);
                let mut reading = Reading::default();
                let read =
                    range::read(source, room, &query, range, &mut reading, &mut sink, &slice);
                match read.await? {
                    Ending::Done => taken += reading.taken,
                    Ending::Failed(err) => return Err(err),
                    Ending::SliceOver => return Err(internal("an endless slice ended".to_owned())),
                }
            }
            Ok::<u64, Error>(taken)
        });
    }
    let mut exported = 0;
    while let Some(ended) = streams.join_next().await {
        // The first failure ends them all: the set is dropped.
        exported += ended.unwrap_or_else(|err| Err(internal(err.to_string())))?;
    }
    let at_end = total(source, request).await?;
    let completeness = Completeness::judge(exported, expected_at_start, at_end, request.max_assets);
    Ok(Streamed { exported, expected_at_start, completeness })
}

struct Pipe {
    output: Output,
    compression: Compression,
    page_size: u32,
    world: World,
}

impl Sink for Pipe {
    fn page_size(&self) -> u32 {
        self.page_size
    }

    async fn add(&mut self, records: Records, _reading: &Reading) -> Result<()> {
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
