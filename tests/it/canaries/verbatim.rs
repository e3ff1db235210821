//! What programs read back is never altered, however much it looks like a secret: filters, cursors and
//! names, in documents, in answers, on stdout.

use std::time::Duration;

use easm_export::sim::{Fault, Options, Scripted, SignIn};
use serde_json::Value;
use tokio::process::Command;

use super::handler::serving;
use super::liar::{liar, truth};
use super::planted::{API_KEY, INSTRUMENTATION_KEY, PROXY_USER};
use super::scene::{EXPORT, Scene, ended};
use crate::contract::functions_host::{Handler, Mode};
use crate::contract::functions_payload::ask;
use crate::support::signal;

/// Assets so large that each page is a part of its own, and each cursor is saved.
const ASSET_BYTES: usize = 24_000;
const POLL: Duration = Duration::from_millis(20);
const POLLS_MAX: u32 = 3000;
/// A name as a group of resources may have one.
const GROUP: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJlLW9mLW5vYm9keQ";
/// A name as a workspace may have one.
const WORKSPACE: &str = "client_secret-hunter2hunter2hunter2hunter2";

/// Filters that hold everywhere, and look like secrets.
fn filters() -> Vec<String> {
    let texts = [
        "password=hunter2-hunter2",
        "Authorization: Bearer hunter2hunter2hunter2hunter2",
        GROUP,
        "https://acme.blob.core.windows.net/c?sv=2024-11-04&sig=aHVudGVyMmh1bnRlcjJodW50ZXIy%3D",
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        // Of the environment; a filter may hold the same words.
        INSTRUMENTATION_KEY,
        PROXY_USER,
    ];
    texts.map(|text| format!("name != \"{text}\"")).into()
}

/// Cursors that look like secrets.
const MARKS: [fn(usize, &str) -> String; 6] = [
    |n, _| format!("{}{n}", GROUP),
    // 88 characters, as the key of a storage account.
    |n, _| {
        format!(
            "{n:06}M02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGwww=="
        )
    },
    |n, _| format!("password=hunter2-hunter2&n={n}"),
    |n, _| {
        format!("sv=2024-11-04&sr=c&sig=aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI%3D&n={n}")
    },
    |n, _| format!("access_token:hunter2hunter2hunter2hunter2hunter2-{n}"),
    // Of the environment; it is not ours to look for in data.
    |n, _| format!("{API_KEY}{n}"),
];

/// A scene of these names, behind a service with these cursors.
struct Stage {
    scene: Scene,
    url: String,
    filter: String,
    first_mark: String,
}

impl Stage {
    async fn new(n: usize) -> Self {
        // The third page hangs once, so that a run is cut off between two pages.
        let hang = Scripted {
            path_contains: "/assets".to_owned(),
            query_contains: "mark=AoE".to_owned(),
            from: 1,
            times: 1,
            fault: Fault::Hang,
        };
        let scene = Scene::new(Options {
            asset_bytes: ASSET_BYTES,
            resource_group: GROUP.to_owned(),
            workspace: WORKSPACE.to_owned(),
            script: vec![hang],
            ..super::planted::options()
        });
        let scene = scene.await;
        let mark = MARKS[n % MARKS.len()];
        let url = liar(&scene.world.sim, truth(), Some(mark)).await;
        let filter = filters().swap_remove(n % filters().len());
        Self { scene, url, filter, first_mark: mark(0, "") }
    }

    fn vars(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("EASM_DATA_PLANE_URL", &self.url),
            ("EASM_FILTER", &self.filter),
            ("EASM_PAGE_SIZE", "2"),
            ("EASM_PART_BYTES_MAX", "32768"),
        ]
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.scene.command(SignIn::ManagedIdentity, args);
        command.envs(self.vars());
        command
    }

    async fn stdout(&self, args: &[&str]) -> String {
        let told = ended(self.command(args)).await;
        assert_eq!(told.code, 0, "{args:?}: {}", told.stderr_text());
        told.stdout_text()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(args).await).unwrap()
    }

    fn document(&self, run: &str, path: &str) -> Value {
        self.scene.world.document(&format!("{WORKSPACE}/runs/{run}/{path}"))
    }

    /// Starts a run, interrupts it between two pages, and gives its id.
    async fn cut_off(&self) -> String {
        let mut child = self.command(&EXPORT).spawn().unwrap();
        for _ in 0..POLLS_MAX {
            let lists = self.scene.world.sim.requests();
            if lists.iter().filter(|seen| seen.query.contains("mark=AoE")).count() >= 2 {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        signal(&child, "INT");
        assert_eq!(child.wait().await.unwrap().code(), Some(130), "interrupted");
        let files = self.scene.world.files();
        let run = files.iter().find(|path| path.ends_with("/run.json")).unwrap();
        run.split('/').nth(2).unwrap().to_owned()
    }
}

/// Every text in `value`.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn what_looks_like_a_secret_comes_back_byte_for_byte() {
    futures::future::join_all((0..filters().len()).map(comes_back)).await;
}

async fn comes_back(n: usize) {
    let stage = Stage::new(n).await;
    let (filter, mark) = (stage.filter.clone(), stage.first_mark.clone());
    let case = format!("{filter}, {mark}");
    let run = stage.cut_off().await;

    // Documents of a run in work.
    assert_eq!(stage.document(&run, "run.json")["request"]["filter"], filter);
    assert_eq!(stage.document(&run, "plan.json")["request"]["filter"], filter);
    let checkpoint = stage.document(&run, "checkpoints/0.json");
    let second = MARKS[n % MARKS.len()](1, "");
    let is_saved =
        texts(&checkpoint).iter().any(|text| [&mark, &second].contains(&&(*text).to_owned()));
    assert!(is_saved, "{case}: {checkpoint}");

    // What is read of it.
    let handler = serving(&stage.scene, SignIn::ManagedIdentity, &stage.vars()).await;
    answered(&handler, &stage, &run, &case).await;
    handler.end().await;
    assert_eq!(stage.json(&["runs", "show", &run, "--json"]).await["request"]["filter"], filter);

    // Taken up with that cursor, it comes to its end.
    let manifest = stage.json(&["export", "--json", "--resume", &run]).await;
    assert_eq!(manifest["request"]["filter"], filter, "{case}");
    assert_eq!(manifest["workspace"]["resourceGroup"], GROUP, "{case}");
    assert_eq!([&manifest["workspace"]["workspace"], &manifest["target"]], [WORKSPACE, WORKSPACE]);
    assert_eq!(manifest["completeness"], "exact", "{case}");
    assert_eq!(stage.document(&run, "manifest.json"), manifest, "{case}");
    let files = stage.stdout(&["runs", "files", &run]).await;
    let parts = manifest["files"].as_array().unwrap();
    assert_eq!(files.lines().count(), parts.len(), "{case}");
    for (line, part) in files.lines().zip(parts) {
        let path = part["path"].as_str().unwrap();
        assert!(path.starts_with(WORKSPACE) && line.ends_with(path), "{case}: {line}");
    }

    // A query, and the next one behind its cursor.
    let page = stage.json(&["query", "--json", "--limit", "2", "--kind", "host"]).await;
    let next = page["nextMark"].as_str().unwrap().to_owned();
    assert!(is_made(&next, n), "{case}: {next}");
    let told =
        ended(stage.command(&["query", "--limit", "2", "--mark", &next, "--kind", "host"])).await;
    assert_eq!(told.code, 0, "{case}: {}", told.stderr_text());
    assert_eq!(told.stdout_text().lines().count(), 2, "{case}");
}

/// Whether `mark` is one of those that the service made.
fn is_made(mark: &str, n: usize) -> bool {
    (0..1000).any(|at| MARKS[n % MARKS.len()](at, "") == mark)
}

/// What the functions say of a run, and of a query's cursor.
async fn answered(handler: &Handler, stage: &Stage, run: &str, case: &str) {
    for mode in Mode::BOTH {
        let shown =
            handler.ask_raw(mode, &ask("GET", &format!("/exports/{run}"))).await.expect(200);
        assert_eq!(shown.json()["request"]["filter"], stage.filter, "{mode:?}");
        let list = handler.ask_raw(mode, &ask("GET", "/exports")).await.expect(200);
        assert_eq!(list.json()["value"][0]["request"]["filter"], stage.filter, "{mode:?}");
        let n = MARKS.iter().position(|make| make(0, "") == stage.first_mark).unwrap();
        for format in ["json", "ndjson", "csv"] {
            let ask = ask("GET", "/assets").query("limit", "2").query("format", format);
            let answer = handler.ask_raw(mode, &ask.query("kind", "host")).await;
            if answer.status == 502 && stage.first_mark.contains(API_KEY) && format != "json" {
                // It has a blank, and is not put into a header.
                continue;
            }
            let mark = match format {
                "json" => answer.json()["nextMark"].as_str().unwrap().to_owned(),
                _ => answer
                    .headers
                    .get("x-easm-next-mark")
                    .unwrap_or_else(|| panic!("{case}: {answer:?}"))
                    .clone(),
            };
            assert!(is_made(&mark, n), "{case}, {mode:?} {format}: {mark}");
        }
    }
}
