//! `doctor`: what it finds, what it says to do, and that it leaves nothing behind.

use std::time::Duration;

use easm_export::sim::{Fault, Options, Scripted, SignIn, VaultRefusal};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::azurite::Azurite;
use crate::support::{Done, World, bare_command, finish};
use crate::targets::target;

const SCHEDULE: (&str, &str) = ("EXPORT_SCHEDULE", "0 0 6 * * *");

/// Names of the checks of a deployment with one target that does not use a vault.
const CHECKS: [&str; 7] =
    ["settings", "schedule", "authorization", "store", "identity", "arm", "data-plane"];

fn small() -> Options {
    Options { assets: 30, asset_bytes: 900, ..Options::default() }
}

fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["doctor", "--json"], args].concat());
    command.env(SCHEDULE.0, SCHEDULE.1);
    command
}

/// The checks that `done` prints. The exit code and `ok` say the same as they do.
#[track_caller]
fn checks(done: &Done) -> Vec<Value> {
    let found: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {} {}", done.stdout_text(), done.stderr));
    let checks = found["checks"].as_array().cloned().expect("checks");
    let is_clean = checks.iter().all(|check| check["status"] != "failed");
    assert_eq!((found["ok"].as_bool(), done.code), (Some(is_clean), if is_clean { 0 } else { 3 }));
    for check in &checks {
        let has_remedy = check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty());
        assert_eq!(has_remedy, check["status"] == "failed", "{check}");
        assert!(check["seconds"].is_number() && check["message"].is_string(), "{check}");
    }
    checks
}

fn named<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {checks:#?}"))
}

/// Names of the checks with this status, but for a vault that is not used.
fn with_status<'a>(checks: &'a [Value], status: &str) -> Vec<&'a str> {
    let is_idle = |check: &Value| {
        check["name"] == "vault" && check["message"] == "no client secret in Key Vault is used"
    };
    let has = |check: &&Value| check["status"] == status && !is_idle(check);
    checks.iter().filter(has).map(|check| check["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_healthy_deployment_is_found_healthy_and_left_as_it_was() {
    for sign_in in SignIn::ALL {
        let world = World::new(small()).await;
        let mut command = command(&world, &[]);
        for name in ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"] {
            command.env_remove(name);
        }
        command.envs(world.sim.settings_for(sign_in)).env("EASM_STORE_URL", "./a/b/exports");
        let done = finish(command).await;
        let found = checks(&done);
        let mut want = CHECKS.to_vec();
        if sign_in == SignIn::KeyVault {
            want.insert(4, "vault");
        }
        assert_eq!(with_status(&found, "ok"), want, "{sign_in:?}: {found:#?}");
        assert!(
            named(&found, "data-plane")["message"].as_str().expect("text").contains("30 assets")
        );
        let left: Vec<_> = std::fs::read_dir(world.folder.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{sign_in:?}: no folder was there before: {left:?}");
        assert_eq!(done.stderr, "", "{sign_in:?}");
    }
}

#[tokio::test]
async fn the_probe_in_a_container_is_taken_away() {
    let test = "the_probe_in_a_container_is_taken_away";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = World::new(small()).await;
    let container = azurite.container();
    azurite.create_container(&container).await;
    let mut command = command(&world, &[]);
    command.env("EASM_STORE_URL", azurite.store_url(&container));
    let done = finish(command).await;
    let found = checks(&done);
    assert_eq!(with_status(&found, "ok"), CHECKS, "{found:#?}");
    assert!(
        named(&found, "store")["message"].as_str().expect("text").contains("a probe was written")
    );
    assert_eq!(azurite.blobs(&container).await, [""; 0], "nothing is left");
}

/// Before anything is deployed there is nothing but a command and a person.
#[tokio::test]
async fn without_a_single_setting_it_says_what_to_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = finish(bare_command(folder.path(), &["doctor", "--json"])).await;
    let found = checks(&done);
    assert_eq!(with_status(&found, "failed"), ["settings", "schedule"], "{found:#?}");
    let settings = named(&found, "settings")["message"].as_str().expect("text");
    assert!(
        settings.contains("EASM_TENANT_ID") && settings.contains("EASM_WORKSPACE"),
        "{settings}"
    );
    let table = finish(bare_command(folder.path(), &["doctor"])).await.expect_code(3);
    for words in ["FAILED   settings", "skipped  store", "what to do:    set EXPORT_SCHEDULE"] {
        assert!(table.stdout_text().contains(words), "{words}: {}", table.stdout_text());
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left");
}

/// What is wrong: the check that finds it, words of it and of what to do, and what is skipped for it.
struct Wrong {
    name: &'static str,
    options: Options,
    sign_in: SignIn,
    make: fn(&World, &mut Command),
    check: &'static str,
    message: &'static str,
    remedy: &'static str,
    skipped: &'static [&'static str],
}

impl Wrong {
    fn new(name: &'static str, check: &'static str, words: [&'static str; 2]) -> Self {
        let [message, remedy] = words;
        Self {
            name,
            options: small(),
            sign_in: SignIn::ManagedIdentity,
            make: |_, _| {},
            check,
            message,
            remedy,
            skipped: &[],
        }
    }

    fn of(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    fn made(self, make: fn(&World, &mut Command)) -> Self {
        Self { make, ..self }
    }

    fn signed_in(self, sign_in: SignIn) -> Self {
        Self { sign_in, ..self }
    }

    fn skips(self, skipped: &'static [&'static str]) -> Self {
        Self { skipped, ..self }
    }
}

fn script(path: &str, fault: Fault) -> impl FnOnce(&mut Options) {
    let scripted = Scripted {
        path_contains: path.to_owned(),
        query_contains: String::new(),
        from: 0,
        times: u64::MAX,
        fault,
    };
    move |options| options.script = vec![scripted]
}

const PLANES: &[&str] = &["arm", "data-plane"];
const ALL_OF_A_TARGET: &[&str] = &["identity", "arm", "data-plane"];
const ARM: &str = "/providers/";
const DATA_PLANE: &str = "/assets";

fn wrongs() -> Vec<Wrong> {
    let hang = || Fault::Hang;
    let no_answer = ["no answer within 1 s", "--timeout"];
    vec![
        Wrong::new("a name that is misspelt", "settings", ["EASM_FILTRE", "EASM_FILTER?"]).made(
            |_, command| {
                command.env("EASM_FILTRE", "x");
            },
        ),
        Wrong::new("no schedule", "schedule", ["EXPORT_SCHEDULE", "0 0 6 * * *"]).made(
            |_, command| {
                command.env_remove(SCHEDULE.0);
            },
        ),
        Wrong::new("a schedule that is none", "schedule", ["EXPORT_SCHEDULE", "use "]).made(
            |_, command| {
                command.env(SCHEDULE.0, "daily");
            },
        ),
        Wrong::new("an open door", "authorization", ["anybody may call Assets", "authLevel"]).made(
            |world, _| {
                let folder = world.folder.path().join("Assets");
                std::fs::create_dir(&folder).expect("a folder");
                let open = r#"{"bindings": [{"type": "httpTrigger", "authLevel": "anonymous"}]}"#;
                std::fs::write(folder.join("function.json"), open).expect("written");
            },
        ),
        Wrong::new("a folder that is a file", "store", ["exports", ""])
            .made(|world, _| std::fs::write(world.exports(), "in the way").expect("written")),
        Wrong::new("a store that is not there", "store", ["no connection", "start Azurite"]).made(
            |_, command| {
                let nobody = "http://127.0.0.1:9/devstoreaccount1/exports";
                {
                    command.env("EASM_STORE_URL", nobody);
                };
            },
        ),
        Wrong::new("no role on the vault", "vault", ["Key Vault", "Key Vault Secrets User"])
            .signed_in(SignIn::KeyVault)
            .made(|world, _| world.sim.state().set_vault_refusal(Some(VaultRefusal::Rbac)))
            .skips(ALL_OF_A_TARGET),
        Wrong::new("no secret of that name", "vault", ["no secret of that name", "put the"])
            .signed_in(SignIn::KeyVault)
            .made(|_, command| {
                command.env("EASM_CLIENT_SECRET_NAME", "another");
            })
            .skips(ALL_OF_A_TARGET),
        Wrong::new("a wrong secret", "identity", ["7000215", "EASM_CLIENT_SECRET"])
            .signed_in(SignIn::ClientSecret)
            .made(|_, command| {
                command.env("EASM_CLIENT_SECRET", "canary-of-a-wrong-secret");
            })
            .skips(PLANES),
        Wrong::new("an identity without a role", "arm", ["403", "Reader"])
            .of(|options| options.identities[0].has_role = false)
            .skips(&["data-plane"]),
        Wrong::new("no such workspace", "arm", ["no workspace \"nowhere\"", "contoso"])
            .made(|_, command| {
                command.env("EASM_WORKSPACE", "nowhere");
            })
            .skips(&["data-plane"]),
        Wrong::new("another region", "arm", ["is in eastus", "to eastus"]).made(|_, command| {
            command.env("EASM_REGION", "westus3");
        }),
        Wrong::new("a filter that is none", "data-plane", ["400", "filter"]).made(|_, command| {
            command.env("EASM_FILTER", "no such filter");
        }),
        Wrong::new("ARM hangs", "arm", no_answer).of(script(ARM, hang())).skips(&["data-plane"]),
        Wrong::new("ARM hangs, and nobody need ask it", "arm", no_answer)
            .of(script(ARM, hang()))
            .made(|_, command| {
                command.env("EASM_REGION", "eastus");
            }),
        Wrong::new("the data plane hangs", "data-plane", no_answer).of(script(DATA_PLANE, hang())),
        Wrong::new("the identity endpoint hangs", "identity", no_answer)
            .of(script("/msi/token", hang()))
            .skips(PLANES),
        // Not that there was no answer: one that is tried again was heard.
        Wrong::new("the identity endpoint refuses", "identity", ["500", ""])
            .of(script("/msi/token", Fault::Status { status: 500, retry_after: None }))
            .skips(PLANES),
        Wrong::new("nobody is where Entra should be", "identity", ["no connection", ""])
            .signed_in(SignIn::ClientSecret)
            .made(|_, command| {
                command.env("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9/");
            })
            .skips(PLANES),
        Wrong::new("the vault hangs", "vault", no_answer)
            .signed_in(SignIn::KeyVault)
            .of(script("/secrets/", hang()))
            .skips(ALL_OF_A_TARGET),
        Wrong::new("ARM sends elsewhere", "arm", ["redirect", "EASM_ARM_URL"])
            .of(script(ARM, Fault::Redirect("http://127.0.0.1:9/".to_owned())))
            .skips(&["data-plane"]),
        Wrong::new("ARM answers with a page", "arm", ["", ""])
            .of(script(ARM, Fault::NotJson(200)))
            .skips(&["data-plane"]),
        Wrong::new("the data plane repeats the token", "data-plane", ["500", ""])
            .of(script(DATA_PLANE, Fault::EchoToken(500))),
    ]
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_found_by_one_check_that_says_what_to_do() {
    for wrong in wrongs() {
        let Wrong { name, options, sign_in, make, check, message, remedy, skipped } = wrong;
        let world = World::new(options).await;
        let mut command = command(&world, &["--timeout", "1"]);
        command.env_remove("EASM_CREDENTIAL").envs(world.sim.settings_for(sign_in));
        make(&world, &mut command);
        let done = finish(command).await;
        let found = checks(&done);
        assert_eq!(with_status(&found, "failed"), [check], "{name}: {found:#?}");
        assert_eq!(with_status(&found, "skipped"), skipped, "{name}: {found:#?}");
        let failed = named(&found, check);
        let has = |member: &str, part: &str| {
            failed[member].as_str().is_some_and(|text| text.contains(part))
        };
        assert!(has("message", message) && has("remedy", remedy), "{name}: {failed}");
        let tokens = world.sim.requests().into_iter().filter_map(|seen| seen.authorization);
        for token in tokens.chain(["canary".to_owned()]) {
            let token = token.trim_start_matches("Bearer ");
            assert!(!done.stdout_text().contains(token), "{name}: {}", done.stdout_text());
            assert!(!done.stderr.contains(token), "{name}: {}", done.stderr);
        }
    }
}

#[tokio::test]
async fn each_target_is_looked_at_for_itself() {
    let world = World::new(small()).await;
    let targets = json!([
        target(&world, "good", &json!({})),
        target(&world, "lost", &json!({ "workspace": "nowhere" })),
        target(&world, "wrong", &json!({ "kinds": "hosts" })),
    ]);
    let look = async |args: &[&str]| {
        let mut command = command(&world, args);
        command.env("EASM_TARGETS", targets.to_string());
        finish(command).await
    };
    let found = checks(&look(&[]).await);
    let of = |name: &str| -> Vec<Value> {
        found.iter().filter(|check| check["target"] == name).cloned().collect()
    };
    assert_eq!(with_status(&of("good"), "ok"), ["identity", "arm", "data-plane"], "{found:#?}");
    assert_eq!(with_status(&of("lost"), "failed"), ["arm"]);
    assert_eq!(with_status(&of("wrong"), "failed"), ["settings"]);
    assert_eq!(with_status(&of("wrong"), "skipped"), ["vault", "identity", "arm", "data-plane"]);
    let said = of("wrong")[0]["message"].to_string();
    assert!(said.contains("kinds of target wrong in EASM_TARGETS"), "{said}");
    let one = checks(&look(&["--target", "LOST"]).await);
    assert!(one.iter().all(|check| check["target"] != "good"), "{one:#?}");
    let done = look(&["--target", "nobody"]).await.expect_code(2);
    assert!(done.error_line().contains("nobody"), "{}", done.stderr);
}

/// Forty targets wait for what hangs at the same time, so the command ends as soon as for one.
#[tokio::test]
async fn many_targets_are_looked_at_at_the_same_time() {
    let slow = Fault::Slow(Duration::from_millis(500));
    let mut options = small();
    script(ARM, slow)(&mut options);
    let world = World::new(options).await;
    let targets: Vec<Value> =
        (0..40).map(|at| target(&world, &format!("t{at}"), &json!({}))).collect();
    let mut command = command(&world, &["--timeout", "60"]);
    command.env("EASM_TARGETS", json!(targets).to_string());
    let found = checks(&finish(command).await);
    let of_targets: Vec<_> = found.iter().filter(|check| check["target"].is_string()).collect();
    assert_eq!(of_targets.len(), 4 * 40, "{found:#?}");
    assert_eq!(with_status(&found, "failed"), [""; 0]);
}
