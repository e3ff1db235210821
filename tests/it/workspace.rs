//! The command `workspace`: the real binary against the simulator's ARM.

mod ensure;
mod ways;

use easm_export::sim::{Arm, Audience, Options, OtherWorkspace, Scripted};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Done, World, finish};

/// A world whose ARM is this one.
async fn world(arm: Arm) -> World {
    World::new(Options { assets: 20, arm, ..Options::default() }).await
}

/// `workspace` with `args` for a workspace named `fresh`, which is not there yet.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["workspace"], args].concat());
    command.env("EASM_WORKSPACE", "fresh");
    command
}

async fn run(world: &World, args: &[&str]) -> Done {
    finish(command(world, args)).await
}

/// How often ARM was asked with this verb.
fn n_asked(world: &World, method: &str) -> usize {
    let seen = world.sim.requests();
    seen.iter().filter(|seen| seen.method == method && seen.path.contains("/providers/")).count()
}

/// The one document on stdout.
fn document(done: &Done) -> Value {
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Four workspaces beside the one there always is.
fn several() -> Arm {
    let other = |(group, name, region): (&str, &str, &str)| OtherWorkspace {
        resource_group: group.to_owned(),
        name: name.to_owned(),
        region: region.to_owned(),
    };
    let all = [
        ("rg-easm", "second", "westeurope"),
        ("rg-other", "third", "eastus"),
        ("rg-other", "fourth", "moon1"),
        ("rg-other", "fifth", "eastus"),
    ];
    Arm { workspaces: all.map(other).to_vec(), page_size: 2, ..Arm::default() }
}

#[tokio::test]
async fn all_pages_are_listed_wherever_their_links_lead() {
    let elsewhere = world(Arm::default()).await;
    for links in [None, Some(elsewhere.sim.url())] {
        let world = world(Arm { links, ..several() }).await;
        let done = run(&world, &["list"]).await.expect_code(0);
        let lines: Vec<&str> = done.stdout_text().lines().collect();
        assert_eq!((lines.len(), done.stderr.as_str()), (6, ""), "{}", done.stdout_text());
        assert!(lines[0].starts_with("NAME     RESOURCE GROUP  REGION      STATE"), "{}", lines[0]);
        assert!(
            lines[4].starts_with("fourth   rg-other        moon1       Succeeded  moon1.easm.")
        );

        let done = run(&world, &["list", "--json"]).await.expect_code(0);
        let value = document(&done)["value"].as_array().unwrap().clone();
        let names: Vec<&str> = value.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["contoso", "second", "third", "fourth", "fifth"]);
        let subscription = Options::default().subscription_id;
        let wanted = serde_json::json!({
            "name": "second", "resourceGroup": "rg-easm", "region": "westeurope",
            "provisioningState": "Succeeded",
            "dataPlaneEndpoint": "westeurope.easm.defender.microsoft.com",
            "id": format!("/subscriptions/{subscription}/resourcegroups/rg-easm/providers/\
                           Microsoft.Easm/workspaces/second"),
        });
        assert_eq!(value[1], wanted);
        assert_eq!(n_asked(&world, "GET"), 6, "three pages, twice");
    }
    assert!(elsewhere.sim.requests().is_empty(), "nobody went there");
}

#[tokio::test]
async fn pages_that_go_round_are_an_error() {
    let world = world(Arm { pages_go_round: true, ..several() }).await;
    let done = run(&world, &["list"]).await.expect_code(1);
    assert!(done.error_line().contains("leads back"), "{}", done.stderr);
}

#[tokio::test]
async fn no_workspaces_are_an_empty_list() {
    let world = world(Arm { has_workspace: false, ..Arm::default() }).await;
    let done = run(&world, &["list", "--json"]).await.expect_code(0);
    assert_eq!(document(&done), serde_json::json!({"value": []}));
    let done = run(&world, &["list"]).await.expect_code(0);
    assert!(done.stdout.is_empty() && done.error_line().contains("There is no workspace"));
}

#[tokio::test]
async fn a_list_without_a_role_says_which_one() {
    let mut options = Options::default();
    options.identities.iter_mut().for_each(|identity| identity.has_role = false);
    let world = World::new(options).await;
    let done = run(&world, &["list"]).await.expect_code(1);
    assert!(done.error_line().contains("Reader role on subscription"), "{}", done.stderr);
}

#[tokio::test]
async fn nothing_is_deleted_without_yes() {
    let world = world(several()).await;
    let done = run(&world, &["delete", "second"]).await.expect_code(2);
    let line = done.error_line();
    for word in ["second", "rg-easm", "cannot be undone", "--yes"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    for name in ["rg-easm/second", "..", "", "a b", "second?x", "%2e%2e"] {
        let done = run(&world, &["delete", name, "--yes"]).await.expect_code(2);
        assert!(done.error_line().contains("not the name of a workspace"), "{}", done.stderr);
    }
    // What there can be elsewhere.
    let done = run(&world, &["delete", "second.v2"]).await.expect_code(2);
    assert!(done.error_line().contains("--yes"), "{}", done.stderr);
    run(&world, &["delete", "--yes"]).await.expect_code(2);
    assert!(world.sim.requests().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_deletion_waits_until_the_workspace_is_gone_and_says_what_it_was() {
    let world = world(several()).await;
    let done = run(&world, &["delete", "second", "--yes", "--json"]).await.expect_code(0);
    let found = document(&done);
    assert_eq!((&found["name"], &found["deleted"]), (&"second".into(), &true.into()));
    assert!(done.error_line().contains("is deleted"));
    let left = document(&run(&world, &["list", "--json"]).await);
    assert!(!left.to_string().contains("second") && left.to_string().contains("contoso"));
    // What is not there any more, is misspelt or is of another group is not deleted.
    for name in ["second", "contos", "third"] {
        let done = run(&world, &["delete", name, "--yes"]).await.expect_code(1);
        let line = done.error_line();
        assert!(line.contains("nothing was deleted; there are: contoso"), "{line}");
    }
    assert_eq!(n_asked(&world, "DELETE"), 1);
}

#[tokio::test]
async fn a_deletion_that_is_refused_says_which_role_it_takes() {
    let world = world(Arm { may_write: false, ..several() }).await;
    let done = run(&world, &["delete", "second", "--yes"]).await.expect_code(1);
    assert!(done.error_line().contains("Contributor role on resource group"), "{}", done.stderr);
}

/// Every token went to the plane that it was issued for.
fn check_tokens(world: &World) {
    for seen in world.sim.requests() {
        let Some(issued) = seen.authorization.as_deref().and_then(|sent| world.sim.issued(sent))
        else {
            continue;
        };
        let wanted = match seen.path.contains("/providers/Microsoft.Easm/") {
            true => Audience::Arm,
            false => Audience::Easm,
        };
        assert_eq!(issued.audience, wanted, "{}", seen.path);
    }
}

/// One fault for the request number `from` (and `times - 1` behind it) whose path holds `path`.
fn script(path: &str, from: u64, times: u64, fault: easm_export::sim::Fault) -> Vec<Scripted> {
    let (path_contains, query_contains) = (path.to_owned(), String::new());
    vec![Scripted { path_contains, query_contains, from, times, fault }]
}
