//! Secrets typed into the wrong setting, the wrong flag, the wrong file.

use std::fs;
use std::path::Path;

use easm_export::sim::SignIn;
use serde_json::json;

use super::planted::{
    self, API_KEY, CALLER_TOKEN, CLIENT_SECRET, FILE_KEY, FILE_SECRET, SHAPED_PASSWORD,
    STRANGE_TOKEN,
};
use super::scene::{self, FORMATS, Scene, Told, all, assert_none, watched};

/// Every setting there is, and names that are read besides.
const SETTINGS: [&str; 44] = [
    "EASM_TENANT_ID",
    "EASM_SUBSCRIPTION_ID",
    "EASM_RESOURCE_GROUP",
    "EASM_WORKSPACE",
    "EASM_REGION",
    "EASM_TARGETS",
    "EASM_CREDENTIAL",
    "EASM_CLIENT_ID",
    "EASM_CLIENT_SECRET_NAME",
    "EASM_KEY_VAULT_URL",
    "EASM_IDENTITY_CLIENT_ID",
    "AZURE_AUTHORITY_HOST",
    "EASM_DATA_PLANE_URL",
    "EASM_ARM_URL",
    "EASM_API_VERSION",
    "EASM_DP_API_VERSION",
    "EASM_CP_API_VERSION",
    "EASM_STORE_URL",
    "EASM_DATASETS",
    "EASM_FILTER",
    "EASM_KINDS",
    "EASM_FORMAT",
    "EASM_COMPRESSION",
    "EASM_COLUMNS",
    "EASM_DELTA",
    "EASM_SCHEMA_POLICY",
    "EASM_PAGE_SIZE",
    "EASM_CONCURRENCY",
    "EASM_SHARDS",
    "EASM_RANGE_ASSETS_MAX",
    "EASM_PART_BYTES_MAX",
    "EASM_SLICE_SECONDS",
    "EASM_RUN_HOURS_MAX",
    "EASM_RETENTION_DAYS",
    "EASM_AUTH",
    "EASM_PRINCIPALS",
    "EXPORT_SCHEDULE",
    "EASM_LOG",
    "EASM_LOG_FORMAT",
    "EASM_NO_SUCH_SETTING",
    "IDENTITY_ENDPOINT",
    "AZURE_CLIENT_ID",
    "SSL_CERT_FILE",
    "NO_PROXY",
];

/// Settings that are refused whatever is typed into them here, so that it could be repeated.
const STRICT: [&str; 11] = [
    "EASM_REGION",
    "EASM_SUBSCRIPTION_ID",
    "EASM_CREDENTIAL",
    "EASM_DATASETS",
    "EASM_KINDS",
    "EASM_FORMAT",
    "EASM_COMPRESSION",
    "EASM_PAGE_SIZE",
    "EASM_CONCURRENCY",
    "EASM_SHARDS",
    "EASM_RUN_HOURS_MAX",
];

/// What is typed: credentials of the environment, and some that only their shape tells.
fn typed() -> Vec<(&'static str, String)> {
    vec![
        ("API key", API_KEY.to_owned()),
        ("client secret", CLIENT_SECRET.to_owned()),
        ("connection string", planted::connection_string()),
        ("SAS URL", planted::sas_url()),
        ("private key", planted::pem()),
        ("token", STRANGE_TOKEN.to_owned()),
        ("bearer header", format!("Authorization: Bearer {CALLER_TOKEN}")),
        ("password", format!("user=me;password={SHAPED_PASSWORD};x")),
    ]
}

/// What was told that must not be: on stdout and stderr, and in files of `folder` unless the value is
/// what a program reads back there: a filter, or the folder itself. Those who are refused show no token,
/// so none is looked for by its value.
fn findings(case: &str, told: &Told, folder: &Path, is_read_back: bool) -> Vec<String> {
    let files = if is_read_back { Vec::new() } else { scene::files(folder) };
    scene::findings(case, &[told.texts(), files].concat())
}

#[tokio::test]
async fn a_credential_typed_into_any_setting_is_not_repeated() {
    let scene = Scene::new(planted::options()).await;
    let mut cases = Vec::new();
    for (n, setting) in SETTINGS.into_iter().enumerate() {
        for (at, (what, value)) in typed().into_iter().enumerate() {
            cases.push(set(&scene, setting, what, value, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

async fn set(scene: &Scene, setting: &str, what: &str, value: String, format: &str) -> Vec<String> {
    let case = format!("{setting}={{{what}}}, {format}");
    let folder = tempfile::tempdir().unwrap();
    let mut command = scene.command(SignIn::ManagedIdentity, &["export", "--json"]);
    command.current_dir(folder.path());
    command.env("EASM_KINDS", "host").env("EASM_LOG_FORMAT", format).env(setting, value);
    let told = watched(command, || true).await;
    let is_read_back = ["EASM_FILTER", "EASM_STORE_URL"].contains(&setting);
    let mut found = findings(&case, &told, folder.path(), is_read_back);
    if STRICT.contains(&setting) {
        let said = told.stderr_text();
        let is_told = said.contains(setting) && said.contains("[REDACTED]");
        if told.code != 2 || !is_told {
            found.push(format!("{case}: exit code {}, without name or mark: {said}", told.code));
        }
    }
    found
}

/// Words of a command line; `{}` is where the credential is typed.
const LINES: [&[&str]; 34] = [
    &["{}"],
    &["--{}"],
    &["--{}=1", "export"],
    &["export", "{}"],
    &["export", "--{}"],
    &["export", "-x{}"],
    &["export", "--kind", "{}"],
    &["export", "--kind", "host,{}"],
    &["export", "--kind={}"],
    &["export", "--dataset", "{}"],
    &["export", "--format", "{}"],
    &["export", "--compression", "{}"],
    &["export", "--columns", "{}"],
    &["export", "--store", "{}"],
    &["export", "--max-assets", "{}"],
    &["export", "--resume", "{}"],
    &["export", "--mode", "{}"],
    &["export", "--filter", "{}"],
    &["export", "--filter", "@{}"],
    &["export", "--dry-run", "--filter", "name = \"{}\" and"],
    &["export", "--stdout", "--filter", "{}"],
    &["--target", "{}", "export"],
    &["query", "--limit", "{}"],
    &["query", "--mark", "{}"],
    &["query", "--filter", "{}"],
    &["query", "--json", "--kind", "{}"],
    &["runs", "{}"],
    &["runs", "list", "--limit", "{}"],
    &["runs", "show", "{}"],
    &["runs", "files", "{}"],
    &["runs", "verify", "{}"],
    &["runs", "cancel", "{}"],
    &["runs", "publish", "{}"],
    &["simulate", "--port", "{}"],
];

#[tokio::test]
async fn a_credential_typed_anywhere_on_the_command_line_is_not_repeated() {
    let scene = Scene::new(planted::options()).await;
    let mut cases = Vec::new();
    for (n, words) in LINES.into_iter().enumerate() {
        for (at, (what, value)) in typed().into_iter().enumerate() {
            cases.push(line(&scene, words, what, value, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

async fn line(
    scene: &Scene,
    words: &[&str],
    what: &str,
    value: String,
    format: &str,
) -> Vec<String> {
    let case = format!("{}: {what}, {format}", words.join(" "));
    let folder = tempfile::tempdir().unwrap();
    let words: Vec<String> = words.iter().map(|word| word.replace("{}", &value)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = scene.command(SignIn::ManagedIdentity, &words);
    command.current_dir(folder.path());
    command.env("EASM_KINDS", "host").env("EASM_LOG_FORMAT", format);
    let told = watched(command, || true).await;
    let is_read_back = words.contains(&"--filter") || words.contains(&"--store");
    let mut found = findings(&case, &told, folder.path(), is_read_back);
    if told.code == 0 && !is_read_back {
        found.push(format!("{case}: exit code 0"));
    }
    found
}

/// What a `.env` may hold besides what it should.
fn env_files() -> Vec<String> {
    let good = format!("EASM_CLIENT_SECRET='{FILE_SECRET}'\nCONTOSO_KEY='{FILE_KEY}'\n");
    vec![
        format!("{good}EASM_REGION='{FILE_SECRET}'\n"),
        format!("{good}EASM_REGION='{FILE_KEY}'\n"),
        format!("{good}EASM_PAGE_SIZE='{FILE_KEY}'\n"),
        format!("{good}{FILE_KEY}\n"),
        format!("{good}{FILE_SECRET}=EASM_CLIENT_SECRET\n"),
        format!("EASM_CLIENT_SECRET {FILE_SECRET}\n"),
        format!("EASM_CLIENT_SECRET: {FILE_SECRET}\n"),
        format!("EASM_CLIENT_SECRET='{FILE_SECRET}\n"),
        format!("EASM_CLIENT_SECRET=\"{FILE_SECRET}\n"),
        format!("CLIENT_SECRET={FILE_SECRET}\nEASM_KINDS={FILE_SECRET}\n"),
        format!("export EASM_CLIENT_SECRET={FILE_SECRET}; EASM_FORMAT={FILE_SECRET}\n"),
    ]
}

/// The same for `local.settings.json`.
fn json_files() -> Vec<String> {
    let values = |values: serde_json::Value| json!({"IsEncrypted": false, "Values": values});
    let good = json!({"EASM_CLIENT_SECRET": FILE_SECRET, "CONTOSO_KEY": FILE_KEY});
    let with = |name: &str, value: serde_json::Value| {
        let mut all = good.clone();
        all[name] = value;
        values(all).to_string()
    };
    let whole = values(good.clone()).to_string();
    vec![
        with("EASM_REGION", json!(FILE_SECRET)),
        with("EASM_REGION", json!(FILE_KEY)),
        with("EASM_SHARDS", json!([FILE_KEY])),
        with(FILE_KEY, json!(FILE_KEY)),
        with("EASM_CLIENT_SECRET", json!({"value": FILE_SECRET})),
        with("EASM_CLIENT_SECRET", json!([FILE_SECRET])),
        values(json!(FILE_SECRET)).to_string(),
        values(json!([FILE_SECRET])).to_string(),
        json!({"IsEncrypted": FILE_SECRET, "Values": FILE_SECRET}).to_string(),
        json!(FILE_SECRET).to_string(),
        FILE_SECRET.to_owned(),
        whole[..whole.len() - 2].to_owned(),
        whole.replace(':', "="),
        whole.replace("\\\"", "\""),
    ]
}

#[tokio::test]
async fn a_settings_file_that_is_wrong_is_refused_without_the_credentials_in_it() {
    let scene = &Scene::new(planted::options()).await;
    let of = |name: &'static str| move |(n, text): (usize, String)| (name, n, text);
    let env = env_files().into_iter().enumerate().map(of(".env"));
    let files = env.chain(json_files().into_iter().enumerate().map(of("local.settings.json")));
    let cases = files.flat_map(|(name, n, text)| {
        let formats = FORMATS.into_iter();
        formats.map(move |format| file(scene, name, n, text.clone(), format))
    });
    assert_none(&all(cases).await);
}

async fn file(scene: &Scene, name: &str, n: usize, text: String, format: &str) -> Vec<String> {
    let case = format!("{name} {n}, {format}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), &text).unwrap();
    let mut found = Vec::new();
    for args in [&["export", "--json"][..], &["runs", "list"]] {
        let mut command = scene.command(SignIn::ClientSecret, args);
        command.current_dir(folder.path());
        command.env_remove("EASM_CLIENT_SECRET").env("EASM_LOG_FORMAT", format);
        let told = watched(command, || true).await;
        found.extend(findings(&format!("{case}, {}", args[0]), &told, folder.path(), false));
        if told.code == 0 && args[0] == "export" {
            found.push(format!("{case}: exit code 0"));
        }
    }
    found
}
