//! No secret leaves the process whatever refuses it, and no request goes where it should not.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use azure_core::base64;
use easm_export::sim::{
    self, App, Fault, OTHER_IDENTITY, Options, Refusal, Running, Scripted, SignIn,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::Command;

use super::identity::{Cloud, platform, signing_in};
use super::{run, world};
use crate::azurite::{ACCOUNT, ACCOUNT_KEY, Azurite};
use crate::proxy::{Proxy, ProxyOptions};
use crate::support::{Done, World};

/// Not a secret of anybody, but it is treated like one.
const CANARY: &str = "c2VjcmV0c2VjcmV0c2VjcmV0";
const WRONG_SECRET: &str = "wrNg8Q~canary-fuer-die-Tests+und/sonst=niemand";
const WRONG_HEADER: &str = "9b1c5a8e-canary-4c1b-8a53-0123456789ab";
const NOBODY: &str = "00000000-0000-4000-8000-000000000bad";
const N_AT_ONCE: usize = 12;
/// Longest time to wait for the end of a program that may as well wait for better times.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `command` to its end, or kills it when it waits for better times; then the code is -1.
async fn bounded(mut command: Command) -> Done {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    if status.is_err() {
        child.kill().await.unwrap();
    }
    let code = status.ok().and_then(|status| status.unwrap().code()).unwrap_or(-1);
    let stderr = std::fs::read_to_string(err).unwrap();
    Done { code, stdout: std::fs::read(out).unwrap(), stderr }
}

/// Serves `router` on any free port of `host`.
async fn serve(host: &str, router: Router) -> String {
    let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

pub type Notes = Arc<Mutex<Vec<String>>>;

/// Somebody who notes who comes, and whose answer would do for a token.
async fn witness() -> (String, Notes) {
    async fn answer(State(notes): State<Notes>, request: Request) -> Response {
        notes.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let body = json!({"access_token": "e30.e30.x", "expires_in": 3600, "token_type": "Bearer",
            "expires_on": "4000000000", "resource": "r", "content": [], "value": []});
        body.to_string().into_response()
    }
    let notes = Notes::default();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&notes));
    (serve("127.0.0.1", router).await, notes)
}

/// The identity endpoint of `sim` under another address, where the tokens it gives are noted.
pub async fn noting_identity_endpoint(sim: &Running) -> (String, Notes) {
    async fn note(State(notes): State<Notes>, request: Request, next: Next) -> Response {
        let (parts, body) = next.run(request).await.into_parts();
        let text = to_bytes(body, usize::MAX).await.unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        notes.lock().unwrap().extend(answer["access_token"].as_str().map(str::to_owned));
        Response::from_parts(parts, Body::from(text))
    }
    let notes = Notes::default();
    let router = sim::router(Arc::clone(sim.state()));
    let router = router.layer(from_fn_with_state(Arc::clone(&notes), note));
    (serve("127.0.0.1", router).await + "/msi/token", notes)
}

/// Every 16 characters in a row of `secrets`, as they are and escaped for URLs, Base64 and JSON.
pub fn windows(secrets: &[String]) -> HashSet<Vec<u8>> {
    let mut windows = HashSet::new();
    for secret in secrets {
        let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let mut forms = vec![secret.clone(), secret.replace('/', "\\/"), escaped];
        // In Base64, all depends on how many bytes come before. The last characters hang on what
        // comes behind.
        for tail in (0..3).filter_map(|at| secret.as_bytes().get(at..)) {
            let whole = &tail[..tail.len() / 3 * 3];
            forms.extend([base64::encode(whole), base64::encode_url_safe(whole)]);
        }
        windows
            .extend(forms.iter().flat_map(|form| form.as_bytes().windows(16)).map(<[u8]>::to_vec));
    }
    windows
}

/// What `text` says of a secret.
pub fn leak<'a>(text: &'a [u8], windows: &HashSet<Vec<u8>>) -> Option<std::borrow::Cow<'a, str>> {
    let is_one = |at: &usize| windows.contains(&text[*at..*at + 16]);
    let at = (0..text.len().saturating_sub(15)).find(is_one)?;
    let (from, to) = (at.saturating_sub(200), (at + 60).min(text.len()));
    Some(String::from_utf8_lossy(&text[from..to]))
}

/// A sign-in or a request that is refused.
struct Refused {
    name: &'static str,
    sign_in: SignIn,
    options: Options,
    vars: Vec<(&'static str, &'static str)>,
    /// What the line says, one of these at least, in small letters.
    said: &'static [&'static str],
}

fn small() -> Options {
    Options { assets: 20, asset_bytes: 900, ..Options::default() }
}

fn refusals() -> Vec<Refused> {
    use SignIn::{ClientSecret, Federated, ManagedIdentity, WorkloadIdentity};
    let app = |change: fn(&mut App)| {
        let mut options = small();
        change(&mut options.apps[0]);
        options
    };
    let echo = |path: &str, status| Options {
        script: vec![Scripted {
            path_contains: path.to_owned(),
            query_contains: String::new(),
            from: 0,
            times: u64::MAX,
            fault: Fault::EchoToken(status),
        }],
        ..small()
    };
    let elsewhere = Options { home_tenant_id: NOBODY.to_owned(), ..small() };
    let without_role = Options {
        identities: small()
            .identities
            .into_iter()
            .map(|identity| sim::ManagedIdentity { has_role: false, ..identity })
            .collect(),
        ..small()
    };
    let mut all = Vec::new();
    let mut add = |name, sign_in, options, vars: &[_], said| {
        all.push(Refused { name, sign_in, options, vars: vars.to_vec(), said });
    };
    let wrong = [("EASM_CLIENT_SECRET", WRONG_SECRET)];
    add("wrong secret", ClientSecret, small(), &wrong, &["secret"]);
    let expired = app(|app| app.refusal = Some(Refusal::SecretExpired));
    add("secret expired", ClientSecret, expired, &[], &["expired", "new secret"]);
    for sign_in in [ClientSecret, Federated, WorkloadIdentity] {
        let conditional = app(|app| app.refusal = Some(Refusal::ConditionalAccess));
        add("conditional access", sign_in, conditional, &[], &["conditional access"]);
        let disabled = app(|app| app.refusal = Some(Refusal::Disabled));
        add("disabled", sign_in, disabled, &[], &["disabled", "enable"]);
        let throttled = app(|app| app.refusal = Some(Refusal::Throttled));
        add("throttled", sign_in, throttled, &[], &["again", "later", "until", "throttl", "many"]);
        add(
            "unknown app",
            sign_in,
            app(|app| NOBODY.clone_into(&mut app.client_id)),
            &[("EASM_CLIENT_ID", OTHER_IDENTITY)],
            &["client_id", "app registration", "application"],
        );
        add("app without a role", sign_in, app(|app| app.has_role = false), &[], &["role"]);
        for path in ["/assets", "/providers/", "/oauth2/"] {
            add("echo of what was sent", sign_in, echo(path, 403), &[], &[""]);
        }
        add("echo of what was sent, passing", sign_in, echo("/oauth2/", 503), &[], &[""]);
    }
    for sign_in in [ClientSecret, Federated] {
        add("unknown tenant", sign_in, small(), &[("EASM_TENANT_ID", NOBODY)], &["tenant"]);
    }
    for sign_in in [Federated, WorkloadIdentity] {
        let untrusted = app(|app| app.trusts.clear());
        add("untrusted federation", sign_in, untrusted, &[], &["federated", "trust"]);
    }
    let unassigned = [("EASM_IDENTITY_CLIENT_ID", NOBODY)];
    add("unassigned identity", Federated, small(), &unassigned, &["identity"]);
    add("unassigned identity", ManagedIdentity, small(), &unassigned, &["identity"]);
    let unassigned = [("EASM_CLIENT_ID", NOBODY)];
    add("unassigned identity of the target", ManagedIdentity, small(), &unassigned, &["identity"]);
    add("identity without a role", ManagedIdentity, without_role, &[], &["role"]);
    add("other tenant", ManagedIdentity, elsewhere, &[], &["tenant"]);
    let header = [("IDENTITY_HEADER", WRONG_HEADER)];
    add("wrong header", ManagedIdentity, small(), &header, &["identity"]);
    add("wrong header", Federated, small(), &header, &["identity"]);
    for path in ["/assets", "/providers/", "/msi/"] {
        add("echo of what was sent", ManagedIdentity, echo(path, 403), &[], &[""]);
    }
    all
}

#[tokio::test]
async fn whatever_refuses_a_secret_it_is_nowhere_said_and_one_line_says_what_to_do() {
    let test = "whatever_refuses_a_secret_it_is_nowhere_said_and_one_line_says_what_to_do";
    let Some(azurite) = Azurite::http(test) else { return };
    let one = |case: Refused| async move { refused(test, azurite, case).await };
    let found: Vec<Vec<String>> = futures::stream::iter(refusals().into_iter().map(one))
        .buffer_unordered(N_AT_ONCE)
        .collect()
        .await;
    let found = found.concat();
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

/// What is wrong with how a refusal ends, into a store with a key and into one with tokens.
async fn refused(test: &str, azurite: &Azurite, case: Refused) -> Vec<String> {
    let Refused { name, sign_in, options, vars, said } = case;
    let Some(cloud) = Cloud::new(test, options).await else { return Vec::new() };
    let sim = &cloud.world.sim;
    let (endpoint, issued) = noting_identity_endpoint(sim).await;
    let with_key = azurite.container();
    azurite.create_container(&with_key).await;
    let stores = [cloud.store_url(), azurite.store_url(&with_key)];
    let mut found = Vec::new();
    let mut told = BTreeMap::new();
    for (store, log, format) in [
        (&stores[0], "trace", "text"),
        (&stores[0], "trace", "json"),
        (&stores[0], "error", "text"),
        (&stores[1], "trace", "text"),
        (&stores[1], "error", "json"),
    ] {
        let mut command = cloud.command(sign_in, &["export", "--json"], &vars);
        if matches!(sign_in, SignIn::ManagedIdentity | SignIn::Federated) {
            command.env("IDENTITY_ENDPOINT", &endpoint);
        }
        command.env("EASM_LOG", log).env("EASM_LOG_FORMAT", format).env("EASM_STORE_URL", store);
        let done = bounded(command).await;
        let at = format!("{name} ({sign_in:?}, {log}, {format}, {store})");
        if !done.stdout.is_empty() {
            found.push(format!("{at}: on stdout: {}", done.stdout_text()));
        }
        // Throttling and outages may be waited for.
        let may_wait = name == "throttled" || name.ends_with("passing");
        if may_wait && done.code == -1 {
            told.insert(at, done.stderr.into_bytes());
            continue;
        }
        if !matches!(done.code, 1 | 2) {
            found.push(format!("{at}: exit code {}", done.code));
        }
        // At trace a library may still say something of its own behind it.
        let is_last =
            |line: &&str| line.trim_start_matches("{\"message\":\"").starts_with("easm-export: ");
        let last = done.stderr.lines().rev().find(is_last).unwrap_or_default().to_owned();
        if !said.iter().any(|word| last.to_lowercase().contains(word)) {
            found.push(format!("{at}: none of {said:?} is said: {last}"));
        }
        if log == "error" && done.stderr.lines().count() != 1 {
            found.push(format!("{at}: not one line: {}", done.stderr));
        }
        told.insert(at, [done.stdout, done.stderr.into_bytes()].concat());
    }
    let mut secrets =
        vec![ACCOUNT_KEY.to_owned(), WRONG_SECRET.to_owned(), WRONG_HEADER.to_owned()];
    secrets.push(sim.workload_token());
    secrets.extend(platform(&cloud.world).into_iter().skip(1).map(|(_, header)| header));
    let own = sim.settings_for(SignIn::ClientSecret);
    secrets.extend(
        own.into_iter().filter(|(name, _)| name.ends_with("_SECRET")).map(|(_, value)| value),
    );
    secrets.extend(issued.lock().unwrap().clone());
    let at_planes = sim.requests().into_iter().filter_map(|seen| seen.authorization);
    let at_store = cloud.proxy.seen().into_iter().filter_map(|seen| seen.authorization);
    secrets.extend(at_planes.chain(at_store).map(|header| header.replace("Bearer ", "")));
    secrets.sort();
    secrets.dedup();
    let windows = windows(&secrets);
    for (azurite, container) in [(cloud.azurite, &cloud.container), (azurite, &with_key)] {
        for path in azurite.blobs(container).await {
            let bytes = azurite.get(container, &path).await.unwrap();
            if path.ends_with(".json") {
                told.insert(format!("{name} ({sign_in:?}), {path}"), bytes);
            }
        }
    }
    for (at, text) in &told {
        found.extend(leak(text, &windows).map(|leak| format!("{at}: LEAK {leak}")));
    }
    found
}

#[tokio::test]
async fn a_key_in_the_stores_url_is_refused_and_not_repeated_at_the_loudest_log() {
    let world = world(10).await;
    let account = "https://acme.blob.core.windows.net/exports";
    let azurite = format!("127.0.0.1:10000/{ACCOUNT}/exports");
    let urls = [
        format!("{account}?sv=2024-11-04&ss=b&sig={CANARY}"),
        format!("{account}/p?sig={CANARY}"),
        format!("{account}/p/?sig={CANARY}#x"),
        format!("HTTPS://ACME.blob.core.windows.net/exports?SIG={CANARY}"),
        format!("http://{azurite}?sig={CANARY}"),
        format!("http://user:{CANARY}@{azurite}"),
        format!("http://{CANARY}@{azurite}/p"),
        format!("https://{CANARY}:x@acme.blob.core.windows.net/exports"),
        format!("https://{CANARY}:x@acme.blob.core.windows.net:99999/exports?sig={CANARY}"),
        format!("file:///tmp/exports?sig={CANARY}"),
        format!("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={CANARY}=="),
        format!(" {account}?sig={CANARY}"),
    ];
    let windows = windows(&[CANARY.to_owned()]);
    let refused = |url: String| {
        let (world, windows) = (&world, &windows);
        async move {
            for format in ["text", "json"] {
                let loud = [("EASM_LOG", "trace"), ("EASM_LOG_FORMAT", format)];
                let by_flag = run(world, &["export", "--store", &url], &loud).await;
                let vars = [loud[0], loud[1], ("EASM_STORE_URL", &url)];
                let by_setting = run(world, &["export"], &vars).await;
                for (done, name) in [(by_flag, "--store"), (by_setting, "EASM_STORE_URL")] {
                    assert_eq!(done.code, 2, "{url}: {}", done.stderr);
                    let last = done.stderr.lines().last().unwrap();
                    assert!(last.contains(name), "{url}: {last}");
                    assert!(done.stdout.is_empty(), "{url}: {}", done.stdout_text());
                    assert_eq!(leak(done.stderr.as_bytes(), windows), None, "{url}");
                }
            }
        }
    };
    let urls = futures::stream::iter(urls.into_iter().map(refused));
    urls.buffer_unordered(N_AT_ONCE).collect::<Vec<()>>().await;
    assert!(world.sim.requests().is_empty(), "nobody is asked");
}

/// Settings under which everything goes by way of `proxy`.
fn proxied(proxy: &str) -> Vec<(&'static str, &str)> {
    let names =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    names.map(|name| (name, proxy)).to_vec()
}

#[tokio::test]
async fn no_proxy_comes_before_loopback_whoever_signs_in() {
    let test = "no_proxy_comes_before_loopback_whoever_signs_in";
    let Some(azurite) = Azurite::http(test) else { return };
    let (url, notes) = witness().await;
    for sign_in in SignIn::ALL {
        let Some(cloud) = Cloud::new(test, small()).await else { return };
        for proxy in ["http://127.0.0.1:9", &url] {
            for store in [cloud.store_url(), azurite.store_url(&azurite.container())] {
                let mut command = cloud.command(sign_in, &["export"], &proxied(proxy));
                let done = bounded({
                    command.env("EASM_STORE_URL", store);
                    command
                })
                .await;
                assert_eq!(done.code, 0, "{sign_in:?} {proxy}: {}", done.stderr);
            }
        }
    }
    assert_eq!(*notes.lock().unwrap(), [""; 0], "the proxy is not asked");
}

#[tokio::test]
async fn the_identity_endpoint_is_used_as_given_and_without_a_proxy() {
    // An address of this machine that is not loopback; nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let addr = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let Some(ip) = addr.ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback()) else { return };
    let world = World::new(small()).await;
    let url = serve(&ip.to_string(), sim::router(Arc::clone(world.sim.state()))).await;
    let (proxy, notes) = witness().await;
    for sign_in in [SignIn::ManagedIdentity, SignIn::Federated] {
        let mut command = signing_in(&world, sign_in, &["export"]);
        command.envs(proxied(&proxy)).env("IDENTITY_ENDPOINT", format!("{url}/msi/token"));
        let done = bounded(command).await;
        assert_eq!(done.code, 0, "{sign_in:?}: {}", done.stderr);
    }
    assert_eq!(*notes.lock().unwrap(), [""; 0], "the proxy is not asked");
}

#[tokio::test]
async fn a_proxy_comes_before_other_hosts_unless_no_proxy_names_them() {
    let world = World::new(small()).await;
    let authority = "login.easm-export.invalid";
    for (no_proxy, is_asked) in [("", true), (authority, false)] {
        let (proxy, notes) = witness().await;
        let mut command = signing_in(&world, SignIn::ClientSecret, &["export"]);
        command
            .env("AZURE_AUTHORITY_HOST", format!("https://{authority}"))
            .env("HTTPS_PROXY", &proxy)
            .env("NO_PROXY", no_proxy);
        let done = bounded(command).await;
        assert!([1, -1].contains(&done.code), "{}", done.stderr);
        let notes = notes.lock().unwrap();
        assert_eq!(notes.iter().any(|note| note.starts_with("CONNECT")), is_asked, "{notes:?}");
        assert!(notes.iter().all(|note| note.contains(authority)), "{notes:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed_whoever_sends_it() {
    let (url, notes) = witness().await;
    for (sign_in, path) in [
        (SignIn::ManagedIdentity, "/msi/token"),
        (SignIn::Federated, "/msi/token"),
        (SignIn::ClientSecret, "/oauth2/v2.0/token"),
        (SignIn::Federated, "/oauth2/v2.0/token"),
        (SignIn::WorkloadIdentity, "/oauth2/v2.0/token"),
        (SignIn::ManagedIdentity, "/providers/"),
        (SignIn::ManagedIdentity, "/assets"),
        (SignIn::ClientSecret, "/assets"),
    ] {
        for to in
            [format!("{url}/elsewhere"), "/elsewhere".to_owned(), "//localhost:1/e".to_owned()]
        {
            let fault = Fault::Redirect(to.clone());
            let (path_contains, query_contains) = (path.to_owned(), String::new());
            let script =
                vec![Scripted { path_contains, query_contains, from: 0, times: u64::MAX, fault }];
            let world = World::new(Options { script, ..small() }).await;
            let done = bounded(signing_in(&world, sign_in, &["export", "--json"])).await;
            let case = format!("{sign_in:?} {path} to {to}");
            assert_eq!(done.code, 1, "{case}: {}", done.stderr);
            assert!(done.stdout.is_empty(), "{case}");
            assert!(!done.error_line().is_empty(), "{case}");
            let seen = world.sim.requests();
            assert!(seen.iter().any(|seen| seen.status == 302), "{case}");
            assert!(seen.iter().all(|seen| seen.path != "/elsewhere"), "{case}");
        }
    }
    assert_eq!(*notes.lock().unwrap(), [""; 0], "nobody went there");
}

#[tokio::test]
async fn a_redirect_of_the_store_is_not_followed() {
    async fn answer(
        State((to, status)): State<(String, StatusCode)>,
        request: Request,
    ) -> Response {
        let location = format!("{to}{}", request.uri());
        (status, [("location", location)], "").into_response()
    }
    let test = "a_redirect_of_the_store_is_not_followed";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = World::new(small()).await;
    for status in [301, 302, 303, 307, 308] {
        let status = StatusCode::from_u16(status).unwrap();
        // Where it would work.
        let proxy = Proxy::start(ProxyOptions::new(azurite.base()));
        let router = Router::new().fallback(answer).with_state((proxy.url(), status));
        let url = format!("{}/{ACCOUNT}/{}", serve("127.0.0.1", router).await, azurite.container());
        let mut command = signing_in(&world, SignIn::ManagedIdentity, &["export", "--json"]);
        command.env("EASM_STORE_URL", url);
        let done = bounded(command).await;
        assert!([1, -1].contains(&done.code), "{status}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{status}");
        assert_eq!(proxy.seen(), [], "{status}: nobody went there");
    }
}
