//! What is said while working: no secret, whatever happens.

use easm_export::sim::{Fault, Options, Scripted};

use crate::support::{World, finish};

/// Every secret that was alive: tokens the simulator saw, and the identity endpoint's header.
pub fn secrets(world: &World) -> Vec<String> {
    let seen = world.sim.requests();
    let tokens = seen.iter().filter_map(|seen| seen.authorization.clone());
    let mut secrets: Vec<String> = tokens.map(|value| value.replace("Bearer ", "")).collect();
    secrets.sort();
    secrets.dedup();
    let settings = world.sim.settings();
    let header = settings.iter().find(|(name, _)| *name == "IDENTITY_HEADER").unwrap();
    secrets.push(header.1.clone());
    secrets
}

/// Fails if `text` holds 16 characters in a row of one of `secrets`.
#[track_caller]
pub fn assert_clean(text: &str, secrets: &[String], case: &str) {
    let windows: std::collections::HashSet<&[u8]> =
        secrets.iter().flat_map(|secret| secret.as_bytes().windows(16)).collect();
    for (at, window) in text.as_bytes().windows(16).enumerate() {
        assert!(!windows.contains(window), "{case}: a secret at {at} of {} bytes", text.len());
    }
}

#[tokio::test]
async fn no_secret_is_said_or_written_at_any_level() {
    let echo = |status, times| Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: "mark=".to_owned(),
        from: 2,
        times,
        fault: Fault::EchoToken(status),
    };
    // Once the service echoes the token and gets over it, once it ends the run with it.
    for (status, times, code) in [(503, 2, 0), (403, 1000, 1)] {
        let options = Options {
            assets: 400,
            fault_rate: 0.1,
            script: vec![echo(status, times)],
            ..Options::default()
        };
        let world = World::new(options).await;
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_LOG", "trace").env("RUST_BACKTRACE", "1");
        let done = finish(command).await.expect_code(code);
        let secrets = secrets(&world);
        assert!(secrets.len() >= 3, "two tokens and a header");
        assert!(done.stderr.len() > 1000, "trace says a lot");
        assert_clean(&done.stderr, &secrets, "stderr");
        assert_clean(done.stdout_text(), &secrets, "stdout");
        for path in world.files().iter().filter(|path| path.ends_with(".json")) {
            let text = std::fs::read_to_string(world.exports().join(path)).unwrap();
            assert_clean(&text, &secrets, path);
        }
    }
}

/// Even what somebody typed into the wrong place is kept out of the line that refuses it.
#[tokio::test]
async fn a_secret_in_a_flag_is_not_repeated() {
    let world = World::new(Options { assets: 1, ..Options::default() }).await;
    let settings = world.sim.settings();
    let header = &settings.iter().find(|(name, _)| *name == "IDENTITY_HEADER").unwrap().1;
    let done = world.run(&["export", "--kind", header]).await.expect_code(2);
    assert!(done.error_line().contains("\"[REDACTED]\""), "{}", done.stderr);
    assert_clean(&done.stderr, std::slice::from_ref(header), "stderr");
}

#[tokio::test]
async fn logs_are_json_lines_when_asked_for_and_data_stays_alone_on_stdout() {
    let world = World::new(Options { assets: 200, fault_rate: 0.3, ..Options::default() }).await;
    let mut command = world.command(&["export", "--stdout"]);
    command.env("EASM_LOG", "debug").env("EASM_LOG_FORMAT", "json");
    let done = finish(command).await.expect_code(0);
    assert!(!done.stderr.is_empty());
    for line in done.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(done.stdout_text().lines().count(), 200);
    let mut command = world.command(&["export", "--kind", "hosts"]);
    command.env("EASM_LOG_FORMAT", "json");
    let done = finish(command).await.expect_code(2);
    let line: serde_json::Value = serde_json::from_str(done.error_line()).unwrap();
    assert!(line["message"].as_str().unwrap().contains("hosts"), "an error is a line like them");
}

#[tokio::test]
async fn a_person_gets_one_sentence() {
    let world = World::new(Options { assets: 1234, ..Options::default() }).await;
    let done = world.run(&["export"]).await.expect_code(0);
    assert!(done.stdout.is_empty());
    let line = done.error_line();
    assert!(line.starts_with("Exported 1,234 assets (exactly what the service counts)"), "{line}");
}
