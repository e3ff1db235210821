//! Several targets in the function app: who is meant, who is found, and that nobody stops another.

use std::collections::BTreeSet;
use std::time::Duration;

use easm_export::sim::{Fault, SignIn};
use serde_json::{Value, json};

use super::functions::{accepted, post};
use super::functions_host::{Answer, Handler, Mode};
use super::functions_payload::{Ask, SLOT, ask, slot, timer};
use super::identity::IN_AZURE;
use super::store::json as json_of;
use super::targets::{targets, two};
use super::targets_runs::{forbidden, refusing};
use super::{run, world};
use crate::azurite::Azurite;
use crate::functions::runs::firing;
use crate::functions::town::{LIMIT, Town};
use crate::support::{World, assert_same_lines, lines};

async fn start(world: &World, list: &str, vars: &[(&str, &str)]) -> Handler {
    Handler::start(world, &[&[("EASM_TARGETS", list)], vars].concat()).await
}

/// Target and status of every run that is listed, with this query.
async fn listed(handler: &Handler, query: &[(&str, &str)]) -> Vec<(String, String)> {
    let ask =
        query.iter().fold(ask("GET", "/exports"), |ask, (name, value)| ask.query(name, value));
    let found = handler.ask(Mode::Default, &ask).await.expect(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = found["value"].as_array().unwrap().iter();
    runs.map(|run| (text(&run["target"]), text(&run["status"]))).collect()
}

fn shown(id: &str) -> Ask {
    ask("GET", &format!("/exports/{id}"))
}

async fn opened(handler: &Handler, body: &Value) -> Answer {
    accepted(handler.ask(Mode::Default, &post(body)).await)
}

#[tokio::test]
async fn a_caller_says_which_target_and_a_run_is_found_whosever_it_is() {
    let world = world(40).await;
    let root = world.folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // Beside `host.json`, and not in the folder that the process stands in.
    std::fs::write(root.join("t.json"), "\u{feff}".to_owned() + &two()).unwrap();
    let vars = [("FUNCTIONS_APP_ROOT_PATH", root.to_str().unwrap())];
    let handler = start(&world, "@t.json", &vars).await;
    for mode in Mode::BOTH {
        for ask in [
            ask("POST", "/exports"),
            post(&json!({})),
            post(&json!({"target": "nobody"})),
            post(&json!({"target": ""})),
            post(&json!({"target": 7})),
            post(&json!({"dryRun": true})),
            ask("GET", "/assets"),
            ask("GET", "/assets").query("target", "nobody"),
            ask("GET", "/exports").query("target", "nobody"),
        ] {
            handler.ask(mode, &ask).await.expect_error(400, "target");
        }
        let counted = post(&json!({"target": "NORTH", "dryRun": true}));
        let counted = handler.ask(mode, &counted).await.expect(200).json();
        let kinds = counted["counts"]["assets"]["byKind"].as_object().unwrap().clone();
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["host"], "the target's own kinds");
        let found = ask("GET", "/assets").query("target", "South").query("limit", "5");
        handler.ask(mode, &found).await.expect(200);
    }
    assert!(world.files().is_empty(), "nothing was opened");

    let north = opened(&handler, &json!({"target": "North"})).await;
    let south = opened(&handler, &json!({"target": "south"})).await;
    handler.carry(north.work.clone(), 1).await;
    let mine = |target: &str, status: &str| (target.to_owned(), status.to_owned());
    let all = listed(&handler, &[]).await;
    assert_eq!(all.len(), 2);
    assert!(
        all.contains(&mine("north", "complete")) && all.contains(&mine("south", "queued")),
        "{all:?}"
    );
    assert_eq!(listed(&handler, &[("limit", "1")]).await.len(), 1, "over all targets");
    assert_eq!(listed(&handler, &[("target", "SOUTH")]).await, [mine("south", "queued")]);
    for mode in Mode::BOTH {
        for (id, target) in [(north.run_id(), "north"), (south.run_id(), "south")] {
            let found = handler.ask(mode, &shown(&id)).await.expect(200).json();
            assert_eq!(found["target"], target);
        }
    }
    let delete = |id: &str| ask("DELETE", &format!("/exports/{id}"));
    handler.ask(Mode::Forwarding, &delete(&south.run_id())).await.expect(202);
    handler.ask(Mode::Default, &delete(&north.run_id())).await.expect_error(409, "");
    handler.ask(Mode::Default, &delete("20200101T000000Z-0a1b2c3d")).await.expect_error(404, "");
    assert_eq!(listed(&handler, &[("target", "south")]).await, [mine("south", "cancelled")]);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_key_is_one_keys_whatever_the_target() {
    let world = world(10).await;
    let handler = start(&world, &two(), &[]).await;
    let keyed =
        |target: &str, key: &str| post(&json!({ "target": target })).header("Idempotency-Key", key);
    let first = accepted(handler.ask(Mode::Default, &keyed("north", "k1")).await).run_id();
    let again = accepted(handler.ask(Mode::Forwarding, &keyed("north", "k1")).await).run_id();
    assert_eq!(first, again);
    // Another target is another body.
    for mode in Mode::BOTH {
        handler.ask(mode, &keyed("south", "k1")).await.expect_error(409, "");
        // As sent: the same target in other letters is another body too.
        handler.ask(mode, &keyed("NORTH", "k1")).await.expect_error(409, "");
    }
    let other = accepted(handler.ask(Mode::Default, &keyed("south", "k2")).await).run_id();
    assert_ne!(first, other);
    assert_eq!(listed(&handler, &[]).await.len(), 2);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn the_timer_opens_a_run_for_each_target_once_and_a_wrong_one_is_named() {
    let world = world(30).await;
    let list = targets(&[
        ("north", json!({"kinds": ["host"]})),
        ("typo", json!({"kinds": ["hostess"]})),
        ("south", json!({"kinds": ["page"]})),
    ]);
    let handler = start(&world, &list, &[]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    assert_eq!(work.len(), 2, "{work:?}");
    let again = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    handler.carry([work, again].concat(), 7).await;
    let all: BTreeSet<_> = listed(&handler, &[]).await.into_iter().collect();
    let complete = ["north", "south"].map(|name| (name.to_owned(), "complete".to_owned()));
    assert_eq!(all, BTreeSet::from(complete));
    assert_eq!(listed(&handler, &[]).await.len(), 2, "one slot of one target is exported once");
    for mode in Mode::BOTH {
        let health = handler.ask(mode, &ask("GET", "/health")).await.expect(503);
        assert!(health.json()["problems"].to_string().contains("settings"), "{health:?}");
        assert!(!health.body.contains("hostess"), "without detail: {health:?}");
        let refused = handler.ask(mode, &post(&json!({"target": "typo"}))).await;
        assert!([400, 503].contains(&refused.status), "{refused:?}");
        accepted(handler.ask(mode, &post(&json!({"target": "north", "kinds": ["as"]}))).await);
    }
    handler.invoke("Maintenance", &timer(&Value::Null)).await;
    let logs = handler.end().await;
    let all = logs.stdout + &logs.stderr;
    assert!(all.lines().any(|line| line.contains("typo") && line.contains("kinds")), "{all}");

    let none = targets(&[("typo", json!({"kinds": ["hostess"]})), ("other", json!({"filter": 7}))]);
    let handler = start(&world, &none, &[]).await;
    handler.invoke("ExportTimer", &slot("2024-03-06T06:00:00+00:00")).await.expect(500);
    handler.end().await;
}

#[tokio::test]
async fn a_target_that_is_refused_or_cut_off_stops_no_other() {
    for fault in [forbidden(), Fault::Reset, Fault::NotJson(502)] {
        let case = format!("{fault:?}");
        let world = World::new(refusing(fault)).await;
        let list = targets(&[
            ("ill", json!({"filter": "state = \"dismissed\""})),
            ("north", json!({"kinds": ["host"]})),
            ("south", json!({"kinds": ["page"]})),
        ]);
        let handler = start(&world, &list, &[("EASM_SLICE_SECONDS", "1")]).await;
        let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
        assert_eq!(work.len(), 3, "{case}");
        let (ill, well): (Vec<_>, Vec<_>) = work.into_iter().partition(|text| text.contains("ill"));
        assert_eq!(ill.len(), 1, "{case}");
        // At the same time, as a host delivers them.
        let (reply, ()) = tokio::join!(handler.deliver(&ill[0]), handler.carry(well, 3));
        assert!([200, 500].contains(&reply.status), "{case}: {reply:?}");
        let all = listed(&handler, &[]).await;
        for name in ["north", "south"] {
            assert!(all.contains(&(name.to_owned(), "complete".to_owned())), "{case}: {all:?}");
        }
        let ill = all.iter().find(|(name, _)| name == "ill").unwrap();
        let wanted = if case.contains("403") { "failed" } else { "queued" };
        assert_eq!(ill.1, wanted, "{case}: put off, or ended");
        handler.ping().await;
        handler.end().await;
    }
}

#[tokio::test]
async fn a_target_that_is_taken_away_leaves_its_run_and_the_others_alone() {
    let world = world(60).await;
    let handler = start(&world, &two(), &[]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    let key = post(&json!({"target": "south", "kinds": ["as"]})).header("Idempotency-Key", "kept");
    let keyed = accepted(handler.ask(Mode::Default, &key).await);
    handler.end().await.expect_quiet();
    let of_south = |text: &&String| text.contains("south");
    let south: Vec<String> = work.iter().filter(of_south).cloned().collect();
    let north: Vec<String> = work.iter().filter(|text| !of_south(text)).cloned().collect();
    assert_eq!([south.len(), north.len()], [1, 1]);

    let alone = targets(&[("north", json!({"kinds": ["host"]}))]);
    // Else the maintenance would open today's slot, at some times of the day.
    let no_slots = [("AzureWebJobs.ExportTimer.Disabled", "1")];
    let handler = start(&world, &alone, &no_slots).await;
    for text in &south {
        let reply = handler.deliver(text).await;
        assert!([200, 500].contains(&reply.status), "{reply:?}");
        assert_eq!(reply.work(), [""; 0], "it does not go round for ever");
    }
    handler.carry(north, 1).await;
    handler.invoke("Maintenance", &timer(&Value::Null)).await.expect(200);
    for mode in Mode::BOTH {
        handler.ask(mode, &shown(&keyed.run_id())).await.expect_error(404, "");
        handler.ask(mode, &key).await.expect_error(400, "target");
        assert_eq!(listed(&handler, &[]).await.len(), 1);
        handler.ask(mode, &ask("GET", "/health")).await.expect(200);
    }
    let logs = handler.end().await;
    assert!(!logs.stderr.contains("panicked"), "{}", logs.stderr);

    // It comes back, and so does its work.
    let handler = start(&world, &two(), &[]).await;
    handler.carry([south, keyed.work].concat(), 1).await;
    let all = listed(&handler, &[]).await;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|(_, status)| status == "complete"), "{all:?}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_secret_of_a_target_is_refused_in_azure_told_to_nobody_and_stops_no_other() {
    let test = "a_secret_of_a_target_is_refused_in_azure_told_to_nobody_and_stops_no_other";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(12).await;
    let app = world.sim.settings_for(SignIn::ClientSecret);
    let value = |name: &str| app.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let secret = value("EASM_CLIENT_SECRET");
    let list = targets(&[
        (
            "closed",
            json!({"credential": "client-secret", "clientId": value("EASM_CLIENT_ID"),
            "clientSecret": secret}),
        ),
        ("open", json!({"kinds": ["host"]})),
    ]);
    let container = azurite.container();
    let (url, entra, ca) =
        (azurite.store_url(&container), value("AZURE_AUTHORITY_HOST"), value("SSL_CERT_FILE"));
    let vars = [
        ("EASM_STORE_URL", url.as_str()),
        ("AZURE_AUTHORITY_HOST", &entra),
        ("SSL_CERT_FILE", &ca),
        ("EASM_LOG", "trace"),
        IN_AZURE[1],
    ];
    let handler = start(&world, &list, &vars).await;
    let mut told = Vec::new();
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    assert_eq!(work.len(), 1, "{work:?}");
    handler.carry(work, 1).await;
    assert_eq!(listed(&handler, &[]).await, [("open".to_owned(), "complete".to_owned())]);
    for mode in Mode::BOTH {
        let health = handler.ask(mode, &ask("GET", "/health")).await.expect(503);
        let refused = handler.ask(mode, &post(&json!({"target": "closed"}))).await;
        assert!([400, 503].contains(&refused.status), "{refused:?}");
        told.extend([health.body, refused.body]);
    }
    let logs = handler.end().await;
    let all = logs.stdout.clone() + &logs.stderr;
    assert!(
        all.lines().any(|line| line.contains("clientSecret") && line.contains("closed")),
        "{all}"
    );
    told.extend([logs.stdout, logs.stderr]);
    for path in azurite.blobs(&container).await {
        let bytes = azurite.get(&container, &path).await.unwrap();
        told.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for text in told {
        for window in secret.as_bytes().windows(16) {
            let window = std::str::from_utf8(window).unwrap();
            assert!(!text.contains(window), "{text}");
        }
    }
}

#[tokio::test]
async fn a_managed_identity_of_another_tenant_is_a_settings_error_of_that_target_alone() {
    let world = world(5).await;
    let list = targets(&[
        ("home", json!({"credential": "managed-identity"})),
        (
            "abroad",
            json!({"tenantId": "00000000-0000-4000-8000-000000000bad",
            "credential": "managed-identity"}),
        ),
    ]);
    let tenant = world.sim.settings()[0].1.clone();
    let vars = [("EASM_TARGETS", list.as_str()), ("AZURE_TENANT_ID", tenant.as_str())];
    let args = ["export", "--dry-run", "--json"];
    // Whether or not the platform says which tenant it is.
    for vars in [&vars[..], &vars[..1]] {
        let done = run(&world, &args, vars).await.expect_code(2);
        for word in ["abroad", "tenant", "federated"] {
            assert!(done.error_line().contains(word), "{word}: {}", done.stderr);
        }
        let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(printed[0]["counts"]["assets"]["expected"], 5, "{printed}");
        assert_eq!(printed[1]["error"]["code"], "settings", "{printed}");
    }
}

#[tokio::test]
async fn under_the_host_the_others_are_exported_whatever_becomes_of_one() {
    let test = "under_the_host_the_others_are_exported_whatever_becomes_of_one";
    let Some(town) = Town::new(test, refusing(forbidden())).await else { return };
    let list = targets(&[
        ("typo", json!({"kinds": ["hostess"]})),
        ("ill", json!({"filter": "state = \"dismissed\""})),
        ("north", json!({"kinds": ["host"]})),
        ("south", json!({})),
    ]);
    let host = town.host(town.options().set("EASM_TARGETS", list)).await;
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    let has = |paths: &[String], target: &str, name: &str| {
        paths.iter().any(|path| path.starts_with(&format!("{target}/")) && path.ends_with(name))
    };
    let wait = async {
        loop {
            let paths = town.paths().await;
            let is_ill = has(&paths, "ill", "/run.json") && !has(&paths, "ill/active", ".json");
            if is_ill
                && has(&paths, "north", "/latest.json")
                && has(&paths, "south", "/latest.json")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(LIMIT, wait).await.is_err() {
        panic!("{:?} {:#?}", town.paths().await, host.lines());
    }
    let stored = town.blobs().await;
    let manifest =
        stored.keys().find(|path| path.starts_with("south/") && path.ends_with("/manifest.json"));
    let manifest = json_of(&stored, manifest.unwrap());
    let found = lines(&serde_json::from_value(manifest).unwrap(), |path| stored[path].clone());
    assert_same_lines(&found, &town.world.sim.inventory().ndjson(""), "south");
    let ill = stored.keys().find(|path| path.starts_with("ill/") && path.ends_with("/run.json"));
    let ill = json_of(&stored, ill.unwrap());
    assert_eq!([&ill["status"], &ill["error"]["code"]], ["failed", "denied"], "{ill}");
    assert!(!stored.keys().any(|path| path.starts_with("typo/")), "{:?}", stored.keys());
}
