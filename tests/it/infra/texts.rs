//! The sources of the templates, the workflow, and what azd is told.

use super::{infra_files, read};

/// What would hand out a key or a secret, in Bicep or in a setting.
const KEYS: [&str; 9] = [
    "AccountKey=",
    "SharedAccessKey",
    "SharedAccessSignature",
    "DefaultEndpointsProtocol",
    "@secure",
    "getSecret(",
    "clientSecretSettingName",
    "newGuid(",
    "primaryKey",
];

/// Words that the name of an output would have if it gave out a secret.
const SECRET_WORDS: [&str; 6] = ["secret", "password", "key", "token", "connectionString", "sas"];

fn sources() -> Vec<(String, String)> {
    let files = infra_files(&["bicep", "bicepparam"]);
    assert!(files.len() > 15, "{files:?}");
    let read = |file: std::path::PathBuf| {
        let name = format!("infra/{}", file.display());
        let text = read(&name);
        (name, text)
    };
    files.into_iter().map(read).collect()
}

/// Whether `text` calls a function of Azure that lists keys: `listKeys(`, `list(`, `.listSecrets(`.
fn lists_keys(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("list").any(|(at, _)| {
        let is_begin = !text[..at].ends_with(is_word);
        let rest = text[at + "list".len()..].trim_start_matches(char::is_alphanumeric);
        let name = &text[at..text.len() - rest.len()];
        let is_upper = name["list".len()..].chars().next().is_none_or(|c| c.is_ascii_uppercase());
        is_begin && is_upper && rest.starts_with('(')
    })
}

#[test]
fn the_rule_about_keys_finds_what_it_looks_for() {
    for text in
        ["account.listKeys().keys", "listKeys(a, b)", "x: list('a', 'b')", "k.listSecrets()"]
    {
        assert!(lists_keys(text), "{text}");
    }
    for text in ["a list (of things)", "targetList(", "listed(", "allowlistKeys("] {
        assert!(!lists_keys(text), "{text}");
    }
}

#[test]
fn no_key_is_asked_for_and_no_secret_is_handed_on() {
    let snapshots = infra_files(&["json"]).into_iter().map(|file| {
        let name = format!("infra/{}", file.display());
        let text = read(&name);
        (name, text)
    });
    for (name, text) in sources().into_iter().chain(snapshots) {
        assert!(!lists_keys(&text), "{name} lists keys");
        for word in KEYS {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
}

#[test]
fn no_output_gives_out_a_secret() {
    let mut n_outputs = 0;
    for (name, text) in sources() {
        for line in text.lines().filter(|line| line.starts_with("output ")) {
            n_outputs += 1;
            // Names of settings, and the end of a host name.
            let rest = line.replace("objectKeys(settings)", "").replace("suffixes.keyvaultDns", "");
            let rest = rest.to_lowercase();
            let found = SECRET_WORDS.iter().find(|word| rest.contains(&word.to_lowercase()));
            assert!(found.is_none(), "{name}: {line}");
        }
    }
    assert!(n_outputs >= 8);
}

#[test]
fn every_resource_has_a_pinned_version_and_every_template_its_map() {
    for (name, text) in sources() {
        assert!(text.starts_with("// "), "{name} opens with what it is for");
        for line in text.lines() {
            let Some(rest) = line.trim_start().strip_prefix("resource ") else { continue };
            let kind = rest.split('\'').nth(1).unwrap();
            // A resource inside another one takes its version.
            let is_inner = line.starts_with(' ') && !kind.contains('.');
            let is_pinned = kind.split_once('@').is_some_and(|(_, version)| is_version(version));
            assert!(is_inner || is_pinned, "{name}: {line}");
        }
        for line in text.lines().filter(|line| line.starts_with("module ")) {
            let path = line.split('\'').nth(1).unwrap();
            assert!(!path.contains(':'), "{name}: {path} is not in this repository");
        }
    }
}

/// `2024-11-01` or `2023-04-01-preview`.
fn is_version(text: &str) -> bool {
    let day = text.strip_suffix("-preview").unwrap_or(text);
    let shape: String = day.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

#[test]
fn every_rule_of_the_linter_is_an_error() {
    let config = read("infra/bicepconfig.json");
    let levels = config.lines().filter(|line| line.contains("\"level\"")).count();
    let errors = config.lines().filter(|line| line.contains("\"level\": \"error\"")).count();
    assert_eq!((levels, errors), (53, 53), "those that Bicep 0.49.2 has");
}

#[test]
fn the_workflow_pins_its_actions_and_has_no_secret() {
    let workflow = read(".github/workflows/deploy.yml");
    let uses: Vec<&str> = workflow
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        .collect();
    assert!(uses.len() >= 4, "{uses:?}");
    for line in uses {
        let (action, version) =
            line.split_once(" # ").unwrap_or_else(|| panic!("{line}: which version?"));
        let (_, commit) = action.split_once('@').unwrap();
        let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
        assert!(is_commit, "{line}: a tag can be moved");
        assert!(version.starts_with('v') && version.matches('.').count() == 2, "{line}");
    }
    assert!(!workflow.contains("secrets"), "GitHub vouches for the run; there is no secret");
    let (_, deploy) = workflow.split_once("\n  deploy:\n").unwrap();
    for wanted in ["id-token: write", "contents: read", "environment: azure"] {
        assert!(deploy.contains(wanted), "{wanted}");
    }
    // Only that job may ask for a token.
    assert_eq!(workflow.matches("id-token: write").count(), 1);
    let steps = [
        "group what-if",
        "group create",
        "deployment source config-zip",
        "/api/health",
        "/api/exports",
        "!= 401",
    ];
    let places: Vec<usize> = steps.iter().map(|step| deploy.find(step).expect(step)).collect();
    assert!(places.is_sorted(), "{steps:?} in this order");
    assert_eq!(pasted(&workflow), Vec::<&str>::new());
    assert!(workflow.contains("${{ vars.AZURE_CLIENT_ID }}"));
}

/// Lines of a workflow whose expression is more than a variable of the repository as the whole value of a name,
/// or stands in a script: there it is pasted, whatever it is.
fn pasted(workflow: &str) -> Vec<&str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    // Where the script that we are in was opened.
    let mut script: Option<usize> = None;
    let mut found = Vec::new();
    for line in workflow.lines().filter(|line| !line.trim().is_empty()) {
        script = script.filter(|at| indent(line) > *at);
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let is_name = name.trim().chars().all(is_word);
        let expression = value.strip_prefix("${{ vars.").and_then(|rest| rest.strip_suffix(" }}"));
        let is_variable = expression.is_some_and(|it| !it.contains("${{") && !it.contains('('));
        let is_fine = script.is_none() && is_name && name.trim() != "run" && is_variable;
        if line.contains("${{") && !is_fine {
            found.push(line);
        }
        if name.trim().trim_start_matches("- ") == "run" {
            script = Some(indent(line));
        }
    }
    found
}

#[test]
fn the_rule_about_expressions_finds_what_it_looks_for() {
    for line in [
        "        run: echo ${{ vars.A }}",
        "        run: ${{ vars.A }}",
        "      - run: ${{ vars.A }}",
        "        run: |\n          echo hello\n          A: ${{ vars.A }}",
        "        run: >-\n\n          ${{ vars.A }}",
        "          A: ${{ github.event.head_commit.message }}",
        "          A: ${{ toJSON(vars.A) }}",
        "          A: ${{ vars.A }}-${{ github.ref }}",
    ] {
        assert_eq!(pasted(line).len(), 1, "{line}");
    }
    let fine =
        "        run: |\n          echo hello\n        env:\n          A: ${{ vars.A || 'b' }}";
    assert!(pasted(fine).is_empty(), "{fine}");
}

/// A parameter that the workflow does not hand in would silently be the made-up one.
#[test]
fn the_workflow_hands_in_whatever_a_parameter_file_reads() {
    let workflow = read(".github/workflows/deploy.yml");
    let (_, deploy) = workflow.split_once("\n  deploy:\n").unwrap();
    let (env, _) = deploy.split_once("\n    steps:\n").unwrap();
    let mut n_names = 0;
    for (file, text) in sources() {
        for rest in text.split("readEnvironmentVariable('").skip(1) {
            let (name, _) = rest.split_once('\'').unwrap();
            n_names += 1;
            assert!(
                env.contains(&format!("\n      {name}: ${{{{ vars.{name} }}}}\n")),
                "{file}: {name}"
            );
        }
    }
    assert!(n_names >= 8, "{n_names}");
}

#[test]
fn azd_finds_the_app_and_the_package() {
    let azd = read("azure.yaml");
    let app = read("infra/modules/function-app.bicep");
    let service = "easm-export";
    assert!(azd.contains("\nservices:\n") && azd.contains(&format!("\n  {service}:\n")));
    assert!(app.contains(&format!("{{ 'azd-service-name': '{service}' }}")));
    for line in ["host: function", "language: custom", "dist: dist/easm-export.zip", "path: infra"]
    {
        assert!(azd.lines().any(|found| found.trim() == line), "{line}");
    }
    // Template and package turn sign-in on by the same variable.
    for (name, text) in [
        ("azure.yaml", azd),
        ("infra/main.bicepparam", read("infra/main.bicepparam")),
        (".github/workflows/deploy.yml", read(".github/workflows/deploy.yml")),
    ] {
        assert!(text.contains("SIGN_IN_CLIENT_ID"), "{name}");
    }
}

#[test]
fn what_was_not_tried_is_marked_in_one_way() {
    let text = read("docs/deploy.md");
    let n_marks = text.matches("[not tried]").count();
    assert!(n_marks >= 5);
    assert_eq!(text.matches("**[not tried]**").count(), n_marks);
    assert!(text.contains("**Nothing here was tried on a live subscription.**"));
}
