//! The host double: a stand-in for the Azure Functions host that starts the custom handler, sends
//! it what the real one sends, byte for byte, and treats what it answers as the real one does.
//!
//! ```text
//! app root + settings -> app        host.json, function.json, what cannot be indexed
//! process, supervise  -> handler    start, readiness, lines, exits, restarts, SIGKILL, orphans
//! fire, listen, door  -> invoke     timers, queues, HTTP: default mode (payload, reply, outputs)
//!                                   or forward: forwarding and proxying
//! ```
//!
//! # Invariants
//! - What is sent is held against recordings of the real host (`recordings`), what varies from run
//!   to run aside.
//! - Hosts that share an [`Account`] share its queues, keys and the state of timers, and nothing
//!   else: each has a handler of its own.
//! - Nothing fires by itself but queues: a test says when a timer does.
//! - A reply that would hang the real host is a failure of its own, at once: [`Failure::Hang`].
//!
//! Start reading at [`Host::start`] and [`Host::fire`].

mod app;
mod config;
mod cron;
mod dates;
mod door;
mod fire;
mod forward;
mod invoke;
mod json;
mod listen;
mod options;
mod outputs;
mod payload;
mod payload_http;
mod process;
mod queues;
mod recordings;
mod reply;
mod route;
mod supervise;
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use app::App;
use fire::TimerStatus;
use process::kill;
use supervise::Order;

pub use dates::utc;
pub use fire::Firing;
pub use invoke::Invocation;
pub use options::HostOptions;
pub use process::{Level, Line, Orphan, Stream};
pub use queues::Queues;
pub use reply::Failure;
pub use wire::Message;

pub type Result<T> = std::result::Result<T, String>;

/// How often a condition of a test is looked at.
const POLL_PAUSE: Duration = Duration::from_millis(10);

/// What hosts share: queues, function keys, and what timers remember.
pub struct Account {
    pub queues: Queues,
    pub keys: Keys,
    timers: Mutex<BTreeMap<String, TimerStatus>>,
}

/// Keys for HTTP functions, in `x-functions-key` or `code`.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Opens functions of every level, and `/admin`.
    pub master: String,
    /// The host's key, for functions of level `function`.
    pub default: String,
    /// Keys that open one function alone, by its name.
    pub functions: BTreeMap<String, String>,
}

impl Account {
    pub fn new(queues: Queues) -> Arc<Self> {
        let key = || format!("{:032x}{:022x}==", fastrand::u128(..), fastrand::u64(..));
        let keys = Keys { master: key(), default: key(), functions: BTreeMap::new() };
        Self::with_keys(queues, keys)
    }

    pub fn with_keys(queues: Queues, keys: Keys) -> Arc<Self> {
        Arc::new(Self { queues, keys, timers: Mutex::default() })
    }

    fn timers(&self) -> MutexGuard<'_, BTreeMap<String, TimerStatus>> {
        self.timers.lock().expect("nobody panics while holding it")
    }
}

/// How a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The handler does not answer yet.
    Starting,
    Ready,
    /// The handler ended with exit code 0: it is not started again, and the host goes on.
    Gone,
    /// The host has ended.
    Stopped,
}

/// A running host. Its handler is killed when it is dropped.
pub struct Host {
    inner: Arc<Inner>,
    order: watch::Sender<Order>,
    supervisor: Mutex<Option<JoinHandle<Option<Orphan>>>>,
}

struct Inner {
    /// Among all hosts of this process.
    number: u64,
    app: App,
    options: HostOptions,
    account: Arc<Account>,
    handler_port: u16,
    front_port: u16,
    handler_pid: AtomicU32,
    state: watch::Sender<State>,
    /// Whether no new work is taken.
    is_draining: watch::Sender<bool>,
    n_in_work: watch::Sender<usize>,
    lines: Mutex<Vec<Line>>,
    invocations: Mutex<Vec<Invocation>>,
    /// Handlers that the host kills: their end does not count.
    condemned: Mutex<BTreeSet<u32>>,
    rng: Mutex<fastrand::Rng>,
}

impl Host {
    /// Reads the app, starts the handler unless there are no functions, and listens. Does not wait
    /// until the handler is ready, as the real host does not.
    pub async fn start(options: HostOptions, account: &Arc<Account>) -> Result<Self> {
        static N_HOSTS: AtomicU64 = AtomicU64::new(1);
        let app = App::read(&options.app_root, &options.settings)?;
        let said = |err: std::io::Error| format!("listen on 127.0.0.1: {err}");
        let front = TcpListener::bind(("127.0.0.1", 0)).await.map_err(said)?;
        let free = TcpListener::bind(("127.0.0.1", 0)).await.map_err(said)?;
        let handler_port = free.local_addr().map_err(said)?.port();
        drop(free);
        let inner = Arc::new(Inner {
            number: N_HOSTS.fetch_add(1, Ordering::Relaxed),
            rng: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            app,
            options,
            account: Arc::clone(account),
            handler_port,
            front_port: front.local_addr().map_err(said)?.port(),
            handler_pid: AtomicU32::new(0),
            state: watch::Sender::new(State::Starting),
            is_draining: watch::Sender::new(false),
            n_in_work: watch::Sender::new(0),
            lines: Mutex::default(),
            invocations: Mutex::default(),
            condemned: Mutex::default(),
        });
        for why in &inner.app.errors {
            inner.log(Level::Error, why);
        }
        fire::start_timers(&inner);
        let order = watch::Sender::new(Order::Live);
        let supervisor = tokio::spawn(supervise::supervise(Arc::clone(&inner), order.subscribe()));
        listen::start(&inner);
        tokio::spawn(door::serve(Arc::clone(&inner), front));
        Ok(Self { inner, order, supervisor: Mutex::new(Some(supervisor)) })
    }

    /// Waits until the handler answers.
    pub async fn ready(&self) -> Result<()> {
        match self.inner.until_ready().await {
            Ok(()) if self.state() == State::Ready => Ok(()),
            _ => Err(format!("the handler is not ready; the last lines: {:#?}", self.last_lines())),
        }
    }

    /// Where clients go: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.inner.front_port)
    }

    pub fn handler_port(&self) -> u16 {
        self.inner.handler_port
    }

    /// The process id of the present handler, or of the last one; 0 before the first.
    pub fn handler_pid(&self) -> u32 {
        self.inner.pid()
    }

    pub fn state(&self) -> State {
        *self.inner.state.borrow()
    }

    /// How many invocations are in work.
    pub fn in_work(&self) -> usize {
        *self.inner.n_in_work.borrow()
    }

    /// All lines of the log so far.
    pub fn lines(&self) -> Vec<Line> {
        self.inner.lines().clone()
    }

    /// All invocations that have ended, in the order of their ends.
    pub fn invocations(&self) -> Vec<Invocation> {
        self.inner.invocations().clone()
    }

    /// Waits until `is_so`, for `limit` at most; an error tells how the host stands then.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool, limit: Duration) -> Result<()> {
        let wait = async {
            while !is_so(self) {
                tokio::time::sleep(POLL_PAUSE).await;
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| {
            let (state, lines) = (self.state(), self.last_lines());
            format!("not so after {limit:?}: {state:?}, {} in work, {lines:#?}", self.in_work())
        })
    }

    /// Sends a body of one's own to the handler as an invocation would be sent, outside of all
    /// invocations. `path` starts with `/`.
    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Result<Message> {
        let stamp = payload::Stamp::now(self.inner.handler_port);
        let request = payload::post(path.trim_start_matches('/'), &stamp, body.as_ref());
        let answer = wire::exchange(self.inner.handler_port, &request).await;
        answer.map_err(|err| format!("POST {path}: {err}"))
    }

    /// Kills the handler as a crash would end it: it is started again, and counted.
    pub async fn kill_handler(&self) {
        kill(self.handler_pid()).await;
    }

    /// SIGTERM to the host: no new work, a wait for what is in work, then SIGKILL for the handler.
    /// If the work does not end in time, the handler is left behind.
    pub async fn stop(&self) -> Option<Orphan> {
        self.inner.is_draining.send_replace(true);
        let mut in_work = self.inner.n_in_work.subscribe();
        let limit = self.inner.options.drain_time_max;
        let drained = tokio::time::timeout(limit, in_work.wait_for(|n| *n == 0)).await.is_ok();
        let is_left = !drained || self.inner.options.leaves_orphan;
        self.end(if is_left { Order::Leave } else { Order::Kill }).await
    }

    /// SIGKILL to the host: its connections break, its messages stay hidden, and its handler is left
    /// behind, if there is one.
    pub async fn die(&self) -> Option<Orphan> {
        self.end(Order::Leave).await
    }

    async fn end(&self, order: Order) -> Option<Orphan> {
        self.inner.stop_all();
        self.order.send_replace(order);
        let supervisor = self.supervisor.lock().expect("nobody panics while holding it").take();
        supervisor?.await.unwrap_or(None)
    }

    fn last_lines(&self) -> Vec<Line> {
        const N_SHOWN: usize = 20;
        let lines = self.inner.lines();
        lines[lines.len().saturating_sub(N_SHOWN)..].to_vec()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.inner.stop_all();
        // Nobody hears it if the host was stopped before.
        self.order.send_replace(Order::Kill);
    }
}

impl Inner {
    fn pid(&self) -> u32 {
        self.handler_pid.load(Ordering::Relaxed)
    }

    fn log(&self, level: Level, text: &str) {
        let line = Line { level, text: text.to_owned(), stream: Stream::Host };
        self.lines().push(line);
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().expect("nobody panics while holding it")
    }

    fn invocations(&self) -> MutexGuard<'_, Vec<Invocation>> {
        self.invocations.lock().expect("nobody panics while holding it")
    }

    /// Whether something of this `rate` happens now.
    fn happens(&self, rate: f64) -> bool {
        self.rng.lock().expect("nobody panics while holding it").f64() < rate
    }

    /// Ends all that this host does, except its handler.
    fn stop_all(&self) {
        self.is_draining.send_replace(true);
        self.state.send_replace(State::Stopped);
        self.account.queues.let_go(self.number);
    }

    async fn stopped(&self) {
        let mut state = self.state.subscribe();
        // Fails only without a sender, and this is one.
        drop(state.wait_for(|state| *state == State::Stopped).await);
    }

    /// Waits until the handler answers, or has gone. Who waits too long stops the host.
    async fn until_ready(&self) -> std::result::Result<(), Failure> {
        let mut state = self.state.subscribe();
        let ready = state.wait_for(|state| *state != State::Starting);
        let limit = self.options.ready_time_max;
        let found = tokio::time::timeout(limit, ready)
            .await
            .ok()
            .and_then(|state| state.ok().map(|state| *state));
        match found {
            Some(State::Stopped) => Err(Failure::Stopped),
            Some(_) => Ok(()),
            None => {
                self.log(Level::Error, "Initialization timed out and host is shutting down");
                self.stop_all();
                Err(Failure::Stopped)
            }
        }
    }
}
