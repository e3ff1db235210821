//! The Bicep CLI over `infra/`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{DEPLOYMENTS, infra_files, root};

/// Where the snapshots pretend to be deployed.
const PLACE: [&str; 8] = [
    "--tenant-id",
    "00000000-0000-4000-8000-000000000001",
    "--subscription-id",
    "00000000-0000-4000-8000-000000000002",
    "--resource-group",
    "rg-easm-export",
    "--location",
    "westeurope",
];

/// A file with one fault, to see that the linter looked.
const FAULTY: &str = "@description('Nobody asks for it.')\nparam unused string\n";

/// `$BICEP`, else `bicep` on `PATH`, else the one beside the project.
fn bicep(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("bicep"));
    let candidates = std::env::var_os("BICEP").map(PathBuf::from).into_iter();
    let beside = root().join("../shared/tools/bicep/bicep");
    let found = candidates.chain(on_path).chain([beside]).find(|file| file.is_file());
    if found.is_none() {
        let why = format!(
            "SKIPPED: {test}: no Bicep CLI, so the templates in infra/ were not looked at \
             (set BICEP to one: `az bicep install` puts it into ~/.azure/bin)"
        );
        assert!(std::env::var_os("TESTS_MAY_NOT_SKIP").is_none(), "{why}");
        // Not `eprintln!`: the test harness hides that where a test passes.
        std::io::stderr().write_all(format!("\n{why}\n").as_bytes()).unwrap();
    }
    found
}

/// Runs the CLI in `folder` without any of the values that parameter files read from the environment.
fn run(bicep: &Path, folder: &Path, args: &[&str]) -> Output {
    run_with(bicep, folder, args, &[])
}

/// The same, with `values` in the environment.
fn run_with(bicep: &Path, folder: &Path, args: &[&str], values: &[(&str, &str)]) -> Output {
    let mut command = Command::new(bicep);
    command.args(args).current_dir(folder).env("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1");
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        let is_read = ["EASM_", "EXPORT_", "SIGN_IN_", "ALERT_"];
        if is_read.iter().any(|start| name_text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command.envs(values.iter().copied());
    command.output().unwrap_or_else(|err| panic!("{}: {err}", bicep.display()))
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A copy of `infra/`, which a command may change.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in infra_files(&["bicep", "bicepparam", "json"]) {
        let to = folder.path().join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join("infra").join(&file), to).unwrap();
    }
    folder
}

#[test]
fn no_template_has_a_diagnostic() {
    let Some(bicep) = bicep("no_template_has_a_diagnostic") else { return };
    let folder = copy();
    fs::write(folder.path().join("modules/faulty.bicep"), FAULTY).unwrap();
    for pattern in ["**/*.bicep", "**/*.bicepparam"] {
        let output = run(&bicep, folder.path(), &["lint", "--pattern", pattern]);
        let text = said(&output);
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if pattern == "**/*.bicep" {
            // The fault that was planted: it is found, and counts as an error.
            let planted = lines.iter().position(|line| line.contains("faulty.bicep"));
            let planted = lines.remove(planted.expect("the linter looked at every file"));
            assert!(planted.contains("Error no-unused-params"), "{planted}");
            assert!(!output.status.success());
        } else {
            assert!(output.status.success(), "{text}");
        }
        assert!(lines.is_empty(), "{pattern}:\n{}", lines.join("\n"));
    }
}

#[test]
fn every_template_is_laid_out() {
    let Some(bicep) = bicep("every_template_is_laid_out") else { return };
    let folder = copy();
    let untidy = folder.path().join("untidy.bicep");
    fs::write(&untidy, "param    a   string\n").unwrap();
    for pattern in ["**/*.bicep", "**/*.bicepparam"] {
        let output = run(&bicep, folder.path(), &["format", "--pattern", pattern]);
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(untidy).unwrap(), "param a string\n");
    for file in infra_files(&["bicep", "bicepparam"]) {
        let wanted = fs::read_to_string(folder.path().join(&file)).unwrap();
        let found = fs::read_to_string(root().join("infra").join(&file)).unwrap();
        assert!(found == wanted, "`bicep format infra/{}` lays it out", file.display());
    }
}

/// `UPDATE_SNAPSHOTS=1` writes those anew that are not.
#[test]
fn every_snapshot_is_current() {
    let Some(bicep) = bicep("every_snapshot_is_current") else { return };
    let folder = root().join("infra");
    for (name, _) in DEPLOYMENTS {
        let file = format!("{name}.bicepparam");
        let snapshot = |mode: &str| {
            let args = [&["snapshot", file.as_str(), "--mode", mode], &PLACE[..]].concat();
            run(&bicep, &folder, &args)
        };
        let mut output = snapshot("validate");
        if !output.status.success() && std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            output = snapshot("overwrite");
            sort_outputs(&folder.join(format!("{name}.snapshot.json")));
        }
        assert!(
            output.status.success(),
            "infra/{file} would deploy something else than its snapshot says. If that is meant, \
             UPDATE_SNAPSHOTS=1 writes it anew.\n{}",
            said(&output)
        );
    }
}

/// The CLI writes outputs, which stand last, in an order of its own each time.
fn sort_outputs(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let mut snapshot: Value = serde_json::from_str(&text).unwrap();
    let outputs: BTreeMap<String, Value> =
        serde_json::from_value(snapshot["outputs"].take()).unwrap();
    let outputs = serde_json::to_string_pretty(&outputs).unwrap().replace('\n', "\n  ");
    let at = text.find("\n  \"outputs\": {").unwrap();
    fs::write(file, format!("{}\n  \"outputs\": {outputs}\n}}\n", &text[..at])).unwrap();
}

/// A parameter file that names nothing to export is refused before anything is deployed.
#[test]
fn a_deployment_that_exports_nothing_is_refused() {
    let Some(bicep) = bicep("a_deployment_that_exports_nothing_is_refused") else { return };
    let check = |params: &str, want: &str| {
        let folder = copy();
        fs::write(folder.path().join("odd.bicepparam"), params).unwrap();
        let args = [&["snapshot", "odd.bicepparam"], &PLACE[..]].concat();
        let text = said(&run(&bicep, folder.path(), &args));
        assert!(text.contains(want), "{params}\n{text}");
    };
    check("using 'main.bicep'\n", "Set workspace, targets or newWorkspace");
    let guid = "00000000-0000-4000-8000-000000000009";
    let target = format!(
        "{{ name: 'a', tenantId: '{guid}', subscriptionId: '{guid}', resourceGroup: 'a', \
         workspace: 'a' }}"
    );
    let text =
        format!("using 'main.bicep'\nparam clientId = '{guid}'\nparam targets = [{target}]\n");
    check(&text, "A target on managed-identity would take clientId");
}

/// What azd and the workflow hand in reaches the deployment.
#[test]
fn the_environment_fills_in_the_parameters_of_one_tenant() {
    let Some(bicep) = bicep("the_environment_fills_in_the_parameters_of_one_tenant") else {
        return;
    };
    let folder = copy();
    let guid = "cccccccc-0000-4000-8000-00000000000";
    let values = [
        ("EASM_TENANT_ID", format!("{guid}1")),
        ("EASM_SUBSCRIPTION_ID", format!("{guid}2")),
        ("EASM_RESOURCE_GROUP", "their-group".to_owned()),
        ("EASM_WORKSPACE", "their-workspace".to_owned()),
        ("SIGN_IN_CLIENT_ID", format!("{guid}3")),
        ("SIGN_IN_PRINCIPALS", format!("{guid}4,{guid}5")),
        ("ALERT_EMAILS", "one@contoso.example,two@contoso.example".to_owned()),
    ];
    let values: Vec<(&str, &str)> =
        values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let args = [&["snapshot", "main.bicepparam"], &PLACE[..]].concat();
    let output = run_with(&bicep, folder.path(), &args, &values);
    assert!(output.status.success(), "{}", said(&output));
    let snapshot = fs::read_to_string(folder.path().join("main.snapshot.json")).unwrap();
    for (name, value) in values {
        let missing = value.split(',').find(|part| !snapshot.contains(part));
        assert_eq!(missing, None, "{name}");
    }
    assert!(snapshot.contains("authsettingsV2") && snapshot.contains("\"entra\""));
}
