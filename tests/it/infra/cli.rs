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

/// Files with one fault each, to see that the linter looked, and what it says.
const FAULTY: [(&str, &str, &str); 2] = [
    (
        "modules/faulty.bicep",
        "@description('Nobody asks for it.')\nparam unused string\n",
        "Error no-unused-params",
    ),
    (
        "faulty.bicepparam",
        "using 'main.bicep'\n@description('Nobody asks for it.')\nvar unused = 1\n",
        "Error no-unused-vars",
    ),
];

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
    for (file, text, want) in FAULTY {
        fs::write(folder.path().join(file), text).unwrap();
        let (_, ending) = file.rsplit_once('.').unwrap();
        let pattern = format!("**/*.{ending}");
        let output = run(&bicep, folder.path(), &["lint", "--pattern", &pattern]);
        let all = said(&output);
        let mut lines: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
        // The fault that was planted: it is found, and counts as an error.
        let planted = lines.iter().position(|line| line.contains(file));
        let planted = lines.remove(planted.expect("the linter looked at every file"));
        assert!(planted.contains(want), "{planted}");
        assert!(!output.status.success());
        assert!(lines.is_empty(), "{pattern}:\n{}", lines.join("\n"));
    }
}

/// What must be there before a module is deployed. Names are handed on rather than outputs, so nothing else says it.
const ORDER: [(&str, &[&str]); 13] = [
    ("alerts", &["monitoring"]),
    ("app", &["hostStorage", "identity", "monitoring", "network", "roles"]),
    ("appEndpoint", &["app", "network"]),
    ("dataStorage", &[]),
    ("easmWorkspace", &[]),
    ("events", &["dataStorage"]),
    ("hostStorage", &[]),
    ("identity", &[]),
    ("monitoring", &[]),
    ("network", &["dataStorage", "hostStorage", "vault"]),
    ("roles", &["dataStorage", "easmWorkspace", "hostStorage", "identity", "monitoring", "vault"]),
    ("signInModule", &["app"]),
    ("vault", &["monitoring"]),
];

#[test]
fn every_module_waits_for_what_it_looks_up() {
    let Some(bicep) = bicep("every_module_waits_for_what_it_looks_up") else { return };
    let output = run(&bicep, &root().join("infra"), &["build", "main.bicep", "--stdout"]);
    assert!(output.status.success(), "{}", said(&output));
    let template: Value = serde_json::from_slice(&output.stdout).unwrap();
    let modules = template["resources"].as_object().unwrap();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<String> = serde_json::from_value(value.clone()).unwrap_or_default();
        names.sort();
        names
    };
    let found: BTreeMap<&str, Vec<String>> =
        modules.iter().map(|(name, module)| (name.as_str(), names(&module["dependsOn"]))).collect();
    let wanted: BTreeMap<&str, Vec<String>> = ORDER
        .into_iter()
        .map(|(name, before)| (name, before.iter().map(|it| (*it).to_owned()).collect()))
        .collect();
    assert_eq!(found, wanted);
    // Two endpoints that are made in one subnet at once can be refused.
    let endpoints = &modules["network"]["properties"]["template"]["resources"]["endpoint"]["copy"];
    assert_eq!((&endpoints["mode"], &endpoints["batchSize"]), (&"serial".into(), &1.into()));
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

/// A GUID that is nobody's.
const GUID: &str = "00000000-0000-4000-8000-000000000009";

/// What a deployment says of parameters that it refuses, before anything is made.
const NOTHING: &str = "Set workspace, targets or newWorkspace";
const NAME: &str = "name has lower-case letters and digits only";
const BOTH: &str = "workspace and targets are both set";
const TARGET_NAME: &str = "The name of a target has letters, digits, - and _ only";
const SAME_NAME: &str = "Two targets have the same name";
const MISREAD: &str = "would take clientId for its identity";
const NO_APP: &str = "want clientId, the app registration";
const NO_SECRET: &str = "client-secret wants clientSecretName";
const SCHEDULE: &str = "schedule has six fields";
const NO_LOG: &str = "dailyLogGigabytesMax is -1 or at least 1";
const ABROAD: &str = "managed-identity is good in this tenant only";
const NO_GUID: &str = "are GUIDs";
const NO_WAY: &str = "isTelemetryPublic: false wants isPrivate";

const SAID: [&str; 13] = [
    NOTHING,
    NAME,
    BOTH,
    TARGET_NAME,
    SAME_NAME,
    MISREAD,
    NO_APP,
    NO_SECRET,
    SCHEDULE,
    NO_LOG,
    ABROAD,
    NO_GUID,
    NO_WAY,
];

/// Parameters, and all that is said of them; several faults at once, since every run of the CLI takes seconds.
/// `WORKSPACE` stands for a workspace that is set, `TARGET(name, ...)` for a target, `GUID` for a GUID.
const REFUSED: [(&str, &[&str]); 14] = [
    (
        "WORKSPACE\nparam name = 'e2'\nparam schedule = '0  */5 * * * *'\n\
         param logFilter = 'warn'\nparam readableSecrets = ['a', 'b', 'a']",
        &[],
    ),
    ("param targets = [TARGET(a-B_1), TARGET(b, credential: 'federated', clientId: 'GUID')]", &[]),
    ("", &[NOTHING]),
    // Of another tenant.
    (
        "param workspace = { tenantId: 'GUID', subscriptionId: 'GUID', resourceGroup: 'a', name: 'a' }",
        &[ABROAD],
    ),
    ("WORKSPACE\nparam name = 'Easm'\nparam clientId = 'GUID'", &[NAME, MISREAD]),
    (
        "WORKSPACE\nparam name = '2easm'\nparam credential = 'federated'\n\
         param schedule = '0 6 * * *  '\nparam dailyLogGigabytesMax = 0",
        &[NAME, NO_APP, SCHEDULE, NO_LOG],
    ),
    (
        "WORKSPACE\nparam credential = 'client-secret'\nparam clientId = 'GUID'\n\
         param schedule = '0 0 0 6 * * *'",
        &[NO_SECRET, SCHEDULE],
    ),
    (
        "WORKSPACE\nparam credential = 'client-secret'\nparam clientSecretName = 'a'\n\
         param name = 'ea-sm'",
        &[NAME, NO_APP],
    ),
    (
        "WORKSPACE\nparam targets = [TARGET(a), TARGET(A)]\nparam clientId = 'GUID'",
        &[BOTH, SAME_NAME, MISREAD],
    ),
    ("param targets = [TARGET(_b), TARGET(a, credential: 'federated')]", &[TARGET_NAME, NO_APP]),
    (
        "WORKSPACE\nparam isTelemetryPublic = false\n\
         param signIn = { clientId: 'GUID', principals: ['our-security-team-is-in-this-list-ok'] }",
        &[NO_GUID, NO_WAY],
    ),
    (
        "param targets = [TARGET(a, credential: 'federated', clientId: '6666666677778888-9999-bbbbbbbbbbbb9-')]",
        &[NO_GUID],
    ),
    ("WORKSPACE\nparam isTelemetryPublic = false\nparam isPrivate = true", &[]),
    (
        "param targets = [TARGET(a b), TARGET(b, credential: 'client-secret', clientId: 'GUID')]",
        &[TARGET_NAME, NO_SECRET],
    ),
];

/// The parameters that a line of [`REFUSED`] stands for.
fn parameters(text: &str) -> String {
    let here = PLACE[1];
    let place = format!("tenantId: '{here}', subscriptionId: 'GUID', resourceGroup: 'a'");
    let workspace = format!("param workspace = {{ {place}, name: 'a' }}");
    let mut text = text.replace("WORKSPACE", &workspace);
    while let Some((before, rest)) = text.split_once("TARGET(") {
        let (inner, after) = rest.split_once(')').unwrap();
        let (name, more) = inner.split_once(',').unwrap_or((inner, ""));
        let comma = if more.is_empty() { "" } else { "," };
        let target = format!("{{ name: '{name}', {place}, workspace: 'a'{comma}{more} }}");
        text = format!("{before}{target}{after}");
    }
    format!("using 'main.bicep'\n{}\n", text.replace("GUID", GUID))
}

#[test]
fn a_deployment_that_would_export_nothing_or_tell_nobody_is_refused() {
    let test = "a_deployment_that_would_export_nothing_or_tell_nobody_is_refused";
    let Some(bicep) = bicep(test) else { return };
    let folder = copy();
    for (text, want) in REFUSED {
        fs::write(folder.path().join("odd.bicepparam"), parameters(text)).unwrap();
        let args = [&["snapshot", "odd.bicepparam"], &PLACE[..]].concat();
        let output = run(&bicep, folder.path(), &args);
        let all = said(&output);
        let found: Vec<&str> = SAID.into_iter().filter(|it| all.contains(it)).collect();
        assert_eq!(found, want, "{text}\n{all}");
        assert_eq!(output.status.success(), want.is_empty(), "{text}\n{all}");
        if text.contains("logFilter") {
            a_filter_keeps_the_line_of_the_alert(&folder.path().join("odd.snapshot.json"));
        }
    }
}

/// With a filter of one's own the line that an alert reads is logged still, and each secret is assigned once.
fn a_filter_keeps_the_line_of_the_alert(snapshot: &Path) {
    let text = fs::read_to_string(snapshot).unwrap();
    assert!(text.contains("\"warn,easm_export::functions::maintenance=info\""), "{text}");
    assert!(root().join("src/functions/maintenance.rs").is_file(), "the module of that name");
    for (secret, n_roles) in [("a", 1), ("b", 1)] {
        let role = format!("/secrets/{secret}/providers/Microsoft.Authorization/");
        let n_found = text.lines().filter(|it| it.contains("\"id\"") && it.contains(&role)).count();
        assert_eq!(n_found, n_roles, "{secret}");
    }
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
        ("SIGN_IN_PRINCIPALS", format!("{guid}4, {guid}5")),
        ("EXPORT_SCHEDULE", "0 30 4 * * *".to_owned()),
        ("ALERT_EMAILS", "one@contoso.example, two@contoso.example".to_owned()),
    ];
    let values: Vec<(&str, &str)> =
        values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // In the tenant of the workspace, which the identity of the app has to be in.
    let mut place = PLACE;
    place[1] = values[0].1;
    let args = [&["snapshot", "main.bicepparam"], &place[..]].concat();
    let output = run_with(&bicep, folder.path(), &args, &values);
    assert!(output.status.success(), "{}", said(&output));
    let snapshot = fs::read_to_string(folder.path().join("main.snapshot.json")).unwrap();
    for (name, value) in values {
        let missing = value.split(", ").find(|part| !snapshot.contains(part));
        assert_eq!(missing, None, "{name}");
        assert!(!value.contains(", ") || !snapshot.contains(value), "{name} is a list");
    }
    assert!(snapshot.contains("authsettingsV2") && snapshot.contains("\"entra\""));
}
