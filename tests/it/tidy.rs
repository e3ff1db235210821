//! Rules that matter, as tests: who may use whom, and that documents keep up with the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use easm_export::error::Kind;

/// Who may `use crate::` whom, lowest floor first. A module absent on the right is absent on
/// purpose: `export` never learns that Azure, HTTP, settings or the terminal exist, `encode` never
/// learns where bytes go, `store` not what is in them, and nothing in the product knows `sim` but
/// the commands that start it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("secret", &[]),
    ("error", &["secret"]),
    ("clock", &[]),
    ("schedule", &["clock", "error"]),
    ("buffer", &[]),
    ("json", &[]),
    ("model", &["clock", "secret"]),
    ("telemetry", &["error", "secret"]),
    ("encode", &["error", "model"]),
    ("net", &["buffer", "clock", "error", "secret"]),
    ("store", &["buffer", "clock", "error", "model", "net", "secret"]),
    ("config", &["error", "model", "net", "secret"]),
    ("export", &["buffer", "clock", "encode", "error", "model", "schedule", "secret", "store"]),
    ("azure", &["clock", "config", "error", "export", "json", "model", "net", "secret"]),
    ("sim", &[]),
    ("app", &["azure", "clock", "config", "error", "export", "model", "net", "store"]),
    ("host", &["clock", "error", "secret"]),
    (
        "functions",
        &[
            "app",
            "clock",
            "config",
            "encode",
            "error",
            "export",
            "host",
            "model",
            "net",
            "schedule",
            "secret",
            "store",
            "telemetry",
        ],
    ),
    (
        "doctor",
        &[
            "app",
            "config",
            "error",
            "export",
            "functions",
            "host",
            "model",
            "net",
            "schedule",
            "store",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "clock",
            "config",
            "doctor",
            "error",
            "export",
            "functions",
            "host",
            "model",
            "net",
            "secret",
            "sim",
            "store",
            "telemetry",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(sources(&path)),
            false if path.extension().is_some_and(|ending| ending == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

/// The name of the top-level module that `file` belongs to.
fn module(file: &Path) -> String {
    let inner = file.strip_prefix(root().join("src")).unwrap();
    let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Names of top-level modules that `text` mentions as `crate::name`.
fn mentioned(text: &str) -> Vec<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: String = code.collect::<Vec<_>>().join("\n");
    let names = code.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap().split(',').map(first_name).collect(),
        None => vec![first_name(rest)],
    });
    names.filter(|name| !name.is_empty()).collect()
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_what_their_floor_allows() {
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for file in sources(&root().join("src")) {
        let module = module(&file);
        let Some(allowed) = may_use.get(module.as_str()) else {
            panic!("{} is of a module without a line in MAY_USE", file.display());
        };
        for used in mentioned(&fs::read_to_string(&file).unwrap()) {
            let is_allowed = used == module || allowed.contains(&used.as_str());
            assert!(is_allowed, "{} may not use crate::{used}", file.display());
        }
    }
}

#[test]
fn floors_have_no_circles() {
    for (at, (module, allowed)) in MAY_USE.iter().enumerate() {
        let below: Vec<&str> = MAY_USE[..at].iter().map(|(name, _)| *name).collect();
        for used in *allowed {
            assert!(below.contains(used), "{module} may use {used}, which is not below it");
        }
    }
}

#[test]
fn the_rule_finds_what_it_looks_for() {
    let names =
        mentioned("use crate::{net, store::Store};\n// use crate::sim;\ncrate::cli::main()");
    assert_eq!(names, ["net", "store", "cli"]);
}

#[test]
fn only_config_and_the_doors_read_the_process_environment() {
    let may = ["src/main.rs", "src/cli/demo.rs"];
    for file in sources(&root().join("src")) {
        let name = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        // A test may ask for one seed.
        let reads = text.replace("env::var(\"SEED\")", "").contains("env::var");
        assert!(!reads || may.contains(&name.as_str()), "{name} reads the process environment");
    }
}

#[test]
fn every_kind_of_error_has_a_heading_in_the_runbook() {
    let runbook = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let headings: Vec<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let codes: Vec<&str> = Kind::ALL.iter().map(|kind| kind.facts().code).collect();
    assert_eq!(headings, codes, "headings of docs/operations.md, in the order of Kind::ALL");
}

#[test]
fn whatever_is_said_leaves_through_one_writer() {
    // The commands print results for programs, and records; the simulator prints nothing.
    let may =
        ["src/telemetry/mod.rs", "src/cli/mod.rs", "src/cli/export/one.rs", "src/cli/query.rs"];
    let ways = ["println!", "eprint!", "print!(", "dbg!", "io::stdout()", "stdout().", "stderr()."];
    for file in sources(&root().join("src")) {
        let name = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let found = ways.iter().find(|way| text.contains(**way));
        let is_bar = name == "src/cli/progress.rs" && text.matches("stderr()").count() == 1;
        let may_write = may.contains(&name.as_str()) || is_bar;
        assert!(found.is_none() || may_write, "{name} writes past the redactor: {found:?}");
    }
}

#[test]
fn one_tls_provider_is_built_in() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"aws-lc-rs\""), "a feature brought aws-lc-rs back");
    assert!(!lock.contains("name = \"openssl-sys\""), "a feature brought OpenSSL back");
}

#[test]
fn files_can_be_read_in_a_sitting() {
    for folder in ["src", "tests", "benches", "xtask"] {
        for file in sources(&root().join(folder)) {
            let n_lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(n_lines <= 600, "{} has {n_lines} lines", file.display());
        }
    }
}

#[test]
fn what_decides_is_the_command_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    let command = "cargo test --locked";
    assert!(readme.lines().any(|line| line == command));
    assert_eq!(ci.lines().last(), Some(command));
}

/// `UPDATE_DOCS=1` writes them anew.
#[test]
fn documents_are_made_from_the_code() {
    let path = root().join("docs/configuration.md");
    let wanted = easm_export::config::reference::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(found == wanted, "UPDATE_DOCS=1 writes {} anew; {differs:?}", path.display());
}

/// The version in the change log is the package's.
#[test]
fn the_change_log_names_this_version() {
    let log = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(log.lines().any(|line| line.starts_with(&heading)), "no heading {heading}");
}
