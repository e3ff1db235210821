use super::*;
use crate::config::{ClientSecret, Credential, Settings};
use crate::model::asset::AssetKind;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "99999999-2222-3333-4444-555555555555";

/// A target with what is required, and `more` members.
fn target(name: &str, more: &str) -> String {
    format!(
        r#"{{"name": "{name}", "tenantId": "{TENANT}", "subscriptionId": "{TENANT}",
            "resourceGroup": "rg", "workspace": "ws-{name}"{more}}}"#
    )
}

fn env(document: &str, vars: &[(&str, &str)]) -> Env {
    let vars = vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Env::new(vars.chain([(TARGETS.to_owned(), document.to_owned())]))
}

fn read_in(document: &str, vars: &[(&str, &str)]) -> Result<Vec<Named>> {
    Settings::read(&env(document, vars)).map(|settings| settings.targets)
}

/// The only target of `document`.
fn only(more: &str, vars: &[(&str, &str)]) -> Result<TargetSettings> {
    let document = format!("[{}]", target("a", more));
    read_in(&document, vars).map(|mut targets| targets.remove(0).settings).and_then(|only| only)
}

#[test]
fn targets_are_told_apart_and_keep_their_order() {
    let document = format!("\u{feff}[{}, {}]", target("b", ""), target("a", ""));
    let targets = read_in(&document, &[]).expect("two targets");
    let found: Vec<_> = targets
        .iter()
        .map(|target| (&*target.name, &*target.settings.as_ref().expect("good").workspace))
        .collect();
    assert_eq!(found, [("b", "ws-b"), ("a", "ws-a")]);
    let settings = Settings::read(&env(&document, &[])).expect("good");
    assert_eq!(settings.target_name("A"), Some("a"), "in any case");
    assert!(settings.target("c").is_err());
}

#[test]
fn a_target_without_a_name_has_the_workspaces() {
    let document = target("a", "").replace(r#""name": "a","#, "");
    let targets = read_in(&format!("[{document}]"), &[]).expect("one target");
    assert_eq!(targets[0].name, "ws-a");
}

#[test]
fn what_is_missing_comes_from_the_settings_and_the_place_never_does() {
    let vars = [
        ("EASM_FILTER", "name = \"x\""),
        ("EASM_KINDS", "host"),
        ("EASM_REGION", "westus3"),
        ("EASM_TENANT_ID", OTHER),
        ("TENANT_ID", OTHER),
        ("EASM_WORKSPACE", "another"),
    ];
    let own = only("", &vars).expect("good");
    assert_eq!((&*own.tenant_id, &*own.workspace), (TENANT, "ws-a"));
    assert_eq!(
        (&*own.request.filter, &own.request.kinds[..]),
        ("name = \"x\"", &[AssetKind::Host][..])
    );
    assert_eq!(own.region.as_deref(), Some("westus3"));
    let more = r#", "filter": "", "kinds": ["domain", "page"], "region": "eastus", "compression": "none"
                  , "dataPlaneUrl": "https://a.example/", "datasets": "assets", "format": "ndjson"
                  , "delta": "off", "schemaPolicy": "record", "columns": []"#;
    let given = only(more, &vars).expect("good");
    assert_eq!((&*given.request.filter, given.region.as_deref()), ("", Some("eastus")));
    assert_eq!(given.request.kinds, [AssetKind::Domain, AssetKind::Page]);
    assert_eq!(given.data_plane_url.map(String::from).as_deref(), Some("https://a.example/"));
    let document = target("a", "").replace(&format!(r#""tenantId": "{TENANT}","#), "");
    let err = read_in(&format!("[{document}]"), &vars).expect("names are good")[0].settings.clone();
    let err = err.expect_err("the tenant is not another's").to_string();
    assert!(err.contains("tenantId of target a in EASM_TARGETS not set"), "{err}");
}

#[test]
fn a_client_secret_is_the_targets_or_the_settings_and_never_half_of_each() {
    let vault = ("EASM_KEY_VAULT_URL", "https://v.vault.azure.net");
    let app = ("EASM_CLIENT_ID", "app-of-all");
    let check = |more: &str, vars: &[(&str, &str)], want: &str| {
        let target = only(more, vars).unwrap_or_else(|err| panic!("{more}: {err}"));
        let found = match target.identities.target {
            Credential::ClientSecret { client_id, secret, .. } => match secret {
                ClientSecret::Given(_) => format!("given of {client_id}"),
                ClientSecret::InVault { name, .. } => format!("{name} of {client_id}"),
            },
            Credential::Developer { .. } => "developer".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, want, "{more} {vars:?}");
    };
    let given = ("EASM_CLIENT_SECRET", "made-up-secret-of-all");
    let named = ("EASM_CLIENT_SECRET_NAME", "all");
    let name_of_own = r#", "clientSecretName": "own""#;
    let secret_of_own = r#", "clientSecret": "made-up-secret-of-own""#;
    check("", &[app], "developer");
    check("", &[given, app], "given of app-of-all");
    check(r#", "clientId": "mine""#, &[given, app], "given of mine");
    check(name_of_own, &[given, app, vault], "own of app-of-all");
    check(secret_of_own, &[named, app, vault], "given of app-of-all");
    check(name_of_own, &[("CLIENT_SECRET", "made-up-old-one"), app, vault], "own of app-of-all");
    check(r#", "credential": "developer""#, &[given, app], "developer");
}

#[test]
fn an_error_names_the_target_and_its_member_or_the_setting_that_it_comes_from() {
    let check = |more: &str, vars: &[(&str, &str)], parts: &[&str]| {
        let err = only(more, vars).expect_err(more);
        assert_eq!(err.kind(), Kind::Config, "{err}");
        let text = err.to_string();
        for part in parts {
            assert!(text.contains(part), "{more} {vars:?}: {text}");
        }
        assert!(!text.contains("made-up"), "{text}");
    };
    let of_a = |member: &str| format!("{member} of target a in EASM_TARGETS");
    for (member, value) in [
        ("region", r#""East US""#),
        ("credential", r#""password""#),
        ("clientSecretName", r#""made_up.secret""#),
        ("dataPlaneUrl", r#""http://example.com""#),
        ("filter", r#""@saved:mine""#),
        ("kinds", r#""hosts""#),
        ("kinds", r#"["host", "hosts"]"#),
        ("datasets", r#"["risk"]"#),
        ("format", r#""xml""#),
        ("compression", r#""lzma""#),
        ("delta", r#""on""#),
        ("schemaPolicy", r#""fail""#),
        // Of another sort.
        ("filter", "1"),
        ("filter", "null"),
        ("filter", r#"["a"]"#),
        ("kinds", "[1]"),
        ("kinds", r#"["host,page"]"#),
        ("region", "{}"),
        ("regoin", r#""eastus""#),
        ("Region", r#""eastus""#),
        ("password", r#""made-up-password""#),
        ("clientSecret", r#"["made-up-secret"]"#),
    ] {
        check(&format!(r#", "{member}": {value}"#), &[], &[&of_a(member)]);
    }
    check(r#", "regoin": "x""#, &[], &["did you mean region?"]);
    check(r#", "password": "x""#, &[], &["schemaPolicy"]);
    check(r#", "filter": "a", "filter": "b""#, &[], &[&of_a("filter"), "twice"]);
    check("", &[("EASM_KINDS", "hosts")], &["read EASM_KINDS:"]);
    check(r#", "credential": "client-secret""#, &[], &[&of_a("clientSecretName")]);
    check(r#", "credential": "federated""#, &[], &[&of_a("clientId"), "is not set"]);
    let azure = [("FUNCTIONS_CUSTOMHANDLER_PORT", "1"), ("WEBSITE_SITE_NAME", "app")];
    let secret = r#", "clientSecret": "made-up-secret", "clientId": "x""#;
    check(secret, &azure, &[&of_a("clientSecret"), "is refused in Azure"]);
    let elsewhere = [
        ("IDENTITY_ENDPOINT", "http://127.0.0.1/msi/token"),
        ("IDENTITY_HEADER", "a-made-up-header"),
        ("AZURE_TENANT_ID", OTHER),
    ];
    let managed = r#", "credential": "managed-identity""#;
    check(managed, &elsewhere, &["another tenant", &of_a("tenantId")]);
}

#[test]
fn a_target_that_is_wrong_leaves_the_others_alone() {
    let targets = [target("a", ""), target("b", r#", "kinds": "hosts""#), target("c", "")];
    let read = read_in(&format!("[{}]", targets.join(",")), &[]).expect("names are good");
    let is_good: Vec<bool> = read.iter().map(|target| target.settings.is_ok()).collect();
    assert_eq!(is_good, [true, false, true]);
}

#[test]
fn a_target_without_a_name_of_its_own_stops_no_other() {
    let all = [
        target("a", ""),
        "{}".to_owned(),
        target("b.c", ""),
        target("d", ""),
        target("D", ""),
        target("e", ""),
    ];
    let settings = Settings::read(&env(&format!("[{}]", all.join(",")), &[])).expect("two");
    let names: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["a", "e"]);
    let said: Vec<String> = settings.nameless.iter().map(ToString::to_string).collect();
    for part in
        ["target number 2 has no name", "number 3 is \"b.c\"", "number 4, 5 are all named d"]
    {
        assert_eq!(said.iter().filter(|said| said.contains(part)).count(), 1, "{part}: {said:?}");
    }
    assert_eq!(said.len(), 3);
}

#[test]
fn a_document_that_makes_no_sense_is_refused_as_a_whole_and_not_quoted() {
    let check = |document: &str, part: &str| {
        let err = read_in(document, &[]).expect_err(document).to_string();
        assert!(err.contains(TARGETS) && err.contains(part), "{document}: {err}");
        assert!(!err.contains("made-up"), "{err}");
    };
    check("[]", "0 targets");
    check("{\"name\": \"made-up\"}", "no JSON array");
    check("made-up", "no JSON array of objects (line 1, column 1)");
    check("[\"made-up\"]", "no JSON array of objects");
    check(&format!("[{}", target("a", "")), "no JSON array");
    check(&format!("[{}, {}]", target("a", ""), target("A", "")), "1, 2 are all named a");
    check(r#"[{"name": "a/b"}]"#, "the name of target number 1 is \"a/b\"");
    check(r#"[{"name": 1, "workspace": "w"}]"#, "the name of target number 1 is no text");
    check(r#"[{"workspace": "w.x"}]"#, "the workspace, which is its name, of target number 1");
    check("[{}]", "target number 1 has no name");
    check("@ [{\"clientSecret\": \"made-up\"}]", "leave out the @");
    check("@no-such-file.json", "\"no-such-file.json\" cannot be read");
    let many: Vec<String> = (0..=TARGETS_MAX).map(|at| target(&format!("t{at}"), "")).collect();
    check(&format!("[{}]", many.join(",")), "1001 targets");
}

#[test]
fn a_file_lies_in_the_folder_of_the_app() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("t.json"), format!("[{}]", target("a", "")))
        .expect("written");
    let root = folder.path().to_str().expect("a path");
    let found = read_in("@t.json", &[("FUNCTIONS_APP_ROOT_PATH", root)]).expect("read");
    assert_eq!(found[0].name, "a");
    std::fs::write(folder.path().join("t.json"), vec![b' '; 1 << 21]).expect("written");
    let err = read_in("@t.json", &[("FUNCTIONS_APP_ROOT_PATH", root)]).expect_err("too large");
    assert!(err.to_string().contains("larger than 1024 KiB"), "{err}");
}

#[test]
fn a_client_secret_of_a_target_is_kept_out_of_what_is_said() {
    let secret = "made-up-7Qx2mV9tKc4";
    only(&format!(r#", "clientSecret": "{secret}", "clientId": "x""#), &[]).expect("good");
    assert!(!secret::redact(&format!("it is {secret}.")).contains(secret));
}

/// Everything that the schema allows is known, and required is what is required.
#[test]
fn the_schema_has_every_member_and_says_what_is_required() {
    let schema = schema();
    let properties = schema["items"]["properties"].as_object().expect("an object");
    let names: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    // As the contract has them, section 2.
    let contract = "name tenantId subscriptionId resourceGroup workspace region credential clientId \
                    clientSecretName clientSecret dataPlaneUrl filter kinds datasets format \
                    compression columns delta schemaPolicy";
    assert_eq!(names, contract.split_whitespace().collect());
    let required = ["tenantId", "subscriptionId", "resourceGroup", "workspace"];
    assert_eq!(schema["items"]["required"], json!(required));
    for name in required {
        let document = format!("[{}]", target("a", "").replace(name, "filter"));
        let read = read_in(&document, &[]).expect("names are good");
        assert!(read[0].settings.is_err(), "{name} is required");
    }
    for member in MEMBERS {
        assert!(crate::config::names::is_known(member.setting), "{}", member.setting);
    }
}
