//! Runs that are cancelled, interrupted or killed; commands that only read; and what libraries log of
//! all that.

use std::collections::BTreeSet;
use std::time::Duration;

use easm_export::sim::{Fault, Options, SignIn};
use serde_json::Value;

use super::planted;
use super::scene::{EXPORT, FORMATS, Scene, Told, all, assert_none, ended, scripted, watched};
use super::upstreams::UPSTREAMS;
use crate::azurite::Azurite;
use crate::support::signal;

const POLL: Duration = Duration::from_millis(20);
const POLLS_MAX: u32 = 3000;

/// How a run is ended whose second page takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Interrupt,
    Terminate,
    Kill,
    Cancel,
}

#[tokio::test]
async fn a_run_that_is_ended_tells_no_credential_and_neither_does_what_takes_it_up() {
    let ends = [End::Interrupt, End::Terminate, End::Kill, End::Cancel];
    let cases =
        ends.into_iter().flat_map(|end| FORMATS.into_iter().map(move |format| cut(end, format)));
    assert_none(&all(cases).await);
}

async fn cut(end: End, format: &str) -> Vec<String> {
    let case = format!("{end:?}, {format}");
    // Once the service echoes the token, and then it takes its time.
    let [mut echo, mut slow] = [Fault::EchoToken(503), Fault::Slow(Duration::from_secs(3))]
        .map(|fault| scripted("/assets", "mark=AoE", fault));
    (echo.times, slow.from, slow.times) = (1, 1, 1);
    let scene = Scene::new(Options { script: vec![echo, slow], ..planted::options() }).await;
    let command = |args: &[&str]| {
        let mut command = scene.command(SignIn::ClientSecret, args);
        command.env("EASM_PAGE_SIZE", "2").env("EASM_LOG_FORMAT", format);
        command
    };
    let mut child = command(&EXPORT).spawn().unwrap();
    for _ in 0..POLLS_MAX {
        let seen = scene.world.sim.requests();
        if seen.iter().filter(|seen| seen.query.contains("mark=AoE")).count() > 1 {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let run = scene.world.files().into_iter().find(|path| path.ends_with("/run.json"));
    let run = run.unwrap().split('/').nth(2).unwrap().to_owned();
    let mut found = Vec::new();
    match end {
        End::Interrupt => signal(&child, "INT"),
        End::Terminate => signal(&child, "TERM"),
        End::Kill => child.start_kill().unwrap(),
        End::Cancel => {
            let told = ended(command(&["runs", "cancel", &run])).await;
            found.extend(scene.findings(&format!("{case}, cancel"), &told));
        }
    }
    let output = child.wait_with_output().await.unwrap();
    let told = Told {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: output.stderr,
    };
    found.extend(scene.findings(&case, &told));
    if told.code == 0 {
        found.push(format!("{case}: exit code 0"));
    }
    for args in [&["export", "--json", "--resume", &run][..], &EXPORT, &["runs", "show", &run]] {
        let told = watched(command(args), || false).await;
        found.extend(scene.findings(&format!("{case}, then {args:?}"), &told));
    }
    found
}

#[tokio::test]
async fn commands_that_only_read_tell_no_credential_when_they_fail() {
    let lines: [&[&str]; 5] = [
        &["query", "--limit", "3"],
        &["query", "--json", "--kind", "host"],
        &["export", "--dry-run"],
        &["export", "--dry-run", "--json"],
        &["export", "--stdout"],
    ];
    let faults = [Fault::EchoToken(403), Fault::EchoToken(503), Fault::Garbage, Fault::Truncated];
    let mut cases = Vec::new();
    for (n, upstream) in UPSTREAMS.into_iter().enumerate() {
        for (at, line) in lines.into_iter().enumerate() {
            let fault = faults[(n + at) % faults.len()].clone();
            let format = FORMATS[(n + at) % FORMATS.len()];
            cases.push(async move {
                let case = format!("{}, {fault:?}, {line:?}, {format}", upstream.name);
                let scene = Scene::failing(upstream.path, upstream.query, fault).await;
                let mut command = scene.command(upstream.sign_in, line);
                command.env("EASM_PAGE_SIZE", "2").env("EASM_LOG_FORMAT", format);
                let was_asked = || scene.was_asked(upstream.path, upstream.query);
                let told = watched(command, was_asked).await;
                let mut found = scene.findings(&case, &told);
                if told.code == 0 && was_asked() {
                    found.push(format!("{case}: exit code 0"));
                }
                found
            });
        }
    }
    assert_none(&all(cases).await);
}

#[tokio::test]
async fn libraries_say_a_lot_at_trace_and_no_credential() {
    let test = "libraries_say_a_lot_at_trace_and_no_credential";
    let Some(azurite) = Azurite::http(test) else { return };
    let mut crates = BTreeSet::new();
    for sign_in in SignIn::ALL {
        // Once the service echoes the token, and then gets over it.
        let mut echo = scripted("/assets", "mark=*", Fault::EchoToken(503));
        echo.times = 1;
        let scene = Scene::new(Options { script: vec![echo], ..planted::options() }).await;
        let mut command = scene.command(sign_in, &EXPORT);
        command.env("EASM_LOG_FORMAT", "json");
        command.env("EASM_STORE_URL", azurite.store_url(&azurite.container()));
        let told = ended(command).await;
        assert_eq!(told.code, 0, "{sign_in:?}: {}", told.stderr_text());
        let found = scene.findings(&format!("{sign_in:?}"), &told);
        assert_none(&found);
        let text = told.stderr_text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut n_lines = 0;
        for line in lines {
            let target = line["target"].as_str().unwrap_or_default();
            let name = target.split("::").next().unwrap_or_default().to_owned();
            n_lines += usize::from(name != "easm_export");
            crates.insert(name);
        }
        assert!(n_lines > 50, "{sign_in:?}: {n_lines} lines of libraries");
    }
    for name in ["azure_core", "azure_identity", "hyper_util", "typespec_client_core"] {
        assert!(crates.contains(name), "{name} said nothing: {crates:?}");
    }
}
