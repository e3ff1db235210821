//! Tokens: how many, for whom, and what happens when they end.

use std::collections::BTreeSet;

use easm_export::model::manifest::Completeness;
use easm_export::sim::Options;

use crate::support::{World, assert_same_lines, finish};

fn token_requests(world: &World) -> usize {
    world.sim.requests().iter().filter(|seen| seen.path == "/msi/token").count()
}

#[tokio::test]
async fn one_token_serves_one_plane_for_the_whole_run() {
    let world = World::new(Options { assets: 1500, ..Options::default() }).await;
    world.export(&[], 0).await;
    assert_eq!(token_requests(&world), 2, "one for ARM, one for the data plane");
    let tokens = |plane: &str| -> BTreeSet<String> {
        let seen = world.sim.requests();
        let of_plane = seen.iter().filter(|seen| seen.path.contains(plane));
        of_plane.filter_map(|seen| seen.authorization.clone()).collect()
    };
    let (arm, data) = (tokens("/providers/Microsoft.Easm/"), tokens("/assets"));
    assert_eq!((arm.len(), data.len()), (1, 1));
    assert!(arm.is_disjoint(&data));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_fetched_anew_once() {
    let options = Options { assets: 2500, revoke_after: Some(15), ..Options::default() };
    let world = World::new(options).await;
    let manifest = world.export(&[], 0).await;
    assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), "revoked");
    assert_eq!(manifest.completeness, Completeness::Exact);
    assert_eq!(token_requests(&world), 3, "one for ARM, two for the data plane");
}

#[tokio::test]
async fn a_short_lived_token_is_replaced_before_it_expires() {
    let options = Options {
        assets: 2000,
        token_seconds: 6,
        latency: std::time::Duration::from_millis(900),
        ..Options::default()
    };
    let world = World::new(options).await;
    world.export(&[], 0).await;
    let seen = world.sim.requests();
    assert!(!seen.iter().any(|seen| seen.status == 401), "no token was used after its end");
    let n_tokens = token_requests(&world);
    assert!((3..15).contains(&n_tokens), "{n_tokens} token requests");
}

#[tokio::test]
async fn an_identity_that_is_refused_says_what_to_check() {
    let world = World::new(Options { assets: 10, ..Options::default() }).await;
    let mut command = world.command(&["export"]);
    command.env("IDENTITY_HEADER", "canary-wrong-identity-header-value");
    let done = finish(command).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("get a token") && line.contains("managed identity"), "{line}");
    assert!(!line.contains("canary"), "{line}");
}
