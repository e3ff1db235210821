//! The store fails: Azurite behind a proxy, a folder that is none, documents that somebody broke.

use std::fs;
use std::path::Path;

use easm_export::sim::SignIn;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::planted::{self, CLIENT_SECRET};
use super::scene::{EXPORT, FORMATS, Scene, all, assert_none, ended, findings, unpacked, watched};
use crate::azurite::{ACCOUNT, Azurite};
use crate::contract::store::blobs;
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};

const fn answer(status: u16, code: &'static str, message: &'static str) -> ProxyFault {
    ProxyFault::Answer { status, code, message }
}

/// Every way to fail that the proxy plays.
const FAULTS: [ProxyFault; 13] = [
    ProxyFault::Busy { retry_after_s: Some(3600) },
    ProxyFault::CutAfter,
    answer(403, "AuthenticationFailed", "The MAC signature found in the HTTP request is not ours."),
    ProxyFault::Hang,
    ProxyFault::InternalError,
    ProxyFault::TimedOutBefore,
    ProxyFault::CutBefore,
    ProxyFault::TimedOutAfter,
    ProxyFault::CutBody,
    ProxyFault::CorruptBody,
    ProxyFault::CorruptAnswer,
    answer(404, "ContainerNotFound", "The specified container does not exist."),
    answer(409, "LeaseIdMissing", "There is currently a lease on the blob."),
];

/// Requests of an export to its store, and how many of the faults each of them meets: the late ones
/// take long to come to, and are answered for by the same code.
fn requests() -> [(Method, &'static str, usize); 4] {
    [
        (Method::PUT, "/run.json", FAULTS.len()),
        (Method::GET, "/exports", FAULTS.len()),
        (Method::PUT, "/part-", 4),
        (Method::PUT, "/manifest.json", 4),
    ]
}

#[tokio::test]
async fn whatever_fails_in_blob_storage_no_credential_is_told() {
    let test = "whatever_fails_in_blob_storage_no_credential_is_told";
    let Some(azurite) = Azurite::http(test) else { return };
    let mut cases = Vec::new();
    for (n, (method, path, n_faults)) in requests().into_iter().enumerate() {
        for (at, fault) in FAULTS.into_iter().enumerate().take(n_faults) {
            let format = FORMATS[(n + at) % FORMATS.len()];
            cases.push(fails(azurite, method.clone(), path, fault, format));
        }
    }
    assert_none(&all(cases).await);
}

async fn fails(
    azurite: &Azurite,
    method: Method,
    path: &str,
    fault: ProxyFault,
    format: &str,
) -> Vec<String> {
    let case = format!("{method} {path}, {fault:?}, {format}");
    let scene = Scene::new(planted::options()).await;
    let container = azurite.container();
    azurite.create_container(&container).await;
    let path = path.replace("/exports", &format!("/{container}"));
    let (path_contains, query_contains) = (path.clone(), String::new());
    let fault =
        ScriptedFault { method, path_contains, query_contains, from: 0, times: u64::MAX, fault };
    let proxy =
        Proxy::start(ProxyOptions { script: vec![fault], ..ProxyOptions::new(azurite.base()) });
    let mut command = scene.command(SignIn::ManagedIdentity, &EXPORT);
    command.env("EASM_STORE_URL", format!("{}/{ACCOUNT}/{container}", proxy.url()));
    command.env("EASM_LOG_FORMAT", format);
    let was_met = || proxy.seen().iter().any(|seen| seen.fault.is_some());
    let told = watched(command, was_met).await;

    let mut found = scene.findings(&case, &told);
    let blobs = blobs(azurite, &container, "").await;
    let blobs: Vec<_> = blobs.into_iter().map(|(at, blob)| (at, unpacked(&blob))).collect();
    found.extend(scene.findings_in(&case, &blobs));
    if !was_met() {
        found.push(format!("{case}: it did not fail: {}", told.stderr_text()));
    }
    found
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_tells_no_credential() {
    let scene = Scene::new(planted::options()).await;
    let root = scene.world.folder.path();
    fs::write(root.join("file"), "not a folder").unwrap();
    fs::create_dir(root.join("blocked")).unwrap();
    fs::write(root.join("blocked/contoso"), "not a folder").unwrap();
    fs::create_dir(root.join("locked")).unwrap();
    fs::write(root.join("locked/.easm-export-tmp"), "not a folder").unwrap();
    let mut found = Vec::new();
    for (n, store) in ["file", "file/below", "blocked", "locked", "/proc/canaries", "/dev/null/x"]
        .iter()
        .enumerate()
    {
        for args in [&["export"][..], &["export", "--json"], &["runs", "list"]] {
            let mut command = scene.command(SignIn::ManagedIdentity, args);
            command.env("EASM_STORE_URL", store).env("EASM_LOG_FORMAT", FORMATS[n % 2]);
            let told = ended(command).await;
            let case = format!("{store}, {args:?}");
            found.extend(scene.findings(&case, &told));
            // An empty list may be an answer where there is nothing.
            if told.code == 0 && args[0] == "export" {
                found.push(format!("{case}: exit code 0"));
            }
        }
    }
    assert_none(&found);
}

/// How a document is broken, with a credential in it.
const BREAKS: [fn(Value) -> String; 6] = [
    |_| CLIENT_SECRET.to_owned(),
    |document| changed(document, &|value| value.is_string()),
    |document| changed(document, &|value| value.is_number()),
    |document| changed(document, &|value| value.is_array()),
    |mut document| {
        document[CLIENT_SECRET] = json!(CLIENT_SECRET);
        document.to_string()
    },
    |document| {
        let text = document.to_string();
        format!("{}{CLIENT_SECRET}", &text[..text.len() / 2])
    },
];

/// `document`, where everything that `is_meant` is a credential, but for its version.
fn changed(mut document: Value, is_meant: &dyn Fn(&Value) -> bool) -> String {
    fn change(value: &mut Value, is_meant: &dyn Fn(&Value) -> bool) {
        if is_meant(value) {
            *value = json!(CLIENT_SECRET);
            return;
        }
        match value {
            Value::Array(all) => all.iter_mut().for_each(|value| change(value, is_meant)),
            Value::Object(all) => {
                let all = all.iter_mut().filter(|(name, _)| *name != "schemaVersion");
                all.for_each(|(_, value)| change(value, is_meant));
            }
            _ => {}
        }
    }
    change(&mut document, is_meant);
    document.to_string()
}

#[tokio::test]
async fn a_document_that_somebody_broke_with_a_credential_is_refused_without_it() {
    let scene = Scene::new(planted::options()).await;
    let mut command = scene.command(SignIn::ManagedIdentity, &["export", "--json"]);
    command.env("EASM_KINDS", "host");
    let told = ended(command).await;
    assert_eq!(told.code, 0, "{}", told.stderr_text());
    let manifest: Value = serde_json::from_slice(&told.stdout).unwrap();
    let id = manifest["runId"].as_str().unwrap().to_owned();
    let run = format!("contoso/runs/{id}");
    let paths = ["run.json", "manifest.json", "plan.json", "checkpoints/0.json"];
    let paths = paths.map(|path| format!("{run}/{path}")).into_iter();
    let paths = paths.chain(["latest.json", "history.json"].map(|path| format!("contoso/{path}")));
    let mut cases = Vec::new();
    for path in paths {
        for (n, text) in BREAKS.iter().enumerate() {
            let original = fs::read(scene.world.exports().join(&path)).unwrap();
            let text = text(serde_json::from_slice(&original).unwrap());
            cases.push(is_broken(&scene, &id, path.clone(), text, FORMATS[n % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

/// What is told of a copy of the scene's store whose document at `path` is `text`.
async fn is_broken(
    scene: &Scene,
    id: &str,
    path: String,
    text: String,
    format: &str,
) -> Vec<String> {
    let copy = tempfile::tempdir().unwrap();
    let store = copy.path().join("exports");
    copied(&scene.world.exports(), &store);
    fs::write(store.join(&path), &text).unwrap();
    let mut found = Vec::new();
    for args in [
        &["runs", "list"][..],
        &["runs", "list", "--json"],
        &["runs", "show", id],
        &["runs", "show", id, "--json"],
        &["runs", "files", id],
        &["runs", "verify", id],
        &["runs", "publish", id],
        &["export", "--json", "--resume", id],
    ] {
        let mut command: Command = scene.command(SignIn::ManagedIdentity, args);
        command.env("EASM_STORE_URL", &store).env("EASM_LOG_FORMAT", format);
        // A run that is taken up may wait for better times.
        let told = watched(command, || true).await;
        let case = format!("{path}: {:.60}: {}", text, args.join(" "));
        found.extend(findings(&case, &told.texts()));
    }
    found
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}
