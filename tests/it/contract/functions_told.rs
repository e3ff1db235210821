//! The functions `Health` and `OpenApi`, and what is told of failures: what the contract says of them,
//! seen as the host sees it.

use std::collections::BTreeSet;

use easm_export::sim::{Fault, Options, Scripted};
use serde_json::json;

use super::functions::{accepted, post};
use super::functions_host::{Handler, Mode, free_port};
use super::functions_payload::{SLOT, ask, slot};
use super::runs::assert_run_document;
use super::world;
use crate::support::World;

#[tokio::test]
async fn health_says_ok_or_what_is_wrong_without_detail() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    for mode in Mode::BOTH {
        let answer = handler.ask(mode, &ask("GET", "/health")).await.expect(200);
        assert_eq!(answer.json(), json!({"status": "ok"}));
    }
    handler.end().await.expect_quiet();
    let gone = format!("http://127.0.0.1:{}/devstoreaccount1/c", free_port());
    for (name, value) in [
        ("EXPORT_SCHEDULE", ""),
        ("EASM_PAGE_SIZE", "many"),
        ("EASM_TENANT_ID", ""),
        ("EASM_STORE_URL", &gone),
    ] {
        let handler = Handler::start(&world, &[(name, value)]).await;
        for mode in Mode::BOTH {
            let answer = handler.ask(mode, &ask("GET", "/health")).await;
            assert_eq!(answer.status, 503, "{name}={value}: {answer:?}");
            assert!(value.is_empty() || !answer.body.contains(value), "{answer:?}");
            assert!(!answer.body.contains("127.0.0.1"), "without detail: {answer:?}");
        }
        handler.end().await;
    }
}

#[tokio::test]
async fn a_schedule_that_the_host_would_drop_is_not_healthy() {
    for schedule in ["every morning", "0 0 25 * * *", "* *"] {
        let world = world(5).await;
        let handler = Handler::start(&world, &[("EXPORT_SCHEDULE", schedule)]).await;
        let answer = handler.ask(Mode::Default, &ask("GET", "/health")).await;
        assert_eq!(answer.status, 503, "{schedule}: {answer:?}");
        handler.end().await;
    }
}

#[tokio::test]
async fn an_anonymous_function_shuts_all_of_them_but_health() {
    let world = world(5).await;
    let function = |name: &str, level: &str| {
        let folder = world.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let binding = json!({"type": "httpTrigger", "direction": "in", "name": "req",
            "authLevel": level, "route": name.to_lowercase()});
        let text =
            json!({"bindings": [binding, {"type": "http", "direction": "out", "name": "res"}]});
        std::fs::write(folder.join("function.json"), text.to_string()).unwrap();
    };
    function("Health", "anonymous");
    function("Assets", "function");
    let handler = Handler::start(&world, &[]).await;
    handler.ask(Mode::Forwarding, &ask("GET", "/assets")).await.expect(200);
    handler.end().await.expect_quiet();
    function("Assets", "anonymous");
    let handler = Handler::start(&world, &[]).await;
    for mode in Mode::BOTH {
        handler.ask_raw(mode, &ask("GET", "/assets")).await.expect_error(503, "");
        handler.ask_raw(mode, &ask("GET", "/exports")).await.expect_error(503, "");
        handler.ask_raw(mode, &ask("GET", "/openapi.json")).await.expect_error(503, "");
        let health = handler.ask_raw(mode, &ask("GET", "/health")).await.expect(503);
        assert!(health.body.contains("authorization"), "{health:?}");
    }
    handler.end().await;
}

#[tokio::test]
async fn every_operation_and_success_of_the_document_is_really_answered() {
    let world = world(20).await;
    let handler = Handler::start(&world, &[]).await;
    let document =
        handler.ask(Mode::Default, &ask("GET", "/openapi.json")).await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(&document, handler.document().await, "the same in both modes");
    let opened = accepted(handler.ask(Mode::Default, &ask("POST", "/exports")).await).run_id();
    let of_run = format!("/exports/{opened}");
    for ask in [
        post(&json!({"dryRun": true})),
        ask("GET", "/exports"),
        ask("GET", &of_run),
        ask("DELETE", &of_run),
        ask("GET", "/assets"),
        ask("POST", "/assets").body("{}"),
        ask("GET", "/health"),
    ] {
        handler.ask(Mode::Default, &ask).await;
    }
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys();
            let good = statuses.filter(|status| status.starts_with('2'));
            let name = format!("{} {path}", method.to_uppercase());
            told.extend(good.map(|status| (name.clone(), status.parse::<u16>().unwrap())));
        }
    }
    assert_eq!(handler.seen(), told);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn what_the_service_refuses_is_told_without_its_token() {
    let fault = |path: &str, fault| Scripted {
        path_contains: path.to_owned(),
        query_contains: String::new(),
        from: 0,
        times: 1000,
        fault,
    };
    let script = vec![fault("/assets", Fault::EchoToken(403))];
    let world = World::new(Options { assets: 20, script, ..Options::default() }).await;
    let handler = Handler::start(&world, &[]).await;
    let mut said = String::new();
    for mode in Mode::BOTH {
        said +=
            &handler.ask(mode, &post(&json!({"dryRun": true}))).await.expect_error(502, "").body;
        said += &handler.ask(mode, &ask("GET", "/assets")).await.expect_error(502, "").body;
    }
    let opened = accepted(handler.ask(Mode::Default, &post(&json!({}))).await);
    handler.deliver(&opened.work[0]).await.expect(500);
    // The run has ended: there is nothing left to do.
    assert!(handler.deliver(&opened.work[0]).await.expect(200).work().is_empty());
    let run =
        handler.ask(Mode::Default, &ask("GET", &format!("/exports/{}", opened.run_id()))).await;
    assert_run_document(&run.json(), "failed");
    handler.ping().await;
    let logs = handler.end().await;
    assert_eq!(logs.stderr.lines().count(), 1, "what ends a run is said there: {}", logs.stderr);
    said += &(run.body + &logs.stdout + &logs.stderr);
    let tokens: BTreeSet<String> =
        world.sim.requests().into_iter().filter_map(|seen| seen.authorization).collect();
    assert!(!tokens.is_empty());
    for token in tokens.iter().map(|token| token.trim_start_matches("Bearer ")) {
        for at in 0..token.len() - 16 {
            assert!(!said.contains(&token[at..at + 16]), "a piece of a token is told: {said}");
        }
    }
}

#[tokio::test]
async fn an_unknown_setting_is_reported_by_its_name() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[("EASM_FILTRE", "x")]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    handler.carry(work, 1).await;
    let logs = handler.end().await.expect_quiet();
    let said =
        logs.stdout.lines().any(|line| line.contains("EASM_FILTRE") && line.contains("WARN"));
    assert!(said, "{}", logs.stdout);
}
