//! Which region a workspace comes to be in, and that it comes to be once.

use easm_export::model::manifest::Completeness;
use easm_export::sim::Arm;

use super::{check_tokens, command, document, n_asked, run, world};
use crate::support::finish;

#[tokio::test]
async fn a_workspace_is_created_in_the_region_that_is_given() {
    let world = world(Arm::default()).await;
    let mut command = command(&world, &["ensure", "--region", "West US 3", "--json"]);
    command.env("EASM_REGION", "eastus");
    let done = finish(command).await.expect_code(0);
    let line = done.error_line();
    assert!(line.contains("fresh was created in westus3"), "{line}");
    let found = document(&done);
    assert_eq!((&found["name"], &found["region"]), (&"fresh".into(), &"westus3".into()));
    assert_eq!(found["provisioningState"], "Succeeded");
    assert_eq!(found["dataPlaneEndpoint"], "westus3.easm.defender.microsoft.com");
    check_tokens(&world);
}

#[tokio::test]
async fn a_workspace_is_created_in_the_region_of_the_settings() {
    let world = world(Arm::default()).await;
    let mut command = command(&world, &["ensure", "--json"]);
    command.env("EASM_REGION", "swedencentral");
    let done = finish(command).await.expect_code(0);
    assert_eq!(document(&done)["region"], "swedencentral");
    assert!(done.error_line().contains("created in swedencentral"), "{}", done.stderr);
}

#[tokio::test]
async fn without_a_region_nothing_is_created_and_the_error_says_how_to_give_one() {
    let world = world(Arm::default()).await;
    let done = run(&world, &["ensure"]).await.expect_code(2);
    let line = done.error_line();
    assert!(line.contains("give --region or set EASM_REGION") && line.contains("eastus"), "{line}");
    assert_eq!(n_asked(&world, "PUT"), 0);
    // A name that is none is refused before anybody is asked.
    let n_before = world.sim.requests().len();
    let done = run(&world, &["ensure", "--region", "evil.example/"]).await.expect_code(2);
    assert!(done.error_line().contains("not the name of a region"), "{}", done.stderr);
    assert_eq!(world.sim.requests().len(), n_before);
}

#[tokio::test]
async fn an_unknown_region_is_a_warning_with_the_nearest_names_and_is_tried() {
    let world = world(Arm::default()).await;
    let done = run(&world, &["ensure", "--region", "westeurope2"]).await.expect_code(0);
    let (warning, said) = done.stderr.trim_end().split_once('\n').unwrap();
    assert!(warning.starts_with("Warning: westeurope2") && warning.contains("names: westeurope, "));
    assert!(said.contains("created in westeurope2"), "{said}");
    // Known ones pass without a word, and so does one that is not needed.
    for region in ["eastus", "westeurope2"] {
        let done = run(&world, &["ensure", "--region", region]).await.expect_code(0);
        assert!(!done.stderr.contains("Warning"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn what_is_there_is_left_alone_whichever_region_is_asked_for() {
    let world = world(Arm::default()).await;
    run(&world, &["ensure", "--region", "eastus"]).await.expect_code(0);
    assert_eq!(n_asked(&world, "PUT"), 1);
    // Without a region it is not missed.
    let done = run(&world, &["ensure"]).await.expect_code(0);
    assert!(done.error_line().contains("there already, in eastus: nothing was changed"));
    let done = run(&world, &["ensure", "--region", "westus3", "--json"]).await.expect_code(0);
    assert!(done.error_line().contains("It does not move to westus3"), "{}", done.stderr);
    assert_eq!(document(&done)["region"], "eastus");
    assert_eq!(n_asked(&world, "PUT"), 1);
}

#[tokio::test]
async fn a_new_workspace_exports_nothing_and_that_is_whole() {
    let world = world(Arm::default()).await;
    run(&world, &["ensure", "--region", "eastus"]).await.expect_code(0);
    let mut command = world.command(&["export", "--json"]);
    command.env("EASM_WORKSPACE", "fresh");
    let done = finish(command).await.expect_code(0);
    let manifest: easm_export::model::manifest::Manifest =
        serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((manifest.completeness, manifest.files.len()), (Completeness::Exact, 0));
}
