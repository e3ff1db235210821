//! Looks after the handler's process: starts it, asks whether it is ready, and decides what its end
//! means.
//!
//! `start -> GET / until it answers -> wait for its end, or for an order -> again, or not`

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::payload::ping;
use super::process::{Level, Line, Orphan, Process, Stream, kill, level};
use super::{Inner, State, wire};

/// Pause between two questions whether the handler is ready. Only the pauses count.
const READY_PAUSE: Duration = Duration::from_millis(25);
/// Which counted end stops the host.
const CRASHES_MAX: u32 = 3;
/// The count starts anew if the crash before is older.
const CRASH_WINDOW: Duration = Duration::from_secs(30 * 60);
/// Asks for a start that does not count.
const RESTART_CODE: i32 = 200;
/// How many lines of stderr are quoted when the handler crashed.
const LINES_QUOTED: usize = 3;

/// What is to become of the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Live,
    Kill,
    /// Leave it behind as an orphan.
    Leave,
}

/// What a handler's life came to.
enum End {
    Exit(i32),
    NeverReady,
    Ordered(Order),
}

/// Looks after the handler until the host ends. Gives the handler that was left behind, if it was.
pub async fn supervise(inner: Arc<Inner>, mut order: watch::Receiver<Order>) -> Option<Orphan> {
    let (mut n_crashes, mut crashed_at) = (0, None::<Instant>);
    if inner.app.functions.is_empty() {
        inner.log(Level::Warning, "No job functions found: the handler is not started.");
        return None;
    }
    loop {
        let mut process = match start(&inner).await {
            Ok(process) => process,
            Err(why) => {
                // No other try: invocations wait, until one has waited too long.
                inner.log(Level::Error, &why);
                return None;
            }
        };
        let pid = process.pid;
        inner.handler_pid.store(pid, std::sync::atomic::Ordering::Relaxed);
        let end = tokio::select! {
            code = process.ended() => End::Exit(code),
            // It waits for ever once the handler is ready.
            () = watch_readiness(&inner) => End::NeverReady,
            order = order.wait_for(|order| *order != Order::Live) => {
                End::Ordered(order.map_or(Order::Kill, |order| *order))
            }
        };
        if !matches!(end, End::Ordered(_)) {
            set_state(&inner, State::Starting);
        }
        let is_condemned =
            inner.condemned.lock().expect("nobody panics while holding it").remove(&pid);
        let why = match end {
            End::Ordered(Order::Leave) => return Some(process.abandon().await),
            End::Ordered(_) => {
                kill(pid).await;
                process.ended().await;
                return None;
            }
            End::Exit(0) => {
                set_state(&inner, State::Gone);
                // Nothing more happens until the host ends.
                let _order = order.wait_for(|order| *order != Order::Live).await;
                return None;
            }
            End::Exit(_) if is_condemned => continue,
            End::Exit(RESTART_CODE) => continue,
            End::Exit(code) => format!("The handler exited with code {code}. {}", quoted(&inner)),
            End::NeverReady => {
                kill(pid).await;
                process.ended().await;
                "Initializing HttpWorker timed out.".to_owned()
            }
        };
        inner.log(Level::Error, &why);
        let is_recent = crashed_at.is_some_and(|at| at.elapsed() <= CRASH_WINDOW);
        n_crashes = if is_recent { n_crashes + 1 } else { 1 };
        crashed_at = Some(Instant::now());
        if n_crashes >= CRASHES_MAX {
            inner.log(Level::Error, "Exceeded the number of handler restarts: the host stops.");
            inner.stop_all();
            return None;
        }
    }
}

/// A host that has stopped stays so.
fn set_state(inner: &Inner, state: State) {
    inner.state.send_if_modified(|found| {
        let changes = *found != State::Stopped && *found != state;
        if changes {
            *found = state;
        }
        changes
    });
}

async fn start(inner: &Arc<Inner>) -> Result<Process, String> {
    let note = {
        let inner = Arc::clone(inner);
        move |stream: Stream, text: &str| {
            let level = level(stream, text, inner.app.options.stderr_is_errors_only);
            if let Some(level) = level {
                inner.lines().push(Line { level, text: text.to_owned(), stream });
            }
        }
    };
    let (app, settings) = (&inner.app, &inner.options.settings);
    Process::start(&app.root, &app.options, settings, inner.handler_port, note).await
}

/// Ends if the handler does not become ready within its budget, and never otherwise.
async fn watch_readiness(inner: &Inner) {
    let mut waited = Duration::ZERO;
    while waited < inner.app.options.initialization {
        let request = ping(inner.handler_port);
        let limit = inner.client_limit();
        let asked = tokio::time::timeout(limit, wire::exchange(inner.handler_port, &request)).await;
        let is_refused = matches!(&asked, Ok(Err(err)) if is_socket_failure(err.kind()));
        if !is_refused {
            // Any answer will do, and anything that is no answer at all.
            set_state(inner, State::Ready);
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(READY_PAUSE).await;
        waited += READY_PAUSE;
    }
}

fn is_socket_failure(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

/// The last lines that the handler wrote to stderr as errors.
fn quoted(inner: &Inner) -> String {
    let lines = inner.lines();
    let errors = lines
        .iter()
        .rev()
        .filter(|line| line.stream == Stream::Stderr && line.level == Level::Error);
    let mut last: Vec<&str> = errors.take(LINES_QUOTED).map(|line| line.text.as_str()).collect();
    last.reverse();
    last.join("; ")
}
