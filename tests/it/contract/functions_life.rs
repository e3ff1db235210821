//! The checklist of the host's protocol that is about the process: how it starts, what it does
//! without its settings, and how it ends.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::functions_host::{Handler, Mode, free_port};
use super::functions_payload::{SLOT, ask, message as payload_of, slot, timer};
use super::world;
use crate::support::{bare_command, finish, program, signal};

/// Far more than a slice of one second.
const SLICE_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Twice the seconds that an orphan has.
const POLLS_MAX: u32 = 200;

#[tokio::test]
async fn with_nothing_but_the_port_it_answers_and_fails_what_it_is_told_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start_bare(folder.path()).await;
    handler.ping().await;
    for _ in 0..3 {
        handler.invoke("ExportTimer", &slot(SLOT)).await.expect(500);
        handler.invoke("Maintenance", &timer(&Value::Null)).await.expect(500);
    }
    for mode in Mode::BOTH {
        handler.ask(mode, &ask("GET", "/health")).await.expect(503);
        handler.ask(mode, &ask("GET", "/openapi.json")).await.expect(200);
        for path in ["/exports", "/assets"] {
            handler.ask(mode, &ask("GET", path)).await.expect_error(503, "");
        }
    }
    handler.ping().await;
    let logs = handler.end().await;
    let all = logs.stdout + &logs.stderr;
    assert!(all.contains("EASM_"), "the log names what is missing: {all}");
}

#[tokio::test]
async fn a_store_that_is_not_there_fails_the_invocation_and_not_the_handler() {
    let world = world(5).await;
    let gone = free_port();
    let gone = format!("http://127.0.0.1:{gone}/devstoreaccount1/exports");
    let handler = Handler::start(&world, &[("EASM_STORE_URL", gone.as_str())]).await;
    let (timer, list) = (slot(SLOT), ask("GET", "/exports"));
    let mut work = Box::pin(async {
        tokio::join!(
            handler.invoke("ExportTimer", &timer),
            handler.ask(Mode::Default, &list),
            handler.ask(Mode::Forwarding, &list)
        )
    });
    for _ in 0..5 {
        tokio::select! {
            () = handler.ping() => {}
            reply = &mut work => panic!("it was not even tried again: {reply:?}"),
        }
    }
    let (timer, data, forwarded) = work.await;
    timer.expect(500);
    for answer in [data, forwarded] {
        let answer = answer.expect_error(503, "");
        let seconds = &answer.headers["retry-after"];
        assert!(seconds.parse::<u64>().is_ok(), "{seconds}");
    }
    handler.ping().await;
    let stderr = handler.end().await.stderr;
    assert_ne!(stderr, "", "an invocation failed");
}

#[tokio::test]
async fn without_a_port_that_is_free_it_ends_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|addr| (addr.port().to_string(), taken)).unwrap();
    for (args, port) in [
        (&["serve"][..], None),
        (&["serve"], Some("")),
        (&["serve"], Some("many")),
        (&["serve"], Some("70000")),
        (&["serve"], Some(taken.0.as_str())),
        // With a port, to serve is what is meant.
        (&[], Some(taken.0.as_str())),
    ] {
        let mut command = bare_command(folder.path(), args);
        command.envs(port.map(|port| ("FUNCTIONS_CUSTOMHANDLER_PORT", port)));
        let done = finish(command).await;
        assert!(done.code > 0, "{args:?} {port:?}: {done:?}");
        assert!(!done.error_line().contains("panicked"), "{done:?}");
        assert!(done.stdout.is_empty(), "{args:?} {port:?}: {}", done.stdout_text());
    }
}

#[tokio::test]
async fn with_a_port_and_no_command_it_serves() {
    let world = world(5).await;
    let mut command = world.command(&[]);
    command.env("EXPORT_SCHEDULE", "0 0 6 * * *");
    let handler = Handler::spawn(world.folder.path(), command).await;
    handler.ask(Mode::Forwarding, &ask("GET", "/health")).await.expect(200);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn it_listens_on_the_loopback_address_alone() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start_bare(folder.path()).await;
    // A socket for all addresses would have this one too.
    let other = std::net::TcpStream::connect(("127.0.0.2", handler.port));
    assert!(other.is_err(), "it listens elsewhere");
    handler.end().await;
}

#[tokio::test]
async fn an_end_that_the_host_did_not_ask_for_is_no_success() {
    for name in ["TERM", "INT"] {
        let world = world(5).await;
        let mut handler = Handler::start(&world, &[]).await;
        signal(&handler.child, name);
        let limit = POLL * POLLS_MAX;
        let ended = tokio::time::timeout(limit, handler.child.wait()).await.expect("it ends");
        assert!(!ended.unwrap().success(), "a host does not start it again after a 0: {name}");
    }
}

/// Whether the process works. One that has ended may still be in the list.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_handler_whose_host_is_gone_ends_itself() {
    let world = world(5).await;
    let settings = world.command(&["serve"]);
    let settings: Vec<_> =
        settings.as_std().get_envs().map(|(n, v)| (n.to_owned(), v.unwrap().to_owned())).collect();
    let mut host = Command::new("/bin/sh");
    // Its exit code is written down by nobody: the host that would be told is gone.
    host.args(["-c", "\"$0\" serve & echo $! > pid; wait"])
        .arg(program())
        .current_dir(world.folder.path())
        .env_clear()
        .envs(settings)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let mut handler = Handler::spawn(world.folder.path(), host).await;
    let pid = std::fs::read_to_string(world.folder.path().join("pid")).unwrap();
    let pid = pid.trim();
    assert!(is_alive(pid));
    handler.ping().await;
    handler.child.kill().await.unwrap();
    for _ in 0..POLLS_MAX {
        if !is_alive(pid) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    std::process::Command::new("kill").args(["-9", pid]).status().unwrap();
    panic!("it lives on without a host");
}

#[tokio::test]
async fn nothing_that_a_caller_shows_is_written_down() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[("EASM_LOG", "trace")]).await;
    for mode in Mode::BOTH {
        for ask in [
            ask("GET", "/assets"),
            ask("POST", "/exports").body("{\"dryRun\": true}"),
            ask("GET", "/exports").header("Authorization", "Bearer of-the-caller-0123456789"),
        ] {
            handler.ask_raw(mode, &ask).await;
        }
    }
    let logs = handler.end().await;
    let all = logs.stdout + &logs.stderr;
    assert!(!all.contains("of-the-caller-0123456789"), "{all}");
}

#[tokio::test]
async fn missing_or_bad_settings_are_said_on_stderr_by_name() {
    for (name, value) in [("EASM_TENANT_ID", ""), ("EASM_PAGE_SIZE", "5000"), ("EASM_SHARDS", "x")]
    {
        let world = world(5).await;
        let handler = Handler::start(&world, &[(name, value)]).await;
        handler.invoke("ExportTimer", &slot(SLOT)).await.expect(500);
        handler.ping().await;
        let stderr = handler.end().await.stderr;
        assert!(stderr.contains(name), "{name}={value}: {stderr:?}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[tokio::test]
async fn work_that_fails_is_said_on_stderr_in_one_line() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    handler.deliver("of somebody else").await.expect(500);
    handler.ping().await;
    let stderr = handler.end().await.stderr;
    assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
}

#[tokio::test]
async fn no_invocation_works_longer_than_its_slice() {
    let world = world(5).await;
    let gone = free_port();
    let gone = format!("http://127.0.0.1:{gone}/devstoreaccount1/exports");
    let vars = [("EASM_STORE_URL", gone.as_str()), ("EASM_SLICE_SECONDS", "1")];
    let handler = Handler::start(&world, &vars).await;
    let message =
        "{\"v\":1,\"do\":\"plan\",\"target\":\"contoso\",\"runId\":\"20240305T060000Z-1a2b3c4d\"}";
    let (timer, message) = (slot(SLOT), payload_of(message));
    for (function, payload) in
        [("ExportWorker", &message), ("ExportTimer", &timer), ("Maintenance", &timer)]
    {
        let reply = tokio::time::timeout(SLICE_MAX, handler.invoke(function, payload)).await;
        assert!(reply.is_ok(), "{function} works on after {SLICE_MAX:?}");
    }
    handler.end().await;
}
