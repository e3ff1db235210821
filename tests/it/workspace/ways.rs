//! The ways in which a creation and a deletion can go, and go wrong.

use std::time::Duration;

use easm_export::sim::{Arm, Ending, Fault, Options, Tracking};

use super::{check_tokens, command, n_asked, run, script, several, world};
use crate::support::{World, finish, signal};

const ENSURE: [&str; 3] = ["ensure", "--region", "eastus"];

#[tokio::test]
async fn a_creation_ends_however_arm_tells_its_state() {
    let elsewhere = world(Arm::default()).await;
    let foreign = Some(elsewhere.sim.url());
    let table = [
        (Tracking::Operation, None, 2),
        (Tracking::Location, None, 2),
        (Tracking::Nothing, None, 2),
        (Tracking::Operation, foreign.clone(), 2),
        (Tracking::Location, foreign, 2),
        (Tracking::Operation, None, 0),
    ];
    for (tracking, links, looks) in table {
        let case = format!("{tracking:?} {links:?} {looks}");
        let is_foreign = links.is_some();
        let world = world(Arm { tracking, links, looks, unknown_requests: 0, ..several() }).await;
        let done = run(&world, &ENSURE).await.expect_code(0);
        assert!(done.error_line().contains("was created in eastus"), "{case}: {}", done.stderr);
        run(&world, &["delete", "fresh", "--yes"]).await.expect_code(0);
        let is_tracked = world.sim.requests().iter().any(|s| s.path.contains("operationResults"));
        assert_eq!(is_tracked, tracking != Tracking::Nothing && !is_foreign, "{case}");
        check_tokens(&world);
    }
    assert!(elsewhere.sim.requests().is_empty(), "nobody went there");
}

#[tokio::test]
async fn what_was_killed_goes_on_and_creates_nothing_twice() {
    let world = world(Arm { looks: 12, ..Arm::default() }).await;
    for (name, code) in [("KILL", None), ("INT", Some(130))] {
        let mut child = command(&world, &ENSURE).spawn().unwrap();
        let n_before = world.sim.requests().len();
        let is_waiting = || {
            let seen = world.sim.requests();
            n_asked(&world, "PUT") == 1 && seen.len() > n_before + 3
        };
        let limit = tokio::time::timeout(Duration::from_secs(60), async {
            while !is_waiting() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        limit.await.expect("it waits for the workspace");
        signal(&child, name);
        assert_eq!(child.wait().await.unwrap().code(), code, "{name}");
        if name == "INT" {
            let mut said = String::new();
            let mut stderr = child.stderr.take().unwrap();
            tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await.unwrap();
            assert!(said.contains("goes on in Azure; start the same command again"), "{said}");
        }
    }
    let done = run(&world, &["ensure"]).await.expect_code(0);
    assert!(done.error_line().contains("fresh is there"), "{}", done.stderr);
    assert_eq!(n_asked(&world, "PUT"), 1);
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_found_and_not_repeated_in_vain() {
    for fault in [Fault::Reset, Fault::CutBody, Fault::Truncated] {
        // The first request looks, the second creates.
        let script = script("/workspaces/fresh", 1, 1, fault.clone());
        let world = World::new(Options { assets: 20, script, ..Options::default() }).await;
        let done = run(&world, &ENSURE).await.expect_code(0);
        assert!(done.error_line().contains("fresh was created"), "{fault:?}: {}", done.stderr);
        let names = run(&world, &["list", "--json"]).await;
        assert_eq!(names.stdout_text().matches("\"fresh\"").count(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_waited_for() {
    let asked = Fault::Status { status: 429, retry_after: Some("1".to_owned()) };
    for fault in [asked, Fault::NotJson(502), Fault::Garbage] {
        let script = script("/workspaces/fresh", 0, 3, fault.clone());
        let world = World::new(Options { assets: 20, script, ..Options::default() }).await;
        let done = run(&world, &ENSURE).await.expect_code(0);
        assert!(done.error_line().contains("fresh was created"), "{fault:?}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_failure_says_what_to_do() {
    let no_group = ("EASM_RESOURCE_GROUP", "rg-nowhere");
    let usual = ("EASM_RESOURCE_GROUP", "rg-easm");
    let arm = Arm::default;
    let table = [
        (arm(), no_group, "az group create --name rg-nowhere", 0),
        (Arm { may_write: false, ..arm() }, usual, "Contributor role on resource group", 1),
        (Arm { is_registered: false, ..arm() }, usual, "--namespace Microsoft.Easm", 1),
        (Arm { ending: Ending::Fails, ..arm() }, usual, "no capacity in this region", 1),
        (
            Arm { ending: Ending::Fails, tracking: Tracking::Nothing, ..arm() },
            usual,
            "its creation has ended as Failed",
            1,
        ),
    ];
    for (arm, (name, value), want, n_puts) in table {
        let world = world(arm).await;
        let mut command = command(&world, &ENSURE);
        command.env(name, value);
        let done = finish(command).await.expect_code(1);
        assert!(done.error_line().contains(want), "{want}: {}", done.stderr);
        assert_eq!(n_asked(&world, "PUT"), n_puts, "{want}");
    }
}

#[tokio::test]
async fn a_workspace_that_failed_stays_so_until_it_is_deleted() {
    let world = world(Arm { ending: Ending::Fails, ..Arm::default() }).await;
    run(&world, &ENSURE).await.expect_code(1);
    let done = run(&world, &ENSURE).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("ended as Failed") && line.contains("delete fresh --yes"), "{line}");
    assert_eq!(n_asked(&world, "PUT"), 1);
}

#[tokio::test]
async fn a_data_plane_without_a_role_is_there_and_the_role_is_named() {
    let fault = Fault::Status { status: 403, retry_after: None };
    let script = script("/workspaces/fresh/assets", 0, 1000, fault);
    let world = World::new(Options { assets: 20, script, ..Options::default() }).await;
    let done = run(&world, &ENSURE).await.expect_code(0);
    let line = done.error_line();
    assert!(line.contains("was created") && line.contains("the Reader role on"), "{line}");
}

#[tokio::test]
async fn a_data_plane_is_waited_for_until_it_knows_the_workspace() {
    let world = world(Arm { unknown_requests: 3, ..Arm::default() }).await;
    run(&world, &ENSURE).await.expect_code(0);
    let asked: Vec<u16> = world
        .sim
        .requests()
        .iter()
        .filter(|seen| seen.path.ends_with("/workspaces/fresh/assets"))
        .map(|seen| seen.status)
        .collect();
    assert_eq!(asked, [404, 404, 404, 200]);
}
