//! The function `Exports`, and a run that is carried by messages: what the contract says of them, seen
//! as the host sees it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::functions_host::{Answer, Handler, Mode};
use super::functions_payload::{Ask, SLOT, ask, slot};
use super::runs::{assert_run_document, run_json};
use super::{RUN_ID, assert_shape, assert_whole, fits, world};
use crate::support::World;

/// An id that a run could have.
const UNKNOWN: &str = "20200101T000000Z-0a1b2c3d";
/// Larger than the contract's megabyte.
const TOO_LARGE: usize = (1 << 20) + 1;

pub fn post(body: &Value) -> Ask {
    ask("POST", "/exports").body(&body.to_string())
}

/// Fails unless `answer` accepts a run, in the contract's words.
#[track_caller]
pub fn accepted(answer: Answer) -> Answer {
    let answer = answer.expect(202);
    let body = answer.json();
    assert_shape(&body, &json!({"runId": "run id", "status": "", "statusUrl": ""}), "accepted");
    let url = format!("/api/exports/{}", answer.run_id());
    assert_eq!(body["statusUrl"], url, "an absolute path, without host and key");
    assert_eq!(answer.headers["location"], url);
    answer
}

async fn ids_listed(handler: &Handler, mode: Mode, ask: &Ask) -> Vec<String> {
    let answer = handler.ask(mode, ask).await.expect(200).json();
    let runs = answer["value"].as_array().unwrap();
    runs.iter().map(|run| run["runId"].as_str().unwrap().to_owned()).collect()
}

/// Fails unless the run is complete and exact, and the store holds what the inventory does.
async fn assert_exact(world: &World, id: &str, case: &str) {
    let run = run_json(world, id);
    assert_run_document(&run, "complete");
    let manifest: Value = world.document(&format!("contoso/runs/{id}/manifest.json"));
    assert_eq!(manifest["completeness"], "exact", "{case}");
    assert_whole(world, &manifest, &world.sim.inventory().ndjson(""), case);
    world.run(&["runs", "verify", id]).await.expect_code(0);
    assert!(!world.files().iter().any(|path| path.contains("/active/")), "{case}: still active");
}

#[tokio::test]
async fn messages_in_any_order_and_twice_carry_the_timers_run_to_an_exact_end() {
    for seed in 1..=3 {
        let world = world(260).await;
        let vars = [("EASM_PAGE_SIZE", "20"), ("EASM_RANGE_ASSETS_MAX", "50")];
        let handler = Handler::start(&world, &vars).await;
        let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
        assert_eq!(work.len(), 1, "the planning of the one target");
        handler.carry(work, seed).await;
        let ids = ids_listed(&handler, Mode::Default, &ask("GET", "/exports")).await;
        assert_eq!(ids.len(), 1, "SEED={seed}: {ids:?}");
        let run = run_json(&world, &ids[0]);
        assert_eq!([&run["trigger"], &run["status"]], ["timer", "complete"], "SEED={seed}");
        assert!(ids[0].starts_with("20240305T060000Z-"), "{}", ids[0]);
        assert_exact(&world, &ids[0], &format!("SEED={seed}")).await;
        handler.end().await.expect_quiet();
    }
}

#[tokio::test]
async fn a_run_asked_for_is_accepted_found_and_carried_to_an_exact_end() {
    let world = world(80).await;
    let handler = Handler::start(&world, &[]).await;
    // Without a body all comes from the target.
    let answer = accepted(handler.ask(Mode::Default, &ask("POST", "/exports")).await);
    let id = answer.run_id();
    assert!(fits(RUN_ID, &id), "{id}");
    for mode in Mode::BOTH {
        let ask = ask("GET", &format!("/exports/{id}"));
        let found = handler.ask(mode, &ask).await.expect(200).json();
        assert_run_document(&found, "queued");
        assert_eq!([&found["trigger"], &found["runId"]], ["http", id.as_str()]);
    }
    handler.carry(answer.work, 4).await;
    assert_exact(&world, &id, "over HTTP").await;
    for mode in Mode::BOTH {
        let ask = ask("GET", &format!("/exports/{id}"));
        assert_run_document(&handler.ask(mode, &ask).await.expect(200).json(), "complete");
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn exports_is_served_at_its_route_too() {
    let world = world(30).await;
    let handler = Handler::start(&world, &[]).await;
    let answer = handler.ask(Mode::Forwarding, &post(&json!({"maxAssets": 5}))).await;
    accepted(answer);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_cancelled_run_is_finished_and_cannot_be_cancelled() {
    let world = world(30).await;
    let handler = Handler::start(&world, &[]).await;
    let opened = accepted(handler.ask(Mode::Default, &post(&json!({}))).await).run_id();
    let cancel = ask("DELETE", &format!("/exports/{opened}"));
    handler.ask(Mode::Default, &cancel).await.expect(202);
    assert_run_document(&run_json(&world, &opened), "cancelled");
    handler.ask(Mode::Default, &cancel).await.expect_error(409, "");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn an_equal_request_joins_the_active_run_and_another_does_not() {
    let world = world(40).await;
    let handler = Handler::start(&world, &[]).await;
    let open =
        async |body: &Value| accepted(handler.ask(Mode::Default, &post(body)).await).run_id();
    let first = open(&json!({})).await;
    let kinds = ["as", "contact", "domain", "host", "ipAddress", "ipBlock", "page", "sslCert"];
    // As the target has it, spelled out; the last in another order.
    for body in [
        json!({}),
        json!({"target": "contoso"}),
        json!({"target": "CONTOSO", "filter": "", "format": "ndjson", "compression": "gzip"}),
        json!({"datasets": ["assets"], "kinds": kinds, "columns": []}),
        json!({"kinds": kinds.iter().rev().collect::<Vec<_>>()}),
    ] {
        assert_eq!(open(&body).await, first, "{body}");
    }
    let mut others = BTreeSet::from([first.clone()]);
    for body in [
        json!({"kinds": ["host"]}),
        json!({"filter": "state = \"confirmed\""}),
        json!({"maxAssets": 7}),
        json!({"compression": "none"}),
    ] {
        assert!(others.insert(open(&body).await), "{body}");
    }
    let again = json!({"maxAssets": 8});
    let both = futures::join!(open(&again), open(&again));
    assert_eq!(both.0, both.1, "at once");
    // Once the run has ended, an equal request is a new one.
    let cancel = ask("DELETE", &format!("/exports/{first}"));
    handler.ask(Mode::Default, &cancel).await.expect(202);
    assert!(others.insert(open(&json!({})).await), "a new run");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn what_is_asked_for_is_what_the_run_says_and_brings() {
    let world = world(90).await;
    let handler = Handler::start(&world, &[]).await;
    let body =
        json!({"kinds": ["page", "host"], "compression": "none", "filter": "kind != \"as\""});
    let answer = accepted(handler.ask(Mode::Default, &post(&body)).await);
    let id = answer.run_id();
    let request = run_json(&world, &id)["request"].clone();
    assert_eq!(request["kinds"], json!(["host", "page"]), "{request}");
    assert_eq!([&request["compression"], &request["filter"]], ["none", "kind != \"as\""]);
    handler.carry(answer.work, 5).await;
    let manifest: Value = world.document(&format!("contoso/runs/{id}/manifest.json"));
    let truth = world.sim.inventory().ndjson("kind = \"host\" OR kind = \"page\"");
    assert_whole(&world, &manifest, &truth, "two kinds");
    assert!(!world.files().contains(&"contoso/latest.json".to_owned()), "not the target's own");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_key_gives_the_same_run_for_the_same_body_and_a_conflict_for_another() {
    let world = world(20).await;
    let handler = Handler::start(&world, &[]).await;
    let open = async |key: &str, body: &str| {
        let ask = ask("POST", "/exports").header("Idempotency-Key", key).body(body);
        handler.ask(Mode::Default, &ask).await
    };
    let first = accepted(open("a key", "{\"maxAssets\":3}").await);
    let id = first.run_id();
    assert_eq!(accepted(open("a key", "{\"maxAssets\":3}").await).run_id(), id);
    for other in ["{\"maxAssets\":4}", "{}", "", "{ \"maxAssets\": 3 }"] {
        open("a key", other).await.expect_error(409, "Idempotency-Key");
    }
    handler.carry(first.work, 6).await;
    assert_eq!(run_json(&world, &id)["status"], "complete");
    let lower =
        ask("POST", "/exports").header("idempotency-key", "a key").body("{\"maxAssets\":3}");
    // The run has ended, and still the key means it.
    assert_eq!(accepted(handler.ask(Mode::Default, &lower).await).run_id(), id);
    assert_eq!(accepted(open("a key", "{\"maxAssets\":3}").await).run_id(), id);
    assert_ne!(accepted(open("another", "{\"maxAssets\":3}").await).run_id(), id);
    assert_ne!(accepted(open("no body", "").await).run_id(), id);
    let both =
        futures::join!(open("at once", "{\"maxAssets\":9}"), open("at once", "{\"maxAssets\":9}"));
    assert_eq!(accepted(both.0).run_id(), accepted(both.1).run_id(), "at once");
    let keys = world.files().into_iter().filter(|path| path.starts_with("_keys/")).count();
    assert_eq!(keys, 4);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_dry_run_counts_and_opens_nothing() {
    let world = world(120).await;
    let handler = Handler::start(&world, &[]).await;
    for mode in Mode::BOTH {
        let body = json!({"dryRun": true, "kinds": ["host", "page"]});
        let found = handler.ask(mode, &post(&body)).await.expect(200);
        assert!(found.work.is_empty(), "{found:?}");
        let found = found.json()["counts"]["assets"].clone();
        let n = |kind: &str| world.sim.inventory().ndjson(&format!("kind = \"{kind}\"")).len();
        let (hosts, pages) = (n("host"), n("page"));
        assert_eq!(found["expected"], hosts + pages, "{found}");
        assert_eq!([&found["byKind"]["host"], &found["byKind"]["page"]], [hosts, pages], "{found}");
    }
    assert_eq!(world.files(), Vec::<String>::new());
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn runs_are_listed_newest_first_up_to_the_limit() {
    let world = world(10).await;
    let handler = Handler::start(&world, &[]).await;
    for mode in Mode::BOTH {
        assert!(ids_listed(&handler, mode, &ask("GET", "/exports")).await.is_empty());
    }
    for max in 1..=3 {
        accepted(handler.ask(Mode::Default, &post(&json!({"maxAssets": max}))).await);
    }
    for mode in Mode::BOTH {
        let list = ask("GET", "/exports");
        let found = handler.ask(mode, &list).await.expect(200).json();
        let times: Vec<&str> = found["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["startedAt"].as_str().unwrap())
            .collect();
        assert_eq!(times.len(), 3);
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
        let all = ids_listed(&handler, mode, &list).await;
        for limit in [1, 2, 400] {
            let ask = list.clone().query("limit", &limit.to_string()).query("target", "Contoso");
            assert_eq!(ids_listed(&handler, mode, &ask).await, all[..limit.min(3)], "{limit}");
        }
        for limit in ["0", "-1", "x", "", "401", "1.5"] {
            let ask = list.clone().query("limit", limit);
            handler.ask(mode, &ask).await.expect_error(400, "limit");
        }
        let ask = list.clone().query("target", "nobody");
        handler.ask(mode, &ask).await.expect_error(400, "target");
        handler.ask(mode, &list.clone().query("colour", "x")).await.expect_error(400, "colour");
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_run_is_cancelled_once_and_a_finished_one_is_not() {
    for mode in Mode::BOTH {
        let world = world(30).await;
        let handler = Handler::start(&world, &[]).await;
        let opened = accepted(handler.ask(Mode::Default, &post(&json!({"maxAssets": 4}))).await);
        let cancel = |id: &str| ask("DELETE", &format!("/exports/{id}"));
        let answer = accepted(handler.ask(mode, &cancel(&opened.run_id())).await);
        assert_eq!(answer.run_id(), opened.run_id());
        // What is still on the queue does no harm.
        handler.carry(opened.work.clone(), 7).await;
        let run = run_json(&world, &opened.run_id());
        assert_run_document(&run, "cancelled");
        let done = accepted(handler.ask(Mode::Default, &post(&json!({}))).await);
        handler.carry(done.work.clone(), 8).await;
        assert_exact(&world, &done.run_id(), "after a cancelled one").await;
        handler.ask(mode, &cancel(&done.run_id())).await.expect_error(409, "");
        assert_run_document(&run_json(&world, &done.run_id()), "complete");
        for method in ["GET", "DELETE"] {
            let of = |id: &str| ask(method, &format!("/exports/{id}"));
            handler.ask(mode, &of(UNKNOWN)).await.expect_error(404, UNKNOWN);
            for id in
                ["x", "latest", "20200101T000000Z", "20200101T000000Z-0A1B2C3D", "..", "%2e%2e"]
            {
                if !(mode == Mode::Forwarding && id.contains(['.', '%'])) {
                    handler.ask(mode, &of(id)).await.expect_error(400, "runId");
                }
            }
        }
        handler.end().await.expect_quiet();
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_by_the_name_of_what_is_wrong() {
    let world = world(10).await;
    let handler = Handler::start(&world, &[]).await;
    let cases = [
        ("{\"colour\": 1}", "colour"),
        ("{\"runId\": \"x\"}", "runId"),
        ("{\"target\": \"nobody\"}", "target"),
        ("{\"target\": 1}", "target"),
        ("{\"filter\": 5}", "filter"),
        ("{\"filter\": null, \"kinds\": \"nonsense\"}", "kinds"),
        ("{\"kinds\": [\"host\", \"nonsense\"]}", "kinds"),
        ("{\"kinds\": [1]}", "kinds"),
        ("{\"datasets\": [\"nonsense\"]}", "datasets"),
        ("{\"format\": \"xml\"}", "format"),
        ("{\"compression\": \"rar\"}", "compression"),
        ("{\"columns\": {}}", "columns"),
        ("{\"maxAssets\": 0}", "maxAssets"),
        ("{\"maxAssets\": -1}", "maxAssets"),
        ("{\"maxAssets\": 1.5}", "maxAssets"),
        ("{\"maxAssets\": \"many\"}", "maxAssets"),
        ("{\"dryRun\": \"perhaps\"}", "dryRun"),
        ("{", "body"),
        ("nonsense", "body"),
        ("[]", "body"),
        ("\"x\"", "body"),
        ("null", "body"),
    ];
    for mode in Mode::BOTH {
        for (body, word) in cases {
            let ask = ask("POST", "/exports").body(body);
            let answer = handler.ask(mode, &ask).await;
            assert_eq!(answer.status, 400, "{mode:?} {body}: {answer:?}");
            answer.expect_error(400, word);
        }
        let large = json!({"filter": "x".repeat(TOO_LARGE)});
        handler.ask(mode, &post(&large)).await.expect_error(413, "");
    }
    // Announced, and not passed on, as the host does with chunked uploads.
    for (name, value) in [("Transfer-Encoding", "chunked"), ("Content-Length", "17")] {
        for path in ["/exports", "/assets"] {
            let ask = ask("POST", path).header(name, value);
            handler.ask(Mode::Default, &ask).await.expect_error(411, "Content-Length");
        }
    }
    assert_eq!(world.files(), Vec::<String>::new(), "nothing was opened");
    handler.end().await.expect_quiet();
}
