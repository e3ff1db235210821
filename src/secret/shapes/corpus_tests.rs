//! Nothing that this program or its documents say looks like a secret.

use std::fs;
use std::path::{Path, PathBuf};

use super::find;

/// What is looked at, below the root.
const FOLDERS: &[&str] = &["src", "docs", "functions"];
const FILES: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "host.json", "local.settings.sample.json"];

/// Sources that are about secrets, or play those who have some.
const NOT_SAID: &[&str] = &["src/secret/", "src/sim/", "src/sim.rs"];

/// What looks like a secret nevertheless, and is none.
const EXCEPT: &[&str] = &[
    // Azurite's, which is published.
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    // In place of a value, in the sample of settings.
    "the secret itself, on a laptop only",
    // Of commands in documents, where a shell puts the token in.
    "$(az",
    "$TOKEN",
    "$token",
    // How Application Insights is signed in to, in a document: not who.
    "AAD",
];

/// Stands for what is not known before it is said.
const SOMETHING: &str = "something";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The literals of a Rust source without its tests, as they are printed.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n").replace("'\"'", "");
    let mut rest = code.as_str();
    let mut found = Vec::new();
    while let Some((front, behind)) = rest.split_once('"') {
        let fence = front.trim_end_matches('#');
        let is_raw =
            fence.ends_with('r') && !fence[..fence.len() - 1].ends_with(char::is_alphanumeric);
        let close = if is_raw { "\"".to_owned() + &front[fence.len()..] } else { "\"".to_owned() };
        let is_escaped =
            |at: usize| behind[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let mut ends = behind.match_indices(&close).map(|(at, _)| at);
        let end = ends.find(|at| is_raw || !is_escaped(*at)).expect("a literal that ends");
        found.push(match is_raw {
            true => behind[..end].to_owned(),
            false => printed(&behind[..end]),
        });
        rest = &behind[end + close.len()..];
    }
    found
}

/// A literal with its escapes and parameters as they may come out.
fn printed(literal: &str) -> String {
    let mut parts = literal.split("\\\n");
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.trim_start()));
    let text = text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\");
    let mut printed = String::new();
    let mut rest = text.as_str();
    while let Some((front, behind)) = rest.split_once('{') {
        printed.push_str(front);
        match behind.strip_prefix('{') {
            Some(behind) => {
                printed.push('{');
                rest = behind;
            }
            None => {
                printed.push_str(SOMETHING);
                rest = behind.split_once('}').map_or("", |(_, rest)| rest);
            }
        }
    }
    (printed + rest).replace("}}", "}")
}

/// What of `text` is hidden.
fn hidden(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    find(text.as_bytes(), &mut found);
    found.into_iter().map(|range| &text[range]).collect()
}

#[test]
fn nothing_that_we_say_is_taken_for_a_secret() {
    let folders = FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder)));
    let mut n_texts = 0;
    let mut faults = Vec::new();
    for path in folders.chain(FILES.iter().map(|file| root().join(file))) {
        let name =
            path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if NOT_SAID.iter().any(|part| name.starts_with(part)) || name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let texts = match name.ends_with(".rs") {
            true => literals(&text),
            false => text.lines().map(str::to_owned).chain([text.clone()]).collect(),
        };
        for text in &texts {
            let mut found = hidden(text);
            found.retain(|hidden| !EXCEPT.contains(hidden));
            faults.extend((!found.is_empty()).then(|| format!("{name}: {found:?} of {text:?}")));
        }
        n_texts += texts.len();
    }
    assert!(n_texts > 3000, "{n_texts} texts");
    assert!(faults.is_empty(), "{} of {n_texts}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn literals_are_read_as_they_are_printed() {
    let source = "f(\"a {b} {{c}}\\\" \\\n    d\", r#\"\"x\": 1\"#); // no\n#[cfg(test)] \"not\"";
    assert_eq!(literals(source), ["a something {c}\" d", "\"x\": 1"]);
    assert_eq!(hidden("password=hunter2"), ["hunter2"]);
}
