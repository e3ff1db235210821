//! The engine: moves pages from a [`Source`] to parts in a [`Store`] and keeps the books.
//!
//! `open -> plan -> carry every shard -> commit -> what follows from it`
//!
//! One engine, two drivers: [`step::step`] does one piece of work that a message asks for, for the
//! functions; [`drive::to_end`] does all of them in one process, for the command line. [`care::care`]
//! looks after what was left lying.
//!
//! # Invariants
//! - A saved checkpoint never counts a part that is not durable.
//! - A part's name carries shard, epoch and number, so a name never means two contents.
//! - The manifest is created last, and exists exactly when the run is complete.
//! - What a run is asked for is read from its own documents, never again from the settings.
//! - Starting and resuming are the same path. The process may die at any instruction.
//! - Nothing here knows Azure, HTTP, settings or the terminal. They arrive as [`World`] and [`Job`].
//!
//! Start reading at [`step::step`].

pub mod books;
pub mod care;
mod carry;
mod claim;
mod commit;
mod cut;
mod cutter;
pub mod drive;
pub mod end;
pub mod open;
mod part;
pub mod plan;
pub mod query;
mod range;
pub mod runs;
mod sample;
pub mod slice;
pub mod slots;
pub mod source;
pub mod step;
pub mod stream;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::Error;
use crate::model::target::{Inventory, Workspace};
use crate::store::Store;
use books::Books;
use source::Source;

pub use range::Room;

/// Everything outside that the engine works with.
#[derive(Clone)]
pub struct World {
    /// Where assets come from.
    pub source: Arc<dyn Source>,
    /// Where parts and documents go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who wants to know how it goes.
    pub observer: Arc<dyn Observer>,
    room: Room,
}

impl World {
    /// A world. What works in it shares the room for pages in work. Where a process has several, one for
    /// each target, they share one [`Room`] as well.
    pub fn new(
        source: Arc<dyn Source>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { source, store, clock, observer, room: Room::default() }
    }

    /// The same world, within `room`.
    #[must_use]
    pub fn within(mut self, room: Room) -> Self {
        self.room = room;
        self
    }

    /// The books of the target of `job`.
    pub fn books(&self, job: &Job) -> Books {
        Books::new(Arc::clone(&self.store), Arc::clone(&self.clock), &job.target)
    }
}

/// Told how an export goes, for a progress bar and for whoever waits.
pub trait Observer: Send + Sync {
    /// So many assets are expected.
    fn planned(&self, expected: u64);

    /// So many more assets were taken over.
    fn took(&self, records: u64);

    /// Nothing goes on before `until`, because of `because`.
    fn waits(&self, until: Timestamp, because: &Error);

    /// The store does not answer, so nothing goes on before `until`.
    fn store_is_silent(&self, until: Timestamp, because: &Error) {
        self.waits(until, because);
    }

    /// Another process works on the run, so this one only follows it.
    fn follows(&self) {}
}

/// An [`Observer`] who does not care.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn planned(&self, _expected: u64) {}

    fn took(&self, _records: u64) {}

    fn waits(&self, _until: Timestamp, _because: &Error) {}
}

/// How runs of one target are carried. What they are asked for stands in their own documents.
#[derive(Debug, Clone)]
pub struct Job {
    /// Name of the target.
    pub target: String,
    /// Where its assets are, for the manifest.
    pub workspace: Workspace,
    /// The workspace that its runs are of.
    pub inventory: Inventory,
    /// The data plane's api-version, for the manifest.
    pub api_version: String,
    /// Most assets of a page.
    pub page_size: u32,
    /// Most shards of a run, each with one cursor at a time.
    pub shards: u32,
    /// Most assets of a range, where the service lets it be cut.
    pub range_assets_max: u64,
    /// Uncompressed bytes after which a part is closed.
    pub part_bytes_max: u64,
    /// How long a run may wait without saving anything.
    pub idle_max: Duration,
}
