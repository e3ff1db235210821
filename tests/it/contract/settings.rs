//! Settings, flags, requests and exit codes of the contract, seen from outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use easm_export::sim::Options;
use serde_json::{Value, json};

use super::{KINDS, assert_shape, assert_whole, export, run, world};
use crate::support::{World, bare_command, finish};

#[tokio::test]
async fn stdout_is_the_result_alone_at_the_loudest_log() {
    let world = world(40).await;
    // Arguments, and how many JSON documents they give.
    let cases: [(&[&str], usize); 6] = [
        (&["export", "--json"], 1),
        (&["export", "--dry-run", "--json"], 1),
        (&["query", "--json"], 1),
        (&["query", "--limit", "15"], 15),
        (&["export", "--stdout"], 40),
        (&["export"], 0),
    ];
    for (args, n_documents) in cases {
        for format in ["text", "json"] {
            let vars = [("EASM_LOG", "trace"), ("EASM_LOG_FORMAT", format)];
            let done = run(&world, args, &vars).await.expect_code(0);
            let documents: Vec<Value> = serde_json::Deserializer::from_slice(&done.stdout)
                .into_iter()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(documents.len(), n_documents, "{args:?}");
            assert!(done.stderr.len() > 1000, "{args:?}: trace says something");
        }
    }
    let dry = run(&world, &["export", "--dry-run", "--json"], &[]).await;
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    let by_kind: Value = KINDS.iter().map(|kind| ((*kind).to_owned(), json!(0))).collect();
    let shape = json!({"counts": {"assets": {"expected": 0, "byKind": by_kind}}});
    assert_shape(&dry, &shape, "dry run");
}

/// The filter of an export whose settings come from files in the folder, and from `vars`.
async fn filter_from_files(files: &[(&str, String)], vars: &[(&str, &str)]) -> Value {
    let world = world(10).await;
    for (name, text) in files {
        std::fs::write(world.folder.path().join(name), text).unwrap();
    }
    let mut command = bare_command(world.folder.path(), &["export", "--json"]);
    command.env("EASM_LOG", "error").envs(vars.iter().copied());
    for (name, value) in world.sim.settings() {
        // The platform's own variables, and the addresses of this test's simulator.
        if name.starts_with("IDENTITY_") || name.ends_with("_URL") {
            command.env(name, value);
        }
    }
    let done = finish(command).await.expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    manifest["request"]["filter"].clone()
}

#[tokio::test]
async fn settings_come_from_files_in_the_quotes_people_use_and_the_environment_wins() {
    let options = Options::default();
    let required = format!(
        "TENANT_ID={}\nSUBSCRIPTION_ID='{}'\nRESOURCE_GROUP_NAME=\"rg-easm\"\nexport WORKSPACE_NAME=contoso # ours\n",
        options.tenant_id, options.subscription_id
    );
    let (candidate, default) = ("state = \"candidate\"", "state = \"confirmed\"");
    let lines = [
        ("EASM_FILTER=state = \"candidate\"", candidate),
        ("EASM_FILTER='state = \"candidate\"'", candidate),
        ("EASM_FILTER=\"state = \\\"candidate\\\"\"", candidate),
        ("export EASM_FILTER='state = \"candidate\"' # those", candidate),
        ("\r\n  EASM_FILTER = 'state = \"candidate\"'\r\n", candidate),
        ("EASM_FILTER='name = \"a # b\"'", "name = \"a # b\""),
        ("EASM_FILTER=", ""),
        ("EASM_FILTER=''", ""),
        ("#EASM_FILTER=state = \"candidate\"", default),
    ];
    for (line, filter) in lines {
        let file = (".env", format!("\n# of the team\n{required}{line}"));
        assert_eq!(filter_from_files(&[file], &[]).await, filter, "{line}");
    }
    let values = json!({
        "IsEncrypted": false, "Host": {"CORS": "*"}, "ConnectionStrings": {},
        "Values": {
            "AzureWebJobsStorage": "UseDevelopmentStorage=true", "FUNCTIONS_WORKER_RUNTIME": "custom",
            "EXPORT_SCHEDULE": "0 0 6 * * *", "EASM_FILTER": candidate,
            "EASM_TENANT_ID": options.tenant_id, "EASM_SUBSCRIPTION_ID": options.subscription_id,
            "EASM_RESOURCE_GROUP": "rg-easm", "EASM_WORKSPACE": "contoso",
        },
    });
    let settings = ("local.settings.json", values.to_string());
    let dotenv = (".env", format!("{required}EASM_FILTER=state = \"associatedPartner\"\n"));
    for files in [vec![settings.clone()], vec![dotenv.clone()], vec![settings.clone(), dotenv]] {
        for filter in ["", "state = \"monitored\""] {
            let vars = [("EASM_FILTER", filter)];
            assert_eq!(filter_from_files(&files, &vars).await, filter, "{files:?}");
        }
    }
    assert_eq!(filter_from_files(&[settings], &[]).await, candidate);
}

#[tokio::test]
async fn an_empty_setting_is_the_default_but_an_empty_filter_is_everything() {
    let world = world(30).await;
    let empty = [("EASM_KINDS", ""), ("EASM_COMPRESSION", ""), ("EASM_STORE_URL", "")];
    let manifest = export(&world, &[], &empty).await;
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "empty");
    assert_eq!(manifest["request"]["compression"], "gzip");
    let mut command = world.command(&["export", "--json"]);
    let done = finish({
        command.env_remove("EASM_FILTER");
        command
    })
    .await
    .expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    let filter = "state = \"confirmed\"";
    assert_eq!(manifest["request"]["filter"], filter);
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(filter), "missing");
}

#[tokio::test]
async fn a_filter_with_or_stays_within_the_kinds() {
    let world = world(200).await;
    let name = world.sim.inventory().name(3);
    let filters = [
        "state = \"confirmed\" OR state = \"candidate\"".to_owned(),
        "state = \"candidate\" or kind = \"host\"".to_owned(),
        "state in (\"confirmed OR candidate\", \"candidate\")".to_owned(),
        "name = \"a OR kind = host\"".to_owned(),
        format!("name = \"{name}\" OR state = \"dismissed\""),
    ];
    for filter in &filters {
        for kinds in
            ["page", "host,domain", "as,contact,domain,host,ipAddress,ipBlock,page,sslCert"]
        {
            let case = format!("{filter} of {kinds}");
            let manifest = export(&world, &["--filter", filter, "--kind", kinds], &[]).await;
            let mut truth = world.sim.inventory().ndjson(filter);
            truth.retain(|line| {
                let asset: Value = serde_json::from_slice(line).unwrap();
                kinds.split(',').any(|kind| asset["kind"] == kind)
            });
            assert_whole(&world, &manifest, &truth, &case);
            assert_eq!(manifest["completeness"], "exact", "{case}");
        }
    }
    let text = "# Ours\r\nstate = \"confirmed\"\r\n# and\r\nOR state = \"candidate\"\r\n";
    std::fs::write(world.folder.path().join("f.txt"), text).unwrap();
    let manifest = export(&world, &["--filter", "@f.txt"], &[]).await;
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(&filters[0]), "of a file");
}

#[tokio::test]
async fn kinds_are_read_in_any_case_and_in_any_number_of_flags() {
    let world = world(120).await;
    let cases: [(&[&str], &str, &str); 4] = [
        (&["--kind", "HOST", "--kind", "IPaddress"], "", "kind in (\"host\", \"ipAddress\")"),
        (&["--kind", "host,Host", "--kind", "HOST"], "", "kind = \"host\""),
        (&[], "SSLCERT, as", "kind in (\"sslCert\", \"as\")"),
        (&["--kind", "page"], "sslCert,as", "kind = \"page\""),
    ];
    for (args, setting, filter) in cases {
        let manifest = export(&world, args, &[("EASM_KINDS", setting)]).await;
        let truth = world.sim.inventory().ndjson(filter);
        assert_whole(&world, &manifest, &truth, &format!("{args:?} {setting}"));
        for kind in manifest["request"]["kinds"].as_array().unwrap() {
            assert!(
                KINDS.contains(&kind.as_str().unwrap()),
                "{kind} is spelled as the service does"
            );
        }
    }
}

#[tokio::test]
async fn only_a_request_equal_to_the_targets_own_moves_latest() {
    let world = world(30).await;
    let all = "sslCert,as,HOST,page,ipBlock,contact,domain,ipaddress";
    let cases: [(&[&str], bool); 9] = [
        (&[], true),
        (&["--filter", ""], true),
        (&["--kind", all], true),
        (&["--compression", "gzip", "--format", "ndjson", "--dataset", "assets"], true),
        (&["--kind", "host"], false),
        (&["--compression", "none"], false),
        (&["--filter", "state = \"confirmed\""], false),
        (&["--max-assets", "1000"], false),
        (&["--dry-run"], false),
    ];
    let mut latest = export(&world, &[], &[]).await["runId"].clone();
    for (args, moves) in cases {
        let manifest = export(&world, args, &[]).await;
        if moves {
            latest = manifest["runId"].clone();
        }
        assert_eq!(world.document::<Value>("contoso/latest.json")["runId"], latest, "{args:?}");
    }
}

#[tokio::test]
async fn max_assets_is_a_limit_only_where_it_bites() {
    let world = world(50).await;
    for (max, n, verdict) in
        [("1", 1, "limited"), ("49", 49, "limited"), ("50", 50, "exact"), ("99999", 50, "exact")]
    {
        let vars = [("EASM_PAGE_SIZE", "7")];
        let manifest = export(&world, &["--max-assets", max], &vars).await;
        let counts = &manifest["counts"]["assets"];
        assert_eq!(counts["exported"], n, "{max}");
        assert_eq!(manifest["completeness"], verdict, "{max}");
        let lines = world.lines(&serde_json::from_value(manifest).unwrap());
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), n, "{max}");
    }
}

#[tokio::test]
async fn however_it_is_shared_out_the_set_is_the_same() {
    // Page size, shards, requests at once.
    for (size, shards, at_once) in
        [("1", "8", "8"), ("7", "3", "2"), ("100", "1", "8"), ("10", "8", "1"), ("10", "64", "64")]
    {
        let latency = Duration::from_millis(1);
        let options = Options { assets: 150, asset_bytes: 900, latency, ..Options::default() };
        let world = World::new(options).await;
        let vars =
            [("EASM_PAGE_SIZE", size), ("EASM_SHARDS", shards), ("EASM_CONCURRENCY", at_once)];
        let manifest = export(&world, &[], &vars).await;
        assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), size);
        assert_eq!(manifest["completeness"], "exact");
        let most = world.sim.state().most_at_once();
        assert!(most <= at_once.parse().unwrap(), "{at_once} allowed, {most} came");
        for file in manifest["files"].as_array().unwrap() {
            let shard = file["path"].as_str().unwrap().rsplit_once("/part-").unwrap().1;
            let shard: u32 = shard.split('-').next().unwrap().parse().unwrap();
            assert!(shard < shards.parse().unwrap(), "{file}");
        }
    }
}

#[tokio::test]
async fn plain_http_goes_to_loopback_only() {
    let world = world(10).await;
    let port = world.sim.addr().port();
    let good = [format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}/")];
    let bad = [
        "http://example.com".to_owned(),
        format!("http://127.0.0.1.example.com:{port}"),
        format!("http://localhost.example.com:{port}"),
        format!("http://127.0.0.1@example.com:{port}"),
        format!("http://10.0.0.1:{port}"),
        format!("http://[::ffff:10.0.0.1]:{port}"),
        "ftp://127.0.0.1".to_owned(),
    ];
    for name in ["EASM_DATA_PLANE_URL", "EASM_ARM_URL"] {
        for (urls, code) in [(&good[..], 0), (&bad[..], 2)] {
            for url in urls {
                let done = run(&world, &["export", "--dry-run"], &[(name, url)]).await;
                assert_eq!(done.code, code, "{name}={url}: {}", done.stderr);
                if code == 2 {
                    assert!(done.error_line().contains(name), "{url}: {}", done.stderr);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_store_url_with_a_query_is_refused_and_not_repeated() {
    let world = world(10).await;
    for url in [
        "https://acme.blob.core.windows.net/c?sv=2024&sig=c2VjcmV0c2VjcmV0c2VjcmV0",
        "https://acme.blob.core.windows.net/c/prefix?sig=c2VjcmV0c2VjcmV0c2VjcmV0",
        "http://127.0.0.1:10000/devstoreaccount1/c?sig=c2VjcmV0c2VjcmV0c2VjcmV0",
        "file:///tmp/exports?sig=c2VjcmV0c2VjcmV0c2VjcmV0",
    ] {
        let by_flag = run(&world, &["export", "--store", url], &[]).await.expect_code(2);
        let by_setting = run(&world, &["export"], &[("EASM_STORE_URL", url)]).await.expect_code(2);
        assert!(by_setting.error_line().contains("EASM_STORE_URL"), "{}", by_setting.stderr);
        for done in [by_flag, by_setting] {
            assert!(!done.stderr.contains("c2VjcmV0"), "{}", done.stderr);
        }
    }
    assert!(world.sim.requests().is_empty(), "nobody is asked");
}

#[tokio::test]
async fn what_is_asked_of_the_service_follows_the_api_reference() {
    for fault_rate in [0.0, 0.3] {
        let options = Options { assets: 200, asset_bytes: 900, fault_rate, ..Options::default() };
        let world = World::new(options).await;
        export(&world, &[], &[("EASM_PAGE_SIZE", "20")]).await;
        let requests = world.sim.requests();
        let tokens: BTreeSet<&str> = requests
            .iter()
            .filter_map(|seen| seen.authorization.as_deref()?.strip_prefix("Bearer "))
            .collect();
        assert!(tokens.len() >= 2, "one for each plane");
        let mut begun = BTreeSet::new();
        for seen in &requests {
            let url = format!("{}?{}", seen.path, seen.query);
            assert!(tokens.iter().all(|token| !url.contains(token)), "a token in {url}");
            assert_eq!(seen.method, "GET", "{url}");
            if seen.path.starts_with("/msi/") {
                continue;
            }
            let arm = seen.path.contains("/providers/");
            let version = if arm { "2023-04-01-preview" } else { "2024-10-01-preview" };
            assert!(seen.query.contains(&format!("api-version={version}")), "{url}");
            let of = |name: &str| {
                seen.query.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")))
            };
            assert_eq!(of("skip"), None, "{url}");
            if let Some(size) = of("maxpagesize") {
                assert!((1..=100).contains(&size.parse::<u32>().unwrap()), "{url}");
            }
            match of("mark") {
                Some("*") => _ = begun.insert(of("filter").map(str::to_owned)),
                Some(_) => assert!(begun.contains(&of("filter").map(str::to_owned)), "{url}"),
                None => {}
            }
        }
        assert!(!begun.is_empty(), "cursors were used");
    }
}

#[tokio::test]
async fn arm_is_asked_only_for_a_region_that_is_not_set() {
    for (setting, region, asked) in [("", "eastus", true), ("westeurope", "westeurope", false)] {
        let world = world(20).await;
        let manifest = export(&world, &[], &[("EASM_REGION", setting)]).await;
        assert_eq!(manifest["workspace"]["region"], region);
        let requests = world.sim.requests();
        let of_arm = requests
            .iter()
            .filter(|seen| seen.path.contains("/providers/") || seen.query.contains("management."));
        assert_eq!(of_arm.count() > 0, asked, "EASM_REGION={setting}");
    }
}

#[tokio::test]
async fn a_store_may_lie_anywhere() {
    let world = world(25).await;
    let base = world.folder.path();
    let root = base.to_str().unwrap();
    std::fs::create_dir(base.join("work")).unwrap();
    let work = base.join("work");
    // /proc takes no new files, from root neither.
    let nowhere = Path::new("/proc").to_owned();
    let cases = [
        ("./my exports/ünï 数据".to_owned(), &work, "work/my exports/ünï 数据"),
        ("../50%20off".to_owned(), &work, "50%20off"),
        (format!("file://{root}/a%20b%23c/%C3%BC"), &work, "a b#c/ü"),
        (format!("{root}/deep/er"), &nowhere, "deep/er"),
        (format!("file://{root}/slash/"), &nowhere, "slash"),
    ];
    for (url, current, folder) in cases {
        for by_flag in [true, false] {
            let mut args = vec!["export", "--json"];
            args.extend(by_flag.then_some(["--store", &url]).into_iter().flatten());
            let mut command = world.command(&args);
            command.current_dir(current);
            if !by_flag {
                command.env("EASM_STORE_URL", &url);
            }
            let done = finish(command).await.expect_code(0);
            let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
            let store = base.join(folder);
            let latest = std::fs::read(store.join("contoso/latest.json")).unwrap();
            let latest: Value = serde_json::from_slice(&latest).unwrap();
            assert_eq!(latest["runId"], manifest["runId"], "{url}");
            for file in manifest["files"].as_array().unwrap() {
                let stored = std::fs::metadata(store.join(file["path"].as_str().unwrap()));
                assert_eq!(file["bytes"], stored.unwrap().len(), "{url}");
            }
        }
    }
}

#[tokio::test]
async fn the_target_is_found_in_any_case_before_and_behind_the_command() {
    let world = world(10).await;
    for args in
        [["--target", "CONTOSO", "export", "--json"], ["export", "--json", "--target", "Contoso"]]
    {
        let done = run(&world, &args, &[]).await.expect_code(0);
        let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(manifest["target"], "contoso", "its name, as it is set");
    }
}

#[tokio::test]
async fn exit_codes_are_those_of_the_contract_and_failures_print_no_result() {
    let world = world(10).await;
    let cases: [(&[&str], i32); 12] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["query", "--limit", "5000"], 0),
        (&["frobnicate"], 2),
        (&["export", "--frobnicate"], 2),
        (&["--target", "nobody", "export"], 2),
        (&["query", "--limit", "0"], 2),
        (&["query", "--limit", "5001"], 2),
        (&["export", "--max-assets", "-1"], 2),
        (&["export", "--filter", "@missing.txt"], 2),
        (&["export", "--kind", "hostess"], 2),
        (&["query", "--mark", "not a mark"], 1),
    ];
    for (args, code) in cases {
        let done = run(&world, args, &[]).await;
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert_eq!(done.stdout.is_empty(), code != 0, "{args:?}: {}", done.stdout_text());
        assert_eq!(done.stderr.is_empty(), code == 0, "{args:?}: {}", done.stderr);
    }
}
