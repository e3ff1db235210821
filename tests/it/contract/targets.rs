//! `EASM_TARGETS` and `schema settings`: what the contract says of them, seen from outside.

use std::collections::BTreeSet;

use easm_export::sim::Options;
use serde_json::{Value, json};

use super::{run, world};
use crate::support::{Done, World, bare_command, finish};

const NOBODY: &str = "00000000-0000-4000-8000-000000000bad";
/// As many targets as there may be.
const TARGETS_MAX: usize = 1000;
/// Every member of a target, in the words of the contract.
const MEMBERS: &str = "name tenantId subscriptionId resourceGroup workspace region credential clientId \
    clientSecretName clientSecret dataPlaneUrl filter kinds datasets format compression columns delta \
    schemaPolicy";

/// A target of the simulator's workspace, with these members besides or instead.
pub fn target(name: &str, members: &Value) -> Value {
    let Options { tenant_id, subscription_id, resource_group, workspace, .. } = Options::default();
    let mut target = json!({"name": name, "tenantId": tenant_id, "subscriptionId": subscription_id,
        "resourceGroup": resource_group, "workspace": workspace});
    for (name, value) in members.as_object().unwrap() {
        target[name] = value.clone();
    }
    target
}

/// The setting: targets with these names and members.
pub fn targets(list: &[(&str, Value)]) -> String {
    let list = list.iter().map(|(name, members)| target(name, members));
    Value::from(list.collect::<Vec<_>>()).to_string()
}

/// Two targets of one workspace.
pub fn two() -> String {
    targets(&[("north", json!({"kinds": ["host"]})), ("south", json!({"kinds": "page, domain"}))])
}

/// The command with these targets and settings.
pub async fn with(world: &World, targets: &str, args: &[&str], vars: &[(&str, &str)]) -> Done {
    run(world, args, &[&[("EASM_TARGETS", targets)], vars].concat()).await
}

/// What the command prints with `--json`.
async fn printed(world: &World, targets: &str, args: &[&str], vars: &[(&str, &str)]) -> Value {
    let done = with(world, targets, &[args, &["--json"]].concat(), vars).await.expect_code(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test]
async fn targets_stand_in_place_of_the_four_settings_of_one() {
    let world = world(40).await;
    // Whatever the four say, and whatever their names in the older helper.
    let four = [
        ("EASM_TENANT_ID", NOBODY),
        ("EASM_SUBSCRIPTION_ID", "not even a GUID"),
        ("EASM_RESOURCE_GROUP", "nowhere"),
        ("EASM_WORKSPACE", "nobody"),
        ("TENANT_ID", NOBODY),
        ("WORKSPACE_NAME", "nobody"),
    ];
    let printed = printed(&world, &two(), &["export"], &four).await;
    let names: Vec<&Value> =
        printed.as_array().unwrap().iter().map(|manifest| &manifest["target"]).collect();
    assert_eq!(names, ["north", "south"], "in their order");
    let folders: BTreeSet<String> =
        world.files().iter().map(|path| path.split('/').next().unwrap().to_owned()).collect();
    assert_eq!(folders, BTreeSet::from(["north".to_owned(), "south".to_owned()]));

    // And none of the four is filled in where a target lacks it.
    let n_before = world.files().len();
    for name in ["tenantId", "subscriptionId", "resourceGroup", "workspace"] {
        let mut lacking = target("north", &json!({}));
        lacking.as_object_mut().unwrap().remove(name);
        let list = json!([lacking]).to_string();
        let done = with(&world, &list, &["export"], &[]).await.expect_code(2);
        for word in ["north", name] {
            assert!(done.error_line().contains(word), "{word}: {}", done.stderr);
        }
    }
    assert_eq!(world.files().len(), n_before, "nothing was exported");
}

#[tokio::test]
async fn what_a_target_leaves_out_comes_from_the_settings_and_each_has_its_own_request() {
    let world = world(120).await;
    let (candidate, confirmed) = ("state = \"candidate\"", "state = \"confirmed\"");
    let list = targets(&[
        ("as-set", json!({})),
        ("own", json!({"kinds": ["page", "HOST"], "compression": "none", "filter": confirmed})),
        ("everything", json!({"filter": ""})),
        ("texts", json!({"kinds": "page,host", "datasets": "assets", "region": "westeurope"})),
    ]);
    let vars = [
        ("EASM_FILTER", candidate),
        ("EASM_KINDS", "domain,host"),
        ("EASM_COMPRESSION", "gzip"),
        ("EASM_REGION", "eastus"),
    ];
    let printed = printed(&world, &list, &["export"], &vars).await;
    // Filter, kinds, compression, region.
    let wanted = [
        (candidate, ["domain", "host"], "gzip", "eastus"),
        (confirmed, ["host", "page"], "none", "eastus"),
        ("", ["domain", "host"], "gzip", "eastus"),
        (candidate, ["host", "page"], "gzip", "westeurope"),
    ];
    for (manifest, (filter, kinds, compression, region)) in
        printed.as_array().unwrap().iter().zip(wanted)
    {
        let request = &manifest["request"];
        let mut found: Vec<&str> = request["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind.as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, kinds, "{manifest}");
        assert_eq!(
            [&request["filter"], &request["compression"]],
            [filter, compression],
            "{manifest}"
        );
        assert_eq!(manifest["workspace"]["region"], region, "{manifest}");
        let lines = world.lines(&serde_json::from_value(manifest.clone()).unwrap());
        let mut truth = world.sim.inventory().ndjson(filter);
        truth.retain(|line| {
            let asset: Value = serde_json::from_slice(line).unwrap();
            kinds.iter().any(|kind| asset["kind"] == *kind)
        });
        crate::support::assert_same_lines(&lines, &truth, manifest["target"].as_str().unwrap());
        assert!(!lines.is_empty(), "a case that shows something");
    }
}

#[tokio::test]
async fn a_text_that_holds_no_targets_is_refused_whole_before_anybody_is_asked() {
    let world = world(5).await;
    let folder = world.folder.path();
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::fs::write(folder.join("large.json"), "[".to_owned() + &" ".repeat(2 << 20) + "]").unwrap();
    std::fs::write(folder.join("latin1.json"), b"[{\"name\":\"\xe9\"}]").unwrap();
    let good = target("north", &json!({}));
    let many: Vec<Value> =
        (0..=TARGETS_MAX).map(|n| target(&format!("t{n}"), &json!({}))).collect();
    let cases = [
        "[]".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "\"@t.json\"".to_owned(),
        good.to_string(),
        "[1]".to_owned(),
        "[[]]".to_owned(),
        format!("[{good},]"),
        format!("[{good}"),
        format!("[{good}] []"),
        json!([good, target("NORTH", &json!({}))]).to_string(),
        json!([good, target(" north\n", &json!({}))]).to_string(),
        json!([target("CONTOSO", &json!({})), {"tenantId": NOBODY, "subscriptionId": NOBODY,
            "resourceGroup": "rg", "workspace": "contoso"}])
        .to_string(),
        Value::from(many).to_string(),
        "@".to_owned(),
        "@missing.json".to_owned(),
        "@folder".to_owned(),
        "@large.json".to_owned(),
        "@latin1.json".to_owned(),
        "@/dev/zero".to_owned(),
    ];
    for text in cases {
        let case = &text[..text.len().min(120)];
        // Under the host too: a length of arguments is a limit of the system here.
        let file = folder.join("case.json");
        let setting = match text.len() > 100_000 {
            true => {
                std::fs::write(&file, &text).unwrap();
                "@case.json".to_owned()
            }
            false => text.clone(),
        };
        for args in [&["export"][..], &["export", "--json"], &["runs", "list"], &["query"]] {
            let done = with(&world, &setting, args, &[]).await;
            assert_eq!(done.code, 2, "{case} {args:?}: {}", done.stderr);
            assert!(done.error_line().contains("EASM_TARGETS"), "{case}: {}", done.stderr);
            assert!(done.stdout.is_empty(), "{case}: {}", done.stdout_text());
        }
    }
    assert!(world.sim.requests().is_empty(), "nobody is asked");
    assert!(!world.exports().exists(), "nothing is written");
}

#[tokio::test]
async fn a_member_that_is_wrong_is_named_with_its_target_and_stops_no_other() {
    let long = "n".repeat(64);
    let cases = [
        ("frobnicate", json!(1)),
        ("Filter", json!("")),
        ("kinds", json!(["host", "hostess"])),
        ("kinds", json!("hostess")),
        ("kinds", json!(["host,page"])),
        ("kinds", json!([1])),
        ("kinds", json!({"host": true})),
        ("filter", json!(["a"])),
        ("filter", json!(7)),
        ("format", json!("xlsx")),
        ("compression", json!("rar")),
        ("datasets", json!(["everything"])),
        ("delta", json!("perhaps")),
        ("schemaPolicy", json!("panic")),
        ("region", json!("East US!")),
        ("credential", json!("password")),
        ("dataPlaneUrl", json!("http://example.com")),
        ("dataPlaneUrl", json!("ftp://127.0.0.1")),
        ("subscriptionId", json!("five")),
        ("subscriptionId", json!("")),
        ("workspace", json!("")),
        ("tenantId", json!(true)),
        ("resourceGroup", json!({})),
        ("clientSecretName", json!("under_score")),
    ];
    let world = world(12).await;
    for (member, value) in cases {
        let list = targets(&[
            ("before", json!({"kinds": ["host"]})),
            ("wrong", json!({ member: value })),
            ("behind", json!({"kinds": ["host"]})),
        ]);
        let case = format!("{member}: {value}");
        let done = with(&world, &list, &["export", "--dry-run", "--json"], &[]).await;
        assert_eq!(done.code, 2, "{case}: {}", done.stderr);
        let line = done.error_line();
        assert!(line.contains(member) && line.contains("wrong"), "{case}: {line}");
        let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
        let [before, wrong, behind] = printed.as_array().unwrap().as_slice() else {
            panic!("{case}: {printed}")
        };
        for (found, name) in [(before, "before"), (behind, "behind")] {
            assert_eq!(found["target"], name, "{case}");
            assert!(found["counts"]["assets"]["expected"].is_u64(), "{case}: {found}");
        }
        assert_eq!([&wrong["target"], &wrong["error"]["code"]], ["wrong", "settings"], "{case}");
        // Whoever is not meant is not looked at.
        let others = ["--target", "BEFORE", "--target", "behind", "export", "--dry-run"];
        with(&world, &list, &others, &[]).await.expect_code(0);
    }
    for name in ["", "-a", "_a", "a b", "a.b", "a/b", "..", "ä", "a\nb", long.as_str()] {
        let list = targets(&[(name, json!({}))]);
        let done = with(&world, &list, &["export", "--dry-run"], &[]).await;
        assert_eq!(done.code, 2, "{name:?}: {}", done.stderr);
        assert!(done.error_line().contains("EASM_TARGETS"), "{name:?}: {}", done.stderr);
    }
    for name in ["a", "7", "A-_z", &long[1..]] {
        let list = targets(&[(name, json!({}))]);
        with(&world, &list, &["export", "--dry-run"], &[]).await.expect_code(0);
    }
}

#[tokio::test]
async fn a_thousand_targets_are_read_and_one_of_them_is_found_in_any_case() {
    let world = world(10).await;
    let list: Vec<Value> =
        (0..TARGETS_MAX).map(|n| target(&format!("t{n}"), &json!({"kinds": ["host"]}))).collect();
    std::fs::write(world.folder.path().join("t.json"), Value::from(list).to_string()).unwrap();
    let found = printed(&world, "@t.json", &["--target", "T999", "export"], &[]).await;
    assert_eq!(found["target"], "t999");
    let done = with(&world, "@t.json", &["--target", "t1000", "export"], &[]).await.expect_code(2);
    assert!(done.error_line().contains("t1000"), "{}", done.stderr);
    assert!(done.error_line().len() < 4000, "no thousand names: {}", done.stderr.len());
}

#[tokio::test]
async fn targets_may_be_in_a_file_with_a_byte_order_mark_named_from_where_one_stands() {
    let world = world(10).await;
    let base = world.folder.path();
    let below = base.join("below/it");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(base.join("t.json"), format!("\u{feff}\r\n{}\r\n", two())).unwrap();
    let absolute = format!("@{}", base.join("t.json").display());
    for (current, setting) in
        [(base, "@t.json"), (base, "@./t.json"), (&*below, "@../../t.json"), (&*below, &absolute)]
    {
        let mut command = world.command(&["export", "--dry-run", "--json"]);
        command.current_dir(current).env("EASM_TARGETS", setting);
        let done = finish(command).await.expect_code(0);
        let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(printed.as_array().unwrap().len(), 2, "{setting}");
    }
    // The files that settings are read from hold it too.
    for (name, text) in [
        (".env", format!("EASM_TARGETS='{}'\n", two())),
        ("local.settings.json", json!({"Values": {"EASM_TARGETS": two()}}).to_string()),
    ] {
        std::fs::write(base.join(name), text).unwrap();
        let done = world.run(&["export", "--dry-run", "--json"]).await.expect_code(0);
        let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(printed.as_array().unwrap().len(), 2, "{name}");
        std::fs::remove_file(base.join(name)).unwrap();
    }
}

#[tokio::test]
async fn the_schema_has_the_members_of_the_contract_and_agrees_with_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let done = finish(bare_command(folder.path(), &["schema", "settings"])).await.expect_code(0);
    assert_eq!(done.stderr, "");
    let schema: Value = serde_json::from_slice(&done.stdout).unwrap();
    let members: BTreeSet<&str> =
        schema["items"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, MEMBERS.split_whitespace().collect());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let world = world(10).await;
    let changed = |member: &str, value: Value| {
        let mut one = target("north", &json!({}));
        one[member] = value;
        json!([one])
    };
    let without = |member: &str| {
        let mut one = target("north", &json!({}));
        one.as_object_mut().unwrap().remove(member);
        json!([one])
    };
    let mut cases = vec![
        json!([]),
        json!({}),
        json!([1]),
        json!([target("north", &json!({}))]),
        without("name"),
        without("workspace"),
        without("tenantId"),
        without("resourceGroup"),
        without("subscriptionId"),
        changed("kinds", json!("host, page")),
        changed("kinds", json!(["host"])),
        changed("kinds", json!([])),
        changed("kinds", json!([7])),
        changed("datasets", json!(["assets"])),
        changed("filter", json!("")),
        changed("filter", json!(null)),
        changed("region", json!("eastus")),
        changed("region", json!("East US")),
        changed("format", json!("ndjson")),
        changed("format", json!("docx")),
        changed("compression", json!("none")),
        changed("compression", json!("GZIP")),
        changed("credential", json!("auto")),
        changed("credential", json!("none")),
        changed("name", json!("a b")),
        changed("name", json!("a".repeat(64))),
        changed("clientSecretName", json!("a_b")),
        changed("tenantId", json!("")),
        changed("surprise", json!("")),
    ];
    cases.push(Value::from(vec![target("n", &json!({})); TARGETS_MAX + 1]));
    let mut disagreed = Vec::new();
    for case in cases {
        std::fs::write(world.folder.path().join("t.json"), case.to_string()).unwrap();
        let done = with(&world, "@t.json", &["export", "--dry-run"], &[]).await;
        if validator.is_valid(&case) != (done.code == 0) {
            let text = case.to_string();
            disagreed.push(format!("{}: {}", &text[..text.len().min(300)], done.stderr));
        }
    }
    assert!(disagreed.is_empty(), "{disagreed:#?}");
}
