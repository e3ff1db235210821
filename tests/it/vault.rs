//! The client secret in Key Vault, from outside: who reads it, how often, what happens when it is
//! replaced, and what is said when there is none.

mod proxied;
mod wrong;

use std::sync::Arc;
use std::time::Duration;

use easm_export::clock::Timestamp;
use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::sim::{
    APP_CLIENT_ID, Audience, CLIENT_SECRET_NAME, Fault, Options, Scripted, SecretVersion, SignIn,
    VaultRefusal,
};
use tokio::process::Command;

use crate::logs::{assert_clean, secrets};
use crate::support::{Done, World, assert_same_lines, bare_command, finish, waiting_line};

/// Seconds since 1970 of a September long ago.
const LONG_AGO: u64 = 1_600_000_000;
const DAY_S: u64 = 24 * 3600;

fn small() -> Options {
    Options { assets: 60, asset_bytes: 900, ..Options::default() }
}

/// An inventory whose client secret is in the vault since long ago.
async fn world(options: Options) -> World {
    let world = World::new(options).await;
    change(&world, |version| version.created = LONG_AGO);
    world
}

/// Changes the newest version of the client secret in the vault.
fn change(world: &World, change: impl FnOnce(&mut SecretVersion)) {
    world.sim.state().change_secret(CLIENT_SECRET_NAME, change);
}

/// The value of that version.
fn value(world: &World) -> String {
    world.sim.state().secret(CLIENT_SECRET_NAME).unwrap().value
}

/// A command whose target signs in with the secret in the vault. ARM is not asked, so that a run is
/// there before anybody signs in.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = bare_command(world.folder.path(), args);
    command
        .envs(world.sim.settings_for(SignIn::KeyVault))
        .env("EASM_FILTER", "")
        .env("EASM_LOG", "error")
        .env("EASM_REGION", "eastus");
    command
}

fn assert_whole(world: &World, done: &Done, case: &str) {
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest.completeness, Completeness::Exact, "{case}");
    assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), case);
}

/// How often the vault was asked with a token.
fn n_reads(world: &World) -> usize {
    let seen = world.sim.requests();
    let with_token = seen.iter().filter(|seen| seen.authorization.is_some());
    with_token.filter(|seen| seen.path.starts_with("/secrets/")).count()
}

/// How often Entra was asked.
fn n_sign_ins(world: &World) -> usize {
    world.sim.requests().iter().filter(|seen| seen.path.contains("/oauth2/v2.0/token")).count()
}

/// Fails unless every token went where it belongs, and none was asked for that belongs elsewhere.
#[track_caller]
fn assert_tokens_are_where_they_belong(world: &World) {
    for seen in world.sim.requests() {
        if seen.path == "/msi/token" {
            assert!(seen.query.contains("resource=https://vault.azure.net"), "{}", seen.query);
        }
        let Some(authorization) = &seen.authorization else { continue };
        let wanted = match &seen.path {
            path if path.starts_with("/secrets/") => Audience::Vault,
            path if path.contains("/providers/Microsoft.Easm/") => Audience::Arm,
            path if path.ends_with("/assets") => Audience::Easm,
            path => panic!("a token went to {path}"),
        };
        assert_eq!(world.sim.issued(authorization).unwrap().audience, wanted, "{}", seen.path);
    }
}

/// Fails if one of `values`, or a token, is in what was said or stored.
#[track_caller]
fn assert_nothing_leaked(world: &World, done: &Done, values: &[String], case: &str) {
    let mut secrets = secrets(world);
    secrets.extend(values.iter().filter(|value| !value.is_empty()).cloned());
    assert_clean(&done.stderr, &secrets, case);
    assert_clean(done.stdout_text(), &secrets, case);
    for path in world.files().iter().filter(|path| path.ends_with(".json")) {
        let text = std::fs::read_to_string(world.exports().join(path)).unwrap();
        assert_clean(&text, &secrets, path);
    }
}

/// An export that takes a while, and whose tokens live for a few seconds.
fn long() -> Options {
    Options {
        assets: 2000,
        asset_bytes: 900,
        token_seconds: 6,
        latency: Duration::from_millis(900),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_secret_that_is_replaced_in_the_middle_of_an_export_is_used_at_once() {
    let world = world(long()).await;
    let first = value(&world);
    let values = [1, 2, 3].map(|n| format!("nEw8Q~canary-of-secret-number-{n}-0123456789"));
    let state = Arc::clone(world.sim.state());
    let to_come = values.clone();
    let replacing = tokio::spawn(async move {
        for value in &to_come {
            tokio::time::sleep(Duration::from_millis(3500)).await;
            state.set_secret(CLIENT_SECRET_NAME, value);
            state.rotate_app_secret(APP_CLIENT_ID, value);
        }
    });
    let mut command = command(&world, &["export", "--json"]);
    command.env("EASM_LOG", "trace").env_remove("EASM_REGION").env("EASM_SHARDS", "2");
    let done = finish(command).await.expect_code(0);
    replacing.await.unwrap();
    assert_whole(&world, &done, "replaced");
    let n_used = done.stderr.matches("Key Vault has another one: using that").count();
    assert!((2..=3).contains(&n_used), "the export was long enough: {n_used}");
    assert_eq!(n_reads(&world), 1 + n_used, "once, and once for each that Entra refused");
    assert_eq!(world.sim.state().most_vault_reads_at_once(), 1);
    assert_tokens_are_where_they_belong(&world);
    assert_nothing_leaked(&world, &done, &[&[first], &values[..]].concat(), "replaced");
}

#[tokio::test]
async fn a_vault_that_fails_while_its_secret_is_kept_is_not_missed() {
    let world = world(long()).await;
    let state = Arc::clone(world.sim.state());
    let failing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        state.set_vault_refusal(Some(VaultRefusal::Firewall));
    });
    let done = finish(command(&world, &["export", "--json"])).await.expect_code(0);
    failing.await.unwrap();
    assert_whole(&world, &done, "failing");
    assert!(n_sign_ins(&world) > 2, "tokens were asked for meanwhile");
    assert_eq!(n_reads(&world), 1);
}

#[tokio::test]
async fn a_vault_that_falters_is_asked_again() {
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    for fault in [
        status(429, None),
        status(429, Some("1")),
        status(503, Some("1")),
        status(500, None),
        status(408, None),
        Fault::NotJson(502),
        Fault::Reset,
        Fault::CutBody,
        Fault::Truncated,
        Fault::Garbage,
        Fault::Slow(Duration::from_millis(300)),
    ] {
        // At the challenge, at the read, or at both.
        for (from, times) in [(0, 1), (1, 1), (0, 3)] {
            let case = format!("{fault:?} {from} {times}");
            let script = vec![Scripted {
                path_contains: "/secrets/".to_owned(),
                query_contains: String::new(),
                from,
                times,
                fault: fault.clone(),
            }];
            let world = world(Options { script, ..small() }).await;
            let done = finish(command(&world, &["export", "--json"])).await;
            assert_eq!(done.code, 0, "{case}: {}", done.stderr);
            assert_whole(&world, &done, &case);
            assert_tokens_are_where_they_belong(&world);
        }
    }
}

#[tokio::test]
async fn a_token_that_the_vault_refuses_is_replaced_once() {
    let script = vec![Scripted {
        path_contains: "/secrets/".to_owned(),
        query_contains: String::new(),
        // Behind the challenge.
        from: 1,
        times: 1,
        fault: Fault::Status { status: 401, retry_after: None },
    }];
    let world = world(Options { script, ..small() }).await;
    let done = finish(command(&world, &["export", "--json"])).await.expect_code(0);
    assert_whole(&world, &done, "refused once");
    let seen = world.sim.requests();
    assert_eq!(seen.iter().filter(|seen| seen.path == "/msi/token").count(), 2);
}

/// A vault that is away for longer than one waits for an answer, or a secret that Entra may not know
/// yet: the run waits, whatever comes back, and goes on where it stood.
#[tokio::test]
async fn what_may_pass_by_itself_puts_the_run_off() {
    type Make = fn(&World);
    /// What is wrong, how it comes to that, with which settings, and parts of what is said.
    type Case<'a> = (&'a str, Make, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let away: Make = |world| {
        let fault = Fault::Status { status: 503, retry_after: None };
        world.sim.state().set_vault_refusal(Some(VaultRefusal::Fault(fault)));
    };
    let throttled: Make = |world| {
        let retry_after = Some("600".to_owned());
        world.sim.state().set_vault_refusal(Some(VaultRefusal::Throttled { retry_after }));
    };
    let young: Make = |world| {
        world.sim.state().set_secret(CLIENT_SECRET_NAME, "nEw8Q~canary-that-entra-does-not-know");
    };
    let nothing: Make = |_| {};
    let no_host = "https://vault.easm-export.invalid";
    let cases: [Case<'_>; 5] = [
        ("away", away, &[], &["Key Vault cannot serve us now", "status=503"]),
        ("throttled", throttled, &[], &["Key Vault asks to slow down", "retry-after=600 s"]),
        ("young", young, &[], &["put into Key Vault a few minutes ago", "AADSTS7000215"]),
        ("no port", nothing, &[("EASM_KEY_VAULT_URL", "https://127.0.0.1:9")], &["no connection"]),
        ("no host", nothing, &[("EASM_KEY_VAULT_URL", no_host)], &["EASM_KEY_VAULT_URL"]),
    ];
    let check = async |(name, make, vars, parts): Case<'_>| {
        let world = world(small()).await;
        make(&world);
        let mut waiting = command(&world, &["export"]);
        waiting.envs(vars.iter().copied());
        let line = waiting_line(waiting).await;
        for part in parts.iter().chain(&["Key Vault", "name=easm-client-secret", "vault="]) {
            assert!(line.contains(part), "{name}: {part}: {line}");
        }
        assert!(!line.contains("canary"), "{name}: {line}");
        // It is back, or Entra has learned.
        world.sim.state().set_vault_refusal(None);
        world.sim.state().add_app_secret(APP_CLIENT_ID, &value(&world));
        let done = finish(command(&world, &["export", "--json"])).await.expect_code(0);
        assert_whole(&world, &done, name);
        let runs = world.files();
        let n_runs = runs.iter().filter(|path| path.ends_with("/run.json")).count();
        assert_eq!(n_runs, 1, "{name}: the same run went on");
    };
    futures::future::join_all(cases.map(check)).await;
}

#[tokio::test]
async fn a_secret_that_ends_within_thirty_days_is_warned_of_once_with_the_day() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (days, is_good, n_warnings) in [(10, true, 1), (10, false, 1), (29, true, 1), (31, true, 0)]
    {
        let world = world(small()).await;
        // Noon: the same day, whichever hour it is.
        let exp = (now / DAY_S + days) * DAY_S + DAY_S / 2;
        let day = Timestamp::from_unix_ms(i64::try_from(exp * 1000).unwrap()).unwrap().date();
        change(&world, |version| version.exp = Some(exp));
        if !is_good {
            // It is read twice then, and stays the same.
            world.sim.state().remove_app_secret(APP_CLIENT_ID, &value(&world));
        }
        let mut command = command(&world, &["export", "--json"]);
        command.env("EASM_LOG", "warn");
        let done = finish(command).await.expect_code(i32::from(!is_good));
        assert_eq!(n_reads(&world), if is_good { 1 } else { 2 });
        let warnings: Vec<&str> =
            done.stderr.lines().filter(|line| line.contains("expires on")).collect();
        assert_eq!(warnings.len(), n_warnings, "{days}: {}", done.stderr);
        for part in [&format!("expires on {day}"), CLIENT_SECRET_NAME, "127.0.0.1", "WARN"] {
            assert!(warnings.iter().all(|line| line.contains(part)), "{part}: {warnings:?}");
        }
    }
}
