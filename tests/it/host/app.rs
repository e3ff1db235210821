//! An app root as the host reads it: host.json, overridden by settings, and the functions.
//!
//! `host.json + AzureFunctionsJobHost__* -> Options; <Function>/function.json -> Functions`
//!
//! A function that cannot be indexed is left out with a line in the log, as the host does: a
//! forgotten setting is a timer that silently never runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{
    Settings, expand, flag_at, number_at, override_member, resolve, span_at, text_at, words,
};
use super::cron::Schedule;
use super::dates;
use super::json::Json;
use super::route::Route;

const OVERRIDES: &str = "AzureFunctionsJobHost__";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const DEFAULT_INITIALIZATION: Duration = Duration::from_secs(30);
/// Most messages that the queue service gives at once.
const BATCH_MAX: u32 = 32;

/// What host.json and the settings say.
#[derive(Debug, Clone)]
pub struct Options {
    pub executable: String,
    pub arguments: Vec<String>,
    pub working_directory: PathBuf,
    pub stderr_is_errors_only: bool,
    pub forwards: bool,
    pub proxies: bool,
    pub initialization: Duration,
    /// Nothing: unbounded.
    pub timeout: Option<Duration>,
    pub route_prefix: String,
    pub queues: QueueOptions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    pub batch_size: u32,
    pub new_batch_threshold: u32,
    pub max_dequeue_count: u32,
    pub visibility_timeout: Duration,
    pub max_polling_interval: Duration,
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    /// Name of the trigger's binding.
    pub binding: String,
    pub trigger: Trigger,
    pub outputs: Vec<Output>,
    pub retry: Option<RetryPolicy>,
    /// One input, an `httpTrigger`, and one output, of type `http`: forwarded or proxied if the
    /// app says so.
    pub is_http_only: bool,
}

#[derive(Debug, Clone)]
pub enum Trigger {
    Timer { schedule: Schedule, is_monitored: bool },
    Queue { queue: String, is_binary: bool },
    Http { route: Route, methods: Vec<String>, auth: Auth },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Auth {
    Anonymous,
    Function,
    Admin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    pub is_binary: bool,
    pub kind: OutputKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    Http,
    Queue(String),
}

/// The retry policy of a function.json. `retries_max` of -1: for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    pub retries_max: i64,
    /// Before the first repetition; it doubles up to `pause_max`.
    pub pause: Duration,
    pub pause_max: Duration,
}

/// An app root that was read.
pub struct App {
    pub root: PathBuf,
    pub options: Options,
    pub functions: Vec<Function>,
    /// Why functions were left out, a line each.
    pub errors: Vec<String>,
}

impl App {
    pub fn read(root: &Path, settings: &Settings) -> Result<Self, String> {
        let mut config = read_json(&root.join("host.json"))?;
        for (name, value) in settings {
            let is_override = name
                .get(..OVERRIDES.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(OVERRIDES));
            if is_override {
                let path: Vec<&str> = name[OVERRIDES.len()..].split("__").collect();
                override_member(&mut config, &path, value);
            }
        }
        let options = Options::read(root, &config, settings)?;
        let (mut functions, mut errors) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(root).map_err(|err| format!("{}: {err}", root.display()))?;
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        for folder in folders.iter().filter(|folder| folder.join("function.json").is_file()) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match Function::read(&name, folder, settings) {
                Ok(function) => functions.push(function),
                Err(why) => errors.push(format!(
                    "The '{name}' function is in error: Error indexing method 'Functions.{name}'. {why}"
                )),
            }
        }
        Ok(Self { root: root.to_owned(), options, functions, errors })
    }

    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

/// Whether the app setting that disables a function says so.
pub fn is_disabled(name: &str, settings: &Settings) -> bool {
    let keys = [format!("AzureWebJobs.{name}.Disabled"), format!("AzureWebJobs__{name}__Disabled")];
    settings.iter().any(|(key, value)| {
        keys.iter().any(|wanted| wanted.eq_ignore_ascii_case(key))
            && (value.eq_ignore_ascii_case("true") || value == "1")
    })
}

impl Options {
    fn read(root: &Path, config: &Json, settings: &Settings) -> Result<Self, String> {
        if text_at(config, "version").as_deref() != Some("2.0") {
            return Err("host.json: \"version\" must be \"2.0\"".to_owned());
        }
        let handler = config.get("customHandler").cloned().unwrap_or(Json::Null);
        let about = handler.get("description").ok_or("Missing worker Description.")?;
        let executable = text_at(about, "defaultExecutablePath").unwrap_or_default();
        let executable = expand(&executable, settings);
        if executable.is_empty() {
            return Err("WorkerDescription DefaultExecutablePath cannot be empty".to_owned());
        }
        let folder = |name: &str| match text_at(about, name) {
            Some(folder) => root.join(folder),
            None => root.to_owned(),
        };
        let beside = folder("workerDirectory").join(&executable);
        let executable = match beside.is_file() {
            true => beside.to_string_lossy().into_owned(),
            false => executable,
        };
        let listed = |name: &str| match about.get(name) {
            Some(Json::Array(items)) => items.iter().filter_map(Json::scalar).collect(),
            // From a setting: a text that holds an array.
            Some(Json::Text(text)) => serde_json::from_str::<Vec<String>>(text).unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut line: Vec<String> =
            listed("arguments").iter().map(|argument| expand(argument, settings)).collect();
        line.extend(text_at(about, "defaultWorkerPath").map(|path| format!("\"{path}\"")));
        line.extend(listed("workerArguments").iter().map(|argument| expand(argument, settings)));
        let timeout = match text_at(config, "functionTimeout").as_deref() {
            None => Some(DEFAULT_TIMEOUT),
            Some("-1") => None,
            Some(text) => {
                let limit = dates::span(text).filter(|limit| *limit >= Duration::from_secs(1));
                Some(limit.ok_or(format!("functionTimeout: '{text}' is no time of 1 s or more"))?)
            }
        };
        let extensions = config.get("extensions").cloned().unwrap_or(Json::Null);
        let prefix = extensions.get("http").and_then(|http| text_at(http, "routePrefix"));
        Ok(Self {
            executable,
            arguments: words(&line.join(" ")),
            working_directory: folder("workingDirectory"),
            stderr_is_errors_only: flag_at(about, "useStdErrorStreamForErrorsOnly").unwrap_or(true),
            forwards: flag_at(&handler, "enableForwardingHttpRequest").unwrap_or(false),
            proxies: flag_at(&handler, "enableProxyingHttpRequest").unwrap_or(false),
            initialization: span_at(&handler, "initializationTimeout", DEFAULT_INITIALIZATION)?,
            timeout,
            route_prefix: prefix.unwrap_or("api".to_owned()),
            queues: QueueOptions::read(extensions.get("queues").unwrap_or(&Json::Null))?,
        })
    }
}

impl QueueOptions {
    fn read(config: &Json) -> Result<Self, String> {
        let batch_size = number_at(config, "batchSize", 16)?;
        if !(1..=BATCH_MAX).contains(&batch_size) {
            return Err(format!(
                "extensions.queues.batchSize: {batch_size} is not 1 to {BATCH_MAX}"
            ));
        }
        if text_at(config, "messageEncoding")
            .is_some_and(|text| !text.eq_ignore_ascii_case("base64"))
        {
            return Err(
                "extensions.queues.messageEncoding: the double knows base64 alone".to_owned()
            );
        }
        Ok(Self {
            batch_size,
            new_batch_threshold: number_at(config, "newBatchThreshold", batch_size / 2)?,
            max_dequeue_count: number_at(config, "maxDequeueCount", 5)?,
            visibility_timeout: span_at(config, "visibilityTimeout", Duration::ZERO)?,
            max_polling_interval: span_at(config, "maxPollingInterval", Duration::from_secs(60))?,
        })
    }
}

impl Function {
    fn read(name: &str, folder: &Path, settings: &Settings) -> Result<Self, String> {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
            && name.len() <= 128
            && name != "host";
        if !is_name {
            return Err(format!("'{name}' is not a valid function name."));
        }
        let config = read_json(&folder.join("function.json"))?;
        let Some(Json::Array(bindings)) = config.get("bindings") else {
            return Err("function.json has no bindings.".to_owned());
        };
        let is_out = |binding: &&Json| text_at(binding, "direction").as_deref() == Some("out");
        let (outs, ins): (Vec<&Json>, Vec<&Json>) = bindings.iter().partition(is_out);
        let kind = |binding: &Json| text_at(binding, "type").unwrap_or_default();
        let triggers: Vec<_> = ins.iter().filter(|b| kind(b).ends_with("Trigger")).collect();
        let [trigger] = triggers[..] else {
            return Err("A function has exactly one trigger.".to_owned());
        };
        let outputs: Vec<Output> =
            outs.iter().map(|binding| Output::read(binding, settings)).collect::<Result<_, _>>()?;
        let is_http_only = ins.len() == 1
            && kind(trigger) == "httpTrigger"
            && outputs.len() == 1
            && outputs[0].kind == OutputKind::Http;
        Ok(Self {
            name: name.to_owned(),
            binding: binding_name(trigger)?,
            trigger: Trigger::read(name, &kind(trigger), trigger, settings)?,
            outputs,
            retry: config.get("retry").map(RetryPolicy::read).transpose()?,
            is_http_only,
        })
    }
}

impl Trigger {
    fn read(name: &str, kind: &str, from: &Json, settings: &Settings) -> Result<Self, String> {
        match kind {
            "timerTrigger" => {
                let text = text_at(from, "schedule").ok_or("A timer has a schedule.")?;
                let schedule = Schedule::parse(&resolve(&text, settings)?)?;
                let is_wanted = flag_at(from, "useMonitor").unwrap_or(true);
                let is_monitored = is_wanted && !schedule.is_sub_minute();
                Ok(Self::Timer { schedule, is_monitored })
            }
            "queueTrigger" => {
                Ok(Self::Queue { queue: queue_name(from, settings)?, is_binary: is_binary(from) })
            }
            "httpTrigger" => {
                let route = text_at(from, "route").unwrap_or(name.to_owned());
                let methods = match from.get("methods") {
                    Some(Json::Array(methods)) => {
                        methods.iter().filter_map(Json::scalar).map(|m| m.to_uppercase()).collect()
                    }
                    _ => Vec::new(),
                };
                let level = text_at(from, "authLevel").unwrap_or_default().to_lowercase();
                let auth = match level.as_str() {
                    "anonymous" => Auth::Anonymous,
                    "" | "function" => Auth::Function,
                    "admin" => Auth::Admin,
                    other => return Err(format!("'{other}' is no authLevel.")),
                };
                Ok(Self::Http { route: Route::parse(&route)?, methods, auth })
            }
            other => Err(format!("The double knows no trigger of type '{other}'.")),
        }
    }
}

impl Output {
    fn read(from: &Json, settings: &Settings) -> Result<Self, String> {
        let kind = match text_at(from, "type").unwrap_or_default().as_str() {
            "http" => OutputKind::Http,
            "queue" => OutputKind::Queue(queue_name(from, settings)?),
            other => return Err(format!("The double knows no output of type '{other}'.")),
        };
        Ok(Self { name: binding_name(from)?, is_binary: is_binary(from), kind })
    }
}

impl RetryPolicy {
    fn read(from: &Json) -> Result<Self, String> {
        let retries = from.get("maxRetryCount").and_then(Json::scalar).unwrap_or_default();
        let pause = match text_at(from, "strategy").as_deref() {
            Some("fixedDelay") => (span_at(from, "delayInterval", Duration::ZERO)?, None),
            Some("exponentialBackoff") => (
                span_at(from, "minimumInterval", Duration::ZERO)?,
                Some(span_at(from, "maximumInterval", Duration::ZERO)?),
            ),
            _ => return Err("retry.strategy is fixedDelay or exponentialBackoff.".to_owned()),
        };
        Ok(Self {
            retries_max: retries.parse().map_err(|_| "retry.maxRetryCount is a number.")?,
            pause: pause.0,
            pause_max: pause.1.unwrap_or(pause.0),
        })
    }
}

fn read_json(path: &Path) -> Result<Json, String> {
    let text = fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?;
    Json::parse(&text).map_err(|err| format!("{}: {err}", path.display()))
}

fn binding_name(from: &Json) -> Result<String, String> {
    let name = text_at(from, "name").unwrap_or_default();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    match is_name || name == "$return" {
        true => Ok(name),
        false => Err(format!("'{name}' is not a valid binding name.")),
    }
}

fn queue_name(from: &Json, settings: &Settings) -> Result<String, String> {
    let name = text_at(from, "queueName").ok_or("A queue binding has a queueName.")?;
    resolve(&name, settings)
}

fn is_binary(from: &Json) -> bool {
    text_at(from, "dataType").is_some_and(|text| text.eq_ignore_ascii_case("binary"))
}
