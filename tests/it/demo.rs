//! `demo` and `simulate`: what a person sees first.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{bare_command, finish, gunzip};

#[tokio::test]
async fn the_demo_exports_everything_and_says_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    // Settings of a real target must not get in the way, in whichever form.
    std::fs::write(folder.path().join(".env"), "EASM_FILTER=nonsense(\n").unwrap();
    let mut command = bare_command(folder.path(), &["demo"]);
    command.env("EASM_WORKSPACE", "real").env("EASM_KINDS", "host");
    let done = finish(command).await.expect_code(0);
    let text = done.stdout_text();
    assert!(text.starts_with("Exported 2,000 made-up assets"), "{text}");

    let named = |ending: &str| {
        let word = text.split_whitespace().find(|word| word.ends_with(ending)).unwrap();
        folder.path().join(word)
    };
    assert!(named("latest.json").is_file());
    assert!(named("manifest.json").is_file());
    let files = named("part-*.ndjson.gz");
    let run = files.parent().unwrap().parent().unwrap();
    let mut n_lines = 0;
    for kind in std::fs::read_dir(run).unwrap() {
        for part in std::fs::read_dir(kind.unwrap().path()).unwrap() {
            let stored = std::fs::read(part.unwrap().path()).unwrap();
            n_lines += gunzip(&stored).iter().filter(|byte| **byte == b'\n').count();
        }
    }
    assert_eq!(n_lines, 2000);
}

#[tokio::test]
async fn the_simulator_prints_the_settings_to_use_it_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bare_command(folder.path(), &["simulate", "--assets", "50"]);
    let mut simulator = command.stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let mut export = bare_command(folder.path(), &["export", "--stdout"]);
    loop {
        let wait = tokio::time::timeout(Duration::from_secs(60), lines.next_line());
        let line = wait.await.expect("settings in time").unwrap().unwrap();
        let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
        export.env(name, value.trim_matches('\''));
        if name == "IDENTITY_HEADER" {
            break;
        }
    }
    export.env("EASM_FILTER", "");
    let done = finish(export).await.expect_code(0);
    assert_eq!(done.stdout_text().lines().count(), 50);
    simulator.kill().await.unwrap();
}

#[tokio::test]
async fn the_simulator_prints_the_settings_of_a_vault() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["simulate", "--assets", "1", "--credential", "key-vault"];
    let mut simulator =
        bare_command(folder.path(), &args).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let mut settings = Vec::new();
    loop {
        let wait = tokio::time::timeout(Duration::from_secs(60), lines.next_line());
        let line = wait.await.expect("settings in time").unwrap().unwrap();
        let is_last = line.starts_with("export EASM_KEY_VAULT_URL='https://127.0.0.1:");
        settings.push(line);
        if is_last {
            break;
        }
    }
    for wanted in [
        "export EASM_CREDENTIAL='client-secret'",
        "export EASM_CLIENT_SECRET_NAME='easm-client-secret'",
    ] {
        assert!(settings.iter().any(|line| line == wanted), "{settings:?}");
    }
    let is_secret = |line: &String| line.starts_with("export EASM_CLIENT_SECRET=");
    assert!(!settings.iter().any(is_secret), "{settings:?}");
    simulator.kill().await.unwrap();
}
