//! What Azure would be asked to deploy.
//!
//! `cli` runs the Bicep CLI over `infra/`: no diagnostic, one layout, snapshots that are current. `snapshots`
//! reads those snapshots and needs no CLI: roles, sign-in, keys, data; `alerts`, `identity` and `network` look closer
//! at what their names say. `settings` holds the app settings against the code, and `texts` the sources, the workflow and `azure.yaml`.
//!
//! # Invariants
//! - A check that needs the CLI says so on the real stderr where there is none, or fails if `TESTS_MAY_NOT_SKIP`
//!   is set. All others always run.

mod alerts;
mod cli;
mod identity;
mod network;
mod settings;
mod snapshots;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Parameter files, below `infra/` and without their ending, and what each of them turns on.
const DEPLOYMENTS: [(&str, &[&str]); 4] = [
    ("main", &[]),
    ("examples/customers", &["hasEvents"]),
    ("examples/new-workspace", &["newWorkspace"]),
    ("examples/private", &["hasEvents", "isPrivate", "readableSecrets", "signIn"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Files below `infra/` with one of `endings`, by their path from there.
fn infra_files(endings: &[&str]) -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, found),
                false => found.push(path),
            }
        }
    }
    let base = root().join("infra");
    let mut found = Vec::new();
    collect(&base, &mut found);
    found.retain(|path| {
        path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
    });
    found.sort();
    found.into_iter().map(|path| path.strip_prefix(&base).unwrap().to_owned()).collect()
}

/// A resource of a snapshot.
struct Resource(Value);

impl Resource {
    fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap()
    }

    fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    /// The value at `pointer` below `properties`, null if there is none.
    fn property(&self, pointer: &str) -> &Value {
        static NULL: Value = Value::Null;
        self.0["properties"].pointer(pointer).unwrap_or(&NULL)
    }
}

/// What one parameter file would deploy.
struct Deployment {
    name: &'static str,
    features: &'static [&'static str],
    resources: Vec<Resource>,
    outputs: Value,
}

impl Deployment {
    fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }

    fn of_kind(&self, kind: &str) -> Vec<&Resource> {
        self.resources.iter().filter(|resource| resource.kind() == kind).collect()
    }

    /// The only resource of `kind`.
    fn one(&self, kind: &str) -> &Resource {
        let found = self.of_kind(kind);
        assert_eq!(found.len(), 1, "{}: one {kind}", self.name);
        found[0]
    }

    /// The storage account of the host, or of the exports (`data`).
    fn account(&self, whose: &str) -> &Resource {
        let accounts = self.of_kind("Microsoft.Storage/storageAccounts");
        assert_eq!(accounts.len(), 2, "{}", self.name);
        let mut found = accounts.into_iter().filter(|account| account.name().contains(whose));
        found.next().unwrap_or_else(|| panic!("{}: no account {whose}", self.name))
    }

    /// App settings of the function app, in order.
    fn settings(&self) -> Vec<(String, String)> {
        let app = self.one("Microsoft.Web/sites");
        let settings = app.property("/siteConfig/appSettings").as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        settings.iter().map(|entry| (text(&entry["name"]), text(&entry["value"]))).collect()
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings().into_iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

fn deployments() -> Vec<Deployment> {
    let read = |(name, features): (&'static str, &'static [&'static str])| {
        let mut snapshot: Value =
            serde_json::from_str(&read(&format!("infra/{name}.snapshot.json"))).unwrap();
        assert_eq!(snapshot["diagnostics"], serde_json::json!([]), "{name}");
        let Value::Array(resources) = snapshot["predictedResources"].take() else {
            panic!("{name}: no resources")
        };
        let resources = resources.into_iter().map(Resource).collect();
        Deployment { name, features, resources, outputs: snapshot["outputs"].take() }
    };
    DEPLOYMENTS.into_iter().map(read).collect()
}

#[test]
fn every_parameter_file_is_a_deployment_of_these_tests() {
    let mut found: Vec<String> = infra_files(&["bicepparam"])
        .iter()
        .map(|path| path.with_extension("").to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut wanted: Vec<String> = DEPLOYMENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(found, wanted);
}
