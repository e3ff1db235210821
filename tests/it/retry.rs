//! What is tried again, what is not, and what is refused.

use easm_export::model::manifest::Completeness;
use easm_export::sim::{CursorFault, Fault, Options, Scripted};

use crate::support::{World, assert_same_lines, finish, waiting_line};

/// One fault for the request number `from` (and `times - 1` behind it) whose query holds `query`.
fn script(query: &str, from: u64, times: u64, fault: Fault) -> Options {
    let scripted = Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: query.to_owned(),
        from,
        times,
        fault,
    };
    Options { assets: 300, script: vec![scripted], ..Options::default() }
}

fn status(status: u16) -> Fault {
    Fault::Status { status, retry_after: None }
}

/// Requests for pages (not counts) of hosts that the simulator saw.
fn n_pages_asked(world: &World) -> usize {
    let is_page = |query: &str| query.contains("kind = \"host\"") && query.contains("mark=");
    world.sim.requests().iter().filter(|seen| is_page(&seen.query)).count()
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let soon = Some("0".to_owned());
    let faults = [
        status(408),
        status(425),
        status(429),
        Fault::Status { status: 429, retry_after: soon.clone() },
        Fault::Status { status: 503, retry_after: soon },
        status(500),
        status(502),
        status(503),
        status(504),
        Fault::NotJson(502),
        Fault::NotJson(200),
        Fault::Reset,
        Fault::CutBody,
        Fault::Truncated,
        Fault::Garbage,
    ];
    for fault in faults {
        let world = World::new(script("mark=", 3, 2, fault.clone())).await;
        let manifest = world.export(&[], 0).await;
        let case = format!("{fault:?}");
        assert_eq!(manifest.completeness, Completeness::Exact, "{case}");
        assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), &case);
    }
}

#[tokio::test]
async fn a_retry_after_is_waited_for_in_both_forms() {
    let at = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    let date = httpdate::fmt_http_date(at);
    let table = [("1".to_owned(), true), (date, true), ("soon".to_owned(), false)];
    for (retry_after, waits) in table {
        let fault = Fault::Status { status: 429, retry_after: Some(retry_after.clone()) };
        let world = World::new(script("mark=", 0, 1, fault)).await;
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_LOG", "warn");
        let done = finish(command).await.expect_code(0);
        let (_, behind) = done.stderr.split_once("pause_ms=").unwrap();
        let pause_ms: u64 = behind.split_whitespace().next().unwrap().parse().unwrap();
        // The first pause of its own is half a second at most.
        assert_eq!(pause_ms > 500, waits, "{retry_after}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_pause_longer_than_the_budget_puts_the_run_off() {
    let fault = Fault::Status { status: 429, retry_after: Some("3600".to_owned()) };
    let world = World::new(script("kind = \"host\"", 0, 1000, fault)).await;
    let line = waiting_line(world.command(&["export"])).await;
    assert!(line.contains("slow down") && line.contains("3600 s"), "{line}");
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    for code in [400, 403, 404] {
        let world = World::new(script("mark=*", 0, 1000, status(code))).await;
        let done = world.run(&["export", "--kind", "host"]).await.expect_code(1);
        let line = done.error_line();
        assert!(line.contains(&format!("status={code}")), "{line}");
        assert_eq!(n_pages_asked(&world), 1, "{code}");
        let run = world.files().into_iter().find(|path| path.ends_with("run.json")).unwrap();
        let run: serde_json::Value = world.document(&run);
        assert_eq!(run["status"], "failed");
    }
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let elsewhere = World::new(Options { assets: 10, ..Options::default() }).await;
    let to = format!("{}/stolen", elsewhere.sim.url());
    let world = World::new(script("mark=", 0, 1000, Fault::Redirect(to))).await;
    let done = world.run(&["export"]).await.expect_code(1);
    assert!(done.error_line().contains("redirect"), "{}", done.stderr);
    assert!(elsewhere.sim.requests().is_empty(), "nobody went there");
}

#[tokio::test]
async fn a_link_to_another_host_is_never_followed() {
    let world = World::new(Options { assets: 500, ..Options::default() }).await;
    let manifest = world.export(&[], 0).await;
    // The simulator's nextLink always names a foreign host. Following it would fail: there is none.
    assert_eq!(manifest.completeness, Completeness::Exact);
}

#[tokio::test]
async fn a_cursor_that_goes_round_or_never_ends_is_started_again_and_again_later() {
    for cursor in [CursorFault::Cycle, CursorFault::Endless] {
        let case = format!("{cursor:?}");
        let world = World::new(Options { assets: 900, cursor, ..Options::default() }).await;
        let line = waiting_line(world.command(&["export", "--kind", "page"])).await;
        assert!(line.contains("came back") || line.contains("nothing new"), "{case}: {line}");
        assert!(!world.files().iter().any(|path| path.ends_with("manifest.json")), "{case}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_and_asked_for_again_later() {
    let world = World::new(script("mark=", 0, 1000, Fault::EndlessBody)).await;
    let line = waiting_line(world.command(&["export", "--kind", "host"])).await;
    assert!(line.contains("larger than"), "{line}");
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_are_allowed() {
    for (concurrency, want) in [("1", 1), ("3", 3), ("64", 8)] {
        let latency = std::time::Duration::from_millis(30);
        let world = World::new(Options { assets: 1500, latency, ..Options::default() }).await;
        let mut command = world.command(&["export"]);
        command.env("EASM_CONCURRENCY", concurrency);
        finish(command).await.expect_code(0);
        let most = world.sim.state().most_at_once();
        // Planning asks ten questions at once: the whole, eight kinds, and those that are new.
        assert!((want..=want.max(10)).contains(&most) && most <= concurrency.parse().unwrap());
    }
}

#[tokio::test]
async fn loopback_is_reached_without_a_proxy() {
    let world = World::new(Options { assets: 50, ..Options::default() }).await;
    let mut command = world.command(&["export"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        // Nothing listens there.
        command.env(name, "http://127.0.0.1:9");
    }
    finish(command).await.expect_code(0);
}
