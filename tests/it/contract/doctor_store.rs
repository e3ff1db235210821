//! `doctor` where somebody does not answer, or fails half-way: the others are looked at all the same, and
//! nothing is left.

use easm_export::sim::{Fault, Options, Scripted, SignIn};
use reqwest::Method;
use serde_json::Value;

use super::doctor::{check, examined, statuses};
use super::identity::Cloud;
use super::{run, world};
use crate::azurite::{ACCOUNT, Azurite};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};
use crate::support::{World, finish};

const SCHEDULE: (&str, &str) = ("EXPORT_SCHEDULE", "0 0 6 * * *");

/// A store whose requests of `method` meet `fault`, so many times.
fn failing(azurite: &Azurite, method: &Method, fault: ProxyFault, times: u64) -> Proxy {
    let script = vec![ScriptedFault {
        method: method.clone(),
        path_contains: String::new(),
        query_contains: String::new(),
        from: 0,
        times,
        fault,
    }];
    Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) })
}

async fn doctor(world: &World, vars: &[(&str, &str)]) -> Value {
    examined(run(world, &["doctor", "--json"], &[&[SCHEDULE], vars].concat()).await)
}

#[tokio::test]
async fn a_store_that_fails_half_way_keeps_no_probe() {
    let test = "a_store_that_fails_half_way_keeps_no_probe";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(3).await;
    let denied = ProxyFault::Answer {
        status: 403,
        code: "AuthorizationPermissionMismatch",
        message: "This request is not authorized to perform this operation using this permission.",
    };
    let all = [
        ProxyFault::CutBefore,
        ProxyFault::CutAfter,
        ProxyFault::TimedOutAfter,
        ProxyFault::Busy { retry_after_s: None },
        ProxyFault::CorruptAnswer,
        ProxyFault::Hang,
        denied,
    ];
    let mut found = Vec::new();
    for method in [Method::PUT, Method::GET, Method::DELETE] {
        for fault in all {
            for times in [1, u64::MAX] {
                // Whom nothing lets delete cannot delete.
                if method == Method::DELETE
                    && (times > 1 || fault == denied || fault == ProxyFault::Hang)
                {
                    continue;
                }
                let case = format!("{method} {fault:?} {times}");
                let container = azurite.container();
                azurite.create_container(&container).await;
                let proxy = failing(azurite, &method, fault, times);
                let url = format!("{}/{ACCOUNT}/{container}/nightly", proxy.url());
                let told = doctor(&world, &[("EASM_STORE_URL", &url)]).await;
                let store = check(&told, "store");
                let left = azurite.blobs(&container).await;
                if !left.is_empty() {
                    found.push(format!("{case}: {left:?}: {store}"));
                }
                if times > 1 && store["status"] != "failed" && fault != ProxyFault::CorruptAnswer {
                    let met = proxy.seen().iter().any(|seen| seen.fault.is_some());
                    if met {
                        found.push(format!("{case}: nothing found: {store}"));
                    }
                }
                let others = statuses(&told).into_iter().filter(|((name, _), _)| name != "store");
                for ((name, _), status) in others {
                    assert_eq!(status, "ok", "{case}: {name}: {told:#}");
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_probe_that_cannot_be_removed_is_a_finding_that_names_it() {
    let test = "a_probe_that_cannot_be_removed_is_a_finding_that_names_it";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(3).await;
    let denied = ProxyFault::Answer {
        status: 403,
        code: "AuthorizationPermissionMismatch",
        message: "This request is not authorized to perform this operation using this permission.",
    };
    for fault in [denied, ProxyFault::InternalError] {
        let container = azurite.container();
        azurite.create_container(&container).await;
        let proxy = failing(azurite, &Method::DELETE, fault, u64::MAX);
        let url = format!("{}/{ACCOUNT}/{container}", proxy.url());
        let told = doctor(&world, &[("EASM_STORE_URL", &url)]).await;
        let store = check(&told, "store");
        assert_eq!(store["status"], "failed", "{store}");
        let left = azurite.blobs(&container).await;
        assert_eq!(left.len(), 1, "the fault is real");
        assert!(store.to_string().contains(&left[0]), "{left:?}: {store}");
        assert!(left[0].starts_with("_doctor/"), "{left:?}");
    }
}

#[tokio::test]
async fn whoever_hangs_is_named_and_the_others_are_examined() {
    let test = "whoever_hangs_is_named_and_the_others_are_examined";
    // Part of a path, the check, and those that need it.
    let cases: [(SignIn, &str, &str, &[&str]); 6] = [
        (SignIn::ManagedIdentity, "/providers/", "arm", &[]),
        (SignIn::ManagedIdentity, "/assets", "data-plane", &[]),
        (SignIn::KeyVault, "/secrets/", "vault", &["identity", "arm", "data-plane"]),
        (SignIn::ClientSecret, "/oauth2/", "identity", &["arm", "data-plane"]),
        (SignIn::KeyVault, "/oauth2/", "identity", &["arm", "data-plane"]),
        (SignIn::Federated, "/oauth2/", "identity", &["arm", "data-plane"]),
    ];
    for (sign_in, path, name, needing) in cases {
        let script = vec![Scripted {
            path_contains: path.to_owned(),
            query_contains: String::new(),
            from: 0,
            times: u64::MAX,
            fault: Fault::Hang,
        }];
        let options = Options { assets: 5, script, ..Options::default() };
        let Some(cloud) = Cloud::new(test, options).await else { return };
        let vars = [SCHEDULE, ("EASM_REGION", "eastus")];
        let args = ["doctor", "--json", "--timeout", "1"];
        let found = examined(finish(cloud.command(sign_in, &args, &vars)).await);
        for ((check, _), status) in statuses(&found) {
            let wanted = match check.as_str() {
                check if check == name => "failed",
                check if needing.contains(&check) => "skipped",
                _ => "ok",
            };
            assert_eq!(status, wanted, "{sign_in:?} {path}: {check}: {found:#}");
        }
        assert!(cloud.azurite.blobs(&cloud.container).await.is_empty());
    }
    // The store, and the identity endpoint that everything here needs.
    let Some(azurite) = Azurite::http(test) else { return };
    let healthy = world(3).await;
    for method in [Method::PUT, Method::GET, Method::HEAD] {
        let container = azurite.container();
        azurite.create_container(&container).await;
        let proxy = failing(azurite, &method, ProxyFault::Hang, u64::MAX);
        let url = format!("{}/{ACCOUNT}/{container}", proxy.url());
        let found = doctor(&healthy, &[("EASM_STORE_URL", &url)]).await;
        let met = proxy.seen().iter().any(|seen| seen.fault.is_some());
        let wanted = if met { "failed" } else { "ok" };
        assert_eq!(check(&found, "store")["status"], wanted, "{method}: {found:#}");
        assert_eq!(check(&found, "data-plane")["status"], "ok", "{method}: {found:#}");
    }
    // Nobody listens.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}");
    for (setting, name) in [("EASM_ARM_URL", "arm"), ("EASM_DATA_PLANE_URL", "data-plane")] {
        let vars = [(setting, url.as_str()), ("EASM_REGION", "eastus")];
        let found = doctor(&healthy, &vars).await;
        for ((check, _), status) in statuses(&found) {
            assert_eq!(status, if check == name { "failed" } else { "ok" }, "{setting}: {found:#}");
        }
    }
}
