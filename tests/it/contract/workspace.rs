//! `workspace list`, `ensure` and `delete`: what the contract and the documents say of them, seen from
//! outside.

use easm_export::sim::{Arm, Ending, Fault, Options, OtherWorkspace, Scripted};
use serde_json::{Value, json};

use super::secrets::{leak, noting_identity_endpoint, windows};
use super::targets::targets;
use super::{assert_shape, run};
use crate::support::{World, finish, signal};

/// As many as fill several pages.
const N_OTHERS: usize = 7;

fn other(name: &str, resource_group: &str, region: &str) -> OtherWorkspace {
    let [name, resource_group, region] = [name, resource_group, region].map(str::to_owned);
    OtherWorkspace { resource_group, name, region }
}

async fn world(arm: Arm) -> World {
    World::new(Options { assets: 5, asset_bytes: 900, arm, ..Options::default() }).await
}

/// Where nothing exists but the resource group.
fn bare() -> Arm {
    Arm { has_workspace: false, resource_groups: vec!["rg-easm".to_owned()], ..Arm::default() }
}

/// Methods of the requests to ARM that change something.
fn changes(world: &World) -> Vec<String> {
    let asked = world.sim.requests().into_iter();
    let asked = asked.filter(|seen| seen.path.contains("/providers/") && seen.method != "GET");
    asked.map(|seen| seen.method).collect()
}

async fn printed(world: &World, args: &[&str], vars: &[(&str, &str)]) -> Value {
    let args = [&["workspace"], args, &["--json"]].concat();
    let done = run(world, &args, vars).await.expect_code(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

fn shape() -> Value {
    json!({"name": "", "resourceGroup": "", "region": "", "provisioningState": "",
        "dataPlaneEndpoint": "", "id": ""})
}

#[tokio::test]
async fn every_workspace_of_the_subscription_is_listed_however_many_pages_there_are() {
    for page_size in [1, 2, 3, 100] {
        let others =
            (0..N_OTHERS).map(|n| other(&format!("w{n}"), &format!("rg-{}", n % 3), "westeurope"));
        let arm = Arm { workspaces: others.collect(), page_size, ..Arm::default() };
        let world = world(arm).await;
        let found = printed(&world, &["list"], &[]).await;
        let all = found["value"].as_array().unwrap();
        let mut names: Vec<&str> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["contoso", "w0", "w1", "w2", "w3", "w4", "w5", "w6"], "{page_size}");
        all.iter().for_each(|one| assert_shape(one, &shape(), "workspace"));
        let done = run(&world, &["workspace", "list"], &[]).await.expect_code(0);
        assert!(
            names.iter().all(|name| done.stdout_text().contains(name)),
            "{}",
            done.stdout_text()
        );
        assert_eq!((done.stderr.as_str(), changes(&world).len()), ("", 0));
    }
    let world = world(bare()).await;
    assert_eq!(printed(&world, &["list"], &[]).await, json!({"value": []}), "none is an answer");
    run(&world, &["workspace", "list"], &[]).await.expect_code(0);
}

#[tokio::test]
async fn a_list_that_leads_round_or_to_another_host_ends_and_gives_no_token_away() {
    let others = vec![other("w1", "rg-easm", "eastus"), other("w2", "rg-easm", "eastus")];
    let round =
        Arm { workspaces: others.clone(), page_size: 1, pages_go_round: true, ..Arm::default() };
    let done = run(&world(round).await, &["workspace", "list", "--json"], &[]).await;
    assert!(done.code == 0 || done.stdout.is_empty(), "{done:?}");
    let stranger = world(Arm::default()).await;
    let links = Some(stranger.sim.url());
    let away = world(Arm { workspaces: others, page_size: 1, links, ..Arm::default() }).await;
    // At its own host the next page may be asked for; a part is not passed off as the whole.
    let done = run(&away, &["workspace", "list"], &[]).await;
    let is_whole = ["contoso", "w1", "w2"].iter().all(|name| done.stdout_text().contains(name));
    assert!(if done.code == 0 { is_whole } else { done.stdout.is_empty() }, "{done:?}");
    assert!(stranger.sim.requests().is_empty(), "nobody comes");
}

#[tokio::test]
async fn ensure_does_nothing_to_what_is_there_and_creates_what_is_not_in_the_region_that_is_said() {
    let there = world(Arm::default()).await;
    for args in [&["ensure"][..], &["ensure", "--region", "westeurope"]] {
        let found = printed(&there, args, &[]).await;
        assert_shape(&found, &shape(), "workspace");
        assert_eq!([&found["name"], &found["region"]], ["contoso", "eastus"], "{args:?}");
    }
    assert_eq!(changes(&there), [""; 0]);

    let none = world(bare()).await;
    let done = run(&none, &["workspace", "ensure"], &[]).await.expect_code(2);
    for word in ["--region", "EASM_REGION"] {
        assert!(done.error_line().contains(word), "{word}: {}", done.stderr);
    }
    assert_eq!(changes(&none), [""; 0]);
    // The flag, else the target's own, else the setting.
    let list = targets(&[("north", json!({"region": "northeurope"}))]);
    let of_target = [("EASM_TARGETS", list.as_str()), ("EASM_REGION", "eastus")];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 5] = [
        (&["--region", "westeurope"], &[("EASM_REGION", "eastus")], "westeurope"),
        (&[], &[("EASM_REGION", "eastus")], "eastus"),
        (&["--region", "West Europe"], &[], "westeurope"),
        (&[], &of_target, "northeurope"),
        (&["--region", "swedencentral"], &of_target, "swedencentral"),
    ];
    for (args, vars, region) in cases {
        let world = world(bare()).await;
        let found = printed(&world, &[&["ensure"], args].concat(), vars).await;
        assert_shape(&found, &shape(), "workspace");
        assert_eq!(
            [&found["region"], &found["provisioningState"]],
            [region, "Succeeded"],
            "{args:?}"
        );
        assert_eq!(changes(&world), ["PUT"], "{args:?}: once");
        // It answers by now, to whoever asks next.
        run(&world, &["export", "--dry-run"], vars).await.expect_code(0);
        printed(&world, &[&["ensure"], args].concat(), vars).await;
        assert_eq!(changes(&world), ["PUT"], "{args:?}: again, it is there");
    }
}

#[tokio::test]
async fn a_region_that_is_not_known_is_a_warning_with_the_nearest_names_and_is_tried() {
    for (given, nearest) in [("eastuz", "eastus"), ("westeurop", "westeurope")] {
        let world = world(bare()).await;
        let args = ["workspace", "ensure", "--region", given];
        let done = run(&world, &args, &[]).await.expect_code(0);
        for word in [given, nearest] {
            assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        }
        assert_eq!(changes(&world), ["PUT"]);
    }
    for given in ["", "-", "east/us", "east?us", "../x"] {
        let world = world(bare()).await;
        run(&world, &["workspace", "ensure", "--region", given], &[]).await.expect_code(2);
        assert_eq!(changes(&world), [""; 0], "{given}");
    }
}

#[tokio::test]
async fn what_azure_refuses_or_does_not_finish_is_said_with_what_to_do() {
    let cases: [(&str, Arm, &[&str]); 3] = [
        ("no role", Arm { may_write: false, ..bare() }, &["Contributor"]),
        (
            "no provider",
            Arm { is_registered: false, ..bare() },
            &["az provider register", "Microsoft.Easm"],
        ),
        ("failed", Arm { ending: Ending::Fails, ..bare() }, &["contoso"]),
    ];
    for (case, arm, words) in cases {
        let world = world(arm).await;
        let args = ["workspace", "ensure", "--region", "eastus", "--json"];
        let done = run(&world, &args, &[]).await.expect_code(1);
        assert!(done.stdout.is_empty(), "{case}: {}", done.stdout_text());
        for word in words {
            assert!(done.error_line().contains(word), "{case}: {word}: {}", done.stderr);
        }
    }
    let world_without = world(bare()).await;
    let args = ["workspace", "ensure", "--region", "eastus"];
    let done = run(&world_without, &args, &[("EASM_RESOURCE_GROUP", "rg-none")]).await;
    assert!(done.expect_code(1).error_line().contains("rg-none"));
    // It goes on in Azure; who waits may stop to.
    let world = world(Arm { ending: Ending::Never, ..bare() }).await;
    let child = world.command(&["workspace", "ensure", "--region", "eastus"]).spawn().unwrap();
    while world.sim.requests().iter().filter(|seen| seen.path.contains("/providers/")).count() < 4 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    signal(&child, "INT");
    let done: crate::support::Done = child.wait_with_output().await.unwrap().into();
    assert!(done.expect_code(130).stdout.is_empty());
    assert_eq!(changes(&world), ["PUT"]);
}

#[tokio::test]
async fn nothing_is_deleted_without_yes_nor_by_a_name_that_is_not_there() {
    let others = vec![other("fabrikam", "rg-easm", "eastus"), other("far", "rg-far", "eastus")];
    let world = world(Arm { workspaces: others, ..Arm::default() }).await;
    let done = run(&world, &["workspace", "delete", "fabrikam"], &[]).await.expect_code(2);
    for word in ["fabrikam", "--yes"] {
        assert!(done.error_line().contains(word), "{word}: {}", done.stderr);
    }
    assert!(world.sim.requests().is_empty(), "nothing is asked of Azure");
    for name in ["fabrikan", "far", "*", "fabrikam/..", "", "."] {
        let done = run(&world, &["workspace", "delete", name, "--yes"], &[]).await;
        assert!([1, 2].contains(&done.code) && done.stdout.is_empty(), "{name}: {done:?}");
        if name == "fabrikan" {
            assert!(done.expect_code(1).error_line().contains("fabrikam"), "its neighbours");
        }
    }
    run(&world, &["workspace", "delete", "--yes"], &[]).await.expect_code(2);
    assert_eq!(changes(&world), [""; 0]);

    let gone = printed(&world, &["delete", "fabrikam", "--yes"], &[]).await;
    assert_eq!([&gone["name"], &gone["deleted"]], [&json!("fabrikam"), &json!(true)], "{gone}");
    assert_eq!(changes(&world), ["DELETE"]);
    let left = printed(&world, &["list"], &[]).await;
    let names: Vec<&Value> =
        left["value"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["contoso", "far"]);
    run(&world, &["workspace", "delete", "fabrikam", "--yes"], &[]).await.expect_code(1);
}

#[tokio::test]
async fn of_several_targets_the_one_that_is_meant_is_asked_for() {
    let list = targets(&[("north", json!({})), ("south", json!({"workspace": "southern"}))]);
    let vars = [("EASM_TARGETS", list.as_str())];
    let world = world(Arm::default()).await;
    let all: [&[&str]; 2] = [
        &["workspace", "ensure", "--region", "eastus"],
        &["workspace", "delete", "contoso", "--yes"],
    ];
    for args in all {
        let done = run(&world, args, &vars).await.expect_code(2);
        for word in ["--target", "north", "south"] {
            assert!(done.error_line().contains(word), "{word}: {}", done.stderr);
        }
    }
    assert_eq!(changes(&world), [""; 0]);
    let args = ["--target", "SOUTH", "workspace", "ensure", "--region", "eastus"];
    run(&world, &args, &vars).await.expect_code(0);
    let names = printed(&world, &["list", "--target", "north"], &vars).await;
    assert!(names.to_string().contains("southern"), "{names}");
}

#[tokio::test]
async fn whatever_arm_repeats_no_token_is_told() {
    for status in [400, 403] {
        let script = vec![Scripted {
            path_contains: "/providers/".to_owned(),
            query_contains: String::new(),
            from: 0,
            times: u64::MAX,
            fault: Fault::EchoToken(status),
        }];
        let world =
            World::new(Options { assets: 5, script, arm: bare(), ..Options::default() }).await;
        let (endpoint, issued) = noting_identity_endpoint(&world.sim).await;
        let all: [&[&str]; 3] =
            [&["list"], &["ensure", "--region", "eastus"], &["delete", "contoso", "--yes"]];
        for args in all {
            let mut command = world.command(&[&["workspace"], args].concat());
            command.env("IDENTITY_ENDPOINT", &endpoint).env("EASM_LOG", "trace");
            let done = finish(command).await;
            assert_eq!(done.code, 1, "{args:?}: {}", done.stderr);
            let windows = windows(&issued.lock().unwrap().clone());
            assert!(!windows.is_empty());
            for text in [&done.stdout[..], done.stderr.as_bytes()] {
                let told = leak(text, &windows);
                assert!(told.is_none(), "{status} {args:?}: {told:?}");
            }
        }
    }
}
