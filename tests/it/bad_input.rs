//! Bad input: one clear line, the right exit code, nothing half-written.

use easm_export::sim::Options;

use crate::support::{Done, World, bare_command, finish, waiting_line};

async fn world() -> World {
    World::new(Options { assets: 200, ..Options::default() }).await
}

/// Runs `args` with the settings `vars` on top of good ones.
async fn run(world: &World, args: &[&str], vars: &[(&str, &str)]) -> Done {
    let mut command = world.command(args);
    command.envs(vars.iter().copied());
    finish(command).await
}

#[tokio::test]
async fn bad_flags_and_settings_exit_with_2_and_one_line() {
    let world = world().await;
    // Arguments, settings, and the words that the line must hold.
    type Case =
        (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);
    let table: &[Case] = &[
        (&["export", "--fliter", "x"], &[], &["--fliter", "--filter"]),
        (&["export", "--kind", "hosts"], &[], &["--kind", "\"hosts\"", "sslCert"]),
        (&["export", "--format", "xml"], &[], &["--format", "ndjson"]),
        (&["export", "--compression", "lz4"], &[], &["--compression", "gzip"]),
        (&["export", "--dataset", "risk"], &[], &["--dataset", "assets"]),
        (&["export", "--max-assets", "0"], &[], &["--max-assets", "from 1"]),
        (&["export", "--filter", "@missing.txt"], &[], &["--filter", "missing.txt"]),
        (&["export", "--filter", "@saved:mine"], &[], &["--filter", "saved"]),
        (&["export", "--stdout", "--json"], &[], &["--json"]),
        (&["export", "--stdout", "--dry-run"], &[], &["--dry-run"]),
        (&["export", "--store", "https://a.blob.core.windows.net/c?sig=canary"], &[], &["--store"]),
        (&["export", "--target", "fabrikam"], &[], &["fabrikam", "contoso"]),
        (&["query", "--limit", "5001"], &[], &["--limit", "5000"]),
        (&["exprot"], &[], &["exprot", "export"]),
        (&["export"], &[("EASM_FILTERS", "x")], &["EASM_FILTERS", "EASM_FILTER?"]),
        (&["export"], &[("EASM_PAGE_SIZE", "1000")], &["EASM_PAGE_SIZE", "1000", "100"]),
        (&["export"], &[("EASM_TENANT_ID", "")], &["EASM_TENANT_ID", "not set"]),
        (&["export"], &[("EASM_CREDENTIAL", "password")], &["EASM_CREDENTIAL"]),
        (&["export"], &[("EASM_DATA_PLANE_URL", "http://example.com")], &["EASM_DATA_PLANE_URL"]),
        (&["export"], &[("EASM_LOG", "=,=")], &["EASM_LOG"]),
        (&["export"], &[("EASM_LOG_FORMAT", "xml")], &["EASM_LOG_FORMAT"]),
        (&["export"], &[("EASM_TARGETS", "[]")], &["EASM_TARGETS"]),
    ];
    for (args, vars, words) in table {
        let done = run(&world, args, vars).await;
        let case = format!("{args:?} {vars:?}");
        assert_eq!(done.code, 2, "{case}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{case}");
        let line = done.error_line();
        for word in *words {
            assert!(line.contains(word), "{case}: {word} in {line}");
        }
        assert!(!line.contains("canary"), "{case}: {line}");
    }
    assert!(world.sim.requests().is_empty(), "nobody was asked");
    assert!(!world.exports().exists(), "nothing was written");
}

#[tokio::test]
async fn with_no_command_there_is_help_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let done = finish(bare_command(folder.path(), &[])).await.expect_code(2);
    assert!(done.stderr.contains("export") && done.stderr.contains("demo"), "{}", done.stderr);
    let done = finish(bare_command(folder.path(), &["--help"])).await.expect_code(0);
    assert!(done.stdout_text().contains("export"));
}

#[tokio::test]
async fn without_settings_everything_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let done = finish(bare_command(folder.path(), &["export"])).await.expect_code(2);
    let line = done.error_line();
    for name in ["EASM_TENANT_ID", "EASM_SUBSCRIPTION_ID", "EASM_RESOURCE_GROUP", "EASM_WORKSPACE"]
    {
        assert!(line.contains(name), "{line}");
    }
}

#[tokio::test]
async fn files_in_the_folder_are_settings_and_the_environment_wins() {
    let world = world().await;
    let settings = world.sim.settings();
    let (file, env): (Vec<_>, Vec<_>) =
        settings.iter().partition(|(name, _)| name.starts_with("EASM_"));
    let mut text: String = file.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    // The names of the Python helper serve as well; a real variable wins over either.
    text = text.replace("EASM_WORKSPACE=", "WORKSPACE_NAME=");
    text += "EASM_FILTER='kind = \"host\"'\n";
    std::fs::write(world.folder.path().join(".env"), &text).unwrap();
    let command = |args: &[&str]| {
        let mut command = bare_command(world.folder.path(), args);
        command.envs(env.iter().map(|(name, value)| (name, value))).env("EASM_LOG", "error");
        command
    };
    let lines = async |command| finish(command).await.expect_code(0).stdout_text().lines().count();
    let n_hosts = world.sim.inventory().ndjson("kind = \"host\"").len();
    assert_eq!(lines(command(&["export", "--stdout"])).await, n_hosts);
    let mut all = command(&["export", "--stdout"]);
    all.env("EASM_FILTER", "");
    assert_eq!(lines(all).await, 200);
    let done = finish(command(&["export", "--stdout", "--no-env-files"])).await;
    assert_eq!(done.code, 2, "{}", done.stderr);

    std::fs::write(world.folder.path().join(".env"), "EASM_TENANT_ID\n").unwrap();
    let done = finish(command(&["export"])).await.expect_code(2);
    assert!(done.error_line().contains("line 1"), "{}", done.stderr);
}

#[tokio::test]
async fn a_bad_filter_is_the_services_answer_in_one_sentence() {
    let world = world().await;
    for args in [["export", "--filter", "state = = 1"], ["query", "--filter", "state = = 1"]] {
        let done = run(&world, &args, &[]).await.expect_code(1);
        let line = done.error_line();
        assert!(line.contains("the service says") && line.contains("status=400"), "{line}");
        assert!(line.contains("filter"), "{line}");
    }
    let files = world.files();
    assert!(!files.iter().any(|path| path.contains("/part-") || path.contains("manifest")));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_found_before_anybody_is_asked() {
    let world = world().await;
    std::fs::write(world.folder.path().join("file"), "").unwrap();
    let done = run(&world, &["export", "--store", "file/exports"], &[]).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("file/exports") && line.contains("--store"), "{line}");
    assert!(world.sim.requests().is_empty());
}

#[tokio::test]
async fn a_wrong_workspace_names_those_that_are_there() {
    let world = world().await;
    let done = run(&world, &["export"], &[("EASM_WORKSPACE", "contosso")]).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("contosso") && line.contains("there: contoso"), "{line}");
    assert!(!world.exports().join("contosso").exists());
}

#[tokio::test]
async fn a_port_in_use_is_said_with_what_to_do() {
    let world = world().await;
    let port = world.sim.addr().port().to_string();
    for command in ["demo", "simulate"] {
        let command = bare_command(world.folder.path(), &[command, "--port", &port]);
        let done = finish(command).await.expect_code(2);
        let line = done.error_line();
        assert!(line.contains(&port) && line.contains("--port"), "{line}");
    }
    assert!(!world.exports().exists());
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named() {
    let world = world().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let refused = [("EASM_REGION", "eastus"), ("IDENTITY_ENDPOINT", closed.as_str())];
    let mut command = world.command(&["export"]);
    command.envs(refused);
    // It may come up by itself, so the run is put off.
    let line = waiting_line(command).await;
    assert!(line.contains("identity endpoint"), "{line}");
}

/// `script` in a mount namespace of its own, so that no rights are needed. `None` where the system
/// allows no such thing: then the test cannot run, and says so.
#[cfg(target_os = "linux")]
fn in_own_mounts(script: &str) -> Option<tokio::process::Command> {
    for rights in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
        let unshare = |script| {
            let mut command = std::process::Command::new("unshare");
            command.args(rights).args(["sh", "-c", script]);
            command
        };
        let probe = unshare("mount -t tmpfs none /mnt").output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Some(unshare(script).into());
        }
    }
    assert!(std::env::var_os("TESTS_MAY_NOT_SKIP").is_none(), "no file system can be mounted here");
    eprintln!("SKIPPED: no file system can be mounted here, so a full disk was not tried");
    None
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let world = World::new(Options { assets: 2000, ..Options::default() }).await;
    let disk = world.folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    // What is left on the disk is listed before it goes away with its namespace.
    let script = format!(
        "mount -t tmpfs -o size=300k none {disk} || exit 99; \
         {program} export --compression none --store {disk}; code=$?; \
         cd {disk} && find . -type f; exit $code",
        disk = disk.display(),
        program = crate::support::program().display()
    );
    let Some(mut command) = in_own_mounts(&script) else { return };
    command.current_dir(world.folder.path());
    for (name, value) in world.command(&[]).as_std().get_envs() {
        command.env(name, value.unwrap());
    }
    let done = finish(command).await;
    let done = done.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("no space left") && line.contains("make room"), "{line}");
    let files = done.stdout_text();
    assert!(files.contains("run.json"), "{files}");
    assert!(!files.contains("manifest.json") && !files.contains("latest.json"), "{files}");
    assert!(!files.contains(".easm-export-tmp/w-"), "no temporary file stays: {files}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new(Options { assets: 2000, ..Options::default() }).await;
    let mut command = world.command(&["export", "--stdout"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let done: Done = child.wait_with_output().await.unwrap().into();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}
