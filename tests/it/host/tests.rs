//! Tests of the double itself, against small handlers: a script of Python that does what it is
//! told (`tests/fixtures/host-double/handler.py`), or a line of shell.

mod config;
mod door;
mod forwarding;
mod life;
mod poison;
mod queue;
mod timer;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Account, Host, HostOptions, Queues, Stream};
use crate::azurite::Azurite;

/// Far beyond what any test waits for: it ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

const HANDLER: &str = include_str!("../../fixtures/host-double/handler.py");
const TIMER: &str =
    r#"{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 0 6 * * *"}"#;
const QUEUE: &str = r#"{"type":"queueTrigger","direction":"in","name":"job","queueName":"jobs"}"#;
const WORK: &str = r#"{"type":"queue","direction":"out","name":"work","queueName":"out"}"#;

/// An app root with functions by name, their bindings, and host.json without its handler.
struct AppRoot(TempDir);

impl AppRoot {
    /// With the script for a handler.
    fn new(functions: &[(&str, &[&str])], host: Value) -> Self {
        let app = Self::with(
            functions,
            host,
            json!({"defaultExecutablePath": "python3",
            "arguments": ["handler.py"]}),
        );
        fs::write(app.path().join("handler.py"), HANDLER).unwrap();
        app
    }

    /// With a line of shell for a handler.
    fn shell(functions: &[(&str, &[&str])], host: Value, line: &str) -> Self {
        let app = Self::with(
            functions,
            host,
            json!({"defaultExecutablePath": "sh",
            "arguments": ["handler.sh"]}),
        );
        fs::write(app.path().join("handler.sh"), line).unwrap();
        app
    }

    fn with(functions: &[(&str, &[&str])], mut host: Value, description: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        host["version"] = json!("2.0");
        host["customHandler"]["description"] = description;
        fs::write(folder.path().join("host.json"), host.to_string()).unwrap();
        for (name, bindings) in functions {
            fs::create_dir(folder.path().join(name)).unwrap();
            let text = format!("{{\"bindings\":[{}]}}", bindings.join(","));
            fs::write(folder.path().join(name).join("function.json"), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn options(&self) -> HostOptions {
        HostOptions::new(self.path())
    }

    async fn start(&self) -> Host {
        Host::start(self.options(), &memory()).await.unwrap()
    }

    /// Lets the script end all its waits.
    fn go(&self) {
        fs::write(self.path().join("go"), "").unwrap();
    }
}

fn memory() -> Arc<Account> {
    Account::new(Queues::memory(None))
}

/// Accounts with each kind of queues that there is here.
fn accounts(test: &str) -> Vec<Arc<Account>> {
    let azurite = Azurite::queues(test).map(|azurite| Account::new(Queues::azurite(azurite)));
    [memory()].into_iter().chain(azurite).collect()
}

/// The requests that the script saw, in order.
fn seen(host: &Host) -> Vec<Value> {
    let lines = host.lines().into_iter().filter(|line| line.stream == Stream::Stdout);
    lines.filter_map(|line| serde_json::from_str(&line.text).ok()).collect()
}
