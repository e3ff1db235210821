//! Who acts in a world: workers, maintenance, timers, callers, terminals, somebody who cancels, and
//! clocks that go wrong. Everybody may be killed or stand still at any moment.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use easm_export::error::{Error, Kind, Result};
use easm_export::export::books::Books;
use easm_export::export::care::care;
use easm_export::export::open::{Keyed, Opened, Opening, open, open_by_key};
use easm_export::export::slice::Slice;
use easm_export::export::step::{After, Message, step};
use easm_export::export::{Job, Nobody, World, drive, end};
use easm_export::model::asset::AssetKind;
use easm_export::model::manifest::Manifest;
use easm_export::model::request::{Compression, Dataset, Format, Request};
use easm_export::model::run::{RunId, Trigger};
use easm_export::model::target::{Inventory, Workspace};
use tokio::time::{Sleep, sleep};

use super::fate::{Fate, SimClock, time_at};
use super::profile::{Processes, Profile, hours, minutes};
use super::queue::Queue;
use super::source::SimSource;
use super::store::SimStore;

/// Name of the only target.
pub const TARGET: &str = "contoso";

/// Longest time for which a process stands still. With the time that a request may be on its way it
/// stays below the hour for which maintenance looks at what ended.
const STALL_MAX: Duration = minutes(30);

/// A message of the queue, with few words.
#[derive(Clone)]
pub struct Work(Message);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { r#do, run_id, shard, .. } = &self.0;
        let shard = shard.map_or(String::new(), |shard| format!(" {shard}"));
        write!(f, "{do:?}{shard} of {run_id}")
    }
}

/// Everything that a world's actors share.
pub struct Town {
    pub fate: Arc<Fate>,
    pub profile: Profile,
    pub store: SimStore,
    pub source: SimSource,
    pub queue: Queue<Work>,
    pub job: Job,
    clocks: Mutex<Vec<Arc<SimClock>>>,
    /// Openers and terminals that are at something.
    pub n_busy: AtomicUsize,
    /// What callers with a key were told, by key and body: all of them the same.
    told: Mutex<BTreeMap<String, RunId>>,
    pub seen: Seen,
}

/// What was seen to happen, to know that the worlds are as bad as they should be.
#[derive(Default)]
pub struct Seen {
    pub kills: AtomicUsize,
    pub put_off: AtomicUsize,
    pub lost: AtomicUsize,
    pub failed_steps: AtomicUsize,
    pub steps: AtomicUsize,
    pub joins: AtomicUsize,
    pub resumes: AtomicUsize,
}

/// One more of `n`.
fn count(n: &AtomicUsize) {
    n.fetch_add(1, Ordering::Relaxed);
}

/// What is asked for: the target's own request, or another.
pub fn request(n: usize) -> Request {
    let some = vec![AssetKind::Domain, AssetKind::Host, AssetKind::IpAddress];
    Request {
        datasets: vec![Dataset::Assets],
        filter: String::new(),
        kinds: if n == 1 { some } else { AssetKind::ALL.to_vec() },
        format: Format::Ndjson,
        compression: Compression::None,
        columns: Vec::new(),
        max_assets: (n == 2).then_some(7),
    }
}

/// Work that may be killed between any two of its steps, or stand still for a while.
struct Mortal<F> {
    work: Pin<Box<F>>,
    polls_left: Option<usize>,
    killed_at: Option<Pin<Box<Sleep>>>,
    polls_to_stall: Option<(usize, Duration)>,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Fewer by one; `true`: none is left.
fn count_down(left: &mut usize) -> bool {
    *left = left.saturating_sub(1);
    *left == 0
}

impl<F: Future> Future for Mortal<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(stalled) = &mut self.stalled {
            if stalled.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.stalled = None;
        }
        if self.polls_left.as_mut().is_some_and(count_down) {
            return Poll::Ready(None);
        }
        if self.killed_at.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(None);
        }
        if let Some((left, duration)) = &mut self.polls_to_stall
            && count_down(left)
        {
            let mut stalled = Box::pin(sleep(*duration));
            let is_pending = stalled.as_mut().poll(cx).is_pending();
            self.polls_to_stall = None;
            if is_pending {
                self.stalled = Some(stalled);
                return Poll::Pending;
            }
        }
        self.work.as_mut().poll(cx).map(Some)
    }
}

/// What `work` gives. `None`: it was killed.
async fn mortal<F: Future>(fate: &Fate, processes: &Processes, work: F) -> Option<F::Output> {
    let (mut polls_left, mut killed_at, mut polls_to_stall) = (None, None, None);
    if fate.strikes(processes.killed) {
        match fate.below(2) {
            0 => polls_left = Some(1 + fate.below(60)),
            _ => {
                let after = fate.between(Duration::from_millis(1), minutes(5));
                killed_at = Some(Box::pin(sleep(after)));
            }
        }
    }
    if fate.strikes(processes.stalled) {
        let duration = fate.between(Duration::from_secs(1), STALL_MAX);
        polls_to_stall = Some((1 + fate.below(40), duration));
    }
    Mortal { work: Box::pin(work), polls_left, killed_at, polls_to_stall, stalled: None }.await
}

impl Town {
    pub fn new(fate: &Arc<Fate>, profile: Profile) -> Arc<Self> {
        let Profile { store, source, queue, inventory, .. } = profile.clone();
        let job = Job {
            target: TARGET.to_owned(),
            workspace: Workspace {
                tenant_id: String::new(),
                subscription_id: String::new(),
                resource_group: String::new(),
                workspace: TARGET.to_owned(),
                region: String::new(),
            },
            inventory: Inventory::default(),
            api_version: String::new(),
            page_size: profile.page_size,
            shards: profile.shards,
            range_assets_max: profile.range_assets_max,
            part_bytes_max: profile.part_bytes_max,
            idle_max: profile.idle_max,
        };
        Arc::new(Self {
            fate: Arc::clone(fate),
            store: SimStore::new(fate, store),
            source: SimSource::new(fate, source, inventory),
            queue: Queue::new(fate, queue),
            profile,
            job,
            clocks: Mutex::default(),
            n_busy: AtomicUsize::new(0),
            told: Mutex::default(),
            seen: Seen::default(),
        })
    }

    /// A process's clock.
    fn clock(&self) -> Arc<SimClock> {
        let clock = SimClock::new(&self.fate);
        self.clocks.lock().unwrap().push(Arc::clone(&clock));
        clock
    }

    fn world(&self, who: &str, clock: &Arc<SimClock>) -> World {
        let (source, store) = (Arc::new(self.source.of(who)), Arc::new(self.store.of(who)));
        World::new(source, store, Arc::clone(clock) as _, Arc::new(Nobody))
    }

    fn books(&self, who: &str, clock: &Arc<SimClock>) -> Books {
        Books::new(Arc::new(self.store.of(who)), Arc::clone(clock) as _, TARGET)
    }

    /// Does `work` as the process `who`. `None`: it was killed.
    async fn mortal<F: Future>(&self, who: &str, work: F) -> Option<F::Output> {
        let done = mortal(&self.fate, &self.profile.processes, work).await;
        if done.is_none() {
            count(&self.seen.kills);
            self.fate.note(format_args!("{who}: is killed"));
        }
        done
    }

    /// Notes a failure, and sees that it is one that may be.
    fn failed(&self, who: &str, err: &Error) {
        self.fate.note(format_args!("{who}: fails: {err}"));
        match err.kind() {
            Kind::Internal | Kind::Store | Kind::Newer | Kind::Config | Kind::Usage => {
                self.fate.broken(format_args!("{who}: nothing should lead to this: {err}"));
            }
            _ => {}
        }
    }

    fn reply_is_lost(&self, who: &str) -> bool {
        let is_lost = self.fate.strikes(self.profile.processes.reply_lost);
        if is_lost {
            self.fate.note(format_args!("{who}: its reply is lost"));
        }
        is_lost
    }

    /// Waits until the world's age `at`; `false`: it calms down before.
    async fn wait_until(&self, at: Duration) -> bool {
        sleep(at.saturating_sub(self.fate.age())).await;
        !self.fate.is_calm()
    }

    fn some_time(&self) -> Duration {
        let share = self.fate.below(1000);
        self.profile.calm_at.mul_f64(share as f64 / 1000.0)
    }

    /// Takes messages and does what they ask for.
    pub async fn work(self: Arc<Self>, n: usize) {
        let clock = self.clock();
        for n_step in 1.. {
            let delivery = self.queue.take().await;
            let who = format!("worker{n}.{n_step}");
            self.fate.note(format_args!("{who}: takes {:?}", delivery.message));
            count(&self.seen.steps);
            let world = self.world(&who, &clock);
            let slice = Slice::of(self.profile.slice);
            let work = step(&world, &self.job, &delivery.message.0, &slice);
            let Some(after) = self.mortal(&who, work).await else {
                // The host starts it anew.
                self.fate.pause(Duration::from_secs(1), minutes(3)).await;
                continue;
            };
            match &after {
                Ok(after) => self.fate.note(format_args!("{who}: {}", words(after))),
                Err(err) => self.failed(&who, err),
            }
            let (is_ok, messages) = match after {
                Ok(After::Go(messages)) => (true, messages),
                Ok(After::PutOff { .. }) => {
                    count(&self.seen.put_off);
                    (true, Vec::new())
                }
                Ok(After::Lost) => {
                    count(&self.seen.lost);
                    (true, Vec::new())
                }
                Ok(After::Ended) => (true, Vec::new()),
                Ok(After::Failed(err)) => {
                    self.failed(&who, &err);
                    (false, Vec::new())
                }
                Err(_) => {
                    count(&self.seen.failed_steps);
                    (false, Vec::new())
                }
            };
            if self.reply_is_lost(&who) {
                continue;
            }
            for message in messages {
                self.queue.put(&who, Work(message));
            }
            // The host writes what goes out before it acknowledges what came in.
            match is_ok {
                _ if self.reply_is_lost(&who) => {}
                true => self.queue.done(&delivery),
                false => self.queue.failed(&delivery),
            }
        }
    }

    /// Looks after runs every five minutes.
    pub async fn care(self: Arc<Self>, n: usize) {
        let clock = self.clock();
        for n_pass in 1.. {
            self.fate.pause(minutes(4), minutes(6)).await;
            let who = format!("care{n}.{n_pass}");
            let books = self.books(&who, &clock);
            let mut messages = Vec::new();
            let looked = care(&books, self.job.idle_max, &mut messages);
            let Some(cared) = self.mortal(&who, looked).await else { continue };
            if let Err(err) = cared {
                self.failed(&who, &err);
            }
            // What was given out before it failed goes on the queue too.
            if !self.reply_is_lost(&who) {
                messages.into_iter().for_each(|message| self.queue.put(&who, Work(message)));
            }
        }
    }

    /// Opens the run of a slot, perhaps twice.
    pub async fn fire(self: Arc<Self>, n: usize) {
        let (clock, n_slot) = (self.clock(), u32::try_from(n).unwrap());
        let slot = self.profile.openers.slot_every * (n_slot + 1);
        let late = self.fate.between(Duration::from_millis(10), minutes(20));
        if !self.wait_until(slot + late).await {
            return;
        }
        let at = time_at(slot);
        let who = format!("timer{n}");
        let open_once = async |who: String| {
            self.fate.pause(Duration::from_millis(1), Duration::from_secs(30)).await;
            let books = self.books(&who, &clock);
            let opening = Opening {
                run_id: RunId::new(at, 0x5107_0000 + n_slot),
                request: request(0),
                trigger: Trigger::Timer,
                slot: Some(at),
                started_at: easm_clock(&clock),
                publishes: true,
                workspace: None,
            };
            if let Some(opened) = self.mortal(&who, open(&books, &opening)).await {
                self.opened(&who, opened);
            }
        };
        match self.fate.below(3) {
            0 => open_once(who).await,
            1 => {
                // Two instances at once.
                tokio::join!(open_once(format!("{who}a")), open_once(format!("{who}b")));
            }
            _ => {
                open_once(format!("{who}a")).await;
                self.fate.pause(Duration::from_secs(1), hours(12)).await;
                if !self.fate.is_calm() {
                    open_once(format!("{who}b")).await;
                }
            }
        }
    }

    fn opened(&self, who: &str, opened: Result<Opened>) {
        let id = match opened {
            Ok(Opened::Ours(id)) => id,
            Ok(Opened::Joined(id)) => {
                count(&self.seen.joins);
                id
            }
            Ok(Opened::Skipped { by }) => {
                self.fate.note(format_args!("{who}: is skipped, for {by}"));
                return;
            }
            Ok(Opened::Ended(run)) => {
                self.fate.note(format_args!("{who}: {} has ended", run.run_id));
                return;
            }
            Err(err) => return self.failed(who, &err),
        };
        self.fate.note(format_args!("{who}: {id} is in work"));
        if !self.reply_is_lost(who) {
            self.queue.put(who, Work(Message::plan(TARGET, &id)));
        }
    }

    /// Asks for runs over HTTP.
    pub async fn post(self: Arc<Self>, n: usize) {
        let clock = self.clock();
        if !self.wait_until(self.some_time()).await {
            return;
        }
        let wanted = request([0, 0, 1, 2][self.fate.below(4)]);
        let (key, body) = (format!("key-{}", n % 2), format!("{wanted:?}"));
        let has_key = self.fate.below(2) == 0;
        for n_try in 0..1 + self.fate.below(3) {
            let who = format!("post{n}.{n_try}");
            let (books, now) = (self.books(&who, &clock), easm_clock(&clock));
            let publishes = wanted == request(0);
            let opening = Opening::now(wanted.clone(), Trigger::Http, now, publishes);
            if has_key {
                let work = open_by_key(&books, &key, body.as_bytes(), &opening);
                match self.mortal(&who, work).await {
                    None => {}
                    Some(Err(err)) => self.failed(&who, &err),
                    Some(Ok(Keyed::OtherBody)) => {
                        self.fate.note(format_args!("{who}: {key} was used with another body"));
                    }
                    Some(Ok(Keyed::Run { target, run_id })) => {
                        self.fate.note(format_args!("{who}: {key} stands for {run_id}"));
                        self.queue.put(&who, Work(Message::plan(&target, &run_id)));
                        let mut told = self.told.lock().unwrap();
                        let before =
                            told.entry(format!("{key} {body}")).or_insert_with(|| run_id.clone());
                        if *before != run_id {
                            self.fate.broken(format_args!(
                                "{who}: {key} stood for {before} and now for {run_id}"
                            ));
                        }
                    }
                }
            } else if let Some(opened) = self.mortal(&who, open(&books, &opening)).await {
                self.opened(&who, opened);
            }
            self.fate.pause(Duration::from_millis(1), hours(2)).await;
            if self.fate.is_calm() {
                return;
            }
        }
    }

    /// Exports at a terminal: to the end, or until it is killed or interrupted, and then again.
    pub async fn type_export(self: Arc<Self>, n: usize) {
        let clock = self.clock();
        if !self.wait_until(self.some_time()).await {
            return;
        }
        count(&self.n_busy);
        let wanted = request([0, 0, 1][self.fate.below(3)]);
        let mut last: Option<RunId> = None;
        for n_try in 0..4 {
            if n_try > 0 && self.fate.is_calm() {
                break;
            }
            let who = format!("terminal{n}.{n_try}");
            let resumed = last.take().filter(|_| self.fate.below(2) == 0);
            match self.mortal(&who, self.export(&who, &clock, &wanted, resumed, &mut last)).await {
                None => {}
                Some(Ok(manifest)) => {
                    self.fate.note(format_args!("{who}: {} is complete", manifest.run_id));
                    let state = self.store.state();
                    let run = state.runs.get(manifest.run_id.as_str());
                    let stored = run.and_then(|run| run.manifest.as_ref());
                    let is_stored = stored.is_some_and(|(_, stored)| *stored == manifest);
                    drop(state);
                    if !is_stored {
                        self.fate.broken(format_args!("{who}: gives a manifest not stored"));
                    }
                    break;
                }
                Some(Err(err)) => self.failed(&who, &err),
            }
            self.fate.pause(Duration::from_secs(1), hours(3)).await;
        }
        self.n_busy.fetch_sub(1, Ordering::Relaxed);
    }

    async fn export(
        &self,
        who: &str,
        clock: &Arc<SimClock>,
        wanted: &Request,
        resumed: Option<RunId>,
        last: &mut Option<RunId>,
    ) -> Result<Manifest> {
        let (world, books) = (self.world(who, clock), self.books(who, clock));
        easm_export::export::care::repair(&books).await;
        let id = match resumed {
            Some(id) => {
                self.fate.note(format_args!("{who}: resumes {id}"));
                drive::resume(&books, &id).await?;
                count(&self.seen.resumes);
                id
            }
            None => {
                let publishes = *wanted == request(0);
                let now = easm_clock(clock);
                let opening = Opening::now(wanted.clone(), Trigger::Cli, now, publishes);
                drive::begin(&world, &self.job, &opening).await?.0
            }
        };
        self.fate.note(format_args!("{who}: exports {id}"));
        *last = Some(id.clone());
        let patience = self.fate.between(Duration::from_secs(1), hours(24));
        let is_interrupted = self.fate.strikes(0.3);
        let interrupt = async {
            match is_interrupted {
                true => sleep(patience).await,
                false => std::future::pending().await,
            }
        };
        drive::to_end(&world, &self.job, &id, interrupt).await
    }

    /// Cancels what is in work.
    pub async fn cancel(self: Arc<Self>, n: usize) {
        let clock = self.clock();
        if !self.wait_until(self.some_time()).await {
            return;
        }
        let ids: Vec<String> = {
            let state = self.store.state();
            let runs = state.runs.iter().filter(|(_, run)| run.released_at.is_none());
            runs.map(|(id, _)| id.clone()).collect()
        };
        if ids.is_empty() {
            return;
        }
        let id = RunId::parse(&ids[self.fate.below(ids.len())]).unwrap();
        let who = format!("cancel{n}");
        self.fate.note(format_args!("{who}: asks for the end of {id}"));
        let books = self.books(&who, &clock);
        match self.mortal(&who, end::cancel(&books, &id)).await {
            None => {}
            Some(Ok(run)) => self.fate.note(format_args!("{who}: {id} is {:?}", run.status)),
            // Whoever opened it died before it had a run.json.
            Some(Err(err)) if err.kind() == Kind::NotFound => {}
            Some(Err(err)) => self.failed(&who, &err),
        }
    }

    /// Has clocks go wrong now and then.
    pub async fn jump(self: Arc<Self>) {
        let Some(every) = self.profile.processes.jump_every else { return };
        loop {
            self.fate.pause(every / 10, every * 4).await;
            if self.fate.is_calm() {
                return;
            }
            let offset = self.fate.between(Duration::from_secs(30), hours(8));
            let offset_ms = i64::try_from(offset.as_millis()).unwrap();
            let offset_ms = [offset_ms, -offset_ms, 0][self.fate.below(3)];
            let clocks = self.clocks.lock().unwrap();
            let n = self.fate.below(clocks.len());
            self.fate.note(format_args!("clock {n}: is off by {offset_ms} ms"));
            clocks[n].jump(offset_ms);
        }
    }
}

/// What a process takes for the time.
fn easm_clock(clock: &Arc<SimClock>) -> easm_export::clock::Timestamp {
    easm_export::clock::Clock::now(clock.as_ref())
}

/// What follows from a step, in few words.
fn words(after: &After) -> String {
    match after {
        After::Go(messages) => format!("gives {} messages", messages.len()),
        After::PutOff { until, because } => {
            let because = because.as_ref().map(Error::to_string).unwrap_or_default();
            format!("puts off until {until}: {because}")
        }
        After::Failed(err) => format!("ends the run: {err}"),
        After::Ended => "the run has ended".to_owned(),
        After::Lost => "somebody else does it".to_owned(),
    }
}
