//! App settings: those that the code requires are set, and none that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use easm_export::config::{Env, STORE_URL, Settings, check_store, reference, targets};
use serde_json::Value;

use super::{deployments, root};

/// What the host and its parts read: names, or beginnings of names.
const OF_THE_HOST: [&str; 5] = [
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
];

/// Settings without which a deployment does nothing, or not what it should.
const REQUIRED: [&str; 5] = [
    "EASM_AUTH",
    "EASM_CREDENTIAL",
    "EASM_IDENTITY_CLIENT_ID",
    "EASM_STORE_URL",
    "EXPORT_SCHEDULE",
];

/// The four names of a single workspace.
const SINGLE: [&str; 4] =
    ["EASM_TENANT_ID", "EASM_SUBSCRIPTION_ID", "EASM_RESOURCE_GROUP", "EASM_WORKSPACE"];

/// `function.json` of every function.
fn functions() -> Vec<(String, Value)> {
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let read = |folder: fs::DirEntry| {
        let text = fs::read_to_string(folder.path().join("function.json")).unwrap();
        let name = folder.file_name().into_string().unwrap();
        (name, serde_json::from_str(&text).unwrap())
    };
    folders.map(|folder| read(folder.unwrap())).collect()
}

/// Every text in `value`, with the name of its member.
fn texts(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| match value {
            Value::String(text) => found.push((name.clone(), text.clone())),
            other => texts(other, found),
        }),
        Value::Array(elements) => elements.iter().for_each(|element| texts(element, found)),
        _ => {}
    }
}

#[test]
fn every_app_setting_is_one_that_the_code_or_the_host_reads() {
    for deployment in deployments() {
        let settings = deployment.settings();
        for (name, value) in &settings {
            assert!(!value.is_empty(), "{}: {name} is empty, and may be lost", deployment.name);
            let is_used = reference::setting(name).is_some_and(|setting| setting.is_used);
            let is_read = is_used || OF_THE_HOST.contains(&name.as_str());
            assert!(is_read, "{}: nobody reads {name}", deployment.name);
        }
        let names: BTreeSet<&String> = settings.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), settings.len(), "{}: a name that is set twice", deployment.name);
        assert_eq!(
            deployment.outputs["appSettingNames"],
            serde_json::json!(settings.iter().map(|(name, _)| name).collect::<Vec<_>>()),
            "{}: the output names the app settings",
            deployment.name
        );
    }
}

/// The value that Azure makes of `value`, where that is a `format` expression: the parts of it that depend on
/// the cloud are those of the public one.
fn in_azure(value: &str) -> String {
    let arguments = value.strip_prefix("[format(").and_then(|rest| rest.strip_suffix(")]"));
    let Some(arguments) = arguments else { return value.to_owned() };
    let mut arguments = arguments.split(", ").map(|argument| match argument {
        "environment().suffixes.storage" => "core.windows.net",
        "environment().suffixes.keyvaultDns" => ".vault.azure.net",
        text => text.trim_matches('\''),
    });
    let pattern = arguments.next().unwrap().to_owned();
    arguments
        .enumerate()
        .fold(pattern, |text, (at, argument)| text.replace(&format!("{{{at}}}"), argument))
}

/// What the app is given is read by the program as it reads it in Azure: every target is good.
#[test]
fn the_program_accepts_the_app_settings_of_every_deployment() {
    let platform = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "1"),
        ("WEBSITE_SITE_NAME", "app"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"),
        ("IDENTITY_HEADER", "a-made-up-header"),
    ];
    let platform = platform.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for deployment in deployments() {
        let settings =
            deployment.settings().into_iter().map(|(name, value)| (name, in_azure(&value)));
        let env = Env::new(settings.chain(platform.clone()));
        let settings =
            Settings::read(&env).unwrap_or_else(|err| panic!("{}: {err}", deployment.name));
        for target in &settings.targets {
            assert!(target.settings.is_ok(), "{}: {:?}", deployment.name, target.settings);
        }
        check_store(STORE_URL, &settings.store, &env).unwrap();
    }
}

#[test]
fn every_required_app_setting_is_set() {
    for deployment in deployments() {
        let settings: BTreeMap<String, String> = deployment.settings().into_iter().collect();
        let has = |name: &str| settings.contains_key(name);
        let missing: Vec<_> =
            REQUIRED.into_iter().chain(OF_THE_HOST).filter(|name| !has(name)).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", deployment.name);
        let n_single = SINGLE.into_iter().filter(|name| has(name)).count();
        let wanted = if has("EASM_TARGETS") { 0 } else { SINGLE.len() };
        assert_eq!(n_single, wanted, "{}", deployment.name);
        // An app registration is named wherever one is needed, a secret only with its vault.
        let text = format!("{settings:?}");
        let wants_secret = text.contains("client-secret");
        assert_eq!(has("EASM_KEY_VAULT_URL"), wants_secret, "{}", deployment.name);
        assert!(!has("EASM_CLIENT_SECRET"), "{}", deployment.name);
        // The plan has the runtime as a property, and refuses these.
        assert!(!has("FUNCTIONS_WORKER_RUNTIME") && !has("FUNCTIONS_EXTENSION_VERSION"));
        let data = deployment.account("data").name();
        let store = &settings["EASM_STORE_URL"];
        assert!(store.contains(data) && store.contains("'exports'"), "{store}");
    }
}

#[test]
fn every_target_has_only_members_that_the_code_knows() {
    // A secret does not belong there.
    let known = targets::MEMBERS.iter().map(|member| member.name).chain(["name"]);
    let known: BTreeSet<&str> = known.filter(|name| *name != "clientSecret").collect();
    let mut n_targets = 0;
    for deployment in deployments() {
        let Some(text) = deployment.setting("EASM_TARGETS") else { continue };
        let targets: Vec<BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
        for target in &targets {
            n_targets += 1;
            for name in target.keys() {
                assert!(known.contains(name.as_str()), "{}: {name}", deployment.name);
            }
            let is = |name: &str, value: &str| target.get(name).is_some_and(|it| it == value);
            if is("credential", "federated") {
                assert!(target.contains_key("clientId"), "{target:?}");
            }
        }
    }
    assert!(n_targets >= 3, "the example with several customers has {n_targets} targets");
    // And so the type offers them all.
    let types = super::read("infra/modules/types.bicep");
    let of_target = types.split("type targetType = {").nth(1).unwrap().split("\n}").next().unwrap();
    let declared: BTreeSet<&str> = of_target
        .lines()
        .filter(|line| !line.trim_start().starts_with('@'))
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(declared, known);
}

#[test]
fn whatever_a_function_refers_to_is_there() {
    let functions = functions();
    assert!(functions.len() >= 7);
    for deployment in deployments() {
        let names: BTreeSet<String> =
            deployment.settings().into_iter().map(|(name, _)| name).collect();
        let host = deployment.account("host").name();
        let queues: BTreeSet<String> = deployment
            .of_kind("Microsoft.Storage/storageAccounts/queueServices/queues")
            .into_iter()
            .map(|queue| queue.name().to_owned())
            .collect();
        for (function, document) in &functions {
            let mut found = Vec::new();
            texts(document, &mut found);
            for (member, text) in found {
                let at = format!("{}: {function}: {member}", deployment.name);
                for setting in text.split('%').skip(1).step_by(2) {
                    assert!(names.contains(setting), "{at}: {setting} is not set");
                }
                match member.as_str() {
                    "connection" => {
                        assert!(names.contains(&format!("{text}__accountName")), "{at}: {text}");
                    }
                    "queueName" => {
                        for queue in [text.clone(), format!("{text}-poison")] {
                            assert!(queues.contains(&format!("{host}/default/{queue}")), "{at}");
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
