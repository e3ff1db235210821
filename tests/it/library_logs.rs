//! What the libraries below this program log themselves, before the redactor sees it: no header and
//! no body with a secret. The redactor stands behind that, not in its place.
//!
//! The libraries read certificates and the platform's identity in the environment of their process, so
//! each case runs in one of its own: this test binary, started again for [`in_a_process_of_its_own`].

use std::process::Stdio;

use easm_export::sim::{Fault, Options, Scripted, SignIn};
use tokio::process::Command;

use crate::azurite::{Azurite, Certificate};
use crate::logs::{assert_clean, secrets};
use crate::support::{Done, World, finish};

/// What the process is to run: words of a command line, with spaces between them.
const COMMAND: &str = "EASM_TEST_LIBRARY_LOGS";

/// Writes what libraries log by the other way, which the program itself does not listen to.
struct OtherWay;

impl log::Log for OtherWay {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let said = record.args().to_string();
        let line = serde_json::json!({"target": record.target(), "message": said});
        eprintln!("{line}");
    }

    fn flush(&self) {}
}

/// Runs the command that the environment names, its log lines as they are: the other half of the
/// tests below, and nothing by itself.
#[test]
fn in_a_process_of_its_own() {
    let Ok(command) = std::env::var(COMMAND) else { return };
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .init();
    log::set_logger(&OtherWay).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let args = ["easm-export"].into_iter().chain(command.split(' ')).map(Into::into);
    let env = std::env::vars_os().filter(|(name, _)| name != COMMAND);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let code = runtime.block_on(easm_export::cli::main(args, env));
    std::process::exit(code.into());
}

/// Runs `command` in a process whose log lines are not redacted.
async fn unredacted(world: &World, command: &str, env: &[(&str, String)]) -> Done {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "library_logs::in_a_process_of_its_own", "--nocapture"])
        .current_dir(world.folder.path())
        .env_clear()
        .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
        .env("EASM_FILTER", "")
        .env("RUST_BACKTRACE", "1")
        .env(COMMAND, command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    finish(child).await
}

/// The lines of libraries, and whose they are.
fn of_libraries(stderr: &str) -> (String, std::collections::BTreeSet<String>) {
    let mut lines = String::new();
    let mut crates = std::collections::BTreeSet::new();
    for line in stderr.lines() {
        // What is no log line is what we say ourselves.
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let target = event["target"].as_str().unwrap_or_default();
        let name = target.split("::").next().unwrap_or_default();
        if name != "easm_export" {
            lines += line;
            lines.push('\n');
            crates.insert(name.to_owned());
        }
    }
    (lines, crates)
}

#[tokio::test]
async fn no_library_logs_a_header_or_a_body_with_a_secret() {
    let certificate = Certificate::new();
    let Some(azurite) = Azurite::tls("library_logs", &certificate) else { return };
    for sign_in in SignIn::ALL {
        let echo = Scripted {
            path_contains: "/assets".to_owned(),
            query_contains: "mark=".to_owned(),
            from: 0,
            times: 1,
            fault: Fault::EchoToken(503),
        };
        let options = Options { assets: 150, script: vec![echo], ..Options::default() };
        let world = World::new(options).await;
        let mut env = world.sim.settings_for(sign_in);
        // The app's own identity, for the store.
        let own = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"];
        env.retain(|(name, _)| !own.contains(name) && *name != "SSL_CERT_FILE");
        env.extend(world.sim.settings().into_iter().filter(|(name, _)| own.contains(name)));
        // Both authorities: Entra's and the store's.
        let authorities = world.folder.path().join("authorities.pem");
        let entra = std::fs::read_to_string(world.sim.ca_file()).unwrap();
        std::fs::write(&authorities, entra + &certificate.ca_pem).unwrap();
        env.push(("SSL_CERT_FILE", authorities.to_string_lossy().into_owned()));
        let container = azurite.container();
        azurite.create_container(&container).await;
        env.push(("EASM_STORE_URL", azurite.store_url(&container)));

        let case = sign_in.as_str();
        let done = unredacted(&world, "export --json", &env).await.expect_code(0);
        let (lines, crates) = of_libraries(&done.stderr);
        for wanted in ["azure_core", "hyper_util", "reqwest", "rustls"] {
            assert!(crates.contains(wanted), "{case}: only {crates:?} said something");
        }
        let mut secrets = secrets(&world);
        let settings = world.sim.settings_for(SignIn::ClientSecret);
        let secret = settings.into_iter().find(|(name, _)| *name == "EASM_CLIENT_SECRET").unwrap();
        secrets.push(secret.1);
        secrets.push(world.sim.workload_token());
        assert_clean(&lines, &secrets, case);
    }
}
