//! Several targets, each for itself: one that hangs, one that is not meant, one that is interrupted; and what
//! `doctor` leaves behind and leaves out: nothing.

use std::time::Duration;

use easm_export::sim::{Fault, Options};
use serde_json::{Value, json};

use super::doctor::examined;
use super::functions_host::Handler;
use super::functions_payload::{SLOT, slot};
use super::targets::targets;
use super::targets_runs::refusing;
use super::{run, world};
use crate::azurite::Azurite;
use crate::support::{Done, World, signal};

const SCHEDULE: (&str, &str) = ("EXPORT_SCHEDULE", "0 0 6 * * *");
const POLL: Duration = Duration::from_millis(50);

/// Whether this target's run of the slot is complete.
fn is_complete(world: &World, target: &str) -> bool {
    let files = world.files();
    files.iter().any(|path| path.starts_with(target) && path.ends_with("/manifest.json"))
}

/// One failing target never stops another.
#[tokio::test]
async fn a_target_whose_service_hangs_keeps_no_other_waiting() {
    let world = World::new(refusing(Fault::Hang)).await;
    let list = targets(&[
        ("ill", json!({"filter": "state = \"dismissed\""})),
        ("north", json!({"kinds": ["host"]})),
        ("south", json!({"kinds": ["page"]})),
    ]);
    let vars = [("EASM_TARGETS", list.as_str()), ("EASM_SLICE_SECONDS", "20")];
    let handler = Handler::start(&world, &vars).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    let (ill, well): (Vec<_>, Vec<_>) = work.into_iter().partition(|text| text.contains("ill"));
    let hangs = async {
        let reply = handler.deliver(&ill[0]).await;
        (reply, ["north", "south"].map(|target| is_complete(&world, target)))
    };
    let others = async {
        // Until the one that hangs has begun to.
        while !world.sim.requests().iter().any(|seen| seen.query.contains("dismissed")) {
            tokio::time::sleep(POLL).await;
        }
        handler.carry(well, 3).await;
    };
    let ((_, complete), ()) = tokio::join!(hangs, others);
    handler.end().await;
    assert_eq!(complete, [true; 2], "north and south, while the other one hung for its slice");
}

/// Section 3: changes nothing but one probe blob. To make the container is the first export's.
#[tokio::test]
async fn a_container_of_the_emulator_that_was_missing_is_not_there_after_doctor_either() {
    let test = "a_container_of_the_emulator_that_was_missing_is_not_there_after_doctor_either";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(3).await;
    let container = azurite.container();
    let url = azurite.store_url(&container);
    run(&world, &["doctor", "--json"], &[SCHEDULE, ("EASM_STORE_URL", &url)]).await;
    assert!(!azurite.has_container(&container).await, "doctor changes nothing but its probe");
}

/// `--target`: target to work on. `export --target good` exits 0 with the same settings.
#[tokio::test]
async fn of_targets_that_are_not_meant_doctor_says_nothing() {
    let world = world(3).await;
    let list = targets(&[("good", json!({})), ("typo", json!({"kinds": ["hostess"]}))]);
    let vars = [SCHEDULE, ("EASM_TARGETS", list.as_str())];
    run(&world, &["--target", "good", "export", "--dry-run"], &vars).await.expect_code(0);
    let found = examined(run(&world, &["--target", "good", "doctor", "--json"], &vars).await);
    assert_eq!(found["ok"], true, "{found:#}");
}

/// Section 3: `doctor` makes every check; what depends on something that failed is skipped, not absent.
#[tokio::test]
async fn without_settings_every_check_is_named_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let command = crate::support::bare_command(folder.path(), &["doctor", "--json"]);
    let found = examined(crate::support::finish(command).await);
    let names: Vec<&Value> =
        found["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    for name in ["settings", "schedule", "store", "vault", "identity", "arm", "data-plane"] {
        assert!(names.iter().any(|found| *found == name), "{name} in {names:?}");
    }
}

/// Read by programs: of several, `export --json` prints an array, for each the manifest or the error.
#[tokio::test]
async fn of_several_targets_what_was_done_before_an_interrupt_is_printed() {
    let latency = Duration::from_millis(20);
    let world = World::new(Options { assets: 260, latency, ..Options::default() }).await;
    let list =
        targets(&[("north", json!({"kinds": ["as"]})), ("south", json!({"kinds": ["host"]}))]);
    let mut command = world.command(&["export", "--json"]);
    command.env("EASM_TARGETS", list).env("EASM_PAGE_SIZE", "2").env("EASM_SHARDS", "1");
    let child = command.spawn().unwrap();
    while !world.exports().join("south/runs").exists() {
        tokio::time::sleep(POLL).await;
    }
    signal(&child, "INT");
    let done: Done = child.wait_with_output().await.unwrap().into();
    let done = done.expect_code(130);
    let printed: Result<Vec<Value>, _> = serde_json::from_slice(&done.stdout);
    let printed =
        printed.unwrap_or_else(|err| panic!("{err}: {:?} {}", done.stdout_text(), done.stderr));
    assert_eq!([&printed[0]["target"], &printed[0]["completeness"]], ["north", "exact"]);
    assert_eq!(printed[1]["error"]["code"], "interrupted", "{printed:?}");
}

/// Errors name the target and the member. With `EASM_TARGETS` the four settings mean nothing.
#[tokio::test]
async fn what_to_do_about_a_target_is_said_of_its_members_and_not_of_settings_that_it_has_not() {
    let world = world(3).await;
    let tenant = world.sim.settings()[0].1.clone();
    let abroad = json!({"tenantId": "00000000-0000-4000-8000-000000000bad"});
    let lost = json!({"workspace": "fabrikam"});
    let said = [("AZURE_TENANT_ID", tenant.as_str())];
    let mut found = Vec::new();
    for (members, member, vars) in
        [(&abroad, "tenantId", &said[..]), (&abroad, "tenantId", &[]), (&lost, "workspace", &[])]
    {
        let list = targets(&[("one", members.clone())]);
        let vars = [&[("EASM_TARGETS", list.as_str())], vars].concat();
        let done = run(&world, &["export", "--dry-run"], &vars).await;
        let line = done.error_line();
        if !line.contains("one") || !line.contains(member) {
            found.push(format!("not named, {member} of one: {line}"));
        }
        for setting in
            ["EASM_TENANT_ID", "EASM_SUBSCRIPTION_ID", "EASM_RESOURCE_GROUP", "EASM_WORKSPACE"]
        {
            if line.contains(setting) {
                found.push(format!("{setting} changes nothing: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
