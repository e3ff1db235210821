//! The handler's life: environment, readiness, lines, ends, timeouts, orphans.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::{AppRoot, LIMIT, TIMER, memory};
use crate::host::process::{gone, is_alive};
use crate::host::{Failure, Firing, Host, Level, State, Stream, utc};

const ONE_TIMER: &[(&str, &[&str])] = &[("job", &[TIMER])];

fn slot() -> Firing {
    Firing::at(utc("2026-11-22T06:00:00Z"))
}

/// Lines on stdout that are `text`.
fn count(host: &Host, text: &str) -> usize {
    let lines = host.lines();
    lines.iter().filter(|line| line.stream == Stream::Stdout && line.text == text).count()
}

/// The parent of a process.
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn the_handler_gets_the_settings_and_the_hosts_variables() {
    let shell = "env; pwd; grep SigIgn /proc/$$/status; wc -c; exit 0";
    let app = AppRoot::shell(ONE_TIMER, json!({}), shell);
    let options = app.options().set("EXPORT_SCHEDULE", "0 0 6 * * *");
    let host = Host::start(options, &memory()).await.unwrap();
    host.until(|host| host.state() == State::Gone, LIMIT).await.unwrap();
    let lines = host.lines();
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let value = |name: &str| {
        let found = texts.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name} in {texts:#?}"))
    };
    let root = app.path().to_str().unwrap();
    assert_eq!(value("FUNCTIONS_CUSTOMHANDLER_PORT"), host.handler_port().to_string());
    assert_eq!(value("FUNCTIONS_HTTPWORKER_PORT"), host.handler_port().to_string());
    assert_eq!(value("FUNCTIONS_CUSTOMHANDLER_WORKER_ID"), value("FUNCTIONS_HTTPWORKER_ID"));
    assert_eq!(value("FUNCTIONS_APP_ROOT_PATH"), root);
    assert_eq!(value("EXPORT_SCHEDULE"), "0 0 6 * * *");
    assert!(!texts.iter().any(|line| line.starts_with("HOME=")), "nothing of ours: {texts:#?}");
    assert!(texts.contains(&root), "it works in the app root: {texts:#?}");
    // Bit 12: SIGPIPE, number 13.
    let ignored = texts.iter().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_ne!(u64::from_str_radix(ignored.trim(), 16).unwrap() & (1 << 12), 0, "{ignored}");
    assert!(texts.contains(&"0"), "stdin is at its end: {texts:#?}");
}

#[tokio::test]
async fn an_end_means_what_the_table_says() {
    // The line of shell, how often it is started, and how the host stands then.
    let cases = [
        ("exit 0", 1, State::Gone),
        ("exit 3", 3, State::Stopped),
        ("kill -s KILL $$", 3, State::Stopped),
        ("echo x >>n; test $(wc -l <n) -gt 4 && exit 0; exit 200", 5, State::Gone),
    ];
    for (shell, n_starts, state) in cases {
        let app = AppRoot::shell(ONE_TIMER, json!({}), &format!("echo started; {shell}"));
        let host = app.start().await;
        host.until(|host| host.state() == state, LIMIT).await.unwrap();
        assert_eq!(count(&host, "started"), n_starts, "{shell}");
        let result = host.fire("job", &slot()).await.result;
        match state {
            State::Gone => assert!(matches!(result, Err(Failure::Transport(_))), "{result:?}"),
            _ => assert_eq!(result, Err(Failure::Stopped)),
        }
    }
}

#[tokio::test]
async fn a_handler_that_is_never_ready_is_killed_and_counted() {
    let host = json!({"customHandler": {"initializationTimeout": "00:00:00.050"}});
    let app = AppRoot::shell(ONE_TIMER, host, "echo started; exec sleep 1000");
    let host = app.start().await;
    host.until(|host| host.state() == State::Stopped, LIMIT).await.unwrap();
    let n_late = host.lines().iter().filter(|line| line.text.contains("timed out")).count();
    assert_eq!(n_late, 3);
    assert!(gone(host.handler_pid(), LIMIT).await);
    host.ready().await.expect_err("it has stopped");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_tried_again() {
    let app = AppRoot::with(ONE_TIMER, json!({}), json!({"defaultExecutablePath": "not-there"}));
    let mut options = app.options();
    options.ready_time_max = Duration::from_millis(50);
    let host = Host::start(options, &memory()).await.unwrap();
    assert_eq!(host.fire("job", &slot()).await.result, Err(Failure::Stopped));
    assert_eq!((host.state(), host.handler_pid()), (State::Stopped, 0));
    let failed = host.lines().iter().filter(|line| line.text.contains("Failed to start")).count();
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn without_functions_the_handler_is_not_started() {
    let app = AppRoot::new(&[], json!({}));
    let host = app.start().await;
    let said = |host: &Host| host.lines().iter().any(|line| line.text.contains("not started"));
    host.until(said, LIMIT).await.unwrap();
    assert_eq!((host.handler_pid(), host.stop().await.is_none()), (0, true));
}

#[tokio::test]
async fn lines_of_the_handler_are_classified() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = app.start().await;
    host.ready().await.unwrap();
    let level = |text: &str| {
        host.lines().iter().find(|line| line.text == text).map(|line| (line.level, line.stream))
    };
    host.until(|_| level("a Warning on stderr").is_some(), LIMIT).await.unwrap();
    assert_eq!(level("stdout speaks"), Some((Level::Information, Stream::Stdout)));
    assert_eq!(level("a Warning on stderr"), Some((Level::Warning, Stream::Stderr)));
}

#[tokio::test]
async fn three_kills_end_the_host_and_the_port_stays() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = app.start().await;
    let mut pids = Vec::new();
    for _ in 0..3 {
        host.until(|host| host.state() == State::Ready, LIMIT).await.unwrap();
        let pid = host.handler_pid();
        assert!(!pids.contains(&pid) && is_alive(pid));
        assert_eq!(host.fire("job", &slot()).await.result, Ok(None));
        pids.push(pid);
        host.kill_handler().await;
        host.until(|host| host.state() != State::Ready, LIMIT).await.unwrap();
    }
    host.until(|host| host.state() == State::Stopped, LIMIT).await.unwrap();
}

#[tokio::test]
async fn an_invocation_in_work_fails_when_the_handler_dies() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = Host::start(app.options().set("DO", "exit 3"), &memory()).await.unwrap();
    let invocation = host.fire("job", &slot()).await;
    assert!(matches!(invocation.result, Err(Failure::Transport(_))), "{:?}", invocation.result);
}

#[tokio::test]
async fn a_timeout_kills_the_handler_and_does_not_count() {
    let app = AppRoot::new(ONE_TIMER, json!({"functionTimeout": "00:00:01"}));
    let host = Host::start(app.options().set("DO", "wait"), &memory()).await.unwrap();
    host.ready().await.unwrap();
    let mut pid = host.handler_pid();
    assert_eq!(host.fire("job", &slot()).await.result, Err(Failure::Timeout));
    assert!(gone(pid, LIMIT).await);
    // A third counted end would stop the host.
    for n_kills in 0..3 {
        let is_next = |host: &Host| host.handler_pid() != pid && host.state() == State::Ready;
        host.until(is_next, LIMIT).await.unwrap_or_else(|why| panic!("{n_kills} kills: {why}"));
        pid = host.handler_pid();
        if n_kills < 2 {
            host.kill_handler().await;
        }
    }
}

#[tokio::test]
async fn a_reply_that_would_hang_is_said_at_once() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    for command in ["empty", "say null"] {
        let host = Host::start(app.options().set("DO", command), &memory()).await.unwrap();
        assert_eq!(host.fire("job", &slot()).await.result, Err(Failure::Hang), "{command}");
    }
}

#[tokio::test]
async fn a_stop_kills_a_handler_that_has_nothing_to_do() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = app.start().await;
    host.ready().await.unwrap();
    let pid = host.handler_pid();
    assert!(host.stop().await.is_none());
    assert!(gone(pid, LIMIT).await);
    assert_eq!(host.state(), State::Stopped);
}

#[tokio::test]
async fn a_stop_with_work_left_leaves_an_orphan() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let mut options = app.options().set("DO", "wait");
    options.drain_time_max = Duration::from_millis(50);
    let host = Host::start(options, &memory()).await.unwrap();
    host.ready().await.unwrap();
    let firing = slot();
    let stop = async {
        host.until(|host| host.in_work() == 1, LIMIT).await.unwrap();
        host.stop().await
    };
    let (invocation, orphan) = tokio::join!(host.fire("job", &firing), stop);
    assert_eq!(invocation.result, Err(Failure::Stopped));
    assert!(orphan.unwrap().is_alive());
}

#[tokio::test]
async fn a_dead_host_leaves_a_true_orphan() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = app.start().await;
    host.ready().await.unwrap();
    let (pid, keeper) = (host.handler_pid(), parent(host.handler_pid()));
    let orphan = host.die().await.unwrap();
    assert_eq!(orphan.pid, pid);
    assert!(orphan.is_alive());
    assert_ne!(parent(pid), keeper);
    assert!(!orphan.ended(Duration::ZERO).await);
    // Nobody cares for it any more.
    drop(orphan);
    assert!(gone(pid, LIMIT).await);
}

#[tokio::test]
async fn a_host_that_is_dropped_takes_its_handler_along() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let host = app.start().await;
    host.ready().await.unwrap();
    let pid = host.handler_pid();
    drop(host);
    assert!(gone(pid, LIMIT).await);
}

#[tokio::test]
async fn a_stop_may_leave_an_idle_handler_behind() {
    let app = AppRoot::new(ONE_TIMER, json!({}));
    let mut options = app.options();
    options.leaves_orphan = true;
    let host = Host::start(options, &memory()).await.unwrap();
    host.ready().await.unwrap();
    assert!(host.stop().await.unwrap().is_alive());
}
