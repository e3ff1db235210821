//! What is deployed beside the binary: `host.json`, the functions, and the sample of the settings.
//! How they are packaged is tested in `xtask/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use easm_export::config::Auth;
use easm_export::config::reference::{self, GROUPS, Setting};
use easm_export::functions::{TABLE, openapi};
use easm_export::host::{Function, Trigger, binding};
use serde_json::{Value, json};

use crate::support::{bare_command, finish};

/// What the host itself reads in the sample, with the value for a laptop.
const OF_THE_HOST: [(&str, &str); 2] =
    [("AzureWebJobsStorage", "UseDevelopmentStorage=true"), ("FUNCTIONS_WORKER_RUNTIME", "custom")];

/// What the sample sets to something else than the default. The four names of the tenant are to be
/// filled in.
const OTHER_THAN_DEFAULT: [(&str, &str); 6] = [
    ("EASM_RESOURCE_GROUP", ""),
    ("EASM_STORE_URL", "http://127.0.0.1:10000/devstoreaccount1/easm"),
    ("EASM_SUBSCRIPTION_ID", ""),
    ("EASM_TENANT_ID", ""),
    ("EASM_WORKSPACE", ""),
    ("EXPORT_SCHEDULE", "0 0 6 * * *"),
];

/// Functions, their trigger, and the other bindings by type and name (contract, section 4).
const FUNCTIONS: [(&str, &str, &[&str]); 7] = [
    ("Assets", "httpTrigger in req", &["http out res"]),
    ("ExportTimer", "timerTrigger in timer", &["queue out work"]),
    ("ExportWorker", "queueTrigger in message", &["queue out work"]),
    ("Exports", "httpTrigger in req", &["http out res", "queue out work"]),
    ("Health", "httpTrigger in req", &["http out res"]),
    ("Maintenance", "timerTrigger in timer", &["queue out work"]),
    ("OpenApi", "httpTrigger in req", &["http out res"]),
];

fn read(path: &str) -> Value {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The member `name` of the sample: settings by name.
fn sample(name: &str) -> BTreeMap<String, String> {
    serde_json::from_value(read("local.settings.sample.json")[name].clone()).unwrap()
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

fn bindings(function: &str) -> Vec<Value> {
    let document = read(&format!("functions/{function}/function.json"));
    assert_eq!(document.as_object().unwrap().len(), 1, "{function}: only bindings are read");
    document["bindings"].as_array().unwrap().clone()
}

/// What has a default is set to it, so that one sees what holds; what means something by being absent
/// stands aside, where neither the tools nor the command line look.
#[test]
fn the_sample_has_every_setting_and_no_other() {
    let other: BTreeMap<_, _> = OTHER_THAN_DEFAULT.into_iter().collect();
    let values = settings().filter_map(|Setting { name, default, .. }| {
        let value = other.get(name).or(Some(default).filter(|default| !default.is_empty()))?;
        Some(((*name).to_owned(), (*value).to_owned()))
    });
    let host = OF_THE_HOST.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let wanted: BTreeMap<_, _> = values.chain(host).collect();
    assert_eq!(sample("Values"), wanted);
    let examples: BTreeSet<String> = sample("Examples").into_keys().collect();
    let rest = settings().map(|setting| setting.name.to_owned());
    assert_eq!(examples, rest.filter(|name| !wanted.contains_key(name)).collect());
}

/// As it is copied, with the tenant's names filled in; then with every example beside the values.
#[tokio::test]
async fn every_value_of_the_sample_is_accepted() {
    let mut values = sample("Values");
    values.insert("EASM_TENANT_ID".to_owned(), "contoso.onmicrosoft.com".to_owned());
    let subscription = "66666666-7777-8888-9999-aaaaaaaaaaaa".to_owned();
    values.insert("EASM_SUBSCRIPTION_ID".to_owned(), subscription);
    values.insert("EASM_RESOURCE_GROUP".to_owned(), "rg-easm".to_owned());
    values.insert("EASM_WORKSPACE".to_owned(), "contoso".to_owned());
    let mut with_examples = values.clone();
    // What this version does not do yet it refuses.
    let is_used = |name: &str| reference::setting(name).unwrap().is_used;
    with_examples.extend(sample("Examples").into_iter().filter(|(name, _)| is_used(name)));
    // Principals mean something with it only.
    with_examples.insert("EASM_AUTH".to_owned(), "entra".to_owned());
    // A client secret is in one place.
    let without = |name: &str| {
        let mut values = with_examples.clone();
        assert!(values.remove(name).is_some(), "{name}");
        values
    };
    let (in_vault, given) = (without("EASM_CLIENT_SECRET"), without("EASM_CLIENT_SECRET_NAME"));
    for values in [values, in_vault, given] {
        let folder = tempfile::tempdir().unwrap();
        let text = json!({"IsEncrypted": false, "Values": values, "Examples": {"A": "b"}});
        fs::write(folder.path().join("local.settings.json"), text.to_string()).unwrap();
        // What the example of EASM_TARGETS names.
        let guid = "66666666-7777-8888-9999-aaaaaaaaaaaa";
        let targets = json!([{
            "tenantId": guid, "subscriptionId": guid, "resourceGroup": "rg", "workspace": "fabrikam",
        }]);
        fs::write(folder.path().join("targets.json"), targets.to_string()).unwrap();
        let list = bare_command(folder.path(), &["runs", "list", "--json", "--store", "exports"]);
        finish(list).await.expect_code(0);
    }
}

#[tokio::test]
async fn the_sample_as_it_is_names_what_is_to_be_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("local.settings.sample.json");
    fs::copy(sample, folder.path().join("local.settings.json")).unwrap();
    let done = finish(bare_command(folder.path(), &["export"])).await.expect_code(2);
    let line = done.error_line();
    for (name, _) in OTHER_THAN_DEFAULT.iter().filter(|(_, value)| value.is_empty()) {
        assert!(line.contains(name), "{name}: {line}");
    }
}

#[test]
fn the_functions_are_those_of_the_contract() {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("functions")).unwrap();
    let mut names: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, FUNCTIONS.map(|(name, _, _)| name));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for (function, trigger, others) in FUNCTIONS {
        let words = bindings(function);
        let words = words.iter().map(|binding| {
            ["type", "direction", "name"].map(|member| text(&binding[member])).join(" ")
        });
        assert_eq!(words.collect::<Vec<_>>(), [&[trigger], others].concat(), "{function}");
    }
}

#[test]
fn http_functions_have_the_routes_of_the_contract_and_all_but_health_demand_a_key() {
    let check = |function: &str, route: &str, methods: Value, level: &str| {
        let trigger = &bindings(function)[0];
        assert_eq!(trigger["route"], route);
        assert_eq!(trigger["methods"], methods);
        assert_eq!(trigger["authLevel"], level, "{function}");
    };
    check("Exports", "exports/{runId?}", json!(["get", "post", "delete"]), "function");
    check("Assets", "assets", json!(["get", "post"]), "function");
    check("OpenApi", "openapi.json", json!(["get"]), "function");
    check("Health", "health", json!(["get"]), "anonymous");
}

/// What the program answers to is what the host is told, and what `openapi.json` says.
#[test]
fn folders_table_and_description_are_of_the_same_functions() {
    let mut described: BTreeSet<(String, String)> = BTreeSet::new();
    let document = openapi::document(&Auth::Key);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys();
        described.extend(methods.map(|method| (path.clone(), method.clone())));
    }
    let names: Vec<&str> = TABLE.iter().map(|function| function.name).collect();
    assert_eq!(names.len(), FUNCTIONS.len());
    for Function { name, trigger, emits } in TABLE {
        let bindings = bindings(name);
        let of_type = |wanted: &str| bindings.iter().find(|binding| binding["type"] == wanted);
        let emitted = of_type("queue").map(|binding| binding["name"].clone());
        assert_eq!(emitted, emits.then(|| json!(binding::WORK)), "{name}");
        let (wanted_type, wanted_name) = match trigger {
            Trigger::Timer => ("timerTrigger", binding::TIMER),
            Trigger::Queue => ("queueTrigger", binding::MESSAGE),
            Trigger::Http { .. } => ("httpTrigger", binding::REQUEST),
        };
        let found = of_type(wanted_type).expect(name);
        assert_eq!(found["name"], wanted_name, "{name}");
        let Trigger::Http { route, methods } = trigger else { continue };
        assert_eq!(of_type("http").expect(name)["name"], binding::RESPONSE);
        assert_eq!(found["route"], *route, "{name}");
        let lower: Vec<String> = methods.iter().map(|method| method.to_lowercase()).collect();
        assert_eq!(found["methods"], json!(lower), "{name}");
        let (with, without) = match route.split_once("/{") {
            Some((short, _)) => (route.replace("?}", "}"), Some(short)),
            None => ((*route).to_owned(), None),
        };
        for method in lower {
            let mut paths = [Some(with.as_str()), without].into_iter().flatten();
            let is_described =
                paths.any(|path| described.contains(&(format!("/{path}"), method.clone())));
            assert!(is_described, "{method} {route}");
        }
    }
    let known: BTreeSet<&str> = openapi::operations().map(|operation| operation.function).collect();
    assert!(known.iter().all(|name| names.contains(name)), "{known:?}");
    assert_eq!(described.len(), openapi::operations().count());
    // Who may call without a key is said once by the host and once by the description.
    for operation in openapi::operations() {
        let level = if operation.is_anonymous { "anonymous" } else { "function" };
        assert_eq!(bindings(operation.function)[0]["authLevel"], level, "{}", operation.id);
    }
}

#[test]
fn there_is_one_queue_and_timers_are_watched() {
    for (function, _, _) in FUNCTIONS {
        for binding in bindings(function) {
            match binding["type"].as_str().unwrap() {
                "queue" | "queueTrigger" => {
                    assert_eq!(binding["queueName"], "export-work", "{function}");
                    assert_eq!(binding["connection"], "AzureWebJobsStorage", "{function}");
                }
                "timerTrigger" => {
                    // Without, a run missed while the app was down would not be caught up.
                    assert_eq!(binding["useMonitor"], true, "{function}");
                    // With it, every new instance would start one.
                    assert_eq!(binding["runOnStartup"], false, "{function}");
                }
                _ => {}
            }
        }
    }
    assert_eq!(bindings("ExportTimer")[0]["schedule"], "%EXPORT_SCHEDULE%");
    assert_eq!(bindings("Maintenance")[0]["schedule"], "0 */5 * * * *");
}

#[test]
fn the_host_is_told_what_the_architecture_says() {
    let host = read("host.json");
    let check = |pointer: &str, want: Value| {
        assert_eq!(host.pointer(pointer), Some(&want), "{pointer}");
    };
    check("/version", json!("2.0"));
    check("/functionTimeout", json!("00:10:00"));
    check("/extensionBundle/id", json!("Microsoft.Azure.Functions.ExtensionBundle"));
    check("/extensionBundle/version", json!("[4.*, 5.0.0)"));
    check("/customHandler/description/defaultExecutablePath", json!("easm-export"));
    check("/customHandler/description/arguments", json!(["serve"]));
    check("/customHandler/enableForwardingHttpRequest", json!(true));
    check("/customHandler/enableProxyingHttpRequest", json!(true));
    let queues = json!({"batchSize": 4, "newBatchThreshold": 4, "maxDequeueCount": 5,
                        "visibilityTimeout": "00:00:30", "maxPollingInterval": "00:00:05"});
    check("/extensions/queues", queues);
    check("/extensions/http/routePrefix", json!("api"));
    // Where the handler's own log lines arrive.
    check("/logging/logLevel/Host.Function.Console", json!("Information"));
    let sampling = json!({"isEnabled": true, "excludedTypes": "Trace;Request;Exception"});
    check("/logging/applicationInsights/samplingSettings", sampling);
}

/// An invocation that works for a whole slice, and saves then, has to answer before the host ends the
/// process, and everything else that is in work there.
#[test]
fn a_slice_takes_less_than_half_of_the_time_the_host_gives() {
    let slice: u64 = reference::setting("EASM_SLICE_SECONDS").unwrap().default.parse().unwrap();
    let host = read("host.json");
    let parts = host["functionTimeout"].as_str().unwrap().split(':');
    let timeout = parts.fold(0, |seconds, part| 60 * seconds + part.parse::<u64>().unwrap());
    assert!(2 * slice < timeout, "{slice} s of {timeout} s");
}
